# SPDX-License-Identifier: Apache-2.0
"""The kinds of things that drawn scenes hold: proportions, colors, and who paints them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import shapes
from .brush import Brush, Color, Palette, Style, hsv


@dataclass(frozen=True)
class Kind:
    """How things of one kind look.

    Attributes:
        name: in the singular.
        paint: paints one into a brush.
        height: typical height as a share of a house's.
        aspect: range of width/height.
        fill: share of the bounding box that is painted, about.
        hue, saturation, value: of the main color.
        flies: not bound to the ground.
    """

    name: str
    paint: Callable[[Brush, Style], None]
    height: float
    aspect: tuple[float, float]
    fill: float
    hue: float
    saturation: float
    value: float
    flies: bool = False

    def variant(self, number: int) -> Kind:
        """Return the same shape as another class: named and colored differently; 0 is the kind itself."""
        if number == 0:
            return self
        return replace(self, name=f"{self.name}_{number + 1}", hue=(self.hue + 0.29 * number) % 1.0, saturation=0.75)

    @property
    def color(self) -> Color:
        """The main color, lit."""
        return hsv(self.hue, self.saturation, self.value)

    def style(self, rng: np.random.Generator, palette: Palette) -> Style:
        """Draw the style of one thing of this kind, a little different each time."""

        def ramp(hue: float, saturation: float, value: float) -> int:
            return palette.add(hsv(hue + 0.02, min(1.0, saturation * 1.15), value * 0.42), hsv(hue, saturation, value))

        def jitter(value: float, by: float) -> float:
            return min(1.0, max(0.05, value + by * (2 * rng.random() - 1)))

        hue = self.hue + 0.035 * (2 * rng.random() - 1)
        main = ramp(hue, jitter(self.saturation, 0.12), jitter(self.value, 0.1))
        second = ramp(hue + 0.4 + 0.2 * rng.random(), jitter(0.5, 0.2), jitter(0.6, 0.25))
        skin = ramp(0.06, jitter(0.45, 0.1), jitter(0.72, 0.24))
        return Style(
            rng,
            main,
            second,
            black=palette.add((14, 14, 17), (84, 84, 90)),
            white=palette.add((150, 150, 150), (250, 250, 246)),
            glass=palette.add((34, 52, 72), (178, 212, 232)),
            skin=skin,
            wood=palette.add((62, 40, 22), (150, 106, 62)),
            steel=palette.add((62, 66, 74), (196, 200, 206)),
        )


KINDS = (
    Kind("person", shapes.person, 0.42, (0.36, 0.46), 0.5, 0.02, 0.75, 0.85),
    Kind("car", shapes.car, 0.36, (1.9, 2.4), 0.67, 0.6, 0.7, 0.8),
    Kind("tree", shapes.tree, 1.1, (0.62, 0.9), 0.5, 0.31, 0.62, 0.72),
    Kind("house", shapes.house, 1.0, (0.95, 1.35), 0.75, 0.01, 0.62, 0.75),
    Kind("dog", shapes.dog, 0.2, (1.25, 1.5), 0.4, 0.08, 0.55, 0.72),
    Kind("bicycle", shapes.bicycle, 0.26, (1.6, 1.75), 0.25, 0.45, 0.8, 0.8),
    Kind("balloon", shapes.balloon, 0.7, (0.68, 0.8), 0.65, 0.97, 0.8, 0.95, flies=True),
    Kind("boat", shapes.boat, 0.6, (0.9, 1.2), 0.47, 0.55, 0.75, 0.6),
    Kind("lamp", shapes.lamp, 0.8, (0.16, 0.26), 0.15, 0.14, 0.45, 1.0),
    Kind("sign", shapes.sign, 0.5, (0.34, 0.44), 0.28, 0.0, 0.9, 0.8),
    Kind("bus", shapes.bus, 0.6, (1.9, 2.5), 0.9, 0.12, 0.85, 0.92),
    Kind("chair", shapes.chair, 0.25, (0.6, 0.8), 0.42, 0.78, 0.55, 0.7),
    Kind("crate", shapes.crate, 0.24, (0.9, 1.15), 0.82, 0.095, 0.6, 0.8),
    Kind("kite", shapes.kite, 0.35, (0.5, 0.65), 0.37, 0.85, 0.7, 0.95, flies=True),
    Kind("ring", shapes.ring, 0.22, (0.8, 1.3), 0.62, 0.04, 0.85, 1.0, flies=True),
    Kind("star", shapes.star, 0.2, (0.95, 1.05), 0.3, 0.15, 0.85, 1.0, flies=True),
)
"""The kinds in the order in which classes use them; class c is variant c // 16 of kind c % 16."""


def kind_of(index: int) -> Kind:
    """Return the kind that thing class `index` draws."""
    number, place = divmod(index, len(KINDS))
    return KINDS[place].variant(number)
