# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The networks of the paper, and their parts."""

from __future__ import annotations

from .._layout import require_torch

require_torch("deeperlab.models")

from .deeperlab import MAX_IMAGE_SIZE, MODELS, DeeperLab, create, list_models
from .hub import WEIGHTS, find_folder
from .weights import WeightsError, load_backbone, load_weights

__all__ = [
    "MAX_IMAGE_SIZE",
    "MODELS",
    "WEIGHTS",
    "DeeperLab",
    "WeightsError",
    "create",
    "find_folder",
    "list_models",
    "load_backbone",
    "load_weights",
]
