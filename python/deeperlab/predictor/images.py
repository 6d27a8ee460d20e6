# SPDX-License-Identifier: Apache-2.0
"""What users call an image, as pixels."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .._layout import dtype_of
from ..data.formats.photo import rgb_of


def pixels_of(image: Any, name: str) -> Any:
    """uint8 [H, W, 3] with at least one pixel: a tensor as it is, else an array."""
    if hasattr(image, "convert"):
        image = _of_pillow(image, name)
    tensor = getattr(sys.modules.get("torch"), "Tensor", np.ndarray)
    if not isinstance(image, (np.ndarray, tensor)) or dtype_of(image) != "uint8":
        got = f"{type(image).__name__} of {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
        raise TypeError(f"{name}: expected a uint8 array or tensor, or a Pillow image, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = "; use .permute(1, 2, 0)" if image.ndim == 3 and image.shape[0] == 3 else ""
        raise ValueError(f"{name}: expected RGB [H, W, 3], got shape {list(image.shape)}{hint}")
    return image


def _of_pillow(image: Any, name: str) -> Any:
    """Upright, RGB."""
    if image.mode[0] in "IF":  # converted, they would be clipped to 255
        raise TypeError(f"{name}: expected a Pillow image of 8 bits a channel, got mode {image.mode}")
    try:
        return rgb_of(image, exif=True)
    except OSError as fault:
        raise ValueError(f"{name}: expected a Pillow image that can be read, got: {fault}") from fault
