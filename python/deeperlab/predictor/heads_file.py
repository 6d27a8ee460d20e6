# SPDX-License-Identifier: Apache-2.0
"""From a file of heads to files of results."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._layout import require_torch
from ..data import archive
from ..data.files import FormatError, check_ours, replace
from ..data.formats import coco, predictions
from ..data.formats.png import check_pixels
from ..data.ids import ImageId
from ..data.labels import LabelSet
from ..fuse import fuse, image_size
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from .resize import resized

ARRAYS, LISTING = "panoptic.npz", "panoptic.json"
MARK = "deeperlab fuse"
MAX_IMAGES = 1 << 12
MAX_PIXELS = 1 << 28
"""Of all maps together, which are held until the last is done."""


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image."""

    name: str
    instances: int
    classes: int
    milliseconds: float
    truncated: bool


def fuse_file(
    path: Path,
    things: Sequence[int] | None,
    out: Path,
    *,
    size: tuple[int, int] | None,
    params: FuseParams,
    labels: LabelSet | None = None,
) -> list[ImageResult]:
    """Fuse the heads of an NPZ and write panoptic.npz, PNGs and, last of all, panoptic.json to a folder.

    Args:
        path: see `data.archive.load`; `image_ids` in it name the images and their PNGs, else they are numbered;
            `size` is that of the fusion, `original` that of the maps.
        things: the thing classes; None: those of `labels`.
        out: made if absent.
        size: (H, W) of the images; None: as the file says, else where the last nodes lie.
        params: of the fusion.
        labels: gives classes their names and ids; None: category id = class + 1.

    Raises:
        FormatError, ValueError, TypeError: heads or an argument that do not fit, or more pixels than Pillow would read
            (`PIL.Image.MAX_IMAGE_PIXELS`); nothing is written then.
        FileExistsError: the heads themselves, or files that no earlier run has written, would be overwritten.
        OSError: a file cannot be read or written.
        ImportError: the maps have another size than the fusion, and there is no torch.
    """
    if (out / ARRAYS).resolve() == path.resolve():
        raise FileExistsError(errno.EEXIST, "are the heads themselves; choose another --out", str(path))
    heads = archive.load(path)
    images = heads.heatmap.shape[0] if heads.batched else 1
    if images > MAX_IMAGES:
        raise FormatError(path, f"too many images: {images}, the most is {MAX_IMAGES}; split it")
    names = archive.image_ids(path, images)
    check_ours(out, (LISTING, ARRAYS, *map(_png, names)), LISTING, MARK)
    if labels is not None and len(labels) != heads.classes:
        raise ValueError(
            f"labels: expected {heads.classes} classes as the heads have, got {len(labels)} of {labels.name}"
        )
    if things is None:
        if labels is None:
            raise ValueError("things: expected class ids where there are no labels, got none")
        things = labels.things
    try:
        stored, original = archive.sizes(path)
        try:
            fused = image_size(heads, stored if size is None else size)
        except ValueError as fault:
            raise FormatError(path, str(fault)) from fault
        shown = original if size is None and original is not None else fused
        for height, width in (fused, shown):
            check_pixels(path, width, height, None)
            if images * height * width > MAX_PIXELS:
                text = f"too many pixels: {images} maps of {width} × {height}, the most is {MAX_PIXELS} in all"
                raise FormatError(path, f"{text}; split it by images")
        return _fuse_all(heads, names, things, out, fused, shown, params, labels)
    except MemoryError as fault:
        raise FormatError(path, "too large for the memory") from fault


def _fuse_all(
    heads: Heads,
    image_ids: Sequence[ImageId],
    things: Sequence[int],
    out: Path,
    size: tuple[int, int],
    original: tuple[int, int],
    params: FuseParams,
    labels: LabelSet | None,
) -> list[ImageResult]:
    if original != size:
        require_torch(f"a map of {original[0]} x {original[1]} px from a fusion of {size[0]} x {size[1]} px")
    parts = {field.name: getattr(heads, field.name) for field in fields(heads)}
    results, panoptics, entries = [], [], []
    for i, image_id in enumerate(image_ids):
        part = {k: v[i] if heads.batched and isinstance(v, np.ndarray) else v for k, v in parts.items()}
        start = time.perf_counter()
        panoptic = fuse(part, things, size=size, params=params)
        seconds = time.perf_counter() - start
        if original != size:
            panoptic = resized(panoptic.to("cpu"), original).numpy()
        name = _png(image_id)
        present = {segment.category for segment in panoptic.segments}
        results.append(ImageResult(name, int(panoptic.count), len(present), 1000 * seconds, bool(panoptic.truncated)))
        panoptics.append(panoptic)
        entries.append(predictions.entry(panoptic, image_id, name, labels=labels))
    categories = predictions.categories(heads.classes, tuple(things), labels)
    out.mkdir(parents=True, exist_ok=True)
    replace(out / ARRAYS, partial(_write_arrays, panoptics, heads.batched))
    coco.write(out / LISTING, out, entries, categories, info={"description": MARK})
    return results


def _png(image_id: ImageId) -> str:
    """Below the folder; numbers as COCO has them."""
    return f"{image_id}.png" if isinstance(image_id, str) else f"{image_id:012d}.png"


def _write_arrays(panoptics: Sequence[Panoptic], batched: bool, file: Any) -> None:
    names = [field.name for field in fields(Panoptic) if field.name != "things"]
    stacked: dict[str, Any] = {name: np.stack([getattr(p, name) for p in panoptics]) for name in names if panoptics}
    np.savez_compressed(file, **(stacked if batched else {name: a[0] for name, a in stacked.items()}))
