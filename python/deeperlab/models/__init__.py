# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The networks of the paper, and their parts."""

from __future__ import annotations

from .._layout import require_torch

require_torch("deeperlab.models")

from .contexts import SpatialPyramidPooling
from .crf import CRF
from .deeperlab import MODELS, DeeperLab
from .ensemble import Ensemble
from .facts import FACTS
from .hub import find_folder
from .mask_rcnn import load_mask_rcnn
from .measure import convolutions, multiply_adds, parameters
from .network import Network, Supervised
from .onnx_graph import export_onnx
from .proposals import ENLARGED, of_proposals
from .receptive_field import ReceptiveField, coarsest_stride, receptive_field
from .registry import create, from_pretrained, list_models, list_options
from .settings import MAX_IMAGE_SIZE
from .system import System
from .systems import SYSTEMS
from .weights import WeightsError, load_backbone, load_weights

__all__ = [
    "CRF",
    "ENLARGED",
    "FACTS",
    "MAX_IMAGE_SIZE",
    "MODELS",
    "SYSTEMS",
    "DeeperLab",
    "Ensemble",
    "Network",
    "ReceptiveField",
    "SpatialPyramidPooling",
    "Supervised",
    "System",
    "WeightsError",
    "coarsest_stride",
    "convolutions",
    "create",
    "export_onnx",
    "find_folder",
    "from_pretrained",
    "list_models",
    "list_options",
    "load_backbone",
    "load_mask_rcnn",
    "load_weights",
    "multiply_adds",
    "of_proposals",
    "parameters",
    "receptive_field",
]
