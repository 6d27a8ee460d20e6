# SPDX-License-Identifier: Apache-2.0
"""From coarse features back to fine ones, with features of other levels of the pyramid: `skips` says which."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from .layers import ConvNorm, Folding, SeparableConv, initialize, initialize_he


class Plain(nn.Module):
    """The context as it is."""

    skips = ()

    def __init__(self, channels: int | tuple[int, ...]) -> None:
        super().__init__()
        self.out = channels

    def forward(self, context: Tensor) -> Tensor:
        return context


class Skips(nn.Module):
    """The context and features of finer levels, each as it is: FCN's, whose heads score and add them (section 4.2)."""

    def __init__(self, context: int, channels: tuple[int, ...], skips: tuple[int, ...]) -> None:
        super().__init__()
        self.skips = skips
        self.out = (context, *channels)

    def forward(self, context: Tensor, *finer: Tensor) -> tuple[Tensor, ...]:
        return (context, *finer)


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


class Beside(nn.Module):
    """The context beside what two layers make of the image and of finer features (DeepLab v1, section 4.3).

    Args:
        context: channels.
        finer: where in the pyramid the others are: their channels, and the stride that brings them to the context's.
    """

    WIDTH = 128

    def __init__(self, context: int, finer: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self.skips = tuple(finer)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, self.WIDTH, 3, step, 1), nn.ReLU(), nn.Conv2d(self.WIDTH, self.WIDTH, 1), nn.ReLU()
            )
            for channels, step in finer.values()
        )
        self.out = context + self.WIDTH * len(finer)
        initialize_he(self)

    def forward(self, context: Tensor, *finer: Tensor) -> Tensor:
        return torch.cat([context, *(branch(x) for branch, x in zip(self.branches, finer, strict=True))], 1)


class SpaceToDepth(nn.Module):
    """The paper's (section 3.2, Figure 2): convolutions at the coarse stride over what space-to-depth brings there,
    depth-to-space brings it back.

    Context [N, context, h, w] and features of stride 4 [N, low, h4, w4] to [N, out, h4, w4]. Where a side of h4 × w4 is
    no multiple of the factor, the features are padded at the bottom and right, and the output cropped. The features are
    reduced to `low_level` channels before.
    """

    skips = (4,)

    def __init__(self, context: int, low: int, out: int, kernel: int, factor: int, low_level: int = 32) -> None:
        super().__init__()
        self.reduce = ConvNorm(low, low_level)
        wide = out * factor**2
        self.conv1 = SeparableConv(context + low_level * factor**2, wide, kernel)
        self.conv2 = SeparableConv(wide, wide, kernel)
        self.factor, self.out = factor, out
        initialize(self)

    def forward(self, context: Tensor, low: Tensor) -> Tensor:
        (height, width), (h4, w4), factor = context.shape[2:], low.shape[2:], self.factor
        x = torch.cat((context, space_to_depth(self.reduce(low), factor, height, width)), 1)
        return crop(F.pixel_shuffle(self.conv2(self.conv1(x)), factor), h4, w4)


class Bilinear(nn.Module):
    """The decoder of DeepLab v3+: the context is upsampled, the convolutions run at stride 4. Here an ablation."""

    skips = (4,)

    def __init__(self, context: int, low: int, out: int, kernel: int, factor: int, low_level: int = 32) -> None:
        super().__init__()
        self.reduce = ConvNorm(low, low_level)
        self.conv1 = SeparableConv(context + low_level, out, kernel)
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


class UpConv(Folding):
    """A transposed convolution with bias, batch norm and ReLU."""

    folds = (("conv", "bn"),)

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out, kernel, stride, padding, output_padding=stride - 1)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def unpool(x: Tensor, indices: Tensor) -> Tensor:
    """Put [N, C, h, w] back where a 2 × 2 max-pool took it from, zeros elsewhere: [N, C, 2h, 2w].

    Args:
        indices: of `max_pool2d`, positions in a plane of 2h × 2w.
    """
    n, c, h, w = x.shape
    plane = x.new_zeros(n, c, 4 * h * w)
    return plane.scatter(2, indices.flatten(2), x.flatten(2)).view(n, c, 2 * h, 2 * w)


class Unpool(nn.Module):
    """DeconvNet's (Noh et al. 2015, section 3): VGG mirrored, each unpooling by the indices of its pool."""

    WIDTHS = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 64))
    """Of the deconvolutions after each unpooling."""
    skips = (-5, -4, -3, -2, -1)

    def __init__(self, context: int) -> None:
        super().__init__()
        self.fc6 = UpConv(context, 512, 7)
        channels, stages = 512, []
        for widths in self.WIDTHS:
            units = []
            for out in widths:
                units.append(UpConv(channels, out, 3, padding=1))
                channels = out
            stages.append(nn.Sequential(*units))
        self.stages = nn.ModuleList(stages)
        self.out = channels
        initialize_he(self)

    def forward(self, context: Tensor, *indices: Tensor) -> Tensor:
        x: Tensor = self.fc6(context)
        for stage, where in zip(self.stages, indices, strict=True):
            x = stage(unpool(x, where))
        return x


class Expand(nn.Module):
    """The expanding path of U-Net and FusionNet: up by 2, beside or onto the features of that level, and a unit.

    Args:
        width: channels of the finest level; each coarser one has twice as many.
        up: makes what doubles the size, of so many channels to so many.
        unit: makes what follows, alike.
        concatenate: whether features are put beside (U-Net), or added (FusionNet). Where they are larger, their margin
            is cut off: U-Net's convolutions have lost it.
    """

    skips = (8, 4, 2, 1)

    def __init__(
        self,
        width: int,
        up: Callable[[int, int], nn.Module],
        unit: Callable[[int, int], nn.Module],
        *,
        concatenate: bool,
    ) -> None:
        super().__init__()
        widths = [width * skip for skip in self.skips]
        self.ups = nn.ModuleList([up(2 * out, out) for out in widths])
        self.units = nn.ModuleList([unit((1 + concatenate) * out, out) for out in widths])
        self.concatenate, self.out = concatenate, width
        initialize_he(self)

    def forward(self, context: Tensor, *finer: Tensor) -> Tensor:
        x = context
        for up, unit, skip in zip(self.ups, self.units, finer, strict=True):
            x = up(x)
            x = torch.cat((centered(skip, x.shape[2], x.shape[3]), x), 1) if self.concatenate else x + skip
            x = unit(x)
        return x


def centered(x: Tensor, height: int, width: int) -> Tensor:
    """Return the [N, C, height, width] in the middle."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x.narrow(2, top, height).narrow(3, left, width)
