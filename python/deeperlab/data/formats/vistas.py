# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas v1.2 and v2.0: 16-bit instances, labels, panoptic files, and the configuration.

Folders as they are distributed: `<split>/images/*.jpg` and `<split>/<version>/{instances,labels,panoptic}/*.png` (in
v1.1 without the folder of the version), with `config_<version>.json` (v1.1: `config.json`) beside the splits. In
instances a value is label · 256 + instance, where the label is a place in the configuration's list, from 0; the
category ids of the panoptic JSON are that place + 1. All instances are told apart; there is no crowd.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._lookup import relabel
from ..containers import exists, is_dir, matching
from ..fields import Field
from ..files import FormatError, list_files
from ..labels import MAX_BYTES, RGB, LabelSet, bit_color, preset
from ..layouts import Layout
from ..photos import photo_beside
from ..sample import Regions, Samples, flat_folder, translate_ids
from .coco import Annotation
from .coco import read as read_panoptic
from .png import read_map
from .segments import from_dataset

SOURCES = ("instances", "labels", "panoptic")
VERSIONS = {"v1.2": "panoptic_2018.json", "v2.0": "panoptic_2020.json"}
FACTOR = 256
"""instances = label · FACTOR + instance."""


def samples(
    root: str | os.PathLike[str],
    split: str,
    *,
    version: str = "v1.2",
    source: str = "instances",
    labels: LabelSet | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of a split, which are read one by one; `image_id` is the name without its ending (`ids`).

    Args:
        root: the folder of the splits and of the configuration.
        split: `training` or `validation`.
        version: `v1.2` or `v2.0`.
        source: `instances`; `labels`, which tells no instances; or `panoptic`.
        labels: by default those of the configuration, or, where v1.2 has none, the preset of 65 classes.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: the folders are not as described, or a JSON is not what it should be.
        OSError: a folder or the configuration cannot be read.
        ValueError: an unknown version or source.
    """
    for name, value, known in (("version", version, tuple(VERSIONS)), ("source", source, SOURCES)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    root = Path(root)
    photos, base = root / split / "images", root / split / version
    if not is_dir(base) and version == "v1.2":
        base = root / split  # v1.1
    others = [other for other in VERSIONS if other != version and is_dir(root / split / other)]
    if others and not is_dir(base / source):
        raise FormatError(root / split, f"no {source} of {version}, but {others[0]}; give version={others[0]!r}")
    labels = labels or _labels(root, version)
    if source == "panoptic":
        path = base / source / VERSIONS[version]
        dataset = read_panoptic(path, base / source, max_pixels=max_pixels, follow_links=follow_links)
        return from_dataset(dataset, labels, partial(_photo, photos, follow_links))

    load = load_instances if source == "instances" else load_labels
    found = list_files(base / source, "*.png", "one PNG per image", follow_links=follow_links)
    load_one = partial(partial, load, labels=labels, max_pixels=max_pixels)
    return flat_folder(found, labels, photos, load_one, follow_links=follow_links)


def find(root: Path) -> Layout | None:
    """Find `<split>/<version>/instances` (v1.1: `<split>/instances`) with PNGs: v1.2 where there is more than one."""
    splits = {}
    for name in ("training", "validation", "train", "val"):
        for version, folder in (("v2.0", "v2.0/instances"), ("v1.2", "instances"), ("v1.2", "v1.2/instances")):
            if matching(root / name / folder, "*.png"):
                splits[name] = partial(samples, root, name, version=version)
    return Layout("vistas", splits) if splits else None


def read_config(path: str | os.PathLike[str]) -> LabelSet:
    """Read the labels of `config_v1.2.json` or `config_v2.0.json`: classes are those evaluated, the rest is void.

    Raises:
        FormatError: not JSON, a key is missing or of the wrong type, or no label is evaluated.
        OSError: the file cannot be read.
    """
    root = Field.load(path, max_bytes=MAX_BYTES)
    names: list[str] = []
    isthing: list[bool] = []
    colors: list[RGB] = []
    ids: list[int] = []
    void: list[int] = []
    for i, entry in enumerate(root.each("labels"), start=1):
        if not entry.flag("evaluate"):
            void.append(i)
            continue
        names.append(entry.get("readable", str))
        isthing.append(entry.flag("instances"))
        colors.append(entry.color("color") or bit_color(i))
        ids.append(i)
    if len(set(names)) < len(names):  # v2.0 is not bound to distinct readable names
        names = [entry.get("name", str) for entry in root.each("labels") if entry.flag("evaluate")]
    try:
        ignore = 65 if (len(ids), void) == (65, [66]) else 255
        return LabelSet(Path(path).stem, tuple(names), tuple(isthing), tuple(colors), tuple(ids), tuple(void), ignore)
    except ValueError as fault:
        raise root.fault(str(fault)) from fault


def load_instances(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one PNG of `instances`.

    Raises:
        FormatError: not a whole PNG of 16-bit gray, or a label that the configuration lacks.
        OSError: it cannot be read.
    """
    values = read_map(path, ("I;16",), max_pixels=max_pixels)
    index, present = relabel(values)
    label, identity = np.divmod(present, FACTOR)
    return Regions(index, _classes(path, labels, label), identity)


def load_labels(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one PNG of `labels`, a palette of 8 bits; all things are crowd.

    Raises:
        FormatError: not a whole PNG with a palette or of 8-bit gray, or a label that the configuration lacks.
        OSError: it cannot be read.
    """
    index, present = relabel(read_map(path, ("P", "L"), max_pixels=max_pixels))
    return Regions(index, _classes(path, labels, present), np.full(len(present), -1))


def _classes(path: Path, labels: LabelSet, label: NDArray[np.int64]) -> NDArray[np.int32]:
    return translate_ids(path, labels.to_classes, label + 1)


def _labels(root: Path, version: str) -> LabelSet:
    for name in (f"config_{version}.json", *(["config.json"] if version == "v1.2" else [])):
        if exists(root / name):
            return read_config(root / name)
    if version == "v1.2":
        return preset("vistas")
    raise FormatError(root, f"no config_{version}.json, whose labels {version} needs")


def _photo(directory: Path, follow_links: bool, annotation: Annotation) -> Path | None:
    return photo_beside(directory, f"{annotation.image_id}.jpg", follow_links=follow_links)
