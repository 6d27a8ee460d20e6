# SPDX-License-Identifier: Apache-2.0
"""The files of a folder that holds a network, as `save_pretrained` writes them; they can be read without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from .fields import Field
from .tensor_file import Header

CONFIG, WEIGHTS, GRAPH = "config.json", "model.safetensors", "model.onnx"
MAX_CONFIG_BYTES = 1 << 20
NOT_IN_GRAPH = ("bn_momentum", "image_size", "radius", "fusion", "stuff_area")
"""Keys of a config that no output of the network depends on: `deeperlab tune` changes some."""
EDITION = 1
"""Of the form of model.onnx: another one makes the old files be made anew."""


def read_config(path: Path) -> dict[str, Any]:
    """Read the arguments that make a network.

    Raises:
        FormatError: no JSON, or none that `save_pretrained` wrote.
        OSError: it cannot be read.
    """
    root = Field.load(path, max_bytes=MAX_CONFIG_BYTES)
    if isinstance(root.value, Mapping) and "num_classes" not in root.value and "model_type" in root.value:
        raise root.fault(f"a model of transformers ({root.value['model_type']}), not one that save_pretrained wrote")
    root.get("num_classes", int)
    return dict(root.value)


def graph_key(config: Mapping[str, Any], weights: Header) -> str:
    """Return what model.onnx holds if it is of this config, and of tensors that lie where these do."""
    of_graph = {key: value for key, value in config.items() if key not in NOT_IN_GRAPH}
    places = {name: astuple(place) for name, place in weights.places.items()}
    told = json.dumps([EDITION, of_graph, places], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
