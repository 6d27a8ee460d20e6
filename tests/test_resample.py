# SPDX-License-Identifier: Apache-2.0
"""Heads on a half-pixel grid, and others by other conventions: what `Heads.from_layout` computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import Heads, scenes, targets
from deeperlab.metrics import PanopticQuality
from deeperlab.stages import numpy_ops, reference
from deeperlab.stages import torch_ops as ops

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
OFFSETS = NAMES[2:]
WIDTHS = (1, 2, 17, 18, 33, 50)  # about the lanes of every vector


def odd_head(seed: int, w: int, dtype: Any = np.float32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    head = rng.normal(0, 40, (2, 4, 1 + seed % 5, w)).astype(dtype)
    where = rng.random(head.shape) < 0.1
    head[where] = rng.choice(np.array([np.nan, np.inf, -np.inf, -0.0, 6e4], dtype), int(where.sum()))
    return head


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_resample_equals_its_twin(stride: int, offsets: bool, assert_same: Any) -> None:
    for seed, w in enumerate(WIDTHS):
        for dtype in (np.float32, np.float16):
            head = odd_head(seed, w, dtype)
            want = reference.resample(head, stride=stride, offsets=offsets)
            for threads in (1, 2):
                made = numpy_ops.resample(head, stride=stride, offsets=offsets, num_threads=threads)
                assert_same(made, want, f"{w}, {threads} threads")
            assert_same(ops.resample(torch.from_numpy(head), stride=stride, offsets=offsets), want)
            last = np.ascontiguousarray(np.moveaxis(head, 1, -1))
            assert_same(numpy_ops.resample(np.moveaxis(last, -1, 1), stride=stride, offsets=offsets), want)
        half = torch.from_numpy(head).to(torch.bfloat16)
        assert_same(ops.resample(half, stride=stride, offsets=offsets), ops.resample(half.float(), stride=stride,
                                                                                    offsets=offsets))  # fmt: skip


@pytest.mark.parametrize("stride", [2, 3, 4, 16])
def test_offsets_to_one_point_still_lead_there(stride: int) -> None:
    """From every node, the first and the last too, whose given neighbors lie on one side only."""
    h, w, x, y = 9, 13, 31.25, -7.5
    centers = [stride * np.arange(n) + (stride - 1) / 2 for n in (h, w)]
    field = np.stack(np.broadcast_arrays(x - centers[1], (y - centers[0])[:, None]))[None].astype(np.float32)
    made = numpy_ops.resample(field, stride=stride, offsets=True)
    nodes = [stride * np.arange(n + 1) for n in (h, w)]
    np.testing.assert_allclose(made[0, 0], np.broadcast_to(x - nodes[1], (h + 1, w + 1)), atol=1e-4)
    np.testing.assert_allclose(made[0, 1], np.broadcast_to((y - nodes[0])[:, None], (h + 1, w + 1)), atol=1e-4)


def test_values_of_the_image_are_read_where_the_nodes_lie() -> None:
    ramp = (4 * np.arange(6) + 1.5).astype(np.float32)[None, None, None]  # the x of each given node
    made = numpy_ops.resample(ramp, stride=4, offsets=False)[0, 0, 0]
    assert made.tolist() == [1.5, 4.0, 8.0, 12.0, 16.0, 20.0, 21.5]


def test_a_bad_neighbor_of_no_weight_is_not_read() -> None:
    head = np.full((1, 1, 2, 2), np.nan, np.float32)
    head[..., 0, 0] = 7
    assert numpy_ops.resample(head, stride=4, offsets=False)[0, 0, 0, 0] == 7
    assert np.isnan(numpy_ops.resample(head, stride=4, offsets=False)[0, 0, 1, 1])


def test_gradients_are_those_of_the_transpose() -> None:
    head = torch.randn(2, 4, 5, 7, requires_grad=True)
    made = ops.resample(head, stride=4, offsets=True)
    given = torch.randn_like(made)
    made.backward(given)
    other = torch.randn(2, 4, 5, 7)
    linear = ops.resample(other, stride=4, offsets=False)
    torch.testing.assert_close((linear * given).sum(), (other * head.grad).sum())


def half_pixel_scene(seed: int, stride: int = 3) -> tuple[Any, tuple[int, int], dict[str, Any]]:
    """A scene, its size, and its heads at half-pixel centers: those of the scene without its first px."""
    size, ahead = (stride * 40, stride * 52), (stride - 1) // 2
    scene = scenes.draw(seed, size, instances=6)
    category, instance = (m[ahead:, ahead:] for m in (scene.category, scene.instance))
    heads = targets.encode_heads(category, instance, scene.num_classes, stride=stride)
    return scene, size, {name: getattr(heads, name) for name in NAMES}


def quality(scene: Any, panoptic: Any) -> float:
    metric = PanopticQuality({c: c in scene.things for c in range(scene.num_classes)})
    metric.update((panoptic.semantic, panoptic.instance), (scene.category, scene.instance))
    return float(metric.compute().to_dict()["All"]["pq"])


def test_half_pixel_heads_give_a_better_map_when_they_are_said_to_be(assert_same: Any) -> None:
    better = []
    for seed in range(3):
        scene, size, heads = half_pixel_scene(seed)
        assert heads["heatmap"].shape[1:] == (40, 52)
        told = Heads.from_layout(**heads, grid="half_pixel", stride=3)
        assert told.heatmap.shape[1:] == (41, 53)
        panoptic = deeperlab.fuse(told, scene.things, size=size)
        taken_as_ours = deeperlab.fuse(Heads(**heads, stride=3), scene.things, size=size)
        better.append(quality(scene, panoptic) - quality(scene, taken_as_ours))
        tensors = {name: torch.from_numpy(head) for name, head in heads.items()}
        of_tensors = Heads.from_layout(**tensors, grid="half_pixel", stride=3)
        for name in NAMES:
            assert_same(getattr(of_tensors, name), getattr(told, name), name)
        assert_same(deeperlab.fuse(of_tensors, scene.things, size=size), panoptic)
    assert min(better) > 0.03


def test_half_precision_is_widened_before_it_is_resampled(make_heads: Any, assert_same: Any) -> None:
    half = make_heads(n=2).map(lambda head: head.astype(np.float16))
    given = {name: getattr(half, name) for name in NAMES}
    wide = {name: head.astype(np.float32) for name, head in given.items()}
    for options in ({"grid": "half_pixel"}, {"units": "nodes"}, {"grid": "half_pixel", "units": "nodes"}):
        one, other = (Heads.from_layout(**heads, **options) for heads in (given, wide))
        for name in NAMES:
            assert getattr(one, name).dtype == np.float32
            assert_same(getattr(one, name), getattr(other, name), name)


def test_offsets_in_nodes_become_pixels_before_they_move(make_heads: Any, assert_same: Any) -> None:
    heads = make_heads()
    given = {name: getattr(heads, name) for name in NAMES}
    in_nodes = given | {name: given[name] / np.float32(4) for name in OFFSETS}
    for grid in ("aligned", "half_pixel"):
        one, other = (Heads.from_layout(**h, grid=grid, units=u) for h, u in ((given, "px"), (in_nodes, "nodes")))
        for name in NAMES:
            assert_same(getattr(one, name), getattr(other, name), name)


def test_probabilities_become_finite_logits(make_heads: Any) -> None:
    heads = make_heads()
    given = {name: getattr(heads, name) for name in NAMES}
    probability = reference.sigmoid(heads.heatmap)
    probability[0, :, :2], probability[0, :, 2:4] = 0, 1
    made = Heads.from_layout(**given | {"heatmap": probability}, heatmaps="probabilities").heatmap
    assert np.isfinite(made).all()
    np.testing.assert_allclose(reference.sigmoid(made), probability, atol=1e-6)
    tensors = {name: torch.from_numpy(head) for name, head in (given | {"heatmap": probability}).items()}
    of_tensors = Heads.from_layout(**tensors, heatmaps="probabilities").heatmap
    np.testing.assert_allclose(of_tensors.numpy(), made, rtol=1e-6)


def test_labels_and_stride_1_need_no_resampling(make_heads: Any) -> None:
    labels = make_heads(labels=(68, 76))
    given = {name: getattr(labels, name) for name in NAMES}
    made = Heads.from_layout(**given, grid="half_pixel", num_classes=6)
    assert made.semantic is labels.semantic
    assert made.heatmap.shape[2:] == (18, 20)
    heads = make_heads(stride=1)
    same = Heads.from_layout(**{name: getattr(heads, name) for name in NAMES}, grid="half_pixel", stride=1)
    assert all(getattr(same, name) is getattr(heads, name) for name in NAMES)


def test_a_batch_and_its_images_are_resampled_alike(make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(n=2)
    both = Heads.from_layout(**{name: getattr(heads, name) for name in NAMES}, grid="half_pixel")
    second = Heads.from_layout(**{name: getattr(heads, name)[1] for name in NAMES}, grid="half_pixel")
    for name in NAMES:
        assert_same(getattr(second, name), getattr(both, name)[1], name)


@pytest.mark.parametrize(("name", "value"), [("grid", "half"), ("units", "cells"), ("heatmaps", "sigmoid"),
                                             ("components", "planar")])  # fmt: skip
def test_unknown_conventions_are_refused(name: str, value: str, make_heads: Any) -> None:
    heads = make_heads()
    with pytest.raises(ValueError, match=rf"{name}: expected one of .*, got '{value}'"):
        Heads.from_layout(*(getattr(heads, n) for n in NAMES), **{name: value})


@pytest.mark.parametrize("face", ["tensors", "arrays"])
def test_what_cannot_be_resampled_is_named(face: str) -> None:
    def call(head: np.ndarray, **options: Any) -> Any:
        options = {"stride": 4, "offsets": False, **options}
        if face == "tensors":
            return ops.resample(torch.from_numpy(head), **options)
        return numpy_ops.resample(head, **options)

    head = np.zeros((1, 3, 2, 2), np.float32)
    for bad, options, message in (
        (head[0], {}, "head: expected shape"),
        (head.astype(np.float64), {}, "head: expected float32"),
        (head[:, :, :0], {}, "head: expected at least 1 x 1 nodes"),
        (head, {"stride": 0}, "stride: expected 1 to"),
        (head, {"offsets": True}, "head: expected an x and a y channel for each offset, got 3"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            call(bad, **options)
    assert call(head[:0]).shape == (0, 3, 3, 3)
    assert call(head[:, :0]).shape == (1, 0, 3, 3)


@pytest.mark.slow
def test_the_operator_is_sound_for_torch() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        head = torch.randn(2, 4, 5, 7).to(dtype).requires_grad_(dtype == torch.float32)
        torch.library.opcheck(ops.resample, (head,), {"stride": 4, "offsets": True})


@pytest.mark.slow
def test_heads_of_another_layout_are_fused_in_one_graph(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    def parse(*heads: torch.Tensor) -> deeperlab.Panoptic:
        layout = {"components": "yx", "units": "nodes", "grid": "half_pixel"}
        return deeperlab.fuse(Heads.from_layout(*heads, **layout), [1, 3], size=(60, 70))

    heads = as_tensors(make_heads(seed=2))
    tensors = tuple(getattr(heads, name) for name in NAMES)
    compiled = torch.compile(parse, fullgraph=True, backend="aot_eager")
    assert_same(compiled(*tensors), parse(*tensors))


def test_heads_that_overflowed_name_themselves(make_heads: Any, as_tensors: Any) -> None:
    for heads in (make_heads(), as_tensors(make_heads(), torch.bfloat16), make_heads(labels=(65, 73))):
        assert heads.not_finite() == ()
        heads.short_range[0, 3, 2, 1] = float("inf")
        heads.long_range[0, 3, 2, 1] = float("nan")
        assert heads.not_finite() == ("short_range", "long_range")
