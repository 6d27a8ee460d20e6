# SPDX-License-Identifier: Apache-2.0
"""The moving average of the weights, which is validated and saved in their place.

The running statistics of the batch norms are averaged like the weights that they belong to. How much an update counts
depends on the step alone, so that a state needs no counter of its own.
"""

from __future__ import annotations

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """Compute the share of the past in the average after a step, 0 …: in short runs it is that of a shorter memory."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an average by 1 − `decay` of the way to the model; 0: all of it. What is no float is copied."""
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for kept, now in pairs:
        if not kept.is_floating_point():
            kept.copy_(now)
