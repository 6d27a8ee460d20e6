# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 with kernels of any size (section 3.1, "Wider MobileNetV2"), its modules named as in timm."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import Folding, atrous, conv, depthwise, initialize

EPS, STD = 1e-5, 0.09
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, units, stride of the first."""
TAP = (1, 1)
"""Stage and unit whose depthwise output is the low-level feature."""


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


class MobileNetV2(Folding):
    """Images [N, 3, H, W] to a pyramid {4: [N, 144, …], output_stride: [N, 320, …]}.

    Args:
        kernel_size: of every spatial convolution, the first included: 3, or 5 for the paper's Wider, or 7.
        output_stride: 16 or 8.
        eps: of the batch norms; it belongs to the weight file: 1e-5 for timm's and torchvision's, 1e-3 for TF's.
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    folds = (("conv_stem", "bn1"),)

    def __init__(self, kernel_size: int = 3, output_stride: int = 16, eps: float = EPS) -> None:
        super().__init__()
        strides = [stride if unit == 0 else 1 for _, _, units, stride in STAGES for unit in range(units)]
        plan = iter(zip(strides, atrous([2, *strides], output_stride)[1:], strict=True))
        self.conv_stem = conv(3, 32, kernel_size, 2)
        self.bn1 = nn.BatchNorm2d(32, eps)
        stages, channels = [], 32
        for expansion, out, units, _ in STAGES:
            row = []
            for _ in range(units):
                unit_stride, (stride, rate) = next(plan)
                row.append(
                    DepthwiseSeparable(channels, out, kernel_size, eps)
                    if expansion == 1
                    else InvertedResidual(
                        channels, out, expansion, kernel_size, stride, rate, eps, shortcut=unit_stride == 1
                    )
                )
                channels = out
            stages.append(nn.Sequential(*row))
        self.blocks = nn.Sequential(*stages)
        self.output_stride = output_stride
        stage, _ = TAP
        self.channels = {4: STAGES[stage][0] * STAGES[stage][1], output_stride: channels}
        initialize(self, STD, STD)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = F.relu6(self.bn1(self.conv_stem(images))), {}
        for s, stage in enumerate(self.blocks):
            for u, unit in enumerate(cast(nn.Sequential, stage)):
                x, inner = unit(x)
                if (s, u) == TAP:
                    pyramid[4] = inner
        return {**pyramid, self.output_stride: x}
