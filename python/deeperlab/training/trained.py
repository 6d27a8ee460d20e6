# SPDX-License-Identifier: Apache-2.0
"""The options of a run that goes on from a trained network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import shipped
from ..data.fields import Field
from ..data.network_folder import CONFIG
from .config_file import NAME, Layer


def of_network(source: str | os.PathLike[str]) -> Layer:
    """Options of a run that goes on from a trained network: the same network, images of the size that it knows.

    Args:
        source: a folder of `save_pretrained`, or a network of the package by its name.

    Raises:
        FileNotFoundError: there is none.
        FormatError: its config.json is damaged.
    """
    folder = shipped.path_of(source)
    if not (folder / CONFIG).is_file():
        names = ", ".join(shipped.NAMES)
        raise FileNotFoundError(f"--from: expected a folder with {CONFIG}, or {names}, got {os.fspath(source)!r}")
    root = Field.load(folder / CONFIG)
    if "networks" in root.value:
        raise root.fault("expected one network, got an ensemble of several; train its parts")
    apart = ("num_classes", "in_channels", "radius", "system", "options")
    made = {name: value for name, value in root.value.items() if name not in apart}
    found = {"model.weights": os.fspath(source), "data.radius": root.get("radius", float)}
    found |= {"data.longest_side": root.get("image_size", int)}
    found |= {NAME: root.get("system", str, default="") or _name_of(made)}
    made |= root.get("options", dict, default={})
    return Layer(
        "--from", found | {f"model.options.{name}": value for name, value in made.items() if value is not None}
    )


def _name_of(made: Mapping[str, Any]) -> str:
    """Return the one of the paper's networks that agrees most with these options, which say all of a network."""
    from ..models import MODELS

    def likeness(name: str) -> tuple[bool, int]:
        agree = [made.get(option) == value for option, value in MODELS[name].items()]
        return made.get("backbone") == MODELS[name]["backbone"], 2 * sum(agree) - len(agree)

    return max(MODELS, key=likeness)
