# SPDX-License-Identifier: Apache-2.0
"""What turns the decoder's features into the channels of one head (section 3.3); the classifiers of other systems."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
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
    """A k × k convolution, dropout if wanted, and the 1 × 1 that gives the channels; shallow: the latter alone."""

    def __init__(
        self,
        channels: int,
        middle: int,
        out: int,
        kernel: int,
        *,
        separable: bool = False,
        shallow: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not shallow:
            self.append(spatial_conv(channels, middle, kernel, separable=separable))
            initialize(self)
        if dropout:
            self.append(nn.Dropout(dropout))
        self.append(Logits(channels if shallow else middle, out))


class SpatialHead(nn.Conv2d):
    """A 3 × 3 convolution with bias that gives the channels at once (FusionNet)."""

    def __init__(self, channels: int, out: int, rate: int = 1) -> None:
        super().__init__(channels, out, 3, padding=rate, dilation=rate)
        nn.init.normal_(self.weight, std=0.01)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


class Scores(nn.Module):
    """The sum of 1 × 1 convolutions, one for each of several features (FCN, section 4.2; DeepLab v2, Figure 7).

    Args:
        channels: of each of the features.
        out: channels of the head.
        factor: by which each of the features has larger sides than the one before: what is summed up so far is
            upsampled bilinearly, as FCN's fixed deconvolutions do.
    """

    def __init__(self, channels: tuple[int, ...], out: int, factor: int = 1) -> None:
        super().__init__()
        self.scores = nn.ModuleList([Logits(width, out) for width in channels])
        self.factor = factor

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        total: Tensor | None = None
        for score, feature in zip(self.scores, features, strict=True):
            scores: Tensor = score(feature)
            if total is not None and self.factor > 1:
                total = F.interpolate(total, scale_factor=self.factor, mode="bilinear", align_corners=False)
            total = scores if total is None else total + scores
        assert total is not None
        return total


class AtrousScores(nn.Module):
    """The sum of 3 × 3 convolutions at several rates (DeepLab v2, with ResNet-101)."""

    def __init__(self, channels: int, out: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.scores = nn.ModuleList([SpatialHead(channels, out, rate) for rate in rates])

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.scores
        total: Tensor = first(x)
        for score in others:
            total = total + score(x)
        return total


class DilatedContext(nn.Sequential):
    """Eight convolutions over the scores themselves, at rates that double (Yu and Koltun 2016, Table 1).

    Each begins as the identity but for noise (equation 5 there), or the network does not learn.

    Args:
        channels: of scores, in and out.
        widths: of the layers, as multiples of `channels`.
    """

    RATES = (1, 1, 2, 4, 8, 16, 1)
    BASIC, LARGE = (1,) * 7, (2, 2, 4, 8, 16, 32, 32)
    NOISE = 1e-3
    """Deviation of the first weights, as a share of those that make the identity."""

    def __init__(self, channels: int, widths: tuple[int, ...] = BASIC) -> None:
        super().__init__()
        before = channels
        for factor, rate in zip((*widths, 1), (*self.RATES, 1), strict=True):
            out, last = factor * channels, len(self) == 2 * len(widths)
            conv = nn.Conv2d(before, out, 1) if last else nn.Conv2d(before, out, 3, padding=rate, dilation=rate)
            same = torch.arange(out)[:, None] * channels // out == torch.arange(before) * channels // before
            middle = conv.kernel_size[0] // 2
            nn.init.normal_(conv.weight, std=self.NOISE * channels / out)
            with torch.no_grad():
                conv.weight[:, :, middle, middle] += same.to(conv.weight) * channels / out
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            self.append(conv)
            if not last:
                self.append(nn.ReLU())
            before = out
