# SPDX-License-Identifier: Apache-2.0
"""What a network is trained towards (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..graph import Graph

Float = NDArray[np.float32]
Integer = NDArray[np.int64]
Bool = NDArray[np.bool_]
Points = tuple[Any, Any]
"""Instance ids, integers [(N,) K], and the positions of their keypoints, integers [(N,) K, P, 2] px, (x, y)."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Training targets on a grid of h = ceil(H/stride) by w = ceil(W/stride) nodes.

    Arrays (NumPy) or tensors (torch), as the instance map was; of a batch with its leading dimension N. Offsets are
    keypoint − pixel in image pixels at every stride, x first: channel 2k is horizontal, 2k + 1 vertical. They are 0
    where their mask is false.

    Attributes:
        heatmap: float32 [(N,) P, h, w], 1 inside a disk of keypoint k, else 0.
        short_range: float32 [(N,) 2P, h, w], to keypoint k; trained inside its disks.
        middle_range: float32 [(N,) 2E, h, w], along edge e; trained in the disks of its source.
        long_range: float32 [(N,) 2P, h, w], to keypoint k of the node's own instance.
        heatmap_valid: bool [(N,) 1, h, w], not ignored.
        short_valid: bool [(N,) P, h, w].
        middle_valid: bool [(N,) E, h, w].
        long_valid: bool [(N,) 1, h, w], on an instance.
        ids: int64 [(N,) I], the instance ids of the map in ascending order; in a batch I are those of the fullest
            image, and rows past an image's own are 0.
        keypoints: float32 [(N,) I, P, 2], (x, y) in pixels, in the order of `ids`.
        stride: image pixels between nodes.
        graph: the keypoints and edges that were encoded.
    """

    heatmap: Any
    short_range: Any
    middle_range: Any
    long_range: Any
    heatmap_valid: Any
    short_valid: Any
    middle_valid: Any
    long_valid: Any
    ids: Any
    keypoints: Any
    stride: int
    graph: Graph


MAPS = (
    "heatmap",
    "short_range",
    "middle_range",
    "long_range",
    "heatmap_valid",
    "short_valid",
    "middle_valid",
    "long_valid",
)
"""The fields of `Targets` that have the nodes' grid."""


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


def check_positive(name: str, value: int) -> int:
    """Return an int of at least 1; TypeError or ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value
