# SPDX-License-Identifier: Apache-2.0
"""One form for every annotation format: a map of classes, a map of instances, and what is crowd.

A reader of a format gives `Samples`, a sequence that reads an image's annotation when it is asked for. It can be
pickled, so that workers of a data loader may share it.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._lookup import relabel
from .containers import exists
from .faults import FormatError, UnknownIdError
from .formats.coco import SegmentInfo, describe
from .formats.photo import SUFFIXES, Photo
from .ids import ImageId, ids_of
from .labels import LabelSet
from .photos import photo_beside

SOME_STUFF = -2
"""In `Regions.category`."""


class ExifWarning(UserWarning):
    """A photograph is labeled with its pixels as they are stored, though EXIF turns them."""


@dataclass(frozen=True, eq=False)
class Regions:
    """What a file says: pixels of equal value form a region [N], before instances are numbered."""

    index: NDArray[np.int32]
    """[H, W]: the region of every pixel, 0 … N − 1."""
    category: NDArray[np.int32]
    """[N]: class 0 … C − 1; −1 is void, `SOME_STUFF` one of the stuff classes, nobody says which."""
    identity: NDArray[np.int64]
    """[N]: tells the instances of a thing class apart; −1 where nobody did. Of no meaning on stuff."""
    crowd: NDArray[np.bool_] | None = None
    """[N]: where the file says so itself, beside things without identity."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The annotation of one image.

    Crowd is a region of several things that nobody told apart: its pixels have their class and no instance. So thing
    pixels of instance 0 are crowd, as `deeperlab.metrics` counts them in a ground truth, and no target of training.
    A map without instances (labelTrainIds) has all its things as crowd.
    """

    image_id: ImageId
    image_path: Path | None
    """None where there are no images beside the annotations; where this one is missing, `image` says so."""
    category: NDArray[np.int32]
    """[H, W]: class 0 … C − 1, −1 = void, or some stuff."""
    instance: NDArray[np.int32]
    """[H, W]: 1 … N on things, 0 = none. Numbers are those of the image, not of the class."""
    crowd: NDArray[np.bool_]
    """[H, W]."""
    categories: NDArray[np.int32]
    """[N]: the class of instance 1, 2, …."""
    some_stuff: NDArray[np.bool_] | None = None
    """[H, W]: no thing, but nobody says which stuff; `category` is −1 there. None: there are no such pixels."""
    pixels: NDArray[np.uint8] | None = None
    """RGB [H, W, 3] of a picture that is in no file, such as a drawn one."""

    @property
    def maps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(category, instance): the pair that `deeperlab.metrics` and `deeperlab.visualize` take."""
        return self.category, self.instance

    def image(self, *, max_pixels: int | None = None, exif: bool | None = None) -> NDArray[np.uint8]:
        """Read the photograph, RGB [H, W, 3].

        Args:
            max_pixels: None is Pillow's limit.
            exif: turned as EXIF says, or with its pixels as they are stored, which most data sets label. None: as the
                annotation fits; as stored where both fit, as they do in squares.

        Warns:
            ExifWarning: the annotation is of the stored pixels, of another size than those that EXIF turns; whoever
                parses the photograph has to leave it as it is stored, too. Not where `exif` is given.

        Raises:
            FormatError: it is damaged, of an unknown format, of another size than the annotation, or too large.
            OSError: it cannot be read, or there is none.
        """
        if self.pixels is not None:
            return self.pixels
        if self.image_path is None:
            raise FileNotFoundError(f"image {self.image_id!r} has no file")
        if not exists(self.image_path):
            fault = f"no such photograph, nor one of this name with {', '.join(SUFFIXES)}"
            raise FileNotFoundError(errno.ENOENT, fault, os.fspath(self.image_path))
        wanted = self.category.shape
        with Photo(self.image_path, max_pixels=max_pixels) as photo:
            stored, turned = photo.size, photo.upright_size
            if exif is None and wanted == stored != turned:
                text = f"{self.image_path}: labeled as it is stored, {_size(stored)}, not as EXIF turns it"
                warnings.warn(
                    f"{text} (orientation {photo.orientation}); predict it with --no-exif", ExifWarning, stacklevel=2
                )
            turn = wanted == turned != stored if exif is None else exif
            shape = turned if turn else stored
            if wanted != shape:
                other = f"; exif={not turn} fits" if wanted in (stored, turned) else ""
                raise FormatError(self.image_path, f"expected {_size(wanted)} as annotated, got {_size(shape)}{other}")
            return photo.read(exif=turn)

    def to_coco(self, labels: LabelSet) -> tuple[NDArray[np.int32], tuple[SegmentInfo, ...]]:
        """Return segment ids [H, W], 0 = void, and their list as `coco.write` takes them.

        Instances keep their number; classes without instances follow, then the crowd of each class.
        """
        count, classes = len(self.categories), len(labels)
        rest = (self.category >= 0) & (self.instance == 0)
        ids = self.instance.copy()
        ranks, keys = relabel(self.category[rest].astype(np.int64) + classes * self.crowd[rest])
        ids[rest] = ranks + (count + 1)
        category_of = [*self.categories.tolist(), *(keys % classes).tolist()]
        table = {i: labels.ids[c] for i, c in enumerate(category_of, start=1)}
        crowd = {count + rank for rank, key in enumerate(keys.tolist(), start=1) if key >= classes}
        return ids, tuple(replace(s, iscrowd=s.id in crowd) for s in describe(ids, table))


@dataclass(frozen=True)
class Entry:
    """Where an image and its annotation are."""

    image_id: ImageId
    image_path: Path | None
    path: Path
    """The annotation."""
    load: Callable[[], Regions]
    """Reads it; a partial of a module's function, so that it can be pickled."""


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """The annotations of a data set, read one by one.

    Indexing raises `FormatError` for a file that is not what it should be, and `OSError` for one that cannot be read.
    """

    labels: LabelSet
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            return Samples(self.labels, self.entries[index])
        return _build(self.entries[index], self.labels)


def translate_ids(
    path: Path, translate: Callable[[NDArray[Any]], NDArray[np.int32]], ids: NDArray[Any]
) -> NDArray[np.int32]:
    """Translate the ids of a file to classes; an `UnknownIdError` names the file."""
    try:
        return translate(ids)
    except ValueError as fault:
        raise UnknownIdError(path, str(fault)) from fault


def translate_classes(samples: Samples, labels: LabelSet, table: Sequence[int]) -> Samples:
    """Make samples of other classes: class c becomes `table[c]`, −1 where it is void."""
    wide = np.array([*table, SOME_STUFF, -1], np.int32)  # the last two are what −2 and −1 index
    entries = []
    for entry in samples.entries:
        load = entry.load if isinstance(entry.load, partial) else partial(entry.load)
        flat = partial(
            _translated, wide, load.func, *load.args, **load.keywords
        )  # so that packing finds what is shared
        entries.append(replace(entry, load=flat))
    return Samples(labels, tuple(entries))


def flat_folder(
    found: Sequence[Path],
    labels: LabelSet,
    images: str | os.PathLike[str] | None,
    load: Callable[[Path], Callable[[], Regions]],
    *,
    follow_links: bool,
) -> Samples:
    """Make samples of one annotation per file, each named as its image but for the ending (`.jpg`)."""
    entries = []
    ids = ids_of([path.stem for path in found], found[0].parent)
    for image_id, path in zip(ids, found, strict=True):
        image = None if images is None else photo_beside(Path(images), f"{path.stem}.jpg", follow_links=follow_links)
        entries.append(Entry(image_id, image, path, load(path)))
    return Samples(labels, tuple(entries))


def from_maps(
    category: NDArray[Any],
    instance: NDArray[Any],
    labels: LabelSet,
    *,
    image_id: ImageId = 0,
    image_path: Path | None = None,
) -> Sample:
    """Make a sample from maps [H, W]: classes, −1 = void; instances, any numbers above 0 on things, 0 = crowd.

    Raises:
        ValueError: maps of two shapes, a class that is not −1 … C − 1, an instance below 0 or beyond 32 bits.
    """
    if category.ndim != 2 or category.shape != instance.shape:
        raise ValueError(f"instance: expected two maps [H, W], got {category.shape} and {instance.shape}")
    for name, values, low, high in (("category", category, -1, len(labels)), ("instance", instance, 0, 1 << 32)):
        if values.size and not low <= int(values.min()) <= int(values.max()) < high:
            raise ValueError(f"{name}: expected {low} to {high - 1}, got {values.min()} to {values.max()}")
    index, keys = relabel((category.astype(np.int64) + 1 << 32) + instance.astype(np.int64))
    regions = Regions(index, (keys >> 32).astype(np.int32) - 1, (keys & 0xFFFFFFFF) - 1)
    return _build(Entry(image_id, image_path, image_path or Path(), lambda: regions), labels)


def _translated(table: NDArray[np.int32], load: Callable[..., Regions], *args: Any, **named: Any) -> Regions:
    regions = load(*args, **named)
    return replace(regions, category=table[regions.category])


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]} px"


def _build(entry: Entry, labels: LabelSet) -> Sample:
    """Number the instances 1 … N in order of class and identity."""
    regions = entry.load()
    index, category = regions.index, regions.category
    thing = np.array([*labels.isthing, False, False])[category]  # the last are some stuff, −2, and void, −1
    some_stuff = category == SOME_STUFF
    group = thing & (regions.identity < 0)
    if regions.crowd is not None:
        group |= regions.crowd & (category >= 0)
    distinct = thing & ~group
    pairs, ranks = np.unique(np.stack([category[distinct], regions.identity[distinct]]), axis=1, return_inverse=True)
    instance = np.zeros(len(category), np.int32)
    instance[distinct] = ranks.reshape(-1) + 1
    return Sample(
        entry.image_id,
        entry.image_path,
        np.maximum(category, -1).take(index),
        instance.take(index),
        group.take(index),
        pairs[0].astype(np.int32),
        some_stuff.take(index) if some_stuff.any() else None,
    )
