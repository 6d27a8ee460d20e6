# SPDX-License-Identifier: Apache-2.0
"""Plain label maps: one number per pixel, class · divisor + instance, as `.npy`.

As Panoptic-DeepLab, DeepLab2 and Detectron2 write them, and `Panoptic.to_ids`: class 0, instance 0 is 0, and void is
negative or of a class of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._lookup import relabel
from ..containers import is_dir, matching
from ..faults import UnknownIdError
from ..files import FormatError, list_files, open_file, replace
from ..labels import LabelSet
from ..layouts import Layout
from ..sample import Regions, Sample, Samples, flat_folder
from .png import check_pixels

PIECE = 1 << 22
"""Bytes of a file that are read at once."""
MOST = (1 << 62) - 1
"""The largest number of a map."""


def samples(
    directory: str | os.PathLike[str],
    labels: LabelSet,
    *,
    divisor: int,
    first: int = 1,
    images: str | os.PathLike[str] | None = None,
    max_pixels: int | None = None,
    follow_links: bool = False,
) -> Samples:
    """List the `.npy` files of a folder, which are read one by one; `image_id` is the name without its ending (`ids`).

    Args:
        directory: the folder.
        labels: the classes.
        divisor: the numbers of a class, e.g. 256 or 1000.
        first: the first instance of a thing class, 0 or 1. With 1, instance 0 of a thing is crowd.
        images: the folder of the images (`.jpg`, or as `Sample.image` reads); None where they are not needed.
        max_pixels: of a map; None is Pillow's limit for pictures.
        follow_links: read what symbolic links outside of the folders lead to.

    Raises:
        FormatError: no such file in the folder.
        OSError: the folder cannot be read.
        ValueError: a divisor or first that is out of bounds.
    """
    _check(divisor, first)
    found = list_files(directory, "*.npy", "label maps", follow_links=follow_links)
    load_one = partial(partial, load, labels=labels, divisor=divisor, first=first, max_pixels=max_pixels)
    return flat_folder(found, labels, images, load_one, follow_links=follow_links)


def find(root: Path) -> Layout | None:
    """Find label maps in `<split>`, `annotations/<split>`, or in the folder itself.

    Photographs are in `images/<split>` or `images`, or beside them.
    """
    splits: dict[str, Callable[..., Samples]] = {}
    for name in ("train", "val", "training", "validation", ""):
        for folder in (root / name, root / "annotations" / name):
            paths = [] if splits and not name else matching(folder, "*.npy")
            if paths:
                photos = next((p for p in (root / "images" / name, root / "images") if is_dir(p)), folder)
                splits[name or "train"] = partial(samples, folder, images=photos)
    return Layout("label_map", splits) if splits else None


def load(path: Path, labels: LabelSet, divisor: int, first: int = 1, max_pixels: int | None = None) -> Regions:
    """Read one `.npy`.

    Raises:
        FormatError: not a whole file of integers [H, W], or a class that is neither known nor void.
        OSError: it cannot be read.
        ValueError: arguments as of `samples`.
    """
    _check(divisor, first)
    values = _read(path, max_pixels)
    if values.size and int(values.max()) > MOST:
        raise FormatError(path, f"expected numbers below 2^62, got {int(values.max())}")
    try:
        return decode(values, labels, divisor=divisor, first=first)
    except ValueError as fault:
        raise UnknownIdError(path, str(fault)) from fault


def decode(values: NDArray[Any], labels: LabelSet, *, divisor: int, first: int = 1) -> Regions:
    """Split a label map [H, W] into class and instance; negative numbers and the class `labels.ignore` are void.

    Raises:
        ValueError: a class that is neither known nor void, or arguments as of `samples`.
    """
    _check(divisor, first)
    if values.size and int(values.max()) > MOST:
        raise ValueError(f"expected numbers below 2^62, got {int(values.max())}")
    index, present = relabel(values)
    category, instance = np.divmod(present, divisor)
    void = present < 0
    if labels.ignore >= 0:
        void |= category == labels.ignore
    if (category[~void] >= len(labels)).any():
        c = int(category[~void].max())
        raise ValueError(f"expected classes 0 to {len(labels) - 1} or {labels.ignore} of {labels.name}, got {c}")
    return Regions(index, np.where(void, -1, category).astype(np.int32), instance - first)


def encode(sample: Sample, labels: LabelSet, *, divisor: int) -> NDArray[np.int64]:
    """Return the label map [H, W] of a sample: instances of each class from 1, crowd and stuff 0.

    Void is `labels.ignore` · divisor, or −1 where that is no class number.

    Raises:
        ValueError: more instances of a class than the divisor leaves room for, or arguments as of `samples`.
    """
    _check(divisor, 1)
    index = np.zeros(len(sample.categories) + 1, np.int64)  # of every instance within its class, from 1
    for c in set(sample.categories.tolist()):
        of_class = np.flatnonzero(sample.categories == c)
        if len(of_class) >= divisor:
            raise ValueError(f"divisor: expected more than the {len(of_class)} instances of {labels.names[c]}")
        index[of_class + 1] = np.arange(1, len(of_class) + 1)
    numbers = sample.category.astype(np.int64) * divisor + index[sample.instance]
    return np.where(sample.category < 0, labels.ignore * divisor if labels.ignore >= 0 else -1, numbers)


def write(path: str | os.PathLike[str], sample: Sample, labels: LabelSet, *, divisor: int) -> None:
    """Write `encode` as `.npy`, whole or not at all; int32 where it fits.

    Raises:
        ValueError: as `encode`.
        OSError: the file cannot be written; what was there before stays.
    """
    values = encode(sample, labels, divisor=divisor)
    narrow = not values.size or int(values.max()) < 1 << 31
    stored = values.astype(np.int32) if narrow else values
    replace(path, lambda file: np.save(file, stored, allow_pickle=False))


def _check(divisor: int, first: int) -> None:
    for name, value, low, high in (("divisor", divisor, 1, 1 << 31), ("first", first, 0, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name}: expected an integer of {low} to {high}, got {value!r}")


def _read(path: Path, max_pixels: int | None) -> NDArray[Any]:
    """The array of a file; its header is believed only as far as the file is long."""
    with open_file(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = header(file)
        except FormatError:
            raise
        except Exception as fault:  # NumPy parses the header as Python: many kinds
            raise FormatError(path, f"not a whole NumPy array: {fault}") from fault
        if len(shape) != 2 or dtype.kind not in "iu":
            raise FormatError(path, f"expected integers [H, W], got {dtype} of shape {shape}")
        check_pixels(path, shape[1], shape[0], max_pixels)
        wanted = shape[0] * shape[1] * dtype.itemsize
        data = bytearray()
        while len(data) < wanted and (piece := file.read(min(PIECE, wanted - len(data)))):
            data += piece  # a read of all at once takes all the memory that the header claims
    if len(data) < wanted:
        raise FormatError(path, f"not a whole NumPy array: {len(data):,} bytes of {wanted:,}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
