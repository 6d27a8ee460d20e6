# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The networks of the paper, and their parts."""

from __future__ import annotations

from .._layout import require_torch

require_torch("deeperlab.models")

from .crf import CRF
from .deeperlab import MAX_IMAGE_SIZE, MODELS, DeeperLab, create, list_models
from .hub import find_folder
from .onnx_graph import export_onnx
from .receptive_field import ReceptiveField, receptive_field
from .weights import WeightsError, load_backbone, load_weights

__all__ = [
    "CRF",
    "MAX_IMAGE_SIZE",
    "MODELS",
    "DeeperLab",
    "ReceptiveField",
    "WeightsError",
    "create",
    "export_onnx",
    "find_folder",
    "list_models",
    "load_backbone",
    "load_weights",
    "receptive_field",
]
