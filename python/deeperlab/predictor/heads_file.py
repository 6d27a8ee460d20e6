# SPDX-License-Identifier: Apache-2.0
"""From a file of heads to files of results."""

from __future__ import annotations

import dataclasses
import errno
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conventions import HeadsWarning, contradiction
from ..data import archive
from ..data.files import FormatError, check_names, check_ours, clean_up, replace
from ..data.formats import coco, predictions
from ..data.formats.photo import Photo
from ..data.formats.png import check_pixels, write_rgb
from ..data.ids import ImageId
from ..data.labels import LabelSet
from ..fuse import fuse, image_size
from ..heads import NAMES, Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from ..visualize import overlay
from .resize import resized
from .small_stuff import without_small_stuff

ARRAYS, LISTING, OVERLAY = "panoptic.npz", "panoptic.json", "overlay.png"
MARK = "deeperlab fuse"
MAX_IMAGES = 1 << 12
MAX_PIXELS = 1 << 28
"""Of all maps together, which are held until the last is done."""
Size = tuple[int, int]


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image; `instances` is None where heads without keypoints find none."""

    name: str
    instances: int | None
    classes: int
    milliseconds: float
    truncated: bool


@dataclass(frozen=True)
class HeadsFile:
    """What a file says.

    Attributes:
        heads: by our conventions.
        size: (H, W) px of the images as the network saw them.
        original: (H, W) px of the maps, where they are to have another size.
        is_sized: whether `size` was given, by the file, by labels or by who reads it; else it is that of the grid.
        stuff_area: share of an image that a class of stuff must have, or its pixels become void.
    """

    heads: Heads
    size: Size
    original: Size | None
    is_sized: bool
    stuff_area: float

    @property
    def images(self) -> int:
        """N; 1 without a batch."""
        return int(self.heads.heatmap.shape[0]) if self.heads.batched else 1

    @property
    def shown(self) -> Size:
        """(H, W) px of the maps."""
        return self.original or self.size

    def parts(self) -> Iterator[Heads]:
        """Yield the heads of each image, without batch dimension."""
        for i in range(self.images):
            yield self.heads.map(lambda head, i=i: head[i]) if self.heads.batched else self.heads  # type: ignore[misc]


def read_heads(path: Path, layout: Mapping[str, Any] | None = None, size: Size | None = None) -> HeadsFile:
    """Read heads for the fusion.

    Args:
        path: see `data.archive.load`.
        layout: the conventions that they follow, options of `Heads.from_layout`.
        size: (H, W) of the images; None: as the file says, else as far as its nodes reach.

    Raises:
        FormatError: no heads, heads that do not fit, or NaN or infinity in them.
        ValueError, TypeError: a layout that does not fit.
        OSError: the file cannot be read.
    """
    given = archive.load(path)
    images = given.heatmap.shape[0] if given.batched else 1
    if images > MAX_IMAGES:
        raise FormatError(path, f"too many images: {images}, the most is {MAX_IMAGES}; split it")
    if overflowed := given.not_finite():
        fault = f"expected finite numbers in {', '.join(overflowed)}, got NaN or infinity: the network has overflowed"
        raise FormatError(path, f"{fault}; if it ran in half precision, run it without")
    (stored, original), (_, stuff_area) = archive.sizes(path), archive.fusion(path)
    options = {"stride": given.stride, "graph": given.graph, "num_classes": given.num_classes, **(layout or {})}
    heads = Heads.from_layout(*(getattr(given, name) for name in NAMES), **options)
    wanted = stored if size is None else size
    is_sized = wanted is not None or heads.has_labels
    if not is_sized and options.get("grid") == "half_pixel":
        wanted = given.stride * given.heatmap.shape[-2], given.stride * given.heatmap.shape[-1]
    try:
        return HeadsFile(heads, image_size(heads, wanted), original if size is None else None, is_sized, stuff_area)
    except ValueError as fault:
        raise FormatError(path, str(fault)) from fault


def fuse_file(
    path: Path,
    things: Sequence[int] | None,
    out: Path,
    *,
    size: Size | None,
    params: FuseParams,
    labels: LabelSet | None = None,
    layout: Mapping[str, Any] | None = None,
    photo: Path | None = None,
) -> list[ImageResult]:
    """Fuse the heads of an NPZ and write panoptic.npz, PNGs and, last of all, panoptic.json to a folder.

    While they are written panoptic.json is one that no reader takes, see `coco.begin`.

    Args:
        path: see `data.archive.load`; `image_ids` in it name the images and their PNGs, else they are numbered;
            `size` is that of the fusion, `original` that of the maps, `stuff_area` what stuff must have of an image.
        things: the thing classes; None: those of `labels`.
        out: made if absent.
        size: (H, W) of the images; None: as the file says, else that of the photo if the nodes reach as far, else where
            the last nodes lie.
        params: of the fusion.
        labels: gives classes their names and ids; None: category id = class + 1.
        layout: options of `Heads.from_layout`.
        photo: of heads of one image; the map over it becomes overlay.png.

    Warns:
        HeadsWarning: heads that contradict the layout beyond doubt, once.

    Raises:
        FormatError, ValueError, TypeError: heads or an argument that do not fit, or more pixels than Pillow would read
            (`PIL.Image.MAX_IMAGE_PIXELS`); nothing is written then.
        FileExistsError: an input, or files that no earlier run has written, would be overwritten.
        OSError: a file cannot be read or written.
    """
    for given, what in ((path, "are the heads themselves"), (photo, "is the photo itself")):
        if given is not None and given.resolve() in [(out / name).resolve() for name in (ARRAYS, OVERLAY)]:
            raise FileExistsError(errno.EEXIST, f"{what}; choose another --out", str(given))
    try:
        file = read_heads(path, layout or {}, size)
        image_ids = archive.image_ids(path, file.images)
        names = [LISTING, ARRAYS, *([OVERLAY] if photo else []), *map(_png, image_ids)]
        try:
            check_names(out, names)
        except ValueError as fault:
            raise FormatError(path, f"image_ids: {fault}") from fault
        check_ours(out, names, LISTING, MARK)
        classes = file.heads.classes
        if labels is not None and len(labels) != classes:
            raise ValueError(
                f"labels: expected {classes} classes as the heads have, got {len(labels)} of {labels.name}"
            )
        if things is None:
            if labels is None:
                raise ValueError("things: expected class ids where there are no labels, got none")
            things = labels.things
        picture = None
        if photo is not None:
            picture, file = _with_photo(photo, file)
        for height, width in (file.size, file.shown):
            check_pixels(path, width, height, None)
            if file.images * height * width > MAX_PIXELS:
                text = f"too many pixels: {file.images} maps of {width} × {height}, the most is {MAX_PIXELS} in all"
                raise FormatError(path, f"{text}; split it by images")
        looks = (contradiction(part, things, close=True) for part in file.parts())
        if wrong := next(filter(None, looks), None):
            warnings.warn(wrong, HeadsWarning, stacklevel=2)
        panoptics, results = [], []
        for image_id, part in zip(image_ids, file.parts(), strict=True):
            panoptic, milliseconds = _fuse_one(part, things, file, params)
            present = {segment.category for segment in panoptic.segments}
            count = int(panoptic.count) if part.graph.keypoints else None
            found = len(present), milliseconds, bool(panoptic.truncated)
            results.append(ImageResult(_png(image_id), count, *found))
            panoptics.append(panoptic)
        entries = [predictions.entry(p, i, _png(i), labels=labels) for i, p in zip(image_ids, panoptics, strict=True)]
        drawn = None if picture is None else overlay(picture, panoptics[0], labels)
    except MemoryError as fault:
        raise FormatError(path, "too large for the memory") from fault
    out.mkdir(parents=True, exist_ok=True)
    info = {"description": MARK}
    coco.begin(out / LISTING, info)
    clean_up(out, names)
    replace(out / ARRAYS, partial(_write_arrays, panoptics, file.heads.batched))
    if drawn is not None:
        write_rgb(out / OVERLAY, drawn)
    coco.write(out / LISTING, out, entries, predictions.categories(classes, tuple(things), labels), info=info)
    return results


def _fuse_one(heads: Heads, things: Sequence[int], file: HeadsFile, params: FuseParams) -> tuple[Panoptic, float]:
    """The map of one image, and the ms that the fusion took."""
    start = time.perf_counter()
    with warnings.catch_warnings():  # they were looked at, closer
        warnings.simplefilter("ignore", HeadsWarning)
        panoptic = without_small_stuff(fuse(heads, things, size=file.size, params=params), file.stuff_area)
    milliseconds = 1000 * (time.perf_counter() - start)
    if file.shown != file.size:
        panoptic = resized(panoptic, file.shown)
    return panoptic, milliseconds


def _with_photo(path: Path, file: HeadsFile) -> tuple[NDArray[np.uint8], HeadsFile]:
    """A photo, and the file with the photo's size where nothing else gives one and the last nodes lie near its end."""
    if file.images != 1:
        raise ValueError(f"--image: expected heads of one image, got {file.images}")
    with Photo(path) as photograph:
        as_stored = file.is_sized and file.shown == photograph.size != photograph.upright_size  # predict --no-exif
        picture = photograph.read(exif=not as_stored)
    size: Size = picture.shape[0], picture.shape[1]
    s, nodes = file.heads.stride, file.heads.heatmap.shape[-2:]
    if not file.is_sized and all(s * (n - 2) < side <= s * n for n, side in zip(nodes, size, strict=True)):
        file = dataclasses.replace(file, size=size)
    if file.shown != size:
        sizes = [f"{width} × {height} px" for height, width in (size, file.shown)]
        raise FormatError(path, f"is {sizes[0]}, but the map {sizes[1]}; give the size that the network saw by --size")
    return picture, file


def _png(image_id: ImageId) -> str:
    """Below the folder; numbers as COCO has them."""
    return f"{image_id}.png" if isinstance(image_id, str) else f"{image_id:012d}.png"


def _write_arrays(panoptics: Sequence[Panoptic], batched: bool, file: Any) -> None:
    names = [field.name for field in fields(Panoptic) if field.name != "things"]
    stacked: dict[str, Any] = {name: np.stack([getattr(p, name) for p in panoptics]) for name in names if panoptics}
    np.savez_compressed(file, **(stacked if batched else {name: a[0] for name, a in stacked.items()}))
