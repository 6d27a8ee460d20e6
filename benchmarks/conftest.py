# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the benchmarks, scenes (cases.py) with the answer that another program gives, and what the JSON of a run
says of the machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deeperlab import FuseParams, Heads, Panoptic
from deeperlab._numpy import simd
from deeperlab.stages import pipeline, reference

from .cases import THINGS, Spec, noisy_heads
from .yardsticks import plain

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


@pytest.fixture
def timed(benchmark: Any, case: Case) -> Callable[..., Any]:
    """Times a call in a group of its scene and returns its result; further facts go to extra_info.

    The result of each round is kept until the next has returned: the page faults of fresh maps are part of the cost.
    """

    def run(function: Callable[[], Any], stage: str, rounds: int, **facts: Any) -> Any:
        benchmark.group = f"{stage}: {case.spec}"
        benchmark.extra_info.update(case.info | facts)
        kept: list[Any] = [None]

        def call() -> Any:
            kept[0] = function()
            return kept[0]

        return benchmark.pedantic(call, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)

    return run


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds that processors have worked: for the machine, and for this process with its finished children."""

    machine: float
    process: float
    clock: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> ProcessorTime:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        return cls(ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]), time.monotonic())

    def others_since(self, start: ProcessorTime) -> float:
        """Processors that other processes had on average: beyond a tenth, figures of several threads suffer."""
        others = (self.machine - start.machine) - (self.process - start.process)
        return max(0.0, others / (self.clock - start.clock))


_START = ProcessorTime.now()


def _compiler() -> str:
    """Of the engine that is loaded: the mark that GCC and Clang leave in what they build."""
    engine = importlib.util.find_spec("deeperlab._numpy")
    assert engine is not None
    assert engine.origin is not None
    marks = re.findall(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(engine.origin).read_bytes())
    return str(marks[0].decode()) if marks else "unknown"


def pytest_benchmark_generate_machine_info(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """What figures depend on beside the code, without names of hosts; `simd` is the form of the stages that runs."""
    facts = dict(re.findall(r"^(model name)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE))
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "simd": simd(),
        "compiler": _compiler(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "deeperlab")},
    }


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    """Takes out the names of the folder and of the branch."""
    for name in ("project", "branch"):
        commit_info.pop(name, None)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Adds how many processors other work had."""
    output_json["other_work"] = round(ProcessorTime.now().others_since(_START), 2)
