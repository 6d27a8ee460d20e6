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
from .conftest import time_calls, time_floor

Step = tuple[Tensor, Tensor]


@lru_cache(maxsize=1)
def make_batch(images: int, size: int) -> Step:
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


def _group(batch: tuple[int, int], top_k: float) -> str:
    pixels = "all pixels" if top_k == 1 else f"top {100 * top_k:.0f} %"
    return f"semantic loss, {pixels}: {batch[0]} x {batch[1]} px"


def step_of(loss_of: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Callable[[], Step]:
    """Forward and backward: the losses and the gradient."""

    def step() -> Step:
        loss = loss_of(logits, labels)
        return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]

    return step


def cross_entropy_of_all(logits: Tensor, labels: Tensor) -> Tensor:
    """All pixels alike, all upsampled logits in memory."""
    return cross_entropy(_upsample(logits, labels), labels)


@lru_cache(maxsize=2)
def _expected(size: int, top_k: float) -> Step:
    """Loss and gradient of one image, by torch alone."""
    logits, labels = (tensor[:1].detach() for tensor in make_batch(1, size))
    logits.requires_grad_()
    pixel = cross_entropy(_upsample(logits, labels), labels, reduction="none").flatten()
    loss = pixel.topk(-int(-top_k * len(pixel) // 1)).values.mean()
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("top_k", [0.15, 1.0])
def bench_semantic_loss(benchmark: Any, batch: tuple[int, int], threads: int, top_k: float) -> None:
    step = step_of(lambda *of: losses.semantic(*of, top_k=top_k), *make_batch(*batch))
    facts = {"contender": "tensors", "threads": threads}
    found, gradient = time_calls(benchmark, step, _group(batch, top_k), 5, **facts)
    loss, of_image = _expected(batch[1], top_k)
    torch.testing.assert_close(found, loss.expand_as(found))
    torch.testing.assert_close(gradient, of_image.expand_as(gradient), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def bench_semantic_loss_baseline_torch(benchmark: Any, batch: tuple[int, int], threads: int) -> None:
    step, facts = step_of(cross_entropy_of_all, *make_batch(*batch)), {"contender": "torch", "threads": threads}
    found, gradient = time_calls(benchmark, step, _group(batch, 1.0), 1, **facts)
    loss, of_image = _expected(batch[1], 1.0)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradient * batch[0], of_image.expand_as(gradient), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("top_k", [0.15, 1.0])
def bench_semantic_loss_floor(benchmark: Any, batch: tuple[int, int], threads: int, top_k: float) -> None:
    """Logits and labels are read; the gradient is written."""
    logits, labels = (tensor.detach().numpy() for tensor in make_batch(*batch))
    time_floor(benchmark, _group(batch, top_k), threads, [logits, labels], [logits])
