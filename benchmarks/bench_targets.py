# SPDX-License-Identifier: Apache-2.0
"""Targets of instance maps at stride 4 on one thread, beside the NumPy reference; the answers are the reference's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import STAR, scenes
from deeperlab.targets import Targets, encode, reference
from deeperlab.targets.target_maps import MAPS

from .cases import CLASSES, THINGS

STRIDE, RADIUS = 4, 25


@lru_cache(maxsize=1)
def _map(size: int, instances: int) -> np.ndarray:
    scene = scenes.draw(1, size, instances=instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    return np.ascontiguousarray(scene.instance, np.int32)


@lru_cache(maxsize=1)
def _answer(size: int, instances: int) -> Targets:
    return reference.encode(_map(size, instances), radius=RADIUS, stride=STRIDE, graph=STAR)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Crops as they are trained with when timed, a small one otherwise."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    drawn = [(721, 5), (721, 50), (721, 200), (1441, 50)] if timed else [(161, 5)]
    metafunc.parametrize("drawn", drawn, ids=[f"{size} px, {n} things" for size, n in drawn])


def _timed(benchmark: Any, function: Callable[[], Targets], drawn: tuple[int, int], rounds: int) -> None:
    """The targets of each round are kept until the next has returned, as those of `timed` in conftest."""
    benchmark.group = f"encode: {drawn[0]} px, {drawn[1]} things"
    benchmark.extra_info.update({"size": drawn[0], "instances": drawn[1]})
    kept: list[Any] = [None]

    def call() -> Any:
        kept[0] = function()
        return kept[0]

    targets = benchmark.pedantic(call, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)
    for name in (*MAPS, "ids", "keypoints"):
        np.testing.assert_array_equal(np.asarray(getattr(targets, name)), getattr(_answer(*drawn), name))


@pytest.mark.parametrize("face", ["arrays", "tensors"])
def bench_encode(benchmark: Any, drawn: tuple[int, int], face: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    options: dict[str, Any] = {"radius": RADIUS, "stride": STRIDE}
    instance: Any = _map(*drawn)
    if face == "tensors":
        instance = torch.from_numpy(instance)
    else:
        options["num_threads"] = 1
    _timed(benchmark, lambda: encode(instance, **options), drawn, rounds=100)
    torch.set_num_threads(threads)


def bench_encode_baseline_numpy(benchmark: Any, drawn: tuple[int, int]) -> None:
    """The baseline of each group: the reference."""
    instance = _map(*drawn)
    _timed(benchmark, lambda: reference.encode(instance, radius=RADIUS, stride=STRIDE, graph=STAR), drawn, rounds=5)
