# SPDX-License-Identifier: Apache-2.0
"""Features at other places than their nodes: resampled, pooled into bins, mirrored past the edges of an image.

All of it takes sizes that a compiler or an exporter does not know yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor


def between(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample bilinearly: [N, C, h, w] at positions counted in nodes, [H] and [W], to [N, C, H, W].

    Beyond the first and the last node their values go on.
    """
    return _between(_between(x, 3, columns), 2, rows)


def _between(x: Tensor, axis: int, positions: Tensor) -> Tensor:
    last = torch.arange(x.shape[axis], device=x.device)[-1:]
    inside = positions.clamp(min=0).minimum(last)
    before = inside.long()
    share = (inside - before).to(x.dtype).view(-1, *[1] * (3 - axis))
    return x.index_select(axis, before) * (1 - share) + x.index_select(axis, (before + 1).minimum(last)) * share


def stretched(x: Tensor, height: int, width: int) -> Tensor:
    """Resize bilinearly so that the first and the last nodes stay where they are ("align corners")."""
    rows, columns = (_spaced(size, nodes, x) for size, nodes in zip((height, width), x.shape[2:], strict=True))
    return between(x, rows, columns)


def _spaced(size: int, nodes: int, like: Tensor) -> Tensor:
    place = torch.arange(size, device=like.device, dtype=torch.float32)
    return place * (nodes - 1) / place[-1:].clamp(min=1)


def pooled(x: Tensor, bins: int) -> Tensor:
    """Average over bins × bins parts of the grid, [N, C, h, w] to [N, C, bins, bins], as adaptive pooling has them.

    Bin i holds the nodes from floor(i · h / bins) to before ceil((i + 1) · h / bins).
    """
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(x, bins)
    for axis in (2, 3):  # the exporter to ONNX knows no pool whose windows depend on the size
        nodes = x.shape[axis]
        node = torch.arange(nodes, device=x.device).view(-1, *[1] * (3 - axis))
        parts = []
        for i in range(bins):
            inside = ((node >= i * nodes // bins) & (node < ((i + 1) * nodes + bins - 1) // bins)).to(x.dtype)
            parts.append((x * inside).sum(axis) / inside.sum())
        x = torch.stack(parts, axis)
    return x


def mirrored(images: Tensor, before: int, height: int, width: int) -> Tensor:
    """Extend images [N, C, H, W] to [N, C, height, width] by their mirror images, the edge itself not repeated.

    Args:
        images: of any size, also one that is mirrored several times.
        before: px to add at the top and at the left; the rest is added at the bottom and at the right.
        height, width: px, of the result.
    """
    for axis, size in ((2, height), (3, width)):
        there = images.shape[axis]
        period = (2 * torch.arange(there, device=images.device)[-1:]).clamp(min=1)
        place = (torch.arange(size, device=images.device) - before) % period
        images = images.index_select(axis, place.minimum(period - place))
    return images


@dataclass(frozen=True)
class Frame:
    """How an image is extended for a network that takes no image as it is, and where its output lies on the image.

    The image is mirrored at its edges until the output covers it: valid convolutions lose a margin on every side (the
    overlap-tile strategy of U-Net, section 2), and 2 × 2 pools want sides that they divide.

    Attributes:
        margin: px on every side that the output does not cover.
        multiple, remainder: sides of what the output covers are multiple · n + remainder px.
        least: px, the smallest such side.
        every: px between two nodes of the output. The first lies over the middle of the first `every` px, as after
            pools whose windows do not overlap.
    """

    margin: int = 0
    multiple: int = 1
    remainder: int = 0
    least: int = 1
    every: int = 1

    def extend(self, images: Tensor) -> Tensor:
        """Return the images as the network takes them."""
        height, width = (self._covered(side) + 2 * self.margin for side in images.shape[2:])
        return mirrored(images, self.margin, height, width)

    def _covered(self, side: int) -> int:
        number = (side - self.remainder + self.multiple - 1) // self.multiple
        if self.least > 1:
            number = _larger(number, self.least // self.multiple)
        return number * self.multiple + self.remainder

    def on_nodes(self, output: Tensor, stride: int, height: int, width: int) -> Tensor:
        """Return the output at the nodes of an image of height × width px, node (i, j) at pixel (stride · i, …)."""
        rows, columns = (
            (torch.arange((side + stride - 1) // stride, device=output.device) * stride - (self.every - 1) / 2)
            / self.every
            for side in (height, width)
        )
        return between(output, rows, columns)


def _larger(a: int, b: int) -> int:
    """The larger number, of numbers that an exporter may not know yet."""
    found: int = torch.sym_max(a, b)  # type: ignore[no-untyped-call]
    return found
