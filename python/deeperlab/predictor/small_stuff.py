# SPDX-License-Identifier: Apache-2.0
"""Stuff of a few pixels made void: as segments they count as much as a whole sky, and are seldom right."""

from __future__ import annotations

from dataclasses import replace

from ..panoptic import Panoptic
from .arrays import array, module_of, take_along


def without_small_stuff(found: Panoptic, share: float) -> Panoptic:
    """Make void, class −1, the pixels of every class of stuff that has less than a share of its image.

    Args:
        found: one or several images, tensors or arrays.
        share: 0 … 1; 0 leaves everything.
    """
    if not share:
        return found
    semantic, area = found.semantic, found.class_area
    height, width = found.size
    is_stuff = array([c not in found.things for c in range(area.shape[-1])], area) > 0
    small = (area < share * height * width) & is_stuff
    classes = semantic.clip(min=0).reshape(*semantic.shape[:-2], -1)
    gone = take_along(small, classes).reshape(semantic.shape) & (semantic >= 0)
    where = module_of(semantic).where
    return replace(found, semantic=where(gone, -1, semantic), class_area=where(small, 0, area))
