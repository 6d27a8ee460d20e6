# SPDX-License-Identifier: Apache-2.0
"""Raw heads to panoptic map: the whole of section 3.4, allocation included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab import FuseParams, reference

from .conftest import CLASSES, THINGS, Case

NAMES = ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated")


def assert_answer(result: deeperlab.Panoptic, case: Case) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(np.asarray(getattr(result, name)), getattr(case.answer, name), err_msg=name)


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def bench_fuse_tensors(timed: Any, case: Case, threads: int) -> None:
    assert_answer(timed(lambda: deeperlab.fuse(case.heads, THINGS), "fuse", rounds=20), case)


@pytest.mark.parametrize("num_threads", [1, 2])
def bench_fuse_arrays(timed: Any, case: Case, num_threads: int) -> None:
    heads = [
        getattr(case.heads, n).numpy() for n in ("semantic", "heatmap", "short_range", "middle_range", "long_range")
    ]
    assert_answer(timed(lambda: deeperlab.fuse(heads, THINGS, num_threads=num_threads), "fuse", rounds=20), case)


def bench_fuse_baseline_numpy(timed: Any, case: Case) -> None:
    """The baseline of the group: the same answer in vectorised NumPy."""
    heads = case.heads
    arrays = [getattr(heads, n).numpy() for n in ("semantic", "heatmap", "short_range", "middle_range", "long_range")]
    result = timed(
        lambda: reference.fuse(
            *arrays,
            things=THINGS,
            num_classes=CLASSES,
            edges=heads.graph.edges,
            stride=heads.stride,
            size=heads.default_size,
            params=FuseParams(),
        ),
        "fuse",
        rounds=1,
    )
    assert_answer(deeperlab.Panoptic(*result), case)
