# SPDX-License-Identifier: Apache-2.0
"""What is trained and validated on: drawn scenes, a folder of a known format, or a file that lists several of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import labels as label_sets
from ..data.files import FormatError
from ..data.folders import find_layout
from ..data.labels import LabelSet
from ..data.layouts import Layout, canonical
from ..data.sample import Sample, Samples
from .config import DataConfig
from .drawn import drawn_scenes

SCENES = "scenes"


@dataclass(frozen=True)
class Source:
    """A data set, or a part of one.

    Attributes:
        name: For messages and figures.
        samples: Can be pickled.
        weight: How often it is drawn from, relative to the others; not how many samples it has.
    """

    name: str
    samples: Sequence[Sample]
    weight: float = 1.0


@dataclass(frozen=True)
class Sources:
    """All of a run.

    Attributes:
        labels: The classes of the network, which those of every source are.
        train: At least one.
        val: None where there is nothing to validate on.
    """

    labels: LabelSet
    train: tuple[Source, ...]
    val: Source | None


def open_sources(config: DataConfig) -> Sources:
    """Open what `config.source` names; photographs and annotations are read when they are asked for.

    Raises:
        ValueError: an option that is unknown or out of bounds.
        FormatError: a folder of no known format, or of several; a file that is not what it should be; classes that
            disagree with the label set.
        OSError: a file or a folder cannot be read.
    """
    if config.source == SCENES:
        train, val = drawn_scenes(config.scenes)
        return Sources(train.labels, (Source(SCENES, train),), None if val is None else Source(SCENES, val))
    root = Path(config.source)
    if not config.source:
        raise ValueError(f"data.source: expected {SCENES}, a folder, or a TOML file that lists folders, got nothing")
    labels = label_sets.find(config.labels) if config.labels else None
    layout = find_layout(root)
    samples = _open(root, layout, _split_of(root, layout, "train"), labels)
    name = _split_of(root, layout, "val", required=False)
    held = Source(f"{root.name}/{name}", _open(root, layout, name, samples.labels)) if name else None
    return Sources(samples.labels, (Source(root.name, samples),), held)


def _split_of(root: Path, layout: Layout, wanted: str, *, required: bool = True) -> str:
    """What the folder calls the split that is wanted; empty where there is none and none is required."""
    found = [name for name in layout.splits if canonical(name) == wanted]
    if len(found) == 1:
        return found[0]
    if not found and not required:
        return ""
    if not found and len(layout.splits) == 1:
        return next(iter(layout.splits))
    fault = f"{'several splits' if found else 'no split'} to {wanted} with among {', '.join(layout.splits)}"
    raise FormatError(root, f"{fault}; name one with split, in a file that lists the folder")


def _open(root: Path, layout: Layout, split: str, labels: LabelSet | None) -> Samples:
    samples = layout.splits[split](labels=labels)
    if not samples.entries:
        raise FormatError(root, f"no annotated image in {split or 'it'}")
    if samples.entries[0].image_path is None:
        raise FormatError(root, f"annotations of {os.fspath(samples.entries[0].path)}, but no folder of photographs")
    return samples
