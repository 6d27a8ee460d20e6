# SPDX-License-Identifier: Apache-2.0
"""What the data of a run are, before its first step: classes, faults of files, and how often they will be seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._threads import in_order
from ..data.faults import EmptyMaskError, FormatError, UnknownIdError, message_of
from ..data.formats.photo import Photo
from ..data.sample import Sample
from .config import Config, DataConfig
from .index import id_of
from .sampling import ORDER, Plan, shuffled
from .sources import Source, Sources

LIMIT, SECONDS = 2000, 10.0
"""Images of a source that are looked at, and how long, where nobody says otherwise."""
STRIDE = 4
"""Pixels between nodes."""
SHOWN = 5
"""Names that the text gives of a longer list; `to_dict` has all."""


@dataclass(frozen=True)
class ClassCount:
    """How much of a class was seen. `images`: those in which it is. Crowd counts as pixels, not as instances."""

    name: str
    is_thing: bool
    pixels: int
    images: int
    instances: int


@dataclass(frozen=True)
class SourceCount:
    """A source: its images, how many of them were looked at, its share of all samples, and its epochs in the run."""

    name: str
    images: int
    seen: int
    share: float
    epochs: float


@dataclass(frozen=True)
class Report:
    """What `report` found. Images are named by source and id.

    Attributes:
        sources: see there.
        classes: in the order of the label set.
        pixels: of all annotations that were read, and of those void, crowd and some stuff.
        sizes: px (H, W) of the images with the fewest and the most pixels; empty where none was read.
        unlabeled: images in which every pixel is void.
        empty_masks: what is wrong where a segment has no pixel, by image.
        below_node: instances of fewer pixels than there are between nodes (stride²) at the scale 1 of the training, by
            image: no node is sure to see them.
        unknown_ids: of classes or segments that are not listed, by image.
        mismatched: photographs of another size than their annotation, by image.
        broken: other files that cannot be read, by image.
        turned: photographs whose annotation is of the pixels as they are stored, though EXIF turns them.
        samples, sample_pixels: of the whole run, padding among the latter.
    """

    sources: tuple[SourceCount, ...]
    classes: tuple[ClassCount, ...]
    pixels: int
    void: int
    crowd: int
    some_stuff: int
    sizes: tuple[tuple[int, int], ...]
    unlabeled: tuple[str, ...]
    empty_masks: dict[str, str]
    below_node: dict[str, int]
    unknown_ids: dict[str, str]
    mismatched: dict[str, str]
    broken: dict[str, str]
    turned: tuple[str, ...]
    samples: int
    sample_pixels: int

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Make it of what `to_dict` returned, also by way of JSON.

        Raises:
            KeyError, TypeError: another dict.
        """
        lists = {name: tuple(values[name]) for name in ("unlabeled", "turned")}
        return cls(
            **{
                **values,
                **lists,
                "sources": tuple(SourceCount(**source) for source in values["sources"]),
                "classes": tuple(ClassCount(**each) for each in values["classes"]),
                "sizes": tuple((height, width) for height, width in values["sizes"]),
            }
        )

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def report(
    sources: Sources,
    config: Config,
    *,
    limit: int = LIMIT,
    seconds: float = SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look at annotations, and at the headers of photographs, before a run.

    Of each source so many images are looked at, drawn at random, as `limit` and `seconds` allow; the report says how
    many. With `limit=0, seconds=math.inf` all of them are.

    Args:
        sources: those that are trained on are looked at.
        config: of the run.
        limit: of each source; 0: none.
        seconds: for each source.
        progress: is told the images looked at so far, and those that will be at most.
    """
    tally = _Tally(len(sources.labels), config.data.longest_side)
    wanted = [min(len(source.samples), limit or len(source.samples)) for source in sources.train]
    seen: list[int] = []
    for source, count in zip(sources.train, wanted, strict=True):
        before = tally.seen
        for look in _looks(source, config.data, count, seconds):
            tally.add(look)
            if progress is not None:
                progress(tally.seen, sum(wanted))
        seen.append(tally.seen - before)
    return tally.report(sources, config, seen)


@dataclass(frozen=True, eq=False)
class _Look:
    """What was found of one image; where there is no sample, why."""

    name: str
    sample: Sample | None
    fault: Exception | None = None
    mismatch: str = ""
    turned: bool = False


def _looks(source: Source, config: DataConfig, count: int, seconds: float) -> Iterator[_Look]:
    """Look at images in random order until there are enough of them, or the time is over."""
    end = time.monotonic() + seconds
    numbers = shuffled(0, ORDER, count=len(source.samples))[:count].tolist()
    for look in in_order(lambda number: _look(source, number), numbers, max(1, config.workers)):
        yield look
        if time.monotonic() > end:
            return


def _look(source: Source, number: int) -> _Look:
    name = f"{source.name}/{id_of(source.samples, number)}"
    try:
        sample = source.samples[number]
        name = f"{source.name}/{sample.image_id}"
        if sample.pixels is not None:
            return _Look(name, sample)
        if sample.image_path is None:
            raise FileNotFoundError(f"image {sample.image_id!r} has no file")
        with Photo(sample.image_path) as photo:
            stored, upright = photo.size, photo.upright_size
    except (FormatError, OSError) as fault:
        return _Look(name, None, fault)
    shape = sample.category.shape
    if shape in (stored, upright):
        return _Look(name, sample, turned=shape != upright)
    return _Look(
        name, sample, mismatch=f"{sample.image_path}: expected {_size(shape)} as annotated, got {_size(stored)}"
    )


class _Tally:
    """The sums of what images have."""

    def __init__(self, classes: int, longest_side: int) -> None:
        self._longest_side = longest_side
        self.seen = 0
        self._pixels, self._images, self._instances = (np.zeros(classes, np.int64) for _ in range(3))
        self._area = self._void = self._crowd = self._some_stuff = 0
        self._sizes: list[tuple[int, int]] = []
        self._unlabeled: list[str] = []
        self._turned: list[str] = []
        self._below: dict[str, int] = {}
        self._empty: dict[str, str] = {}
        self._unknown: dict[str, str] = {}
        self._mismatched: dict[str, str] = {}
        self._broken: dict[str, str] = {}

    def add(self, look: _Look) -> None:
        """Count one image."""
        self.seen += 1
        if look.fault is not None:
            kinds = ((UnknownIdError, self._unknown), (EmptyMaskError, self._empty), (Exception, self._broken))
            next(table for kind, table in kinds if isinstance(look.fault, kind))[look.name] = message_of(look.fault)
        if look.mismatch:
            self._mismatched[look.name] = look.mismatch
        if look.turned:
            self._turned.append(look.name)
        if look.sample is not None:
            self._add_sample(look.name, look.sample)

    def _add_sample(self, name: str, sample: Sample) -> None:
        height, width = sample.category.shape
        some_stuff = 0 if sample.some_stuff is None else int(np.count_nonzero(sample.some_stuff))
        unlabeled, *pixels = np.bincount(sample.category.reshape(-1) + 1, minlength=len(self._pixels) + 1).tolist()
        self._pixels += pixels
        self._images += np.array(pixels) > 0
        self._area += height * width
        self._some_stuff += some_stuff
        self._void += unlabeled - some_stuff
        self._crowd += int(np.count_nonzero(sample.crowd))
        if unlabeled - some_stuff == height * width:
            self._unlabeled.append(name)
        areas = np.bincount(sample.instance.reshape(-1), minlength=len(sample.categories) + 1)[1:]
        np.add.at(self._instances, sample.categories[areas > 0], 1)
        if empty := int(np.count_nonzero(areas == 0)):
            self._empty[name] = f"{empty} of {len(areas)} instances have no pixel"
        factor = self._longest_side / max(height, width) if self._longest_side else 1.0
        if below := int(np.count_nonzero((areas > 0) & (areas * factor**2 < STRIDE**2))):
            self._below[name] = below
        by_area = sorted((*self._sizes, (height, width)), key=math.prod)
        self._sizes = [by_area[0], by_area[-1]]

    def report(self, sources: Sources, config: Config, seen: list[int]) -> Report:
        """Return the sums, and what the run will see."""
        train, labels, crop = config.train, sources.labels, config.data.crop
        samples = train.steps * train.batch
        lengths = [len(source.samples) for source in sources.train]
        weights = [source.weight for source in sources.train]
        shares = Plan(lengths, weights, seed=train.seed, batch=train.batch).shares
        crop_h, crop_w = (crop, crop) if isinstance(crop, int) else crop
        return Report(
            sources=tuple(
                SourceCount(source.name, length, looked, float(share), float(share * samples / length))
                for source, length, looked, share in zip(sources.train, lengths, seen, shares, strict=True)
            ),
            classes=tuple(
                ClassCount(*values)
                for values in zip(
                    labels.names,
                    labels.isthing,
                    self._pixels.tolist(),
                    self._images.tolist(),
                    self._instances.tolist(),
                    strict=True,
                )
            ),
            pixels=self._area,
            void=self._void,
            crowd=self._crowd,
            some_stuff=self._some_stuff,
            sizes=tuple(self._sizes),
            unlabeled=tuple(self._unlabeled),
            empty_masks=self._empty,
            below_node=self._below,
            unknown_ids=self._unknown,
            mismatched=self._mismatched,
            broken=self._broken,
            turned=tuple(self._turned),
            samples=samples,
            sample_pixels=samples * crop_h * crop_w,
        )


def _lines(found: Report) -> Iterator[str]:
    """Say it, a line at a time."""
    for source in found.sources:
        looked = "all were" if source.seen == source.images else f"{source.seen:,}, drawn at random, were"
        yield (
            f"{source.name}: {source.images:,} images, of which {looked} looked at; {source.share:.1%} of the samples, "
            f"{source.epochs:.1f} epochs"
        )
    yield f"the run sees {found.samples:,} samples, {found.sample_pixels:.2e} px"
    if found.sizes:
        yield f"sizes: {' to '.join(map(_size, found.sizes))}"
    named = max(len(c.name) for c in found.classes)
    yield f"{'class':{named}}  {'pixels':>7}  {'images':>7}  instances"
    for c in found.classes:
        instances = f"{c.instances:9,}" if c.is_thing else "        –"
        yield f"{c.name:{named}}  {_share(c.pixels, found.pixels)}  {c.images:7,}  {instances}"
    for name, pixels in (("void", found.void), ("crowd", found.crowd), ("some stuff", found.some_stuff)):
        if pixels:
            yield f"{name:{named}}  {_share(pixels, found.pixels)}"
    if absent := [c.name for c in found.classes if not c.images]:
        yield f"classes that were not seen: {_some(absent)}"
    if found.below_node:
        few = _some(f"{name} ({count})" for name, count in found.below_node.items())
        yield f"instances below one node, {STRIDE} × {STRIDE} px: {sum(found.below_node.values()):,}, in {few}"
    for what, names in (
        ("images without labels", found.unlabeled),
        ("labeled as stored, not as EXIF turns", found.turned),
    ):
        if names:
            yield f"{what}: {len(names):,}: {_some(names)}"
    for what, faults in (
        ("unknown ids", found.unknown_ids),
        ("empty masks", found.empty_masks),
        ("photographs of another size", found.mismatched),
        ("files that cannot be read", found.broken),
    ):
        if faults:
            yield f"{what}: {len(faults):,}: {_some(f'{name}: {fault}' for name, fault in faults.items())}"


def _some(names: Iterable[str]) -> str:
    """Name a few."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + more


def _share(part: int, whole: int) -> str:
    return f"{part / whole if whole else 0:7.2%}"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]} px"
