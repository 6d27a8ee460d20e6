# SPDX-License-Identifier: Apache-2.0
"""The fully connected CRF as a layer to train through (as CRF-RNN, Zheng et al., ICCV 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from .._torch_library import call, require_kernels
from ..crf import CRFParams, params_of
from ..stages.crf_ops import crf_filter


class CRF(nn.Module):
    """`deeperlab.crf` with gradients: of the logits, and of the two weights, which are parameters.

    The widths of the kernels are fixed, so a kernel is a linear map of the probabilities, and its gradient the
    transposed map, by the same filter. Every application of a kernel builds its lattice anew, and every iteration's
    probabilities are kept for the gradient.

    Args:
        params: where the weights begin, and all else; or the name of a preset; None: DeepLab v1. CRF-RNN trains with 5
            iterations.
        stride: px between the nodes of the logits.
        learn: whether the weights are trained.

    Attributes:
        params, stride: as above.
        w1, w2: the weights, float32 scalars.
    """

    def __init__(self, params: CRFParams | str | None = None, *, stride: int = 4, learn: bool = True) -> None:
        super().__init__()
        self.params = params_of(params)
        self.stride = stride
        self.w1 = nn.Parameter(torch.tensor(self.params.w1), requires_grad=learn)
        self.w2 = nn.Parameter(torch.tensor(self.params.w2), requires_grad=learn)

    def forward(self, semantic: Tensor, image: Tensor) -> Tensor:
        """Refine logits: softmax of the result is Q, up to float32's rounding that of `deeperlab.crf`.

        Args:
            semantic: [N, C, h, w], finite.
            image: uint8 RGB [N, H, W, 3] on the same device, at most stride·h by stride·w px.

        Returns:
            Scores, log P + Σ_m w_m K_m Q: float32 [N, C, H, W].

        Raises:
            ValueError: shapes or devices that do not fit.
        """
        require_kernels("semantic", semantic)
        scores = unary = self._upsample(semantic.float(), image).log_softmax(1)
        off: dict[str, Any] = {**self.params.kernels(), "w1": 0.0, "w2": 0.0, "transposed": False}
        for _ in range(self.params.iterations):
            q = scores.softmax(1)
            bilateral = call(crf_filter, q, image, **off | {"w1": 1.0})
            spatial = call(crf_filter, q, image, **off | {"w2": 1.0})
            scores = unary + self.w1 * bilateral + self.w2 * spatial
        return scores

    def _upsample(self, semantic: Tensor, image: Tensor) -> Tensor:
        """Bilinear, node (i, j) at pixel (stride·i, stride·j); past the last node its value goes on."""
        (h, w), (height, width), s = semantic.shape[2:], image.shape[1:3], self.stride
        if not (1 <= height <= s * h and 1 <= width <= s * w):
            raise ValueError(f"image: expected at most {s * h} x {s * w} px, got {height} x {width}")
        between = interpolate(semantic, ((h - 1) * s + 1, (w - 1) * s + 1), mode="bilinear", align_corners=True)
        return pad(between, (0, s - 1, 0, s - 1), mode="replicate")[:, :, :height, :width]
