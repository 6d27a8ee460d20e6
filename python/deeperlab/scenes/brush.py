# SPDX-License-Identifier: Apache-2.0
"""Filled shapes, materials and smooth noise: what drawn scenes are painted with.

Only +, −, ×, ÷ and square roots, which IEEE 754 rounds in one way: the same seed gives the same pixels everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Color = tuple[float, float, float]
"""Red, green, blue in 0..255."""
Mix = float | Callable[[Float, Float], Float]
"""Where a material lies between its dark (0) and bright (1) color: one value, or a function of x [1, w], y [h, 1]."""


class Palette:
    """Materials: each is a ramp from a dark to a bright color. Index 0 is kept for 'nothing painted'."""

    def __init__(self) -> None:
        self._dark: list[Color] = [(0, 0, 0)]
        self._bright: list[Color] = [(0, 0, 0)]

    def add(self, dark: Color, bright: Color) -> int:
        """Register a material and return its index."""
        self._dark.append(dark)
        self._bright.append(bright)
        return len(self._dark) - 1

    def ramps(self) -> tuple[Float, Float]:
        """Return the dark colors and bright − dark, float32 [3, materials] each."""
        dark = np.array(self._dark, np.float32).T
        return dark.copy(), np.array(self._bright, np.float32).T - dark


@dataclass(frozen=True)
class Style:
    """How one thing is painted: its main and second color, the materials that all things share, and its chances."""

    rng: np.random.Generator
    main: int
    second: int
    black: int
    white: int
    glass: int
    skin: int
    wood: int
    steel: int

    def uniform(self, low: float, high: float) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * self.rng.random()

    def count(self, low: int, high: int) -> int:
        """Draw an integer in [low, high]."""
        return int(self.rng.integers(low, high + 1))


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Return the color of a hue in turns, saturation and value in 0..1."""
    sector = (hue % 1.0) * 6.0

    def channel(shift: float) -> float:
        distance = min((sector + shift) % 6.0, 4.0 - (sector + shift) % 6.0, 1.0)
        return 255.0 * value * (1.0 - saturation * max(0.0, distance))

    return channel(5.0), channel(3.0), channel(1.0)


def turn(angle: float, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Rotate points about the origin; `angle` is the tangent of half the angle, which needs no sine."""
    cosine = (1 - angle * angle) / (1 + angle * angle)
    sine = 2 * angle / (1 + angle * angle)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]


def smooth_noise(rng: np.random.Generator, y: NDArray[np.floating], x: NDArray[np.floating]) -> Float:
    """Draw smooth noise in 0..1 at lattice coordinates y [h] and x [w] (>= 0), float32 [h, w]; one hill per unit."""
    y0, x0 = y.astype(np.int64), x.astype(np.int64)
    lattice = rng.random((int(y0.max()) + 2, int(x0.max()) + 2), dtype=np.float32)
    fy, fx = ((p - q).astype(np.float32) for p, q in ((y, y0), (x, x0)))
    fy, fx = (f * f * (3 - 2 * f) for f in (fy, fx))
    lattice = lattice[:, x0] + fx * (lattice[:, x0 + 1] - lattice[:, x0])
    rise = lattice[1:] - lattice[:-1]
    noise: Float = rise[y0]
    noise *= fy[:, None]
    noise += lattice[y0]
    return noise


class Brush:
    """Paints one thing into its bounding box, in units of its height: y runs from 0 to 1, x from 0 to `aspect`.

    Attributes:
        material: uint16 [h, w], the palette index, 0 where nothing was painted.
        mix: float32 [h, w].
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.aspect = width / height
        self.material = np.zeros((height, width), np.uint16)
        self.mix = np.zeros((height, width), np.float32)
        self._y = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
        self._x = ((np.arange(width) + 0.5) / height).astype(np.float32)[None, :]

    def ellipse(
        self, cx: float, cy: float, rx: float, ry: float, material: int, mix: Mix | None = None, hole: float = 0.0
    ) -> None:
        """Fill an ellipse, or a ring whose inner radii are `hole` times the outer ones."""
        window, x, y = self._window(cx - rx, cy - ry, cx + rx, cy + ry)
        ex, ey = (x - np.float32(cx)) / np.float32(rx), (y - np.float32(cy)) / np.float32(ry)
        distance = ex * ex + ey * ey
        inside = distance <= 1
        if hole:
            inside &= distance >= hole * hole
        self._fill(window, x, y, inside, material, mix)

    def polygon(self, points: Sequence[tuple[float, float]], material: int, mix: Mix | None = None) -> None:
        """Fill a polygon by the even-odd rule."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        window, x, y = self._window(min(xs), min(ys), max(xs), max(ys))
        inside = np.zeros((y.size, x.size), np.bool_)
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            if y0 != y1:
                spans = (y >= np.float32(min(y0, y1))) & (y < np.float32(max(y0, y1)))
                crossing = np.float32(x0) + (y - np.float32(y0)) * np.float32((x1 - x0) / (y1 - y0))
                inside ^= spans & (x < crossing)
        self._fill(window, x, y, inside, material, mix)

    def box(self, x0: float, y0: float, x1: float, y1: float, material: int, mix: Mix | None = None) -> None:
        """Fill an upright box."""
        window, x, y = self._window(x0, y0, x1, y1)
        inside = (x >= np.float32(x0)) & (x < np.float32(x1)) & (y >= np.float32(y0)) & (y < np.float32(y1))
        self._fill(window, x, y, inside, material, mix)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, width: float, material: int, mix: Mix | None = None
    ) -> None:
        """Fill a straight bar; it is never thinner than a pixel and a bit, so that it holds together."""
        half = max(width / 2, 0.7 / self.height)
        dx, dy = x1 - x0, y1 - y0
        length = max(math.sqrt(dx * dx + dy * dy), 1e-6)
        nx, ny = -dy / length * half, dx / length * half
        self.polygon([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], material, mix)

    def mirror(self) -> None:
        """Swap left and right."""
        self.material, self.mix = self.material[:, ::-1], self.mix[:, ::-1]

    def mask(self, material: int) -> NDArray[np.bool_]:
        """Return what was painted, bool [h, w]; if it all fell between pixel centers, paint the middle pixel first."""
        if not self.material.any():
            self.material[self.height // 2, self.width // 2] = material
        return self.material > 0

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[slice, slice], Float, Float]:
        rows = slice(max(0, int(y0 * self.height) - 1), max(0, int(y1 * self.height) + 1))
        columns = slice(max(0, int(x0 * self.height) - 1), max(0, int(x1 * self.height) + 1))
        return (rows, columns), self._x[:, columns], self._y[rows]

    def _fill(
        self,
        window: tuple[slice, slice],
        x: Float,
        y: Float,
        inside: NDArray[np.bool_],
        material: int,
        mix: Mix | None,
    ) -> None:
        np.copyto(self.material[window], np.uint16(material), where=inside)
        if mix is None:
            value: Float | np.float32 = np.float32(0.85) - np.float32(0.5) * y  # lit from above
        else:
            value = mix(x, y) if callable(mix) else np.float32(mix)
        np.copyto(self.mix[window], value, where=inside)
