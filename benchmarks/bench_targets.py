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
from .conftest import time_calls, time_floor

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


def _group(drawn: tuple[int, int]) -> str:
    return f"encode: {drawn[0]} px, {drawn[1]} things"


def _timed(
    benchmark: Any, function: Callable[[], Targets], drawn: tuple[int, int], rounds: int, contender: str
) -> None:
    facts = {"size": drawn[0], "instances": drawn[1], "contender": contender, "threads": 1}
    targets = time_calls(benchmark, function, _group(drawn), rounds, **facts)
    for name in (*MAPS, "ids", "keypoints"):
        np.testing.assert_array_equal(np.asarray(getattr(targets, name)), getattr(_answer(*drawn), name))


@pytest.mark.parametrize("kind", ["arrays", "tensors"])
@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_encode(benchmark: Any, drawn: tuple[int, int], threads: int, kind: str) -> None:
    options: dict[str, Any] = {"radius": RADIUS, "stride": STRIDE}
    instance: Any = _map(*drawn)
    if kind == "tensors":
        instance = torch.from_numpy(instance)
    else:
        options["num_threads"] = threads
    _timed(benchmark, lambda: encode(instance, **options), drawn, 100, kind)


def bench_encode_baseline_numpy(benchmark: Any, drawn: tuple[int, int]) -> None:
    """The baseline of each group: the reference."""
    instance = _map(*drawn)
    _timed(benchmark, lambda: reference.encode(instance, radius=RADIUS, stride=STRIDE, graph=STAR), drawn, 5, "numpy")


def bench_encode_floor(benchmark: Any, drawn: tuple[int, int]) -> None:
    """The map is read; the targets are written."""
    targets = _answer(*drawn)
    time_floor(benchmark, _group(drawn), 1, [_map(*drawn)], [getattr(targets, name) for name in MAPS])
