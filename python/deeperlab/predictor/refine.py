# SPDX-License-Identifier: Apache-2.0
"""The semantic head made to follow the image, before the fusion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..crf import CRFParams, crf
from ..heads import Heads
from .resize import bytes_of


def refined(heads: Heads, image: Any, size: tuple[int, int], params: CRFParams) -> Heads:
    """Return heads of one image whose semantic head are labels [H', W'], the classes that `crf` finds.

    Args:
        heads: without batch dimension.
        image: uint8 [H, W, 3], a tensor on any device or an array, as the heads are.
        size: (H', W') px as the network saw it.
        params: of the CRF.
    """
    semantic = heads.semantic
    if not isinstance(semantic, np.ndarray):
        semantic = semantic.cpu()  # where the CRF has its kernels
    label = crf(semantic, bytes_of(image, size, semantic), params, stride=heads.stride).argmax(0)
    narrow = label.astype(np.int32) if isinstance(label, np.ndarray) else label.int().to(heads.semantic.device)
    return replace(heads, semantic=narrow, num_classes=heads.classes)
