# SPDX-License-Identifier: Apache-2.0
"""The semantic loss in plain torch, to be read beside the paper; it judges the compiled one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .batches import SOME_STUFF, VOID

if TYPE_CHECKING:
    from torch import Tensor


def upsample(nodes: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Interpolate [N, C, h, w] at the pixels of an image of `size`: node (i, j) lies at (stride · i, stride · j)."""
    import torch

    def between(count: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.arange(pixels, device=nodes.device)
        node = (at // stride).clamp(max=count - 1)
        past = torch.where(node == count - 1, 0, at % stride)
        return node, (node + 1).clamp(max=count - 1), (past / stride).to(nodes.dtype)

    def blend(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
        return torch.where(f == 0, a, a * (1 - f) + b * f)

    above, below, fy = between(nodes.shape[2], size[0])
    left, right, fx = between(nodes.shape[3], size[1])
    rows = blend(nodes[..., left], nodes[..., right], fx)
    return blend(rows[:, :, above], rows[:, :, below], fy[:, None])


def semantic(
    logits: Tensor, labels: Tensor, weight: Tensor | None, *, stride: int, top_k: float, stuff: Sequence[int] = ()
) -> Tensor:
    """Compute `losses.semantic` in the precision of the logits, with all of the upsampled ones in memory."""
    import torch

    scores, labels = upsample(logits, labels.shape[1:], stride), labels.long()
    chosen = torch.gather(scores, 1, labels.clamp(min=0)[:, None])[:, 0]
    if len(stuff):
        chosen = torch.where(labels == SOME_STUFF, scores[:, sorted(set(stuff))].logsumexp(1), chosen)
    losses = (scores.logsumexp(1) - chosen).flatten(1)
    labeled = (labels != VOID).flatten(1)
    kept = torch.ceil(labeled.sum(1).double() * top_k)  # K
    order = torch.where(labeled, losses.detach(), -torch.inf).sort(dim=1, descending=True, stable=True).indices
    picked = losses.gather(1, order)
    if weight is not None:
        picked = picked * weight.flatten(1).gather(1, order)
    hardest = torch.arange(order.shape[1], device=order.device) < kept[:, None]
    return torch.where(hardest, picked, 0).sum(1) / kept.clamp(min=1).to(logits.dtype)
