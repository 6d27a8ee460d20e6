# SPDX-License-Identifier: Apache-2.0
"""Panoptic ground truth to target maps (section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..graph import STAR, Graph
from .placement import locate

Float = NDArray[np.float32]
Integer = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Targets:
    """Training targets of one image on a grid of h = ceil(H/stride) by w = ceil(W/stride) nodes.

    Offsets are keypoint − pixel in image pixels at every stride, x first: channel 2k is horizontal, 2k + 1
    vertical. They are 0 where their mask is false.

    Attributes:
        heatmap: float32 [P, h, w], 1 inside a disk of keypoint k, else 0.
        short_range: float32 [2P, h, w], to keypoint k; trained inside its disks.
        middle_range: float32 [2E, h, w], along edge e; trained in the disks of its source.
        long_range: float32 [2P, h, w], to keypoint k of the node's own instance.
        short_valid: bool [P, h, w].
        middle_valid: bool [E, h, w].
        long_valid: bool [1, h, w], on an instance.
        ids: int64 [N], the instance ids of the map in ascending order.
        keypoints: float32 [N, P, 2], (x, y) in pixels, in the order of `ids`.
        stride: image pixels between nodes.
        graph: the keypoints and edges that were encoded.
    """

    heatmap: Float
    short_range: Float
    middle_range: Float
    long_range: Float
    short_valid: Bool
    middle_valid: Bool
    long_valid: Bool
    ids: Integer
    keypoints: Float
    stride: int
    graph: Graph


def keypoints(instance: ArrayLike, graph: Graph = STAR) -> tuple[Integer, Float]:
    """Find the keypoints of every instance of a map, where `KEYPOINTS` says that they lie.

    Args:
        instance: integer [H, W], 0 = none; ids need not be consecutive.
        graph: its keypoint names are among `KEYPOINTS`.

    Returns:
        ids int64 [N] in ascending order, keypoints float32 [N, P, 2] as (x, y) in pixels.

    Raises:
        ValueError: not a map, an empty map, a negative id, or a keypoint name that `KEYPOINTS` lacks.
        TypeError: not integer.
    """
    ids, points, _ = locate(integer_map("instance", instance), graph)
    return ids, points.astype(np.float32)


def encode(instance: ArrayLike, *, radius: float = 25, stride: int = 1, graph: Graph = STAR) -> Targets:
    """Encode an instance map as target maps (section 3.3): disks, short-, middle- and long-range offsets.

    A disk holds the pixels at a distance <= radius from its keypoint. A pixel in several disks of one kind
    belongs to the nearest keypoint, ties to the lower instance id.

    Args:
        instance: integer [H, W], 0 = none (stuff, crowd, void); ids need not be consecutive.
        radius: R in pixels, >= 0.
        stride: every `stride`-th pixel of both axes of the full-resolution targets is kept.
        graph: its keypoint names are among `KEYPOINTS`.

    Raises:
        ValueError, TypeError: as `keypoints`, or a radius or stride out of bounds.
    """
    instance = integer_map("instance", instance)
    radius, stride = _check_radius(radius), check_positive("stride", stride)
    ids, points, index = locate(instance, graph)
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
        owner = _nearest_disk(points[:, k], radius, grid)
        np.greater(owner, 0, out=short_valid[k])
        leaving = [e for e, (source, _) in enumerate(graph.edges) if source == k]
        ends = [(short_range[2 * k : 2 * k + 2], k)]
        ends += [(middle_range[2 * e : 2 * e + 2], graph.edges[e][1]) for e in leaving]
        _write_offsets(ends, owner, points, grid)
        middle_valid[leaving] = short_valid[k]
    _write_offsets([(long_range[2 * k : 2 * k + 2], k) for k in range(kinds)], member, points, grid)
    return Targets(
        heatmap=short_valid.astype(np.float32),
        short_range=short_range,
        middle_range=middle_range,
        long_range=long_range,
        short_valid=short_valid,
        middle_valid=middle_valid,
        long_valid=(member > 0)[None],
        ids=ids,
        keypoints=points.astype(np.float32),
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
    farthest = sum(shape) * stride  # no two pixels are farther apart
    limit = math.floor(min(radius, farthest) ** 2)
    reach = math.isqrt(limit)
    best = np.full(shape, limit + 1, np.int64)
    owner = np.zeros(shape, np.int32)
    for n, (x, y) in enumerate(center.tolist(), start=1):
        rows = slice(max(0, -((reach - y) // stride)), (y + reach) // stride + 1)
        columns = slice(max(0, -((reach - x) // stride)), (x + reach) // stride + 1)
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


def integer_map(name: str, values: ArrayLike) -> NDArray[np.integer[Any]]:
    """Return a contiguous integer map [H, W] of at least one pixel.

    Raises:
        TypeError, ValueError: other values.
    """
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer array, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected a map [H, W] of at least one pixel, got shape {array.shape}")
    if array.dtype == np.uint64:
        if array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: expected values below 2^63, got {array.max()}")
        array = array.view(np.int64)
    return array


def _check_radius(radius: float) -> float:
    if isinstance(radius, bool) or not isinstance(radius, (int, float)):
        raise TypeError(f"radius: expected a number, got {radius!r}")
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius: expected a finite number >= 0, got {radius}")
    return radius


def check_positive(name: str, value: int) -> int:
    """Return an int of at least 1; TypeError or ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value
