# SPDX-License-Identifier: Apache-2.0
"""What looks at the coarsest features from further away: atrous and pooled pyramids, layers of a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from .layers import ConvNorm, Folding, initialize, initialize_he, spatial_conv
from .sampling import pooled, stretched

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
"""By output stride."""
PART = 1 << 25
"""Weights of a convolution whose gradient a CPU computes at a time, at most."""


class Pooling(nn.Module):
    """The means of bins × bins parts of the features, projected, and as large as the features again."""

    def __init__(self, channels: int, out: int, bins: int = 1) -> None:
        super().__init__()
        self.project = ConvNorm(channels, out)
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True) if self.bins == 1 else pooled(x, self.bins)
        y, bn = self.project.conv(means), self.project.bn
        if bn.training and y.numel() == y.shape[1] and isinstance(bn, nn.BatchNorm2d):
            # One value a channel has no variance: take the statistics learned so far.
            y = F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
        else:
            y = bn(y)
        y = F.relu(y)
        return y.expand(-1, -1, *x.shape[2:]) if self.bins == 1 else stretched(y, *x.shape[2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with the image's mean (section 3.1; DeepLab v3, section 3.3).

    [N, channels, h, w] to [N, out, h, w].
    """

    def __init__(
        self, channels: int, output_stride: int, out: int = 256, *, separable: bool = True, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                Pooling(channels, out),
                ConvNorm(channels, out),
                *(spatial_conv(channels, out, 3, separable=separable, rate=rate) for rate in RATES[output_stride]),
            ]
        )
        self.project = ConvNorm(len(self.branches) * out, out)
        self.dropout = nn.Dropout(dropout)
        self.out = out
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.project(torch.cat([branch(x) for branch in self.branches], 1)))
        return y


class PyramidPooling(nn.Module):
    """The features, and their means over grids of bins, a share of the channels for each (PSPNet, section 3.2).

    [N, channels, h, w] to [N, 2 channels, h, w].
    """

    def __init__(self, channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        share = channels // len(bins)
        self.branches = nn.ModuleList([Pooling(channels, share, number) for number in bins])
        self.out = channels + share * len(bins)
        initialize_he(self)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(branch(x) for branch in self.branches)], 1)


class SpatialPyramidPooling(nn.Module):
    """Features of any size to a vector of one size: the maxima over grids of bins (He et al. 2014, section 2.2).

    [N, C, h, w] to [N, C · Σ bins²], grid by grid, for the fully connected layers of a classifier. Bin i of n holds the
    rows from floor(i · h / n) to before ceil((i + 1) · h / n), and columns alike.
    """

    def __init__(self, bins: Sequence[int] = (4, 2, 1)) -> None:
        super().__init__()
        self.bins = tuple(bins)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_max_pool2d(x, number).flatten(1) for number in self.bins], 1)


class Projection(ConvNorm):
    """A 1 × 1 convolution in the place of ASPP: the ablation of Table 3."""

    def __init__(self, channels: int, out: int = 256) -> None:
        super().__init__(channels, out)
        self.out = out
        initialize(self)


class Identity(nn.Identity):
    """No context: the features as they are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = channels


class Units(Folding):
    """A convolution in the place of a fully connected layer; batch norm if wanted, or else dropout after the ReLU."""

    folds = (("conv", "bn"),)

    def __init__(self, conv: nn.Conv2d, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels) if batch_norm else nn.Identity()
        self.dropout = nn.Identity() if batch_norm else nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(F.relu(self.bn(self.conv(x))))
        return y


class WideConv(nn.Conv2d):
    """A convolution of any number of weights, which while it is trained on a CPU is computed in parts.

    For the gradient of more than some 2²⁶ weights of a kernel with a rate, oneDNN has nothing but loops without
    vectors, tens of times as slow as what it has for fewer. Outputs do not depend on one another, so that parts of them
    are the same convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        parts = -(-self.weight.numel() // PART)
        if parts == 1 or not self.training or x.device.type != "cpu":
            return super().forward(x)
        weights = self.weight.chunk(parts)  # or fewer
        biases = [None] * len(weights) if self.bias is None else self.bias.chunk(parts)
        return torch.cat([self._conv_forward(x, *part) for part in zip(weights, biases, strict=True)], 1)


class FullyConnected(nn.Sequential):
    """The first two layers of VGG's classifier as convolutions, k × k and 1 × 1 (FCN, section 3.1).

    Args:
        channels: of the features.
        units: of each layer.
        kernel: 7, of the classifier itself; or fewer of its taps.
        rate: of the first.
        valid: whether the first pads nothing.
        batch_norm: instead of dropout (DeconvNet).
    """

    def __init__(
        self,
        channels: int,
        units: int = 4096,
        kernel: int = 7,
        rate: int = 1,
        *,
        valid: bool = False,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        padding = 0 if valid else rate * (kernel - 1) // 2
        conv = nn.Conv2d if rate == 1 else WideConv
        self.fc6 = Units(conv(channels, units, kernel, 1, padding, rate), batch_norm=batch_norm)
        self.fc7 = Units(nn.Conv2d(units, units, 1), batch_norm=batch_norm)
        self.out = units
        initialize_he(self)


class Columns(nn.Module):
    """Contexts side by side, at several rates: [N, channels, h, w] to one tensor each (DeepLab v2's ASPP)."""

    def __init__(self, columns: Iterable[FullyConnected]) -> None:
        super().__init__()
        made = list(columns)
        self.columns = nn.ModuleList(made)
        self.out = tuple(column.out for column in made)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(column(x) for column in self.columns)
