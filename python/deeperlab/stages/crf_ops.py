# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The CRF and the filter of its kernels as torch's operators: shapes for torch.compile, and the filter's gradient."""

from __future__ import annotations

from typing import Any

from .._layout import require_torch

require_torch("deeperlab.stages.crf_ops")

import torch
from torch import Tensor

from .._torch_library import call, register_fake

__all__ = ["crf", "crf_filter"]


@register_fake("crf")  # type: ignore[untyped-decorator]
def _crf(semantic: Tensor, image: Tensor, **_: Any) -> Tensor:
    return semantic.new_empty((*semantic.shape[:2], *image.shape[1:3]), dtype=torch.float32)


@register_fake("crf_filter")  # type: ignore[untyped-decorator]
def _crf_filter(values: Tensor, image: Tensor, **_: Any) -> Tensor:
    return values.new_empty(values.shape, dtype=torch.float32)


def _remember(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.options = dict(keyword_only_inputs)


def _transpose(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    """The filter is linear: its gradient is that of the transposed filter, which has a gradient again."""
    options = ctx.options | {"transposed": not ctx.options["transposed"]}
    return call(torch.ops.deeperlab.crf_filter, gradient, *ctx.saved_tensors, **options), None


torch.library.register_autograd("deeperlab::crf_filter", _transpose, setup_context=_remember)

crf = torch.ops.deeperlab.crf.default
crf_filter = torch.ops.deeperlab.crf_filter.default
