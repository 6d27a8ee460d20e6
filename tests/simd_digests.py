# SPDX-License-Identifier: Apache-2.0
"""Digests of what the engine makes of seeded cases, as JSON. A process has one form of the stages, the one that
DEEPERLAB_SIMD names, so tests/test_simd.py runs this file once for each."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from conftest import PERSON, smooth
from numpy.typing import NDArray

import deeperlab
from deeperlab import RECTANGLE, STAR, FuseParams, Heads, _numpy, scenes, targets
from deeperlab.scenes import noise
from deeperlab.stages import numpy_ops, pipeline, reference

Array = NDArray[Any]
Digests = dict[str, str]

RANDOM_CASES, SCENE_CASES, STAGE_CASES = 330, 24, 60
STRIDES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 32)  # both sides of what the fast cells serve, powers of two and others
CLASSES = (6, 66, 1, 2, 300, 40)
WIDTHS = (17, 18, 32, 33, 34, 49, 60, 64, 65, 66)  # about the lanes of every vector, once, twice and four times
LOGITS = ("smooth", "levels", "ulps", "masked", "zero", "odd", "huge", "subnormal", "labels")
OFFSETS = ("smooth", "steps", "smooth", "odd", "smooth")
LAYOUTS = ("dense", "channels last", "dense", "transposed", "dense", "reversed", "dense", "inside")
GRAPHS = (STAR, STAR, RECTANGLE, PERSON)
# 3.4028235e38 is the largest float32; 1e-45 and 6e-8 the least of float32 and float16.
ODD_LOGITS = np.float32([np.nan, np.inf, -np.inf, 1e38, -1e38, 3.4028235e38, 1e-45, 6e-8, -0.0])
ODD_OFFSETS = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30, 2e9, 1e-45, -0.0, 0.0])

EAGER = FuseParams(peak_threshold=0.0, instance_threshold=0.0, max_candidates=200, max_instances=64)
CROWD = {"nms_radius": 0.5, "nms_radius_min": 0.0, "box_iou": 1.0}
PARAMS = (
    EAGER,
    replace(FuseParams.paper(), peak_threshold=0.0, instance_threshold=0.0, max_candidates=100, max_instances=40),
    replace(EAGER, max_distance=12.0, vote_cell=8),
    replace(EAGER, vote_cell=1, max_candidates=500, max_instances=300, fit_area=0.0, radius=2.0, **CROWD),
    replace(EAGER, short_weight=0.75, long_weight=2.5, radius=9.0, max_candidates=9, max_instances=5),
    replace(EAGER, radius=400.0, kappa=0.01, long_voters="all", max_candidates=60, box_iou=0.3),
    replace(EAGER, long_steps=1, short_weight=0.0, majority="all", vote_cell=8, nms_relative=1.0),
    replace(EAGER, long_short_steps=0, long_weight=0.0, max_candidates=2, vote_cell=1, radius=1.0),
    FuseParams(max_candidates=300, max_instances=80),
)


@dataclass(frozen=True)
class Case:
    heads: Heads  # batched arrays
    things: tuple[int, ...]
    size: tuple[int, int]
    params: FuseParams


def digest(arrays: Sequence[Array]) -> str:
    """Of every bit but those of NaN, whose sign and payload IEEE 754 leaves open."""
    state = hashlib.blake2b(digest_size=8)
    for array in arrays:
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.float32(np.nan), array)
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(np.ascontiguousarray(array))
    return state.hexdigest()


def strewn(rng: np.random.Generator, head: Array, odd: Array) -> Array:
    where = rng.random(head.shape) < rng.choice([0.002, 0.05, 0.5])
    head[where] = rng.choice(odd, int(where.sum()))
    return head


def logits(rng: np.random.Generator, kind: str, shape: tuple[int, ...], half: bool) -> Array:
    head = smooth(rng, 4, *shape)
    if kind == "levels":
        return np.round(head / 4)
    if kind == "ulps":  # so near each other that the rounding of an interpolation decides
        base = np.where(head > 0, np.float32(3), np.float32(2.5))
        return (base.view(np.int32) + rng.integers(-3, 4, shape, np.int32) * (8192 if half else 1)).view(np.float32)
    if kind == "masked":
        head[:, rng.random(shape[1]) < 0.5] = -np.inf
        head[..., rng.random(shape[-1]) < 0.3] = -np.inf
        head[rng.random(shape) < 0.1] = -np.inf
    if kind == "zero":
        head[...] = 0
    if kind == "odd":
        return strewn(rng, head, ODD_LOGITS)
    if kind == "huge":
        return (head / np.abs(head).max(initial=1) * np.float32(6e4 if half else 3.4e38)).astype(np.float32)
    if kind == "subnormal":
        return head * np.float32(1e-6 if half else 1e-40)
    return head


def offsets(rng: np.random.Generator, kind: str, shape: tuple[int, ...], scale: float, stride: int) -> Array:
    head = smooth(rng, scale, *shape)
    if kind == "smooth":
        return head
    head = np.round(head / stride) * np.float32(stride)  # targets on nodes: neighbors of weight zero, equal distances
    return strewn(rng, head, ODD_OFFSETS) if kind == "odd" else head


def arranged(array: Array, layout: str) -> Array:
    """The same values in memory of another order. inside: rows of a larger array that is full of another value."""
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    if layout == "transposed":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1, ::-1])[..., ::-1, ::-1]
    if layout == "inside":
        around = np.full((*array.shape[:-2], array.shape[-2] + 3, array.shape[-1] + 5), 77, array.dtype)
        around[..., 1:-2, 3:-2] = array
        return around[..., 1:-2, 3:-2]
    return array


def side(rng: np.random.Generator, nodes: int, stride: int) -> int:
    """Pixels along an axis: to the last node, as far beyond as is allowed, or less, through cells."""
    last = stride * (nodes - 1)
    usual = (last + 1, last + stride, last, last - stride // 2, int(rng.integers(1, last + stride + 1)))
    return max(1, usual[int(rng.integers(5))])


def random_case(seed: int) -> Case:
    """Every kind of everything in turn, at periods that have no common factor for long, the rest by chance."""
    rng = np.random.default_rng(seed)
    stride, kind = STRIDES[seed % 10], LOGITS[int(rng.integers(9))]
    classes, params = CLASSES[int(rng.integers(6))], PARAMS[seed % 9]
    w = int(rng.integers(2, 17)) if seed % 7 == 6 else int(rng.choice([*WIDTHS, *rng.integers(18, 61, 5)]))
    if stride > 16:
        w, classes = min(w, 34), min(classes, 66)
    affordable = 1_000_000 // (w * stride * stride * classes)  # pixels times classes: what the plain argmax costs
    h = int(rng.integers(1, max(3, min(24, affordable)) + 1))
    if seed % 10 < 3 and seed % 7 == 5:
        h, classes = int(rng.choice([33, 65, 97])), 6  # several bands
    n, size = 1 + (seed % 5 == 4), (side(rng, h, stride), side(rng, w, stride))
    graph = GRAPHS[int(rng.integers(4))]
    p, e = len(graph.keypoints), len(graph.edges)
    dtype, layout = ("float16" if seed % 4 == 3 else "float32"), LAYOUTS[seed % 8]
    reach = stride * float(rng.choice([1.0, 3.0, 6.0]))
    heads = {
        "heatmap": logits(
            rng, str(rng.choice(["smooth", "smooth", "levels", "odd"])), (n, p, h, w), dtype != "float32"
        ),
        "short_range": offsets(rng, OFFSETS[int(rng.integers(5))], (n, 2 * p, h, w), reach, stride),
        "middle_range": offsets(rng, OFFSETS[int(rng.integers(5))], (n, 2 * e, h, w), reach, stride),
        "long_range": offsets(rng, OFFSETS[int(rng.integers(5))], (n, 2 * p, h, w), 2 * reach, stride),
    }
    if kind == "labels":
        coarse = rng.integers(-1, classes + 1, (n, size[0] // 5 + 1, size[1] // 5 + 1))
        heads["semantic"] = coarse.repeat(5, 1).repeat(5, 2)[:, : size[0], : size[1]]
        heads["semantic"] = heads["semantic"].astype(rng.choice(["int16", "int32", "int64"]))
    else:
        heads["semantic"] = logits(rng, kind, (n, classes, h, w), dtype != "float32")
    with np.errstate(over="ignore"):
        heads = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in heads.items()}
    heads = {k: arranged(a, layout) for k, a in heads.items()}
    share = float(rng.choice([0.5, 0.8, 1.0, 0.2]))
    things = tuple(c for c in range(classes) if rng.random() < share)
    return Case(Heads(**heads, stride=stride, graph=graph, num_classes=classes), things, size, params)


def scene_case(seed: int) -> Case:
    """A drawn scene, with the errors of a network: what pruning and bounds are made for."""
    stride, graph = (4, 4, 4, 2, 8, 4, 5, 16, 4, 1, 4, 3)[seed % 12], (STAR, RECTANGLE)[seed % 5 == 4]
    size = (161 + 29 * (seed % 3), (161, 257, 321)[seed % 3])
    many = seed % 3 == 1
    drawn = scenes.draw(seed, size, instances=250 if many else 12, **({"heights": (9.0, 16.0)} if many else {}))
    heads = targets.encode_heads(drawn.category, drawn.instance, drawn.num_classes, stride=stride, graph=graph)
    heads = noise.perturb(heads, seed, instance=drawn.instance, level=float(seed % 4))
    batch = {f.name: getattr(heads, f.name) for f in fields(heads)}
    batch |= {k: v[None] for k, v in batch.items() if isinstance(v, np.ndarray)}
    cut = (size[0] - 2 * (seed % 2), size[1] - 3 * (seed % 2))
    scores = {"peak_threshold": 0.005, "instance_threshold": 0.0}
    params = (
        FuseParams(),
        FuseParams(**scores, max_instances=100),
        replace(FuseParams.paper(), **scores),
        FuseParams(**scores, fit_area=0.0, radius=1.0, max_candidates=400),
        FuseParams(max_distance=15.0, **scores),
    )[seed % 5]
    return Case(Heads(**batch), drawn.things, cut, params)


def staged(case: Case, threads: int) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """The stages one after the other, each by itself; "fuse" is what the whole of them gives."""
    values = pipeline.run(numpy_ops, case.heads, case.things, case.size, case.params, num_threads=threads)
    for name, (_, makes) in pipeline.STAGES.items():
        yield name, tuple(values[value] for value in makes)
    whole = ("semantic", "instance", "keypoints", "score", "count", "category", "area", "class_area")
    yield "fuse", (*(values[name] for name in whole), values["more_peaks"] | values["more_instances"])


def fused(case: Case, threads: int) -> tuple[Array, ...]:
    got = deeperlab.fuse(case.heads, case.things, size=case.size, params=case.params, num_threads=threads)
    maps = (got.semantic, got.instance, got.keypoints, got.score, got.count, got.category, got.area, got.class_area)
    return (*maps, got.truncated)


def facts(case: Case, made: dict[str, tuple[Array, ...]]) -> dict[str, int]:
    """Whether the rare paths were walked."""
    node_label, label = made["argmax"]
    semantic, _, area, _ = made["merge"]
    node_instance, distance, _ = made["assign"]
    s, (h, w) = case.heads.stride, node_label.shape[1:]
    nodes, pixels = np.isin(node_label, case.things), np.isin(label, case.things)
    (top, left), (down, right) = ((np.arange(n) // s for n in case.size), (-(-np.arange(n) // s) for n in case.size))
    down, right = np.minimum(down, h - 1), np.minimum(right, w - 1)
    corners = [nodes[:, y][:, :, x] for y in (top, down) for x in (left, right)]
    points, q = made["select"][0], case.params
    boxes = np.prod(points.max(axis=2) - points.min(axis=2), axis=-1)  # [N, M] px²
    fit = points.shape[2] * np.maximum(q.radius**2, q.fit_area * boxes)
    late = 0
    for i in range(len(semantic)):
        near = (node_instance[i] > 0) & nodes[i] & (distance[i] <= fit[i][node_instance[i] - 1])
        decided = np.isin(np.arange(1, area.shape[1] + 1), node_instance[i][near])
        late += int(((area[i] > 0) & ~decided).sum()) if q.majority == "fit" else 0
    return {
        "instances": int(made["select"][2].max()),
        "more peaks": int(made["peaks"][3].any()),
        "more instances": int(made["select"][3].any()),
        "lone thing pixels": int((pixels & ~np.any(corners, axis=0)).sum()) if case.heads.semantic.ndim == 4 else 0,
        "late classes": late if case.heads.semantic.ndim == 4 else 0,
        "orphans": int((np.isin(semantic, case.things) & (made["assign"][2] == 0)).sum()),
    }


def through_all(case: Case, seed: int) -> tuple[Digests, dict[str, int]]:
    made = dict(staged(case, 3 if seed % 2 else 1))
    digests = {stage: digest(arrays) for stage, arrays in made.items()}
    for threads in (1, 3):
        digests[f"fuse, threads {threads}"] = digest(fused(case, threads))
    if case.heads.heatmap.dtype == np.float16:
        heads = {f.name: getattr(case.heads, f.name) for f in fields(case.heads)}
        wide = {k: v.astype(np.float32) for k, v in heads.items() if getattr(v, "dtype", None) == np.float16}
        digests["fuse, widened"] = digest(fused(replace(case, heads=replace(case.heads, **wide)), 1))
    return digests, facts(case, made)


def levels(rng: np.random.Generator, steps: int, *shape: int) -> Array:
    """Multiples of a half: sums of their squares are exact, and often equal."""
    return (rng.integers(0, steps, shape) / 2).astype(np.float32)


def peaks_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    """More peaks than a list has room for, most of them equal."""
    h, w, cell = int(rng.integers(2, 60)), int(rng.integers(2, 90)), int(rng.integers(1, 5))
    top = int(rng.choice([3, 40, 2**31, 9 * 2**39 // (h * w)]))  # the last: as much as a keypoint may have
    votes = rng.integers(0, top, (2, 3, h, w)) * (rng.random((2, 3, h, w)) < 0.6)
    rules = {"vote_cell": cell, "radius": 2.0, "peak_threshold": float(rng.choice([0.0, 1e-4])), "stride": 1}
    wanted = int(rng.choice([1, 2, 7, 30, 2000]))
    return _numpy.peaks(votes, nodes=(h * cell, w * cell), max_candidates=wanted, **rules, num_threads=2)


def select_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    """Hundreds of hypotheses, of which few or many conflict, exactly at the limits too."""
    k, p, width = int(rng.integers(1, 500)), int(rng.integers(1, 6)), int(rng.choice([20, 60, 600]))
    candidate = np.stack([rng.permutation(np.argwhere(np.ones((p, 25, 25))))[:k] for _ in range(2)]).astype(np.int32)
    count = rng.integers(k // 2, candidate.shape[1] + 1, 2).astype(np.int32)
    points = levels(rng, width, 2, candidate.shape[1], p, 2)
    scores = levels(rng, 9, *points.shape[:3]) / 4
    near = {"nms_radius": float(rng.choice([2.5, 10.0])), "nms_radius_min": float(rng.choice([0.0, 0.5]))}
    rules = {"instance_threshold": 0.25, "box_iou": float(rng.choice([0.5, 1.0, 0.0])), "nms_relative": 0.5}
    room = int(rng.choice([5, 400]))
    return _numpy.select(candidate, count, points, scores, scores.mean(axis=2), **near, **rules, max_instances=room)


def assign_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    """Equal instances, equal distances, distances that are NaN or overflow, bounds that touch."""
    p, m, h, w = int(rng.choice([1, 2, 5, 17])), int(rng.integers(1, 400)), 6, int(rng.integers(2, 90))
    width = int(rng.choice([6, 40, 400]))
    target = levels(rng, width, 2, p, h, w, 2) if rng.random() < 0.5 else smooth(rng, width, 2, p, h, w, 2)
    target = strewn(rng, target, ODD_OFFSETS) if rng.random() < 0.5 else target
    points = levels(rng, width, 2, m, p, 2)
    points = strewn(rng, points, ODD_OFFSETS) if rng.random() < 0.3 else points
    label = rng.integers(-1, 4, (2, 2 * h, 2 * w)).astype(np.int32)
    count = rng.integers(0, m + 1, 2).astype(np.int32)
    rules = {"things": [1, 3], "stride": 2, "max_distance": [None, 3.0][int(rng.integers(2))]}
    return _numpy.assign(target, np.ascontiguousarray(label[:, ::2, ::2]), label, points, count, **rules)


def vote_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    """Long targets in steps of 2^-9 cells, so that shares lie half-way between integers, and around the borders."""
    h, w, cell = 20, int(rng.integers(17, 70)), int(rng.choice([1, 3, 4, 8]))
    size = (2 * h - 3, 2 * w - 1)
    target = (rng.integers(-1024, 512 * 150, (2, 3, h, w, 2)) / 512 * cell).astype(np.float32)
    edge = np.float32([size[1] - 1, size[0] - 1])
    borders = [edge, np.nextafter(edge, np.float32(np.inf)), -edge * 0, np.float32([-1e-45] * 2), edge * np.nan]
    where = rng.random(target.shape[:-1]) < 0.3
    target[where] = np.stack(borders)[rng.integers(0, 5, int(where.sum()))]
    heatmap, short = strewn(rng, smooth(rng, 30, 2, 3, h, w), ODD_LOGITS), smooth(rng, 9, 2, 6, h, w)
    weights = {
        "short_weight": float(rng.choice([0.0, 1.0, 8.0])),
        "long_weight": float(rng.choice([1.0, 8.0, 1 / 256])),
    }
    rules = {
        "things": [1],
        "stride": 2,
        "size": size,
        "vote_cell": cell,
        "long_voters": "all" if rng.random() < 0.3 else "thing",
    }
    label = rng.integers(-1, 3, (2, h, w)).astype(np.int32)
    return (_numpy.vote(heatmap, short, target, label, **rules, **weights, num_threads=2),)


def sigmoid_votes(logit: Array) -> Array:
    """The engine's sigmoid of logits [N, 128, 128], to 2^-16: every node votes at itself, in a vote cell of its own."""
    n = len(logit)
    short, nowhere = np.zeros((n, 2, 128, 128), logit.dtype), np.full((n, 1, 128, 128, 2), np.nan, np.float32)
    rules = {"stride": 1, "size": (128, 128), "vote_cell": 1, "long_voters": "thing"}
    weights = {"short_weight": 1 / 256, "long_weight": 0.0}
    label = np.zeros((n, 128, 128), np.int32)
    return _numpy.vote(logit[:, None], short, nowhere, label, things=[], **rules, **weights)[:, 0, :-1, :-1]


def sigmoid_alone() -> Digests:
    """Where the sigmoid, in 2^-16, goes from one integer to the next, to the last bit; and floats of every kind."""
    middle = (np.arange(65536) + 0.5) / 65536
    border = np.log(middle / (1 - middle)).astype(np.float32)
    near = (border.view(np.int32) + np.arange(-2, 3, dtype=np.int32)[:, None]).view(np.float32)
    every = np.linspace(0, 2**32 - 1, 8 * 128 * 128).astype(np.uint32).view(np.float32)
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    blocks = {"near": near, "every": every, "halves": halves, "widened": halves.astype(np.float32)}
    found = {}
    for name, values in blocks.items():
        logit = values.reshape(-1, 128, 128)
        want = np.rint(reference.sigmoid(logit.astype(np.float32)) * np.float32(65536)).astype(np.int64)
        found |= {name: digest([sigmoid_votes(logit)]), f"{name}, by NumPy": digest([want])}
    return found


def half_order() -> Digests:
    """Every float16 but NaN beside the next greater one, as logits of two classes: 1, or 0 for −0 and +0."""
    bits = np.arange(0x7C00, dtype=np.uint16)
    below = np.concatenate((bits[::-1] + np.uint16(0x8001), bits))  # −inf … −least, 0 … the largest
    above = np.concatenate((bits[::-1] + np.uint16(0x8000), bits + np.uint16(1)))
    both = np.stack((below, above)).view(np.float16).reshape(1, 2, 2 * 31, 1024)
    label, _ = _numpy.argmax(both, num_classes=2, stride=1, nodes=both.shape[2:], size=both.shape[2:])
    want = (both[:, 1] > both[:, 0]).astype(np.int32)
    return {"half order": digest([label]), "half order, by NumPy": digest([want])}


def resample_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    """Rows as wide as no vector, as one, and as several; of every type and layout."""
    dtype = np.float16 if rng.random() < 0.3 else np.float32
    head = strewn(rng, smooth(rng, 30, 2, 4, int(rng.integers(1, 9)), int(rng.integers(1, 70))), ODD_OFFSETS)
    with np.errstate(over="ignore"):
        head = arranged(head.astype(dtype), str(rng.choice(LAYOUTS)))
    stride = int(rng.choice(STRIDES))
    return tuple(_numpy.resample(head, stride=stride, offsets=offsets, num_threads=2) for offsets in (False, True))


def semantic_loss_case(rng: np.random.Generator) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Arrays and options of the operator: logits of every type and layout, labels of every kind."""
    n, classes, stride = int(rng.integers(1, 4)), int(rng.integers(1, 7)), int(rng.choice([1, 2, 3, 4, 5, 16, 17]))
    h, w = int(rng.integers(1, 21 if stride < 9 else 3)), int(rng.integers(1, 40 if stride < 9 else 3))
    size = (n, int(rng.integers(1, h * stride + 1)), int(rng.integers(1, w * stride + 1)))
    logits = rng.normal(0, 3, (n, classes, h, w))
    if rng.random() < 0.3:
        logits = np.where(rng.random(logits.shape) < 0.02, rng.choice([np.inf, -np.inf, np.nan, 1e4, -1e4]), logits)
    logits = np.round(logits) if rng.random() < 0.3 else logits  # ties
    stuff = rng.permutation(classes)[: int(rng.integers(0, classes + 1))].tolist()
    labels = rng.integers(-2 if stuff else -1, classes, size)
    labels[rng.random(n) < 0.1] = -1
    arrays = (
        arranged(logits.astype(np.float16 if rng.random() < 0.3 else np.float32), str(rng.choice(LAYOUTS))),
        labels.astype(rng.choice([np.int16, np.int32, np.int64])),
        rng.uniform(0, 3, size).astype(np.float32),
    )
    return arrays, {"stride": stride, "top_k": float(rng.choice([1.0, 0.15, rng.uniform(0.001, 1)])), "stuff": stuff}


def semantic_loss_alone(rng: np.random.Generator, engine: Any = _numpy, num_threads: int = 2) -> tuple[Array, ...]:
    """The losses, all that is known of the pixels, and the gradient."""
    arrays, options = semantic_loss_case(rng)
    found = engine.semantic_loss(*arrays, **options, num_threads=num_threads)
    del options["top_k"]
    given = rng.normal(0, 1, found[0].shape).astype(np.float32)
    return *found, engine.semantic_loss_backward(*arrays, *found[1:], given, **options, num_threads=num_threads)


PLACES = ("top_left", "top_right", "bottom_right", "bottom_left", "center", "top", "right", "bottom", "left")


def encode_call(rng: np.random.Generator, images: int = 2) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Arguments of the operator: overlapping boxes with holes, some with points of their own; any type and layout."""
    shape = images, *(int(rng.choice((9, 40, 75))) for _ in range(2))
    dtype = rng.choice((np.uint8, np.int16, np.int32, np.int64))
    instance = np.zeros(shape, dtype)
    for image in instance:
        for number in rng.choice(100, int(rng.integers(0, 20))):
            y, x = (int(rng.integers(0, side)) for side in image.shape)
            image[y : y + int(rng.integers(1, 20)), x : x + int(rng.integers(1, 30))] = number
    instance[rng.random(shape) < 0.05] = 0
    places = rng.permutation(PLACES)[: int(rng.integers(2, 6))].tolist()
    keypoints, rows = len(places), int(rng.integers(2, 5))
    ids = rng.choice((0, *np.unique(instance[instance > 0])[:20], 200), (images, rows)).astype(np.int64)
    points = rng.integers(-40, 110, (images, rows, keypoints, 2)).astype(np.int32)
    options = {
        "edges": [end for k in range(keypoints) for end in (k, (k + 1) % keypoints)],
        "keypoints": ",".join(places),
        "disk_radius": float(rng.choice((0.0, 3.5, 12.0, 1e5))),
        "stride": int(rng.choice((1, 2, 3, 4, 8))),
        "max_instances": 64,
    }
    return (
        arranged(instance, str(rng.choice(LAYOUTS))),
        (rng.random(shape) < 0.2).astype(np.uint8),
        ids,
        points,
    ), options


def encode_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    arrays, options = encode_call(rng)
    return tuple(_numpy.encode(*arrays, **options, num_threads=2))


def top_down_call(rng: np.random.Generator, *, large: bool = False) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Arguments of the operator: boxes in, around and outside of the image, of no size and inverted; masks of few and
    many samples, of noise, of zeros and ones, with NaN, or of the whole image; logits and labels; equal scores. Maps
    that are `large` do not stay in a cache: they are written around it."""
    n, k, classes = int(rng.integers(1, 3)), int(rng.integers(0, 9)), 6
    height, width = (int(side) for side in (rng.integers(1025, 1100, 2) if large else rng.integers(1, 200, 2)))
    boxes = rng.uniform(-40, 220, (n, k, 4)).astype(np.float32) * np.float32(5 if large else 1)
    if rng.random() < 0.7:
        boxes[..., 2:] = boxes[..., :2] + np.abs(rng.normal(60, 60, (n, k, 2)))
    boxes = np.round(boxes / 8) * np.float32(8) if rng.random() < 0.4 else boxes
    side, kind = int(rng.choice((1, 2, 7, 14, 28, 61, 62, 63, 64, 130))), rng.choice(("noise", "bits", "nan", "whole"))
    masks = rng.random((n, k, side, side)).astype(rng.choice((np.float32, np.float16)))
    if kind == "bits":
        masks = np.round(masks)
    if kind == "nan":
        masks[rng.random(masks.shape) < 0.1] = rng.choice((np.nan, np.inf, -np.inf))
    if kind == "whole":
        masks = (rng.random((n, k, height, width)) < 0.3).astype(np.uint8) * np.uint8(rng.integers(1, 256))
    stride = int(rng.choice((1, 4, 5)))
    if rng.random() < 0.5:
        coarse = rng.integers(-2, classes + 2, (n, height // 9 + 1, width // 9 + 1))
        labels = coarse.repeat(9, 1).repeat(9, 2)[:, :height, :width]
        semantic = labels.astype(rng.choice((np.int16, np.int32, np.int64)))
    else:
        semantic = smooth(rng, 4, n, classes, (height - 1) // stride + 1, (width - 1) // stride + 1)
    arrays = (
        arranged(semantic, str(rng.choice(LAYOUTS))),
        arranged(masks, str(rng.choice(LAYOUTS))),
        boxes,
        rng.choice((0.3, 0.5, 0.7, 0.7, 0.9), (n, k)).astype(np.float32),
        rng.integers(0, 3, (n, k)).astype(np.int32),
    )
    return arrays, {
        "things": [0, 1, 2],
        "stuff": [[3, 4, 5], [1, 2, 3, 4, 5]][int(rng.integers(2))],
        "num_classes": classes,
        "stride": stride,
        "size": (height, width),
        "paste": str(rng.choice(("detectron2", "torchvision"))),
        "mask_threshold": float(rng.choice((0.5, 0.2, 1.0))),
        "score_threshold": 0.5,
        "overlap_threshold": float(rng.choice((0.5, 0.0, 1.0, 0.3))),
        "stuff_area": int(rng.choice((0, 100, 1000))),
        "max_instances": int(rng.choice((1, 3, 8))),
    }


def top_down_alone(rng: np.random.Generator) -> tuple[Array, ...]:
    arrays, options = top_down_call(rng)
    return tuple(_numpy.top_down(*arrays, **options, num_threads=2))


def top_down_around_the_cache() -> Digests:
    return {
        str(seed): digest(_numpy.top_down(*arrays, **options, num_threads=2))
        for seed in range(4)
        for arrays, options in [top_down_call(np.random.default_rng(seed), large=True)]
    }


ALONE = {
    "top_down": top_down_alone,
    "semantic_loss": semantic_loss_alone,
    "encode": encode_alone,
    "resample": resample_alone,
    "peaks": peaks_alone,
    "select": select_alone,
    "assign": assign_alone,
    "vote": vote_alone,
}


def stages_alone(seed: int) -> Digests:
    return {name: digest(stage(np.random.default_rng(seed))) for name, stage in ALONE.items()}


def main() -> None:
    digests, found = {}, {}
    for name, build, count in (("random", random_case, RANDOM_CASES), ("scene", scene_case, SCENE_CASES)):
        for seed in range(count):
            case = build(seed)
            digests[f"{name} {seed}"], found[f"{name} {seed}"] = through_all(case, seed)
    digests |= {f"alone {seed}": stages_alone(seed) for seed in range(STAGE_CASES)}
    digests |= {"sigmoid": sigmoid_alone(), "halves": half_order(), "around the cache": top_down_around_the_cache()}
    assert "torch" not in sys.modules  # it alone would take longer than the cases
    json.dump({"digests": digests, "facts": found}, sys.stdout)


if __name__ == "__main__":
    main()
