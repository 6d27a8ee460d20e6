# SPDX-License-Identifier: Apache-2.0
"""Every stage, as torch op and for NumPy arrays, against its readable twin in stages.reference: the same bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import FuseParams, Heads, _numpy
from deeperlab.stages import reference
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
    """Runs the stages one after the other, each op beside its twin on the same input."""

    def __init__(self, heads: Heads, size: tuple[int, int], params: FuseParams, assert_same: Any) -> None:
        self.heads, self.size, self.params, self.assert_same = heads, size, params, assert_same
        self.nodes = heads.heatmap.shape[-2:]
        self.kappa = (0.1,) * len(heads.graph.keypoints)

    def stage(self, name: str, *arrays: np.ndarray, edges: Any = None, max_distance: Any = 0, **options: Any) -> Any:
        twin, op = dict(options), dict(options)
        if edges is not None:
            twin["edges"], op["edges"] = edges, [end for edge in edges for end in edge]
        if max_distance != 0:
            twin["max_distance"], op["max_distance"] = max_distance, math.inf if max_distance is None else max_distance
        expected = getattr(reference, name)(*arrays, **twin)
        arrays = tuple(np.ascontiguousarray(a) for a in arrays)
        self.assert_same(getattr(ops, name)(*(torch.from_numpy(a) for a in arrays), **op), expected, name)
        self.assert_same(getattr(_numpy, name)(*arrays, **op, num_threads=2), expected, name)
        return expected

    def run(self) -> Any:
        heads, p, size, nodes = self.heads, self.params, self.size, self.nodes
        stride, classes = heads.stride, heads.classes
        node_label, label = self.stage(
            "argmax", heads.semantic, num_classes=classes, stride=stride, nodes=nodes, size=size
        )
        target = self.stage(
            "refine",
            heads.long_range,
            heads.short_range,
            stride=stride,
            long_steps=p.long_steps,
            long_short_steps=p.long_short_steps,
        )
        votes = self.stage(
            "vote",
            heads.heatmap,
            heads.short_range,
            target,
            node_label,
            things=THINGS,
            stride=stride,
            size=size,
            vote_cell=p.vote_cell,
            short_weight=p.short_weight,
            long_weight=p.long_weight,
            all_voters=p.long_voters == "all",
        )
        candidate, position, count, _ = self.stage(
            "peaks",
            votes,
            stride=stride,
            nodes=nodes,
            vote_cell=p.vote_cell,
            radius=p.radius,
            threshold=p.peak_threshold,
            max_candidates=p.max_candidates,
        )
        keypoints = self.stage(
            "trace",
            position,
            candidate,
            count,
            heads.middle_range,
            heads.short_range,
            edges=heads.graph.edges,
            stride=stride,
            size=size,
            middle_steps=p.middle_steps,
        )
        keypoint_score, score = self.stage(
            "rescore",
            keypoints,
            count,
            votes,
            heads.heatmap,
            stride=stride,
            vote_cell=p.vote_cell,
            radius=p.radius,
            kappa=self.kappa,
            oks_cell=p.oks_cell,
        )
        found, _, instances, _ = self.stage(
            "select",
            candidate,
            count,
            keypoints,
            keypoint_score,
            score,
            instance_threshold=p.instance_threshold,
            nms_radius=p.nms_radius,
            nms_radius_min=p.nms_radius_min,
            nms_relative=p.nms_relative,
            box_iou=p.box_iou,
            max_instances=p.max_instances,
        )
        node_instance, node_distance, instance = self.stage(
            "assign",
            target,
            node_label,
            label,
            found,
            instances,
            things=THINGS,
            stride=stride,
            max_distance=p.max_distance,
        )
        self.stage(
            "merge",
            label,
            instance,
            node_label,
            node_instance,
            node_distance,
            found,
            instances,
            things=THINGS,
            num_classes=classes,
            radius=p.radius,
            fit_area=p.fit_area,
            majority_all=p.majority == "all",
        )
        return count, instances


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
    Trail(heads, size, PARAMS[params], assert_same).run()


@pytest.mark.parametrize("size", [(1, 1), (33, 68), (68, 76), (66, 1)])
def test_every_stage_equals_its_twin_on_crops_and_past_the_last_node(
    size: tuple[int, int], make_heads: Any, assert_same: Any
) -> None:
    Trail(make_heads(seed=5, n=2), size, PARAMS["defaults"], assert_same).run()


def test_every_stage_equals_its_twin_on_other_graphs(graph: Any, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=3, graph=graph, h=25, w=21)
    count, _ = Trail(heads, heads.default_size, PARAMS["defaults"], assert_same).run()
    assert count[0] > 0  # or this proves little


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
    _, instances = Trail(batch, (129, 161), FuseParams(), assert_same).run()
    assert instances[0] > 0
