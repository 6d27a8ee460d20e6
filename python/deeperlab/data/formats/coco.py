# SPDX-License-Identifier: Apache-2.0
"""COCO panoptic format: one JSON, and one PNG per image whose color is the segment id, R + 256·G + 65536·B.

https://cocodataset.org/#format-data. Id 0 is void. Every fault of a file is a `FormatError` of one line that names
the file; areas and boxes are counted from the PNG, whatever the JSON says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faults import EmptyMaskError, UnknownIdError
from ..fields import Field
from ..files import FormatError, inside, is_relative_name, is_special, replace
from ..ids import ImageId, image_id_of, put_image
from ..missing import existing
from ..text import encode_json
from .entries import Annotation, Category, SegmentInfo, describe, to_json
from .mistaken import LABEL_ID, describe_ids, describe_json, describe_unlisted, has_scores_within
from .png import MAX_ID, read_ids, read_size, write_ids

__all__ = [
    "MAX_ID",
    "Annotation",
    "Category",
    "Dataset",
    "FormatError",
    "SegmentInfo",
    "begin",
    "describe",
    "read",
    "read_categories",
    "read_ids",
    "replace",
    "to_json",
    "write",
    "write_ids",
]

UNFINISHED = "unfinished"
"""Key of a JSON whose files are being written."""


@dataclass(frozen=True)
class Dataset:
    """A JSON file and the folder of its PNGs."""

    path: Path
    directory: Path
    categories: tuple[Category, ...]
    annotations: tuple[Annotation, ...]
    max_pixels: int | None = None
    """Of a PNG; None is Pillow's limit."""
    follow_links: bool = False
    """Symbolic links of PNGs may lead out of the folder."""
    stated_categories: Mapping[int, tuple[str | None, Any]] = field(default_factory=dict, compare=False)
    """Name and isthing that the file itself gives to ids: to be compared with `categories`, which may stand in."""
    has_scores: bool = field(default=False, compare=False)
    """Segments of the file have scores, as those of predictions."""

    def ids(self, annotation: Annotation) -> NDArray[np.int32]:
        """Read the segment ids [H, W] of one image, which agree with its annotation.

        Raises:
            FormatError: the PNG is damaged, has another size than the JSON says, or its ids and the listed differ;
                or a symbolic link leads out of the folder.
            OSError: it cannot be read.
        """
        from ..._numpy import overlap  # np.unique takes forty times as long

        path = self._path(annotation)
        ids: NDArray[np.int32] = read_ids(path, max_pixels=self.max_pixels)
        self._require_size(path, annotation, ids.shape)
        values, counts = overlap(ids)
        pixels, listed = dict(zip(values.tolist(), counts.tolist(), strict=True)), {s.id for s in annotation.segments}
        if unlisted := sorted(pixels.keys() - listed - {0}):
            hint = describe_unlisted(pixels, listed, {segment.category_id for segment in annotation.segments})
            raise UnknownIdError(path, f"{_some_of('id', unlisted)} not in segments_info of {self.path.name}{hint}")
        if absent := sorted(listed - pixels.keys()):
            raise EmptyMaskError(
                path, f"no pixel of {_some_of('id', absent)}, listed in segments_info of {self.path.name}"
            )
        return ids

    def size(self, annotation: Annotation) -> tuple[int, int]:
        """Read (H, W) of one image from the header of its PNG, without its pixels; errors as of `ids`."""
        path = self._path(annotation)
        size = read_size(path, ("RGB",), max_pixels=self.max_pixels)
        self._require_size(path, annotation, size)
        return size

    def _path(self, annotation: Annotation) -> Path:
        return existing(self.directory, annotation.file_name, follow_links=self.follow_links)

    def _require_size(self, path: Path, annotation: Annotation, size: tuple[int, ...]) -> None:
        for name, stated, actual in zip(("height", "width"), (annotation.height, annotation.width), size, strict=True):
            if stated is not None and stated != actual:
                raise FormatError(path, f"{name} is {actual} px, but {self.path.name} says {stated}")


def read(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    categories: Sequence[Category] | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Dataset:
    """Read the JSON of a panoptic data set or of panoptic results.

    Args:
        path: the JSON file.
        directory: the folder of its PNGs; they are read by `Dataset.ids`.
        categories: stand in for those of the file, which may then lack `categories` and `images`.
        max_pixels: of a PNG; None is Pillow's limit of 89 478 485.
        follow_links: read what symbolic links outside of the folder lead to.

    Raises:
        FormatError: not JSON, a key is missing or of the wrong type, an id is repeated or unknown.
        OSError: the file cannot be read.
    """
    root = Field.load(path)
    if isinstance(root.value, dict) and root.value.get(UNFINISHED):
        raise root.fault("unfinished: the run that writes it has been stopped, or goes on; give its command again")
    if other := describe_json(root.value):
        raise root.fault(f"expected COCO's panoptic format, got {other}")
    listed = "categories" if categories is None else "the categories of the ground truth, or those given"
    lacks_images = categories is not None and isinstance(root.value, dict) and "images" not in root.value
    if categories is None:
        if isinstance(root.value, dict) and "categories" not in root.value and has_scores_within(root.value):
            raise root.fault("no key 'categories', but scores of segments: are these predictions, not annotations?")
        categories = _categories(root.each("categories"), root)
    known = {category.id for category in categories}

    images: dict[ImageId, tuple[ImageId, Field]] = {}
    for item in [] if lacks_images else root.each("images"):
        put_image(images, item.get("id", int, str), item, item)

    annotations: dict[ImageId, tuple[ImageId, Annotation]] = {}
    has_scores = False
    for item in root.each("annotations"):
        image_id = item.get("image_id", int, str)
        _, image = images.get(image_id_of(image_id), (None, None))
        image = Field(item.path, item.location, {}) if lacks_images else image
        if image is None:
            raise item.fault(f"image_id {image_id!r} is not in images")
        segments: dict[int, SegmentInfo] = {}
        areas: list[float | None] = []
        for entry in item.each("segments_info"):
            segment = _segment(entry)
            has_scores = has_scores or entry.value.get("score") is not None
            areas.append(entry.get("area", int, float, default=None))
            if segment.category_id not in known:
                raise entry.fault(f"category_id {segment.category_id} is not in {listed}{describe_ids(known)}")
            entry.put(segments, segment.id, segment)
        annotation = Annotation(
            image_id,
            _require_relative(item.get("file_name", str), item),
            tuple(segments.values()),
            image.get("file_name", str, default=None),
            image.get("height", int, default=None),
            image.get("width", int, default=None),
            tuple(areas),
        )
        put_image(annotations, image_id, annotation, item)
    stated = {}
    for entry in root.each("categories") if isinstance(root.value.get("categories"), list) else []:
        stated[entry.get("id", int)] = entry.get("name", str, default=None), entry.value.get("isthing")
    found = tuple(annotation for _, annotation in annotations.values())
    return Dataset(Path(path), Path(directory), tuple(categories), found, max_pixels, follow_links, stated, has_scores)


def read_categories(path: str | os.PathLike[str]) -> tuple[Category, ...]:
    """Read categories from a JSON list (`panoptic_coco_categories.json`) or from an object that holds one.

    Raises:
        FormatError, OSError: as `read`.
    """
    root = Field.load(path)
    if isinstance(root.value, list):
        root = Field(root.path, "", {"categories": root.value})
    return _categories(root.each("categories"), root)


def begin(path: str | os.PathLike[str], info: Mapping[str, Any] | None = None) -> None:
    """Put a JSON that `read` refuses in the place of one whose files are about to change, until `write` ends.

    So that whoever stops, at any moment, leaves either all of the old, all of the new, or what nobody takes for either.

    Raises:
        OSError: it cannot be written.
    """
    if not is_special(path):  # what was written to a pipe stays
        text = encode_json({"info": dict(info or {}), UNFINISHED: True})
        replace(path, lambda file: file.write(text))


def write(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    entries: Iterable[tuple[Annotation, NDArray[Any]]],
    categories: Sequence[Category],
    *,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write annotations with their id maps [H, W]: every file whole or not at all, the JSON last; see `begin`.

    What is written keeps the rules of panopticapi: the ids of a map are those of its segments and never 0, which is
    void; categories are known, images and files distinct. Numbers may be NumPy's or torch's.

    Raises:
        TypeError, ValueError: what JSON cannot hold, these rules are broken, or an id does not fit 24 bits.
        OSError: a file cannot be written.
    """
    written: list[tuple[dict[str, Any], dict[str, Any]]] = []
    known = {category.id for category in categories}
    seen: set[ImageId | Path] = set()
    Path(directory).mkdir(parents=True, exist_ok=True)
    for annotation, ids in entries:
        _check(annotation, ids, known)
        if not seen.isdisjoint(names := {image_id_of(annotation.image_id), Path(annotation.file_name)}):
            raise ValueError(f"entries: expected distinct images and files, got {annotation.image_id!r} twice")
        seen |= names
        file_name = inside(directory, annotation.file_name)
        name = annotation.image_file_name or annotation.file_name
        image = {"id": annotation.image_id, "file_name": name, "height": ids.shape[0], "width": ids.shape[1]}
        segments = [to_json(segment) for segment in annotation.segments]
        listed = {"image_id": annotation.image_id, "file_name": annotation.file_name, "segments_info": segments}
        image, listed = json.loads(encode_json([image, listed]))
        if not written:
            begin(path, info)
        file_name.parent.mkdir(parents=True, exist_ok=True)
        write_ids(file_name, ids)
        written.append((image, listed))
    images, annotations = ([pair[i] for pair in written] for i in range(2))
    lists = {"images": images, "annotations": annotations, "categories": [to_json(c) for c in categories]}
    text = encode_json({"info": dict(info or {}), **lists}, indent=1)
    replace(path, lambda file: file.write(text))


def _check(annotation: Annotation, ids: NDArray[Any], known: set[int]) -> None:
    """The rules of panopticapi for one image."""
    listed = [segment.id for segment in annotation.segments]
    unknown = sorted({segment.category_id for segment in annotation.segments} - known)
    image = f"image {annotation.image_id!r}"
    if 0 in listed or len(set(listed)) < len(listed):
        raise ValueError(f"entries: expected distinct segment ids above 0 in {image}, got {sorted(listed)}")
    if set(np.unique(ids).tolist()) - {0} != set(listed):
        raise ValueError(f"entries: expected the ids of {image} and of its segments to be the same")
    if unknown:
        raise ValueError(f"entries: expected categories of the list in {image}, got {_some_of('id', unknown)}")


def _segment(entry: Field) -> SegmentInfo:
    segment_id = entry.get("id", int)
    if not 0 <= segment_id <= MAX_ID:
        raise entry.fault(f"id: expected 0 to {MAX_ID}, got {segment_id}")
    if "label_id" in entry.value and "category_id" not in entry.value:
        raise entry.fault(f"no key 'category_id'{LABEL_ID}")
    return SegmentInfo(segment_id, entry.get("category_id", int), entry.flag("iscrowd", 0))


def _categories(entries: Sequence[Field], root: Field) -> tuple[Category, ...]:
    table: dict[int, Category] = {}
    for entry in entries:
        category_id = entry.get("id", int)
        if not -(1 << 31) <= category_id < 1 << 31:
            raise entry.fault(f"id: expected 32 bits, got {category_id}")
        if "isthing" not in entry.value:
            remedy = "1 of a thing, 0 of stuff; add it, or give categories that have it (--categories)"
            raise entry.fault(f"no key 'isthing', {remedy}")
        category = Category(
            category_id,
            entry.get("name", str),
            entry.flag("isthing"),
            entry.color("color"),
        )
        entry.put(table, category.id, category)
    if not table:
        raise root.fault("categories: expected at least one")
    return tuple(table.values())


def _require_relative(name: str, item: Field) -> str:
    """Return a file name that stays inside its folder."""
    if not is_relative_name(name):
        raise item.fault(f"file_name: expected a name inside the folder, got {name!r}")
    return name


def _some_of(noun: str, values: Sequence[int]) -> str:
    """`id 7`, or `ids 7, 9 and 3 more`."""
    shown = ", ".join(map(str, values[:2])) + (f" and {len(values) - 2} more" if len(values) > 2 else "")
    return f"{noun}{'s' if len(values) > 1 else ''} {shown}"
