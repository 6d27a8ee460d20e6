# SPDX-License-Identifier: Apache-2.0
"""Loads the compiled torch operators; `stages.torch_ops` has all of them by name."""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any

import torch
from torch import Tensor


def _load() -> None:
    spec = importlib.util.find_spec("deeperlab._C")
    if spec is None or spec.origin is None:
        why = "this installation is damaged; install it again, with --force-reinstall --no-deps"
        if sys.platform != "linux":
            why = f"on {sys.platform} there are no torch operators: pass NumPy arrays"
        raise ImportError(f"deeperlab._C is missing; {why}")
    try:
        torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
    except OSError as error:
        reason = error.__cause__ or error  # torch may tell the path alone: the loader's word is then the cause
        raise ImportError(
            f"deeperlab._C does not load with torch {torch.__version__} (torch >= 2.11 is needed): {reason}"
        ) from error


def register_fake(name: str) -> Any:
    """As torch's, but refuse tensors on two devices: torch asks the fake kernel about them, and nobody else."""

    def register(fake: Any) -> Any:
        @functools.wraps(fake)
        def checked(*args: Any, **options: Any) -> Any:
            devices = {str(a.device) for a in (*args, *options.values()) if isinstance(a, Tensor)}
            if len(devices) > 1:
                raise ValueError(f"{name}: expected tensors on one device, got {' and '.join(sorted(devices))}")
            return fake(*args, **options)

        return torch.library.register_fake(f"deeperlab::{name}", checked)

    return register


_load()
HAS_CUDA = bool(torch._C._dispatch_has_kernel_for_dispatch_key("deeperlab::fuse", "CUDA"))
"""Whether it was built with nvcc."""


def require_kernels(name: str, tensor: Tensor) -> None:
    """Raise a ValueError where the operators do not run on a tensor's device."""
    kernels = ("cpu", "cuda", "meta") if HAS_CUDA else ("cpu", "meta")
    if tensor.device.type not in kernels:
        hint = "" if HAS_CUDA else ", or build deeperlab with DEEPERLAB_CUDA=ON"
        raise ValueError(f"{name}: expected device {' or '.join(kernels[:-1])}, got {tensor.device}; use .cpu(){hint}")


def call(operator: Any, *tensors: Tensor, **options: Any) -> Any:
    """Call an operator, and raise what the handler of a signal has raised meanwhile."""
    raised = None
    try:
        return operator(*tensors, **options)
    except RuntimeError as error:  # an operator cannot raise what the handler of a signal has: that is its cause
        raised = error.__cause__ if str(error).startswith("interrupted: ") else None
        if raised is None:
            raise
    raise raised


@register_fake("resample")  # type: ignore[untyped-decorator]
def _resample(head: Tensor, **_: Any) -> Tensor:
    n, channels, h, w = head.shape
    return head.new_empty((n, channels, h + 1, w + 1), dtype=torch.float32)


def _remember(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    ctx.dtype, ctx.stride = inputs[0].dtype, keyword_only_inputs["stride"]


def _transpose(ctx: Any, gradient: Tensor) -> Tensor:
    """Return the gradient of the given nodes: each has a part in its own node of ours and in the one after it."""
    part = (ctx.stride - 1) / 2 / ctx.stride
    for axis in (2, 3):
        given = gradient.shape[axis] - 1
        own, after = gradient.narrow(axis, 0, given).clone(), gradient.narrow(axis, 1, given).clone()
        own.narrow(axis, 1, given - 1).mul_(1 - part)
        after.narrow(axis, 0, given - 1).mul_(part)
        gradient = own + after
    return gradient.to(ctx.dtype)


torch.library.register_autograd("deeperlab::resample", _transpose, setup_context=_remember)


resample = torch.ops.deeperlab.resample.default
