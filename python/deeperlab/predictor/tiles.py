# SPDX-License-Identifier: Apache-2.0
"""Plans for images that are too large for one piece: windows to read and to write, with what the network sees around.

Three ways, of three systems: windows with a halo of real neighbors, for networks that pad ("same" convolutions, all of
`deeperlab.models`); with a halo that is mirrored at the borders of the image, for those that do not ("valid", U-Net's
overlap-tile strategy); and windows that overlap and are averaged (PSPNet's sliding test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._layout import dtype_of
from .arrays import arange, take
from .checks import integer


@dataclass(frozen=True)
class Window:
    """Rows top … bottom − 1 and columns left … right − 1 of an image, in px; it may reach beyond the image."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.bottom - self.top, self.right - self.left

    def nodes(self, stride: int) -> tuple[slice, slice]:
        """Rows and columns of the nodes in it, which lie at multiples of `stride` px: node 0 is the image's first."""
        return slice(-(-self.top // stride), -(-self.bottom // stride)), slice(
            -(-self.left // stride), -(-self.right // stride)
        )

    def within(self, other: Window) -> Window:
        """Return the same pixels, counted from the corner of another window."""
        return Window(
            self.top - other.top, self.left - other.left, self.bottom - other.top, self.right - other.left
        )  # fmt: skip

    def clipped(self, size: tuple[int, int]) -> Window:
        """Return the part of it that an image of (H, W) px has."""
        return Window(max(0, self.top), max(0, self.left), min(size[0], self.bottom), min(size[1], self.right))


@dataclass(frozen=True)
class Tile:
    """A window that a network is given, and the part of it of which the output is kept."""

    read: Window
    write: Window


def tiles(size: tuple[int, int], tile: int, halo: int, *, multiple: int = 16, mirror: bool = False) -> list[Tile]:
    """Plan tiles that write every pixel of an image once, row by row.

    All windows to read are of one size, but the last ones of a side, which may be shorter by less than `multiple`. They
    begin at multiples of `multiple`, so that the nodes of a tile, at whatever
    stride divides it, are nodes of the image too; with `mirror`, `halo` px before one.

    * Without `mirror`, for networks that pad, windows stay in the image and hold `halo` px around what they write, but
      at the borders of the image, where the network pads as it would there anyway. There are as few as can be, spread
      evenly: what they have too much widens the halo. A side of the image that is no longer than `tile` is not cut.
    * With `mirror`, for networks that do not pad and whose output is `halo` px smaller on each side, windows hold
      `halo` px around what they write on every side, and what lies beyond the image is to be mirrored: see
      `take_window`. U-Net: a halo of 92 px, and tiles of 16 m + 12 px, such as 572.

    Args:
        size: (H, W) px of the image; for networks that pad to 16 m + 1 px, of the padded one.
        tile: px a side of what is read.
        halo: px on every side; at least (receptive field − 1) / 2 for the output of the whole image. Without `mirror`
            it is rounded up to a multiple of `multiple`.
        multiple: px, the coarsest stride of the network.
        mirror: see above.

    Raises:
        ValueError, TypeError: no such size, or a tile that is nothing but halo.
    """
    _check_size(size)
    _check(multiple=multiple)
    integer("halo", halo, least=0)
    halo = halo if mirror else round_up(halo, multiple)
    integer("tile", tile, least=2 * halo + multiple, why=f", {multiple} beside a halo of {halo} on either side")
    rows, columns = ((_mirrored_spans if mirror else _spans)(side, tile, halo, multiple) for side in size)
    return _grid(rows, columns)


def sliding(size: tuple[int, int], tile: int, step: int, *, multiple: int = 1) -> list[Tile]:
    """Plan windows that overlap, row by row, each of which writes all that it reads: `Average` merges them.

    Args:
        size: (H, W) px of the image.
        tile: px a side; a shorter side of the image is not cut.
        step: px from one to the next, at most `tile`; the last ends with the image and so may be nearer. PSPNet's test
            takes two thirds of the tile.
        multiple: px; windows begin at multiples of it.

    Raises:
        ValueError, TypeError: no such size.
    """
    _check_size(size)
    _check(multiple=multiple, tile=tile, step=step)
    if step > tile or step % multiple:
        raise ValueError(f"step: expected a multiple of {multiple}, at most the tile of {tile} px, got {step}")

    def spans(length: int) -> list[_Span]:
        last = round_up(max(0, length - tile), multiple)
        begins = [*range(0, last, step), last]
        return [(begin, min(length, begin + tile)) * 2 for begin in begins]

    return _grid(spans(size[0]), spans(size[1]))


def _check_size(size: Any) -> None:
    if not isinstance(size, Sequence) or len(size) != 2 or isinstance(size, str):
        raise ValueError(f"size: expected (H, W), got {size!r}")
    _check(height=size[0], width=size[1])


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        integer(name, value, least=1)


_Span = tuple[int, int, int, int]
"""First and end of what is read, and of what is written, along one axis."""


def _grid(rows: Sequence[_Span], columns: Sequence[_Span]) -> list[Tile]:
    return [
        Tile(Window(top, left, bottom, right), Window(first, begin, last, end))
        for top, bottom, first, last in rows
        for left, right, begin, end in columns
    ]


def _mirrored_spans(length: int, tile: int, halo: int, multiple: int) -> list[_Span]:
    step = (tile - 2 * halo) // multiple * multiple
    return [(begin - halo, begin - halo + tile, begin, min(length, begin + step)) for begin in range(0, length, step)]


def _spans(length: int, tile: int, halo: int, multiple: int) -> list[_Span]:
    """Spread as many windows as are needed evenly, and part them in the middle of what two of them share."""
    last = round_up(max(0, length - tile), multiple)
    longest = (tile - halo) // multiple * multiple - halo  # from one to the next
    gaps = -(-last // longest)
    firsts = [(2 * i * last // multiple + gaps) // (2 * gaps) * multiple for i in range(gaps + 1)] if gaps else [0]
    parts = [0, *((a + tile + b) // 2 // multiple * multiple for a, b in pairwise(firsts)), length]
    return [
        (first, min(length, first + tile), begin, end)
        for first, (begin, end) in zip(firsts, pairwise(parts), strict=True)
    ]


def take_window(image: Any, window: Window) -> Any:
    """Return the pixels of a window of an image [H, W, …], an array or a tensor, mirrored where it has none.

    The edge itself is not repeated: before pixel 0 comes pixel 1. Windows in the image are views.

    Raises:
        TypeError: no array and no tensor.
        ValueError: an image without pixels, or a window whose ends are before its beginnings.
    """
    shape = getattr(image, "shape", None)
    if shape is None:
        raise TypeError(f"image: expected an array or a tensor, got {type(image).__name__}")
    if len(shape) < 2 or 0 in shape[:2]:
        raise ValueError(f"image: expected at least one pixel, [H, W, …], got shape {list(shape)}")
    if min(window.size) < 0:
        raise ValueError(f"window: expected top <= bottom and left <= right, got {window}")
    height, width = shape[:2]
    if window == window.clipped((height, width)):
        return image[window.top : window.bottom, window.left : window.right]
    rows = _mirrored(window.top + arange(window.size[0], image), height)
    columns = _mirrored(window.left + arange(window.size[1], image), width)
    return take(take(image, rows, 0), columns, 1)


def _mirrored(index: Any, length: int) -> Any:
    """Indices of any integers in a row that goes there and back for ever."""
    period = max(1, 2 * (length - 1))
    index = index % period
    return length - 1 - abs(length - 1 - index)


class Average:
    """Merges outputs of windows that overlap, such as logits or probabilities, by a weighted mean.

    Args:
        shape: […, H, W] of the whole.
        weights: "uniform", PSPNet's; or "tent", which falls linearly from the middle of a window to 1 px from its
            borders, so that no seam is seen.
    """

    def __init__(self, shape: Sequence[int], weights: Literal["uniform", "tent"] = "uniform") -> None:
        if weights not in ("uniform", "tent"):
            raise ValueError(f"weights: expected uniform or tent, got {weights!r}")
        self._shape, self._tent = tuple(shape), weights == "tent"
        if len(self._shape) < 2:
            raise ValueError(f"shape: expected […, H, W], got {list(shape)}")
        self._sum: Any = None
        self._weight: Any = None

    def add(self, tile: Tile, values: Any) -> None:
        """Add the output […, h, w] of a window, an array or a tensor; all are of one kind and dtype.

        Numbers of less than 32 bits, or of none behind the point, are added up as float32: they would overflow.
        """
        window, height, width = tile.write, *self._shape[-2:]
        if window != window.clipped((height, width)):
            raise ValueError(f"tile: expected one that writes within {height} × {width} px, got {window}")
        rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
        if tuple(values.shape[-2:]) != window.size or tuple(values.shape[:-2]) != self._shape[:-2]:
            raise ValueError(
                f"values: expected shape {[*self._shape[:-2], *window.size]}, got {list(values.shape)}"
            )  # fmt: skip
        values = _wide(values)
        if self._sum is None:
            self._sum, self._weight = _zeros(self._shape, values), _zeros(self._shape[-2:], values)
        weights = _like(self._weights(window.size), values)
        self._sum[..., rows, columns] += values * weights
        self._weight[rows, columns] += weights

    def mean(self) -> Any:
        """Return it, […, H, W]; NaN where no window was."""
        if self._sum is None:
            raise ValueError("mean: expected at least one window, got none")
        with np.errstate(invalid="ignore"):
            return self._sum / self._weight

    def _weights(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """[h, w], positive."""
        if not self._tent:
            return np.ones(size, np.float32)
        y, x = (np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(np.float32) for n in size)
        return np.outer(y, x)


def _wide(values: Any) -> Any:
    """As float32 or float64."""
    if dtype_of(values) in ("float32", "float64"):
        return values
    return values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()


def _zeros(shape: Sequence[int], like: Any) -> Any:
    return np.zeros(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_zeros(shape)


def _like(values: NDArray[np.float32], like: Any) -> Any:
    return values.astype(like.dtype) if isinstance(like, np.ndarray) else like.new_tensor(values)


def round_up(value: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-value // multiple) * multiple
