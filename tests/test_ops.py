# SPDX-License-Identifier: Apache-2.0
"""The torch operators as torch sees them: schemas, fake kernels, torch.compile and torch.export."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import deeperlab
from deeperlab import STAR, FuseParams, Heads
from deeperlab.fuse import op_arguments
from deeperlab.stages import torch_ops as ops

THINGS = [1, 3, 4]
EDGES = [end for edge in STAR.edges for end in edge]
PARAMS = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_candidates=64, max_instances=32)


def tensors(heads: Heads) -> tuple[torch.Tensor, ...]:
    return heads.semantic, heads.heatmap, heads.short_range, heads.middle_range, heads.long_range


def stage_arguments(heads: Heads) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of every op: each stage gets what the ones before it gave."""
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def call(name: str, *args: Any, **options: Any) -> Any:
        calls[name] = args, options
        return getattr(ops, name)(*args, **options)

    semantic, heatmap, short, middle, long = tensors(heads)
    size, nodes = heads.default_size, heads.heatmap.shape[-2:]
    node_label, label = call("argmax", semantic, num_classes=6, stride=4, nodes=nodes, size=size)
    target = call("refine", long, short, stride=4, long_steps=1, long_short_steps=2)
    votes = call(
        "vote",
        *(heatmap, short, target, node_label),
        things=THINGS,
        stride=4,
        size=size,
        vote_cell=4,
        short_weight=1.0,
        long_weight=1.0,
        all_voters=False,
    )
    candidate, position, count, _ = call(
        "peaks", votes, stride=4, nodes=nodes, vote_cell=4, radius=25.0, threshold=0.01, max_candidates=64
    )
    keypoints = call(
        "trace", *(position, candidate, count, middle, short), edges=EDGES, stride=4, size=size, middle_steps=2
    )
    keypoint_score, score = call(
        "rescore",
        *(keypoints, count, votes, heatmap),
        stride=4,
        vote_cell=4,
        radius=25.0,
        kappa=[0.1] * 5,
        oks_cell=True,
    )
    found, _, instances, _ = call(
        "select",
        *(candidate, count, keypoints, keypoint_score, score),
        instance_threshold=0.0,
        nms_radius=10.0,
        nms_radius_min=2.0,
        nms_relative=0.35,
        box_iou=0.7,
        max_instances=32,
    )
    node_instance, node_distance, instance = call(
        "assign", *(target, node_label, label, found, instances), things=THINGS, stride=4, max_distance=float("inf")
    )
    call(
        "merge",
        *(label, instance, node_label, node_instance, node_distance, found, instances),
        things=THINGS,
        num_classes=6,
        radius=25.0,
        fit_area=0.25,
        majority_all=False,
    )
    call("fuse", *tensors(heads), THINGS, 6, EDGES, 4, *size, *op_arguments(PARAMS, 5))
    return calls


@pytest.mark.parametrize("name", [*ops.STAGES, "fuse"])
def test_opcheck(name: str, make_heads: Any, as_tensors: Any) -> None:
    args, options = stage_arguments(as_tensors(make_heads(seed=1, n=2)))[name]
    torch.library.opcheck(getattr(ops, name), args, options)


def test_opcheck_with_half_types_labels_and_odd_strides(make_heads: Any, as_tensors: Any) -> None:
    labels = as_tensors(make_heads(seed=1, n=2, labels=(65, 73)), torch.bfloat16)
    turned = [head.transpose(-1, -2).contiguous().transpose(-1, -2) for head in tensors(labels)]
    torch.library.opcheck(ops.fuse, (*turned, THINGS, 6, EDGES, 4, 65, 73, *op_arguments(PARAMS, 5)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_fuse_compiles_as_one_graph(dynamic: bool, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    def parse(*heads: torch.Tensor) -> deeperlab.Panoptic:
        return deeperlab.fuse(heads, THINGS, params=PARAMS)

    compiled = torch.compile(parse, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shape in ({"h": 17, "w": 19}, {"h": 21, "w": 25}):
        heads = as_tensors(make_heads(seed=2, n=2, **shape))
        result = compiled(*tensors(heads))
        assert isinstance(result, deeperlab.Panoptic)
        assert_same(result, parse(*tensors(heads)))


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # torch's own, inside inductor
def test_the_op_compiles_with_inductor(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=3))
    arguments = (THINGS, 6, EDGES, 4, *heads.default_size, *op_arguments(PARAMS, 5))

    def parse(*heads: torch.Tensor) -> torch.Tensor:
        semantic, instance, *_ = torch.ops.deeperlab.fuse(*(head * 1.0 for head in heads), *arguments)
        return semantic * 1000 + instance

    assert_same(torch.compile(parse, fullgraph=True)(*tensors(heads)), parse(*tensors(heads)))


class Parser(torch.nn.Module):
    """What a user exports: a network that ends in the fusion."""

    def forward(self, *heads: torch.Tensor) -> deeperlab.Panoptic:
        return deeperlab.fuse(Heads(*heads, stride=4), THINGS, params=PARAMS)


def test_fuse_exports_with_dynamic_sizes(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    n, h, w = (torch.export.Dim(name, min=2, max=512) for name in "nhw")
    example = tensors(as_tensors(make_heads(seed=4, n=2)))
    program = torch.export.export(Parser(), example, dynamic_shapes=((({0: n, 2: h, 3: w},) * 5),))
    for shape in ({"n": 2}, {"n": 3, "h": 23, "w": 9}):
        heads = tensors(as_tensors(make_heads(seed=5, **shape)))
        assert_same(program.module()(*heads), Parser()(*heads))


def test_meta_tensors_give_shapes_without_work(make_heads: Any, as_tensors: Any) -> None:
    heads = tensors(as_tensors(make_heads(n=2)))
    result = deeperlab.fuse(tuple(head.to("meta") for head in heads), THINGS, params=PARAMS)
    real = deeperlab.fuse(heads, THINGS, params=PARAMS)
    for name in ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated"):
        fake, true = getattr(result, name), getattr(real, name)
        assert fake.is_meta
        assert (fake.shape, fake.dtype, fake.stride()) == (true.shape, true.dtype, true.stride())
