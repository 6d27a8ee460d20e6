# SPDX-License-Identifier: Apache-2.0
"""What docs/definition.md promises of whole scenes: symmetries, exactness on perfect heads, and the nasty cases."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab import FuseParams, Heads, Panoptic, scenes, targets
from deeperlab.metrics import PanopticQuality
from deeperlab.stages import numpy_ops, pipeline

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")


def things_pq(scene: scenes.Scene, panoptic: Panoptic) -> float:
    quality = PanopticQuality({c: c in scene.things for c in range(scene.num_classes)})
    quality.update((panoptic.semantic, panoptic.instance), (scene.category, scene.instance))
    return quality.compute().things.pq


def separable(instance: np.ndarray) -> bool:
    """Boxes pairwise overlap by IoU <= 0.7 and centers differ by more than 2 px."""
    _, points = targets.keypoints(instance)
    for a, b in combinations(points, 2):
        inter = np.prod(np.maximum(0, np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])))
        union = np.prod(a[2] - a[0]) + np.prod(b[2] - b[0]) - inter
        if inter > 0.7 * union or np.linalg.norm(a[4] - b[4]) <= 2:
            return False
    return True


def grid_of(rows: int, columns: int, height: int, width: int, gap: int) -> np.ndarray:
    """An instance map of rows × columns rectangles of height × width px, `gap` px apart."""
    instance = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap), np.int32)
    for i, (row, column) in enumerate(np.ndindex(rows, columns)):
        y, x = gap + row * (height + gap), gap + column * (width + gap)
        instance[y : y + height, x : x + width] = i + 1
    return instance


@pytest.mark.parametrize("seed", range(6))
def test_perfect_heads_at_stride_1_give_the_scene_back(seed: int) -> None:
    scene = scenes.draw(seed, (241, 321), instances=4 + 4 * seed, least_area=100)
    assert separable(scene.instance)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=1)
    assert things_pq(scene, deeperlab.fuse(heads, scene.things)) >= 0.99


def test_perfect_heads_at_stride_4_with_labels_come_near() -> None:
    found = []
    for seed in range(12):
        scene = scenes.draw(seed, (321, 429), instances=20, least_area=100)
        heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes)
        labels = replace(heads, semantic=scene.category, num_classes=scene.num_classes)
        found.append(things_pq(scene, deeperlab.fuse(labels, scene.things)))
    assert np.mean(found) > 0.96  # 0.981 when this was written
    assert np.min(found) > 0.92


@pytest.mark.parametrize("stride", [1, 4])
def test_200_people_in_rows_give_five_candidates_each(stride: int) -> None:
    instance = grid_of(10, 20, 30, 10, 2)
    heads = targets.encode_heads((instance > 0).astype(np.int32), instance, 2, stride=stride)
    size = (instance.shape[0], instance.shape[1])
    batch = heads.map(lambda head: head[None])
    values = pipeline.run(numpy_ops, batch, [1], size, FuseParams(), stages=("argmax", "refine", "vote", "peaks"))
    assert values["candidates"].tolist() == [1000]
    assert not values["more_peaks"].any()
    result = deeperlab.fuse(heads, [1], size=size)
    assert result.count == 200


def test_more_instances_than_there_is_room_for_are_cut_and_said() -> None:
    instance = grid_of(34, 34, 11, 11, 1)
    heads = targets.encode_heads((instance > 0).astype(np.int32), instance, 2, stride=1)
    free = deeperlab.fuse(heads, [1], params=FuseParams(max_candidates=8192, max_instances=2048))
    assert (free.count, bool(free.truncated)) == (34 * 34, False)
    cut = deeperlab.fuse(heads, [1], params=FuseParams(max_candidates=8192))
    assert (cut.count, bool(cut.truncated)) == (1024, True)
    np.testing.assert_array_equal(cut.keypoints, free.keypoints[:1024])
    few = deeperlab.fuse(heads, [1], params=FuseParams(max_instances=2048))
    assert few.truncated  # 5780 peaks: the best 4096 still hold a seed of every instance


def test_two_objects_of_one_box_and_center_cannot_both_be_found() -> None:
    """The limit of the representation: thin rings, one just inside the other, are one. Apart, both are found."""
    for shift, both in ((0, False), (90, True)):
        y, x = np.mgrid[-60:61, -60:161]
        inner = np.abs(np.hypot(y, x - shift) - 40) <= 2
        outer = np.abs(np.hypot(y, x) - 45) <= 2
        instance = np.where(inner, 1, np.where(outer, 2, 0))
        category = (instance > 0).astype(np.int32)
        result = deeperlab.fuse(targets.encode_heads(category, instance, 2, stride=1), [1])
        quality = PanopticQuality({0: False, 1: True})
        quality.update((result.semantic, result.instance), (category, instance))
        assert (quality.compute().per_class[1].tp == 2) == both


def test_a_horizontal_flip_flips_the_result() -> None:
    """Of a 4n + 1 image whose votes fall on no ties: the corners swap sides, everything else is mirrored."""
    scene = scenes.draw(3, (161, 201), instances=8, least_area=200)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=1)
    rng = np.random.default_rng(0)
    noisy = {name: getattr(heads, name) + rng.normal(0, 0.3, getattr(heads, name).shape) for name in NAMES}
    heads = replace(heads, **{name: value.astype(np.float32) for name, value in noisy.items()})
    keypoints, edges = [1, 0, 3, 2, 4], [1, 0, 3, 2, 5, 4, 7, 6]

    def mirror(offsets: np.ndarray, order: list[int]) -> np.ndarray:
        pairs = offsets[..., ::-1].reshape(-1, 2, *offsets.shape[1:])[order] * np.array([-1, 1])[:, None, None]
        return pairs.reshape(offsets.shape).astype(np.float32)

    flipped = Heads(
        np.ascontiguousarray(heads.semantic[..., ::-1]),
        np.ascontiguousarray(heads.heatmap[keypoints, :, ::-1]),
        mirror(heads.short_range, keypoints),
        mirror(heads.middle_range, edges),
        mirror(heads.long_range, keypoints),
        stride=1,
    )
    plain, mirrored = deeperlab.fuse(heads, scene.things), deeperlab.fuse(flipped, scene.things)
    assert plain.count == mirrored.count > 0
    assert (plain.instance[:, ::-1] != mirrored.instance).mean() < 0.001
    assert (plain.semantic[:, ::-1] != mirrored.semantic).mean() < 0.001
    there = plain.keypoints[: plain.count][:, keypoints]
    there[..., 0] = 200 - there[..., 0]
    np.testing.assert_allclose(mirrored.keypoints[: plain.count], there, atol=1e-2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e38, -1e38])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (9, 13)])
def test_one_value_everywhere_is_legal(
    value: float, shape: tuple[int, int], as_tensors: Any, assert_same: Any, make_heads: Any
) -> None:
    heads = make_heads(h=shape[0], w=shape[1])
    heads = replace(heads, **{name: np.full_like(getattr(heads, name), value) for name in NAMES})
    result = deeperlab.fuse(as_tensors(heads), [0, 1])
    assert_same(result, deeperlab.fuse(heads, [0, 1]))
    assert (result.semantic == 0).all()  # all classes tie: the lowest wins
    assert int(result.area.sum() + result.class_area.sum()) == result.semantic.numel()


def test_one_bad_node_does_not_spread(make_heads: Any) -> None:
    """At stride 1 no pixel reads a neighbor, so one spoilt node changes no other pixel's label."""
    heads = make_heads(seed=1, h=20, w=20, stride=1)
    spoilt = heads.semantic.copy()
    spoilt[0, :, 10, 10] = np.nan
    before, after = (deeperlab.fuse(replace(heads, semantic=s), []) for s in (heads.semantic, spoilt))
    assert np.argwhere(before.semantic != after.semantic).tolist() in ([[0, 10, 10]], [])


def test_masked_classes_never_appear(make_heads: Any) -> None:
    heads = make_heads(seed=2)
    heads.semantic[:, 2] = -np.inf
    assert not (deeperlab.fuse(heads, []).semantic == 2).any()


def test_a_cut_off_leaves_far_pixels_to_their_class(make_heads: Any) -> None:
    heads = make_heads(seed=3, h=33, w=33)
    params = FuseParams(peak_threshold=0.01, instance_threshold=0.0)
    free = deeperlab.fuse(heads, [1, 3, 4], params=params)
    tight = deeperlab.fuse(heads, [1, 3, 4], params=replace(params, max_distance=1.0))
    assert (free.instance > 0).sum() > (tight.instance > 0).sum()
    orphans = [s for s in tight[0].segments if s.isthing and s.score is None]
    assert orphans
    assert all(s.keypoint_box is None and s.keypoints is None for s in orphans)
