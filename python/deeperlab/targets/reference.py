# SPDX-License-Identifier: Apache-2.0
"""`encode` in plain NumPy, one image at a time: to be read beside section 3.3, and the judge of the compiled forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from .inputs import Points
from .placement import locate
from .target_maps import Bool, Float, Integer, Targets

FARTHEST = 2.0**26
"""px. No keypoint, at most 2^24 px from the first pixel along each axis, is as far from any pixel."""


def encode(
    instance: Integer,
    ignore: Bool | None = None,
    points: Points | None = None,
    *,
    radius: float,
    stride: int,
    graph: Graph,
) -> Targets:
    """Encode one instance map as `deeperlab.targets.encode` does.

    Args:
        instance: integer [H, W], 0 = none.
        ignore: bool [H, W], or None.
        points: ids int64 [K] and positions integer [K, P, 2] of whole objects, or None.
        radius: R in pixels.
        stride: pixels between nodes.
        graph: its keypoint names are among `KEYPOINTS`.
    """
    ids, positions, index = locate(instance, graph)
    if points is not None:
        for given, position in reversed(list(zip(*points, strict=True))):  # of two rows of one id the first counts
            positions[ids == given] = position
    member = np.ascontiguousarray(index[::stride, ::stride])  # 1-based place in `ids`, 0 = none
    grid_h, grid_w = member.shape
    grid = _Grid(np.arange(0, grid_w * stride, stride), np.arange(0, grid_h * stride, stride), stride)
    kinds, edges = len(graph.keypoints), len(graph.edges)

    short_valid = np.empty((kinds, grid_h, grid_w), np.bool_)
    middle_valid = np.empty((edges, grid_h, grid_w), np.bool_)
    short_range = np.zeros((2 * kinds, grid_h, grid_w), np.float32)
    middle_range = np.zeros((2 * edges, grid_h, grid_w), np.float32)
    long_range = np.zeros((2 * kinds, grid_h, grid_w), np.float32)
    for k in range(kinds):
        owner = _nearest_disk(positions[:, k], radius, grid)
        np.greater(owner, 0, out=short_valid[k])
        leaving = [e for e, (source, _) in enumerate(graph.edges) if source == k]
        ends = [(short_range[2 * k : 2 * k + 2], k)]
        ends += [(middle_range[2 * e : 2 * e + 2], graph.edges[e][1]) for e in leaving]
        _write_offsets(ends, owner, positions, grid)
        middle_valid[leaving] = short_valid[k]
    _write_offsets([(long_range[2 * k : 2 * k + 2], k) for k in range(kinds)], member, positions, grid)
    return Targets(
        heatmap=short_valid.astype(np.float32),
        short_range=short_range,
        middle_range=middle_range,
        long_range=long_range,
        heatmap_valid=np.ones((1, grid_h, grid_w), np.bool_) if ignore is None else ~ignore[None, ::stride, ::stride],
        short_valid=short_valid,
        middle_valid=middle_valid,
        long_valid=(member > 0)[None],
        ids=ids,
        keypoints=positions.astype(np.float32),
        stride=stride,
        graph=graph,
    )


@dataclass(frozen=True)
class _Grid:
    """Pixel coordinates of the nodes, int64 [w] and [h], `stride` apart."""

    x: Integer
    y: Integer
    stride: int


def _nearest_disk(center: Integer, radius: float, grid: _Grid) -> NDArray[np.int32]:
    """Whose disk each node is in, int32 [h, w]: the 1-based place of the nearest center [N, 2], 0 = none."""
    stride, shape = grid.stride, (grid.y.size, grid.x.size)
    limit = math.floor(min(radius, FARTHEST) * min(radius, FARTHEST))
    reach = math.isqrt(limit)
    best = np.full(shape, limit + 1, np.int64)
    owner = np.zeros(shape, np.int32)
    for n, (x, y) in enumerate(center.tolist(), start=1):
        rows = slice(max(0, -((reach - y) // stride)), max(0, (y + reach) // stride + 1))
        columns = slice(max(0, -((reach - x) // stride)), max(0, (x + reach) // stride + 1))
        distance = ((grid.y[rows] - y) ** 2)[:, None] + (grid.x[columns] - x) ** 2
        closer = distance < best[rows, columns]  # strict: ties stay with the lower id
        np.copyto(best[rows, columns], distance, where=closer)
        np.copyto(owner[rows, columns], n, where=closer)
    return owner


def _write_offsets(ends: list[tuple[Float, int]], owner: NDArray[np.int32], points: Integer, grid: _Grid) -> None:
    """Fill pairs of zeroed planes [2, h, w] with keypoint k of each node's owner − the node's position."""
    where = np.flatnonzero(owner)
    if not where.size:
        return
    row, column = np.divmod(where, grid.x.size)
    instance = owner.reshape(-1)[where] - 1
    node = grid.x[column].astype(np.float32), grid.y[row].astype(np.float32)
    for planes, k in ends:
        for axis in (0, 1):
            coordinate = points[:, k, axis].astype(np.float32)
            planes[axis].reshape(-1)[where] = coordinate[instance] - node[axis]
