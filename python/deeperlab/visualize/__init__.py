# SPDX-License-Identifier: Apache-2.0
"""Panoptic maps as pictures: segments with their names, and instances with their keypoints."""

from __future__ import annotations

from .colors import palette
from .comparison import comparison
from .confusion import confusion
from .detections import to_supervision
from .instances import instances
from .lettering import stamp
from .segments import overlay

__all__ = ["comparison", "confusion", "instances", "overlay", "palette", "stamp", "to_supervision"]
