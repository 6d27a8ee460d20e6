# SPDX-License-Identifier: Apache-2.0
"""What a network is trained towards (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph

Float = NDArray[np.float32]
Integer = NDArray[np.int64]
Bool = NDArray[np.bool_]


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
