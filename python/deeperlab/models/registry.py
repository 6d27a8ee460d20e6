# SPDX-License-Identifier: Apache-2.0
"""All networks by their names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from deeperlab.data.network_folder import CONFIG, read_config

from .deeperlab import MODELS, DeeperLab
from .ensemble import Ensemble
from .hub import find_folder
from .network import Network
from .system import System, options_of
from .systems import SYSTEMS


def list_models() -> list[str]:
    """Return the names that `create` takes: the paper's networks, then other systems."""
    return [*MODELS, *SYSTEMS]


def list_options(name: str) -> list[str]:
    """Return the names of the options that `create` takes for a network.

    Raises:
        ValueError: an unknown name.
    """
    _require_known(name)
    if name in MODELS:
        return [option for option in inspect.signature(DeeperLab).parameters if option not in _APART]
    return [*(option for option in inspect.signature(System).parameters if option not in _APART), *options_of(name)]


_APART = ("num_classes", "in_channels", "system", "options")
"""Arguments that are no options of `create`."""


def create(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> Network:
    """Make a network by its name, with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: C, the channels of the semantic head.
        in_channels: of the images; `Parser` and the command line read images of 3.
        options: as `list_options` names them: of `DeeperLab`, for the ablations of Tables 3, 4 and 6, and others; of
            `System`, where `graph="star"` gives any network the five heads, and of what makes its parts.

    Raises:
        ValueError: an unknown name or option, or a value out of range.
        TypeError: a value of another type.
    """
    known = list_options(name)
    for option in options.keys() - known:
        raise ValueError(f"options: expected some of {', '.join(known)}, got {option!r}")
    if name in MODELS:
        return DeeperLab(num_classes, in_channels=in_channels, **MODELS[name] | options)
    of_parts = {option: options.pop(option) for option in options_of(name) if option in options}
    return System(name, num_classes, in_channels=in_channels, options=of_parts, **options)


def from_pretrained(source: str | Path, **options: Any) -> Network:
    """Load the network of a folder that `save_pretrained` wrote, of whichever class it is.

    Args:
        source: a folder, a network of the package by its name, or OWNER/NAME on the Hugging Face hub.
        options: as of `Network.from_pretrained`.

    Raises:
        FormatError, TypeError, OSError, ImportError: as `Network.from_pretrained`.
    """
    of_hub = ("force_download", "token", "cache_dir", "local_files_only", "revision")
    folder = find_folder(source, **{name: options.pop(name) for name in of_hub if name in options})
    config = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    kind = System if "system" in config else Ensemble if "networks" in config else DeeperLab
    return kind.from_pretrained(folder, **options)


def _require_known(name: str) -> None:
    if name not in MODELS and name not in SYSTEMS:
        raise ValueError(f"name: expected one of {', '.join(list_models())}, got {name!r}")
