# SPDX-License-Identifier: Apache-2.0
"""A semantic head alone: an empty graph, heads without channels, and a panoptic map without instances."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import NO_KEYPOINTS, Graph, Heads, Panoptic
from deeperlab.heads import NAMES, names_of
from deeperlab.stages import numpy_ops, pipeline, reference
from deeperlab.stages import torch_ops as ops

THINGS = (1, 3, 4)
PARAMS = deeperlab.FuseParams(max_instances=5, max_candidates=7)


def logits(seed: int = 0, n: int = 2, classes: int = 6, h: int = 9, w: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, classes, h, w)).astype(np.float32)


# Graph and heads


def test_the_empty_graph_has_a_name() -> None:
    for config in ("none", {"keypoints": [], "edges": []}):
        assert Graph.from_config(config) == Graph((), ()) == NO_KEYPOINTS
    assert NO_KEYPOINTS.to_config() == "none"
    assert names_of(NO_KEYPOINTS) == ("semantic",)
    assert names_of(deeperlab.STAR) == NAMES


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_logits_alone_make_heads(dtype: str) -> None:
    tensor = torch.from_numpy(logits()).to(getattr(torch, dtype))
    heads = Heads.of_semantic(tensor, stride=3)
    assert heads.semantic is tensor
    assert (heads.graph, heads.stride, heads.classes, heads.batched) == (NO_KEYPOINTS, 3, 6, True)
    for name in NAMES[1:]:
        head = getattr(heads, name)
        assert (list(head.shape), head.dtype) == ([2, 0, 9, 11], tensor.dtype)
    assert Heads.of_semantic(tensor[0]).heatmap.shape == (0, 9, 11)
    if dtype != "bfloat16":
        assert Heads.of_semantic(tensor.numpy(), stride=np.int64(3)).heatmap.shape == (2, 0, 9, 11)
    assert heads.not_finite() == ()


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize("size", [(1, 1), (12, 13), (13, 16)])
def test_labels_alone_make_heads_of_as_few_nodes_as_reach_them(kind: str, size: tuple[int, int]) -> None:
    labels: Any = np.zeros((2, *size), np.int16)
    labels = torch.from_numpy(labels) if kind == "tensors" else labels
    heads = Heads.of_semantic(labels, stride=4, num_classes=3)
    assert tuple(heads.heatmap.shape) == (2, 0, -(-size[0] // 4), -(-size[1] // 4))
    assert str(heads.heatmap.dtype).endswith("float32")
    assert deeperlab.fuse(heads, THINGS[:1]).size == size


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        (np.zeros((3, 4), np.float32), {}, r"semantic: expected logits \[N, C, h, w\] or .*, got shape \[3, 4\]"),
        (np.zeros((1, 3, 4, 4), np.int32), {"num_classes": 2}, r"semantic: expected labels \[N, H, W\] or \[H,"),
        (np.zeros((1, 3, 4, 4), np.float64), {}, r"semantic: expected dtype float32, .*, int64, got float64"),
        (np.zeros((1, 3, 4, 4), np.float32), {"stride": 0}, "stride: expected at least 1, got 0"),
        (np.zeros((1, 3, 4, 4), np.float32), {"stride": 2.0}, "stride: expected an int, got 2.0"),
        (np.zeros((3, 4), np.int32), {}, "num_classes: expected at least 1 with integer labels, got None"),
        ([[1]], {}, "semantic: expected a torch.Tensor or a numpy.ndarray, got list"),
    ],
)
def test_what_is_no_semantic_head_is_refused(given: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        Heads.of_semantic(given, **options)


def test_outputs_of_a_network_are_those_of_its_graph(make_heads: Any) -> None:
    heads = make_heads()
    five = Heads.of_outputs([getattr(heads, name) for name in NAMES], 4, deeperlab.STAR)
    assert all(getattr(five, name) is getattr(heads, name) for name in NAMES)
    assert Heads.of_outputs([heads.semantic], 8, NO_KEYPOINTS).stride == 8
    with pytest.raises(ValueError, match="outputs: expected semantic, got 5 of them"):
        Heads.of_outputs([getattr(heads, name) for name in NAMES], 4, NO_KEYPOINTS)
    with pytest.raises(ValueError, match=r"outputs: expected semantic, heatmap, .*, got 1 of them"):
        Heads.of_outputs([heads.semantic], 4, deeperlab.STAR)


# The fusion


def test_things_keep_their_class_and_have_no_instance() -> None:
    heads = Heads.of_semantic(logits())
    found = deeperlab.fuse(heads, THINGS, params=PARAMS)
    _, label = reference.argmax(heads.semantic, num_classes=6, stride=4, nodes=(9, 11), size=heads.default_size)
    np.testing.assert_array_equal(found.semantic, label)
    assert not found.instance.any()
    assert (found.keypoints.shape, found.keypoints.dtype) == ((2, 5, 0, 2), np.float32)
    assert found.count.tolist() == [0, 0]
    assert found.truncated.tolist() == [False, False]
    assert (found.category == -1).all()
    assert not found.area.any()
    assert not found.score.any()
    np.testing.assert_array_equal(found.class_area, [np.bincount(image.ravel(), minlength=6) for image in label])


def test_every_class_is_one_segment() -> None:
    (found,) = deeperlab.fuse(Heads.of_semantic(logits(n=1)), THINGS)
    present = np.flatnonzero(found.class_area).tolist()
    assert [segment.category for segment in found.segments] == present
    assert [segment.id for segment in found.segments] == list(range(1, len(present) + 1))
    assert [segment.isthing for segment in found.segments] == [c in THINGS for c in present]
    assert all(s.score is None and s.keypoints is None and s.keypoint_box is None for s in found.segments)
    ids, infos = found.to_coco()
    assert {info["id"]: info["area"] for info in infos} == dict(zip(*np.unique(ids, return_counts=True), strict=True))
    np.testing.assert_array_equal(found.to_ids(1000), found.semantic * 1000)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("kind", ["logits", "labels"])
def test_all_forms_give_the_bits_of_the_reference(kind: str, n: int, assert_same: Any) -> None:
    if kind == "logits":
        heads = Heads.of_semantic(logits(n=n), stride=3)
    else:
        labels = np.random.default_rng(1).integers(-1, 7, (n, 21, 35)).astype(np.int32)
        heads = Heads.of_semantic(labels, num_classes=6)
    for params in (deeperlab.FuseParams(), deeperlab.FuseParams.paper(), replace(PARAMS, max_distance=3.0)):
        want = pipeline.fuse(reference, heads, THINGS, heads.default_size, params)
        tensors = heads.map(torch.from_numpy)
        assert_same(deeperlab.fuse(heads, THINGS, params=params, num_threads=2), want)
        assert_same(deeperlab.fuse(tensors, THINGS, params=params), want)
        assert_same(pipeline.fuse(numpy_ops, heads, THINGS, heads.default_size, params), want)
        assert_same(pipeline.fuse(ops, tensors, THINGS, heads.default_size, params), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_in_any_layout(dtype: Any, assert_same: Any) -> None:
    half = torch.from_numpy(logits()).to(dtype)
    want = deeperlab.fuse(Heads.of_semantic(half.float()), THINGS)
    assert_same(deeperlab.fuse(Heads.of_semantic(half), THINGS), want)
    last = half.contiguous(memory_format=torch.channels_last)
    assert_same(deeperlab.fuse(Heads.of_semantic(last), THINGS), want)


@pytest.mark.parametrize("backend", [reference, numpy_ops])
def test_a_score_of_no_keypoints_is_zero(backend: Any) -> None:
    values = pipeline.run(backend, Heads.of_semantic(logits()), THINGS, (33, 41), PARAMS)
    assert values["votes"].shape == (2, 0, 10, 12)
    assert (values["candidate"] == -1).all()
    assert not values["candidate_score"].any()  # False for NaN


@pytest.mark.parametrize("stage", ["rescore", "assign", "merge"])
def test_no_stage_believes_in_instances_without_keypoints(stage: str) -> None:
    values = pipeline.run(numpy_ops, Heads.of_semantic(logits()), THINGS, (33, 41), PARAMS)
    problem = pipeline.Problem.of(Heads.of_semantic(logits()), THINGS, (33, 41), PARAMS)
    count = "candidates" if stage == "rescore" else "count"
    with pytest.raises(ValueError, match=r"count: expected values in \[0, 0\], got 1"):
        pipeline.run_stage(numpy_ops, stage, values | {count: np.ones(2, np.int32)}, problem)


# Compiled, exported, without memory


class Semantic(torch.nn.Module):
    """What a user exports: a network that ends in the fusion."""

    def forward(self, semantic: torch.Tensor) -> Panoptic:
        return deeperlab.fuse(Heads.of_semantic(semantic, stride=3), THINGS, params=PARAMS)


def test_it_compiles_as_one_graph(assert_same: Any) -> None:
    compiled = torch.compile(Semantic(), fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((9, 11), (12, 7)):
        given = torch.from_numpy(logits(1, 2, 6, *shape))
        assert_same(compiled(given), Semantic()(given))


@pytest.mark.parametrize("strict", [False, True])
def test_it_exports_with_dynamic_sizes(strict: bool, assert_same: Any) -> None:
    n, h, w = (torch.export.Dim(name, min=2, max=512) for name in "nhw")
    example = (torch.from_numpy(logits()),)
    program = torch.export.export(Semantic(), example, dynamic_shapes=({0: n, 2: h, 3: w},), strict=strict)
    for shape in ((2, 6, 9, 11), (3, 6, 23, 8)):
        given = torch.from_numpy(logits(2, *shape))
        assert_same(program.module()(given), Semantic()(given))


class Recorder:
    """The stages of torch, and what they were called with."""

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            self.calls[name] = args, options
            return getattr(ops, name)(*args, **options)

        return run


@pytest.mark.parametrize("name", [*pipeline.NAMES, "fuse"])
def test_opcheck(name: str) -> None:
    heads, recorder = Heads.of_semantic(torch.from_numpy(logits())), Recorder()
    pipeline.run(recorder, heads, THINGS, heads.default_size, PARAMS)
    options = pipeline.Problem.of(heads, THINGS, heads.default_size, PARAMS).options("fuse")
    calls = recorder.calls | {"fuse": (tuple(getattr(heads, head) for head in NAMES), options)}
    torch.library.opcheck(getattr(ops, name), *calls[name])


def test_meta_tensors_give_shapes_without_work() -> None:
    given = torch.from_numpy(logits())
    fake, true = Semantic()(given.to("meta")), Semantic()(given)
    for field in fields(Panoptic):
        if field.name != "things":
            a, b = getattr(fake, field.name), getattr(true, field.name)
            assert (a.is_meta, a.shape, a.dtype) == (True, b.shape, b.dtype)


# What others make of no keypoints


def test_instances_without_keypoints_are_segments() -> None:
    """As whoever merges masks makes them."""
    instance = np.array([[1, 1, 0], [2, 0, 0]], np.int32)
    semantic = np.array([[1, 1, 0], [1, 0, 0]], np.int32)
    found = Panoptic(
        semantic, instance, np.zeros((3, 0, 2), np.float32), np.float32([0.9, 0.5, 0]), np.int32([1, 1, -1]),
        np.int32([2, 1, 0]), np.int32([3, 0]), np.array(2, np.int32), np.array(False), things=(1,),
    )  # fmt: skip
    assert [(s.id, s.category, s.area, s.keypoints, s.keypoint_box) for s in found.segments] == [
        (1, 1, 2, None, None), (2, 1, 1, None, None), (3, 0, 3, None, None),
    ]  # fmt: skip
    assert [s.score for s in found.segments] == [pytest.approx(0.9), 0.5, None]
