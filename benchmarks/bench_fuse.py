# SPDX-License-Identifier: Apache-2.0
"""Raw heads to panoptic map: the whole of section 3.4, allocation included, beside what it is measured against.

Each scene is a group of its own. Its yardsticks, all on one thread but where said:

* same_answer: the definition without pruning in plain C++, compared bit for bit; ratios are taken to it;
* upsample_first: what users do, every head upsampled before anything else; the PQ of its answer is in extra_info;
* expert: PyTorch, vectorized, on one thread and on two; its PQ too;
* numpy: the reference, where it is not too slow;
* floor: no fusion at all, but what memory alone costs, on one thread and on two.

`-m quick` is the part that `make bench-quick` runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab import Panoptic, metrics

from .cases import CLASSES, THINGS, Spec
from .conftest import Case, as_arrays, time_floor, twin
from .yardsticks import expert, floor, plain

ISTHING = {c: c in THINGS for c in range(CLASSES)}

TIMED = (
    *(Spec(size, 50) for size in (257, 513, 721, 1441, 2881, (1025, 2049))),
    *(Spec(1441, n) for n in (1, 5, 200, 500)),
    *(Spec(size, 50, stride=1) for size in (721, 1441)),
    Spec(1441, 50, dtype="float16"),
)
UNTIMED = (
    Spec(161, 5),
    Spec(321, 50),
    Spec((129, 257), 5),
    Spec(129, 5, stride=1),
    Spec(161, 5, dtype="float16"),
)
MOST_WORK = 7_000_000
"""Nodes times instances that the reference is given: 50 things at 1441 px and stride 4."""
QUICK_SCENES = (Spec(721, 50), Spec(1441, 50))
QUICK = (
    *("bench_fuse_tensors", "bench_fuse_yardstick_same_answer"),
    *("bench_fuse_yardstick_expert", "bench_fuse_yardstick_floor"),
)


def marks(function: str, spec: Spec) -> list[pytest.MarkDecorator]:
    work = spec.shape[0] * spec.shape[1] // spec.stride**2 * spec.instances  # distances of nodes to instances
    if function == "bench_fuse_baseline_numpy" and work > MOST_WORK:
        return [pytest.mark.skip(reason=f"the reference would take seconds for {work:,} distances")]
    return [pytest.mark.quick] if function in QUICK and spec in QUICK_SCENES else []


def assert_equal(result: Panoptic, answer: Panoptic) -> None:
    for name in plain.ANSWER:
        np.testing.assert_array_equal(np.asarray(getattr(result, name)), getattr(answer, name), err_msg=name)


def quality(semantic: Any, instance: Any, case: Case) -> metrics.QualityResult:
    """Panoptic quality of two maps [H, W], the definition's answer being the truth."""
    maps = np.asarray(semantic, np.int32), np.asarray(instance, np.int32)
    return metrics.panoptic_quality(maps, (case.answer.semantic[0], case.answer.instance[0]), ISTHING)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def bench_fuse_tensors(timed: Any, case: Case, threads: int) -> None:
    result = timed(lambda: deeperlab.fuse(case.heads, THINGS), "fuse", rounds=20, contender="tensors", threads=threads)
    assert_equal(result, case.answer)


@pytest.mark.parametrize("num_threads", [1, 2])
def bench_fuse_arrays(timed: Any, case: Case, num_threads: int) -> None:
    heads, facts = as_arrays(case.heads), {"contender": "arrays", "threads": num_threads}
    result = timed(lambda: deeperlab.fuse(heads, THINGS, num_threads=num_threads), "fuse", rounds=20, **facts)
    assert_equal(result, case.answer)


def bench_fuse_yardstick_same_answer(timed: Any, case: Case) -> None:
    """Beyond some size the answer of the case is this program's own, so it is compared with the library's."""
    heads = as_arrays(case.heads)
    result = timed(lambda: plain.same_answer(heads, THINGS), "fuse", rounds=5, contender="same_answer", threads=1)
    assert_equal(result, deeperlab.fuse(heads, THINGS))


def bench_fuse_yardstick_upsample_first(benchmark: Any, timed: Any, case: Case) -> None:
    """Its stuff agrees, since equal corners interpolate to their class; its things are worse, since a walk to the
    letter reads offsets off the objects."""
    heads = as_arrays(case.heads)
    result = timed(lambda: plain.upsample_first(heads, THINGS), "fuse", rounds=2, contender="upsample_first", threads=1)
    found = quality(result.semantic[0], result.instance[0], case)
    benchmark.extra_info |= {"pq": round(found.all.pq, 4), "things pq": round(found.things.pq, 4)}
    assert found.stuff.pq > 0.99
    assert found.things.pq > 0.1
    assert result.count[0] == pytest.approx(case.info["found"], rel=0.1, abs=1)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def bench_fuse_yardstick_expert(benchmark: Any, timed: Any, case: Case, threads: int) -> None:
    result = timed(lambda: expert.fuse(case.heads, THINGS), "fuse", rounds=3, contender="expert", threads=threads)
    found = quality(result.semantic, result.instance, case)
    benchmark.extra_info |= {"pq": round(found.all.pq, 4), "things pq": round(found.things.pq, 4)}
    assert found.all.pq > 0.99
    assert len(result.keypoints) == pytest.approx(case.info["found"], rel=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def bench_fuse_yardstick_floor(benchmark: Any, case: Case, threads: int) -> None:
    arrays, maps = floor.heads_of(as_arrays(case.heads)), (case.answer.semantic, case.answer.instance)
    benchmark.extra_info.update(case.info)
    time_floor(benchmark, f"fuse: {case.spec}", threads, arrays, maps)


def bench_fuse_baseline_numpy(timed: Any, case: Case) -> None:
    """The same answer in vectorized NumPy."""
    assert_equal(timed(lambda: twin(case.heads), "fuse", rounds=1, contender="numpy", threads=1), case.answer)
