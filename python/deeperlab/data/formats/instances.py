# SPDX-License-Identifier: Apache-2.0
"""COCO instances: one JSON of polygons and run lengths, drawn by pycocotools, whose masks are the data set's own.

Where instances overlap, the smaller one is in front (of two of equal area, that which stands first in the file): such a
file does not say which hides which, and a part of an object, or what it carries, is smaller than the object. Crowd is
behind all. Pixels of no instance are some stuff (`Sample.some_stuff`), or the only stuff class where there is one.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._lookup import relabel
from ..containers import matching
from ..fields import Field
from ..files import FormatError, is_relative_name
from ..ids import ImageId, image_id_of, put_image
from ..labels import LabelSet, from_categories
from ..layouts import Layout, photo_folder
from ..photos import photo_beside
from ..sample import SOME_STUFF, Entry, Regions, Samples
from .coco import Category
from .mistaken import describe_json
from .png import check_pixels
from .segments import classes_of

BACKGROUND = "background"
"""The class of the pixels of no instance, where the labels are those of the file."""
MAX_COORDINATE = 1 << 20
MAX_CONTOUR = 1 << 22
"""Px: length of a polygon. pycocotools makes room for five points a px."""


def samples(
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    labels: LabelSet | None = None,
    exact: bool = False,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the images of a COCO instances file, also those without instances.

    Args:
        path: the JSON file.
        images: the folder of the images; None where they are not needed.
        labels: the classes wanted, of which some are stuff. None takes those of the file, which are things, and
            `BACKGROUND`.
        exact: categories of other names are refused, as of `segments.classes_of`.
        max_pixels: of an image; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folder lead to.

    Raises:
        FormatError: not such a file, or categories that are not those of `labels`.
        OSError: the file cannot be read.
        ImportError: there is no pycocotools.
    """
    _require_pycocotools()
    path = Path(path)
    root = Field.load(path)
    if isinstance(root.value, dict) and (annotations := root.value.get("annotations")):
        first = annotations[0] if isinstance(annotations, list) else None
        if not (isinstance(first, dict) and "segmentation" in first) and (other := describe_json(root.value)):
            raise root.fault(f"expected COCO's instances, got {other}")
        if isinstance(first, dict) and "segments_info" in first:
            raise root.fault("expected COCO's instances, got panoptic annotations, which deeperlab.data.segments reads")
    categories = tuple(
        Category(item.get("id", int), item.get("name", str), True, item.color("color"))
        for item in root.each("categories")
    )
    if not categories:
        raise root.fault("categories: expected at least one")
    if labels is None:
        labels = _own_labels(path, categories)
    if all(labels.isthing):
        raise root.fault(
            f"{labels.name} has no stuff class, which pixels of no instance need; add one, such as {BACKGROUND}"
        )
    class_of = classes_of(path, categories, labels, exact=exact)

    found: dict[ImageId, tuple[ImageId, Field]] = {}
    for item in root.each("images"):
        put_image(found, item.get("id", int, str), item, item)
    of_image: dict[ImageId, list[Any]] = {key: [] for key in found}
    for item in root.each("annotations"):
        image_id, category_id = item.get("image_id", int, str), item.get("category_id", int)
        if image_id_of(image_id) not in of_image:
            raise item.fault(f"image_id {image_id!r} is not in images")
        if category_id not in class_of:
            raise item.fault(f"category_id {category_id} is not in categories")
        mask = item.get("segmentation", list, dict)
        of_image[image_id_of(image_id)].append((item.location, class_of[category_id], item.flag("iscrowd", 0), mask))

    rest = labels.isthing.index(False) if labels.isthing.count(False) == 1 else SOME_STUFF
    entries = []
    for key, (image_id, item) in found.items():
        size = item.get("height", int), item.get("width", int)
        name = item.get("file_name", str)
        if not is_relative_name(name):
            raise item.fault(f"file_name: expected a name inside the folder, got {name!r}")
        check_pixels(path, size[1], size[0], max_pixels)
        if min(size) < 1:
            raise item.fault(f"height, width: expected at least 1 px, got {size[0]} × {size[1]}")
        photo = None if images is None else photo_beside(Path(images), name, follow_links=follow_links)
        packed = zlib.compress(json.dumps(of_image.pop(key)).encode(), 1)  # a quarter of the text, a tenth of the lists
        entries.append(Entry(image_id, photo, path, partial(_load, path, size, packed, rest)))
    return Samples(labels, tuple(entries))


def find(root: Path, *packed: Path) -> Layout | None:
    """Find `instances_<split>.json` or `instances.json`, in a folder or its `annotations`.

    Photographs are below `<split>`, `images/<split>` or `images`.
    """
    splits: dict[str, partial[Samples]] = {}
    for base in (folder for place in (root, *packed) for folder in (place, place / "annotations")):
        for path in matching(base, "instances*.json"):
            name = path.stem.removeprefix("instances").removeprefix("_")
            splits.setdefault(name or "train", partial(samples, path, images=photo_folder(root, name), exact=True))
    return Layout("instances", splits) if splits else None


def _own_labels(path: Path, categories: tuple[Category, ...]) -> LabelSet:
    used = max((category.id for category in categories), default=0)
    try:
        return from_categories(path.stem, (*categories, Category(used + 1, BACKGROUND, False)))
    except ValueError as fault:
        raise FormatError(path, f"categories: {fault}") from fault


def _load(path: Path, size: tuple[int, int], packed: bytes, rest: int) -> Regions:
    """Draw the instances of one image."""
    drawn = []
    for order, (location, category, is_crowd, mask) in enumerate(json.loads(zlib.decompress(packed))):
        pixels = _draw(Field(path, location, {"segmentation": mask}), size)
        drawn.append((not is_crowd, -int(pixels.sum()), -order, category, is_crowd, pixels))
    drawn.sort(key=lambda one: one[:3])  # from behind to in front
    index = np.zeros(size, np.int32)
    for i, (*_, pixels) in enumerate(drawn, start=1):
        index[pixels] = i
    index, seen = relabel(index)  # some are hidden
    category = np.array([rest, *(one[3] for one in drawn)], np.int32)
    crowd = np.array([False, *(one[4] for one in drawn)])
    identity = np.array([-1, *(-one[2] for one in drawn)], np.int64)
    return Regions(index, category[seen], identity[seen], crowd[seen])


def _draw(item: Field, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] of one segmentation: polygons (x, y, x, y, … px), run lengths down the columns, or packed."""
    from pycocotools import mask as masks

    height, width = size
    segmentation = item.get("segmentation", list, dict)
    if isinstance(segmentation, list):
        if not segmentation:
            return np.zeros(size, bool)
        for polygon in segmentation:
            _check_polygon(item, polygon)
        packed = masks.frPyObjects(segmentation, height, width)
    else:
        runs = item.child("segmentation")
        if runs.get("size", list) != [height, width]:
            raise runs.fault(f"size: expected {[height, width]} as of the image, got {runs.get('size', list)}")
        counts = runs.get("counts", list, str)
        if isinstance(counts, list):
            return _from_runs(runs, counts, size)
        packed = [{"size": [height, width], "counts": counts.encode()}]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "__array__ implementation", DeprecationWarning
            )  # of NumPy 2, of pycocotools
            drawn = np.asarray(masks.decode(packed).any(axis=2))
    except ValueError as fault:
        raise item.fault(f"segmentation: damaged run lengths: {fault}") from fault
    return drawn


def _check_polygon(item: Field, polygon: Any) -> None:
    """Refuse what pycocotools would crash on, or take all memory for."""
    numbers = isinstance(polygon, list) and all(type(value) in (int, float) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise item.fault("segmentation: expected polygons of at least three x, y")
    corners = np.array(polygon, float).reshape(-1, 2)
    if not np.abs(corners).max() <= MAX_COORDINATE:  # nor NaN
        raise item.fault(f"segmentation: expected coordinates in px of the image, got {np.abs(corners).max():g}")
    length = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum()
    if length > MAX_CONTOUR:
        raise item.fault(f"segmentation: expected a polygon of at most {MAX_CONTOUR:,} px around, got {length:,.0f}")


def _from_runs(item: Field, counts: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    pixels = size[0] * size[1]
    if not all(type(count) is int and 0 <= count <= pixels for count in counts) or sum(counts) != pixels:
        raise item.fault(f"counts: expected runs of {pixels:,} px in all")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size[::-1]).T


def _require_pycocotools() -> None:
    try:
        import pycocotools.mask  # noqa: F401
    except ModuleNotFoundError as fault:
        raise ImportError("COCO instances need pycocotools: pip install 'deeperlab[train]'") from fault
