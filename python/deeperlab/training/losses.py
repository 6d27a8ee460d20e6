# SPDX-License-Identifier: Apache-2.0
"""The five losses, each a plain function; float32 inside, whatever the heads are.

Each gives a sum over what it compares. `counts` says how much that is, before the network runs, and can be added up
over accumulated batches and processes; `total` divides by it. So neither changes the loss of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from .batches import VOID

if TYPE_CHECKING:
    from torch import Tensor

    from ..heads import Heads
    from ..targets import Targets


@dataclass(frozen=True)
class LossWeights:
    """Weights of the five terms: PersonLab's, whose offset errors are in radii, R = 25 px; the paper states none."""

    semantic: float = 1.0
    heatmap: float = 4.0
    short_range: float = 1 / 25
    middle_range: float = 0.25 / 25
    long_range: float = 0.125 / 25


TERMS = tuple(field.name for field in fields(LossWeights))
"""The names of the terms, in the order of `counts`."""

_MANY_IDS = 2**22
"""Ids of an image from this one on are renumbered before they are counted."""


def semantic(
    logits: Tensor,
    labels: Tensor,
    *,
    stride: int = 4,
    weight: Tensor | None = None,
    top_k: float = 0.15,
    stuff: Sequence[int] = (),
) -> Tensor:
    """Compute the weighted bootstrapped cross-entropy of each image (Eq. 1).

    The mean of weight · −log p over the K = ceil(top_k · labeled pixels) pixels whose true class has the least
    probability p, ties in raster order. Weights do not enter the choice. p is that of the bilinearly upsampled logits,
    as the fusion upsamples them: node (i, j) lies at pixel (stride · i, stride · j), and beyond the last node its value
    goes on.

    Args:
        logits: float32, float16 or bfloat16 [N, C, h, w]; h >= ceil(H / stride), w >= ceil(W / stride).
        labels: integer [N, H, W]: a class 0 … C − 1; `VOID`, no pixel of the loss; or `SOME_STUFF`, whose p is the sum
            over the classes of `stuff`.
        stride: px between nodes.
        weight: float32 [N, H, W]; None: 1 everywhere.
        top_k: (0, 1].
        stuff: the classes that `SOME_STUFF` may be.

    Returns:
        float32 [N]; 0, with gradient 0, for an image without a labeled pixel; NaN where a logit of a pixel that counts
        is NaN or +inf. The logits alone have gradients, of their dtype, and first ones only. The same bits on every
        device, for any number of threads and any place in a batch. The upsampled logits are never in memory;
        `plain.semantic` holds them, and reads more easily.

    Raises:
        ValueError, TypeError: an argument is not as above, or on a device for which the package was not built. Labels
            are looked at on the CPU only: on CUDA, where nothing waits for the device, a wrong one makes its image's
            loss NaN.
    """
    from .torch_ops import semantic_loss

    return semantic_loss(logits, labels, weight, stride=stride, top_k=top_k, stuff=stuff)


def heatmap(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum the sigmoid cross-entropy over the valid nodes of all keypoints.

    Args:
        logits: floating [N, P, h, w].
        target: float32 [N, P, h, w], 0 or 1.
        valid: bool, of a shape that expands to theirs: [N, 1, h, w].

    Returns:
        float32, a scalar.

    Raises:
        ValueError: `logits` and `target` have other shapes.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    _require_shape("logits", logits, target)
    logits = torch.where(valid, logits.float(), 0)  # what is not valid may be anything
    losses = binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(valid, losses, 0).sum()


def offsets(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum the absolute errors of offsets, px, over the valid nodes of all keypoints or edges.

    Args:
        prediction: floating [N, 2K, h, w], channels 2k and 2k + 1 are the x and the y of an offset.
        target: float32 [N, 2K, h, w].
        valid: bool [N, K, h, w], or [N, 1, h, w] for all offsets alike.

    Returns:
        float32, a scalar.

    Raises:
        ValueError: `prediction` and `target` have other shapes.
    """
    import torch

    _require_shape("prediction", prediction, target)
    n, channels, *grid = target.shape
    error = (prediction.float() - target).view(n, channels // 2, 2, *grid)
    return torch.where(valid[:, :, None], error, 0).abs().sum()


def _require_shape(name: str, values: Tensor, target: Tensor) -> None:
    """Refuse what torch would expand to the shape of the target."""
    if values.shape != target.shape:
        raise ValueError(f"{name}: expected the shape of target, {list(target.shape)}, got {list(values.shape)}")


def instance_weight(instance: Tensor, *, area: int = 4096, weight: float = 3.0) -> Tensor:
    """Weigh the pixels of small instances (Eq. 1: 3 where an instance has fewer than 64 · 64 px).

    Args:
        instance: integer [N, H, W], 0 = none; ids need not be consecutive.
        area: px of an image's map, from which on an instance is no small one.
        weight: of pixels on small instances; all others have 1.

    Returns:
        float32 [N, H, W].

    Raises:
        ValueError: `instance` is no batch of maps, or its values are no integers.
    """
    import torch

    if instance.ndim != 3 or instance.is_floating_point():
        kind = f"{str(instance.dtype).removeprefix('torch.')} {list(instance.shape)}"
        raise ValueError(f"instance: expected integers [N, H, W], got {kind}")
    made = torch.ones(instance.shape, dtype=torch.float32, device=instance.device)
    for of_image, weights in zip(instance, made, strict=True):
        ids = of_image.flatten().to(torch.int64 if of_image.dtype == torch.int64 else torch.int32)
        last = int(ids.max())
        if int(ids.min()) < 0 or last >= _MANY_IDS:
            known, ids = torch.unique(ids, return_inverse=True)
        else:
            known = torch.arange(last + 1, device=ids.device)
        small = (torch.bincount(ids) < area) & (known != 0)
        weights.copy_(torch.where(small, weight, 1.0).to(torch.float32).index_select(0, ids).view_as(weights))
    return made


def ramp(step: int, steps: int, top_k: float) -> float:
    """Return the share of pixels that count at a step: from 1 linearly to `top_k` over `steps`; 0: at once."""
    return top_k if step >= steps else 1 + (top_k - 1) * step / steps


def counts(targets: Targets, labels: Tensor) -> Tensor:
    """Count what each loss compares, before the network runs.

    Args:
        targets: `deeperlab.targets.Targets` of N images.
        labels: integer [N, H, W] of `semantic`.

    Returns:
        int64 [5], in the order of `TERMS`: images with a labeled pixel; values, channels included, of the valid nodes.
        To be summed over the batches and processes of a step.
    """
    import torch

    pairs, keypoints = 2, targets.heatmap.shape[1]
    return torch.stack(
        [
            (labels != VOID).flatten(1).any(1).sum(),
            targets.heatmap_valid.sum() * keypoints,
            targets.short_valid.sum() * pairs,
            targets.middle_valid.sum() * pairs,
            targets.long_valid.sum() * keypoints * pairs,
        ]
    )


def total(
    heads: Heads,
    targets: Targets,
    labels: Tensor,
    weight: Tensor | None,
    counts: Tensor,
    weights: LossWeights = LossWeights(),
    *,
    top_k: float = 0.15,
    stuff: Sequence[int] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of a batch, or of its share in a step of several batches or processes.

    Every term is its sum over this batch, divided by its count over the whole step. So the losses of all batches and
    processes of a step add up to the loss of one batch of all of them, and their gradients to its gradient. Gradients
    that accumulate do add up. DistributedDataParallel takes their mean over processes instead: multiply the loss by
    the number of processes before `backward`.

    Args:
        heads: of N images; `heads.stride` px between nodes.
        targets: `deeperlab.targets.Targets` of the same images and stride.
        labels, weight, top_k, stuff: as in `semantic`.
        counts: `counts` of this batch, or the sum over all of the step.
        weights: of the terms.

    Returns:
        The weighted sum, float32; and the terms by name, without their weights and without gradients.

    Raises:
        ValueError, TypeError: as `semantic`.
    """
    import torch

    image_losses = semantic(heads.semantic, labels, stride=heads.stride, weight=weight, top_k=top_k, stuff=stuff)
    sums = {
        "semantic": image_losses.sum(),
        "heatmap": heatmap(heads.heatmap, targets.heatmap, targets.heatmap_valid),
        "short_range": offsets(heads.short_range, targets.short_range, targets.short_valid),
        "middle_range": offsets(heads.middle_range, targets.middle_range, targets.middle_valid),
        "long_range": offsets(heads.long_range, targets.long_range, targets.long_valid),
    }
    terms = {name: sums[name] / count for name, count in zip(TERMS, counts.clamp(min=1), strict=True)}
    loss = torch.stack([getattr(weights, name) * terms[name] for name in TERMS]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}
