# SPDX-License-Identifier: Apache-2.0
"""Which data set a folder holds, told by the names of its files as data sets are distributed.

A zip or tar file is a folder, and so is a folder of such files that are shards of one data set.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .containers import is_dir, matching
from .files import FormatError
from .formats.mistaken import describe_folder
from .ids import ImageId
from .layouts import Layout, archives, canonical
from .sample import Entry, Samples

FORMATS = {
    "segments": "COCO panoptic: panoptic_<split>.json beside the folder panoptic_<split>, here or in annotations",
    "instances": "COCO instances: instances_<split>.json or instances.json, here or in annotations",
    "cityscapes": "Cityscapes: gtFine/<split>/<city>/*_gtFine_instanceIds.png and leftImg8bit",
    "vistas": "Mapillary Vistas: training/v1.2/instances/*.png and training/images",
    "voc": "PASCAL VOC: ImageSets/Segmentation/<split>.txt, SegmentationClass, SegmentationObject and JPEGImages",
    "ade20k": "ADE20K: annotations/<split>/ADE_*.png and images/<split>, or images/ADE/<split>/**/*_seg.png",
    "pairs": "WebDataset: <key>.png of segment ids, <key>.json with segments_info and <key>.jpg",
    "two_channel": "two-channel PNGs: <split>/*.png or annotations/<split>/*.png without blue, and images",
    "label_map": "label maps: <split>/*.npy or annotations/<split>/*.npy, and images",
}
"""The modules of the readers, and what their `find` looks for."""
_PIECES = ("segments", "instances", "cityscapes", "voc")
"""Formats that are distributed in several zip or tar files, which `find` takes beside the folder that they are in."""
_OF_MACOS = "__MACOSX"
"""What macOS adds to the archives that it makes."""
_SAID_BY = {"instances": {"segments"}}
"""What others say as well where both are there, as COCO's own folder has both: a panoptic file has all instances."""


def find_layouts(root: Path) -> list[Layout]:
    """Find every data set that a folder holds: what each reader's `find` says of it.

    Of a folder that holds nothing but one other folder, or one zip or tar file, that one counts. Several such files are
    parts of a data set or shards of it; they are opened where the folder holds no data set itself.
    """
    found = [layout for name in FORMATS if (layout := _finder(name)(root)) is not None]
    inner = [path for path in matching(root, "*") if path.name != _OF_MACOS]
    if not found and len(inner) == 1 and is_dir(inner[0]):
        return find_layouts(inner[0])
    if not found and archives(root):
        found = [layout for name in FORMATS if (layout := _find(name, root)) is not None]
    names = {layout.format for layout in found}
    found = [layout for layout in found if layout.format not in _SAID_BY or not names & _SAID_BY[layout.format]]
    return found


def find_layout(root: Path, name: str = "") -> Layout:
    """Find the data set that a folder holds.

    Args:
        root: the folder, or a zip or tar file.
        name: the format, one of `FORMATS`; empty: that which the folder shows.

    Raises:
        ValueError: an unknown format.
        FormatError: the folder holds nothing that is known, several, or another than `name`.
    """
    if name and name not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    if not is_dir(root):
        root.stat()
        raise FormatError(root, "expected a folder, a zip or tar file (of .tar.gz: gunzip it), or a TOML file")
    layouts = find_layouts(root)
    chosen = [layout for layout in layouts if name in ("", layout.format)]
    if name and not chosen and (layout := _find(name, root)) is not None:
        chosen = [layout]
    if len(chosen) == 1:
        return chosen[0]
    if not layouts:
        expected = FORMATS[name] if name else "one of these: " + "; ".join(FORMATS.values())
        raise FormatError(root, f"no data set{describe_folder(root)}; expected {expected}")
    listed = "; ".join(f"{layout.format} ({FORMATS[layout.format]})" for layout in layouts)
    if name:
        raise FormatError(root, f"expected {FORMATS[name]}; it looks like {listed}")
    raise FormatError(root, f"fits several formats: {listed}; say which with format (data.format)")


def _finder(name: str) -> Callable[..., Layout | None]:
    finder: Callable[..., Layout | None] = importlib.import_module(f".formats.{name}", __package__).find
    return finder


def _find(name: str, root: Path) -> Layout | None:
    """Find a data set in a folder; in the zip and tar files there, each of which is a part of it or a shard."""
    find, packed = _finder(name), archives(root)
    found = find(root)
    if found is not None or not packed:
        return found
    if name in _PIECES and (len(packed) == 1 or not all(map(find, packed))):
        found = find(root, *packed)
    return found or _find_in_shards(name, packed)


def _find_in_shards(name: str, packed: list[Path]) -> Layout | None:
    """Find a data set whose files are called after their split: `train-000.tar`, `coco-val-12.zip`."""
    if _finder(name)(packed[0]) is None:
        return None
    shards: dict[str, list[Path]] = {}
    for path in packed:
        words = [canonical(word) for word in re.split("[^a-z]+", path.stem.lower())]
        shards.setdefault(next((word for word in words if word in ("train", "val", "test")), "train"), []).append(path)
    return Layout(name, {split: partial(_join, name, paths) for split, paths in shards.items()})


def _join(name: str, paths: list[Path], **how: Any) -> Samples:
    """List the samples of all shards of a split."""
    entries: list[Entry] = []
    shard_of: dict[ImageId, Path] = {}
    samples = None
    for path in paths:
        layout = _finder(name)(path)
        if layout is None or len(layout.splits) != 1:
            raise FormatError(path, f"expected {FORMATS[name]}, as the other shards have it, and one split")
        samples = next(iter(layout.splits.values()))(**how)
        how["labels"] = samples.labels
        for entry in samples.entries:
            other = shard_of.setdefault(entry.image_id, path)
            if other != path:
                raise FormatError(path, f"image {entry.image_id!r} is in {other.name} as well")
        entries += samples.entries
    assert samples is not None
    return Samples(samples.labels, tuple(entries))
