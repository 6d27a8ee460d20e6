# SPDX-License-Identifier: Apache-2.0
"""The planes of a scene while it is painted: first the stuff, then things from near to far, then the photograph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .brush import Brush, Float, Palette
from .stuff import Band, Stuff, lay_out

Bool = NDArray[np.bool_]
Window = tuple[slice, slice]

RIM_LIGHT = 0.72
"""Light on the outline of a thing, which sets it off against what is behind."""


class Stage:
    """The planes of a scene, [H, W] each.

    Attributes:
        horizon: the row where the ground begins.
        label: int32, index of the stuff of every pixel.
        instance: int32, 0 where no thing is.
        material: uint16, index into the palette.
        mix: float32, place on the material's ramp of colors.
        light: float32, factor of the color.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], kinds: list[Stuff]) -> None:
        self.rng, self.shape = rng, shape
        self.palette = Palette()
        self.horizon = min(shape[0] - 1, int(shape[0] * (0.3 + 0.2 * rng.random())))
        self.label = lay_out(rng, shape, self.horizon, kinds)
        self.instance = np.zeros(shape, np.int32)
        self.material = np.zeros(shape, np.uint16)
        self.mix = np.zeros(shape, np.float32)
        self.light = np.ones(shape, np.float32)
        for i, kind in enumerate(kinds):
            where = self.label == i
            rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
            if rows.size:
                y, x = np.arange(rows[0], rows[-1] + 1), np.arange(columns[0], columns[-1] + 1)
                window = slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)
                texture = kind.texture(Band(rng, y, x, shape, self.horizon))
                material = np.uint16(self.palette.add(kind.dark, kind.bright))
                np.copyto(self.mix[window], texture, where=where[window])
                np.copyto(self.material[window], material, where=where[window])

    def paint(self, number: int, brush: Brush, window: Window, crop: Window, visible: Bool) -> None:
        """Put the part `crop` of a brush into a window of the image, where it is visible."""
        np.copyto(self.instance[window], np.int32(number), where=visible)
        np.copyto(self.material[window], brush.material[crop], where=visible)
        np.copyto(self.mix[window], brush.mix[crop], where=visible)
        inside = brush.material > 0
        rim = inside.copy()
        rim[1:-1, 1:-1] &= ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
        self.light[window][rim[crop] & visible] *= np.float32(RIM_LIGHT)

    def cast_shadow(self, foot: int, middle: float, width: int) -> None:
        """Darken what is behind a thing that stands at row `foot`: a soft ellipse around its foot."""
        for size, light in ((1.1, 0.8), (0.8, 0.72)):
            rx, ry = max(1.0, 0.5 * size * width), max(1.0, 0.09 * size * width)
            y0, y1 = (min(max(int(foot + side * ry), 0), self.shape[0]) for side in (-1, 1))
            x0, x1 = (min(max(int(middle + side * rx), 0), self.shape[1]) for side in (-1, 1))
            y = ((np.arange(y0, y1) - foot) / ry)[:, None]
            x = (np.arange(x0, x1) + 0.5 - middle) / rx
            shaded = (x * x + y * y <= 1) & (self.instance[y0:y1, x0:x1] == 0)
            self.light[y0:y1, x0:x1][shaded] *= np.float32(light)

    def photograph(self) -> NDArray[np.uint8]:
        """Render the RGB image [H, W, 3]: slanting light, warm or cold, a lens's softness, a sensor's noise."""
        height, width = self.shape
        slope_y, slope_x, warmth = (0.09 * (2 * v - 1) for v in self.rng.random(3).tolist())
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        fall = np.float32(0.06)
        self.light *= (np.float32(1.04) + np.float32(slope_y) * y - fall * y * y) + (
            np.float32(slope_x) * x - fall * x * x
        )
        dark, rise = self.palette.ramps()
        material = self.material.astype(np.intp)
        grain = self.rng.random(self.shape, dtype=np.float32)
        grain *= np.float32(14)
        grain -= np.float32(7)
        image = np.empty((height, width, 3), np.uint8)
        for c, tint in enumerate((1 + 0.5 * warmth, 1.0, 1 - 0.5 * warmth)):
            plane = rise[c].take(material)
            plane *= self.mix
            plane += dark[c].take(material)
            plane *= self.light
            plane *= np.float32(tint)
            _soften(plane)
            plane += grain
            np.clip(plane, 0, 255, out=plane)
            image[..., c] = plane
        return image


def _soften(plane: Float) -> None:
    """Blur [H, W] by 1-2-1 along both axes, in place; the outermost pixels stay."""
    for lines in (plane, plane.T):
        middle = lines[1:-1] + lines[1:-1]
        middle += lines[:-2]
        middle += lines[2:]
        middle *= np.float32(0.25)
        lines[1:-1] = middle
