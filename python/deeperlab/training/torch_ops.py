# SPDX-License-Identifier: Apache-2.0
"""The semantic loss as torch's operator: shapes for torch.compile, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._torch_library import call, register_fake, require_kernels

__all__ = ["semantic_loss"]


@register_fake("semantic_loss")  # type: ignore[untyped-decorator]
def _semantic_loss(logits: Tensor, labels: Tensor, weight: Tensor, **_: Any) -> tuple[Tensor, ...]:
    n, pixels = logits.shape[0], labels.shape
    return (
        logits.new_empty((n,), dtype=torch.float32),
        logits.new_empty(pixels, dtype=torch.float32),
        logits.new_empty(pixels, dtype=torch.float32),
        logits.new_empty((n, 3), dtype=torch.int32),
    )


@register_fake("semantic_loss_backward")  # type: ignore[untyped-decorator]
def _semantic_loss_backward(logits: Tensor, *_: Tensor, **__: Any) -> Tensor:
    return logits.new_empty(logits.shape, dtype=torch.float32)


def _remember(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    _loss, *of_pixels = output
    ctx.mark_non_differentiable(*of_pixels)
    ctx.save_for_backward(*inputs, *of_pixels)
    ctx.options = {name: keyword_only_inputs[name] for name in ("stride", "stuff")}


def _gradient(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
    logits, *others = ctx.saved_tensors
    made = call(torch.ops.deeperlab.semantic_loss_backward, logits, *others, gradient.contiguous(), **ctx.options)
    return made.to(logits.dtype), None, None


def _second(*_: Any) -> None:
    raise RuntimeError("semantic_loss: expected a first derivative, got a second, which only plain.semantic has")


torch.library.register_autograd("deeperlab::semantic_loss", _gradient, setup_context=_remember)
torch.library.register_autograd("deeperlab::semantic_loss_backward", _second)


def semantic_loss(
    logits: Tensor, labels: Tensor, weight: Tensor | None, *, stride: int, top_k: float, stuff: Sequence[int]
) -> Tensor:
    """Call the operator; `losses.semantic` says what it computes."""
    for name, value in (("logits", logits), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    require_kernels("logits", logits)
    if weight is None:
        weight = torch.ones((), dtype=torch.float32, device=logits.device).expand(labels.shape)
    if weight.requires_grad:
        raise ValueError("weight: expected a tensor that requires no gradient, got one that does; pass weight.detach()")
    options = {"stride": stride, "top_k": top_k, "stuff": list(stuff)}
    loss: Tensor = call(torch.ops.deeperlab.semantic_loss, logits, labels, weight, **options)[0]
    return loss
