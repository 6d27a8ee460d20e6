# SPDX-License-Identifier: Apache-2.0
"""The two-channel panoptic PNG of panopticapi: red is the category id, green the instance, blue 0.

Category 0 is void. Instances count from 0, and instance 255 of a thing is crowd, as in the samples of panopticapi, so
that an image has at most 255 instances of one class. There is no JSON; the label set says what the categories are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .._lookup import relabel
from ..containers import is_dir, matching
from ..files import FormatError, list_files
from ..labels import LabelSet
from ..layouts import Layout
from ..sample import Regions, Sample, Samples, flat_folder, translate_ids
from .png import read_ids, write_rgb

CROWD = 255
"""Instance of crowd."""


def samples(
    directory: str | os.PathLike[str],
    labels: LabelSet,
    *,
    images: str | os.PathLike[str] | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the PNGs of a folder, which are read one by one; `image_id` is the name without its ending (`ids`).

    Args:
        directory: the folder.
        labels: the classes; their ids are those of the files.
        images: the folder of the images (`.jpg`, or as `Sample.image` reads); None where they are not needed.
        max_pixels: of a PNG; None is Pillow's limit.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: no PNG in the folder.
        OSError: the folder cannot be read.
    """
    found = list_files(directory, "*.png", "two-channel PNGs", follow_links=follow_links)
    load_one = partial(partial, load, labels=labels, max_pixels=max_pixels)
    return flat_folder(found, labels, images, load_one, follow_links=follow_links)


def find(root: Path) -> Layout | None:
    """Find two-channel PNGs in `<split>`, `annotations/<split>`, or in the folder itself.

    Photographs are in `images/<split>` or `images`, or beside them.
    """
    splits: dict[str, Callable[..., Samples]] = {}
    for name in ("train", "val", "training", "validation", ""):
        for folder in (root / name, root / "annotations" / name):
            paths = [] if splits and not name else matching(folder, "*.png")
            if paths and _shows_two_channels(paths[0]):
                photos = next((p for p in (root / "images" / name, root / "images") if is_dir(p)), folder)
                splits[name or "train"] = partial(samples, folder, images=photos)
    return Layout("two_channel", splits) if splits else None


def _shows_two_channels(path: Path) -> bool:
    """Tell whether a PNG may be one: no blue, which photographs and COCO's panoptic PNGs have."""
    try:
        return int(read_ids(path).max()) < 1 << 16
    except FormatError:
        return False


def load(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one PNG.

    Raises:
        FormatError: not a whole PNG of 24-bit RGB, blue is not 0, or a category that is neither a class nor void.
        OSError: it cannot be read.
    """
    ids = read_ids(path, max_pixels=max_pixels)
    if int(ids.max()) >= 1 << 16:
        raise FormatError(path, f"expected two channels, but blue goes up to {int(ids.max()) >> 16}")
    index, present = relabel(ids)
    identity, category_id = np.divmod(present, 256)
    category = np.full(len(present), -1, np.int32)
    listed = category_id > 0
    category[listed] = translate_ids(path, labels.to_classes, category_id[listed])
    return Regions(index, category, np.where(identity == CROWD, -1, identity))


def write(path: str | os.PathLike[str], sample: Sample, labels: LabelSet) -> None:
    """Write one PNG, whole or not at all; stuff has instance 0.

    Raises:
        ValueError: a class whose id is 0 or above 255, or more than 255 instances of one class.
        OSError: the file cannot be written; what was there before stays.
    """
    present = np.unique(sample.category[sample.category >= 0]).tolist()
    for c in present:
        if not 1 <= labels.ids[c] <= 255:
            raise ValueError(f"{labels.names[c]}: expected a category id of 1 to 255, got {labels.ids[c]}")
    index = np.zeros(len(sample.categories) + 1, np.int64)  # of every instance within its class
    for c in set(sample.categories.tolist()):
        of_class = np.flatnonzero(sample.categories == c)
        if len(of_class) > CROWD:
            raise ValueError(f"{labels.names[c]}: expected at most {CROWD} instances, got {len(of_class)}")
        index[of_class + 1] = np.arange(len(of_class))
    rgb = np.zeros((*sample.category.shape, 3), np.uint8)
    rgb[..., 0] = np.array([*labels.ids, 0])[sample.category] * (sample.category >= 0)
    rgb[..., 1] = np.where(sample.crowd, CROWD, index[sample.instance])
    write_rgb(path, rgb)
