# SPDX-License-Identifier: Apache-2.0
"""The semantic loss and its gradient, beside torch's cross-entropy of upsampled logits: batches of the paper's crop."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from deeperlab import scenes
from deeperlab.training import losses

from .cases import CLASSES, THINGS, Spec, noisy_heads

Step = tuple[Tensor, Tensor]


@lru_cache(maxsize=1)
def _batch(images: int, size: int) -> Step:
    """Logits of a drawn scene with the errors of a network, and its truth, as many times as the batch has images."""
    scene = scenes.draw(1, size, instances=50, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    logits = noisy_heads(Spec(size, 50)).semantic.repeat(images, 1, 1, 1)
    return logits.requires_grad_(), torch.from_numpy(scene.category).long().repeat(images, 1, 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The paper's crop when timed, a small one otherwise."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    batches = [(1, 721), (16, 721)] if timed else [(2, 97)]
    metafunc.parametrize("batch", batches, ids=[f"{n} x {size} px" for n, size in batches])


def _upsample(logits: Tensor, labels: Tensor) -> Tensor:
    return interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True)


def _timed(benchmark: Any, batch: tuple[int, int], loss_of: Callable[[Tensor, Tensor], Tensor], rounds: int) -> Step:
    """Time forward and backward; return the losses and the gradient."""
    logits, labels = _batch(*batch)
    benchmark.group = f"semantic loss: {batch[0]} x {batch[1]} px"

    def step() -> Step:
        loss = loss_of(logits, labels)
        return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]

    loss, gradient = benchmark.pedantic(step, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)
    return loss, gradient


@lru_cache(maxsize=2)
def _expected(size: int, top_k: float) -> Step:
    """Loss and gradient of one image, by torch alone."""
    logits, labels = (tensor[:1].detach() for tensor in _batch(1, size))
    logits.requires_grad_()
    pixel = cross_entropy(_upsample(logits, labels), labels, reduction="none").flatten()
    loss = pixel.topk(-int(-top_k * len(pixel) // 1)).values.mean()
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("top_k", [0.15, 1.0])
def bench_semantic_loss(benchmark: Any, batch: tuple[int, int], threads: int, top_k: float) -> None:
    found, gradient = _timed(benchmark, batch, lambda *step: losses.semantic(*step, top_k=top_k), rounds=5)
    loss, of_image = _expected(batch[1], top_k)
    torch.testing.assert_close(found, loss.expand_as(found))
    torch.testing.assert_close(gradient, of_image.expand_as(gradient), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def bench_semantic_loss_baseline_torch(benchmark: Any, batch: tuple[int, int], threads: int) -> None:
    """The baseline: all pixels alike, all upsampled logits in memory."""
    found, gradient = _timed(
        benchmark, batch, lambda logits, labels: cross_entropy(_upsample(logits, labels), labels), rounds=1
    )
    loss, of_image = _expected(batch[1], 1.0)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradient * batch[0], of_image.expand_as(gradient), rtol=1e-3, atol=1e-8)
