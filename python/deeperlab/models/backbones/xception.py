# SPDX-License-Identifier: Apache-2.0
"""The aligned Xception of DeepLab (section 3.1), its modules named as in timm, whose weights it loads."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from ..layers import ConvNorm, SeparableConv, atrous, initialize

EPS, STD = 1e-3, 0.09
# Output channels of the three separable convolutions of each block, and its stride; the middle flow lies between.
ENTRY = {
    71: ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)),
    65: ((128, 2), (256, 2), (728, 2)),
    41: ((128, 2), (256, 2), (728, 2)),
}
MIDDLE_BLOCKS = {71: 16, 65: 16, 41: 8}
TAP = {71: 2, 65: 1, 41: 1}
"""The block whose second convolution is the low-level feature: the last that begins at stride 4."""


class Block(nn.Module):
    """Three separable convolutions beside a shortcut; the stride sits on the third."""

    def __init__(
        self, channels: int, outs: tuple[int, int, int], stride: int, rate: int, eps: float, *, shortcut: str
    ) -> None:
        super().__init__()
        self.residual = shortcut != "none"  # then ReLUs come before the convolutions, and none after
        self.shortcut = (
            ConvNorm(channels, outs[2], 1, stride, act=False, eps=eps) if shortcut == "conv" else nn.Identity()
        )
        convs, width = OrderedDict[str, nn.Module](), channels
        for i, out in enumerate(outs):
            convs[f"conv{i + 1}"] = SeparableConv(
                width, out, 3, stride if i == 2 else 1, rate, act=not self.residual, eps=eps
            )
            width = out
        self.stack = nn.Sequential(convs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and that of the second convolution: after its norm, before any ReLU."""
        y, tap = x, x
        for i, layer in enumerate(self.stack):
            y = layer(F.relu(y) if self.residual else y)
            tap = y if i == 1 else tap
        return (y + self.shortcut(x) if self.residual else y), tap


class Xception(nn.Module):
    """Images [N, in_channels, H, W] to a pyramid {4: [N, 256, …], output_stride: [N, 2048, …]}.

    Args:
        depth: 71, 65 or 41.
        output_stride: 16 or 8.
        eps: of the batch norms; it belongs to the weight file.
        in_channels: of the images.
    """

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, depth: int = 71, output_stride: int = 16, eps: float = EPS, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in ENTRY:
            raise ValueError(f"depth: expected one of {', '.join(map(str, ENTRY))}, got {depth}")
        entry = [((out,) * 3, stride, "conv") for out, stride in ENTRY[depth]]
        middle = [((728,) * 3, 1, "sum")] * MIDDLE_BLOCKS[depth]
        exit_flow = [((728, 1024, 1024), 2, "conv"), ((1536, 1536, 2048), 1, "none")]
        units = [*entry, *middle, *exit_flow]
        plan = atrous([2, *(stride for _, stride, _ in units)], output_stride)[1:]
        self.stem = nn.Sequential(ConvNorm(in_channels, 32, 3, 2, eps=eps), ConvNorm(32, 64, 3, eps=eps))
        blocks, channels = [], 64
        for (outs, _, shortcut), (stride, rate) in zip(units, plan, strict=True):
            blocks.append(Block(channels, outs, stride, rate, eps, shortcut=shortcut))
            channels = outs[2]
        self.blocks = nn.Sequential(*blocks)
        self.tap, self.output_stride = TAP[depth], output_stride
        self.channels = {4: ENTRY[depth][self.tap][0], output_stride: channels}
        initialize(self, STD, STD)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        x, pyramid = self.stem(images), {}
        for i, block in enumerate(self.blocks):
            x, tap = block(x)
            if i == self.tap:
                pyramid[4] = tap
        return {**pyramid, self.output_stride: x}
