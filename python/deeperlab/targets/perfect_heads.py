# SPDX-License-Identifier: Apache-2.0
"""The heads that a perfect network would emit for a ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..graph import STAR, Graph
from ..heads import Heads
from .class_share import class_logits
from .encoder import encode
from .inputs import check_positive, integer_map
from .nearest import nearest
from .target_maps import Targets

HEATMAP_LOGIT = 8.0
"""Perfect heatmap logits are ± this: sigmoid .99966 inside a disk, .00034 outside."""


def encode_heads(
    category: ArrayLike,
    instance: ArrayLike,
    num_classes: int,
    *,
    stride: int = 4,
    radius: float = 25,
    ignore: int | None = None,
    extend: bool = True,
    graph: Graph = STAR,
) -> Heads:
    """Encode a ground truth as the heads that a perfect network would emit: float32 arrays without a batch dimension.

    Semantic logits are log(share + 0.05) of each class's share of the box of side `stride` px centered on the node
    and clipped to the image; pixels on the edge of the box (even strides) count half, so the window is symmetric,
    and at stride 1 it is the pixel alone. Ignored pixels belong to no class; a node that sees none but those takes
    the class of the nearest labeled pixel; if the whole map is ignored, all logits are equal.
    Heatmap logits are ±8. Short- and middle-range offsets are 0 outside their disks.

    Args:
        category: integer [H, W], classes in [0, num_classes), or `ignore`.
        instance: integer [H, W], 0 = none: stuff, crowd, void.
        num_classes: C.
        stride: pixels between nodes; h = ceil(H/stride), so `fuse` needs size=(H, W) unless both are 4n + 1.
        radius: R in pixels.
        ignore: the category of pixels without a label, e.g. 255 or -1.
        extend: a node of no instance takes the long-range offsets towards the keypoints of the nearest instance
            (distance to the instance's nearest pixel), as a trained network extrapolates; otherwise 0.
        graph: its keypoint names are among `KEYPOINTS`.

    Raises:
        ValueError, TypeError: as `encode`, or a category map that does not fit.
    """
    instance = integer_map("instance", instance)
    stride = check_positive("stride", stride)
    category = _category_map(category, instance.shape, num_classes, ignore)
    targets = encode(instance, radius=radius, stride=stride, graph=graph)
    if extend and targets.keypoints.size:
        _extend(targets, instance)
    heatmap = targets.heatmap  # fresh, nobody else holds it
    heatmap *= 2 * HEATMAP_LOGIT
    heatmap -= HEATMAP_LOGIT
    return Heads(
        class_logits(category, num_classes, stride, ignore),
        heatmap,
        targets.short_range,
        targets.middle_range,
        targets.long_range,
        stride=stride,
        graph=graph,
    )


def _extend(targets: Targets, instance: NDArray[np.integer[Any]]) -> None:
    """Write the long-range offsets of nodes of no instance: towards the keypoints of the nearest instance."""
    off = ~targets.long_valid[0]
    if not off.any():
        return
    row, column = nearest(instance > 0, targets.stride)
    owner = np.searchsorted(targets.ids, instance[row[off], column[off]])
    y, x = (axis.astype(np.float32) * targets.stride for axis in np.nonzero(off))
    for k in range(len(targets.graph.keypoints)):
        targets.long_range[2 * k][off] = targets.keypoints[owner, k, 0] - x
        targets.long_range[2 * k + 1][off] = targets.keypoints[owner, k, 1] - y


def _category_map(
    category: ArrayLike, shape: tuple[int, ...], num_classes: int, ignore: int | None
) -> NDArray[np.integer[Any]]:
    check_positive("num_classes", num_classes)
    array = integer_map("category", category)
    if array.shape != shape:
        raise ValueError(f"category: expected the shape of instance, {shape}, got {array.shape}")
    wrong = (array < 0) | (array >= num_classes)
    if ignore is not None:
        wrong &= array != ignore
    if wrong.any():
        raise ValueError(f"category: expected [0, {num_classes}) or ignore = {ignore}, got {array[wrong][0]}")
    return array
