# SPDX-License-Identifier: Apache-2.0
"""The fusion and the CRF on a GPU: eagerly, from a CUDA graph, in batches, beside PyTorch on the same GPU.

Times are those of the device, between two events; each round takes another set of inputs, so that no cache holds what
it reads. Answers are those of the CPU, bit for bit. `benchmarks/gpu.sh` runs this, with DEEPERLAB_TEST_DEVICE=cuda;
without it everything but the graphs runs on the CPU, which rehearses the file and says nothing of a GPU.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch

import deeperlab
from deeperlab import FuseParams, Heads, Panoptic
from deeperlab.heads import NAMES

from .cases import THINGS, Spec, noisy_heads
from .yardsticks import expert, panoptic_deeplab

DEVICE = torch.device(os.environ.get("DEEPERLAB_TEST_DEVICE", "cpu"))
CUDA = DEVICE.type == "cuda"
FLUSHED = (400 if CUDA else 1) << 20
"""Bytes that the sets of inputs have together at least: many times the second-level cache."""
TIMED = (
    *((Spec(size, 50), 1) for size in (721, 1441, 2881)),
    *((Spec(1441, n), 1) for n in (1, 5, 200, 500)),
    *((Spec(1441, 50), images) for images in (4, 16)),
    *((Spec(size, 50, stride=1), 1) for size in (721, 1441)),
)
"""Scenes, and how many images a batch has."""
UNTIMED = (
    *((Spec(97, 4), images) for images in (1, 2)),
    (Spec((65, 161), 12), 2),
    (Spec(33, 2, stride=1), 2),
    (Spec(97, 4, dtype="float16"), 2),
)
"""Small ones of every kind: a sanitizer takes a second for each."""
PARAMS = {
    "default": FuseParams(),
    "all": FuseParams(peak_threshold=0.0, instance_threshold=0.0, majority="all", max_distance=30.0),
}


class Instant:
    """A point in the time of the current stream; seconds lie between two of them."""

    def __init__(self) -> None:
        event: Any = torch.cuda.Event  # torch leaves it untyped
        self.event = event(enable_timing=True)
        self.event.record()

    def __sub__(self, start: Instant) -> float:
        torch.cuda.synchronize()
        return float(start.event.elapsed_time(self.event)) / 1e3


pytestmark = pytest.mark.benchmark(timer=Instant if CUDA else time.perf_counter)


@dataclass(frozen=True)
class Batch:
    """Heads of a batch of alike images, several times over, on the device, and what the CPU gives for one image."""

    name: str
    sets: list[Heads]
    answer: Panoptic


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.fixture(scope="session")  # so that pytest runs one after another what takes the same batch
def batch(request: pytest.FixtureRequest) -> Batch:
    spec, images = request.param
    one = noisy_heads(spec)
    batch = one.map(lambda head: head.repeat(images, 1, 1, 1).to(DEVICE))
    copies = min(16, max(2, -(-FLUSHED // _bytes(getattr(batch, name) for name in NAMES))))
    return Batch(f"{spec}, batch of {images}", [batch.map(torch.Tensor.clone) for _ in range(copies)], fuse(one))


@pytest.fixture
def clock(benchmark: Any) -> Callable[..., Any]:
    """Time a call of the sets in turn, in a group of the scene, and return its last result."""

    def run(call: Callable[[Any], Any], group: str, sets: list[Any], rounds: int, moved: int = 0) -> Any:
        turn = itertools.cycle(sets)

        def setup() -> tuple[tuple[Any], dict[str, Any]]:
            if CUDA:
                torch.cuda.synchronize()
                sleep: Any = torch.cuda._sleep
                sleep(2_000_000)  # the queue is full before the clock starts: launching is not timed
            return (next(turn),), {}

        benchmark.group = f"gpu: {group}"
        result = benchmark.pedantic(call, setup=setup, rounds=rounds, warmup_rounds=2)
        if benchmark.enabled and moved:
            benchmark.extra_info["measured"] = {"GB/s": moved / benchmark.stats.stats.median / 1e9}
        return result

    return run


def fuse(heads: Heads) -> Panoptic:
    return deeperlab.fuse(heads, THINGS)


def _tensors(panoptic: Panoptic) -> dict[str, Any]:
    return {field.name: getattr(panoptic, field.name) for field in fields(panoptic) if field.name != "things"}


def assert_equal(found: Panoptic, answer: Panoptic) -> None:
    """Every image of `found` is the one of `answer`, bit for bit."""
    for name, expected in _tensors(answer).items():
        for image in getattr(found, name).cpu():
            assert torch.equal(image, expected[0]), f"{name}: the device does not give what the CPU gives"


def traffic(heads: Heads, panoptic: Panoptic) -> int:
    """Bytes that have to be read and written: heads and results, each once."""
    return _bytes(getattr(heads, name) for name in NAMES) + _bytes(_tensors(panoptic).values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The paper's sizes when timed, small ones otherwise; yardsticks take one image."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    if "crf_size" in metafunc.fixturenames:
        metafunc.parametrize("crf_size", [(375, 500), (1441, 1441)] if timed else [(37, 50)])
    if "batch" in metafunc.fixturenames:
        batches = TIMED if timed else UNTIMED
        batches = tuple((spec, n) for spec, n in batches if n == 1 or "yardstick" not in metafunc.function.__name__)
        ids = [f"{spec}, batch of {n}" for spec, n in batches]
        metafunc.parametrize("batch", batches, ids=ids, indirect=True)


def bench_gpu_copy(clock: Callable[..., Any]) -> None:
    """What memory can do: the GB/s to hold those of the fusion against."""
    block = torch.ones((2 << 30) if CUDA else (1 << 20), dtype=torch.uint8, device=DEVICE)
    target = torch.zeros_like(block)
    clock(target.copy_, "copy", [block], rounds=20, moved=2 * block.numel())
    assert bool(target.all())


def bench_gpu_fuse(clock: Callable[..., Any], batch: Batch) -> None:
    moved = traffic(batch.sets[0], fuse(batch.sets[0]))
    assert_equal(clock(fuse, batch.name, batch.sets, rounds=200, moved=moved), batch.answer)


@pytest.mark.skipif(not CUDA, reason="a CPU has no CUDA graphs")
def bench_gpu_graph(clock: Callable[..., Any], batch: Batch) -> None:
    graphs = []
    for heads in batch.sets[:4]:
        fuse(heads)  # the first call loads the kernels, which cannot be captured
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = fuse(heads)
        graphs.append((graph, found))

    def replay(captured: tuple[Any, Panoptic]) -> Panoptic:
        captured[0].replay()
        return captured[1]

    moved = traffic(batch.sets[0], graphs[0][1])
    assert_equal(clock(replay, batch.name, graphs, rounds=200, moved=moved), batch.answer)


@pytest.mark.parametrize("params", PARAMS)
def bench_gpu_params(clock: Callable[..., Any], params: str) -> None:
    """Other parameters take other ways through the kernels."""
    heads = noisy_heads(Spec(97, 4))
    there = heads.map(lambda head: head.to(DEVICE))
    found = clock(lambda heads: deeperlab.fuse(heads, THINGS, params=PARAMS[params]), "parameters", [there], rounds=20)
    assert_equal(found, deeperlab.fuse(heads, THINGS, params=PARAMS[params]))


def bench_gpu_crf(clock: Callable[..., Any], crf_size: tuple[int, int]) -> None:
    """DeepLab v1, 21 classes, ten iterations: soft patches of color with noise, logits of another such kind."""
    height, width = crf_size
    generator = torch.Generator().manual_seed(0)

    def smooth(channels: int, size: tuple[int, int], noise: float) -> torch.Tensor:
        coarse = torch.randn(1, channels, 12, 16, generator=generator)
        fine = torch.randn(1, channels, *size, generator=generator)
        return torch.nn.functional.interpolate(coarse, size, mode="bicubic") + noise * fine

    semantic = 3 * smooth(21, (height // 4 + 1, width // 4 + 1), 0.2)[0]
    image = (128 + 60 * smooth(3, crf_size, 0.08)[0].movedim(0, -1)).clip(0, 255).byte()
    there = semantic.to(DEVICE), image.to(DEVICE)
    group = f"crf, {width} x {height} px"
    found = clock(lambda given: deeperlab.crf(*given, stride=4), group, [there], rounds=10)
    assert torch.equal(found.cpu(), deeperlab.crf(semantic, image, stride=4))


def bench_gpu_yardstick_expert(clock: Callable[..., Any], batch: Batch) -> None:
    found = clock(lambda heads: expert.fuse(heads, THINGS), batch.name, batch.sets[:2], rounds=10)
    assert len(found.keypoints) == pytest.approx(int(batch.answer.count[0]), rel=0.1, abs=1)


def bench_gpu_yardstick_panoptic_deeplab(clock: Callable[..., Any], batch: Batch) -> None:
    """Answers a smaller question, so that only its shape is known."""
    found = clock(lambda heads: panoptic_deeplab.group(heads, THINGS), batch.name, batch.sets[:2], rounds=10)
    assert all(one.shape == batch.answer.semantic.shape[1:] for one in found)
