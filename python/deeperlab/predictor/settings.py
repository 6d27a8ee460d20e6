# SPDX-License-Identifier: Apache-2.0
"""What made the results of a folder, as the `info` of its JSON tells: results of different makers are not mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..data.labels import LabelSet
from ..params import FuseParams
from .folder import MARK

if TYPE_CHECKING:
    from .parser import Parser

UNTRAINED = "random weights: the results mean nothing"


def info(model: Any, parser: Parser, *, trained: bool) -> dict[str, Any]:
    """Everything that decides what a picture becomes.

    Args:
        model: the network as it was loaded, before its batch norms were folded.
        parser: what parses with it.
        trained: whether its weights are.
    """
    from .. import __version__

    made: dict[str, Any] = {
        "description": MARK,
        "version": __version__,
        "model": model.config,
        "weights": digest(model),
        "trained": trained,
        "labels": parser.labels.name,
        "labels_sha256": digest_of_labels(parser.labels),
        "size": parser.size,
        "dtype": "float32" if parser.dtype is None else str(parser.dtype).removeprefix("torch."),
        "fusion": asdict(parser.params or FuseParams()),
    } | ({} if trained else {"warning": UNTRAINED})
    as_json: dict[str, Any] = json.loads(json.dumps(made))  # tuples are lists there
    return as_json


def digest(model: Any) -> str:
    """SHA-256 of all parameters and buffers of a network, with their names: which weights it has."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def digest_of_labels(labels: LabelSet) -> str:
    """SHA-256 of a label set: names, ids, things and colors, but for what the set itself is called."""
    values = {key: value for key, value in asdict(labels).items() if key != "name"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that is not the same, in words."""
    a, b = _flat(earlier), _flat(now)
    for key in (*b, *a):
        if a.get(key) != b.get(key):
            return f"{key} {a.get(key)!r}, not {b.get(key)!r}"
    return None


def _flat(info: Mapping[str, Any]) -> dict[str, Any]:
    """With the options of model and fusion by themselves: a name says more than two long lists."""
    flat: dict[str, Any] = {}
    for key, value in info.items():
        flat |= {f"{key}'s {name}": v for name, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat
