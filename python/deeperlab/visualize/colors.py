# SPDX-License-Identifier: Apache-2.0
"""Colors of categories, and the shades of them that tell instances apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]
Colors = Mapping[int, RGB] | Sequence[RGB] | NDArray[Any]
Picture = NDArray[np.uint8]

SHADES = 89
"""How many shades of a category there are: a Fibonacci number, after which multiples of the golden ratio begin anew."""
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, stay far from one another


def palette(count: int) -> Picture:
    """Return `count` distinct colors [count, 3], RGB, equally light to the eye."""
    return palette_of(np.arange(count))


def palette_of(index: NDArray[np.integer[Any]]) -> Picture:
    """Return the colors of `palette` at the given places."""
    return _oklch(0.66 + 0.1 * (index % 2), np.full(index.shape, 0.18), hue_of(index))


def hue_of(index: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the hues of `palette` at the given places, in turns."""
    return np.asarray((0.02 + index * _GOLDEN) % 1)


def colors_of(kinds: NDArray[np.int32], colors: Colors | None) -> tuple[Picture, NDArray[np.bool_]]:
    """Return the color of each category [S, 3], `palette`'s where none is given, and whether one was given."""
    chosen, given = palette_of(kinds), np.zeros(kinds.shape, np.bool_)
    if colors is None:
        return chosen, ~given
    for place, kind in enumerate(kinds.tolist()):
        if kind in colors if isinstance(colors, Mapping) else kind < len(colors):
            given[place] = True
            if colors[kind] is not None:
                chosen[place] = _checked(kind, colors[kind])
    return chosen, given


def shades(colors: Picture) -> Picture:
    """Return each color, then its shades for instances 1, 2, ..., which go round: uint8 [S, 1 + SHADES, 3]."""
    return _shades(np.ascontiguousarray(colors).tobytes())


@lru_cache(maxsize=8)  # the frames of a video have one table
def _shades(colors: bytes) -> Picture:
    """Turned in hue and moved towards white or black by the instance's number, so that neighbors differ."""
    color = np.frombuffer(colors, np.uint8).reshape(-1, 1, 3).astype(np.float64)
    number = np.arange(SHADES + 1)
    turn = np.where(number > 0, 1.6 * ((number * _GOLDEN) % 1) - 0.8, 0)[:, None]  # radians about the gray axis
    move = np.where(number > 0, 0.5 * ((number * _GOLDEN**2) % 1) - 0.25, 0)[:, None]
    gray = color.mean(axis=2, keepdims=True)
    across = np.roll(color, 1, axis=2) - np.roll(color, -1, axis=2)  # at right angles to color and gray
    turned = gray + np.cos(turn) * (color - gray) + np.sin(turn) * across / np.sqrt(3)
    shade = turned * (1 - np.abs(move)) + np.where(move > 0, 255 * move, 0)
    table: Picture = np.rint(shade.clip(0, 255)).astype(np.uint8)
    table.setflags(write=False)
    return table


def _checked(kind: int, color: Any) -> Any:
    values = np.asarray(color)
    if values.shape != (3,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise ValueError(f"colors: expected (red, green, blue) of 0 to 255 for category {kind}, got {color!r}")
    return values


def _oklch(lightness: NDArray[Any], chroma: NDArray[Any], hue: NDArray[Any]) -> Picture:
    """OKLCH (Ottosson 2020), hue in turns, to sRGB of 8 bits."""
    a, b = chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ),
        axis=-1,
    ).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    drawn: Picture = np.rint(255 * srgb).astype(np.uint8)
    return drawn
