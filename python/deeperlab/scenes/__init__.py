# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes with panoptic ground truth, and noise for heads: to train and to test on."""

from __future__ import annotations

from .noise import perturb
from .scene import Scene, draw

__all__ = ["Scene", "draw", "perturb"]
