# SPDX-License-Identifier: Apache-2.0
"""A map at another size: the way back from the size that the network saw."""

from __future__ import annotations

from dataclasses import replace

from ..panoptic import Panoptic


def resized(panoptic: Panoptic, size: tuple[int, int]) -> Panoptic:
    """A single image of tensors at another size (H, W) px: see `Parser`. The map itself where it has that size."""
    import torch

    if panoptic.size == size:
        return panoptic
    (h, w), (height, width) = panoptic.size, size
    device = panoptic.semantic.device
    y, x = (
        ((2 * torch.arange(new, device=device) + 1) * old).div(2 * new, rounding_mode="floor")
        for old, new in ((h, height), (w, width))
    )  # the old pixel in which the center of the new one lies, by integers
    semantic, instance = (a[y[:, None], x] for a in (panoptic.semantic, panoptic.instance))
    scale = panoptic.keypoints.new_tensor([width / w, height / h])
    keypoints = (panoptic.keypoints + 0.5) * scale - 0.5
    room = torch.arange(len(panoptic.area), device=device) < panoptic.count
    area = torch.bincount(instance.flatten(), minlength=len(room) + 1)[1:].int()
    loose = (semantic + 1) * (instance == 0)  # 0: void, or an instance
    class_area = torch.bincount(loose.flatten(), minlength=len(panoptic.class_area) + 1)[1:].int()
    return replace(
        panoptic,
        semantic=semantic,
        instance=instance,
        keypoints=torch.where(room[:, None, None], keypoints, 0),
        category=torch.where(area > 0, panoptic.category, -1),
        area=area,
        class_area=class_area,
    )
