# SPDX-License-Identifier: Apache-2.0
"""What was asked for, beside the settings that came of it: so a finished folder is known without the network."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.fields import MAX_LINE_BYTES, Field
from ..data.files import FormatError
from ..data.network_folder import CONFIG, WEIGHTS
from .results import REQUEST, STATE, earlier_settings

MODEL_FILES = (CONFIG, WEIGHTS)


def describe_request(
    files: Sequence[Path] | None, options: Mapping[str, Any], *, runtime: str = "torch"
) -> dict[str, Any] | None:
    """Describe a command in types of JSON; None where its settings cannot be told from that alone.

    Args:
        files: those that the network is made of, told apart by size and time of change; None: they are not known.
        options: all else that the settings depend on.
        runtime: the package that runs the network.
    """
    if files is None:
        return None
    versions = {}
    for package in ("deeperlab", runtime):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None
    try:
        found = [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except OSError:
        return None
    told: dict[str, Any] = json.loads(json.dumps({"files": found, "options": dict(options), "versions": versions}))
    return told


def recall_settings(out: Path, request: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the settings of the results in a folder if they came of the same request."""
    try:
        told = Field.load(out / STATE / REQUEST, max_bytes=MAX_LINE_BYTES).value if request else None
        settings = earlier_settings(out)
    except (OSError, FormatError):  # there are none, or a run tells what is wrong with them
        return None
    return settings if told == {"request": request, "settings": settings} else None
