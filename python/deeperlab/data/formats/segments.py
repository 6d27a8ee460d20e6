# SPDX-License-Identifier: Apache-2.0
"""Panoptic PNG and JSON as samples: COCO's own files, and those of Cityscapes and Vistas in COCO's form."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import look_up, relabel
from ..containers import exists, matching
from ..files import FormatError
from ..labels import LabelSet, from_categories
from ..layouts import Layout, folder_in, photo_folder
from ..photos import photo_beside
from ..sample import Entry, Regions, Samples
from .coco import Annotation, Category, Dataset, read

MOST_NAMES = 40
"""Of classes, in an error."""


def samples(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    labels: LabelSet | None = None,
    exact: bool = False,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the annotations of a COCO panoptic file, which are read one by one.

    Several crowd regions of one class in an image become one. Evaluation that counts them as panopticapi does takes
    the ids of `coco.Dataset` instead.

    Args:
        path: the JSON file.
        directory: the folder of its PNGs.
        images: the folder of the images; None where they are not needed.
        labels: the classes wanted; None takes those of the file, in its order. Otherwise a category of the file is
            the class of its name, or, where the names are others, of its id.
        exact: other names are refused, as of `classes_of`.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: as `coco.read`, or categories that are not those of `labels`.
        OSError: a file cannot be read.
    """
    dataset = read(path, directory, max_pixels=max_pixels, follow_links=follow_links)
    if labels is None:
        try:
            labels = from_categories(Path(path).stem, dataset.categories)
        except ValueError as fault:
            raise FormatError(path, f"categories: {fault}") from fault

    def image(annotation: Annotation) -> Path | None:
        if images is None:
            return None
        name = annotation.image_file_name or Path(annotation.file_name).with_suffix(".jpg").name
        return photo_beside(Path(images), name, follow_links=follow_links)

    return from_dataset(dataset, labels, image, exact=exact)


def find(root: Path, *packed: Path) -> Layout | None:
    """Find `panoptic_<split>.json` with the folder of that name beside it, in a folder or its `annotations`.

    Photographs are below `<split>`, `images/<split>` or `images`.

    Raises:
        FormatError: the PNGs are in a zip within a zip, as COCO's annotations are distributed.
    """
    splits: dict[str, partial[Samples]] = {}
    for base in (folder for place in (root, *packed) for folder in (place, place / "annotations")):
        for path in matching(base, "panoptic_*.json"):
            name = path.stem.removeprefix("panoptic_")
            if pngs := folder_in(base, path.stem) or folder_in(root, path.stem):
                splits.setdefault(name, partial(samples, path, pngs, images=photo_folder(root, name), exact=True))
            elif not base.is_dir() and exists(inner := path.with_suffix(".zip")):
                raise FormatError(inner, "a zip within a zip cannot be read; unpack the outer one beside it")
    return Layout("segments", splits) if splits else None


def from_dataset(
    dataset: Dataset, labels: LabelSet, image: Callable[[Annotation], Path | None], *, exact: bool = False
) -> Samples:
    """Make samples of a file that is read already; `image` says where the image of an annotation is."""
    class_of = classes_of(dataset.path, dataset.categories, labels, exact=exact)
    small = replace(dataset, categories=(), annotations=())  # to be pickled with every entry
    entries = (
        Entry(a.image_id, image(a), dataset.directory / a.file_name, partial(_load, small, a, class_of))
        for a in dataset.annotations
    )
    return Samples(labels, tuple(entries))


def classes_of(path: Path, categories: Sequence[Category], labels: LabelSet, *, exact: bool = False) -> dict[int, int]:
    """Map the category ids of a file to classes; −1 for void.

    By name, so that Cityscapes' two files (labelIds, trainIds) are both understood; by id where a name is unknown,
    and then no known name may speak against it.

    Args:
        path: the file, for errors.
        categories: of the file.
        labels: the classes.
        exact: every name has to be known, and things and stuff have to agree.

    Raises:
        FormatError: a category is not in the label set, or name and id say different classes.
    """

    def disagree(category: Category, fault: str) -> FormatError:
        lists = f"{labels.name} has {list_names(labels.names)}; the file has {list_names([c.name for c in categories])}"
        return FormatError(path, f"category {category.id} ({category.name}) {fault} {labels.name}; {lists}")

    by_name = labels.class_of_name
    known = [category.name in by_name for category in categories]
    if exact:
        for category in categories:
            if category.name not in by_name:
                raise disagree(category, "is not in")
            if category.isthing != labels.isthing[by_name[category.name]]:
                raise disagree(category, f"is {'a thing' if category.isthing else 'stuff'}, but not so in")
    if all(known):
        return {category.id: by_name[category.name] for category in categories}
    table = {}
    for category in categories:
        if category.id not in labels.class_of:
            raise disagree(category, "is not in")
        table[category.id] = labels.class_of[category.id]
        if by_name.get(category.name, table[category.id]) != table[category.id]:
            meant = labels.names[table[category.id]] if table[category.id] >= 0 else "void"
            raise disagree(category, f"is {meant} in")
    return table


def list_names(names: Sequence[str]) -> str:
    """List the names of classes, of many the first."""
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _load(dataset: Dataset, annotation: Annotation, class_of: dict[int, int]) -> Regions:
    ids = dataset.ids(annotation)
    if any(segment.id == 0 for segment in annotation.segments):
        raise FormatError(
            dataset.directory / annotation.file_name, f"id 0, which is void, is a segment in {dataset.path.name}"
        )
    index, present = relabel(ids)
    category = look_up(present, {0: -1} | {s.id: class_of[s.category_id] for s in annotation.segments})
    crowd = np.isin(present, [s.id for s in annotation.segments if s.iscrowd])
    return Regions(index, category, present, crowd)
