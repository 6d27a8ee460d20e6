# SPDX-License-Identifier: Apache-2.0
"""What all parsers do alike, whatever they parse with: labels, images one by one or many, and in which order."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, overload

from ..data.labels import LabelSet, find
from ..heads import Heads
from ..panoptic import Panoptic
from .checks import integer
from .resize import resized


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


class BaseParser(abc.ABC):
    """Images to maps by what a subclass runs.

    Args:
        labels: a label set, the name of a preset, or a file.
        batch: images that are parsed at once, at most.
    """

    runtime: ClassVar[str]
    """What computes; with another one results are rounded otherwise."""

    def __init__(self, labels: LabelSet | str | os.PathLike[str], *, batch: int) -> None:
        self.labels = labels if isinstance(labels, LabelSet) else find(labels)
        self.batch = integer("batch", batch, least=1)

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What of the parser decides what an image becomes, but for the network and the labels, in types of JSON."""

    @abc.abstractmethod
    def _pixels(self, image: Any, name: str) -> Any:
        """Return what users call an image as uint8 [H, W, 3], of the kind that `_parse` takes."""

    @abc.abstractmethod
    def _together(self, image: Any) -> Hashable | None:
        """Return what images have in common that are parsed at once; None: this one is parsed alone."""

    @abc.abstractmethod
    def _parse(self, images: Sequence[Any], on_tiles: Callable[[int, int], None]) -> list[Parsed]:
        """Parse images that are parsed at once."""

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
        common: Hashable | None = None
        for i, image in enumerate(images):
            pixels = self._pixels(image, f"images[{i}]")
            del image
            before, common = common, self._together(pixels)
            if held and common != before:
                yield from self._parse(held, on_tiles)
                held = []
            held.append(pixels)
            del pixels
            if common is None or len(held) == self.batch:
                yield from self._parse(held, on_tiles)
                held = []
        if held:
            yield from self._parse(held, on_tiles)
