# SPDX-License-Identifier: Apache-2.0
"""From output stride 16 back to 4, with the low-level features (section 3.2, Figure 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from .layers import ConvNorm, SeparableConv, initialize

LOW_LEVEL = 32
"""Channels that the low-level features are reduced to."""


def space_to_depth(x: Tensor, factor: int, height: int, width: int) -> Tensor:
    """Rearrange [N, C, …] to [N, C · factor², height, width] as `F.pixel_unshuffle` does; zeros past the end of x."""
    if not torch.compiler.is_exporting():
        return F.pixel_unshuffle(F.pad(x, (0, width * factor - x.shape[3], 0, height * factor - x.shape[2])), factor)
    # The exporter cannot tell which of two symbolic sizes is the greater, nor what divides them: no pad, no view.
    offsets = [(dy, dx) for dy in range(factor) for dx in range(factor)]
    parts = [_take_every(_take_every(x, 2, dy, factor, height), 3, dx, factor, width) for dy, dx in offsets]
    return torch.stack(parts, 2).flatten(1, 2)


def _take_every(x: Tensor, axis: int, first: int, step: int, count: int) -> Tensor:
    """Return x[first :: step] along an axis, `count` of them, zeros past the end."""
    index = torch.arange(count, device=x.device) * step + first
    inside = (index < x.shape[axis]).to(x.dtype).view(-1, *[1] * (3 - axis))
    return x.index_select(axis, index.clamp(max=x.shape[axis] - 1)) * inside


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Return the upper left [N, C, height, width]."""
    if not torch.compiler.is_exporting():
        return x[:, :, :height, :width]
    return _take_every(_take_every(x, 2, 0, 1, height), 3, 0, 1, width)


class SpaceToDepth(nn.Module):
    """Convolutions at the coarse stride over what space-to-depth brings there; depth-to-space brings it back.

    Context [N, context, h, w] and features of stride 4 [N, low, h4, w4] to [N, out, h4, w4]. Where a side of h4 × w4 is
    no multiple of the factor, the features are padded at the bottom and right, and the output cropped.
    """

    def __init__(self, context: int, low: int, out: int, kernel: int, factor: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(low, LOW_LEVEL)
        wide = out * factor**2
        self.conv1 = SeparableConv(context + LOW_LEVEL * factor**2, wide, kernel)
        self.conv2 = SeparableConv(wide, wide, kernel)
        self.factor, self.out = factor, out
        initialize(self)

    def forward(self, context: Tensor, low: Tensor) -> Tensor:
        (height, width), (h4, w4), factor = context.shape[2:], low.shape[2:], self.factor
        x = torch.cat((context, space_to_depth(self.reduce(low), factor, height, width)), 1)
        return crop(F.pixel_shuffle(self.conv2(self.conv1(x)), factor), h4, w4)


class Bilinear(nn.Module):
    """The decoder of DeepLabv3+: the context is upsampled, the convolutions run at stride 4. An ablation."""

    def __init__(self, context: int, low: int, out: int, kernel: int, factor: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(low, LOW_LEVEL)
        self.conv1 = SeparableConv(context + LOW_LEVEL, out, kernel)
        self.conv2 = SeparableConv(out, out, kernel)
        self.factor, self.out = factor, out
        initialize(self)

    def forward(self, context: Tensor, low: Tensor) -> Tensor:
        (height, width), (h4, w4) = context.shape[2:], low.shape[2:]
        # Node factor · i shall see what node i of the context does; past its last node that one goes on.
        context = F.pad(context, (0, 1, 0, 1), mode="replicate")
        size = (height * self.factor + 1, width * self.factor + 1)
        up = crop(F.interpolate(context, size, mode="bilinear", align_corners=True), h4, w4)
        y: Tensor = self.conv2(self.conv1(torch.cat((up, self.reduce(low)), 1)))
        return y
