# SPDX-License-Identifier: Apache-2.0
"""Where things go and how large they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .brush import Brush
from .stage import Stage, Window
from .things import Kind, kind_of

TRIES = 10
"""Places tried for a thing before it is made smaller; after half of them it may leave the ground."""

LEAST_VISIBLE = 0.35
"""A thing is placed only where at least this share of it shows."""

SHRINK = 0.6
"""Factor of the height when no place was found."""


@dataclass(frozen=True)
class Rules:
    """What the caller of `draw` may choose about things; see there."""

    coverage: float
    heights: tuple[float, float] | None
    overlap: bool
    least_area: int


def place_things(stage: Stage, instances: int, num_things: int, rules: Rules) -> list[int]:
    """Paint things from near to far as instances 1, 2, ...; returns the class of each.

    Every thing has a share of the area to be covered, by its kind and distance. What earlier things left of that
    area, or took too much of, is made up for by the later ones.
    """
    rng = stage.rng
    pixels = stage.instance.size
    free, budget = pixels, rules.coverage * pixels
    wanted = [kind_of(c) for c in range(num_things)]
    order = rng.integers(0, max(1, num_things), instances).tolist()
    nearness = np.sort(rng.random(instances))[::-1].tolist()
    shares = [_share(wanted[c], near, rng) for c, near in zip(order, nearness, strict=True)]
    left = sum(shares)
    placed: list[int] = []
    for c, near, share in zip(order, nearness, shares, strict=True):
        if not free:
            break
        kind = wanted[c]
        aspect = kind.aspect[0] + (kind.aspect[1] - kind.aspect[0]) * rng.random()
        if rules.heights is None:
            height = math.sqrt(max(1.0, budget * share / left) / (aspect * kind.fill))
        else:
            height = rules.heights[0] + (rules.heights[1] - rules.heights[0]) * rng.random()
        left -= share
        area = _place(stage, len(placed) + 1, kind, near, height, aspect, rules)
        if area:
            placed.append(c)
        free, budget = free - area, budget - area
    return placed


def _share(kind: Kind, near: float, rng: np.random.Generator) -> float:
    """Relative area of a thing: small kinds and far things are smaller, but less so than in nature."""
    scale = (0.35 + 0.65 * kind.height) * (0.25 + 0.75 * near) * (0.8 + 0.4 * rng.random())
    return scale * scale * kind.fill * 0.5 * (kind.aspect[0] + kind.aspect[1])


def _place(stage: Stage, number: int, kind: Kind, near: float, height: float, aspect: float, rules: Rules) -> int:
    """Paint one thing as instance `number`, smaller and smaller until it fits; returns its visible area, or 0."""
    style = kind.style(stage.rng, stage.palette)
    image_height, image_width = stage.shape
    height = min(height, 1.1 * image_height, 1.1 * image_width / aspect)
    while True:
        h, w = max(1, round(height)), max(1, round(height * aspect))
        brush = Brush(h, w)
        kind.paint(brush, style)
        if stage.rng.random() < 0.5:
            brush.mirror()
        mask = brush.mask(style.main)
        total = np.count_nonzero(mask)
        for attempt in range(TRIES):
            top, left = _draw_position(stage, kind, near, h, w, anywhere=2 * attempt >= TRIES)
            window, crop = _clip(top, h, image_height), _clip(left, w, image_width)
            place: Window = (window[0], crop[0])
            part: Window = (window[1], crop[1])
            inside = mask[part]
            visible = inside & (stage.instance[place] == 0)
            area = int(np.count_nonzero(visible))
            hidden = np.count_nonzero(inside) - area
            if area >= max(rules.least_area, LEAST_VISIBLE * total) and (rules.overlap or not hidden):
                stage.paint(number, brush, place, part, visible)
                if not kind.flies:
                    stage.cast_shadow(top + h, left + w / 2, w)
                return area
        if h == w == 1:
            return 0
        height *= SHRINK


def _draw_position(stage: Stage, kind: Kind, near: float, h: int, w: int, anywhere: bool) -> tuple[int, int]:
    """Draw top and left of a box that stands on the ground at its distance, or floats."""
    height, width = stage.shape
    across, up = stage.rng.random(2).tolist()
    ground = height - stage.horizon
    if anywhere:
        top = up * height - h / 2
    elif kind.flies:
        top = up * (stage.horizon + 0.4 * ground) - h / 2
    else:
        top = stage.horizon + (0.04 + near) * ground - h
    return math.floor(top), math.floor(across * width - w / 2)


def _clip(start: int, length: int, size: int) -> tuple[slice, slice]:
    """The part of a span that lies in an image of `size` pixels: there, and within the span."""
    low, high = min(max(start, 0), size), min(max(start + length, 0), size)
    return slice(low, high), slice(low - start, high - start)
