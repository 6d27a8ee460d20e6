# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 with kernels of any size (section 3.1, "Wider MobileNetV2")."""

from __future__ import annotations

from .inverted_residual import InvertedResidualNet, Stage

EPS = 1e-5
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, units, stride of the first."""


class MobileNetV2(InvertedResidualNet):
    """Images [N, in_channels, H, W] to a pyramid {4: [N, 144, …], output_stride: [N, 320, …]}.

    Args:
        kernel_size: of every spatial convolution, the first included: 3, or 5 for the paper's Wider, or 7.
        output_stride: 16 or 8.
        eps: of the batch norms; it belongs to the weight file: 1e-5 for timm's and torchvision's, 1e-3 for TF's.
        in_channels: of the images.
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, kernel_size: int = 3, output_stride: int = 16, eps: float = EPS, in_channels: int = 3) -> None:
        super().__init__([Stage(*stage, kernel_size) for stage in STAGES], kernel_size, output_stride, eps, in_channels)
