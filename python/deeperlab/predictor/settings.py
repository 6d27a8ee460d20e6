# SPDX-License-Identifier: Apache-2.0
"""What makes the results of a folder, as the `info` of its JSON tells: those of different settings are not mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .._layout import dtype_of, shape_of

if TYPE_CHECKING:
    from .base import BaseParser


def describe(
    model: Any, parser: BaseParser, *, trained: bool, exif: bool = True, overlay: str = "jpeg"
) -> dict[str, Any]:
    """Describe everything that decides what a picture becomes, in types of JSON.

    Args:
        model: the network as it was loaded, before its batch norms were folded.
        parser: what parses with it.
        trained: whether its weights are.
        exif: whether photographs are turned as EXIF says.
        overlay: the pictures to look at: "jpeg", "png" or "none".
    """
    from .. import __version__

    labels = json.dumps({key: value for key, value in asdict(parser.labels).items() if key != "name"}, sort_keys=True)
    settings: dict[str, Any] = {
        "description": "deeperlab predict",
        "version": __version__,
        "model": model.config,
        "weights": digest(model),
        "trained": trained,
        "labels": parser.labels.name,
        "labels_sha256": hashlib.sha256(labels.encode()).hexdigest(),
        "exif": exif,
        "overlay": overlay,
        "runtime": parser.runtime,
        **parser.settings(),
    }
    settings |= {} if trained else {"warning": "random weights: the results mean nothing"}
    as_json: dict[str, Any] = json.loads(json.dumps(settings))  # tuples are lists there
    return as_json


def digest(model: Any) -> str:
    """SHA-256 of all parameters and buffers of a network, with their names: which weights it has."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} torch.{dtype_of(tensor)} {shape_of(tensor)}\n".encode())
        sha.update(_bytes_of(tensor))
    return sha.hexdigest()


def _bytes_of(tensor: Any) -> Any:
    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor)
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name the first setting that is not the same, options of model and fusion by themselves."""
    for key in {**now, **earlier}:
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if inner := difference(a, b):
                return f"{key}'s {inner}"
        elif a != b:
            return f"{key} {a!r}, not {b!r}"
    return None
