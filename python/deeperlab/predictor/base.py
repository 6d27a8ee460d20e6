# SPDX-License-Identifier: Apache-2.0
"""What all parsers do alike, whatever computes the heads: labels, sizes, batches of one padded size, the fusion."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, overload

from ..crf import CRFParams
from ..crf import params_of as crf_params
from ..data.labels import LabelSet, find
from ..fuse import fuse
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from .checks import integer
from .mosaic import Mosaic
from .refine import refined
from .resize import resized
from .small_stuff import without_small_stuff
from .tiles import round_up, take_window, tiles

GRID = 16
"""Inputs are padded to 16 m + 1 px, as all of the paper's sizes are: there the nodes of every stride up to 16 lie on
multiples of it, and the last ones of all strides on the same pixel."""


@dataclass(frozen=True, eq=False)
class Parsed:
    """One image: the map at the size of the image, and the heads it came from.

    Attributes:
        seen: the map of the image as the network saw it.
        heads: without batch dimension, cut to the nodes of the image as the network saw it; of an image in tiles with
            labels for logits.
        original: (H, W) px of the image itself.
        finite: of an image in tiles, whether the logits of its labels were: a scalar where the heads are.
    """

    seen: Panoptic
    heads: Heads
    original: tuple[int, int]
    finite: Any = True

    @property
    def size(self) -> tuple[int, int]:
        """(H', W') px of the image as the network saw it, without padding: `fuse(heads, things, size=size)`.

        Where the parser has a CRF, `seen` comes of labels instead of the semantic head.
        """
        return self.seen.size

    @cached_property
    def panoptic(self) -> Panoptic:
        """A single image, at its original size; made when it is first asked for."""
        return resized(self.seen, self.original)


def params_of(model: object) -> FuseParams | None:
    """Return the parameters of the fusion that a network brings, its `radius` and `fusion`; None: it has neither."""
    own: dict[str, Any] = dict(getattr(model, "fusion", {}))
    if (radius := getattr(model, "radius", None)) is not None:
        own["radius"] = radius
    return FuseParams(**own) if own else None


class BaseParser(abc.ABC):
    """Images to maps by a network that a subclass runs.

    Args:
        model: what has `num_classes`, and perhaps `labels`, `image_size`, `radius`, `fusion` and `stuff_area`.
        labels, size, batch, params, stuff_area, tile, halo, crf: see `Parser`.
    """

    runtime: ClassVar[str]
    """What computes the heads; with another one they are rounded otherwise."""
    dtype: Any = None
    """Of autocast."""

    def __init__(
        self,
        model: Any,
        labels: LabelSet | str | os.PathLike[str] | None,
        *,
        size: int | None,
        batch: int,
        params: FuseParams | None,
        stuff_area: float | None,
        tile: int | None,
        halo: int | None,
        crf: CRFParams | str | None,
    ) -> None:
        if labels is None:
            labels = getattr(model, "labels", None)
        if not isinstance(labels, (LabelSet, str, os.PathLike)):
            none = ", as the model has none of its own" if labels is None else ""
            raise TypeError(f"labels: expected a LabelSet, a name or a file, got {type(labels).__name__}{none}")
        self.labels = labels if isinstance(labels, LabelSet) else find(labels)
        if model.num_classes != len(self.labels):
            raise ValueError(
                f"labels: expected {model.num_classes} classes as the model has, got {len(self.labels)} of "
                f"{self.labels.name}"
            )
        if size is None:  # who cuts an image into tiles wants its pixels
            size = getattr(model, "image_size", 0) if tile is None else 0
        self.size = integer("size", size, least=0) or None
        self.batch = integer("batch", batch, least=1)
        self.params = params_of(model) if params is None else params
        self.stuff_area = float(getattr(model, "stuff_area", 0.0) if stuff_area is None else stuff_area)
        if not 0 <= self.stuff_area < 1:
            raise ValueError(f"stuff_area: expected a share from 0 to below 1, got {self.stuff_area}")
        if tile is None and halo is not None:
            raise ValueError(f"halo: expected None without a tile, got {halo!r}")
        self.tile = None if tile is None else _side(integer("tile", tile, least=4 * GRID + 1))
        self.halo = None if self.tile is None else _halo(halo, self.tile, lambda: self._reach(model))
        self.crf = None if crf is None else crf_params(crf)

    @staticmethod
    def _reach(model: Any) -> int | None:
        """How many px around a window a network sees, where that can be told."""
        return None

    @abc.abstractmethod
    def _pixels(self, image: Any, name: str) -> Any:
        """Return what users call an image as uint8 [H, W, 3], of the kind that `_heads` takes."""

    @abc.abstractmethod
    def _resized(self, image: Any, size: tuple[int, int]) -> Any:
        """Return an image at (H, W) px, of colors 0 … 255: itself where it has that size."""

    @abc.abstractmethod
    def _heads(self, images: Sequence[Any], sizes: Sequence[tuple[int, int]], padded: tuple[int, int]) -> Heads:
        """Compute heads of images resized to these sizes, scaled, and padded to one size."""

    @overload
    def __call__(self, images: Sequence[Any]) -> list[Panoptic]: ...

    @overload
    def __call__(self, images: Any) -> Any: ...

    def __call__(self, images: Any) -> Any:
        """`Panoptic` of one image, or `list[Panoptic]` of several, each a single image at its original size.

        Args:
            images: one image or a sequence of them, sizes may differ: uint8 RGB [H, W, 3] arrays or tensors, or Pillow
                images of 8 bits, which are turned upright as their EXIF orientation says. An array or a tensor
                [N, H, W, 3] is a sequence.

        Returns:
            Of `Parser`, tensors on the network's device, or on the CPU where the fusion has no kernels for that device;
            of `OnnxParser`, arrays.

        Raises:
            TypeError, ValueError: no image as above; its place in the sequence is named.
            RuntimeError: the network is in training mode, or its runtime fails.
        """
        dimensions = getattr(images, "ndim", None)
        if dimensions not in (None, 3, 4):
            shape = list(images.shape)
            raise ValueError(f"images: expected one image [H, W, 3], [N, H, W, 3] or a sequence, got shape {shape}")
        one = hasattr(images, "convert") or dimensions == 3
        found = [parsed.panoptic for parsed in self.stream([images] if one else images)]
        return found[0] if one else found

    def stream(
        self, images: Iterable[Any], on_tiles: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Parsed]:
        """Every image, in order; no more than `batch` of them are held at a time, of those in tiles no more than one.

        Args:
            images: as of a call.
            on_tiles: called with the tiles that are done of an image, and how many it has.
        """
        if isinstance(images, (str, bytes, dict)) or not isinstance(images, Iterable):
            raise TypeError(f"images: expected images, or one image [H, W, 3], got {type(images).__name__}")
        held: list[Any] = []
        for i, image in enumerate(images):
            pixels = self._pixels(image, f"images[{i}]")
            del image
            if self.tile is not None and max(self._padded(pixels)) > self.tile:
                yield from self._parse(held) if held else ()
                held = []
                yield self._parse_in_tiles(pixels, on_tiles)
                continue
            if held and self._padded(pixels) != self._padded(held[0]):
                yield from self._parse(held)
                held = []
            held.append(pixels)
            if len(held) == self.batch:
                yield from self._parse(held)
                held = []
        if held:
            yield from self._parse(held)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H', W') px of an image as the network sees it, without padding."""
        if self.size is None:
            return height, width
        longest = max(height, width)
        return max(1, round(height * self.size / longest)), max(1, round(width * self.size / longest))

    def _padded(self, image: Any) -> tuple[int, int]:
        """(H, W) px of the network's input."""
        height, width = (-(-(side - 1) // GRID) * GRID + 1 for side in self.input_size(*image.shape[:2]))
        return height, width

    def _parse(self, images: Sequence[Any]) -> list[Parsed]:
        """Images that are padded to one size."""
        sizes = [self.input_size(*image.shape[:2]) for image in images]
        heads = self._heads(images, sizes, self._padded(images[0]))
        alike = len(set(sizes)) == 1
        if alike:
            heads = _cut(heads, sizes[0])
            parts = [_image(heads, i) for i in range(len(images))]
        else:
            parts = [_cut(_image(heads, i), size) for i, size in enumerate(sizes)]
        if alike and self.crf is None:
            maps = list(self._fuse(heads, sizes[0]))
        else:
            judged = [self._judged(*given) for given in zip(parts, images, sizes, strict=True)]
            maps = [self._fuse(part, size) for part, size in zip(judged, sizes, strict=True)]
        return [
            Parsed(seen, part, (image.shape[0], image.shape[1]))
            for image, seen, part in zip(images, maps, parts, strict=True)
        ]

    def _parse_in_tiles(self, image: Any, on_tiles: Callable[[int, int], None]) -> Parsed:
        """An image that is larger than a tile: `batch` tiles go through the network at once."""
        assert self.tile is not None
        assert self.halo is not None
        size = self.input_size(*image.shape[:2])
        pixels, mosaic = self._resized(image, size), Mosaic(size)
        plan = tiles(self._padded(image), self.tile, self.halo, multiple=GRID)
        for first in range(0, len(plan), self.batch):
            group = plan[first : first + self.batch]
            windows = [tile.read.clipped(size) for tile in group]
            parts = [take_window(pixels, window) for window in windows]
            heads = self._heads(parts, [window.size for window in windows], group[0].read.size)
            for i, tile in enumerate(group):
                mosaic.add(tile, _image(heads, i))
            on_tiles(first + len(group), len(plan))
        del pixels, parts, heads
        whole = mosaic.heads()
        judged = self._judged(whole, image, size)
        return Parsed(self._fuse(judged, size), whole, (image.shape[0], image.shape[1]), mosaic.finite)

    def _judged(self, heads: Heads, image: Any, size: tuple[int, int]) -> Heads:
        """The heads of one image that are fused."""
        return heads if self.crf is None else refined(heads, self._resized(image, size), self.crf)

    def _fuse(self, heads: Heads, size: tuple[int, int]) -> Panoptic:
        return without_small_stuff(fuse(heads, self.labels.things, size=size, params=self.params), self.stuff_area)


def _cut(heads: Heads, size: tuple[int, int]) -> Heads:
    """A view of the nodes up to the last that a pixel of the image lies before: padding has no vote."""
    h, w = (-(-(side - 1) // heads.stride) + 1 for side in size)
    return heads.map(lambda head: head[..., :h, :w])


def _image(heads: Heads, i: int) -> Heads:
    """A view of one image of a batch."""
    return heads.map(lambda head: head[i])


def _side(tile: int) -> int:
    """A tile that has nodes of all strides at its borders."""
    below = (tile - 1) // GRID * GRID + 1
    if tile != below:
        raise ValueError(f"tile: expected {GRID} m + 1 px, as {below} or {below + GRID}, got {tile}")
    return tile


def _halo(halo: int | None, tile: int, reach: Callable[[], int | None]) -> int:
    """Px around what a tile writes, a multiple of the grid."""
    if halo is None:
        most, needed = tile // 8 // GRID * GRID, reach()
        return most if needed is None else min(most, needed)
    halo = round_up(integer("halo", halo, least=0), GRID)
    integer("tile", tile, least=2 * halo + GRID + 1, why=f", {GRID + 1} beside a halo of {halo} on either side")
    return halo
