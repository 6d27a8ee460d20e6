# SPDX-License-Identifier: Apache-2.0
"""The fully connected CRF of DeepLab v1, ten iterations, beside the published library where it can be built: the
photograph of the package, 21 classes whose logits at stride 4 are smooth noise.

    DEEPERLAB_DENSECRF=pydensecrf-1.0rc3.tar.gz pytest benchmarks/bench_crf.py --benchmark-enable
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import deeperlab
from deeperlab import CRFParams, shipped
from deeperlab.stages import crf_reference

from .yardsticks import dense_crf

CLASSES = 21
Case = tuple[NDArray[np.float32], NDArray[np.uint8]]


@lru_cache(maxsize=1)
def _case(height: int, width: int) -> Case:
    """Logits [C, h, w] and the photograph [H, W, 3]."""
    with Image.open(shipped.path_of(shipped.DEFAULT) / "example.jpg") as photograph:
        image = np.asarray(photograph.convert("RGB").resize((width, height)))
    rng = np.random.default_rng(0)
    h, w = height // 4 + 1, width // 4 + 1
    coarse = rng.normal(0, 3, (CLASSES, 6, 8)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(plane).resize((w, h), Image.Resampling.BICUBIC)) for plane in coarse]
    return np.stack(planes) + rng.normal(0, 0.5, (CLASSES, h, w)).astype(np.float32), image


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """VOC's size and squares when timed, a small one otherwise."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    sizes = [(375, 500), (513, 513), (1441, 1441)] if timed else [(37, 50)]
    metafunc.parametrize("size", sizes, ids=[f"{w}x{h}" for h, w in sizes])


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize("threads", [1, 2])
def bench_crf(benchmark: Any, size: tuple[int, int], threads: int, normalization: Any) -> None:
    semantic, image = _case(*size)
    params = CRFParams(normalization=normalization)
    benchmark.group = f"crf: {size[1]} x {size[0]} px, {CLASSES} classes, {normalization}"

    def call() -> NDArray[np.float32]:
        q: NDArray[np.float32] = deeperlab.crf(semantic, image, params, stride=4, num_threads=threads)
        return q

    q = benchmark.pedantic(call, rounds=3, warmup_rounds=1)
    if size[0] < 100:
        options = {**params.kernels(), "iterations": params.iterations, "stride": 4, "probabilities": False}
        np.testing.assert_array_equal(q, crf_reference.crf(semantic[None], image[None], **options)[0])
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)


@pytest.mark.skipif(dense_crf.archive() is None, reason="DEEPERLAB_DENSECRF does not name pydensecrf-1.0rc3.tar.gz")
@pytest.mark.parametrize("normalization", ["symmetric", "after"])
def bench_crf_baseline_published(benchmark: Any, size: tuple[int, int], normalization: Any) -> None:
    semantic, image = _case(*size)
    params = CRFParams(normalization=normalization)
    benchmark.group = f"crf: {size[1]} x {size[0]} px, {CLASSES} classes, {normalization}"
    before = deeperlab.crf(semantic, image, stride=4, iterations=0)
    q = benchmark.pedantic(lambda: dense_crf.crf(before, image, params), rounds=2)
    found = deeperlab.crf(semantic, image, params, stride=4)
    assert (q.argmax(0) == found.argmax(0)).mean() >= 0.994
    assert np.abs(q - found).mean() <= 0.003
