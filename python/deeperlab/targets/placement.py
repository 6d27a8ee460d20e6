# SPDX-License-Identifier: Apache-2.0
"""Where the keypoints of an instance map are: the table from a keypoint's name to its place on a mask.

All instances are looked at together, as horizontal runs of pixels, of which there are far fewer than pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runs import find_runs, pixel_boxes
from ..graph import Graph

Integer = NDArray[np.int64]
Points = tuple[Integer, Integer]
"""x and y of one keypoint of every instance, int64 [N] px."""


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N instances as R horizontal runs of pixels; every instance has at least one.

    Attributes:
        instance: int64 [R], 0 … N − 1: whose run it is.
        y: int64 [R], its row.
        x0, x1: int64 [R], its first and its last column.
        left, top, right, bottom: int64 [N], the first and the last column and row of each instance.
    """

    instance: Integer
    y: Integer
    x0: Integer
    x1: Integer
    left: Integer
    top: Integer
    right: Integer
    bottom: Integer

    def mean_position(self, where: NDArray[np.bool_] | slice = slice(None)) -> Points:
        """Return the mean position of each instance's pixels in the runs `where` [R], rounded half up.

        The sums are integers, so that the result is exact. Every instance has a run there.
        """
        instance, y, x0, x1 = (values[where] for values in (self.instance, self.y, self.x0, self.x1))
        length = x1 - x0 + 1
        area, twice_x, sum_y = (np.zeros(self.left.size, np.int64) for _ in range(3))
        np.add.at(area, instance, length)
        np.add.at(twice_x, instance, (x0 + x1) * length)  # twice the sum of x over a run
        np.add.at(sum_y, instance, y * length)
        return (twice_x + area) // (2 * area), (2 * sum_y + area) // (2 * area)


def _top(masks: Masks) -> Points:
    return masks.mean_position(masks.y == masks.top[masks.instance])


def _bottom(masks: Masks) -> Points:
    return masks.mean_position(masks.y == masks.bottom[masks.instance])


def _left(masks: Masks) -> Points:
    """The pixels of the first column begin a run each."""
    return masks.left, _mean_row(masks, masks.x0 == masks.left[masks.instance])


def _right(masks: Masks) -> Points:
    return masks.right, _mean_row(masks, masks.x1 == masks.right[masks.instance])


def _mean_row(masks: Masks, where: NDArray[np.bool_]) -> Integer:
    """The mean row of runs, each counted once, rounded half up."""
    instance = masks.instance[where]
    count, total = (np.zeros(masks.left.size, np.int64) for _ in range(2))
    np.add.at(count, instance, 1)
    np.add.at(total, instance, masks.y[where])
    return (2 * total + count) // (2 * count)


KEYPOINTS: dict[str, Callable[[Masks], Points]] = {
    "top_left": lambda masks: (masks.left, masks.top),
    "top_right": lambda masks: (masks.right, masks.top),
    "bottom_right": lambda masks: (masks.right, masks.bottom),
    "bottom_left": lambda masks: (masks.left, masks.bottom),
    "center": Masks.mean_position,
    "top": _top,
    "right": _right,
    "bottom": _bottom,
    "left": _left,
}
"""Where the keypoints of a ground truth lie, by their names in a graph.

The corners are those of the tight box, at the mask's first and last columns and rows; `center` is the mean pixel
position; `top`, `right`, `bottom` and `left` are the extreme points: the mean position of the mask's pixels in its
first or last row or column. Means are rounded half up, and may lie off the mask.

A name of your own is added with a function from `Masks` to x and y of every instance, integers [N] in px:
`KEYPOINTS["foot"] = lambda masks: (masks.mean_position()[0], masks.bottom)`.
"""

_PLACED_BY_THE_ENGINE = dict(KEYPOINTS)


def has_own_places(graph: Graph) -> bool:
    """Whether some keypoint of a graph has a place that the engine does not know: a function of the user's own."""
    return any(KEYPOINTS.get(name) is not _PLACED_BY_THE_ENGINE.get(name, KEYPOINTS) for name in graph.keypoints)


def locate(instance: NDArray[np.integer[Any]], graph: Graph) -> tuple[Integer, Integer, NDArray[np.int32]]:
    """Find the keypoints of every instance of a map [H, W].

    Returns:
        ids [N] ascending, keypoints int64 [N, P, 2] as (x, y) in pixels, and each pixel's 1-based place in `ids`,
        int32 [H, W], 0 = none.

    Raises:
        ValueError: a negative id, a keypoint name that is not in `KEYPOINTS`, or a function of it that does not give
            one position for each instance.
    """
    unknown = [name for name in graph.keypoints if name not in KEYPOINTS]
    if unknown:
        known = ", ".join(KEYPOINTS)
        remedy = f"add a function as deeperlab.targets.KEYPOINTS[{unknown[0]!r}]"
        raise ValueError(f"graph: expected keypoints among {known}, got {', '.join(map(repr, unknown))}; {remedy}")
    runs = find_runs(instance)
    label = instance.reshape(-1)[runs.start]
    if label.min() < 0:
        raise ValueError(f"instance: expected ids >= 0, got {label.min()}")
    thing = label > 0
    ids, place = np.unique(label[thing], return_inverse=True)
    number = np.zeros(label.size, np.int32)
    number[thing] = place + 1
    index = np.repeat(number, runs.length).reshape(instance.shape)
    left, top, right, bottom = pixel_boxes(runs, number, ids.size + 1)[1:].T
    x0 = runs.x[thing]
    masks = Masks(place, runs.y[thing], x0, x0 + runs.length[thing] - 1, left, top, right - 1, bottom - 1)
    points = np.empty((ids.size, len(graph.keypoints), 2), np.int64)
    for k, name in enumerate(graph.keypoints):
        for axis, values in enumerate(_checked(name, KEYPOINTS[name](masks), ids.size)):
            points[:, k, axis] = values
    return ids.astype(np.int64), points, index


def _checked(name: str, position: Any, count: int) -> Points:
    try:
        x, y = (np.asarray(axis) for axis in position)
    except (TypeError, ValueError):
        raise ValueError(f"KEYPOINTS[{name!r}]: expected it to return x and y, got {position!r}") from None
    for axis in (x, y):
        if axis.shape != (count,) or axis.dtype.kind not in "iu":
            raise ValueError(
                f"KEYPOINTS[{name!r}]: expected it to return integers of shape ({count},), one for each instance, "
                f"got {axis.dtype} of shape {axis.shape}"
            )
    return x, y
