# SPDX-License-Identifier: Apache-2.0
"""Every stage alone, on one thread, beside its NumPy twin; answers are the twin's, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import FuseParams
from deeperlab.heads import NAMES
from deeperlab.stages import reference
from deeperlab.stages import torch_ops as ops

from .cases import CLASSES, THINGS
from .conftest import Case

STAGES = ("argmax", "refine", "vote", "peaks", "trace", "rescore", "select", "assign", "merge")


@dataclass(frozen=True)
class Call:
    """One stage's arguments, for the op and for its twin, and the twin's answer."""

    arrays: tuple[np.ndarray, ...]
    options: dict[str, Any]
    answer: Any

    def of_op(self, name: str) -> Callable[[], Any]:
        options = dict(self.options)
        if "edges" in options:
            options["edges"] = [end for edge in options["edges"] for end in edge]
        if "max_distance" in options:
            options["max_distance"] = math.inf
        tensors = [torch.from_numpy(array) for array in self.arrays]
        return lambda: getattr(ops, name)(*tensors, **options)


@lru_cache(maxsize=1)
def _calls(case: Case) -> dict[str, Call]:
    heads, p = case.heads, FuseParams()
    semantic, heatmap, short, middle, long = (getattr(heads, name).numpy() for name in NAMES)
    size, nodes, stride = heads.default_size, tuple(heatmap.shape[-2:]), heads.stride
    calls: dict[str, Call] = {}

    def call(name: str, *arrays: np.ndarray, **options: Any) -> Any:
        answer = getattr(reference, name)(*arrays, **options)
        calls[name] = Call(tuple(np.ascontiguousarray(array) for array in arrays), options, answer)
        return answer

    cell = {"vote_cell": p.vote_cell}
    node_label, label = call("argmax", semantic, num_classes=CLASSES, stride=stride, nodes=nodes, size=size)
    steps = {"long_steps": p.long_steps, "long_short_steps": p.long_short_steps}
    target = call("refine", long, short, stride=stride, **steps)
    weights = {"short_weight": p.short_weight, "long_weight": p.long_weight, "all_voters": False}
    votes = call("vote", heatmap, short, target, node_label, things=THINGS, stride=stride, size=size, **cell, **weights)
    limits = {"radius": p.radius, "threshold": p.peak_threshold, "max_candidates": p.max_candidates}
    candidate, position, count, _ = call("peaks", votes, stride=stride, nodes=nodes, **cell, **limits)
    path = {"edges": heads.graph.edges, "middle_steps": p.middle_steps}
    traced = call("trace", position, candidate, count, middle, short, stride=stride, size=size, **path)
    oks = {"radius": p.radius, "kappa": (p.kappa,) * 5, "oks_cell": p.oks_cell}
    keypoint_score, score = call("rescore", traced, count, votes, heatmap, stride=stride, **cell, **oks)
    found, _, instances, _ = call(
        "select",
        *(candidate, count, traced, keypoint_score, score),
        instance_threshold=p.instance_threshold,
        nms_radius=p.nms_radius,
        nms_radius_min=p.nms_radius_min,
        nms_relative=p.nms_relative,
        box_iou=p.box_iou,
        max_instances=p.max_instances,
    )
    node_instance, node_distance, instance = call(
        "assign", target, node_label, label, found, instances, things=THINGS, stride=stride, max_distance=None
    )
    call(
        "merge",
        *(label, instance, node_label, node_instance, node_distance, found, instances),
        things=THINGS,
        num_classes=CLASSES,
        radius=p.radius,
        fit_area=p.fit_area,
        majority_all=False,
    )
    return calls


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_stage(timed: Any, case: Case, threads: int, name: str) -> None:
    call = _calls(case)[name]
    result = timed(call.of_op(name), name, rounds=10)
    for found, expected in zip(_tuple(result), _tuple(call.answer), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", STAGES)
def bench_stage_baseline_numpy(timed: Any, case: Case, name: str) -> None:
    """The baseline of each group: the twin."""
    call = _calls(case)[name]
    result = timed(lambda: getattr(reference, name)(*call.arrays, **call.options), name, rounds=1)
    for found, expected in zip(_tuple(result), _tuple(call.answer), strict=True):
        np.testing.assert_array_equal(found, expected)


def _tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)
