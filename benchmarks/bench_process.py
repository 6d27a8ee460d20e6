# SPDX-License-Identifier: Apache-2.0
"""Whole processes, from their start to their end: imports, the first call, peak memory, two Python threads.

The time is that of the process; what it measured itself (process.py) stands in extra_info, as the median over rounds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .cases import THINGS, Spec, noisy_heads
from .conftest import as_arrays
from .process import HEADS

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("tensors", "arrays")
SMALL = Spec(161, 5)


@pytest.fixture(scope="session")
def heads_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The path of a file with the heads of a scene, as every process reads them."""
    folder = tmp_path_factory.mktemp("heads")

    @lru_cache
    def write(spec: Spec) -> str:
        heads, path = as_arrays(noisy_heads(spec)), folder / f"{spec}.npz"
        np.savez(path, things=np.array(THINGS), **{name: getattr(heads, name) for name in HEADS})
        return str(path)

    return write


@pytest.fixture
def measure(benchmark: Any) -> Any:
    """Run a measure in fresh processes and return its figures."""

    def run(name: str, *arguments: str, rounds: int) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.process", name, *arguments]
        found: list[dict[str, float]] = []

        def process() -> None:
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout))

        benchmark.group = f"process: {name}"
        benchmark.pedantic(process, rounds=rounds)
        figures = {key: statistics.median(run[key] for run in found) for key in found[0]}
        benchmark.extra_info["measured"] = figures
        return figures

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Scenes: large ones when timed, a small one otherwise."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    scenes = {
        "bench_first_call": (SMALL, Spec(1441, 50)),
        "bench_peak_memory": (Spec(1441, 50), Spec(1441, 500)),
        "bench_two_threads": (Spec(1441, 50),),
    }
    if "spec" in metafunc.fixturenames:
        metafunc.parametrize("spec", scenes[metafunc.function.__name__] if timed else (SMALL,), ids=str)


@pytest.mark.parametrize("name", ["imports", "imports_without_torch"])
def bench_imports(measure: Any, name: str) -> None:
    """In ms; each module after those before it."""
    assert all(ms > 0 for ms in measure(name, rounds=5).values())


@pytest.mark.parametrize("kind", KINDS)
def bench_first_call(measure: Any, heads_file: Any, spec: Spec, kind: str) -> None:
    found = measure("first_call", kind, heads_file(spec), rounds=5)
    assert found["first ms"] > 0 < found["later ms"]


@pytest.mark.parametrize("kind", KINDS)
def bench_peak_memory(measure: Any, heads_file: Any, spec: Spec, kind: str) -> None:
    """Beyond inputs and results."""
    found = measure("memory", kind, heads_file(spec), heads_file(SMALL), rounds=1)
    pixels = spec.shape[0] * spec.shape[1]
    assert 8 * pixels < found["outputs"] < 8 * pixels + 2**20
    assert -(2**20) < found["scratch"] < 16 * pixels + 64 * 2**20
    found["scratch, bytes a pixel"] = found["scratch"] / pixels


@pytest.mark.parametrize("kind", KINDS)
def bench_two_threads(measure: Any, heads_file: Any, spec: Spec, kind: str) -> None:
    found = measure("two_threads", kind, heads_file(spec), rounds=1)
    assert found["ratio"] == pytest.approx(found["two, calls/s"] / found["one, calls/s"])
