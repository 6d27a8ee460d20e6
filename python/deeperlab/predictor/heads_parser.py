# SPDX-License-Identifier: Apache-2.0
"""Parsers by a network of heads, whatever computes them: sizes, batches of one padded size, tiles, the fusion."""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from ..crf import CRFParams
from ..crf import params_of as crf_params
from ..data.labels import LabelSet
from ..fuse import fuse
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from .base import BaseParser, Parsed
from .checks import integer
from .mosaic import Mosaic
from .refine import refined
from .small_stuff import without_small_stuff
from .tiles import Tile, round_up, take_window, tiles

GRID = 16
"""Inputs are padded to 16 m + 1 px, as all of the paper's sizes are: there the nodes of every stride up to 16 lie on
multiples of it, and the last ones of all strides on the same pixel."""


def params_of(model: object) -> FuseParams | None:
    """Return the parameters of the fusion that a network brings, its `radius` and `fusion`; None: it has neither."""
    own: dict[str, Any] = dict(getattr(model, "fusion", {}))
    if (radius := getattr(model, "radius", None)) is not None:
        own["radius"] = radius
    return FuseParams(**own) if own else None


class HeadsParser(BaseParser):
    """Images to maps by a network that a subclass runs.

    Args:
        model: what has `num_classes`, and perhaps `labels`, `image_size`, `radius`, `fusion` and `stuff_area`.
        labels, size, batch, params, stuff_area, tile, halo, crf: see `Parser`.
    """

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
        super().__init__(labels, batch=batch)
        if model.num_classes != len(self.labels):
            raise ValueError(
                f"labels: expected {model.num_classes} classes as the model has, got {len(self.labels)} of "
                f"{self.labels.name}"
            )
        if size is None:  # who cuts an image into tiles wants its pixels
            size = getattr(model, "image_size", 0) if tile is None else 0
        self.size = integer("size", size, least=0) or None
        self.params = params_of(model) if params is None else params
        self.stuff_area = float(getattr(model, "stuff_area", 0.0) if stuff_area is None else stuff_area)
        if not 0 <= self.stuff_area < 1:
            raise ValueError(f"stuff_area: expected a share from 0 to below 1, got {self.stuff_area}")
        if tile is None and halo is not None:
            raise ValueError(f"halo: expected None without a tile, got {halo!r}")
        self.tile = None if tile is None else _side(integer("tile", tile, least=4 * GRID + 1))
        self._multiple = GRID if self.tile is None else math.lcm(GRID, self._coarsest_stride(model))
        self.halo = None if self.tile is None else self._halo(halo, self.tile, model)
        self.crf = None if crf is None else crf_params(crf)

    @staticmethod
    def _coarsest_stride(model: Any) -> int:
        """Px, of which windows begin at multiples. Where it cannot be measured: no network of `models.MODELS` has more
        than 16, and none of `models.SYSTEMS`, whose configs name them, more than 32."""
        return 32 if "system" in getattr(model, "config", ()) else GRID

    @staticmethod
    def _reach(model: Any, multiple: int) -> int | None:
        """How many px around a window a network sees, a multiple, where that can be told."""
        return None

    def _halo(self, halo: int | None, tile: int, model: Any) -> int:
        """Px around what a tile writes, a multiple of that of windows."""
        multiple = self._multiple
        if halo is None:
            most, needed = tile // 8 // multiple * multiple, self._reach(model, multiple)
            return most if needed is None else min(most, needed)
        halo, least = round_up(integer("halo", halo, least=0), multiple), multiple + 1
        integer("tile", tile, least=2 * halo + least, why=f", {least} beside a halo of {halo} on either side")
        return halo

    @abc.abstractmethod
    def _resized(self, image: Any, size: tuple[int, int]) -> Any:
        """Return an image at (H, W) px, of colors 0 … 255: itself where it has that size."""

    @abc.abstractmethod
    def _heads(self, images: Sequence[Any], sizes: Sequence[tuple[int, int]], padded: tuple[int, int]) -> Heads:
        """Compute heads of images resized to these sizes, scaled, and padded to one size."""

    def settings(self) -> dict[str, Any]:
        """As of `BaseParser`."""
        told: dict[str, Any] = {
            "size": self.size,
            "dtype": "float32" if self.dtype is None else str(self.dtype).removeprefix("torch."),
            "fusion": asdict(self.params or FuseParams()),
        }
        told |= {"stuff_area": self.stuff_area} if self.stuff_area else {}
        told |= {} if self.tile is None else {"tile": self.tile, "halo": self.halo}
        return told | ({"crf": asdict(self.crf)} if self.crf else {})

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

    def _together(self, image: Any) -> Hashable | None:
        padded = self._padded(image)
        return padded if self.tile is None or max(padded) <= self.tile else None

    def _parse(self, images: Sequence[Any], on_tiles: Callable[[int, int], None]) -> list[Parsed]:
        """Images that are padded to one size, or one in tiles."""
        if self._together(images[0]) is None:
            return [self._parse_in_tiles(images[0], on_tiles)]
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
        pixels, mosaic, done = self._resized(image, size), Mosaic(size, self._padded(image)), 0
        plan = tiles(self._padded(image), self.tile, self.halo, multiple=self._multiple)
        for group in _alike(plan, self.batch):
            windows = [tile.read.clipped(size) for tile in group]
            parts = [take_window(pixels, window) for window in windows]
            heads = self._heads(parts, [window.size for window in windows], group[0].read.size)
            for i, tile in enumerate(group):
                mosaic.add(tile, _image(heads, i))
            done += len(group)
            on_tiles(done, len(plan))
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


def _alike(plan: Sequence[Tile], batch: int) -> Iterator[list[Tile]]:
    """At most so many tiles at a time, of one size: the last ones of a side may be shorter."""
    for _, run in groupby(sorted(plan, key=lambda tile: tile.read.size), key=lambda tile: tile.read.size):
        held = list(run)
        yield from (held[i : i + batch] for i in range(0, len(held), batch))
