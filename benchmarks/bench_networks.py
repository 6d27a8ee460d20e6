# SPDX-License-Identifier: Apache-2.0
"""The paper's networks at its sizes: the network alone, the fusion of its heads, and both in a `Parser`, end to end.

Networks have random weights and folded batch norms. One without training gives heads like no network's, so the fusion
is that of a drawn scene's heads, and these take the place of the network's in the `Parser` too: its map is checked.
Calls that take seconds run once, after a small image that warms the network up.

`make bench-networks` runs them; column OPS are images a second. DEEPERLAB_TEST_DEVICE=cuda runs them on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import deeperlab
from deeperlab import Heads, models
from deeperlab.data.labels import LabelSet
from deeperlab.heads import NAMES
from deeperlab.predictor.parser import Parser

from .cases import CLASSES, PAPER_MS, THINGS, Spec, noisy_heads
from .process import with_peak

DEVICE = torch.device(os.environ.get("DEEPERLAB_TEST_DEVICE", "cpu"))
NETWORKS = ("xception71", "wider_mobilenet_v2", "light_wider_mobilenet_v2")
TIMED = tuple(Spec(size, 50) for size in (257, 513, 641, 721, 1441, (513, 1025), (1025, 2049)))
UNTIMED = (Spec((129, 97), 3),)
PAPER_FPS = {
    ("xception71", (1441, 1441)): 3,
    ("wider_mobilenet_v2", (1441, 1441)): 6.19,
    ("light_wider_mobilenet_v2", (721, 721)): 22.6,
    ("light_wider_mobilenet_v2", (1441, 1441)): 9.37,
}
"""Abstract and Table 1 of the paper: the network alone, without the merge, on a V100."""
LABELS = LabelSet(
    "benchmark",
    tuple(f"class {i}" for i in range(CLASSES)),
    tuple(i in THINGS for i in range(CLASSES)),
    tuple((i, i, i) for i in range(CLASSES)),
    tuple(range(1, CLASSES + 1)),
)


class Drawn(torch.nn.Module):
    """A network that does its work, and then gives other heads."""

    def __init__(self, network: models.Network, heads: Heads) -> None:
        super().__init__()
        self.network, self.heads = network, heads
        self.num_classes, self.mean, self.std = network.num_classes, network.mean, network.std

    def forward(self, images: torch.Tensor) -> Heads:
        given: Heads = self.network(images)
        if not all(getattr(heads, name).is_contiguous() for heads in (given, self.heads) for name in NAMES):
            raise RuntimeError("heads: expected both to lie in memory channel by channel")
        return self.heads


@cache
def _network(name: str) -> models.Network:
    network = models.create(name, CLASSES).fold_batch_norm().to(DEVICE).eval()
    with torch.inference_mode():
        network(torch.zeros(1, 3, 65, 65, device=DEVICE).to(memory_format=torch.channels_last))
    return network


@cache
def _heads(spec: Spec) -> Heads:
    return noisy_heads(spec).map(lambda head: head.to(DEVICE))


def _image(spec: Spec) -> torch.Tensor:
    return torch.randint(256, (*spec.shape, 3), dtype=torch.uint8)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    timed = metafunc.config.getoption("benchmark_enable", False)
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", NETWORKS if timed else NETWORKS[-1:])
    metafunc.parametrize("spec", TIMED if timed else UNTIMED, ids=str)


@pytest.fixture
def clock(benchmark: Any, spec: Spec) -> Callable[..., Any]:
    """Time a call, to its end on a GPU too, and return its result."""

    def run(call: Callable[[], Any], **measured: float) -> Any:
        def wait() -> Any:
            result = call()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            return result

        benchmark.group = f"networks: {spec.size} px"
        if measured:
            benchmark.extra_info["measured"] = measured
        return benchmark.pedantic(wait, rounds=3 if spec.shape[0] * spec.shape[1] > 721**2 else 5, warmup_rounds=0)

    return run


def bench_network(benchmark: Any, clock: Callable[..., Any], name: str, spec: Spec) -> None:
    """With the peak of its memory beyond its weights and its image."""
    network = _network(name)
    image = network.normalized(_image(spec).to(DEVICE).permute(2, 0, 1)[None]).to(memory_format=torch.channels_last)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        resting = torch.cuda.memory_allocated()
    heads, peak = with_peak(lambda: clock(torch.inference_mode()(lambda: network(image))))
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated() - resting
    paper = PAPER_FPS.get((name, spec.shape))
    benchmark.extra_info["measured"] = {"peak MiB": peak / 2**20} | ({"the paper's fps": paper} if paper else {})
    assert heads.default_size == spec.shape


def bench_network_fusion(clock: Callable[..., Any], spec: Spec) -> None:
    heads, paper = _heads(spec), PAPER_MS.get(spec.shape)
    panoptic = clock(lambda: deeperlab.fuse(heads, THINGS), **({"the paper's ms": paper} if paper else {}))
    assert int(panoptic.count[0]) >= spec.instances / 2


def bench_network_parser(clock: Callable[..., Any], name: str, spec: Spec) -> None:
    """End to end, from an image's bytes to its map."""
    parser = Parser(Drawn(_network(name), _heads(spec)), LABELS, size=0, device=DEVICE)
    image = _image(spec)
    found, expected = clock(lambda: parser(image)), deeperlab.fuse(_heads(spec), THINGS)
    assert torch.equal(found.instance, expected.instance[0])
    assert int(found.count) >= spec.instances / 2
