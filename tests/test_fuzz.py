# SPDX-License-Identifier: Apache-2.0
"""Anything at all: whatever the shapes, the graph, the parameters and the values, `deeperlab.fuse` gives the bits of
the reference for tensors and for arrays, and what every panoptic map must satisfy holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deeperlab
from deeperlab import NO_KEYPOINTS, RECTANGLE, STAR, FuseParams, Graph, Heads, Panoptic
from deeperlab.stages import pipeline, reference
from deeperlab.stages import torch_ops as ops

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LABELS = {"uint8": np.uint8, "int16": np.int16, "int32": np.int32, "int64": np.int64}
# NaN, ±Inf, ±1e38 (overflows when squared), the largest, a subnormal of float32 and one of float16, −0, a tiny step
ODD = np.float32([np.nan, np.inf, -np.inf, 1e38, -1e38, 3.4e38, 1e-45, 6e-8, -0.0, 0.0, 1e-7])

fuzz = settings(
    deadline=None,
    derandomize=True,  # the same examples everywhere: a failure is a failure of the change
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """The paper's graphs, none and PersonLab's, or a ring through all keypoints in any order with more edges thrown
    in."""
    kind = draw(st.sampled_from(["star", "rectangle", "person", "none", "ring", "ring", "ring"]))
    if kind in ("star", "rectangle", "none"):
        return {"star": STAR, "rectangle": RECTANGLE, "none": NO_KEYPOINTS}[kind]
    if kind == "person":
        parents = (0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14)
        tree = [(parent, child) for child, parent in enumerate(parents, start=1)]
        return Graph(tuple(f"joint{k}" for k in range(17)), (*tree, *((b, a) for a, b in tree)))
    count = draw(st.integers(1, 6))
    order = draw(st.permutations(range(count)))
    ring = {(order[i - 1], order[i]) for i in range(count)} if count > 1 else set()
    others = sorted({(a, b) for a in range(count) for b in range(count) if a != b} - ring)
    more = draw(st.lists(st.sampled_from(others), unique=True, max_size=6)) if others else []
    return Graph(tuple(f"point{k}" for k in range(count)), tuple(draw(st.permutations([*sorted(ring), *more]))))


def mostly(usual: st.SearchStrategy[Any], wild: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, wild)


def bounds(low: float, high: float) -> st.SearchStrategy[float]:
    return st.sampled_from([low, high]) | st.floats(low, high)


STEPS = (st.integers(0, 2), st.integers(3, 9))
WEIGHTS = (st.sampled_from([1.0, 0.5]), st.integers(0, 2048).map(lambda n: n / 256))
KAPPA = (st.sampled_from([0.1, 1.0, 10.0]), bounds(1e-4, 1e4))
# Values with which instances are found, and all that is allowed.
PARAMETERS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "long_steps": STEPS,
    "long_short_steps": STEPS,
    "long_voters": (st.just("thing"), st.just("all")),
    "vote_cell": (st.integers(1, 8), st.integers(1, 1024)),
    "short_weight": WEIGHTS,
    "long_weight": WEIGHTS,
    "radius": (st.sampled_from([25.0, 10.0, 3.0]), bounds(1.0, 4096.0)),
    "peak_threshold": (st.sampled_from([0.0, 1e-4, 0.001]), st.floats(0.0, 0.1) | bounds(0.0, 1e6)),
    "max_candidates": (st.integers(50, 200), st.integers(1, 20) | st.integers(1, 65536)),
    "middle_steps": STEPS,
    "oks_cell": (st.just(True), st.just(False)),
    "instance_threshold": (st.just(0.0), st.floats(0.0, 0.1) | bounds(0.0, 1.0)),
    "nms_radius": (st.sampled_from([10.0, 3.0]), bounds(2.0, 1e6)),
    "nms_radius_min": (st.sampled_from([0.0, 2.0]), st.floats(0.0, 2.0)),
    "nms_relative": (st.sampled_from([0.35, 0.1]), bounds(0.0, 1e3)),
    "box_iou": (st.sampled_from([0.7, 0.3]), bounds(0.0, 1.0)),
    "max_instances": (st.integers(10, 80), st.integers(1, 9)),
    "max_distance": (st.none(), st.sampled_from([5.0, 20.0]) | bounds(0.0, 1e6)),
    "majority": (st.just("fit"), st.just("all")),
    "fit_area": (st.sampled_from([0.25, 0.01]), bounds(0.0, 1e6)),
}


@st.composite
def parameters(draw: st.DrawFn, keypoints: int) -> FuseParams:
    """A few parameters anywhere within their bounds: all at once would find no instance in nearly all examples."""
    wild = draw(st.sets(st.sampled_from([*PARAMETERS, "kappa"]), max_size=4))
    values = {name: draw(strategies[name in wild]) for name, strategies in PARAMETERS.items()}
    kappa = KAPPA["kappa" in wild]
    return FuseParams(**values, kappa=draw(kappa | st.tuples(*[kappa] * keypoints) if keypoints else kappa))


def fill(rng: np.random.Generator, shape: tuple[int, ...], scale: float, kind: str) -> np.ndarray:
    """Values of a head: noise, noise of a few levels (ties), noise with odd values strewn in, or these alone."""
    head = (rng.standard_normal(shape) * scale).astype(np.float32)
    if kind == "ties":
        return np.round(head / scale) * np.float32(scale)
    if kind != "plain":
        odd = rng.random(shape) < (1.0 if kind == "odd" else 0.1)
        head[odd] = rng.choice(ODD, int(odd.sum()))
    return head


@st.composite
def cases(draw: st.DrawFn) -> tuple[Heads, tuple[int, ...], tuple[int, int], FuseParams, str]:
    """Heads (float32 arrays that hold values of the dtype), thing classes, size, parameters, dtype."""
    graph = draw(graphs())
    p, e = len(graph.keypoints), len(graph.edges)
    n = draw(mostly(st.integers(1, 3), st.integers(0, 1)))
    nodes = mostly(st.integers(5, 12), st.integers(1, 12))
    h, w = draw(nodes), draw(nodes)
    classes, stride = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    sides = (mostly(st.sampled_from([stride * (i - 1) + 1, stride * i]), st.integers(1, stride * i)) for i in (h, w))
    size = draw(st.tuples(*sides))
    dtype = draw(st.sampled_from(["float32", "float32", "float16", "bfloat16"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = mostly(st.sampled_from(["plain", "ties"]), st.sampled_from(["strewn", "strewn", "odd"]))
    scale = stride * draw(st.sampled_from([0.1, 1.0, 3.0]))
    heads = {
        "heatmap": fill(rng, (n, p, h, w), 4.0, draw(kinds)),
        "short_range": fill(rng, (n, 2 * p, h, w), scale, draw(kinds)),
        "middle_range": fill(rng, (n, 2 * e, h, w), 2 * scale, draw(kinds)),
        "long_range": fill(rng, (n, 2 * p, h, w), 2 * scale, draw(kinds)),
    }
    if draw(st.integers(0, 3)):
        heads["semantic"] = fill(rng, (n, classes, h, w), 1.0, draw(kinds))
    heads = {name: torch.from_numpy(head).to(DTYPES[dtype]).float().numpy() for name, head in heads.items()}
    if "semantic" not in heads:
        labels = LABELS[draw(st.sampled_from(sorted(LABELS)))]
        limits = np.iinfo(labels)
        heads["semantic"] = rng.integers(max(-2, limits.min), classes + 2, (n, *size), labels)
        heads["semantic"][rng.random((n, *size)) < 0.01] = rng.choice([limits.min, limits.max])
    things = draw(mostly(st.just(set(range(classes // 2, classes))), st.sets(st.integers(0, classes - 1))))
    params = draw(parameters(p))
    return Heads(**heads, stride=stride, graph=graph, num_classes=classes), tuple(sorted(things)), size, params, dtype


def reference_fuse(heads: Heads, things: tuple[int, ...], size: tuple[int, int], params: FuseParams) -> Panoptic:
    return pipeline.fuse(reference, heads, things, size, params)


def as_dtype(heads: Heads, dtype: str) -> Heads:
    """The same values as tensors of that dtype, channels last: strides of another order."""

    def convert(head: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(head)
        tensor = tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)

    return replace(heads, **{name: convert(getattr(heads, name)) for name in NAMES})


def as_arrays(heads: Heads, dtype: str) -> Heads:
    floats = {name: getattr(heads, name) for name in NAMES if getattr(heads, name).dtype == np.float32}
    return replace(heads, **{name: head.astype(dtype) for name, head in floats.items()})


def check_invariants(panoptic: Panoptic, params: FuseParams, graph: Graph) -> None:
    """What holds for every panoptic map, whatever the heads were."""
    height, width = panoptic.size
    for image in panoptic:
        count = int(image.count)
        assert 0 <= count <= params.max_instances
        assert image.instance.min() >= 0
        assert image.instance.max() <= count

        void = (image.semantic == -1).sum()
        assert image.area.sum(dtype=np.int64) + image.class_area.sum(dtype=np.int64) + void == height * width
        assert image.area.min() >= 0
        assert image.class_area.min() >= 0
        np.testing.assert_array_equal(image.category == -1, image.area == 0)
        np.testing.assert_array_equal(
            image.area, np.bincount(image.instance.ravel(), minlength=len(image.area) + 1)[1:]
        )
        assert set(image.category[image.category >= 0].tolist()) <= set(image.things)

        score = image.score[:count]
        assert np.isfinite(score).all()
        assert ((score >= params.instance_threshold - 1e-7) & (score <= 1)).all()
        assert (np.diff(score) <= 0).all()
        assert not image.score[count:].any()

        points = image.keypoints
        assert points.shape == (params.max_instances, len(graph.keypoints), 2)
        assert ((points >= 0) & (points <= np.float32([width - 1, height - 1]))).all()  # False for NaN
        assert not points[count:].any()

        own = image.instance > 0
        np.testing.assert_array_equal(image.semantic[own], image.category[image.instance[own] - 1])
        others = image.semantic[~own]
        np.testing.assert_array_equal(
            image.class_area, np.bincount(others[others >= 0], minlength=image.class_area.size)
        )


@pytest.mark.slow
@fuzz
@given(case=cases())
def test_fuse_equals_the_reference_whatever_comes(case: Any, assert_same: Any) -> None:
    heads, things, size, params, dtype = case
    want = reference_fuse(heads, things, size, params)
    check_invariants(want, params, heads.graph)
    assert_same(deeperlab.fuse(as_dtype(heads, dtype), things, size=size, params=params), want)
    arrays = as_arrays(heads, dtype) if dtype != "bfloat16" else heads
    assert_same(deeperlab.fuse(arrays, things, size=size, params=params, num_threads=2), want)


def test_the_largest_graph(assert_same: Any) -> None:
    """32 keypoints and 256 edges, the most that fit."""
    rng = np.random.default_rng(0)
    ring = [(k, (k + 1) % 32) for k in range(32)]
    chords = [(k, (k + step) % 32) for step in (3, 5, 7, 11, 13, 17, 19) for k in range(32)]
    graph = Graph(tuple(f"point{k}" for k in range(32)), tuple(ring + chords))
    channels = (3, 32, 64, 512, 64)
    heads = Heads(*(fill(rng, (1, c, 7, 6), 5.0, "plain") for c in channels), graph=graph, num_classes=3)
    params = FuseParams(peak_threshold=1e-4, instance_threshold=0.0, max_instances=50, max_candidates=60)
    want = reference_fuse(heads, (1, 2), heads.default_size, params)
    assert want.count[0] > 1
    check_invariants(want, params, graph)
    assert_same(deeperlab.fuse(heads, (1, 2), params=params), want)
    assert_same(deeperlab.fuse(as_dtype(heads, "float32"), (1, 2), params=params), want)


def levels(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small multiples of a half: sums of their squares are exact, and often equal."""
    return (rng.integers(0, 9, shape) / 2).astype(np.float32)


def stage_inputs(rng: np.random.Generator, stage: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What a stage may be given, of so few different values that every tie rule is needed."""
    n, classes, p, k, m = (int(rng.integers(1, top)) for top in (3, 4, 4, 12, 7))
    h, w, stride = (int(rng.integers(1, top)) for top in (6, 7, 5))
    height, width = int(rng.integers(1, stride * h + 1)), int(rng.integers(1, stride * w + 1))
    things = [c for c in range(classes) if rng.random() < 0.8]
    if stage == "peaks":
        cell = max(stride, 2)
        votes = rng.integers(0, 3, (n, p, (height - 1) // cell + 2, (width - 1) // cell + 2))
        grid = {"stride": stride, "nodes": (h, w), "vote_cell": 2, "radius": 9.0, "peak_threshold": 0.0}
        return [votes], {**grid, "max_candidates": k}
    if stage == "select":
        cells = [rng.permutation(np.argwhere(np.ones((p, 4, 4))))[:k] for _ in range(n)]  # distinct, as peaks are
        k = len(cells[0])
        count = rng.integers(0, k + 1, n).astype(np.int32)
        scores = levels(rng, n, k, p) / 4
        inputs = [np.stack(cells).astype(np.int32), count, levels(rng, n, k, p, 2) * 2, scores, scores.mean(axis=2)]
        limits = {"instance_threshold": 0.25, "nms_radius": 3.0, "nms_radius_min": 0.5, "nms_relative": 0.5}
        return inputs, {**limits, "box_iou": 0.5, "max_instances": m}
    count = rng.integers(0, m + 1, n).astype(np.int32)
    keypoints = levels(rng, n, m, p, 2)
    label = rng.integers(-1, classes, (n, height, width)).astype(np.int32)
    node_label = rng.integers(-1, classes, (n, h, w)).astype(np.int32)
    if stage == "assign":
        target, keypoints = np.floor(levels(rng, n, p, h, w, 2) / 2), np.floor(keypoints / 2)
        target[rng.random(target.shape) < 0.05] = rng.choice(ODD)
        distance = None if rng.random() < 0.5 else 1.5
        options = {"things": things, "stride": stride, "max_distance": distance}
        return [target, node_label, label, keypoints, count], options
    limit = count[:, None, None] + 1
    instance = rng.integers(0, limit, label.shape).astype(np.int32)  # on stuff and void too: a stage may be given it
    node_instance = rng.integers(0, limit, node_label.shape).astype(np.int32)
    distance = np.where(node_instance > 0, levels(rng, n, h, w) * 4, np.inf).astype(np.float32)
    rules = {"radius": 1.0, "fit_area": 0.5, "majority": "all" if rng.random() < 0.3 else "fit"}
    options = {"things": things, "num_classes": classes, **rules}
    return [label, instance, node_label, node_instance, distance, keypoints, count], options


@settings(fuzz, max_examples=200)
@given(seed=st.integers(0, 2**32 - 1), stage=st.sampled_from(["peaks", "select", "assign", "merge"]))
def test_stages_equal_their_twins_on_ties(seed: int, stage: str, assert_same: Any) -> None:
    inputs, options = stage_inputs(np.random.default_rng(seed), stage)
    want = getattr(reference, stage)(*inputs, **options)
    assert_same(getattr(ops, stage)(*map(torch.from_numpy, inputs), **options), want)
