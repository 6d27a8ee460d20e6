# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality: hand-counted cases, a literal slow count, the references' own figures and torchmetrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import deeperlab
from deeperlab.data.formats import coco
from deeperlab.metrics import (
    AreaWarning,
    Evaluation,
    PanopticQuality,
    RoleWarning,
    match,
    panoptic_quality,
    parsing_covering,
)

CATEGORIES = {1: True, 2: True, 3: False}
"""Two things and one stuff."""

Segment = dict[str, int]


def segment(id: int, category: int, iscrowd: int = 0) -> Segment:
    return {"id": id, "category_id": category, "iscrowd": iscrowd}


def row(*runs: tuple[int, int]) -> NDArray[np.int64]:
    """A map of one row from (id, length) runs."""
    return np.concatenate([np.full(n, i) for i, n in runs])[None]


def quality(
    prediction: tuple[Any, Any], target: tuple[Any, Any], categories: dict[int, bool] = CATEGORIES
) -> dict[str, Any]:
    metric = PanopticQuality(categories)
    metric.update(prediction, target)
    return metric.compute().to_dict()


def counts(result: dict[str, Any], category: int) -> tuple[int, int, int]:
    per_class = result["per_class"][str(category)]
    return per_class["tp"], per_class["fp"], per_class["fn"]


def test_a_segmentation_matches_itself_perfectly() -> None:
    ids, segments = row((1, 4), (2, 4), (3, 8)), [segment(1, 1), segment(2, 1), segment(3, 3)]
    result = quality((ids, segments), (ids, segments))
    assert result["All"] == {"pq": 1, "sq": 1, "rq": 1, "n": 2}
    assert result["Things"]["n"] == result["Stuff"]["n"] == 1
    assert counts(result, 1) == (2, 0, 0)


def test_iou_of_exactly_one_half_does_not_match() -> None:
    target = row((1, 8), (9, 8)), [segment(1, 1), segment(9, 3)]
    halves = row((1, 4), (2, 4), (9, 8)), [segment(1, 1), segment(2, 1), segment(9, 3)]
    result = quality(halves, target)
    assert counts(result, 1) == (0, 2, 1)
    assert result["All"]["pq"] == 0.5
    assert result["per_class"]["1"] == {"pq": 0, "sq": 0, "rq": 0, "iou": 0, "tp": 0, "fp": 2, "fn": 1}


def test_target_void_leaves_the_union_and_predicted_void_stays() -> None:
    whole, segments = row((1, 8)), [segment(1, 1)]
    assert quality((whole, segments), (row((1, 5), (0, 3)), segments))["All"]["pq"] == 1
    assert quality((row((1, 5), (0, 3)), segments), (whole, segments))["All"]["pq"] == 5 / 8


def test_a_spurious_segment_is_excused_when_more_than_half_is_void() -> None:
    target = [segment(9, 3)]
    prediction = [segment(1, 1), segment(9, 3)]
    more = quality((row((9, 8), (1, 8)), prediction), (row((9, 11), (0, 5)), target))
    half = quality((row((9, 8), (1, 8)), prediction), (row((9, 12), (0, 4)), target))
    assert counts(more, 1) == (0, 0, 0)
    assert counts(half, 1) == (0, 1, 0)


def test_only_crowd_of_the_same_category_excuses_and_of_several_the_last() -> None:
    prediction = row((5, 8)), [segment(5, 1)]
    assert counts(quality(prediction, (row((1, 8)), [segment(1, 1, 1)])), 1) == (0, 0, 0)
    assert counts(quality(prediction, (row((1, 8)), [segment(1, 2, 1)])), 1) == (0, 1, 0)
    two = [segment(1, 1, 1), segment(2, 1, 1)]
    assert counts(quality(prediction, (row((1, 6), (2, 2)), two)), 1) == (0, 1, 0)
    assert counts(quality(prediction, (row((1, 6), (2, 2)), two[::-1])), 1) == (0, 0, 0)


def test_crowd_stays_in_the_union_and_is_never_missed() -> None:
    target = row((1, 6), (2, 4)), [segment(1, 1), segment(2, 1, 1)]
    result = quality((row((1, 8), (0, 2)), [segment(1, 1)]), target)
    assert result["All"]["pq"] == 6 / 8
    assert counts(result, 1) == (1, 0, 0)


def test_segments_of_a_stuff_category_count_one_by_one() -> None:
    target = row((1, 4), (2, 4)), [segment(1, 3), segment(2, 3)]
    assert counts(quality((row((7, 8)), [segment(7, 3)]), target), 3) == (0, 1, 2)


def test_a_wrong_category_is_both_missed_and_spurious_and_is_averaged_with_zero() -> None:
    result = quality((row((1, 8)), [segment(1, 2)]), (row((1, 8)), [segment(1, 1)]))
    assert counts(result, 1) == (0, 0, 1)
    assert counts(result, 2) == (0, 1, 0)
    assert result["All"] == {"pq": 0, "sq": 0, "rq": 0, "n": 2}


def test_nothing_counted_is_undefined_not_zero() -> None:
    metric = PanopticQuality(CATEGORIES)
    metric.update((row((0, 8)), []), (row((0, 8)), []))
    metric.update((np.zeros((0, 0), int), []), (np.zeros((0, 0), int), []))
    assert math.isnan(metric.compute().all.pq)
    result = metric.compute().to_dict()
    assert result["Things"] == {"pq": None, "sq": None, "rq": None, "n": 0}
    json.dumps(result, allow_nan=False)


def test_a_predicted_id_zero_that_is_listed_is_a_segment() -> None:
    result = quality((row((0, 8)), [segment(0, 1)]), (row((4, 8)), [segment(4, 1)]))
    assert counts(result, 1) == (1, 0, 0)


def test_a_target_id_that_is_not_listed_is_neither_segment_nor_void() -> None:
    result = quality((row((5, 8)), [segment(5, 1)]), (row((1, 5), (6, 3)), [segment(1, 1)]))
    assert result["All"]["pq"] == 5 / 8


def test_the_functions_of_one_image_take_ignore_too() -> None:
    maps = np.array([[1, 1, 3, 255]]), np.array([[1, 1, 0, 0]])
    for function in (panoptic_quality, parsing_covering):
        with pytest.raises(ValueError, match="got 255; void is negative, or what ignore= says"):
            function(maps, maps, CATEGORIES)
        assert function(maps, maps, CATEGORIES, ignore=255)
    assert panoptic_quality(maps, maps, CATEGORIES, ignore=255).all.n == 2


def test_segments_of_transformers_are_told() -> None:
    labeled: Any = [{"id": 1, "label_id": 3, "score": 0.9, "was_fused": False}]
    with pytest.raises(
        ValueError, match=r"category_id of segment 0, got .*; label_id, as transformers has it, is a class"
    ):
        panoptic_quality((row((1, 4)), labeled), (row((1, 4)), [segment(1, 1)]), CATEGORIES)


def test_ids_that_were_interpolated_are_told() -> None:
    sharp, blurred = row((10, 100), (90, 100)), row((10, 98), (36, 1), (63, 1), (90, 100))
    segments = [segment(10, 1), segment(90, 3)]
    with pytest.raises(ValueError, match=r"every id of the map to be listed, got 36; .*resize with interpolation"):
        panoptic_quality((blurred, segments), (sharp, segments), CATEGORIES)
    with pytest.warns(RoleWarning, match=r"target: 2 ids are not listed, and count as segments'.*resize with interpol"):
        assert panoptic_quality((sharp, segments), (blurred, segments), CATEGORIES).all.pq < 1
    with pytest.raises(ValueError, match=r"got 36; void is id 0, or what ignore= says$"):  # one that was forgotten
        panoptic_quality((row((10, 90), (36, 10), (90, 100)), segments), (sharp, segments), CATEGORIES)


def test_areas_come_from_the_maps_and_a_stale_one_is_a_warning() -> None:
    ids, segments = row((1, 8), (2, 3)), [{**segment(1, 1), "area": 800}, {**segment(2, 3), "area": 3}]
    for metric in (PanopticQuality(CATEGORIES), Evaluation(CATEGORIES)):
        with pytest.warns(AreaWarning, match="^target: the area of id 1 is 8 px, not 800 as listed$") as record:
            metric.update((ids, [segment(1, 1), segment(2, 3)]), (ids, segments))
        assert [Path(warning.filename) for warning in record] == [Path(__file__)]
        pq = metric.compute().all.pq if isinstance(metric, PanopticQuality) else metric.compute().pq.all.pq
        assert pq == 1
    both = [{**s, "area": 5.5} for s in segments]
    with pytest.warns(AreaWarning, match=r"^prediction: .* id 1 .* \(and of 1 more segment\)$"):
        assert panoptic_quality((ids, both), (ids, [segment(1, 1), segment(2, 3)]), CATEGORIES).all.pq == 1


def test_categories_and_instances_are_an_equal_form() -> None:
    category, instance = np.array([[1, 1, 1, 2, 3, 3, -1]]), np.array([[1, 1, 2, 1, 0, 0, 5]])
    ids = np.array([[1, 1, 2, 3, 4, 4, 0]])
    segments = [segment(1, 1), segment(2, 1), segment(3, 2), segment(4, 3)]
    shifted = np.roll(ids, 1), segments
    assert quality((category, instance), shifted) == quality((ids, segments), shifted)
    assert quality(shifted, (category, instance)) == quality(shifted, (ids, segments))
    assert quality((category, instance), (ids, segments))["All"]["pq"] == 1


def test_thing_pixels_without_instance_are_crowd_in_a_target_and_a_segment_in_a_prediction() -> None:
    category, instance = np.array([[1, 1, 3, 3]]), np.zeros((1, 4), int)
    assert counts(quality((category, instance), (category, instance)), 1) == (0, 0, 0)
    assert counts(quality((category, instance), (category, instance + 1)), 1) == (1, 0, 0)


@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        ((row((1, 4)), [segment(1, 1)]), (row((1, 5)), [segment(1, 1)]), "prediction: expected the target's shape"),
        ((row((7, 4)), [segment(1, 1)]), (row((1, 4)), [segment(1, 1)]), "every id of the map to be listed, got 7"),
        ((row((1, 4)), [segment(1, 1), segment(2, 1)]), (row((1, 4)), [segment(1, 1)]), "in the map, got 2"),
        ((row((1, 4)), [segment(1, 8)]), (row((1, 4)), [segment(1, 1)]), "prediction: .* got 8"),
        ((row((1, 4)), [segment(1, 1)]), (row((1, 4)), [segment(1, 8)]), "target: .* got 8"),
        ((row((1, 4)), [segment(1, 1)]), (row((0, 4)), [segment(0, 1)]), "target: .* got 0"),
        ((row((1, 4)), [segment(1, 1)] * 2), (row((1, 4)), [segment(1, 1)]), "distinct segment ids"),
        ((np.zeros(4, int), []), (row((0, 4)), []), "expected a map"),
        ((row((5, 4)), row((0, 4))), (row((1, 4)), []), "prediction: .* got 5"),
        ((row((1, 4)), row((0, 3))), (row((1, 4)), []), "instance map of shape"),
        ((row((1, 4)), row((-1, 4))), (row((1, 4)), []), "instances of at least 0"),
    ],
)
def test_bad_input_is_named_and_nothing_is_counted(
    prediction: tuple[Any, Any], target: tuple[Any, Any], words: str
) -> None:
    metric = PanopticQuality(CATEGORIES)
    with pytest.raises(ValueError, match=words):
        metric.update(prediction, target)
    assert metric.compute().all.n == 0


def test_faults_of_segments_are_named() -> None:
    whole = row((1, 4))
    for bad in ({"id": 2}, {"id": 2.0, "category_id": 1}, {"id": "2", "category_id": 1}, 2):
        with pytest.raises(ValueError, match=r"^target: expected an integer id and category_id of segment 1, got .*2"):
            quality((whole, [segment(1, 1)]), (whole, [segment(1, 1), bad]))  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"prediction: expected ids below 2\^63, got 9223372036854775808"):
        quality((np.full((1, 4), 2**63, np.uint64), [segment(1, 1)]), (whole, [segment(1, 1)]))


def test_segments_may_be_objects() -> None:
    ids = row((1, 4), (2, 4))
    infos = [coco.SegmentInfo(1, 1), coco.SegmentInfo(2, 3)]
    assert quality((ids, infos), (ids, [segment(1, 1), segment(2, 3)]))["All"]["pq"] == 1
    one = (deeperlab.Segment(i, c, False, None, 4, (0, 0, 4, 1), None, None) for i, c in ((1, 1), (2, 3)))
    assert quality((ids, list(one)), (ids, infos))["All"]["pq"] == 1


def test_a_listed_target_without_pixels_is_missed() -> None:
    """As panopticapi has it."""
    assert counts(quality((row((1, 4)), [segment(1, 1)]), (row((1, 4)), [segment(1, 1), segment(2, 1)])), 1) == (
        1,
        0,
        1,
    )


@given(
    hnp.arrays(np.int8, (6, 7), elements=st.integers(0, 5)),
    hnp.arrays(np.int8, (6, 7), elements=st.integers(0, 5)),
    st.lists(st.sampled_from([1, 2, 3]), min_size=5, max_size=5),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_no_input_exceeds_one(
    prediction: NDArray[Any], target: NDArray[Any], categories: list[int], crowd: list[bool]
) -> None:
    def listing(ids: NDArray[Any], crowded: bool) -> list[Segment]:
        return [segment(i, categories[i - 1], int(crowded and crowd[i - 1])) for i in set(np.unique(ids)) - {0}]

    metric = Evaluation(CATEGORIES)
    matching = metric.update((prediction, listing(prediction, False)), (target, listing(target, True)))
    result = metric.compute()
    assert matching is not None
    assert all(0.5 < m.iou <= 1 for m in matching.matches)
    assert len({m.target for m in matching.matches}) == len({m.prediction for m in matching.matches})
    for q in (result.pq.all, *result.pq.per_class.values()):
        assert q.pq <= q.sq <= 1 or math.isnan(q.pq)
    for covering in (result.pc.normalized, result.pc.pixel):
        assert all(0 <= v <= 1 or math.isnan(v) for v in (covering.all.pc, *covering.per_class.values()))
    assert 0 <= result.iou.miou <= 1 or math.isnan(result.iou.miou)


def test_maps_must_be_integers_and_pairs() -> None:
    with pytest.raises(TypeError, match="integer map"):
        quality((np.zeros((2, 2)), []), (np.zeros((2, 2), int), []))
    with pytest.raises(TypeError, match=r"expected segments or an instance map, got None; .* divmod\(ids, divisor\)"):
        quality((np.zeros((2, 2), int), None), (np.zeros((2, 2), int), []))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pair"):
        quality(np.zeros((2, 2), int), (np.zeros((2, 2), int), []))  # type: ignore[arg-type]


def scene(rng: np.random.Generator, side: int = 24) -> tuple[NDArray[np.int64], list[Segment]]:
    """Rectangles of random category over stuff and void, some of them crowd."""
    ids = np.full((side, side), 1)
    ids[: rng.integers(0, 6)] = 0
    segments = [segment(1, 3)]
    for i in range(2, 9):
        y, x = rng.integers(0, side - 6, 2)
        ids[y : y + rng.integers(3, 14), x : x + rng.integers(3, 14)] = i
        segments.append(segment(i, int(rng.integers(1, 4)), int(rng.random() < 0.25)))
    present = set(np.unique(ids).tolist())
    return ids, [s for s in segments if s["id"] in present]


def jitter(
    rng: np.random.Generator, ids: NDArray[np.int64], segments: list[Segment]
) -> tuple[NDArray[np.int64], list[Segment]]:
    moved = np.roll(ids, rng.integers(-3, 4, 2), (0, 1))
    changed = [s | {"category_id": int(rng.integers(1, 4))} if rng.random() < 0.1 else s for s in segments]
    return moved, changed


def slow_counts(
    prediction: tuple[NDArray[np.int64], list[Segment]], target: tuple[NDArray[np.int64], list[Segment]]
) -> dict[int, list[float]]:
    """iou, tp, fp, fn per category, mask by mask, as panopticapi's text has it."""
    stat = {c: [0.0, 0, 0, 0] for c in CATEGORIES}
    void = target[0] == 0
    found_p, found_g = set(), set()
    for g in target[1]:
        for p in prediction[1]:
            gm, pm = target[0] == g["id"], prediction[0] == p["id"]
            inter = int((gm & pm).sum())
            if g["iscrowd"] or g["category_id"] != p["category_id"] or not inter:
                continue
            iou = inter / (int(gm.sum()) + int(pm.sum()) - inter - int((pm & void).sum()))
            if iou > 0.5:
                stat[g["category_id"]][0] += iou
                stat[g["category_id"]][1] += 1
                found_p.add(p["id"])
                found_g.add(g["id"])
    crowd = {}
    for g in target[1]:
        if g["iscrowd"] and g["id"] not in found_g:
            crowd[g["category_id"]] = g["id"]
        elif g["id"] not in found_g:
            stat[g["category_id"]][3] += 1
    for p in prediction[1]:
        pm = prediction[0] == p["id"]
        excused = int((pm & void).sum())
        if p["category_id"] in crowd:
            excused += int((pm & (target[0] == crowd[p["category_id"]])).sum())
        if p["id"] not in found_p and not excused / int(pm.sum()) > 0.5:
            stat[p["category_id"]][2] += 1
    return stat


def test_random_scenes_agree_with_a_slow_literal_count_and_merge_adds_up() -> None:
    rng = np.random.default_rng(0)
    whole, parts = PanopticQuality(CATEGORIES), [PanopticQuality(CATEGORIES) for _ in range(3)]
    expected = {c: np.zeros(4) for c in CATEGORIES}
    for i in range(60):
        target = scene(rng)
        prediction = jitter(rng, *target)
        matching = whole.update(prediction, target)
        parts[i % 3].update(prediction, target)
        for c, stat in slow_counts(prediction, target).items():
            expected[c] += stat
        assert all(target[1][m.target]["category_id"] == m.category for m in matching.matches)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    for result in (whole.compute(), parts[0].compute()):
        for c, q in result.per_class.items():
            np.testing.assert_allclose((q.iou, q.tp, q.fp, q.fn), expected[c], rtol=1e-12)
    assert min(expected[c][1] for c in CATEGORIES) > 10  # the scenes do exercise it


def test_merge_wants_the_same_categories() -> None:
    with pytest.raises(ValueError, match="same categories"):
        PanopticQuality({1: True}).merge(PanopticQuality({1: False}))


def test_agrees_with_torchmetrics_where_the_definitions_agree() -> None:
    """No crowd, no predicted void and one segment per stuff category."""
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    detection = pytest.importorskip("torchmetrics.detection", reason="compared with torchmetrics, of deeperlab[dev]")
    rng = np.random.default_rng(1)
    mine = PanopticQuality(CATEGORIES)
    theirs = detection.PanopticQuality(things={1, 2}, stuffs={3}, allow_unknown_preds_category=True)
    for _ in range(8):
        category, instance = np.full((40, 40), 3), np.zeros((40, 40), int)
        for i in range(1, 9):
            y, x = rng.integers(0, 30, 2)
            category[y : y + 12, x : x + 12] = rng.integers(1, 3)
            instance[y : y + 12, x : x + 12] = i
        shift = rng.integers(-2, 3, 2)
        moved = [np.roll(m, shift, (0, 1)) for m in (category, instance)]
        mine.update((moved[0], moved[1]), (category, instance))
        pair = [torch.from_numpy(np.stack(m, -1))[None] for m in (moved, [category, instance])]
        theirs.update(*pair)
    assert mine.compute().all.pq == pytest.approx(float(theirs.compute()), abs=1e-6)


def beside(prediction: list[tuple[int, int]], target: list[tuple[int, int]]) -> tuple[Any, Any]:
    """Maps of one row from runs, followed by eight pixels of id 9."""
    return row(*prediction, (9, 8)), row(*target, (9, 8))


REFERENCES = {
    "crowd of another class": (
        beside([(5, 4), (6, 4)], [(5, 4), (7, 4)]),
        [segment(5, 1), segment(6, 1)],
        [segment(5, 1), segment(7, 2, 1)],
        (0.8333, 1),
    ),
    "two crowds of one class": (
        beside([(5, 4), (6, 5)], [(5, 4), (7, 4), (8, 1)]),
        [segment(5, 1), segment(6, 1)],
        [segment(5, 1), segment(7, 1, 1), segment(8, 1, 1)],
        (0.8333, 1),
    ),
    "crowd stays in the union": (
        beside([(5, 8), (0, 2)], [(5, 6), (7, 4)]),
        [segment(5, 1)],
        [segment(5, 1), segment(7, 1, 1)],
        (0.875, 1),
    ),
    "predicted void": (beside([(5, 5), (0, 3)], [(5, 8)]), [segment(5, 1)], [segment(5, 1)], (0.8125, 1)),
    "predicted void, missed": (beside([(0, 8)], [(5, 8)]), [], [segment(5, 1)], (0.5, 1)),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_where_torchmetrics_differs_panopticapi_is_followed(case: str) -> None:
    """All-PQ of both; torchmetrics knows no crowd (void stands for it) and takes predicted void out of unions."""
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    detection = pytest.importorskip("torchmetrics.detection", reason="compared with torchmetrics, of deeperlab[dev]")
    (prediction, target), predicted, true, (ours, theirs) = REFERENCES[case]
    predicted, true = [*predicted, segment(9, 3)], [*true, segment(9, 3)]
    assert quality((prediction, predicted), (target, true))["All"]["pq"] == pytest.approx(ours, abs=5e-5)

    def stacked(ids: NDArray[Any], segments: list[Segment]) -> Any:
        category = {s["id"]: 0 if s["iscrowd"] else s["category_id"] for s in segments} | {0: 0}
        known = [[[category[i], i] for i in ids[0].tolist()]]
        return torch.tensor([known])

    metric = detection.PanopticQuality(things={1, 2}, stuffs={3}, allow_unknown_preds_category=True)
    metric.update(stacked(prediction, predicted), stacked(target, true))
    assert float(metric.compute()) == pytest.approx(theirs, abs=1e-6)


def test_torchmetrics_counts_two_segments_of_stuff_as_one() -> None:
    target = row((5, 4), (6, 4), (9, 8)), [segment(5, 3), segment(6, 3), segment(9, 1)]
    prediction = row((5, 8), (9, 8)), [segment(5, 3), segment(9, 1)]
    assert quality(prediction, target)["All"]["pq"] == 0.5


TORCHMETRICS_EXAMPLE = (
    [[60, 0, 60, 60], [0, 0, 60, 1], [0, 0, 60, 1], [0, 70, 60, 10], [0, 70, 70, 70]],
    [[60, 1, 60, 1], [1, 1, 60, 1], [1, 1, 60, 10], [1, 70, 10, 10], [1, 70, 70, 70]],
)
"""The prediction and the target of its documentation, as 10·category + instance; things 0 and 1, stuff 6 and 7."""


def test_the_example_in_the_documentation_of_torchmetrics_gives_its_figures() -> None:
    prediction, target = (np.divmod(np.array(m), 10) for m in TORCHMETRICS_EXAMPLE)
    things = {0: True, 1: True, 6: False, 7: False}
    shifted = [(category, np.where(category < 6, instance + 1, 0)) for category, instance in (prediction, target)]
    result = panoptic_quality(shifted[0], shifted[1], things)  # its instance 0 is one of many, ours would be crowd
    assert [round(v, 4) for v in (result.all.pq, result.all.sq, result.all.rq)] == [0.5463, 0.6111, 0.6667]
    assert [round(q.pq, 4) for q in result.per_class.values()] == [0.5185, 0, 0.6667, 1]


def test_the_merge_test_of_tf_models_gives_its_figures() -> None:
    target = np.ones((6, 6), int)
    target[2:4, 1:5] = 2
    good, bad = np.ones((6, 6), int), np.ones((6, 6), int)
    good[2, 1:5] = good[3, 1:3] = 2
    bad[2:4, 3:5] = bad[4, 4] = 2
    segments = [segment(1, 1), segment(2, 1)]
    parts = [PanopticQuality({1: True}), PanopticQuality({1: True})]
    for i, prediction in enumerate((good, good, bad, bad)):
        parts[i % 2].update((prediction, segments), (target, segments))
    parts[0].merge(parts[1])
    q = parts[0].compute().per_class[1]
    assert (q.tp, q.fn, q.fp) == (6, 2, 2)
    assert q.iou == pytest.approx(2 * (28 / 30 + 6 / 8) + 2 * 27 / 32)
    assert q.pq == pytest.approx(0.63177083, abs=5e-9)


def test_match_names_segments_by_their_position() -> None:
    target = row((5, 4), (6, 4), (9, 8)), [segment(9, 3), segment(6, 2), segment(5, 1)]
    prediction = row((1, 4), (2, 4), (3, 8)), [segment(1, 1), segment(2, 1), segment(3, 3)]
    matching = match(prediction, target, CATEGORIES)
    assert set(matching.matches) == {(2, 0, 1, 1.0), (0, 2, 3, 1.0)}
    assert matching.missed == ((1, 2),)
    assert matching.spurious == ((1, 1),)


def test_the_published_example_of_tf_models_gives_its_figure(tf_models: Any) -> None:
    categories, pairs = tf_models
    metric = PanopticQuality(categories)
    for prediction, target in pairs:
        metric.update(prediction, target)
    assert metric.compute().all.pq == pytest.approx(0.6740486629, abs=5e-11)


def test_a_label_set_is_a_mapping_of_categories() -> None:
    from deeperlab.data import labels

    voc = labels.preset("voc")
    assert PanopticQuality(voc).categories == {c.id: c.isthing for c in voc.categories}  # type: ignore[arg-type]
    listed: Any = [{"id": 1, "isthing": 1}]
    with pytest.raises(TypeError, match=r"got list; of a list as in COCO's JSON: .c..id... c..isthing.. for c in"):
        Evaluation(listed)
    with pytest.raises(TypeError, match=r"isthing, got list$"):
        PanopticQuality([1, 2])  # type: ignore[arg-type]


# --- what looks right and is not --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        (
            (row((1, 4)), [segment(1, 1)]),
            (row((1, 3), (-1, 1)), [segment(1, 1)]),
            "target: .* at least 0, got -1; v",
        ),
        (
            (row((1, 3), (-1, 1)), [segment(1, 1)]),
            (row((1, 4)), [segment(1, 1)]),
            "prediction: .* got -1; void is",
        ),
        ((row((1, 3), (255, 1)), [segment(1, 1)]), (row((1, 4)), [segment(1, 1)]), "got 255; void is id 0, or what ig"),
        ((row((1, 4)), row((1, 4))), (row((1, 3), (255, 1)), row((1, 4))), "target: .* got 255; void is negative, or"),
        ((row((1, 3), (255, 1)), row((1, 4))), (row((1, 4)), row((1, 4))), "prediction: .* got 255; void is negative"),
    ],
)
def test_a_void_of_other_rules_is_refused_with_the_rule(
    prediction: tuple[Any, Any], target: tuple[Any, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        quality(prediction, target)


def test_255_that_nothing_lists_is_warned_of() -> None:
    pair = (row((1, 8)), [segment(1, 1)]), (row((1, 5), (255, 3)), [segment(1, 1)])
    with pytest.warns(RoleWarning, match="target: id 255 is not listed, and counts as a segment's; void is id 0, or"):
        assert quality(*pair)["All"]["pq"] == 5 / 8


def test_a_value_may_be_ignored_as_void() -> None:
    ids = (row((1, 8)), [segment(1, 1)]), (row((1, 5), (255, 3)), [segment(1, 1)])
    maps = (row((1, 8)), row((1, 8))), (row((1, 5), (255, 3)), row((1, 5), (255, 3)))
    unsigned = tuple(m.astype(np.uint8) for m in maps[1])
    for prediction, target in (ids, maps, (maps[0], unsigned), (ids[0], unsigned)):
        for metric in (PanopticQuality(CATEGORIES), Evaluation(CATEGORIES)):
            matching = metric.update(prediction, target, ignore=255)
            assert matching.matches[0].iou == 1
        assert metric.compute().iou.miou == metric.compute().pc.pc == 1
        assert match(prediction, target, CATEGORIES, ignore=255).matches[0].iou == 1
    predicted_void = quality((row((1, 5), (0, 3)), [segment(1, 1)]), (row((1, 8)), [segment(1, 1)]))
    metric = PanopticQuality(CATEGORIES)
    metric.update((row((1, 5), (255, 3)), row((1, 8))), (row((1, 8)), row((1, 8))), ignore=255)
    assert metric.compute().to_dict() == predicted_void  # as void always is, it stays in the union
    for ignore, words in (
        (1, "ignore: expected values that are no category, got 1"),
        (5, "ignore: expected an id of no"),
    ):
        with pytest.raises(ValueError, match=words):
            metric.update((row((5, 4)), [segment(5, 1)]), (row((5, 4)), [segment(5, 1)]), ignore=ignore)


@pytest.mark.parametrize("ignore", [(19, 255), {255, 19}, np.array([19, 255])])
def test_several_values_may_be_ignored_as_void(ignore: Any) -> None:
    prediction, several = (row((1, 8)), row((1, 8))), row((1, 5), (255, 2), (19, 1))
    for target in ((several, several), (several, [segment(1, 1)])):
        metric = Evaluation(CATEGORIES)
        assert metric.update(prediction, target, ignore=ignore).matches[0].iou == 1
        assert metric.compute().iou.miou == 1
    one = PanopticQuality(CATEGORIES)
    one.update(prediction, prediction, ignore=np.array(255))
    with pytest.raises(ValueError, match="ignore: expected values that are no category, got 1"):
        one.update(prediction, prediction, ignore=(1, 255))
    with pytest.raises(TypeError, match="ignore: expected an integer or several, got 'void'"):
        one.update(prediction, prediction, ignore="void")


def test_a_prediction_and_a_target_in_the_wrong_order_are_warned_of() -> None:
    ids = row((1, 8), (2, 4))
    truth, found = [segment(1, 1), segment(2, 2, 1)], [{**segment(1, 1), "score": 0.5}, segment(2, 2)]
    with pytest.warns(RoleWarning) as record:
        PanopticQuality(CATEGORIES).update((ids, truth), (ids, found))
    assert [str(warning.message) for warning in record] == [
        "prediction: segments have iscrowd, as those of a ground truth; the order is update(prediction, target)",
        "target: segments have score, as those of a prediction; the order is update(prediction, target)",
    ]
    assert [Path(warning.filename) for warning in record] == [Path(__file__)] * 2
    PanopticQuality(CATEGORIES).update((ids, found), (ids, truth))
    PanopticQuality(CATEGORIES).update((ids, truth), (ids, truth))  # a truth against itself is a test that many do


# --- batches, and a new start -----------------------------------------------------------------------------------------


def test_a_batch_counts_as_its_images() -> None:
    rng = np.random.default_rng(5)
    targets = [scene(rng) for _ in range(3)]
    predictions = [jitter(rng, *target) for target in targets]
    one, batch = Evaluation(CATEGORIES), Evaluation(CATEGORIES)
    matchings = tuple(one.update(p, t) for p, t in zip(predictions, targets, strict=True))
    stacked = [
        (np.stack([ids for ids, _ in side]), [segments for _, segments in side]) for side in (predictions, targets)
    ]
    assert batch.update(*stacked) == matchings
    assert batch.compute().to_dict() == one.compute().to_dict()

    category, instance = rng.integers(1, 4, (2, 3, 9, 9)), rng.integers(1, 3, (2, 3, 9, 9))
    one.reset()
    batch.reset()
    assert batch.compute().pq.all.n == batch.compute().iou.n == 0
    for i in range(3):
        one.update((category[0, i], instance[0, i]), (category[1, i], instance[1, i]))
    batch.update((category[0], instance[0]), (category[1], instance[1]))
    assert batch.compute().to_dict() == one.compute().to_dict()
    assert batch.update((category[0, :0], instance[0, :0]), (category[1, :0], instance[1, :0])) == ()


def test_tensors_are_counted_as_arrays_are() -> None:
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    maps = row((1, 8), (3, 4)), row((1, 12))
    tensors = tuple(torch.from_numpy(m)[None] for m in maps)
    assert quality(tensors, tensors) == quality(maps, maps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prediction", "target", "words"),
    [
        (
            (np.ones((2, 1, 4), int), [[]]),
            (np.ones((2, 1, 4), int), [[], []]),
            "prediction: expected a map or a list",
        ),
        ((np.ones((2, 1, 4), int), [{}, {}]), (np.ones((2, 1, 4), int), [[], []]), "segments for each of 2 images"),
        ((np.ones((1, 1, 4), int),) * 2, (np.ones((2, 1, 4), int),) * 2, "prediction: expected 2 images as of the"),
        ((np.ones((2, 4, 3), int), [{}]), (np.ones((2, 4), int), []), r"or R \+ 256 G \+ 65536 B of a PNG's RGB"),
        ((np.ones((1, 1, 4), int),) * 2, (np.ones((1, 4), int),) * 2, "prediction: expected a batch for a batch"),
        ((np.ones((2, 1, 4), int),) * 2, (np.array([[[1] * 4], [[9] * 4]]),) * 2, "target: .* got 9"),
    ],
)
def test_of_a_batch_with_a_fault_nothing_is_counted(
    prediction: tuple[Any, Any], target: tuple[Any, Any], words: str
) -> None:
    metric = PanopticQuality(CATEGORIES)
    with pytest.raises(ValueError, match=words):
        metric.update(prediction, target)
    assert metric.compute().all.n == 0


def test_what_is_missed_spurious_or_named_wrong_has_ids() -> None:
    target = row((5, 4), (6, 4), (9, 8)), [segment(9, 3), segment(6, 2), segment(5, 1)]
    prediction = row((1, 4), (2, 4), (3, 8)), [segment(1, 1), segment(2, 1), segment(3, 3)]
    matching = match(prediction, target, CATEGORIES)
    assert (matching.missed_ids, matching.spurious_ids) == ((6,), (2,))
    assert matching.wrong_class == ((1, 1, 1.0),)
    named = {(matching.target_ids[m.target], matching.prediction_ids[m.prediction]) for m in matching.matches}
    assert named == {(9, 3), (5, 1)}
    maps = (row((1, 4), (3, 4)), row((7, 4), (0, 4))), (row((1, 4), (3, 4)), row((4, 8)))
    assert match(*maps, CATEGORIES).target_ids == (4, 4)
    assert match(*maps, CATEGORIES).prediction_ids == (7, 0)


def test_an_object_on_void_under_another_name_is_excused_and_not_named_wrong() -> None:
    target = row((5, 3), (0, 5)), [segment(5, 1)]
    matching = match((row((1, 8)), [segment(1, 2)]), target, CATEGORIES)
    assert (matching.spurious, matching.wrong_class) == ((), ())
