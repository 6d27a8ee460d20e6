# SPDX-License-Identifier: Apache-2.0
"""ADE20K: the 150 classes of its challenge, and the full data set with its three thousand.

The challenge, as it is distributed below `ADEChallengeData2016`: `images/<split>/*.jpg`, `annotations/<split>/*.png`
(8 bits: 1 to 150, 0 = void) and, of the challenge of instances, `annotations_instance/<split>/*.png` (red: 1 to 100,
the thing classes in their order; green: the instance, 0 = none), which counts where both say something. Without it,
all things are crowd. The panoptic files that others make of these are `segments`.

The full data set has `<image>.jpg`, `<image>_seg.png` (class: red // 10 · 256 + green; instance: blue) and
`<image>.json`, which names the classes. A name is the class of the labels that has it or, of names that no class has,
the only one that has all its synonyms: `door` is `door, double door`. All others are void. Parts are left alone.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import relabel
from ..containers import exists, is_dir, matching
from ..fields import Field
from ..files import FormatError, inside, list_files, read_bytes
from ..ids import ids_of
from ..labels import LabelSet, preset
from ..layouts import Layout
from ..photos import photo_beside
from ..sample import Entry, Regions, Samples, flat_folder, translate_ids
from .png import read_ids, read_map

MAX_BYTES = 1 << 26
"""Of the JSON of one image."""
_DEPTHS = ("*", "*/*", "*/*/*")
"""Of the files of the full data set, which lie in folders of scenes."""


def samples(
    root: str | os.PathLike[str],
    split: str,
    *,
    labels: LabelSet | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of the challenge, which are read one by one; `image_id` is the name without its ending.

    Args:
        root: the folder of `images` and `annotations`.
        split: `training` or `validation`; empty: the files are in these folders themselves.
        labels: by default the preset of 150 classes.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: the folders are not as described.
        OSError: a folder cannot be read.
    """
    root, labels = Path(root), labels or preset("ade20k")
    found = list_files(root / "annotations" / split, "*.png", "one PNG per image", follow_links=follow_links)
    things = root / "annotations_instance" / split if is_dir(root / "annotations_instance") else None
    if things is not None:
        for path in found:
            inside(things, path.name, follow_links=follow_links)
    load_one = partial(partial, load, things, labels=labels, max_pixels=max_pixels)
    return flat_folder(found, labels, root / "images" / split, load_one, follow_links=follow_links)


def full(
    directory: str | os.PathLike[str],
    *,
    labels: LabelSet | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of the full data set, which are read one by one; `image_id` is the name without its ending.

    Args:
        directory: that of a split, such as `images/ADE/training`, or of a scene.
        labels: by default the preset of 150 classes.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folder lead to.

    Raises:
        FormatError: no `*_seg.png`.
        OSError: the folder cannot be read.
    """
    directory, labels = Path(directory), labels or preset("ade20k")
    pattern = next((f"{depth}_seg.png" for depth in _DEPTHS if matching(directory, f"{depth}_seg.png")), "*_seg.png")
    found = list_files(directory, pattern, "<image>_seg.png", follow_links=follow_links)
    names = [path.name.removesuffix("_seg.png") for path in found]
    entries = []
    for image_id, name, path in zip(ids_of(names, directory), names, found, strict=True):
        described = inside(path.parent, f"{name}.json", follow_links=follow_links)
        photo = photo_beside(path.parent, f"{name}.jpg", follow_links=follow_links)
        entries.append(Entry(image_id, photo, path, partial(load_full, path, described, labels, max_pixels)))
    return Samples(labels, tuple(entries))


def find(root: Path) -> Layout | None:
    """Find `annotations/<split>/ADE_*.png`, or `images/ADE/<split>` (or `<split>`) with `*_seg.png`."""
    splits: dict[str, partial[Samples]] = {}
    for name in ("training", "validation", ""):
        if matching(root / "annotations" / name, "ADE_*.png") and (name or not splits):
            splits[name or "train"] = partial(samples, root, name)
    for name in () if splits else ("training", "validation", ""):
        for base in (root / "images" / "ADE" / name, root / "images" / name, root / name):
            if any(matching(base, f"{depth}_seg.png") for depth in _DEPTHS) and (name or not splits):
                splits[name or "train"] = partial(full, base)
                break
    return Layout("ade20k", splits) if splits else None


def load(things: Path | None, path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read the PNG of classes, and that of its name in the folder `things`.

    Raises:
        FormatError: not whole PNGs of 8-bit gray and of RGB, of two sizes, or a class that there is not.
        OSError: a file cannot be read.
    """
    semantic = read_map(path, ("L", "P"), max_pixels=max_pixels)
    if things is None:
        index, present = relabel(semantic)
        return Regions(index, translate_ids(path, labels.to_classes, present), np.full(len(present), -1))
    ids = read_ids(things / path.name, max_pixels=max_pixels)
    if ids.shape != semantic.shape:
        (h, w), (height, width) = semantic.shape, ids.shape
        raise FormatError(things / path.name, f"expected {h} × {w} px as {path}, got {height} × {width}")
    index, present = relabel((ids & 0xFFFF) + (semantic.astype(np.int32) << 16))
    kind, instance = present & 0xFF, present >> 8 & 0xFF
    category = translate_ids(path, labels.to_classes, present >> 16)
    told = instance > 0
    if told.any() and not 1 <= int(kind[told].min()) <= int(kind[told].max()) <= len(labels.things):
        fault = f"red: expected 1 to {len(labels.things)}, the things of {labels.name}, got {kind[told].tolist()}"
        raise FormatError(things / path.name, fault)
    category[told] = np.array(labels.things, np.int32)[kind[told] - 1]
    return Regions(index, category, np.where(told, instance, -1))


def load_full(path: Path, described: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read `*_seg.png` and the JSON that names its classes.

    Raises:
        FormatError: not a whole PNG of RGB, or a JSON that is not what it should be.
        OSError: a file cannot be read.
    """
    index, present = relabel(read_ids(path, max_pixels=max_pixels))
    number = (present & 0xFF) // 10 * 256 + (present >> 8 & 0xFF)
    class_of = _classes(described, labels)
    category = np.array([class_of.get(one, -1) for one in number.tolist()], np.int32)
    return Regions(index, category, present >> 16)


def _classes(path: Path, labels: LabelSet) -> dict[int, int]:
    """Which class the numbers of an image are."""
    if not exists(path):
        raise FormatError(path, "no such file, which names the classes of the PNG; releases before 2021 have none")
    try:
        # Latin-1, as some of the files are; names of classes are ASCII, which is the same in UTF-8.
        value = json.loads(read_bytes(path, MAX_BYTES, "JSON").decode("latin-1"))
    except (ValueError, RecursionError) as fault:
        raise fault if isinstance(fault, FormatError) else FormatError(path, f"not JSON: {fault}") from fault
    synonyms = [_synonyms(name) for name in labels.names]
    found: dict[int, int] = {}
    for item in Field(path, "", value).child("annotation").each("object"):
        name = _synonyms(item.get("name", str))
        fitting = [c for c, known in enumerate(synonyms) if name == known]
        fitting = fitting or [c for c, known in enumerate(synonyms) if name <= known]
        if len(fitting) == 1:
            found[item.get("name_ndx", int)] = fitting[0]
    return found


def _synonyms(name: str) -> frozenset[str]:
    return frozenset(part.strip() for part in name.split(","))
