# SPDX-License-Identifier: Apache-2.0
"""One image or frame on its way through `deeperlab predict`: read, and, once it is parsed, written."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import archive
from ..data.files import FormatError
from ..data.formats import predictions
from ..data.formats.coco import ImageId
from ..data.formats.png import read_image, write_ids, write_rgb
from ..data.labels import LabelSet
from ..heads import NAMES, Heads
from . import video
from .folder import Folder
from .parser import Parsed
from .sources import HEADS, IDS, OVERLAY, Fault, Source, reason

NAME_ERRORS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""Errors that are of one result's name, not of the disk."""


@dataclass(frozen=True)
class Item:
    """Pixels; `name` is that of its files, without suffix, `identity` that of an image's source."""

    source: Source
    name: str
    pixels: NDArray[np.uint8]
    identity: dict[str, Any] | None = None
    frame: video.Frame | None = None

    @property
    def image_id(self) -> ImageId:
        """In the JSON."""
        return self.source.image_id if self.frame is None else self.name


@dataclass(frozen=True)
class Saved:
    """What was written of an item, and its entry of the JSON; `picture`: the overlay of a frame, to be encoded."""

    item: Item
    entry: dict[str, Any]
    picture: NDArray[np.uint8] | None


def read(source: Source) -> Item | Fault:
    """A photograph, upright."""
    try:
        identity = source.identity()  # before the pixels: a change in between is noticed by the next run
        return Item(source, source.name, read_image(source.path, upright=True), identity)
    except (FormatError, OSError) as fault:
        return source.path, reason(source.path, fault)


def frames_of(source: Source) -> Iterator[Item]:
    """The frames of a video, upright.

    Raises:
        FormatError: it cannot be read.
    """
    with reading(source):
        for i, frame in enumerate(video.frames(source.path)):
            yield Item(source, f"{source.name}/{i:06d}", frame.pixels, frame=frame)


@contextlib.contextmanager
def reading(source: Source) -> Iterator[None]:
    """An OSError is a fault of the source, not of the disk that is written to."""
    try:
        yield
    except OSError as fault:
        raise FormatError(source.path, reason(source.path, fault)) from fault


def save(folder: Folder, labels: LabelSet, parsed: tuple[Item, Parsed]) -> Saved | Fault:
    """Write the files of an item, whole or not at all.

    Raises:
        OSError: of the disk.
    """
    from ..visualize import overlay

    item, result = parsed
    if not _finite(result.heads):
        return item.source.path, "the network gave NaN or infinity; with --half, try without"
    panoptic = result.panoptic.numpy()
    annotation, ids = predictions.entry(panoptic, item.image_id, f"{item.name}.png", labels=labels)
    picture = overlay(item.pixels, panoptic, labels, num_threads=1)
    paths = {kind: folder.path(kind, item.name) for kind in folder.wanted if item.frame is None or kind != OVERLAY}
    try:
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_ids(paths[IDS], ids)
        if OVERLAY in paths:
            write_rgb(paths[OVERLAY], picture)
        if HEADS in paths:
            original = (ids.shape[0], ids.shape[1])
            archive.save(
                paths[HEADS], _arrays(result.heads), size=result.size, original=original, image_ids=[item.image_id]
            )
    except OSError as fault:
        if fault.errno not in NAME_ERRORS:
            raise
        for path in paths.values():
            with contextlib.suppress(OSError):
                path.unlink()
        return item.source.path, f"its results cannot be named: {reason(item.source.path, fault)}"
    more = {"source": item.identity} if item.frame is None else {"video": item.source.name}
    file_name = item.source.file_name if item.frame is None else annotation.file_name
    image = {"id": item.image_id, "file_name": file_name, "height": ids.shape[0], "width": ids.shape[1]} | more
    segments = [
        {"id": s.id, "category_id": s.category_id, "iscrowd": 0, "area": s.area, "bbox": s.bbox}
        | ({} if s.score is None else {"score": s.score})
        for s in annotation.segments
    ]
    entry = {"image_id": item.image_id, "file_name": annotation.file_name, "segments_info": segments}
    return Saved(item, {"image": image, "annotation": entry}, None if item.frame is None else picture)


def _finite(heads: Heads) -> bool:
    """The fusion would make a map of anything."""
    return all(bool(getattr(heads, name).isfinite().all()) for name in NAMES)


def _arrays(heads: Heads) -> Heads:
    """As NumPy has them: float16 stays, bfloat16, which it has not, becomes float32."""
    import torch

    def convert(head: torch.Tensor) -> NDArray[Any]:
        array: NDArray[Any] = (head.float() if head.dtype == torch.bfloat16 else head).cpu().contiguous().numpy()
        return array

    return heads.map(convert)
