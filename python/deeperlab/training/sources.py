# SPDX-License-Identifier: Apache-2.0
"""What is trained and validated on: drawn scenes, a folder of a known format, or a file that lists several of them."""

from __future__ import annotations

import importlib
import inspect
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import labels as label_sets
from ..data.containers import exists
from ..data.files import FormatError
from ..data.folders import find_layout
from ..data.formats.segments import list_names
from ..data.labels import LabelSet
from ..data.layouts import Layout, canonical
from ..data.sample import Sample, Samples, translate_classes
from .chosen import chained
from .config import DataConfig
from .drawn import DrawnSamples, drawn_scenes
from .listing import SCENES, Table, name_nearest, read_tables

_NAMED = ("segments", "instances")
"""Formats whose files name the classes."""
_UNNAMED = ("pairs", "two_channel", "label_map")
"""Formats that have neither names nor a label set of their own."""


@dataclass(frozen=True)
class Source:
    """A data set, or a part of one.

    Attributes:
        name: For messages and figures; no two of a run have the same.
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
    train, val, name = read_tables(config)
    target = label_sets.find(name) if name else None
    opened: list[Source] = []
    named: Counter[str] = Counter()
    for table in train:
        samples = _open(table, "train", target)
        assert samples is not None
        target = target or samples.labels
        named[table.name] += 1
        number = f" #{named[table.name]}" if named[table.name] > 1 else ""
        opened.append(Source(table.name + number, _as(samples, target, table.path), table.weight))
    assert target is not None
    if config.fold:
        parts = [_split(source, config.fold) for source in opened]
        return Sources(target, tuple(kept for kept, _ in parts), _joined([left for _, left in parts]))
    held = [(_open(table, "val", target), table.path) for table in val]
    return Sources(target, tuple(opened), _joined([_as(part, target, path) for part, path in held if part]))


def _open(table: Table, split: str, target: LabelSet | None) -> Samples | DrawnSamples | None:
    """Open one source; None where a split is not there and need not be."""
    if table.path == SCENES:
        train, val = drawn_scenes(table.options)
        return train if split == "train" else val
    root = Path(table.path).expanduser()
    layout = find_layout(root, table.format)
    name = table.split or _split_of(root, layout, split, required=table.required)
    if not name:
        return None
    if name not in layout.splits:
        raise FormatError(root, f"split: expected one of {', '.join(layout.splits)}, got {name!r}")
    _check_options(table, layout, root)
    try:
        samples = layout.splits[name](labels=_reading_labels(table, layout, root, target), **table.options)
    except TypeError as fault:
        raise FormatError(root, f"options of {layout.format}: {fault}") from fault
    if not samples.entries:
        raise FormatError(root, f"no annotated image in {name}")
    if samples.entries[0].image_path is None:
        raise FormatError(root, f"annotations such as {samples.entries[0].path}, but no folder of photographs")
    return samples


def _check_options(table: Table, layout: Layout, root: Path) -> None:
    """Refuse arguments that the reader does not take, and miss those that it needs."""
    reader = importlib.import_module(f"..data.formats.{layout.format}", __package__).samples
    arguments = inspect.signature(reader).parameters.values()
    known = {a.name: a for a in arguments if a.kind is a.KEYWORD_ONLY and a.name != "labels"}
    for name in table.options:
        if name not in known:
            raise FormatError(root, f"options of {layout.format}: unknown {name!r}{name_nearest(name, list(known))}")
    if missing := [a.name for a in known.values() if a.default is a.empty and a.name not in table.options]:
        fault = f"{layout.format} does not say its {missing[0]}; give data.options.{missing[0]}, or options in a list"
        raise FormatError(root, fault)


def _split_of(root: Path, layout: Layout, wanted: str, *, required: bool) -> str:
    """What the folder calls the split that is wanted; empty where there is none and none is required."""
    found = [name for name in layout.splits if canonical(name) == wanted]
    if len(found) == 1:
        return found[0]
    if not found and not required:
        return ""
    if not found and len(layout.splits) == 1 and wanted == "train":
        return next(iter(layout.splits))
    fault = f"{'several splits' if found else 'no split'} to {wanted} with among {', '.join(layout.splits)}"
    raise FormatError(root, f"{fault}; name one with split, in a file that lists the folder")


def _reading_labels(table: Table, layout: Layout, root: Path, target: LabelSet | None) -> LabelSet | None:
    """What the ids in the files mean; None: what the format says."""
    if layout.format in _NAMED:
        return target
    if table.labels in label_sets.PRESETS and layout.format in label_sets.PRESETS:
        return None  # where the preset is that of another data set, names decide
    if table.labels:
        return label_sets.find(table.labels)
    if layout.format not in _UNNAMED:
        return None
    for name in (label_sets.LABELS, "labels.toml"):
        if exists(root / name):
            return label_sets.read(root / name)
    fault = f"{layout.format} does not say what the classes are; give labels (data.labels), or put labels.json there"
    raise FormatError(root, fault)


def _as(samples: Samples | DrawnSamples, target: LabelSet, where: str) -> Samples | DrawnSamples:
    """The same samples with the classes of the network, which have the same names."""
    own = samples.labels
    if (own.names, own.isthing) == (target.names, target.isthing):
        return replace(samples, labels=target)
    class_of = target.class_of_name
    for category_id, name, thing in zip(own.ids, own.names, own.isthing, strict=True):
        if name not in class_of or thing != target.isthing[class_of[name]]:
            fault = "is not in" if name not in class_of else f"is {'a thing' if thing else 'stuff'}, but not so in"
            lists = f"{target.name} has {list_names(target.names)}; {own.name} has {list_names(own.names)}"
            raise FormatError(where, f"category {category_id} ({name}) {fault} {target.name}; {lists}")
    table = tuple(class_of[name] for name in own.names)
    if isinstance(samples, DrawnSamples):
        return replace(samples, labels=target, table=table)
    return translate_classes(samples, target, table)


def _joined(parts: Sequence[Samples | DrawnSamples]) -> Source | None:
    """One source of all that is validated on."""
    if len(parts) < 2:
        return Source("val", parts[0]) if parts else None
    return Source("val", chained(parts))


def _split(source: Source, fold: str) -> tuple[Source, Samples]:
    """What stays to train on, and part i of k."""
    try:
        i, k = map(int, fold.split("/"))
    except ValueError:
        i, k = 0, 0
    if not 1 <= i <= k or k < 2:
        raise ValueError(f"data.fold: expected i/k, such as 1/5, with 1 <= i <= k and k >= 2, got {fold!r}")
    if not isinstance(source.samples, Samples):
        raise ValueError(f"data.fold: {SCENES} have no folds; count_val scenes are validated on")
    parts: tuple[list[Any], list[Any]] = [], []
    for entry in source.samples.entries:
        parts[zlib.crc32(str(entry.image_id).encode()) % k == i - 1].append(entry)
    if not all(parts):
        raise ValueError(f"data.fold: {source.name} has {len(source.samples.entries)} images, too few for {fold}")
    kept, left_out = (Samples(source.samples.labels, tuple(part)) for part in parts)
    return replace(source, samples=kept), left_out
