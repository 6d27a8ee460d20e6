# SPDX-License-Identifier: Apache-2.0
"""The reference itself, stage by stage, on cases small enough to work out by hand."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeperlab.graph import RECTANGLE, STAR
from deeperlab.heads import Heads
from deeperlab.panoptic import Panoptic
from deeperlab.params import FuseParams
from deeperlab.stages import pipeline, reference

Array = NDArray[Any]
NAN, INF = np.nan, np.inf
seeds = st.integers(0, 2**32 - 1)


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def i32(values: Any) -> Array:
    return np.array(values, np.int32)


# --- sample ---------------------------------------------------------------------------------------------------------


def test_a_sample_is_bilinear() -> None:
    field = f32([[0, 4], [8, 12]])
    assert reference.sample(field, f32([0.25]), f32([0.5])) == [5]
    assert reference.sample(field, f32([1]), f32([1])) == [12]


def test_a_neighbor_of_weight_zero_is_not_read() -> None:
    field = f32([[1, NAN], [3, INF], [-INF, 7]])
    assert reference.sample(field, f32([0, 0, 1]), f32([0, 0.5, 2])).tolist() == [1, 2, 7]
    assert np.isnan(reference.sample(field, f32([0.5]), f32([0])))


def test_a_sample_clamps_to_the_grid_and_nan_to_zero() -> None:
    field = f32([[0, 1], [2, 3]])
    x, y = f32([-1, 9, NAN, -INF, INF, 1e38]), f32([9, -1, 1, INF, NAN, 1e38])
    assert reference.sample(field, x, y).tolist() == [2, 1, 2, 2, 1, 3]


# --- argmax ---------------------------------------------------------------------------------------------------------


def labels_of(logits: Any, stride: int = 1, size: tuple[int, int] | None = None) -> tuple[Array, Array]:
    semantic = f32(logits)[None]
    _, classes, h, w = semantic.shape
    size = size or ((h - 1) * stride + 1, (w - 1) * stride + 1)
    node, label = reference.argmax(semantic, num_classes=classes, stride=stride, nodes=(h, w), size=size)
    assert node.dtype == label.dtype == np.int32
    return node[0], label[0]


def test_equal_logits_take_the_lower_class_and_nan_counts_as_minus_infinity() -> None:
    node, label = labels_of([[[2, NAN, -INF, NAN, 1]], [[2, -9, NAN, NAN, INF]], [[1, -9, -9, NAN, INF]]])
    assert node.tolist() == label.tolist() == [[0, 1, 2, 0, 1]]


def test_a_pixel_between_corners_that_disagree_takes_the_greatest_interpolated_logit() -> None:
    node, label = labels_of([[[4, -9]], [[-9, 4]], [[3, 3]]], stride=4)
    assert node.tolist() == [[0, 1]]
    assert label.tolist() == [[0, 2, 2, 2, 1]]


def test_corners_that_agree_give_their_label_by_definition() -> None:
    low = [float.fromhex("0x1.2170aap-1"), float.fromhex("0x1.691896p+0")]
    high = np.nextafter(f32(low), np.float32(9))  # greater at both nodes, yet equal a quarter of the way, rounded
    blend = [reference.sample(logits[None], f32([0.25]), f32([0])) for logits in (f32(low), high)]
    assert blend[0] == blend[1]
    assert labels_of([[low], [high]], stride=4)[1].tolist() == [[1, 1, 1, 1, 1]]


def test_a_corner_of_weight_zero_has_no_say() -> None:
    _, label = labels_of([[[1, NAN], [9, 9]], [[0, 0], [-9, 0]]], stride=2)
    assert label.tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]  # the NaN spoils neither column 0 nor row 2


def test_past_the_last_node_its_label_holds_and_a_crop_cuts() -> None:
    logits = [[[1, 0]], [[0, 1]]]
    assert labels_of(logits, 2, size=(2, 4))[1].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert labels_of(logits, 2, size=(1, 1))[1].tolist() == [[0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_given_labels_stay_and_others_are_void(dtype: Any) -> None:
    semantic = np.array([[[0, 1, 2], [3, 1, 250]]]).astype(dtype)
    node, label = reference.argmax(semantic, num_classes=3, stride=2, nodes=(2, 2), size=(2, 3))
    assert label.tolist() == [[[0, 1, 2], [-1, 1, -1]]]
    assert node.tolist() == [[[0, 2], [-1, -1]]]  # the second row of nodes lies below the image


# --- refine ---------------------------------------------------------------------------------------------------------


def test_refine_follows_the_long_range_and_then_the_short_range() -> None:
    long, short = np.zeros((1, 2, 1, 4), np.float32), np.zeros((1, 2, 1, 4), np.float32)
    long[0, 0, 0], short[0, 0, 0] = [2, 4, 1, 0], [100, 100, -1, 0.5]

    def target_of_node_0(long_steps: int, short_steps: int) -> list[float]:
        target = reference.refine(long, short, stride=2, long_steps=long_steps, long_short_steps=short_steps)
        assert target.shape == (1, 1, 1, 4, 2)
        return target[0, 0, 0, 0].tolist()  # type: ignore[no-any-return]

    assert target_of_node_0(0, 0) == [2, 0]  # px; that is node 1
    assert target_of_node_0(1, 0) == [6, 0]  # node 3
    assert target_of_node_0(1, 1) == [6.5, 0]
    assert target_of_node_0(1, 2) == [7, 0]  # read past the grid, at its edge


def test_both_components_of_a_step_are_read_at_the_old_place() -> None:
    long, short = np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    short[0, :, 0, 0], short[0, :, 0, 1] = [1, 1], [50, 70]
    target = reference.refine(long, short, stride=1, long_steps=0, long_short_steps=1)
    assert target[0, 0, 0, 0].tolist() == [1, 1]


# --- vote -----------------------------------------------------------------------------------------------------------


def votes_of(points: Any, heat: float = -INF, things: tuple[int, ...] = (1,), **changes: Any) -> Array:
    """The votes of a row of nodes of label 1 with the given long-range targets, in votes."""
    target = f32(points)[None, None, None]
    w = target.shape[3]
    arguments: dict[str, Any] = {
        "things": things,
        "stride": 4,
        "size": (9, 9),
        "vote_cell": 4,
        "short_weight": 1.0,
        "long_weight": 1.0,
        "long_voters": "thing",
    }
    votes = reference.vote(
        np.full((1, 1, 1, w), heat, np.float32),
        np.zeros((1, 2, 1, w), np.float32),
        target,
        np.ones((1, 1, w), np.int32),
        **(arguments | changes),
    )
    assert votes.dtype == np.int64
    unit = 256 * 2 ** min(16, 30 - math.ceil(math.log2(w)))
    return votes[0, 0] / unit  # type: ignore[no-any-return]


def test_a_vote_is_shared_by_the_four_cells_around_it() -> None:
    assert votes_of([[5, 2]]).tolist() == [[0, 0.375, 0.125, 0], [0, 0.375, 0.125, 0], [0] * 4, [0] * 4]


def test_a_vote_counts_only_inside_the_image() -> None:
    assert votes_of([[8, 8], [0, 0]]).sum() == 2
    outside = np.nextafter(f32(8), f32(9))
    points = [[outside, 4], [4, outside], [-1e-30, 4], [4, -1], [NAN, 4], [4, NAN], [INF, 4], [4, -INF], [1e38, 1e38]]
    assert votes_of(points).sum() == 0


def test_only_things_cast_long_range_votes_unless_all_do() -> None:
    assert votes_of([[4, 4]], things=(0, 2)).sum() == 0
    assert votes_of([[4, 4]], things=()).sum() == 0
    assert votes_of([[4, 4]], things=(), long_voters="all").sum() == 1


def test_short_range_votes_weigh_the_probability_of_the_heatmap() -> None:
    assert votes_of([[NAN, 0]], heat=0)[0, 0] == 0.5  # the node votes for itself
    assert votes_of([[NAN, 0]], heat=NAN).sum() == 0


def test_the_two_score_maps_have_weights_in_256ths() -> None:
    assert votes_of([[0, 0]], heat=INF, short_weight=0.5, long_weight=3 + 1 / 256)[0, 0] == 3.5 + 1 / 256


def test_vote_cells_are_never_finer_than_the_stride() -> None:
    assert votes_of([[8, 0]], vote_cell=1).shape == (4, 4)
    assert votes_of([[8, 0]], vote_cell=8).shape == (3, 3)
    assert votes_of([[8, 0]], vote_cell=8)[0, 1] == 1


@given(seeds, st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_the_mass_of_the_votes_is_conserved_to_two_units_a_vote(seed: int, stride: int, cell: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.uniform(-3, 12, (20, 2)).astype(np.float32)
    votes = votes_of(points, stride=stride, vote_cell=cell) * 2**24
    inside = ((points >= 0) & (points <= 8)).all(axis=1).sum()
    assert abs(votes.sum() - inside * 2**24) <= 2 * inside * 256


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_shift_by_one_vote_cell_shifts_the_votes(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 4 * 1024, (20, 2)).astype(np.float32) / 1024
    assert (votes_of(points)[:2, :2] == votes_of(points + f32([4, 4]))[1:3, 1:3]).all()


# --- peaks ----------------------------------------------------------------------------------------------------------


def peaks_of(maps: Any, threshold: float = 0.0, room: int = 8) -> tuple[list[list[int]], list[list[float]], bool]:
    votes = np.array(maps, np.int64)[None]
    candidate, position, count, truncated = reference.peaks(
        votes, stride=4, nodes=(4, 4), vote_cell=4, radius=8.0, peak_threshold=threshold, max_candidates=room
    )
    assert (candidate[0, count[0] :] == -1).all()
    assert (position[0, count[0] :] == 0).all()
    return candidate[0, : count[0]].tolist(), position[0, : count[0]].tolist(), bool(truncated[0])


def test_equal_peaks_keep_the_lower_raster_index() -> None:
    plateau = [[0, 0, 0, 0], [0, 5, 5, 0], [5, 5, 0, 0]]
    assert peaks_of([plateau])[0] == [[0, 1, 1]]
    assert peaks_of([[[7] * 4] * 3])[0] == [[0, 0, 0]]


def test_peaks_come_best_first_then_by_kind_and_raster() -> None:
    maps = [[[3, 0, 4], [0, 0, 0], [3, 0, 0]], [[0, 0, 3], [0, 0, 0], [0, 0, 9]]]
    assert peaks_of(maps)[0] == [[1, 2, 2], [0, 0, 2], [0, 0, 0], [0, 2, 0], [1, 0, 2]]


def test_more_peaks_than_room_keep_the_best_and_say_so() -> None:
    maps = [[[3, 0, 4], [0, 0, 0], [3, 0, 0]]]
    assert peaks_of(maps, room=3)[2] is False
    assert peaks_of(maps, room=2)[::2] == ([[0, 0, 2], [0, 0, 0]], True)


def test_a_peak_reaches_the_threshold_and_is_never_empty() -> None:
    assert peaks_of([np.zeros((3, 3))])[0] == []
    limit = math.ceil(0.05 * 256 * 2**16 * math.pi * 4)
    assert peaks_of([[[limit, 0, limit - 1]]], threshold=0.05)[0] == [[0, 0, 0]]


def test_the_position_is_the_centroid_of_the_window_in_pixels() -> None:
    _, position, _ = peaks_of([[[0, 1, 0, 0], [1, 4, 2, 0], [0, 0, 0, 0]]])
    assert position == [[4 * (1 + 1 / 8), 4 * (1 - 1 / 8)]]
    assert peaks_of([[[3, 1], [0, 0]]])[1] == [[1, 0]]  # at the border the window ends


# --- trace ----------------------------------------------------------------------------------------------------------


def traced(
    seed: int, point: Any, middle: Array, short: Array, edges: Any, size: tuple[int, int] = (9, 9), steps: int = 0
) -> Array:
    """The keypoints of one seed on heads of stride 4; row 1 is padding."""
    candidate, position = i32([[[seed, 0, 0], [-1, -1, -1]]]), f32([[point, [0, 0]]])
    ends = [end for edge in edges for end in edge]
    keypoints = reference.trace(
        position,
        candidate,
        i32([1]),
        middle,
        short,
        edges=ends,
        stride=4,
        size=size,
        middle_steps=steps,
    )
    assert (keypoints[0, 1] == 0).all()
    return keypoints[0, 0]  # type: ignore[no-any-return]


def test_trace_goes_breadth_first_with_edges_in_index_order() -> None:
    middle, short = np.zeros((1, 16, 3, 3), np.float32), np.zeros((1, 8, 3, 3), np.float32)
    for e in range(8):
        middle[0, 2 * e], middle[0, 2 * e + 1] = 0.5 * (e + 1), 0.25
    found = traced(0, [0, 0], middle, short, RECTANGLE.edges)
    # 0 → 1 by edge 0 and 0 → 3 by edge 7; then 1 → 2 by edge 1, before 3 → 2
    assert found.tolist() == [[0, 0], [0.5, 0.25], [1.5, 0.5], [4, 0.25]]


def test_trace_corrects_by_the_short_range_of_the_target() -> None:
    middle, short = np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 4, 3, 3), np.float32)
    middle[0, 0], short[0, :2] = 4, 77
    short[0, 2, 0], short[0, 3, 0] = [9, 1, 2], [9, 0, 0]
    edges = ((0, 1), (1, 0))
    middle = np.concatenate((middle, middle), axis=1)
    assert traced(0, [0, 0], middle, short, edges, steps=1)[1].tolist() == [5, 0]
    assert traced(0, [0, 0], middle, short, edges, steps=2)[1].tolist() == [6.25, 0]  # 1 + (2 − 1)/4 more


def test_keypoints_are_clamped_only_at_the_end() -> None:
    middle, short = np.zeros((1, 8, 3, 3), np.float32), np.zeros((1, 6, 3, 3), np.float32)
    middle[0, 0], middle[0, 2] = 6, -5  # 0 → 1 leaves the image 5 px wide, 1 → 2 comes back
    found = traced(0, [1, 2], middle, short, ((0, 1), (1, 2), (2, 1), (1, 0)), size=(5, 5))
    assert found.tolist() == [[1, 2], [4, 2], [2, 2]]


def test_a_keypoint_that_is_nan_becomes_zero_and_an_infinite_one_the_border() -> None:
    middle, short = np.zeros((1, 16, 3, 3), np.float32), np.zeros((1, 10, 3, 3), np.float32)
    middle[0, 0], middle[0, 1], middle[0, 2], middle[0, 3] = NAN, INF, -INF, 1e38
    found = traced(4, [4, 4], middle, short, STAR.edges, steps=2)
    assert found[:2].tolist() == [[0, 8], [0, 8]]


# --- rescore --------------------------------------------------------------------------------------------------------


def rescored(votes: Any, point: Any, heat: float = INF, oks_cell: bool = True, radius: float = 8.0) -> Array:
    """Score of one keypoint at stride and cell 4, κ = 0.5, box area 0: 2λ²κ² + c² = 8 + 16."""
    scores, score = reference.rescore(
        f32([[[point], [[0, 0]]]]),
        i32([1]),
        np.array(votes, np.int64)[None, None],
        np.full((1, 1, 3, 3), heat, np.float32),
        stride=4,
        vote_cell=4,
        radius=radius,
        kappa=(0.5,),
        oks_cell=oks_cell,
    )
    assert scores[0, 1] == score[0, 1] == 0
    assert scores[0, 0, 0] == score[0, 0]
    return score[0, 0]  # type: ignore[no-any-return]


def test_votes_at_the_keypoint_give_its_probability() -> None:
    votes = [[0, 0, 0], [0, 50, 0], [0, 0, 0]]
    assert rescored(votes, [4, 4]) == 1
    assert rescored(votes, [4, 4], heat=0) == 0.5
    assert rescored(votes, [4, 4], heat=NAN) == 0


def test_votes_fall_off_with_their_distance() -> None:
    votes = [[0, 0, 0], [0, 30, 10], [0, 0, 0]]

    def rounded(g: float) -> float:
        return round(2**15 * g) / 2**15

    assert rescored(votes, [4, 4]) == np.float32((30 + 10 * rounded(math.exp(-16 / 24))) / 40)
    assert rescored(votes, [4, 4], oks_cell=False) == np.float32((30 + 10 * rounded(math.exp(-16 / 8))) / 40)


def test_the_disk_includes_its_rim_and_nothing_beyond() -> None:
    assert 0 < rescored([[1, 0, 0]], [8, 0], radius=8.0) < 1e-1
    assert rescored([[1, 0, 0]], [8, 0], radius=7.99) == 0  # no votes: 0


def test_the_instance_score_is_the_mean_of_its_keypoints() -> None:
    votes = np.zeros((1, 3, 2, 2), np.int64)
    votes[0, :, 0, 0] = 1
    heat = np.repeat(f32([INF, 0, NAN]), 4).reshape(1, 3, 2, 2)
    scores, score = reference.rescore(
        np.zeros((1, 1, 3, 2), np.float32), i32([1]), votes, heat,
        stride=1, vote_cell=1, radius=1.0, kappa=(0.1, 0.1, 0.1), oks_cell=True,
    )  # fmt: skip
    assert scores[0, 0].tolist() == [1, 0.5, 0]
    assert score[0, 0] == np.float32(1.5) / np.float32(3)


# --- select ---------------------------------------------------------------------------------------------------------


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y1]]


def selected(
    boxes: Any, scores: Any, kinds: Any = None, order: Any = None, room: int = 8, **changes: Any
) -> tuple[list[int], bool]:
    """Indices of the hypotheses kept, of two keypoints each; `order`: their seed scores, by default the scores."""
    keypoints, score = f32(boxes)[None], f32(scores)[None]
    size = len(boxes)
    candidate = np.zeros((1, size, 3), np.int32)
    candidate[0, :, 0], candidate[0, :, 2] = kinds or 0, np.arange(size)
    parameters: dict[str, Any] = {
        "instance_threshold": 0.05,
        "nms_radius": 10.0,
        "nms_radius_min": 2.0,
        "nms_relative": 0.5,
        "box_iou": 0.5,
    }
    chosen, chosen_score, count, truncated = reference.select(
        candidate,
        i32([size]),
        keypoints,
        np.repeat(f32(order or scores)[None, :, None], 2, axis=2),
        score,
        max_instances=room,
        **(parameters | changes),
    )
    assert (chosen[0, count[0] :] == 0).all()
    assert (chosen_score[0, count[0] :] == 0).all()
    found = [int(np.flatnonzero((keypoints[0] == points).all(axis=(1, 2)))[0]) for points in chosen[0, : count[0]]]
    assert (chosen_score[0, : count[0]] == score[0, found]).all()
    return found, bool(truncated[0])


FAR = [box(100 * i, 0, 100 * i + 30, 30) for i in range(4)]


def test_instances_are_numbered_by_their_score() -> None:
    assert selected(FAR, [0.2, 0.9, 0.2, 0.5], order=[1, 2, 3, 4])[0] == [1, 3, 2, 0]  # the tie: as accepted


def test_a_score_at_the_threshold_stays() -> None:
    assert selected(FAR[:2], [0.05, np.nextafter(np.float32(0.05), np.float32(0))])[0] == [0]


def test_more_instances_than_room_keep_the_best_and_say_so() -> None:
    assert selected(FAR, [0.2, 0.9, 0.3, 0.5], room=4)[1] is False
    assert selected(FAR, [0.2, 0.9, 0.3, 0.5], room=2) == ([1, 3], True)


def test_the_queue_goes_by_the_score_of_the_seed_and_then_by_its_place() -> None:
    near = [box(0, 0, 30, 30), box(1, 0, 31, 30)]
    assert selected(near, [0.9, 0.5], order=[0.5, 0.9])[0] == [1]
    assert selected(near, [0.5, 0.9], order=[0.7, 0.7])[0] == [0]
    assert selected(near, [0.9, 0.5], order=[0.7, 0.7], kinds=[1, 0])[0] == [1]


def test_a_keypoint_at_the_very_radius_is_taken() -> None:
    large = box(0, 0, 100, 100)
    assert selected([large, box(6, 8, 100, 100)], [0.9, 0.8], box_iou=1.0)[0] == [0]  # 10 px
    assert selected([large, box(6, 8.1, 100, 100)], [0.9, 0.8], box_iou=1.0)[0] == [0, 1]


def test_the_radius_follows_the_smaller_box_between_its_bounds() -> None:
    assert selected([box(0, 0, 8, 8), box(4, 0, 40, 40)], [0.9, 0.8], box_iou=1.0)[0] == [0]  # 0.5·8 px
    assert selected([box(0, 0, 8, 8), box(4.1, 0, 40, 40)], [0.9, 0.8], box_iou=1.0)[0] == [0, 1]
    assert selected([box(0, 0, 1, 1), box(2, 0, 40, 40)], [0.9, 0.8], box_iou=1.0)[0] == [0]  # at least 2 px
    assert selected([box(0, 0, 1, 1), box(2.1, 0, 40, 40)], [0.9, 0.8], box_iou=1.0)[0] == [0, 1]


def test_only_the_keypoint_of_the_seed_is_compared() -> None:
    boxes = [box(0, 0, 100, 100), box(50, 50, 100, 100)]
    assert selected(boxes, [0.9, 0.8], kinds=[1, 0], box_iou=1.0)[0] == [0, 1]
    assert selected(boxes, [0.9, 0.8], kinds=[0, 1], box_iou=1.0)[0] == [0]


def test_box_nms_is_strict() -> None:
    half = [box(0, 0, 40, 20), box(0, 0, 40, 10)]  # seeds at the lower right corner, 10 px apart: IoU 1/2
    apart: dict[str, Any] = {"kinds": [1, 1], "nms_radius": 9.0}
    assert selected(half, [0.8, 0.9], **apart)[0] == [1, 0]
    assert selected(half, [0.8, 0.9], box_iou=0.49, **apart)[0] == [1]


def test_a_suppressed_box_suppresses_nothing() -> None:
    row = [box(20 * i, 0, 20 * i + 100, 50) for i in range(3)]  # neighbors IoU 2/3, the outer ones 3/7
    assert selected(row, [0.9, 0.8, 0.7])[0] == [0, 2]


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_the_queue_equals_a_scan_in_sorted_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(0, 30))
    keypoints = generator.integers(0, 40, (1, size, 3, 2)).astype(np.float32)
    candidate = generator.permutation(np.argwhere(np.ones((3, 4, 4))))[:size].astype(np.int32)[None]
    scores = generator.integers(0, 4, (1, size, 3)).astype(np.float32) / 4  # many ties
    score = generator.integers(1, 4, (1, size)).astype(np.float32) / 4
    chosen, _, count, _ = reference.select(
        candidate, i32([size]), keypoints, scores, score, instance_threshold=0.5,
        nms_radius=6.0, nms_radius_min=6.0, nms_relative=1.0, box_iou=1.0, max_instances=40,
    )  # fmt: skip
    accepted: list[int] = []
    for i in sorted(range(size), key=lambda i: (-scores[0, i, candidate[0, i, 0]], *candidate[0, i])):
        k = candidate[0, i, 0]
        distances = [((keypoints[0, i, k] - keypoints[0, j, k]) ** 2).sum() for j in accepted]
        if score[0, i] >= 0.5 and all(d2 > 36 for d2 in distances):
            accepted.append(i)
    accepted.sort(key=lambda i: -score[0, i])
    assert (chosen[0, : count[0]] == keypoints[0, accepted]).all()


# --- assign ---------------------------------------------------------------------------------------------------------


def assigned(
    targets: Any, centers: Any, node_label: Any, label: Any, stride: int = 1, max_distance: float | None = None
) -> tuple[Array, Array, Array]:
    """One keypoint on the x axis; class 0 is stuff, all others are things."""
    x, points = f32(targets), f32(centers)
    target = np.stack((x, np.zeros_like(x)), axis=-1)[None, None]
    keypoints = np.stack((points, np.zeros_like(points)), axis=-1)[None, :, None]
    node_instance, node_distance, instance = reference.assign(
        target, i32(node_label)[None], i32(label)[None], keypoints, i32([len(points)]),
        things=(1, 2, 3), stride=stride, max_distance=max_distance,
    )  # fmt: skip
    return node_instance[0], node_distance[0], instance[0]


def test_a_node_takes_the_nearest_instance_and_of_equals_the_first() -> None:
    node, distance, _ = assigned([[0, 3, 5, 9]], [2, 8, 8], [[1] * 4], [[1] * 4])
    assert node.tolist() == [[1, 1, 1, 2]]
    assert distance.tolist() == [[4, 1, 9, 1]]


def test_a_distance_that_is_not_below_infinity_never_wins() -> None:
    node, distance, instance = assigned([[NAN, INF, 1e38, 0]], [1], [[1] * 4], [[1] * 4])
    assert node.tolist() == instance.tolist() == [[0, 0, 0, 1]]
    assert distance.tolist() == [[INF, INF, INF, 1]]


def test_no_instances_leave_orphans() -> None:
    node, _, instance = assigned([[0, 1]], np.zeros(0), [[1, 1]], [[1, 1]])
    assert not node.any()
    assert not instance.any()


def test_the_cut_off_is_inclusive() -> None:
    node, distance, _ = assigned([[0, 3, 3.5]], [0], [[1] * 3], [[1] * 3], max_distance=3.0)
    assert node.tolist() == [[1, 1, 0]]
    assert distance.tolist() == [[0, 9, INF]]


def test_stuff_and_void_pixels_have_no_instance() -> None:
    assert assigned([[0, 0, 0]], [0], [[1, 1, 1]], [[0, 1, -1]])[2].tolist() == [[0, 1, 0]]


def test_a_pixel_looks_first_at_nodes_of_its_class_then_at_things_then_at_all() -> None:
    targets, centers = [[0, 10, 20]], [0, 10, 20]
    row = i32([[1, 1, 1, 1, 1, 1, 1, 1, 1]])
    assert assigned(targets, centers, [[1, 2, 1]], row, stride=4)[2].tolist() == [[1, 1, 1, 1, 2, 3, 3, 3, 3]]
    assert assigned(targets, centers, [[0, 2, 3]], row, stride=4)[2].tolist() == [[1, 2, 2, 2, 2, 2, 2, 3, 3]]
    assert assigned(targets, centers, [[0, 0, -1]], row, stride=4)[2].tolist() == [[1, 1, 1, 2, 2, 2, 2, 3, 3]]


def test_a_node_without_an_instance_is_not_eligible() -> None:
    label = i32([[1, 1, 1, 1, 1]])
    assert assigned([[NAN, 10]], [0, 10], [[1, 0]], label, stride=4)[2].tolist() == [[0, 2, 2, 2, 2]]


def test_instances_sum_the_weights_of_their_corners() -> None:
    targets, centers = [[0, 10], [20, 10]], [0, 10, 20]
    instance = assigned(targets, centers, [[1, 1], [1, 1]], np.ones((5, 5)), stride=4)[2]
    assert instance[1].tolist() == [1, 1, 2, 2, 2]  # at x = 2: 6, 8 and 2 sixteenths


def test_equal_weights_go_to_the_lesser_distance_and_then_to_the_lower_number() -> None:
    pixels = np.ones((1, 3))
    assert assigned([[1, 10]], [0, 10], [[1, 1]], pixels, stride=2)[2].tolist() == [[1, 2, 2]]
    assert assigned([[0, 11]], [0, 10], [[1, 1]], pixels, stride=2)[2].tolist() == [[1, 1, 2]]
    assert assigned([[11, 1]], [0, 10], [[1, 1]], pixels, stride=2)[2].tolist() == [[2, 1, 1]]


@given(seeds, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_every_pixel_obeys_the_rule_read_out_loud(seed: int, stride: int) -> None:
    generator = np.random.default_rng(seed)
    h, w, height, width = 3, 4, int(generator.integers(1, 3 * stride + 1)), int(generator.integers(1, 4 * stride + 1))
    targets = generator.choice(f32([0, 1, 9, 11, NAN]), (h, w))
    node_label, label = generator.integers(-1, 3, (h, w)), generator.integers(-1, 3, (height, width))
    node, distance, instance = assigned(targets, [0, 10, 2], node_label, label, stride)
    for y, x in np.ndindex(height, width):
        i, j = min(y // stride, h - 1), min(x // stride, w - 1)
        fy, fx = y % stride if i < h - 1 else 0, x % stride if j < w - 1 else 0
        corners = []
        for di, dj in np.ndindex(2, 2):
            weight = (fy if di else stride - fy) * (fx if dj else stride - fx)
            if weight and node[i + di, j + dj]:
                corners.append((weight, (i + di, j + dj)))
        own = [(weight, p) for weight, p in corners if node_label[p] == label[y, x]]
        thing = [(weight, p) for weight, p in corners if node_label[p] >= 1]
        rank = []
        for rival in {node[p] for _, p in own or thing or corners}:
            mine = [(weight, distance[p]) for weight, p in own or thing or corners if node[p] == rival]
            rank.append((-sum(weight for weight, _ in mine), min(d for _, d in mine), rival))
        expected = min(rank)[2] if rank and label[y, x] >= 1 else 0
        assert instance[y, x] == expected


# --- merge ----------------------------------------------------------------------------------------------------------


def merged(
    label: Any, instance: Any, node_label: Any, node_instance: Any, distance: Any, majority: str = "fit"
) -> tuple[list[list[int]], list[int], list[int], list[int]]:
    """Two keypoints, R = 2 px: nodes fit up to D = 2·max(4, 10·10/4) = 50 for instance 1, up to 8 for 2 and 3."""
    keypoints = f32([[box(0, 0, 10, 10), box(0, 0, 0, 0), box(5, 5, 5, 9)]])
    result = reference.merge(
        i32(label)[None], i32(instance)[None], i32(node_label)[None], i32(node_instance)[None], f32(distance)[None],
        keypoints, i32([3]), things=(1, 2), num_classes=3, radius=2.0, fit_area=0.25, majority=majority,
    )  # fmt: skip
    assert all(part.dtype == np.int32 for part in result)
    semantic, category, area, class_area = (part[0].tolist() for part in result)
    return semantic, category, area, class_area


def test_an_instance_takes_the_class_of_its_nodes_that_fit() -> None:
    label, instance = [[1, 1, 1, 2, 0]], [[1, 1, 1, 1, 0]]
    # two nodes are too far, one fits, two are stuff
    nodes: dict[str, Any] = {
        "node_label": [[1, 1, 2, 0, 0]],
        "node_instance": [[1] * 5],
        "distance": [[51, INF, 50, 1, 1]],
    }
    semantic, category, area, class_area = merged(label, instance, **nodes)
    assert semantic == [[2, 2, 2, 2, 0]]
    assert category == [2, -1, -1]
    assert area == [4, 0, 0]
    assert class_area == [1, 0, 0]
    assert merged(label, instance, **nodes, majority="all")[1] == [1, -1, -1]


def test_without_a_fitting_node_the_pixels_vote() -> None:
    assert merged([[2, 2, 1]], [[2, 2, 2]], [[1]], [[2]], [[8.5]])[1] == [-1, 2, -1]
    assert merged([[2, 2, 1]], [[2, 2, 2]], [[1]], [[2]], [[8]])[1] == [-1, 1, -1]


def test_a_tied_majority_goes_to_the_lower_class() -> None:
    assert merged([[2, 1]], [[1, 1]], [[0]], [[0]], [[INF]])[1] == [1, -1, -1]
    assert merged([[2, 2]], [[1, 1]], [[2, 1]], [[1, 1]], [[0, 0]])[1] == [1, -1, -1]


def test_an_instance_that_won_no_pixel_keeps_its_number_without_a_class() -> None:
    _, category, area, _ = merged([[1, 0]], [[3, 0]], [[1, 1]], [[2, 3]], [[0, 0]])
    assert (category, area) == ([-1, -1, 1], [0, 0, 1])


def test_an_orphan_keeps_its_class_and_void_is_nowhere_counted() -> None:
    semantic, _, _, class_area = merged([[1, 2, 2, 0, -1]], [[0] * 5], [[1]], [[0]], [[INF]])
    assert semantic == [[1, 2, 2, 0, -1]]
    assert class_area == [1, 1, 2]


# --- fuse -----------------------------------------------------------------------------------------------------------

RECTS = [(8, 4, 40, 28), (24, 30, 60, 56), (6, 40, 20, 60)]  # y0, x0, y1, x1, inclusive; class 1, 2, 1


def perfect(rects: list[tuple[int, int, int, int]], size: tuple[int, int] = (65, 65), radius: float = 9) -> list[Array]:
    """Perfect heads of rectangles at stride 1: semantic logits of 3 classes, heatmap, short, middle, long range."""
    y, x = np.indices(size).astype(np.float32)
    semantic, heatmap = np.full((3, *size), -8, np.float32), np.full((5, *size), -8, np.float32)
    short, middle, long = (np.zeros((channels, *size), np.float32) for channels in (10, 16, 10))
    semantic[0] = 0
    for j, (y0, x0, y1, x1) in enumerate(rects):
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), ((x0 + x1) / 2, (y0 + y1) / 2)]
        inside = (y >= y0) & (y <= y1) & (x >= x0) & (x <= x1)
        semantic[1 + j % 2][inside] = 8
        disks = [(x - px) ** 2 + (y - py) ** 2 <= radius**2 for px, py in points]
        for k, (px, py) in enumerate(points):
            heatmap[k][disks[k]] = 8
            for field, where in ((short, disks[k]), (long, inside)):
                field[2 * k][where], field[2 * k + 1][where] = px - x[where], py - y[where]
        for e, (a, b) in enumerate(STAR.edges):
            px, py = points[b]
            middle[2 * e][disks[a]], middle[2 * e + 1][disks[a]] = px - x[disks[a]], py - y[disks[a]]
    return [head[None] for head in (semantic, heatmap, short, middle, long)]


PARAMS = FuseParams(radius=9.0, max_instances=16, max_candidates=256)


def fused(
    heads: list[Array], stride: int = 1, params: FuseParams = PARAMS, size: tuple[int, int] | None = None
) -> tuple[Array, ...]:
    scene = Heads(*heads, stride=stride, num_classes=3)
    found = pipeline.fuse(reference, scene, (1, 2), size or scene.default_size, params)
    return tuple(getattr(found, field.name) for field in fields(Panoptic) if field.name != "things")


def equal(left: tuple[Array, ...], right: tuple[Array, ...]) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_perfect_heads_give_the_rectangles_back(stride: int) -> None:
    heads = [head[..., ::stride, ::stride] for head in perfect(RECTS)]
    semantic, instance, keypoints, score, category, area, class_area, count, truncated = fused(heads, stride)
    assert count.tolist() == [3]
    assert not truncated[0]
    assert (score[0, :3] > 0.5).all()
    assert (np.diff(score[0, :3]) <= 0).all()
    assert area[0].sum() + class_area[0].sum() == 65 * 65
    for j, (y0, x0, y1, x1) in enumerate(RECTS):
        number = instance[0, (y0 + y1) // 2, (x0 + x1) // 2]
        assert category[0, number - 1] == semantic[0, (y0 + y1) // 2, (x0 + x1) // 2] == 1 + j % 2
        assert np.abs(keypoints[0, number - 1, [0, 2]] - f32([[x0, y0], [x1, y1]])).max() <= 2 * stride
        mask = np.zeros((65, 65), bool)
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        overlap = (mask & (instance[0] == number)).sum() / (mask | (instance[0] == number)).sum()
        assert overlap > (0.99 if stride == 1 else 0.7)


def test_a_shift_by_one_vote_cell_shifts_everything() -> None:
    heads = perfect(RECTS)
    heads[1][heads[1] < 0] = -INF  # no votes but those of the disks
    shifted = [np.roll(head, (4, 4), axis=(2, 3)) for head in heads]
    one, two = fused(heads), fused(shifted)
    for map_index in (0, 1):
        assert (np.roll(one[map_index], (4, 4), axis=(1, 2)) == two[map_index]).all()
    count = one[7][0]
    assert (one[2][0, :count] + 4 == two[2][0, :count]).all()
    assert equal((one[3], *one[4:]), (two[3], *two[4:]))


def test_a_horizontal_flip_swaps_left_and_right_keypoints() -> None:
    flip, edge_flip = [1, 0, 3, 2, 4], [1, 0, 3, 2, 5, 4, 7, 6]
    semantic, heatmap, short, middle, long = perfect(RECTS)

    def mirrored(field: Array, order: list[int]) -> Array:
        pairs = field.reshape(1, -1, 2, 65, 65)[:, order, :, :, ::-1] * f32([-1, 1])[:, None, None]
        return np.ascontiguousarray(pairs.reshape(field.shape))

    flipped = [semantic[..., ::-1], heatmap[:, flip, :, ::-1]]
    flipped += [mirrored(short, flip), mirrored(middle, edge_flip), mirrored(long, flip)]
    one, two = fused([semantic, heatmap, short, middle, long]), fused(flipped)
    assert one[7] == two[7] == 3
    assert (one[0] == two[0][..., ::-1]).all()
    assert (one[1] == two[1][..., ::-1]).all()
    mirrored_points = one[2][0, :3][:, flip] * f32([-1, 1]) + f32([64, 0])
    np.testing.assert_allclose(mirrored_points, two[2][0, :3], atol=1e-4)


def test_every_image_of_a_batch_has_the_result_it_has_alone() -> None:
    scenes = [perfect(RECTS), perfect(RECTS[:1]), perfect([])]
    together = fused([np.concatenate(heads) for heads in zip(*scenes, strict=True)])
    for n, scene in enumerate(scenes):
        assert equal(tuple(part[n : n + 1] for part in together), fused(scene))
    assert together[7].tolist() == [3, 1, 0]


def test_half_precision_heads_are_widened_first() -> None:
    halves = [head.astype(np.float16) for head in perfect(RECTS)]
    assert equal(fused(halves), fused([head.astype(np.float32) for head in halves]))


def test_given_labels_replace_the_logits() -> None:
    heads = perfect(RECTS)
    labels = heads[0].argmax(axis=1)
    assert equal(fused(heads), fused([labels, *heads[1:]]))
    void = fused([np.full_like(labels, 255), *heads[1:]])
    assert (void[0] == -1).all()
    assert not void[1].any()
    assert not void[6].any()


@pytest.mark.parametrize("value", [NAN, INF, -INF, 0.0, 1e38, -1e38])
@pytest.mark.parametrize("params", [FuseParams(max_instances=4), FuseParams.paper()])
def test_no_value_of_the_heads_warns_or_fails(value: float, params: FuseParams) -> None:
    heads = [np.full_like(head[..., :6, :9], value) for head in perfect(RECTS)]
    result = fused(heads, 4, params)
    assert result[0].shape == (1, 21, 33)
    assert np.isfinite(result[2]).all()
    assert np.isfinite(result[3]).all()


@given(seeds, st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_wild_heads_of_any_size_give_a_consistent_result(seed: int, stride: int) -> None:
    generator = np.random.default_rng(seed)
    (h, w), images = generator.integers(1, 8, 2), int(generator.integers(0, 3))
    size = int(generator.integers(1, h * stride + 1)), int(generator.integers(1, w * stride + 1))
    wild = f32([NAN, INF, -INF, 1e38, -1e38, 0, -0.0])
    heads = []
    for channels in (3, 5, 10, 16, 10):
        head = generator.normal(0, 8, (images, channels, h, w)).astype(np.float32)
        heads.append(np.where(generator.random(head.shape) < 0.1, generator.choice(wild, head.shape), head))
    params = FuseParams(radius=3.0, max_instances=5, max_candidates=40, long_steps=1, max_distance=30.0)
    semantic, instance, keypoints, _, category, area, class_area, count, _ = fused(heads, stride, params, size=size)
    assert semantic.shape == instance.shape == (images, *size)
    assert ((keypoints >= 0) & (keypoints <= f32([size[1] - 1, size[0] - 1]))).all()
    for n in range(images):
        assert area[n].sum() + class_area[n].sum() == size[0] * size[1]
        assert (area[n] == np.bincount(instance[n].ravel(), minlength=6)[1:]).all()
        assert (area[n, count[n] :] == 0).all()
        assert ((category[n] == -1) == (area[n] == 0)).all()


def test_one_pixel_is_an_image() -> None:
    heads = [head[..., :1, :1] for head in perfect([(0, 0, 0, 0)])]
    semantic, instance, *_ = fused(heads)
    assert semantic.tolist() == [[[1]]]
    assert instance.shape == (1, 1, 1)


def test_more_instances_than_room_are_flagged() -> None:
    truncated = fused(perfect(RECTS), params=FuseParams(radius=9.0, max_instances=2))[8]
    assert truncated.tolist() == [True]
    assert fused(perfect(RECTS), params=FuseParams(radius=9.0, max_candidates=5))[8].tolist() == [True]
