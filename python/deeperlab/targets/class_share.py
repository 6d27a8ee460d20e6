# SPDX-License-Identifier: Apache-2.0
"""Semantic logits of a ground truth on a coarser grid: the logarithm of the class share around each node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nearest import nearest

SHARE_FLOOR = 0.05
"""Added to a class share before the logarithm: an absent class has a logit of −3.

The floor decides where a border falls between two nodes once the logits are interpolated; figures in docs/tuning.md.
"""


def class_logits(
    category: NDArray[np.integer[Any]], num_classes: int, stride: int, ignore: int | None
) -> NDArray[np.float32]:
    """Compute log(share + floor) of each class around each node, float32 [C, h, w].

    The window of a node is the box of side `stride` px centered on it and clipped to the image: at odd strides
    whole pixels, at even strides stride + 1 pixels a side of which the outermost count half. Pixels of category
    `ignore` are left out; a node that sees no other takes the class of the nearest labeled pixel.
    `category` [H, W] holds classes in [0, C), or `ignore`.
    """
    height, width = category.shape
    grid_h, grid_w = -(-height // stride), -(-width // stride)
    void = np.zeros(category.shape, np.bool_) if ignore is None else category == ignore
    floor = math.log(SHARE_FLOOR)
    if void.all():
        return np.full((num_classes, grid_h, grid_w), floor, np.float32)
    masked = bool(void.any())
    if masked:
        category = np.where(void, np.int64(num_classes), category)  # an extra plane collects the ignored pixels

    # Weights are doubled to stay integers, exact in float32.
    counts = np.zeros((num_classes + masked, grid_h * grid_w), np.float32)
    total = np.zeros((grid_h, grid_w), np.float32)
    node = np.arange(grid_h * grid_w).reshape(grid_h, grid_w)
    half = stride // 2
    for dy in range(-half, half + 1):
        i, y = _shifted(dy, stride, height)
        for dx in range(-half, half + 1):
            j, x = _shifted(dx, stride, width)
            weight = (2 - (2 * abs(dy) == stride)) * (2 - (2 * abs(dx) == stride))
            counts[category[y, x], node[i, j]] += weight
            total[i, j] += weight
    seen = total.reshape(-1)
    if masked:
        seen -= counts[num_classes]
        blind = np.flatnonzero(seen == 0)
        if blind.size:
            row, column = nearest(~void, stride)
            counts[category[row, column].reshape(-1)[blind], blind] = 1
            seen[blind] = 1
    for plane in counts[:num_classes]:
        present = np.flatnonzero(plane)
        share = plane[present] / seen[present]
        plane.fill(floor)
        plane[present] = np.log(share + np.float32(SHARE_FLOOR))
    return counts[:num_classes].reshape(num_classes, grid_h, grid_w)


def _shifted(offset: int, stride: int, size: int) -> tuple[slice, slice]:
    """The nodes whose pixel stride·i + offset lies in the image, and these pixels."""
    first = 1 if offset < 0 else 0
    last = min(size - 1, size - 1 - offset) // stride
    return slice(first, last + 1), slice(first * stride + offset, last * stride + offset + 1, stride)
