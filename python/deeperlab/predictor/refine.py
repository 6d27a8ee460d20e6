# SPDX-License-Identifier: Apache-2.0
"""The semantic head made to follow the image, before the fusion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..crf import CRFParams, crf
from ..heads import Heads


def refined(heads: Heads, image: Any, params: CRFParams) -> Heads:
    """Return heads of one image whose semantic head are labels [H', W'], the classes that `crf` finds.

    Args:
        heads: without batch dimension.
        image: [H', W', 3] as the network saw it, uint8 or colors 0 … 255; a tensor on any device, or an array as the
            heads are.
        params: of the CRF.
    """
    semantic, colors = heads.semantic, _bytes_of(image)
    if not isinstance(semantic, np.ndarray):
        colors = colors.to(semantic.device)
    label = crf(semantic, colors, params, stride=heads.stride).argmax(0)
    narrow = label.astype(np.int32) if isinstance(label, np.ndarray) else label.int()
    return replace(heads, semantic=narrow, num_classes=heads.classes)


def _bytes_of(image: Any) -> Any:
    """Colors as uint8."""
    if "uint8" in str(image.dtype):
        return image
    whole = image.round().clip(0, 255)
    return whole.astype(np.uint8) if isinstance(whole, np.ndarray) else whole.byte()
