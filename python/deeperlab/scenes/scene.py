# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes with panoptic ground truth: regions of stuff, overlapping things, and an RGB image that fits.

Seeded and equal on every platform: PCG64, and only arithmetic that IEEE 754 rounds in one way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .placing import Rules, place_things
from .stage import Stage
from .stuff import Stuff, stuff_of
from .things import Kind, kind_of


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn image and its panoptic ground truth. Every pixel has a class; thing classes come first.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        category: int32 [H, W], the class of every pixel.
        instance: int32 [H, W], 0 on stuff, 1..N on things, from near to far.
        categories: int32 [N], the class of instance 1, 2, ....
        num_classes: C.
        things: the thing classes.
        names: the names of the C classes.
        colors: uint8 [C, 3], a typical color of each class, for pictures.
    """

    image: NDArray[np.uint8]
    category: NDArray[np.int32]
    instance: NDArray[np.int32]
    categories: NDArray[np.int32]
    num_classes: int
    things: tuple[int, ...]
    names: tuple[str, ...]
    colors: NDArray[np.uint8]


def draw(
    seed: int,
    size: int | tuple[int, int] = (481, 641),
    *,
    instances: int = 20,
    num_classes: int = 24,
    num_things: int = 16,
    coverage: float | None = None,
    heights: tuple[float, float] | None = None,
    overlap: bool = True,
    least_area: int = 1,
) -> Scene:
    """Draw a scene; the same arguments give the same scene.

    Things are placed from near to far, each only where enough of it shows, so that all of them stay visible; where
    there is no room there are fewer than asked for. Relative sizes follow kind and distance.

    Args:
        seed: any integer >= 0.
        size: (H, W) in pixels, or the side of a square.
        instances: N, the number of things.
        num_classes: C. There are 16 kinds of things and 8 of stuff; further classes are the same in other colors.
        num_things: how many classes are things, at most C − 1; they are 0, 1, ....
        coverage: the share of the image that things cover, whatever their number; met within a few percent for five
            things and more where there is room. None: it grows with N, from 5 % for one to 35 % for 20 and more.
        heights: instead, the heights of things are uniform in this range of pixels.
        overlap: whether a thing may hide parts of another.
        least_area: least number of visible pixels of a thing.

    Raises:
        ValueError, TypeError: an argument out of bounds, named with what was expected.
    """
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if len(shape) != 2:
        raise ValueError(f"size: expected (H, W) or one side, got {size}")
    for name, value, low, high in (
        ("seed", seed, 0, None),
        ("size", shape[0], 1, 65535),
        ("size", shape[1], 1, 65535),
        ("instances", instances, 0, 4096),  # each brings ten materials, whose index is uint16
        ("num_classes", num_classes, 1, 65535),
        ("num_things", num_things, 0, num_classes - 1),
        ("least_area", least_area, 1, None),
    ):
        _check_integer(name, value, low, high)
    if instances and not num_things:
        raise ValueError(f"instances: expected 0 where num_things is 0, got {instances}")
    if not isinstance(overlap, bool):
        raise TypeError(f"overlap: expected a bool, got {overlap!r}")
    rules = Rules(_coverage(coverage, heights, instances), _heights(heights), overlap, least_area)

    stuff = [stuff_of(c) for c in range(num_classes - num_things)]
    stage = Stage(np.random.Generator(np.random.PCG64(seed)), shape, stuff)
    placed = np.array(place_things(stage, instances, num_things, rules), np.int32)
    category = np.where(stage.instance > 0, np.append(np.int32(0), placed)[stage.instance], stage.label + num_things)
    kinds: list[Kind | Stuff] = [*(kind_of(c) for c in range(num_things)), *stuff]
    return Scene(
        image=stage.photograph(),
        category=category.astype(np.int32, copy=False),
        instance=stage.instance,
        categories=placed,
        num_classes=num_classes,
        things=tuple(range(num_things)),
        names=tuple(kind.name for kind in kinds),
        colors=np.array([kind.color for kind in kinds]).astype(np.uint8),
    )


def _coverage(coverage: float | None, heights: tuple[float, float] | None, instances: int) -> float:
    if coverage is None:
        return min(0.35, 0.03 + 0.016 * instances)
    if heights is not None:
        raise ValueError(f"coverage, heights: expected at most one of them, got {coverage} and {heights}")
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: expected a share in (0, 1], got {coverage}")
    return float(coverage)


def _heights(heights: tuple[float, float] | None) -> tuple[float, float] | None:
    if heights is None:
        return None
    if len(heights) != 2 or not 0 < heights[0] <= heights[1] or not math.isfinite(heights[1]):
        raise ValueError(f"heights: expected (low, high) with 0 < low <= high, got {heights}")
    return float(heights[0]), float(heights[1])


def _check_integer(name: str, value: object, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name}: expected {bounds}, got {value}")
