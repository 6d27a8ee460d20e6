# SPDX-License-Identifier: Apache-2.0
"""Networks of inverted residuals (Sandler et al. 2018), their modules named as in timm: what MobileNetV2 and
EfficientNet-Lite share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import Folding, atrous, conv, depthwise, initialize

STD = 0.09
TAP = (1, 1)
"""Stage and unit whose depthwise output is the low-level feature."""


class Stage(NamedTuple):
    """A row of units."""

    expansion: int
    channels: int
    units: int
    stride: int
    """Of the first unit."""
    kernel: int


class DepthwiseSeparable(Folding):
    """The first unit: a depthwise convolution and a linear projection, without expansion."""

    folds = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, channels: int, out: int, kernel: int, eps: float) -> None:
        super().__init__()
        self.conv_dw = depthwise(channels, kernel)
        self.bn1 = nn.BatchNorm2d(channels, eps)
        self.conv_pw = conv(channels, out)
        self.bn2 = nn.BatchNorm2d(out, eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu6(self.bn1(self.conv_dw(x)))
        return self.bn2(self.conv_pw(y)), y


class InvertedResidual(Folding):
    """Expansion, depthwise convolution, linear projection; with a shortcut where the shape stays."""

    folds = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))

    def __init__(
        self,
        channels: int,
        out: int,
        expansion: int,
        kernel: int,
        stride: int,
        rate: int,
        eps: float,
        *,
        shortcut: bool,
    ) -> None:
        super().__init__()
        wide = channels * expansion
        self.conv_pw = conv(channels, wide)
        self.bn1 = nn.BatchNorm2d(wide, eps)
        self.conv_dw = depthwise(wide, kernel, stride, rate)
        self.bn2 = nn.BatchNorm2d(wide, eps)
        self.conv_pwl = conv(wide, out)
        self.bn3 = nn.BatchNorm2d(out, eps)
        self.residual = shortcut and channels == out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and that of the depthwise convolution."""
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        out = self.bn3(self.conv_pwl(y))
        return (x + out if self.residual else out), y


class InvertedResidualNet(Folding):
    """Images [N, in_channels, H, W] to a pyramid {4: what the depthwise convolution at `TAP` gives, output_stride: the
    last features}.

    Args:
        stages: all units after the stem.
        stem_kernel: of the first convolution.
        output_stride: 16 or 8.
        eps: of the batch norms.
        in_channels: of the images.
    """

    folds = (("conv_stem", "bn1"),)

    def __init__(
        self, stages: Sequence[Stage], stem_kernel: int, output_stride: int, eps: float, in_channels: int = 3
    ) -> None:
        super().__init__()
        strides = [stage.stride if unit == 0 else 1 for stage in stages for unit in range(stage.units)]
        plan = iter(zip(strides, atrous([2, *strides], output_stride)[1:], strict=True))
        self.conv_stem = conv(in_channels, 32, stem_kernel, 2)
        self.bn1 = nn.BatchNorm2d(32, eps)
        rows, channels = [], 32
        for expansion, out, units, _, kernel in stages:
            row = []
            for _ in range(units):
                unit_stride, (stride, rate) = next(plan)
                row.append(
                    DepthwiseSeparable(channels, out, kernel, eps)
                    if expansion == 1
                    else InvertedResidual(
                        channels, out, expansion, kernel, stride, rate, eps, shortcut=unit_stride == 1
                    )
                )
                channels = out
            rows.append(nn.Sequential(*row))
        self.blocks = nn.Sequential(*rows)
        self.output_stride = output_stride
        tapped = stages[TAP[0]]
        self.channels = {4: tapped.expansion * tapped.channels, output_stride: channels}
        initialize(self, STD, STD)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = F.relu6(self.bn1(self.conv_stem(images))), {}
        for s, stage in enumerate(self.blocks):
            for u, unit in enumerate(cast(nn.Sequential, stage)):
                x, inner = unit(x)
                if (s, u) == TAP:
                    pyramid[4] = inner
        return {**pyramid, self.output_stride: x}
