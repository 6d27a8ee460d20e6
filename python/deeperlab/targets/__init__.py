# SPDX-License-Identifier: Apache-2.0
"""Panoptic ground truth to target maps, and to the heads that a perfect network would emit (section 3.3).

Plain NumPy: no torch, no compiled module.
"""

from __future__ import annotations

from .encoder import encode, keypoints
from .perfect_heads import HEATMAP_LOGIT, encode_heads
from .placement import KEYPOINTS, Masks, locate
from .target_maps import Targets

__all__ = ["HEATMAP_LOGIT", "KEYPOINTS", "Masks", "Targets", "encode", "encode_heads", "keypoints", "locate"]
