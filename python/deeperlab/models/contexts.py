# SPDX-License-Identifier: Apache-2.0
"""Atrous spatial pyramid pooling: features at several rates side by side, and the whole image at once (section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from .layers import ConvNorm, initialize, spatial_conv

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
"""By output stride."""


class ImagePooling(nn.Module):
    """The mean of the features, everywhere."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = ConvNorm(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        y, bn = self.project.conv(x.mean((2, 3), keepdim=True)), self.project.bn
        if bn.training and len(x) == 1 and isinstance(bn, nn.BatchNorm2d):
            # One value a channel has no variance: take the statistics learned so far.
            y = F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
        else:
            y = bn(y)
        return F.relu(y).expand(-1, -1, *x.shape[2:])


class ASPP(nn.Module):
    """[N, channels, h, w] to [N, out, h, w]."""

    def __init__(self, channels: int, output_stride: int, out: int = 256, *, separable: bool = True) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ImagePooling(channels, out),
                ConvNorm(channels, out),
                *(spatial_conv(channels, out, 3, separable=separable, rate=rate) for rate in RATES[output_stride]),
            ]
        )
        self.project = ConvNorm(len(self.branches) * out, out)
        self.dropout = nn.Dropout(0.1)
        self.out = out
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.project(torch.cat([branch(x) for branch in self.branches], 1)))
        return y


class Projection(ConvNorm):
    """A 1 × 1 convolution in the place of ASPP: the ablation of Table 3."""

    def __init__(self, channels: int, out: int = 256) -> None:
        super().__init__(channels, out)
        self.out = out
        initialize(self)
