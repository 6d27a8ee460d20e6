# SPDX-License-Identifier: Apache-2.0
"""Less memory for more time: the backbone's activations are computed again in the backward pass."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..models.norms import batch_norms


def recompute(backbone: nn.Module) -> None:
    """Keep only what goes into each unit of a backbone: a block, or each part of one that is a sequence.

    In place. The second pass leaves the running statistics of the batch norms alone, which the first has counted.
    """
    blocks = backbone.get_submodule("blocks")
    for block in blocks.children():
        for unit in block.children() if isinstance(block, nn.Sequential) else [block]:
            contexts = functools.partial(_contexts, unit)
            unit.forward = functools.partial(checkpoint, unit.forward, use_reentrant=False, context_fn=contexts)


def _contexts(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _without_counting(unit)


@contextlib.contextmanager
def _without_counting(unit: nn.Module) -> Iterator[None]:
    norms = [norm for norm in batch_norms(unit).values() if norm.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
