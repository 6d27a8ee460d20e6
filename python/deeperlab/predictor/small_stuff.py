# SPDX-License-Identifier: Apache-2.0
"""Stuff of a few pixels made void: as segments they count as much as a whole sky, and are seldom right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..panoptic import Panoptic


def without_small_stuff(found: Panoptic, share: float) -> Panoptic:
    """Make void, class −1, the pixels of every class of stuff that has less than a share of its image.

    Args:
        found: one or several images, tensors.
        share: 0 … 1; 0 leaves everything.
    """
    if not share:
        return found
    import torch

    semantic, area = found.semantic, found.class_area
    height, width = found.size
    is_stuff = torch.ones(area.shape[-1], dtype=torch.bool, device=area.device)
    is_stuff[list(found.things)] = False
    small = (area < share * height * width) & is_stuff
    classes = semantic.flatten(-2).clamp(min=0).long()
    gone: Any = small.gather(-1, classes).view_as(semantic) & (semantic >= 0)
    return replace(found, semantic=semantic.masked_fill(gone, -1), class_area=area.masked_fill(small, 0))
