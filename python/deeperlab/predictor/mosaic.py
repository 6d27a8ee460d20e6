# SPDX-License-Identifier: Apache-2.0
"""Heads of a whole image, put together from those of its tiles, so that one fusion sees them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._layout import is_finite
from .._threads import thread_count
from ..heads import NAMES, Heads
from .arrays import module_of
from .tiles import Tile, Window

LABELS = "semantic"
MOST_OF_A_BYTE = 256
MOST_NODES, MOST_NODES_A_SIDE = 1 << 26, 1 << 24
"""Of an image in one fusion: 32,768 × 32,768 px at stride 4."""


class Mosaic:
    """Takes heads of tiles and keeps of each what it writes: nodes and pixels, every one once.

    Offsets are relative to their pixel and stay as they are. The C channels of logits become labels, one a pixel, tile
    by tile: those that the fusion would find, at a byte or two each instead of C / stride² floats.

    Args:
        size: (H, W) px of the image as the network sees it, without padding.
        padded: likewise, with it.

    Attributes:
        finite: whether all logits were: labels do not tell any more. A scalar where the heads are, not waited for.
    """

    def __init__(self, size: tuple[int, int], padded: tuple[int, int]) -> None:
        self._size, self._padded = size, padded
        self._heads: Heads | None = None
        self.finite: Any = True

    def add(self, tile: Tile, heads: Heads) -> None:
        """Put in the heads of a tile, without batch dimension; all tiles have heads of one kind, dtype and stride."""
        if self._heads is None:
            self._heads = self._room(heads)
        stride, read = heads.stride, tile.read
        rows, columns = _common(tile.write.nodes(stride), self._heads.heatmap.shape[-2:])
        first, begin = read.top // stride, read.left // stride
        here = slice(rows.start - first, rows.stop - first), slice(columns.start - begin, columns.stop - begin)
        for name in NAMES:
            if name != LABELS:
                getattr(self._heads, name)[..., rows, columns] = getattr(heads, name)[..., here[0], here[1]]
        self.finite = self.finite & is_finite(heads.semantic)
        write = tile.write.clipped(self._size)
        self._heads.semantic[write.top : write.bottom, write.left : write.right] = self._labels(heads, write, read)

    def heads(self) -> Heads:
        """Return those of the image, without batch dimension, once all tiles are there."""
        if self._heads is None:
            raise ValueError("heads: expected those of at least one tile, got none")
        return self._heads

    def _room(self, like: Heads) -> Heads:
        """Heads of the image that hold nothing yet."""
        h, w = (
            min(-(-(side - 1) // like.stride), (padded - 1) // like.stride) + 1
            for side, padded in zip(self._size, self._padded, strict=True)
        )
        if h * w > MOST_NODES or max(h, w) > MOST_NODES_A_SIDE:  # before hours of work that the fusion would refuse
            raise ValueError(
                f"heatmap: expected at most 2^{MOST_NODES.bit_length() - 1} nodes in one image (the fixed point of the "
                f"votes) and 2^{MOST_NODES_A_SIDE.bit_length() - 1} a side, got {h} x {w}"
            )
        made = {name: _empty(getattr(like, name), (getattr(like, name).shape[0], h, w)) for name in NAMES[1:]}
        kind = "uint8" if like.classes <= MOST_OF_A_BYTE else "int16"
        labels = _empty(like.heatmap, self._size, getattr(module_of(like.heatmap), kind))
        return replace(like, semantic=labels, num_classes=like.classes, **made)

    def _labels(self, heads: Heads, write: Window, read: Window) -> Any:
        """Classes [h, w] of the pixels of a window, from logits: what lies between nodes needs those on both sides."""
        stride = heads.stride
        top, left = (write.top - read.top) // stride, (write.left - read.left) // stride
        h, w = (-(-(side - 1) // stride) + 1 for side in write.size)
        h, w = min(h + 1, heads.semantic.shape[-2] - top), min(w + 1, heads.semantic.shape[-1] - left)
        logits = heads.semantic[None, :, top : top + h, left : left + w]
        options: dict[str, Any] = {"num_classes": heads.classes, "stride": stride, "nodes": (h, w), "size": write.size}
        if isinstance(logits, np.ndarray):
            from ..stages import numpy_ops

            return numpy_ops.argmax(logits, **options, num_threads=thread_count(None))[1][0]
        from .._torch_library import call
        from ..stages import torch_ops

        return call(torch_ops.argmax, logits, **options)[1][0]


def _common(slices: tuple[slice, slice], shape: Any) -> tuple[slice, slice]:
    """What of rows and columns there is in a map of a shape."""
    rows, columns = (slice(s.start, min(s.stop, side)) for s, side in zip(slices, shape, strict=True))
    return rows, columns


def _empty(like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    dtype = like.dtype if dtype is None else dtype
    return np.empty(shape, dtype) if isinstance(like, np.ndarray) else like.new_empty(shape, dtype=dtype)
