# SPDX-License-Identifier: Apache-2.0
"""Cityscapes: `instanceIds`, `labelTrainIds`, and the panoptic files of `createPanopticImgs`.

Folders as they are distributed: `gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_instanceIds.png` and, if they
are there, images in `leftImg8bit/<split>/<city>/`. In instanceIds a value below 1000 is a labelId: stuff, or a group
of things that nobody told apart (crowd); above, it is labelId · 1000 + instance, which counts from 0.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import relabel
from ..containers import matching
from ..files import FormatError, list_files
from ..ids import ids_of
from ..labels import LabelSet, preset
from ..layouts import Layout, folder_in
from ..photos import photo_beside
from ..sample import Entry, Regions, Samples, translate_ids
from .coco import Annotation
from .coco import read as read_panoptic
from .png import read_map
from .segments import from_dataset

SOURCES = ("instanceIds", "labelTrainIds", "panoptic", "panoptic_trainId")
FACTOR = 1000
"""instanceIds = labelId · FACTOR + instance."""


def samples(
    root: str | os.PathLike[str],
    split: str,
    *,
    source: str = "instanceIds",
    annotations: str = "gtFine",
    labels: LabelSet | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of a split, which are read one by one; `image_id` is `<city>_<sequence>_<frame>`.

    Args:
        root: the folder of `gtFine` and `leftImg8bit`, or of the zip files that they are distributed in.
        split: `train`, `val`, `test`, or `train_extra` of gtCoarse.
        source: `instanceIds`; `labelTrainIds`, which tells no instances; `panoptic` and `panoptic_trainId` for
            `cityscapes_panoptic_<split>.json` and `…_trainId.json` with their folders of PNGs.
        annotations: `gtFine` or `gtCoarse`.
        labels: by default the preset of 19 classes.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: the folders are not as described, or the JSON is not what it should be.
        OSError: a folder cannot be read.
        ValueError: an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"source: expected one of {', '.join(SOURCES)}, got {source!r}")
    labels = labels or preset("cityscapes")
    root = Path(root)
    photos = folder_in(root, f"leftImg8bit/{split}") or root / "leftImg8bit" / split
    base = (folder_in(root, f"{annotations}/{split}") or root / annotations / split).parent
    if source.startswith("panoptic"):
        stem = f"cityscapes_{source.replace('panoptic', f'panoptic_{split}')}"
        dataset = read_panoptic(base / f"{stem}.json", base / stem, max_pixels=max_pixels, follow_links=follow_links)
        return from_dataset(dataset, labels, partial(_photo, photos, follow_links))

    tail = f"_{annotations}_{source}.png"
    found = list_files(base / split, f"*/*{tail}", f"<city>/<city>_<sequence>_<frame>{tail}", follow_links=follow_links)
    load = load_instance_ids if source == "instanceIds" else load_train_ids
    entries = []
    names = [path.name[: -len(tail)] for path in found]
    for path, name, image_id in zip(found, names, ids_of(names, base / split), strict=True):
        image = photo_beside(photos, f"{path.parent.name}/{name}_leftImg8bit.png", follow_links=follow_links)
        entries.append(Entry(image_id, image, path, partial(load, path, labels, max_pixels)))
    return Samples(labels, tuple(entries))


def find(root: Path, *packed: Path) -> Layout | None:
    """Find `gtFine/<split>` or `gtCoarse/<split>` with `*_instanceIds.png` or `*_labelTrainIds.png` in it.

    `gtCoarse` counts where there is no `gtFine`; `test`, whose annotations are empty, not at all.
    """
    for kind in ("gtFine", "gtCoarse"):
        splits = {}
        for name in ("train", "val", "train_extra"):
            for source in ("labelTrainIds", "instanceIds"):  # the last that is there
                if any(matching(place / kind / name, f"*/*_{source}.png") for place in (root, *packed)):
                    splits[name] = partial(samples, root, name, source=source, annotations=kind)
        if splits:
            return Layout("cityscapes", splits)
    return None


def load_instance_ids(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one `*_instanceIds.png`.

    Raises:
        FormatError: not a whole PNG of 16-bit gray, or a labelId that is neither a class nor void.
        OSError: it cannot be read.
    """
    values = read_map(path, ("I;16",), max_pixels=max_pixels)
    index, present = relabel(values)  # int64: −1 does not fit 16 bits
    label, identity = np.divmod(present, FACTOR)
    category = translate_ids(path, labels.to_classes, np.where(label > 0, label, present))
    return Regions(index, category, np.where(label > 0, identity, -1))


def load_train_ids(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one `*_labelTrainIds.png`: class numbers, 255 = void; all things are crowd.

    Raises:
        FormatError: not a whole PNG of 8-bit gray, or a number that is neither a class nor void.
        OSError: it cannot be read.
    """
    index, present = relabel(read_map(path, ("L",), max_pixels=max_pixels))
    return Regions(index, translate_ids(path, labels.from_numbers, present), np.full(len(present), -1))


def _photo(directory: Path, follow_links: bool, annotation: Annotation) -> Path | None:
    """Of the panoptic JSON, whose own names of images (`*_gtFine_leftImg8bit.png`) are those of no file."""
    image_id = str(annotation.image_id)
    if "_" not in image_id:
        raise FormatError(directory, f"image_id: expected <city>_<sequence>_<frame>, got {image_id!r}")
    name = f"{image_id.split('_')[0]}/{image_id}_leftImg8bit.png"
    return photo_beside(directory, name, follow_links=follow_links)
