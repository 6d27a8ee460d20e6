# SPDX-License-Identifier: Apache-2.0
"""Maps as horizontal runs of equal pixels, of which there are far fewer than pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integer = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """R runs of pixels of equal value that cover a map [H, W], row by row.

    Attributes:
        start: int64 [R], the first pixel, counted through the flattened map.
        length: int64 [R], px.
        y, x: int64 [R], row and column of the first pixel.
    """

    start: Integer
    length: Integer
    y: Integer
    x: Integer


def find_runs(*maps: NDArray[Any]) -> Runs:
    """Find the longest runs within which no map [H, W] changes; the maps have one shape."""
    height, width = maps[0].shape
    begins = np.ones((height, width), np.bool_)
    inner = begins[:, 1:]
    np.not_equal(maps[0][:, 1:], maps[0][:, :-1], out=inner)
    for values in maps[1:]:
        inner |= values[:, 1:] != values[:, :-1]
    start = np.flatnonzero(begins)
    y, x = np.divmod(start, max(width, 1))
    return Runs(start, np.diff(start, append=height * width), y, x)


def pixel_boxes(runs: Runs, label: NDArray[np.integer[Any]], count: int) -> Integer:
    """Return the tight boxes of the pixels of labels 0 … count − 1, given the label of every run.

    Boxes are (x0, y0, x1, y1) in px, int64 [count, 4]: columns x0 … x1 − 1 and rows y0 … y1 − 1. So x1 − x0 is the
    width in pixels. A label without pixels has (0, 0, 0, 0).
    """
    low = np.full((2, count), np.iinfo(np.int64).max)
    high = np.zeros((2, count), np.int64)
    for axis, first, end in ((0, runs.x, runs.x + runs.length), (1, runs.y, runs.y + 1)):
        np.minimum.at(low[axis], label, first)
        np.maximum.at(high[axis], label, end)
    low[:, high[0] == 0] = 0
    return np.concatenate((low, high)).T
