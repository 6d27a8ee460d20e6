# SPDX-License-Identifier: Apache-2.0
"""COCO panoptic format: one JSON, and one PNG per image whose colour is the segment id, R + 256·G + 65536·B.

https://cocodataset.org/#format-data. Id 0 is void. Every fault of a file is a `FormatError` of one line that names
the file; areas and boxes are counted from the PNG, whatever the JSON says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import Field
from .png import MAX_ID, FormatError, read_ids, replace, write_ids

__all__ = [
    "MAX_ID",
    "Annotation",
    "Category",
    "Dataset",
    "FormatError",
    "SegmentInfo",
    "describe",
    "read",
    "read_categories",
    "read_ids",
    "replace",
    "write",
    "write_ids",
]

ImageId = int | str
"""COCO numbers its images; Cityscapes and Vistas name them."""


@dataclass(frozen=True)
class Category:
    """One entry of `categories`."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] | None = None
    """RGB, 0 to 255."""


@dataclass(frozen=True)
class SegmentInfo:
    """One entry of `segments_info`; `area` and `bbox` (x, y, width, height) come from `describe`, never from a file."""

    id: int
    category_id: int
    iscrowd: bool = False
    area: int | None = None
    bbox: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Annotation:
    """One image: its id, the name of its PNG, its segments, and what `images` tells (None where there is none)."""

    image_id: ImageId
    file_name: str
    segments: tuple[SegmentInfo, ...]
    image_file_name: str | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class Dataset:
    """A JSON file and the folder of its PNGs."""

    path: Path
    directory: Path
    categories: tuple[Category, ...]
    annotations: tuple[Annotation, ...]

    def ids(self, annotation: Annotation) -> NDArray[np.int32]:
        """Segment ids [H, W] of one image, agreeing with its annotation.

        Raises:
            FormatError: the PNG is damaged, has another size than the JSON says, or its ids and the listed differ.
            OSError: it cannot be read.
        """
        path = self.directory / annotation.file_name
        ids: NDArray[np.int32] = read_ids(path)
        for name, said, is_ in (("height", annotation.height, ids.shape[0]), ("width", annotation.width, ids.shape[1])):
            if said is not None and said != is_:
                raise FormatError(path, f"{name} is {is_} px, but {self.path.name} says {said}")
        present, listed = set(np.unique(ids).tolist()), {segment.id for segment in annotation.segments}
        if unlisted := sorted(present - listed - {0}):
            raise FormatError(path, f"{_some('id', unlisted)} not in segments_info of {self.path.name}")
        if absent := sorted(listed - present):
            raise FormatError(path, f"no pixel of {_some('id', absent)}, listed in segments_info of {self.path.name}")
        return ids


def read(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    categories: Sequence[Category] | None = None,
) -> Dataset:
    """Read the JSON of a panoptic data set or of panoptic results.

    Args:
        path: the JSON file.
        directory: the folder of its PNGs; they are read by `Dataset.ids`.
        categories: stand in for those of the file, which may then lack `categories` and `images`.

    Raises:
        FormatError: not JSON, a key is missing or of the wrong type, an id is repeated or unknown.
        OSError: the file cannot be read.
    """
    root = Field.load(path)
    follow = categories is not None and isinstance(root.value, dict) and "images" not in root.value
    if categories is None:
        categories = _categories(root.each("categories"), root)
    known = {category.id for category in categories}

    images: dict[ImageId, Field] = {}
    for item in [] if follow else root.each("images"):
        item.put(images, item.get("id", int, str), item)

    annotations: dict[ImageId, Annotation] = {}
    for item in root.each("annotations"):
        image_id = item.get("image_id", int, str)
        image = Field(item.path, item.spot, {}) if follow else images.get(image_id)
        if image is None:
            raise item.fault(f"image_id {image_id!r} is not in images")
        segments: dict[int, SegmentInfo] = {}
        for entry in item.each("segments_info"):
            segment = _segment(entry)
            if segment.category_id not in known:
                raise entry.fault(f"category_id {segment.category_id} is not in categories")
            entry.put(segments, segment.id, segment)
        annotation = Annotation(
            image_id,
            _inside(item.get("file_name", str), item),
            tuple(segments.values()),
            image.get("file_name", str, default=None),
            image.get("height", int, default=None),
            image.get("width", int, default=None),
        )
        item.put(annotations, image_id, annotation)
    return Dataset(Path(path), Path(directory), tuple(categories), tuple(annotations.values()))


def read_categories(path: str | os.PathLike[str]) -> tuple[Category, ...]:
    """Categories from a JSON list of them (`panoptic_coco_categories.json`) or from an object that holds one.

    Raises:
        FormatError, OSError: as `read`.
    """
    root = Field.load(path)
    if isinstance(root.value, list):
        root = Field(root.path, "", {"categories": root.value})
    return _categories(root.each("categories"), root)


def describe(ids: NDArray[Any], category: Mapping[int, int]) -> tuple[SegmentInfo, ...]:
    """Area and box of every segment of an id map [H, W], ids ascending, 0 left out; `category`: id → category id."""
    values, inverse, area = np.unique(ids, return_inverse=True, return_counts=True)
    low = np.full((2, len(values)), max(ids.shape))
    high = np.zeros((2, len(values)), np.int64)
    for axis, coordinate in enumerate(np.indices(ids.shape)[::-1]):
        np.minimum.at(low[axis], inverse.reshape(-1), coordinate.reshape(-1))
        np.maximum.at(high[axis], inverse.reshape(-1), coordinate.reshape(-1))
    box = np.concatenate((low, high - low + 1)).T.tolist()
    return tuple(
        SegmentInfo(value, category[value], area=size, bbox=(x, y, width, height))
        for value, size, (x, y, width, height) in zip(values.tolist(), area.tolist(), box, strict=True)
        if value != 0
    )


def write(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    entries: Iterable[tuple[Annotation, NDArray[Any]]],
    categories: Sequence[Category],
    *,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write annotations with their id maps [H, W]: every file whole or not at all, the JSON last.

    Raises:
        ValueError: an id map does not fit its annotation, or 24 bits.
        OSError: a file cannot be written; what was there before stays.
    """
    images, annotations = [], []
    Path(directory).mkdir(parents=True, exist_ok=True)
    for annotation, ids in entries:
        listed = {segment.id for segment in annotation.segments}
        if not set(np.unique(ids).tolist()) <= listed | {0}:
            raise ValueError(f"entries: expected every id of image {annotation.image_id!r} in its segments")
        write_ids(Path(directory) / _inside(annotation.file_name, Field(Path(path), "", None)), ids)
        name = annotation.image_file_name or annotation.file_name
        images.append({"id": annotation.image_id, "file_name": name, "height": ids.shape[0], "width": ids.shape[1]})
        segments = [_without_none(asdict(s)) | {"iscrowd": int(s.iscrowd)} for s in annotation.segments]
        annotations.append(
            {"image_id": annotation.image_id, "file_name": annotation.file_name, "segments_info": segments}
        )
    listing = [_without_none(asdict(c)) | {"isthing": int(c.isthing)} for c in categories]
    root = {"info": dict(info or {}), "images": images, "annotations": annotations, "categories": listing}
    text = json.dumps(root, indent=1, allow_nan=False).encode()
    replace(path, lambda file: file.write(text))


def _segment(entry: Field) -> SegmentInfo:
    segment_id = entry.get("id", int)
    if not 0 <= segment_id <= MAX_ID:
        raise entry.fault(f"id: expected 0 to {MAX_ID}, got {segment_id}")
    return SegmentInfo(segment_id, entry.get("category_id", int), entry.flag("iscrowd", 0))


def _categories(entries: Sequence[Field], root: Field) -> tuple[Category, ...]:
    table: dict[int, Category] = {}
    for entry in entries:
        color = entry.get("color", list, default=None)
        if color is not None and not (len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)):
            raise entry.fault(f"color: expected three integers of 0 to 255, got {color}")
        category = Category(
            entry.get("id", int),
            entry.get("name", str),
            entry.flag("isthing"),
            None if color is None else (color[0], color[1], color[2]),
        )
        entry.put(table, category.id, category)
    if not table:
        raise root.fault("categories: expected at least one")
    return tuple(table.values())


def _inside(name: str, item: Field) -> str:
    """A file name that stays inside its folder."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise item.fault(f"file_name: expected a name inside the folder, got {name!r}")
    return name


def _some(noun: str, values: Sequence[int]) -> str:
    """`id 7`, or `ids 7, 9 and 3 more`."""
    shown = ", ".join(map(str, values[:2])) + (f" and {len(values) - 2} more" if len(values) > 2 else "")
    return f"{noun}{'s' if len(values) > 1 else ''} {shown}"


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
