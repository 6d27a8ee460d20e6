# SPDX-License-Identifier: Apache-2.0
"""What is timed: drawn scenes of 66 classes, 37 of them things that cover 35 %, as noisy heads at stride 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import FuseParams, Heads, Panoptic, reference, targets
from deeperlab.data import noise, scenes

THINGS = tuple(range(37))
CLASSES = 66
PAPER_MS = {721: 45, 1441: 145}
"""Table 1 of the paper: "merge" on a Xeon E5-1650 v3, scope not stated."""


@dataclass(frozen=True, eq=False)
class Case:
    """Noisy heads [1, …] of a drawn scene, as tensors, and the reference's answer."""

    heads: Heads
    answer: Panoptic
    info: dict[str, Any]


@lru_cache(maxsize=2)
def _case(size: int, instances: int) -> Case:
    scene = scenes.draw(1, size, instances=instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    perfect = targets.encode_heads(scene.category, scene.instance, CLASSES, stride=4)
    noisy = noise.perturb(perfect, seed=1, instance=scene.instance, level=1)
    arrays = [getattr(noisy, n)[None] for n in ("semantic", "heatmap", "short_range", "middle_range", "long_range")]
    answer = reference.fuse(
        *arrays,
        things=THINGS,
        num_classes=CLASSES,
        edges=noisy.graph.edges,
        stride=4,
        size=(size, size),
        params=FuseParams(),
    )
    info = {
        "size": size,
        "instances": instances,
        "found": int(answer[7][0]),
        "mixed cells": round(_mixed(arrays[0][0].argmax(0)), 4),
        "paper ms": PAPER_MS.get(size),
    }
    return Case(Heads(*(torch.from_numpy(array) for array in arrays)), Panoptic(*answer, things=THINGS), info)


def _mixed(label: np.ndarray) -> float:
    """Share of cells whose four corners do not carry one label: there logits are interpolated."""
    corners = np.stack((label[:-1, :-1], label[:-1, 1:], label[1:, :-1], label[1:, 1:]))
    return float((corners != corners[0]).any(axis=0).mean())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every benchmark takes a scene: the paper's sizes when timed, a small one otherwise."""
    if "case" in metafunc.fixturenames:
        timed = metafunc.config.getoption("benchmark_enable", False)
        scenes = [(size, n) for size in (721, 1441) for n in (5, 50, 200)] if timed else [(161, 5)]
        metafunc.parametrize("case", scenes, indirect=True, ids=[f"{size} px, {n} things" for size, n in scenes])


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    return _case(*request.param)


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def timed(benchmark: Any, case: Case) -> Callable[..., Any]:
    """Times a call in a group of its scene and returns its result.

    The result of each round is kept until the next has returned: the page faults of fresh maps are part of the cost.
    """

    def run(function: Callable[[], Any], stage: str, rounds: int) -> Any:
        benchmark.group = f"{stage}: {case.info['size']} px, {case.info['instances']} things"
        benchmark.extra_info.update(case.info)
        kept: list[Any] = [None]

        def call() -> Any:
            kept[0] = function()
            return kept[0]

        return benchmark.pedantic(call, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)

    return run
