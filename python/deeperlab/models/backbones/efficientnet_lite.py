# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation, with ReLU6), without its last block."""

from __future__ import annotations

from .inverted_residual import InvertedResidualNet, Stage

EPS = 1e-3
STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
)
"""Fifteen blocks. In files of weights one more and a classifier follow. A linear classifier on these features tells
coarse classes of COCO better than on those of the eleventh block (mIoU .37 against .21) or of the last (.33).
"""


class EfficientNetLite0(InvertedResidualNet):
    """Images [N, in_channels, H, W] to a pyramid {4: [N, 144, …], output_stride: [N, 192, …]}.

    All convolutions are padded on both sides alike. TensorFlow, where the weights come from, does so on odd sizes.

    Args:
        output_stride: 16 or 8.
        eps: of the batch norms; it belongs to the weight file.
        in_channels: of the images.
    """

    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, output_stride: int = 16, eps: float = EPS, in_channels: int = 3) -> None:
        super().__init__(STAGES, 3, output_stride, eps, in_channels)
