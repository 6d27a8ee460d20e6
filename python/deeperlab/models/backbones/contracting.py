# SPDX-License-Identifier: Apache-2.0
"""The contracting paths of U-Net (Ronneberger et al. 2015) and FusionNet (Quan et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import Folding, conv, initialize_he

LEVELS = 5


class DoubleConv(nn.Module):
    """Two 3 × 3 convolutions with bias and ReLU that pad nothing: U-Net's."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3), nn.Conv2d(out, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class NormConv(Folding):
    """A 3 × 3 convolution with bias, batch norm, and what the path has for an activation, if any: FusionNet's."""

    folds = (("conv", "bn"),)

    def __init__(self, channels: int, out: int, slope: float | None) -> None:
        super().__init__()
        self.conv, self.bn = conv(channels, out, 3, bias=True), nn.BatchNorm2d(out)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.slope is None else F.leaky_relu(x, self.slope)


class ResidualConv(nn.Module):
    """A convolution, a residual block of three, and another convolution: FusionNet's.

    Args:
        slope: of the activation below 0: .2 on the contracting path, 0 on the expanding one.
    """

    def __init__(self, channels: int, out: int, slope: float) -> None:
        super().__init__()
        self.enter = NormConv(channels, out, slope)
        self.residual = nn.Sequential(NormConv(out, out, slope), NormConv(out, out, slope), NormConv(out, out, None))
        self.leave = NormConv(out, out, slope)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y: Tensor = self.leave(x + self.residual(x))
        return y


class Contracting(nn.Module):
    """Images [N, in_channels, H, W] to a pyramid {1: [N, width, …], 2: [N, 2 width, …], … 16: [N, 16 width, …]}.

    Args:
        unit: makes what stands at each level, of so many channels to so many.
        in_channels: of the images.
        width: channels at the first level.
        dropout: of the last two levels (U-Net, section 3.1).
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(
        self, unit: Callable[[int, int], nn.Module], in_channels: int = 3, width: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [width << level for level in range(LEVELS)]
        self.blocks = nn.Sequential(
            *(unit(channels, out) for channels, out in zip((in_channels, *widths), widths, strict=False))
        )
        self.dropout = nn.Dropout(dropout)
        self.channels = {1 << level: out for level, out in enumerate(widths)}
        initialize_he(self)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = images, {}
        for level, block in enumerate(self.blocks):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            if level >= LEVELS - 2:
                x = self.dropout(x)
            pyramid[1 << level] = x
        return pyramid
