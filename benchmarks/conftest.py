# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the benchmarks, scenes (cases.py) with the answer that another program gives, and what the JSON of a run
says of the machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deeperlab import FuseParams, Heads, Panoptic
from deeperlab.stages import pipeline, reference

from .cases import THINGS, Spec, noisy_heads
from .machine import ProcessorTime, describe
from .yardsticks import floor, plain

TWIN_PIXELS = 721 * 721
"""Up to this size the answer is the reference's, beyond it that of the plain program, which is ten times as fast."""


TIMED = tuple(Spec(size, n) for size in (721, 1441) for n in (5, 50, 200))
UNTIMED = (Spec(161, 5),)


@dataclass(frozen=True, eq=False)
class Case:
    """Noisy heads [1, …] of a drawn scene, as tensors, and the answer that another program gives."""

    heads: Heads
    answer: Panoptic
    info: dict[str, Any]
    spec: Spec


def as_arrays(heads: Heads) -> Heads:
    """The same heads as arrays that share the tensors' memory."""
    return heads.map(torch.Tensor.numpy)


@lru_cache(maxsize=2)
def _case(spec: Spec) -> Case:
    heads = noisy_heads(spec)
    answer = twin(heads) if spec.shape[0] * spec.shape[1] <= TWIN_PIXELS else plain.same_answer(heads, THINGS)
    info = {
        "size": spec.size,
        "instances": spec.instances,
        "stride": spec.stride,
        "dtype": spec.dtype,
        "found": int(answer.count[0]),
        "mixed cells": round(_mixed(heads.semantic[0].float().argmax(0).numpy()), 4),
    }
    return Case(heads, answer, info, spec)


def twin(heads: Heads) -> Panoptic:
    """The answer of the reference."""
    return pipeline.fuse(reference, as_arrays(heads), tuple(THINGS), heads.default_size, FuseParams())


def _mixed(label: NDArray[Any]) -> float:
    """Share of cells whose four corners do not carry one label: there logits are interpolated."""
    corners = np.stack((label[:-1, :-1], label[:-1, 1:], label[1:, :-1], label[1:, 1:]))
    return float((corners != corners[0]).any(axis=0).mean())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every benchmark takes a scene: the paper's sizes when timed, small ones otherwise. A module may bring its own,
    as TIMED and UNTIMED, and marks for a function's scene, as `marks(function, spec)`."""
    if "case" not in metafunc.fixturenames:
        return
    timed = metafunc.config.getoption("benchmark_enable", False)
    specs = getattr(metafunc.module, "TIMED", TIMED) if timed else getattr(metafunc.module, "UNTIMED", UNTIMED)
    mine = getattr(metafunc.module, "marks", lambda name, spec: ())
    name = metafunc.function.__name__
    parameters = [pytest.param(spec, marks=mine(name, spec), id=str(spec)) for spec in specs]
    metafunc.parametrize("case", parameters, indirect=True)


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param)


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def time_calls(benchmark: Any, function: Callable[[], Any], group: str, rounds: int, **facts: Any) -> Any:
    """Time a call and return its result; facts go to extra_info: with `contender` and `threads` a report shows it.

    The result of each round is kept until the next has returned: the page faults of fresh maps are part of the cost.
    """
    benchmark.group = group
    benchmark.extra_info.update(facts)
    kept: list[Any] = [None]

    def call() -> Any:
        kept[0] = function()
        return kept[0]

    return benchmark.pedantic(call, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)


def time_floor(benchmark: Any, group: str, threads: int, read: Sequence[Any], written: Sequence[Any] = ()) -> None:
    """Time what memory alone costs a kernel that reads some arrays, and writes new ones like others."""
    arrays = [np.ascontiguousarray(array) for array in read]
    shapes, facts = floor.like(*written), {"contender": "floor", "threads": threads}
    found, fresh = time_calls(
        benchmark, lambda: floor.read_and_write(arrays, shapes, threads), group, rounds=20, **facts
    )
    assert found == floor.total(arrays)
    assert all((array.view(np.uint8) == 255).all() for array in fresh)


@pytest.fixture
def timed(benchmark: Any, case: Case) -> Callable[..., Any]:
    """Times a call in a group of its scene and returns its result; further facts go to extra_info."""

    def run(function: Callable[[], Any], stage: str, rounds: int, **facts: Any) -> Any:
        return time_calls(benchmark, function, f"{stage}: {case.spec}", rounds, **(case.info | facts))

    return run


_START = ProcessorTime.now()


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return describe()


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    """Takes out the names of the folder and of the branch."""
    for name in ("project", "branch"):
        commit_info.pop(name, None)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Adds what was typed, and how many processors other work had."""
    typed = shlex.join(("pytest", *map(str, config.invocation_params.args)))
    output_json["command"] = os.environ.get("BENCHMARK_COMMAND", typed)
    output_json["other_work"] = round(ProcessorTime.now().others_since(_START), 2)
