# SPDX-License-Identifier: Apache-2.0
"""Every stage alone, on one thread, beside its NumPy twin; answers are the twin's, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import FuseParams, Heads
from deeperlab.stages import pipeline, reference
from deeperlab.stages import torch_ops as ops

from .cases import THINGS
from .conftest import Case, as_arrays


@dataclass(frozen=True)
class Call:
    """One stage's arguments and the answer of its twin."""

    arrays: tuple[np.ndarray, ...]
    options: dict[str, Any]
    answer: Any

    def of_op(self, name: str) -> Callable[[], Any]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in self.arrays]
        return lambda: getattr(ops, name)(*tensors, **self.options)


class Recorder:
    """A backend of the pipeline that runs the twins and keeps their calls."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def __getattr__(self, name: str) -> Any:
        def stage(*arrays: np.ndarray, **options: Any) -> Any:
            answer = getattr(reference, name)(*arrays, **options)
            self.calls[name] = Call(arrays, options, answer)
            return answer

        return stage


def calls_of(heads: Heads) -> dict[str, Call]:
    recorder = Recorder()
    pipeline.run(recorder, as_arrays(heads), THINGS, heads.default_size, FuseParams())
    return recorder.calls


@lru_cache(maxsize=1)
def _calls(case: Case) -> dict[str, Call]:
    return calls_of(case.heads)


@pytest.mark.parametrize("name", pipeline.NAMES)
@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_stage(timed: Any, case: Case, threads: int, name: str) -> None:
    call = _calls(case)[name]
    result = timed(call.of_op(name), name, rounds=10)
    for found, expected in zip(_tuple(result), _tuple(call.answer), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", pipeline.NAMES)
def bench_stage_baseline_numpy(timed: Any, case: Case, name: str) -> None:
    """The baseline of each group: the twin."""
    call = _calls(case)[name]
    result = timed(lambda: getattr(reference, name)(*call.arrays, **call.options), name, rounds=1)
    for found, expected in zip(_tuple(result), _tuple(call.answer), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_resample(timed: Any, case: Case, threads: int, dtype: Any) -> None:
    """The semantic head, as if it were on a half-pixel grid."""
    head = as_arrays(case.heads).semantic.astype(dtype)
    stride = case.heads.stride
    tensor = torch.from_numpy(head)
    result = timed(lambda: ops.resample(tensor, stride=stride, offsets=False), "resample", rounds=10)
    np.testing.assert_array_equal(result.numpy(), reference.resample(head, stride=stride, offsets=False))


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)
