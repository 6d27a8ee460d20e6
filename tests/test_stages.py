# SPDX-License-Identifier: Apache-2.0
"""Every stage, as torch op and for NumPy arrays, against its readable twin in stages.reference: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import FuseParams, Heads
from deeperlab.stages import numpy_ops, pipeline, reference
from deeperlab.stages import torch_ops as ops

THINGS = (1, 3, 4)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch": {"n": 3},
    "one node": {"h": 1, "w": 1},
    "one row": {"h": 1, "w": 33},
    "one column": {"h": 33, "w": 1},
    "wide": {"h": 5, "w": 67},
    "stride 1": {"h": 37, "w": 43, "stride": 1},
    "stride 3": {"stride": 3},
    "stride 8": {"stride": 8},
    "ties": {"ties": True},
    "nan": {"nan": 0.05},
    "inf": {"inf": 0.02},
    "huge": {"huge": 0.02},
    "everything": {"nan": 0.02, "inf": 0.02, "huge": 0.02, "ties": True, "n": 2},
    "labels": {"labels": (68, 71)},
    "cropped labels": {"labels": (41, 50), "n": 2},
}


class Trail:
    """A backend of the pipeline that runs every stage three times, as its twin and compiled for tensors and for arrays,
    and asks for the same bits."""

    def __init__(self, assert_same: Any) -> None:
        self.assert_same = assert_same

    def __getattr__(self, name: str) -> Any:
        def stage(*arrays: np.ndarray, **options: Any) -> Any:
            expected = getattr(reference, name)(*arrays, **options)
            arrays = tuple(np.ascontiguousarray(a) for a in arrays)
            self.assert_same(getattr(ops, name)(*(torch.from_numpy(a) for a in arrays), **options), expected, name)
            self.assert_same(getattr(numpy_ops, name)(*arrays, **options, num_threads=2), expected, name)
            return expected

        return stage


def run(heads: Heads, size: tuple[int, int], params: FuseParams, assert_same: Any) -> tuple[Any, Any]:
    """How many candidates and instances there are in each image, all stages being equal."""
    values = pipeline.run(Trail(assert_same), heads, THINGS, size, params)
    return values["candidates"], values["count"]


PARAMS = {
    "defaults": FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_candidates=256, max_instances=64),
    "paper": FuseParams.paper(),
    "odd": FuseParams(
        long_steps=1,
        vote_cell=7,
        short_weight=0.75,
        long_weight=0.25,
        radius=17.5,
        peak_threshold=0.0,
        max_candidates=40,
        instance_threshold=0.01,
        box_iou=0.3,
        max_instances=5,
        max_distance=20.0,
        fit_area=0.01,
    ),
}


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_its_twin(case: str, params: str, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=len(case), **CASES[case])
    size = heads.default_size
    run(heads, size, PARAMS[params], assert_same)


@pytest.mark.parametrize("size", [(1, 1), (33, 68), (68, 76), (66, 1)])
def test_every_stage_equals_its_twin_on_crops_and_past_the_last_node(
    size: tuple[int, int], make_heads: Any, assert_same: Any
) -> None:
    run(make_heads(seed=5, n=2), size, PARAMS["defaults"], assert_same)


def test_every_stage_equals_its_twin_on_other_graphs(graph: Any, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=3, graph=graph, h=25, w=21)
    count, _ = run(heads, heads.default_size, PARAMS["defaults"], assert_same)
    assert (count[0] > 0) == bool(graph.keypoints)  # or this proves little


def test_every_stage_equals_its_twin_on_a_drawn_scene(as_tensors: Any, assert_same: Any) -> None:
    from deeperlab import scenes, targets

    scene = scenes.draw(7, (129, 161))
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes)
    batch = Heads(
        *(
            head[None]
            for head in (heads.semantic, heads.heatmap, heads.short_range, heads.middle_range, heads.long_range)
        )
    )
    _, instances = run(batch, (129, 161), FuseParams(), assert_same)
    assert instances[0] > 0
