# SPDX-License-Identifier: Apache-2.0
"""The nearest marked pixel of every node: an exact Euclidean distance transform that keeps the indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def nearest(mask: NDArray[np.bool_], stride: int = 1) -> tuple[Indices, Indices]:
    """Find row and column of the nearest true pixel, for the nodes of a grid only.

    Distances are squared Euclidean distances in integers, so the answer is exact; ties go to the lower column,
    then to the lower row. Separable: per column the nearest row, then per node row the lower envelope of the
    columns' parabolas (Meijster et al. 2000; Felzenszwalb and Huttenlocher 2012), all rows side by side.

    Args:
        mask: [H, W]; at least one pixel is true.
        stride: nodes are every `stride`-th pixel of both axes, h = ceil(H/stride) by w = ceil(W/stride).

    Returns:
        row and column, int64 [h, w], in pixels.
    """
    height, width = mask.shape
    column = np.flatnonzero(mask.any(axis=0))
    row = _nearest_in_column(mask[:, column], stride)
    y = np.arange(0, height, stride)
    gap = ((row - y[:, None]) ** 2).T.copy()  # [columns, h]
    index = _envelope(gap, column, -(-width // stride), stride)
    return np.take_along_axis(row, index, axis=1), column[index]


def _nearest_in_column(mask: NDArray[np.bool_], stride: int) -> Indices:
    """Row of the nearest true pixel of the node's own column, [h, columns]; ties to the upper one.

    Every column of `mask` [H, columns] has a true pixel.
    """
    height = mask.shape[0]
    far = 4 * height  # farther than any pixel
    row = np.arange(height, dtype=np.int64)[:, None]
    above = np.maximum.accumulate(np.where(mask, row, -far), axis=0)[::stride]
    below = np.minimum.accumulate(np.where(mask, row, far)[::-1], axis=0)[::-1][::stride]
    node = row[::stride]
    return np.where(node - above <= below - node, above, below)


def _envelope(gap: Indices, column: Indices, nodes: int, stride: int) -> Indices:
    """Index of the column whose parabola gap + (x − column)² is least at the nodes x, [h, nodes]; ties to the left.

    `gap` [columns, h] holds squared distances within each column, `column` [columns] the ascending x positions.
    """
    count, rows = gap.shape
    last = (nodes - 1) * stride
    lane = np.arange(rows)
    # One stack per row: parabola `owner` is least from x = `start` on. `top` points at the last entry.
    owner = np.zeros((count, rows), np.int64)
    start = np.zeros((count, rows), np.int64)
    top = np.zeros(rows, np.int64)
    top_owner = np.zeros(rows, np.int64)  # the last entries again: most steps read nothing else
    top_start = np.zeros(rows, np.int64)
    for u in range(1, count):
        x = int(column[u])
        new = gap[u]
        active: Any = slice(None)
        while True:  # drop entries that the new parabola beats already where they start
            at, old = top_start[active], top_owner[active]
            beaten = gap[old, lane[active]] + (at - column[old]) ** 2 > new[active] + (at - x) ** 2
            beaten &= top[active] >= 0
            if not beaten.any():
                break
            active = lane[active][beaten]
            top[active] -= 1
            below = np.maximum(top[active], 0)
            top_owner[active] = owner[below, active]
            top_start[active] = start[below, active]
        old = column[top_owner]
        crossing = (x * x - old * old + new - gap[top_owner, lane]) // (2 * (x - old)) + 1
        crossing[top < 0] = 0
        pushed = np.flatnonzero(crossing <= last)
        top[pushed] += 1
        level = top[pushed]
        owner[level, pushed] = top_owner[pushed] = u
        start[level, pushed] = top_start[pushed] = crossing[pushed]
    level, row = np.nonzero(np.arange(count)[:, None] <= top)
    index = np.zeros((nodes, rows), np.int64)
    # Levels ascend, so of several entries that start between the same two nodes the last one stays.
    index[-(-start[level, row] // stride), row] = owner[level, row]
    return np.maximum.accumulate(index, axis=0).T
