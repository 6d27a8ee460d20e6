# SPDX-License-Identifier: Apache-2.0
"""Images to panoptic maps: `Parser` for one or a few, without torch `OnnxParser`, top-down `MaskRCNNParser`; `BatchJob`
for folders and videos."""

from __future__ import annotations

from .base import BaseParser, Parsed
from .batch import BatchJob
from .heads_parser import params_of
from .mask_rcnn import MaskRCNNParser
from .onnx_network import OnnxNetwork
from .onnx_parser import OnnxParser
from .parser import Parser
from .request import MODEL_FILES, describe_request, recall_settings
from .resize import nearest_pixel
from .settings import describe as describe_settings
from .small_stuff import without_small_stuff
from .sources import find_sources, list_suffixes
from .tiles import Average, Tile, Window, sliding, take_window, tiles

__all__ = [
    "MODEL_FILES",
    "Average",
    "BaseParser",
    "BatchJob",
    "MaskRCNNParser",
    "OnnxNetwork",
    "OnnxParser",
    "Parsed",
    "Parser",
    "Tile",
    "Window",
    "describe_request",
    "describe_settings",
    "find_sources",
    "list_suffixes",
    "nearest_pixel",
    "params_of",
    "recall_settings",
    "sliding",
    "take_window",
    "tiles",
    "without_small_stuff",
]
