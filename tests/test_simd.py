# SPDX-License-Identifier: Apache-2.0
"""Every form of the engine gives the bits of its plain loops: whole and stage by stage, on some four hundred cases
(tests/simd_digests.py), each form in a process of its own, because a process keeps the one that it began with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LEVELS = ("plain", "baseline", "avx2", "avx512")  # ascending
FLAGS = {
    "avx2": {"avx2", "bmi1", "bmi2", "f16c"},
    "avx512": {"avx2", "bmi1", "bmi2", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
}
CALL = "_numpy.argmax(np.zeros((1, 2, 3, 4), np.float32), num_classes=2, stride=1, nodes=(3, 4), size=(3, 4))"
ARRAYS = f"import conftest, numpy as np; from deeperlab import _numpy; print(_numpy.argmax.__name__, {CALL}[0].sum())"
TENSORS = (
    "import conftest, torch; from deeperlab.stages import torch_ops as ops; "
    "ops.argmax(torch.zeros(1, 2, 3, 4), num_classes=2, stride=1, nodes=(3, 4), size=(3, 4))"
)

pytestmark = pytest.mark.slow  # every form is a process of its own
Process = subprocess.Popen[str]
Result = dict[str, dict[str, dict[str, Any]]]


def start(level: str, *arguments: str) -> Process:
    """Python in the folder of the tests, where `conftest` finds the build that is under test."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=HERE,
        env={**os.environ, "DEEPERLAB_SIMD": level},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_error(level: str, code: str) -> str:
    """The last line of the traceback; nothing where the code runs."""
    _, errors = start(level, "-c", code).communicate(timeout=60)
    return errors.strip().rpartition("\n")[2]


@cache
def lacking(level: str) -> str:
    """The error that tells that the machine lacks a level, or nothing."""
    error = last_error(level, ARRAYS)
    assert not error or "expected at most" in error, error
    return error


@pytest.fixture(scope="module")
def digests() -> Iterator[Callable[[str], Result]]:
    """What tests/simd_digests.py prints for a level; the test is skipped where the machine lacks it."""
    processes = {level: start(level, "simd_digests.py") for level in LEVELS if not lacking(level)}

    @cache
    def read(level: str) -> Result:
        if level not in processes:
            pytest.skip(lacking(level))
        output, errors = processes[level].communicate(timeout=600)
        assert processes[level].returncode == 0, errors
        result: Result = json.loads(output)
        return result

    yield read
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("level", LEVELS[1:])
def test_fast_forms_give_the_bits_of_the_plain_one(level: str, digests: Callable[[str], Result]) -> None:
    """The first stage named is at fault: each is given what the one before it made."""
    want, got = digests("plain")["digests"], digests(level)["digests"]
    assert want.keys() == got.keys()
    assert len(want) > 400
    different = {case: [stage for stage in want[case] if want[case][stage] != got[case].get(stage)] for case in want}
    assert not {case: stages for case, stages in different.items() if stages}


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_is_the_same_by_any_way(level: str, digests: Callable[[str], Result]) -> None:
    """fuse on one thread or three, of float16 or of the same values as float32, or stage by stage; what NumPy says."""
    compared = 0
    for case, made in digests(level)["digests"].items():
        for way, value in made.items():
            base = way.partition(", ")[0]
            assert value == made[base], (case, way)
            compared += way != base
    assert compared > 700


def test_the_cases_walk_the_rare_paths(digests: Callable[[str], Result]) -> None:
    """Or the others prove little."""
    facts = digests("plain")["facts"].values()

    def cases_with(fact: str, least: int = 1) -> int:
        return sum(case[fact] >= least for case in facts)

    assert cases_with("instances") > 250
    assert cases_with("instances", 101) > 20
    assert cases_with("instances", 257) > 5
    assert cases_with("more peaks") > 80  # than there was room for
    assert cases_with("more instances") > 30
    assert cases_with("lone thing pixels") > 50  # with no thing node at their corners
    assert cases_with("late classes") > 80  # of instances that no node decides
    assert cases_with("orphans") > 80


def test_levels_are_those_of_the_processor() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.is_file():
        pytest.skip(f"the flags of a {platform.machine()} processor are not known here")
    flags = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split()
    assert not lacking("plain")
    assert not lacking("baseline")
    for level, wanted in FLAGS.items():
        assert bool(lacking(level)) == (not wanted <= set(flags)), (level, lacking(level))


def test_a_level_above_the_machine_is_refused_by_name() -> None:
    missing = [level for level in LEVELS if lacking(level)]
    if not missing:
        pytest.skip("this machine has every level")
    best = LEVELS[LEVELS.index(missing[0]) - 1]
    for level in missing:
        assert lacking(level) == (
            f"ValueError: DEEPERLAB_SIMD: expected at most {best}, the best this machine has, got {level}"
        )


@pytest.mark.parametrize("level", ["sse", "AVX2", "avx", "avx512 ", "1"])
def test_an_unknown_level_is_refused(level: str) -> None:
    message = f"DEEPERLAB_SIMD: expected plain, baseline, avx2 or avx512, got {level}".strip()
    assert last_error(level, ARRAYS) == f"ValueError: {message}"


def test_an_unknown_level_is_refused_for_tensors_too() -> None:
    message = "DEEPERLAB_SIMD: expected plain, baseline, avx2 or avx512, got sse"
    assert last_error("sse", TENSORS) == f"ValueError: {message}"


@pytest.mark.parametrize("level", ["", *LEVELS])
def test_the_form_in_use_has_its_name(level: str) -> None:
    """No level is the best one."""
    if lacking(level):
        pytest.skip(lacking(level))
    best = [name for name in LEVELS if not lacking(name)][-1]
    output, _ = start(level, "-c", "import conftest; from deeperlab._numpy import simd; print(simd())").communicate()
    assert output.strip() == (level or best)
