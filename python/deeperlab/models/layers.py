# SPDX-License-Identifier: Apache-2.0
"""What all parts of the networks are made of: convolutions with their batch norm, and the rule of atrous strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # of which SyncBatchNorm is one too
from torch.nn.utils.fusion import fuse_conv_bn_eval

EPS = 1e-5
"""Of every batch norm outside the backbones, whose weight files bring their own."""


def atrous(strides: Sequence[int], output_stride: int) -> list[tuple[int, int]]:
    """Return (stride, rate) of each of a row of units that shall end at `output_stride`.

    Once it is reached, a unit's stride becomes 1 and multiplies the rate of the units after it.
    """
    units, stride, rate = [], 1, 1
    for unit_stride in strides:
        if stride < output_stride:
            units.append((unit_stride, rate))
            stride *= unit_stride
        else:
            units.append((1, rate))
            rate *= unit_stride
    if stride != output_stride:
        raise ValueError(f"output_stride: expected at most {stride}, got {output_stride}")
    return units


def conv(
    channels: int, out: int, kernel: int = 1, stride: int = 1, rate: int = 1, *, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Make a convolution padded on both sides alike, so that output i lies over input i · stride at every size."""
    return nn.Conv2d(channels, out, kernel, stride, rate * (kernel // 2), rate, groups, bias)


def initialize(module: nn.Module, dense_std: float = 0.06, depthwise_std: float = 0.33) -> None:
    """Draw normal weights for all convolutions, by default those of what is not a backbone.

    The original code draws from normal distributions of these standard deviations cut at two of them; what is left has
    .88 of the deviation, and so have these, uncut.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.normal_(child.weight, std=0.88 * (depthwise_std if child.groups > 1 else dense_std))


def initialize_he(module: nn.Module) -> None:
    """Draw normal weights for all convolutions that keep the size of what passes through them and ReLUs (He et al.)."""
    for child in module.modules():
        if isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def depthwise(channels: int, kernel: int, stride: int = 1, rate: int = 1) -> nn.Conv2d:
    """Make a convolution of each channel by itself, padded as `conv`."""
    return conv(channels, channels, kernel, stride, rate, groups=channels)


class Folding(nn.Module):
    """A module with convolutions that a batch norm follows at once."""

    folds: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Names of such convolutions and norms."""

    def fold(self) -> None:
        """Put the norms' statistics into the convolutions, for good."""
        for name, norm in self.folds:
            if isinstance(getattr(self, norm), _BatchNorm):
                conv = getattr(self, name).eval()
                transpose = isinstance(conv, nn.ConvTranspose2d)
                setattr(self, name, fuse_conv_bn_eval(conv, getattr(self, norm).eval(), transpose))
                setattr(self, norm, nn.Identity())


class ConvNorm(Folding):
    """Convolution, batch norm and, unless told otherwise, ReLU."""

    folds = (("conv", "bn"),)

    def __init__(
        self, channels: int, out: int, kernel: int = 1, stride: int = 1,
        *, act: bool = True, eps: float = EPS,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = conv(channels, out, kernel, stride)
        self.bn = nn.BatchNorm2d(out, eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class SeparableConv(Folding):
    """Depthwise convolution, norm, pointwise convolution, norm; unless told otherwise, a ReLU after each norm."""

    folds = (("conv_dw", "bn_dw"), ("conv_pw", "bn_pw"))

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, rate: int = 1,
        *, act: bool = True, eps: float = EPS,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv_dw = depthwise(channels, kernel, stride, rate)
        self.bn_dw = nn.BatchNorm2d(channels, eps)
        self.conv_pw = conv(channels, out)
        self.bn_pw = nn.BatchNorm2d(out, eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn_dw(self.conv_dw(x))
        x = self.bn_pw(self.conv_pw(F.relu(x) if self.act else x))
        return F.relu(x) if self.act else x


class DenseConv(Folding):
    """An ordinary k × k convolution where a separable one is usual: for the ablations."""

    folds = (("conv", "bn"),)

    def __init__(self, channels: int, out: int, kernel: int, rate: int = 1) -> None:
        super().__init__()
        self.conv = conv(channels, out, kernel, rate=rate)
        self.bn = nn.BatchNorm2d(out, EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def spatial_conv(channels: int, out: int, kernel: int, *, separable: bool, rate: int = 1) -> nn.Module:
    """Make a k × k convolution with norms and ReLUs, separable or dense."""
    if separable:
        return SeparableConv(channels, out, kernel, rate=rate)
    return DenseConv(channels, out, kernel, rate)
