# SPDX-License-Identifier: Apache-2.0
"""Images and maps at other sizes: the way to what the network sees, and the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..panoptic import Panoptic
from .arrays import arange, array, module_of, sums, take

if TYPE_CHECKING:
    import torch

STRIP = 1 << 17
"""Pixels that are floats at a time: they stay in the cache, and large images take no more memory than small ones."""


def scaled(
    image: torch.Tensor, size: tuple[int, int], mean: torch.Tensor, std: torch.Tensor, out: torch.Tensor
) -> None:
    """Bring an image to what a network wants: resized (bilinear, antialiased), less `mean`, over `std`.

    Args:
        image: uint8 [H, W, 3], or what `resized_image` gives, on any device.
        size: (h, w) px.
        mean, std: float32 [3], on the device of `out`.
        out: [h, w, 3], into which it is written.
    """
    image = resized_image(image, size, out.device)
    mean, std = (values.repeat(size[1]) for values in (mean, std))  # a row, for loops longer than three channels
    rows = max(1, STRIP // size[1])
    for top in range(0, size[0], rows):
        strip = image[top : top + rows].to(out.device).float().reshape(-1, 3 * size[1])
        out[top : top + rows] = strip.sub(mean).div_(std).reshape(-1, size[1], 3)


def resized_image(image: torch.Tensor, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Return an image [H, W, 3] itself where it has this size, else resized, float32 on a device.

    Every row is resized by strips, then every column, which is what torch does, with the same bits.
    """
    import torch
    from torch.nn.functional import interpolate

    (height, width), (h, w) = image.shape[:2], size
    if (height, width) == size:
        return image
    narrow = torch.empty((1, 3, height, w), device=device)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = image[top : top + rows].to(device).permute(2, 0, 1)[None].float()
        narrow[:, :, top : top + rows] = interpolate(strip, (strip.shape[2], w), mode="bilinear", antialias=True)
    return interpolate(narrow, (h, w), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def nearest_pixel(index: Any, old: int, new: int) -> Any:
    """Return in which of `old` pixels the centers of some of `new` ones lie: integers, of an array or of a tensor."""
    return (2 * index + 1) * old // (2 * new)


def scaled_array(
    image: NDArray[Any], size: tuple[int, int], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Do with arrays and Pillow what `scaled` does with tensors, but for the rounding of its weights: [h, w, 3]."""
    scaled: NDArray[np.float32] = (resized_array(image, size) - mean) / std
    return scaled


def resized_array(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Do likewise what `resized_image` does: uint8 [H, W, 3] itself, or float32."""
    if size == image.shape[:2]:
        return image
    from PIL import Image

    colors = (color.convert("F") for color in Image.fromarray(image).split())  # Pillow rounds colors, but not floats
    return np.stack([np.asarray(color.resize(size[::-1], Image.Resampling.BILINEAR)) for color in colors], -1)


def resized(panoptic: Panoptic, size: tuple[int, int]) -> Panoptic:
    """A single image of tensors or arrays at another size (H, W) px: see `Parser`. The map itself, if it has that."""
    if panoptic.size == size:
        return panoptic
    (h, w), (height, width), like = panoptic.size, size, panoptic.semantic
    y, x = (nearest_pixel(arange(new, like), old, new) for old, new in ((h, height), (w, width)))
    semantic, instance = (take(take(field, x, 1), y, 0) for field in (panoptic.semantic, panoptic.instance))
    keypoints = (panoptic.keypoints + 0.5) * array([width / w, height / h], panoptic.keypoints) - 0.5
    room = arange(len(panoptic.area), like) < panoptic.count
    module = module_of(like)
    # How many new pixels each old one becomes: counted there, a large image costs no more than a small one.
    copies = module.bincount(y, minlength=h)[:, None] * module.bincount(x, minlength=w)

    def count(index: Any, numbers: int) -> Any:
        return sums(index.ravel(), copies.ravel(), numbers + 1)[1:]

    loose = (panoptic.semantic + 1) * (panoptic.instance == 0)  # 0: void, or an instance
    area = count(panoptic.instance, len(room))
    return replace(
        panoptic,
        semantic=semantic,
        instance=instance,
        keypoints=module.where(room[:, None, None], keypoints, 0),
        category=module.where(area > 0, panoptic.category, -1),
        area=area,
        class_area=count(loose, len(panoptic.class_area)),
    )
