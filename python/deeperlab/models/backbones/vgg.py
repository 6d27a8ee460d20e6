# SPDX-License-Identifier: Apache-2.0
"""VGG-16 (Simonyan and Zisserman 2015) without its classifier, as FCN, DeconvNet and DeepLab cut it."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import Folding, atrous, initialize_he

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Of the convolutions before each of the five pools."""


class Unit(Folding):
    """A 3 × 3 convolution with bias, batch norm if wanted, and ReLU."""

    folds = (("conv", "bn"),)

    def __init__(self, channels: int, out: int, rate: int, *, valid: bool, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=0 if valid else rate, dilation=rate)
        self.bn = nn.BatchNorm2d(out) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class VGG(nn.Module):
    """Images [N, in_channels, H, W] to a pyramid {0: the images, k: what comes after pool k}, k = 1 … 5.

    Args:
        in_channels: of the images.
        output_stride: 32; or 8, for which pools 4 and 5 stop halving and the last convolutions have rate 2.
        pool: 2, whose windows divide the image; or 3, which overlap and lie on every second node, as DeepLab has it.
        pools: how many pools there are: the dilated networks have three, the first.
        valid: whether convolutions pad nothing.
        batch_norm: after each convolution.
        indices: whether the pyramid also has, at −k, where in its plane each maximum of pool k was.
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(
        self,
        in_channels: int = 3,
        output_stride: int = 32,
        *,
        pool: int = 2,
        pools: int = 5,
        valid: bool = False,
        batch_norm: bool = False,
        indices: bool = False,
    ) -> None:
        super().__init__()
        plan, blocks, channels = atrous([2] * 5, output_stride), [], in_channels
        self.pools = [(pool, stride) for stride, _ in plan[:pools]]
        for widths, (_, rate) in zip(WIDTHS, plan, strict=True):
            units = []
            for out in widths:
                units.append(Unit(channels, out, rate, valid=valid, batch_norm=batch_norm))
                channels = out
            blocks.append(nn.Sequential(*units))
        self.blocks = nn.Sequential(*blocks)
        self.indices = indices
        self.channels = {0: in_channels, **{k + 1: widths[-1] for k, widths in enumerate(WIDTHS)}}
        initialize_he(self)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = images, {0: images}
        for k, block in enumerate(self.blocks, start=1):
            x = block(x)
            if k <= len(self.pools):
                kernel, stride = self.pools[k - 1]
                if self.indices:
                    x, pyramid[-k] = F.max_pool2d(x, kernel, stride, return_indices=True)
                else:
                    x = F.max_pool2d(x, kernel, stride, (kernel - 1) // 2)
            pyramid[k] = x
        return pyramid
