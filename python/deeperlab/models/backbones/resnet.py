# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and -101 (He et al. 2016) whose last stages are atrous, as DeepLab v2, v3 and PSPNet have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import ConvNorm, Folding, atrous, conv, initialize_he

STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Units of each stage, by depth."""
EXPANSION = 4


class Shortcut(nn.Sequential, Folding):
    """A 1 × 1 convolution and its norm, named as in other packages."""

    folds = (("0", "1"),)

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(conv(channels, out, 1, stride), nn.BatchNorm2d(out))


class Bottleneck(Folding):
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut; the stride sits on the second."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, channels: int, middle: int, stride: int, rate: int, *, project: bool) -> None:
        super().__init__()
        out = middle * EXPANSION
        self.conv1, self.bn1 = conv(channels, middle), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = conv(middle, middle, 3, stride, rate), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = conv(middle, out), nn.BatchNorm2d(out)
        self.downsample = Shortcut(channels, out, stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Images to a pyramid {4: [N, 256, …], AUXILIARY: [N, 1024, …], output_stride: [N, 2048, …]}.

    All convolutions and the pool are padded on both sides alike: node i of stride s lies on pixel s · i.

    Args:
        depth: 50 or 101.
        in_channels: of the images.
        output_stride: 16 or 8.
        deep_stem: three 3 × 3 convolutions in the place of the 7 × 7, as PSPNet has it.
        multi_grid: factors of the rates within each stage from the fourth on (DeepLab v3, section 3.3); None: the first
            unit of a stage has the rate of the stage before, as elsewhere.
        cascade: stages after the fourth, each like it, at twice the rate of the one before (v3, section 3.2.2).
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    AUXILIARY = 3
    """The key of the third stage's features, to which a second head is put in training."""

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        output_stride: int = 8,
        *,
        deep_stem: bool = False,
        multi_grid: Sequence[int] | None = None,
        cascade: int = 0,
    ) -> None:
        super().__init__()
        counts = (*STAGES[depth], *(STAGES[depth][-1:] * cascade))
        strides = [2 if unit == 0 and stage else 1 for stage, units in enumerate(counts) for unit in range(units)]
        plan = atrous([4, *strides], output_stride)[1:]
        narrow = 64
        self.stem = nn.Sequential(
            *(
                (ConvNorm(in_channels, narrow, 3, 2), ConvNorm(narrow, narrow, 3), ConvNorm(narrow, 2 * narrow, 3))
                if deep_stem
                else (ConvNorm(in_channels, narrow, 7, 2),)
            )
        )
        stages, channels, unit = [], 2 * narrow if deep_stem else narrow, 0
        for stage, units in enumerate(counts):
            middle, row = narrow * 2 ** min(stage, 3), []
            for i in range(units):
                stride, rate = plan[unit + i]
                if stage >= 3 and multi_grid is not None:
                    rate = plan[unit + units - 1][1] * multi_grid[i]
                row.append(Bottleneck(channels, middle, stride, rate, project=i == 0))
                channels = middle * EXPANSION
            unit += units
            stages.append(nn.Sequential(*row))
        self.blocks = nn.Sequential(*stages)
        self.output_stride = output_stride
        self.channels = {4: narrow * EXPANSION, self.AUXILIARY: 4 * narrow * EXPANSION, output_stride: channels}
        initialize_he(self)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = F.max_pool2d(self.stem(images), 3, 2, 1), {}
        for stage, block in enumerate(self.blocks, start=1):
            x = block(x)
            if stage in (1, 3):
                pyramid[4 if stage == 1 else self.AUXILIARY] = x
        return {**pyramid, self.output_stride: x}
