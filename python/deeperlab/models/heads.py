# SPDX-License-Identifier: Apache-2.0
"""What turns the decoder's features into the channels of one head (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import initialize, spatial_conv


class Logits(nn.Conv2d):
    """A 1 × 1 convolution with bias whose output is channel by channel in memory, as the fusion reads it fastest.

    After channels-last layers a convolution gives channels last too, and a copy costs as much as the convolution. A
    product of matrices takes either layout and gives this one at no cost. Exports keep the convolution.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 1)
        nn.init.normal_(self.weight, std=0.01)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or self.bias is None:
            return super().forward(x)
        weight, bias, columns = self.weight.flatten(1), self.bias[:, None], x.flatten(2)
        if len(x) == 1:  # CPUs multiply two matrices of half precision faster than many pairs
            y = torch.addmm(bias, weight, columns[0])[None]
        else:
            y = torch.baddbmm(bias, weight.expand(len(x), -1, -1), columns)
        return y.view(x.shape[0], self.out_channels, *x.shape[2:])


class Head(nn.Sequential):
    """A k × k convolution and the 1 × 1 that gives the channels of one head; shallow: the latter alone."""

    def __init__(self, channels: int, middle: int, out: int, kernel: int, *, separable: bool, shallow: bool) -> None:
        super().__init__()
        if not shallow:
            self.append(spatial_conv(channels, middle, kernel, separable=separable))
            initialize(self)
        self.append(Logits(channels if shallow else middle, out))
