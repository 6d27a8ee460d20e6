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
    """Find the longest runs within which no map changes; 1 to 4 maps [H, W] of integers, of one shape."""
    from ._numpy import find_runs as find

    return Runs(*find(*maps))


def pixel_boxes(runs: Runs, label: NDArray[np.integer[Any]], count: int) -> Integer:
    """Return the tight boxes of the pixels of labels 0 … count − 1, given the label of every run.

    Boxes are (x0, y0, x1, y1) in px, int64 [count, 4]: columns x0 … x1 − 1 and rows y0 … y1 − 1. So x1 − x0 is the
    width in pixels. A label without pixels has (0, 0, 0, 0).

    Raises:
        ValueError: another label.
    """
    from ._numpy import pixel_boxes as boxes_of

    boxes: Integer = boxes_of(runs.length, runs.y, runs.x, label, count)
    return boxes


def spread(runs: Runs, values: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return a map [H, W] in which every pixel has the value of its run."""
    from ._numpy import spread as spread_out

    ids: NDArray[np.int32] = spread_out(runs.length, values.astype(np.int32, copy=False), *shape)
    return ids
