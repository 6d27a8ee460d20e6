# SPDX-License-Identifier: Apache-2.0
"""The files of SBD, the Semantic Boundaries Dataset, which annotates eleven thousand more images of PASCAL VOC.

Below `benchmark_RELEASE/dataset` are `inst/<name>.mat`, whose `GTinst` has a map `Segmentation` (0 = background, then
the objects) and the class of each object as `Categories`, and `img/<name>.jpg`. `cls` says no more than these. `voc`
reads them where VOC has no maps of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._lookup import relabel
from ..containers import exists, is_dir
from ..files import FormatError
from ..labels import LabelSet
from ..sample import Regions, translate_ids
from .matlab import read_struct
from .png import check_pixels

_PLACES = (
    "benchmark_RELEASE/dataset", "dataset", "sbd", "SBD", ".",
    "../benchmark_RELEASE/dataset", "../../benchmark_RELEASE/dataset", "../../sbd", "../../SBD",
)  # fmt: skip


def find_folder(root: Path) -> Path | None:
    """Find the folder of `inst`: below `VOC2012`, or beside `VOCdevkit`."""
    return next((root / place for place in _PLACES if is_dir(root / place / "inst")), None)


def load(path: Path, labels: LabelSet, max_pixels: int | None = None) -> Regions:
    """Read one file of `inst`.

    Raises:
        FormatError: not such a file, or an object of no class.
        OSError: it cannot be read.
    """
    truth = read_struct(path, "GTinst")
    if missing := [name for name in ("Segmentation", "Categories") if name not in truth]:
        raise FormatError(path, f"GTinst: expected numbers as {missing[0]}")
    objects, categories = truth["Segmentation"], truth["Categories"].reshape(-1)
    if objects.ndim != 2:
        raise FormatError(path, f"Segmentation: expected a map [H, W], got shape {objects.shape}")
    for name, array in (("Segmentation", objects), ("Categories", categories)):
        if array.dtype.kind == "f" and not (np.abs(array.astype(float)) < 1 << 31).all():  # nor NaN
            raise FormatError(path, f"{name}: expected numbers below 2^31")
    check_pixels(path, objects.shape[1], objects.shape[0], max_pixels)
    index, present = relabel(objects.astype(np.int64))
    if present[0] < 0 or present[-1] > len(categories):
        raise FormatError(path, f"Segmentation: expected 0 to {len(categories)} objects, got {int(present[-1])}")
    numbers = np.array([0, *categories.astype(np.int64).tolist()], np.int64)[present]
    return Regions(index, translate_ids(path, labels.from_numbers, numbers), np.where(present > 0, present, -1))


def lists_in(directory: Path) -> list[Path]:
    """Return the lists `train.txt` and `val.txt` that are there."""
    return [path for path in (directory / "train.txt", directory / "val.txt") if exists(path)]
