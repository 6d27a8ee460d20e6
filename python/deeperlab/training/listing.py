# SPDX-License-Identifier: Apache-2.0
"""Which data sets a run is told to train and to validate on: one, or those that a TOML or JSON file lists."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data import labels as label_sets
from ..data.fields import Field
from .config import DataConfig

SCENES = "scenes"


@dataclass(frozen=True)
class Table:
    """One source as it is written down.

    Attributes:
        path: A folder, or `SCENES`.
        format: One of `deeperlab.data.folders.FORMATS`; empty: what the folder shows.
        split: As the folder calls it; empty: that to train or to validate on.
        weight: See `sources.Source`.
        labels: What the ids in the files mean: a preset or a file; empty: what the format says.
        options: Arguments of the reader, or of the scenes.
        required: Whether the split has to be there.
    """

    path: str
    format: str = ""
    split: str = ""
    weight: float = 1.0
    labels: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True

    @property
    def name(self) -> str:
        """For messages and figures."""
        return "/".join(filter(None, (Path(self.path).name, self.split)))


def read_tables(config: DataConfig) -> tuple[list[Table], list[Table], str]:
    """Return what to train on, what to validate on, and the label set of the network, empty where it follows.

    Raises:
        ValueError: there is no source.
        FormatError, OSError: the file that lists them is not what it should be, or cannot be read.
    """
    if not config.source:
        raise ValueError(f"data.source: expected {SCENES}, a folder, or a TOML file that lists folders, got nothing")
    path = Path(config.source).expanduser()
    if path.suffix.lower() not in (".toml", ".json"):
        options = config.scenes if config.source == SCENES else config.options
        one = Table(config.source, config.format, labels=config.labels, options=options)
        return [one], [replace(one, required=False)], config.labels
    root = Field.load(path)
    if isinstance(root.value, dict) and "annotations" in root.value:
        raise root.fault(
            "expected a list of data sets, got annotations; give the folder that they and photographs are in"
        )
    _check_keys(root, ("labels", "train", "val"))
    name = root.get("labels", str, default="")
    train = [_table(item, path.parent) for item in root.each("train")]
    listed = root.get("val", list, default=None) is not None
    val = [_table(item, path.parent) for item in root.each("val")] if listed else []
    if not train:
        raise root.fault("train: expected at least one table")
    if any(table.weight != 1 for table in val):
        raise root.fault("val: expected no weights: every image is validated on once")
    return train, val, config.labels or (_beside(path.parent, name) if name else "")


def _table(item: Field, directory: Path) -> Table:
    _check_keys(item, ("path", "format", "split", "weight", "labels", "options"))
    path, weight = item.get("path", str), float(item.get("weight", int, float, default=1.0))
    if not weight > 0:
        raise item.fault(f"weight: expected more than 0, got {weight:g}")
    labels = item.get("labels", str, default="")
    return Table(
        path if path == SCENES else str(directory / Path(path).expanduser()),
        item.get("format", str, default=""),
        item.get("split", str, default=""),
        weight,
        _beside(directory, labels) if labels else "",
        item.get("options", dict, default={}),
    )


def _beside(directory: Path, name: str) -> str:
    """A label set by its name, or a file beside the one that names it."""
    return name if name in label_sets.PRESETS else str(directory / Path(name).expanduser())


def _check_keys(item: Field, known: Sequence[str]) -> None:
    for key in item.value if isinstance(item.value, dict) else ():
        if key not in known:
            raise item.fault(f"unknown key {key!r}{name_nearest(key, known)}")


def name_nearest(name: str, known: Sequence[str]) -> str:
    """Say which name was meant by one that is unknown, to follow it; where none is near, all."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; {near[0]}?" if near else f"; known are {', '.join(known)}"
