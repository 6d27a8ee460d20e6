# SPDX-License-Identifier: Apache-2.0
"""Batch norms whose running statistics training has hardly moved: with them a network is another one in eval mode."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # of which SyncBatchNorm is one too

INITIAL_SHARE = 0.05
"""Of what a running statistic was before the first step, from which on it is told: outputs are visibly off by then."""


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms of a network by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def initial_share(norm: _BatchNorm) -> float:
    """Return how much of its running statistics is still what every batch norm begins with: mean 0, variance 1.

    Each step leaves 1 − momentum of that, and so no variance below it. Where one is, the statistics began elsewhere:
    they come from a weight file, or were counted anew.
    """
    mean, variance, steps = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean is None or variance is None or steps is None:  # eval mode uses the statistics of the batch
        return 0.0
    if not mean.any() and bool((variance == 1).all()):
        return 1.0
    if not steps or norm.momentum is None:
        return 0.0
    share = (1 - norm.momentum) ** int(steps)
    return share if float(variance.min()) >= share else 0.0


def warn_of_initial_statistics(model: nn.Module) -> None:
    """Warn if a network was trained for too few steps for the momentum of its batch norms.

    That is, if one norm has seen no image, or all outside the backbone, which may be pretrained, have seen too few.
    """
    shares = {name: initial_share(norm) for name, norm in batch_norms(model).items()}
    untouched = [name for name, share in shares.items() if share == 1]
    fresh = [share for name, share in shares.items() if "backbone." not in name]
    if untouched:
        found = (
            f"{len(untouched)} of {len(shares)} batch norms, as {untouched[0]}, have the statistics they were made with"
        )
    elif fresh and min(fresh) >= INITIAL_SHARE:
        found = f"the statistics of the batch norms are still {100 * min(fresh):.0f} % what they were made with"
    else:
        return
    warnings.warn(
        f"model: {found}, so that outputs in eval mode mean little, unless the norms were frozen in training. Train "
        "longer, create the network with a larger bn_momentum, or count them anew by torch.optim.swa_utils.update_bn",
        stacklevel=3,
    )
