# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper, and their parts."""

from __future__ import annotations

from .deeperlab import MODELS, DeeperLab, create, list_models
from .weights import WeightsError, load_backbone, load_weights

__all__ = ["MODELS", "DeeperLab", "WeightsError", "create", "list_models", "load_backbone", "load_weights"]
