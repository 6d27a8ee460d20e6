# SPDX-License-Identifier: Apache-2.0
"""A PNG of segment ids and a JSON of the same name for each image, as shards of WebDataset hold them.

`<key>.png` is that of COCO's panoptic format, `<key>.json` the object that its JSON has under `annotations`, of which
`segments_info` is read, and `<key>.jpg` (or `.jpeg`, `.webp`) the photograph. Other members are left alone.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import look_up, relabel
from ..containers import exists, matching
from ..faults import EmptyMaskError, UnknownIdError
from ..fields import Field
from ..files import FormatError, inside, list_files
from ..ids import ids_of
from ..labels import LabelSet
from ..layouts import Layout
from ..sample import Entry, Regions, Samples
from .coco import SegmentInfo
from .png import MAX_ID, read_ids

PHOTOS = (".jpg", ".jpeg", ".webp")
MAX_BYTES = 1 << 24
"""Of the JSON of one image."""


def samples(
    directory: str | os.PathLike[str],
    labels: LabelSet,
    *,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the pairs of a folder or tar file, which are read one by one; `image_id` is the key (`ids`).

    Args:
        directory: the folder, or a zip or tar file.
        labels: the classes; their ids are the `category_id` of the segments.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folder lead to.

    Raises:
        FormatError: no JSON in the folder.
        OSError: the folder cannot be read.
    """
    found = list_files(directory, "*.json", "<key>.json beside <key>.png and <key>.jpg", follow_links=follow_links)
    found = [path for path in found if exists(path.with_suffix(".png"))]
    if not found:
        raise FormatError(directory, "no <key>.png beside a <key>.json")
    entries = []
    for image_id, path in zip(ids_of([path.stem for path in found], directory), found, strict=True):
        inside(directory, path.with_suffix(".png").name, follow_links=follow_links)
        photos = [inside(directory, path.stem + suffix, follow_links=follow_links) for suffix in PHOTOS]
        photo = next((photo for photo in photos if exists(photo)), photos[0])
        entries.append(Entry(image_id, photo, path, partial(load, path, labels, max_pixels)))
    return Samples(labels, tuple(entries))


def find(root: Path) -> Layout | None:
    """Find a PNG and a JSON of one name, in `<split>` or in the folder itself."""
    splits = {}
    for name in ("train", "val", ""):
        names = {path.stem for path in matching(root / name, "*.json")}
        if names & {path.stem for path in matching(root / name, "*.png")}:
            splits[name or "train"] = partial(samples, root / name)
    return Layout("pairs", splits) if splits else None


def load(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read the pair of a JSON.

    Raises:
        FormatError: a file is not what it should be, a category is no class, or the ids of both differ.
        OSError: a file cannot be read.
    """
    segments: dict[int, SegmentInfo] = {}
    for item in Field.load(path, max_bytes=MAX_BYTES).each("segments_info"):
        segment = SegmentInfo(item.get("id", int), item.get("category_id", int), item.flag("iscrowd", 0))
        if not 1 <= segment.id <= MAX_ID:
            raise item.fault(f"id: expected 1 to {MAX_ID}, got {segment.id}")
        if segment.category_id not in labels.class_of:
            raise UnknownIdError(path, f"{item.location}: category_id {segment.category_id} is not in {labels.name}")
        item.put(segments, segment.id, segment)
    png = path.with_suffix(".png")
    index, present = relabel(read_ids(png, max_pixels=max_pixels))
    pixels = set(present.tolist()) - {0}
    if unlisted := sorted(pixels - segments.keys()):
        raise UnknownIdError(png, f"id {unlisted[0]} is not in segments_info of {path.name}")
    if absent := sorted(segments.keys() - pixels):
        raise EmptyMaskError(png, f"no pixel of id {absent[0]}, listed in segments_info of {path.name}")
    table = {0: -1} | {s.id: labels.class_of[s.category_id] for s in segments.values()}
    crowd = np.isin(present, [s.id for s in segments.values() if s.iscrowd])
    return Regions(index, look_up(present, table), present, crowd)
