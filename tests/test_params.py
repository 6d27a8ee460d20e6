# SPDX-License-Identifier: Apache-2.0
"""The parameters: their values, their bounds, and what the engine makes of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab import FuseParams
from deeperlab._schema import PARAMETERS
from deeperlab.stages import torch_ops as ops

# docs/definition.md, stage by stage.
DEFAULTS: dict[str, Any] = {
    "long_steps": 0,
    "long_short_steps": 2,
    "long_voters": "thing",
    "vote_cell": 4,
    "short_weight": 1.0,
    "long_weight": 1.0,
    "radius": 25.0,
    "peak_threshold": 0.05,
    "max_candidates": 4096,
    "middle_steps": 2,
    "kappa": 0.1,
    "oks_cell": True,
    "instance_threshold": 0.05,
    "nms_radius": 10.0,
    "nms_radius_min": 2.0,
    "nms_relative": 0.35,
    "box_iou": 0.7,
    "max_instances": 1024,
    "max_distance": None,
    "majority": "fit",
    "fit_area": 0.25,
}
# The literal reading of the papers: refinement 2/2/2, all voters, a fixed radius, no cell term, majority of all pixels.
PAPER = {"long_steps": 2, "long_voters": "all", "oks_cell": False, "nms_radius_min": 10.0, "majority": "all"}
THINGS = (1, 3, 4)


def values(params: FuseParams) -> dict[str, Any]:
    return {field.name: getattr(params, field.name) for field in fields(params)}


def test_defaults() -> None:
    assert values(FuseParams()) == DEFAULTS


def test_the_defaults_of_grouping_are_those_of_the_definition() -> None:
    """min(100, max(4, 0.1225 · area)) px²."""
    params = FuseParams()
    assert (params.nms_radius**2, params.nms_radius_min**2) == (100.0, 4.0)
    assert params.nms_relative**2 == pytest.approx(0.1225)


def test_paper() -> None:
    assert values(FuseParams.paper()) == {**DEFAULTS, **PAPER}


def test_values_are_kept_as_given() -> None:
    given = {**DEFAULTS, **PAPER, "short_weight": 0.75, "kappa": (0.1, 0.2), "max_distance": 3, "radius": 9}
    assert values(FuseParams(**given)) == given


def test_params_are_frozen_values() -> None:
    params = FuseParams()
    for name in DEFAULTS:
        with pytest.raises(FrozenInstanceError):
            setattr(params, name, getattr(params, name))
    with pytest.raises(TypeError):
        FuseParams(0, 2, "thing", 4, 1.0, 1.0, 25.0, 0.05, 4096, unknown=1)  # type: ignore[call-arg]
    assert params == FuseParams()
    assert hash(params) == hash(FuseParams())
    assert params != FuseParams.paper()
    assert replace(params, **PAPER) == FuseParams.paper()


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"\Aradius: expected 1 to 4096, got 0"):
        replace(FuseParams(), radius=0.0)


@pytest.mark.parametrize("graph", ["star", "rectangle", "person"], indirect=True)
def test_one_kappa_is_that_of_every_keypoint(graph: Any, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=3, graph=graph, h=13, w=11)
    loose = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_instances=64)
    count = len(graph.keypoints)
    one, each = replace(loose, kappa=0.5), replace(loose, kappa=(0.5,) * count)
    want = deeperlab.fuse(heads, THINGS, params=one)
    assert want.count[0] > 0
    assert_same(deeperlab.fuse(heads, THINGS, params=each), want)
    other = replace(loose, kappa=(*(0.5,) * (count - 1), 0.01))
    assert not np.array_equal(deeperlab.fuse(heads, THINGS, params=other).score, want.score)


def test_the_engine_takes_every_parameter_by_its_name() -> None:
    assert list(PARAMETERS) == list(DEFAULTS)
    names = [argument.name for argument in ops.fuse._schema.arguments]
    assert names[names.index("size") + 1 :] == list(DEFAULTS)
    assert FuseParams().options(5) == {**DEFAULTS, "kappa": [0.1] * 5}


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    params = FuseParams(vote_cell=np.int64(8), radius=np.float32(12.5), kappa=[0.1, 0.2])  # type: ignore[arg-type]
    assert (params.vote_cell, params.radius, params.kappa) == (8, 12.5, (0.1, 0.2))
    assert type(params.vote_cell) is int
    assert FuseParams(kappa=np.full(5, 0.25)).kappa == (0.25,) * 5  # type: ignore[arg-type]
    assert FuseParams().kappas(3) == (0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"kappa: expected a number, or one for each keypoint, got \(\)"):
        FuseParams(kappa=())
