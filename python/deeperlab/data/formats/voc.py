# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC: palette PNGs of `SegmentationClass` and `SegmentationObject`, void (the rim of objects) = 255.

Folders as they are distributed, below `VOCdevkit/VOC2012`: `ImageSets/Segmentation/<split>.txt` lists the names of
`SegmentationClass/<name>.png`, `SegmentationObject/<name>.png` and `JPEGImages/<name>.jpg` (or `.png`). Background is
class 0, the only stuff. The larger `train_aug` has SBD's annotations (`sbd`), or class maps alone.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import relabel
from ..containers import exists, is_dir, matching
from ..files import FormatError, inside, is_relative_name
from ..ids import ids_of
from ..labels import LabelSet, preset
from ..layouts import Layout
from ..missing import as_spelled
from ..photos import photo_beside
from ..sample import Entry, Regions, Samples, translate_ids
from ..text import read_text
from .png import read_map
from .sbd import find_folder, lists_in
from .sbd import load as load_sbd

CLASS, OBJECT = "SegmentationClass", "SegmentationObject"
TRAIN_AUG = "train_aug"
VOID = 255
MAX_BYTES = 1 << 24
"""Of a list of names; train_aug has 127 kB."""


def samples(
    root: str | os.PathLike[str],
    split: str,
    *,
    classes: str = CLASS,
    objects: str | None = OBJECT,
    sbd: str | os.PathLike[str] | None = None,
    labels: LabelSet | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of a split, which are read one by one; `image_id` is the name in the list.

    Args:
        root: `VOC2012`, or a folder that holds it as `VOCdevkit/VOC2012`.
        split: `train`, `val`, `trainval`, or another list of `ImageSets/Segmentation`; `train_aug` is, where there is
            no such list, all of SBD and VOC's `train` without VOC's `val`.
        classes: the folder of the class maps, e.g. `SegmentationClassAug`.
        objects: the folder of the object maps; None where there are none, and then all things are crowd.
        sbd: the folder of SBD's `inst`. Of an image without an object map, `SegmentationClassAug` and
            `SegmentationObjectAug` are read where both are there, and else SBD's file.
        labels: by default the preset of 21 classes, background among them.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: an empty or malformed list, or a name that leaves its folder.
        OSError: a folder or the list cannot be read, or a map of the list is missing.
    """
    root, labels = Path(root), labels or preset("voc")
    if is_dir(root / "VOCdevkit" / "VOC2012"):
        root = root / "VOCdevkit" / "VOC2012"
    entries = []
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if split == TRAIN_AUG and sbd is not None and not exists(listed):
        names = _augmented(root, Path(sbd))
    else:
        names = _names(listed)
    for image_id, name in zip(ids_of(names, listed), names, strict=True):
        path = as_spelled(root / classes, f"{name}.png", follow_links=follow_links)
        things = None if objects is None else as_spelled(root / objects, f"{name}.png", follow_links=follow_links)
        image = photo_beside(root / "JPEGImages", f"{name}.jpg", follow_links=follow_links)
        if things is not None and not exists(things):
            pair = [
                inside(root / f"{folder}Aug", f"{name}.png", follow_links=follow_links) for folder in (CLASS, OBJECT)
            ]
            if all(map(exists, pair)):
                path, things = pair
            elif sbd is not None:
                path = inside(Path(sbd) / "inst", f"{name}.mat", follow_links=follow_links)
                if image is None or not exists(image):
                    image = photo_beside(Path(sbd) / "img", f"{name}.jpg", follow_links=follow_links)
                entries.append(Entry(image_id, image, path, partial(load_sbd, path, labels, max_pixels)))
                continue
        entries.append(Entry(image_id, image, path, partial(load, path, things, labels, max_pixels)))
    return Samples(labels, tuple(entries))


def find(root: Path, *packed: Path) -> Layout | None:
    """Find the lists of `ImageSets/Segmentation` with `SegmentationObject`, here or in `VOCdevkit/VOC2012`; and SBD."""
    places = (root, *packed)
    bases = (base for place in places for base in (place / "VOCdevkit" / "VOC2012", place))
    base = next((base for base in bases if is_dir(base / CLASS) and is_dir(base / OBJECT)), None)
    if base is None:
        return None
    sbd = next(filter(None, map(find_folder, (base, *places))), None)
    names = [path.stem for path in matching(base / "ImageSets" / "Segmentation", "*.txt")]
    if names and sbd is not None and TRAIN_AUG not in names:
        names.append(TRAIN_AUG)
    return Layout("voc", {name: partial(samples, base, name, sbd=sbd) for name in names}) if names else None


def load(classes: Path, objects: Path | None, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one pair of PNGs; pixels that are void in either are void.

    Raises:
        FormatError: not a whole PNG with a palette or of 8-bit gray, an index that is no class, or two sizes.
        OSError: a file cannot be read.
    """
    numbers = read_map(classes, ("P", "L"), max_pixels=max_pixels)
    if objects is None:
        index, present = relabel(numbers)
        return Regions(index, translate_ids(classes, labels.from_numbers, present), np.full(len(present), -1))
    things = read_map(objects, ("P", "L"), max_pixels=max_pixels)
    if things.shape != numbers.shape:
        (h, w), (height, width) = numbers.shape, things.shape
        raise FormatError(objects, f"expected {h} × {w} px as {classes}, got {height} × {width}")
    index, present = relabel(numbers * np.uint16(256) + things)
    number_of, thing = np.divmod(present, 256)
    category = translate_ids(classes, labels.from_numbers, number_of)
    return Regions(index, np.where(thing == VOID, np.int32(-1), category), np.where(thing > 0, thing, -1))


def _augmented(root: Path, sbd: Path) -> list[str]:
    """The names of `train_aug`."""
    lists = root / "ImageSets" / "Segmentation"
    held = set(_names(lists / "val.txt"))
    names = dict.fromkeys(name for path in (lists / "train.txt", *lists_in(sbd)) for name in _names(path))
    return [name for name in names if name not in held]


def _names(path: Path) -> list[str]:
    names = read_text(path, max_bytes=MAX_BYTES).split("\n")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise FormatError(path, "no name")
    for name in names:
        if not is_relative_name(name) or len(Path(name).parts) > 1:
            raise FormatError(path, f"expected names of files, got {name!r}")
    if len(set(names)) < len(names):
        raise FormatError(path, "a name is there twice")
    return names
