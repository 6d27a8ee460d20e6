# SPDX-License-Identifier: Apache-2.0
"""A panoptic map as a picture: tints, edges, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]
Picture = NDArray[np.uint8]
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, stay far from one another


def palette(count: int) -> Picture:
    """`count` distinct colours [count, 3], RGB, equally light to the eye."""
    index = np.arange(count)
    return _oklch(0.66 + 0.1 * (index % 2), np.full(count, 0.18), (0.02 + index * _GOLDEN) % 1)


def overlay(
    image: Any,
    panoptic: Any,
    *,
    names: Mapping[int, str] | Sequence[str] | None = None,
    colors: Mapping[int, RGB] | Sequence[RGB] | None = None,
    opacity: float = 0.65,
    labels: bool = True,
) -> Picture:
    """Draw a panoptic map over its image.

    Every category has a hue, every instance a shade of it; instances are bordered and tinted more strongly than
    stuff. Names stand where a segment is widest, and only where they fit.

    Args:
        image: RGB of 8 bits, [H, W, 3] array or Pillow image; None draws on grey.
        panoptic: a `Panoptic` of one image, or (category, instance) maps [H, W]; a negative category is void, which
            stays untinted, and instance 0 is none.
        names: of categories; by default their numbers.
        colors: of categories; by default `palette`.
        opacity: of the tint of instances, 0 to 1; stuff has two thirds of it.
        labels: write names; needs Pillow.

    Returns:
        RGB [H, W, 3].

    Raises:
        ValueError: shapes that differ, an opacity out of range, a category without colour.
        TypeError: maps that are not integers, an image that is not of 8 bits.
        ImportError: labels without Pillow.
    """
    category, instance = _maps(panoptic)
    base = np.full((*category.shape, 3), 128, np.uint8) if image is None else np.asarray(image)
    if base.dtype != np.uint8:
        raise TypeError(f"image: expected uint8, got {base.dtype}")
    if base.shape != (*category.shape, 3):
        raise ValueError(f"image: expected shape {(*category.shape, 3)}, got {base.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected 0 to 1, got {opacity}")
    if not category.size:
        return np.array(base)

    keys, index = np.unique(np.where(category < 0, -1, (category << 32) + instance), return_inverse=True)
    index = index.reshape(category.shape)
    kinds, numbers = keys >> 32, keys & 0xFFFFFFFF
    thing = (keys >= 0) & (numbers > 0)
    shade = _shades(_category_colors(kinds, colors), numbers, thing)
    strength = np.where(keys < 0, 0, np.where(thing, opacity, opacity * 2 / 3))

    picture = base + strength[index][..., None] * (shade[index] - base.astype(np.float64))
    edge = _edges(index, thing)
    picture[edge] = 0.25 * picture[edge] + 0.75 * 255
    drawn: Picture = np.rint(picture).astype(np.uint8)
    if labels:
        return _write_names(drawn, index, [_name(names, int(c)) if c >= 0 else "" for c in kinds], thing)
    return drawn


def _maps(panoptic: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pair = panoptic if isinstance(panoptic, tuple) else (panoptic.semantic, panoptic.instance)
    category, instance = (np.asarray(m) for m in pair)
    if category.ndim != 2 or category.shape != instance.shape:
        raise ValueError(f"panoptic: expected two maps [H, W], got {category.shape} and {instance.shape}")
    if category.dtype.kind not in "iu" or instance.dtype.kind not in "iu":
        raise TypeError(f"panoptic: expected integer maps, got {category.dtype} and {instance.dtype}")
    return category.astype(np.int64), instance.astype(np.int64)


def _category_colors(kinds: NDArray[np.int64], colors: Mapping[int, RGB] | Sequence[RGB] | None) -> NDArray[Any]:
    if colors is None:
        return palette(int(kinds.max(initial=0)) + 1)[np.maximum(kinds, 0)].astype(np.float64)
    try:
        return np.array([colors[int(c)] if c >= 0 else (0, 0, 0) for c in kinds], np.float64).reshape(-1, 3)
    except (KeyError, IndexError) as fault:
        raise ValueError(f"colors: expected one for each category, none for {fault}") from fault


def _shades(color: NDArray[Any], number: NDArray[np.int64], thing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Colours [S, 3] turned in hue and moved towards white or black by the instance's number: neighbours differ."""
    turn = np.where(thing, 1.6 * ((number * _GOLDEN) % 1) - 0.8, 0)[:, None]  # radians about the grey axis
    move = np.where(thing, 0.5 * ((number * _GOLDEN**2) % 1) - 0.25, 0)[:, None]
    grey = color.mean(axis=1, keepdims=True)
    across = np.roll(color, 1, axis=1) - np.roll(color, -1, axis=1)  # at right angles to colour and grey
    turned = grey + np.cos(turn) * (color - grey) + np.sin(turn) * across / np.sqrt(3)
    shade: NDArray[np.float64] = turned * (1 - np.abs(move)) + np.where(move > 0, 255 * move, 0)
    return shade.clip(0, 255)


def _edges(index: NDArray[np.intp], thing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of instances [H, W] that touch another segment on the right or below, or on the left or above."""
    edge = np.zeros(index.shape, bool)
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = index[a] != index[b]
        edge[a] |= differ & thing[index[a]]
        edge[b] |= differ & thing[index[b]] & ~thing[index[a]]  # between two instances the line is one pixel wide
    return edge


def _name(names: Mapping[int, str] | Sequence[str] | None, category: int) -> str:
    if isinstance(names, Mapping):
        return names.get(category, str(category))
    return names[category] if names is not None and category < len(names) else str(category)


def _write_names(picture: Picture, index: NDArray[np.intp], names: list[str], thing: NDArray[np.bool_]) -> Picture:
    """Names at the widest places, large segments first, where they neither leave their segment far nor collide."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as fault:
        raise ImportError("names need Pillow: pip install 'deeperlab[cli]'") from fault
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    height, width = index.shape
    size = max(10, round((height * width) ** 0.5 / 40))
    taken: list[tuple[float, float, float, float]] = []
    depth, places = _widest(index, len(names))
    for segment in map(int, np.argsort(-depth, kind="stable")):
        room = 2 * depth[segment]
        fit = min(size, int(room / 1.2))
        if fit < 9 or not names[segment]:
            continue
        font = ImageFont.load_default(fit if thing[segment] else size)
        x, y = float(places[segment, 0]), float(places[segment, 1])
        left, top, right, bottom = draw.textbbox((x, y), names[segment], font=font, anchor="mm", stroke_width=1)
        dx = max(0.0, 2 - left) + min(0.0, width - 2 - right)
        dy = max(0.0, 2 - top) + min(0.0, height - 2 - bottom)
        box = (left + dx, top + dy, right + dx, bottom + dy)
        if box[2] - box[0] > 2.5 * room or any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken
        ):
            continue
        taken.append(box)
        draw.text(
            (x + dx, y + dy), names[segment], "white", font, anchor="mm", stroke_width=1, stroke_fill=(20, 20, 20)
        )
    return np.array(canvas)


def _widest(index: NDArray[np.intp], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the innermost pixel of each segment is from its edge, px [S], and where it is, (x, y) px [S, 2].

    Erosion of all segments at once, on a grid of at most 200 nodes a side.
    """
    step = -(-max(index.shape) // 200)
    grid = np.pad(index[step // 2 :: step, step // 2 :: step], 1, constant_values=-1)
    alive, level = grid >= 0, np.zeros(grid.shape, np.int64)
    while alive.any():
        level += alive
        inner = alive.copy()
        for shift in (1, -1):
            for axis in (0, 1):
                inner &= np.roll(alive, shift, axis) & (np.roll(grid, shift, axis) == grid)
        alive = inner
    depth, place = np.zeros(count), np.zeros((count, 2))
    for segment in np.unique(grid[grid >= 0]).tolist():
        deepest = (grid == segment) & (level == level[grid == segment].max())
        y, x = np.nonzero(deepest)
        central = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
        depth[segment] = step * (level[deepest].max() - 0.5)
        place[segment] = np.array((x[central], y[central])) * step - step + step // 2
    return depth, place


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
