# SPDX-License-Identifier: Apache-2.0
"""The oracle: what perfect heads reach, and that every kind of loss is told by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deeperlab import FuseParams, Heads, fuse
from deeperlab.data.files import FaultyFilesError
from deeperlab.data.formats import coco
from deeperlab.oracle import Oracle
from deeperlab.oracle.ceiling import assigned_to
from deeperlab.oracle.diagnose import Candidates, Diagnosis, Lost, Truth
from deeperlab.targets import encode_heads

CATEGORIES = (coco.Category(1, "person", True), coco.Category(3, "car", True), coco.Category(92, "grass", False))
THINGS = [0, 1]

Boxes = dict[int, tuple[int, int, int, int]]
"""Segment id → y0, y1, x0, x1."""


def drawn(boxes: Boxes, size: tuple[int, int] = (97, 129)) -> NDArray[np.int32]:
    """Rectangles, later ones in front, on segment 9; all void above row 4."""
    ids = np.full(size, 9, np.int32)
    for i, (y0, y1, x0, x1) in boxes.items():
        ids[y0:y1, x0:x1] = i
    ids[:4] = 0
    return ids


def data_set(
    folder: Path, ids: NDArray[np.int32], crowd: tuple[int, ...] = (), cars: tuple[int, ...] = ()
) -> coco.Dataset:
    category = {int(i): 92 if i == 9 else 3 if i in cars else 1 for i in np.unique(ids)}
    segments = tuple(replace(s, iscrowd=s.id in crowd) for s in coco.describe(ids, category))
    coco.write(folder / "gt.json", folder, [(coco.Annotation(5, "5.png", segments), ids)], CATEGORIES)
    return coco.read(folder / "gt.json", folder)


PAIR: Boxes = {1: (20, 80, 10, 50), 2: (30, 60, 70, 110)}


@pytest.mark.parametrize("stride", [1, 4, 5])
def test_simple_annotations_come_back_whole(tmp_path: Path, stride: int) -> None:
    judge = Oracle(data_set(tmp_path, drawn(PAIR), cars=(2,)), stride=stride)
    images = [report.to_dict() for report in judge]
    summary = judge.summary(images)
    assert summary["pq"]["All"]["rq"] == 1
    assert summary["pq"]["All"]["n"] == 3
    assert summary["pq"]["All"]["pq"] > (0.999999 if stride == 1 else 0.95)
    assert abs(summary["pq"]["All"]["pq"] - summary["ceiling"]["All"]["pq"]) < 0.01
    (image,) = json.loads(json.dumps(summary, allow_nan=False))["images"]
    assert (image["image_id"], image["lost"], image["left_out_px"]) == (5, [], 4 * 129)
    assert image["pq"] == summary["pq"]["All"]["pq"]


def test_crowd_is_neither_scored_nor_does_it_disturb(tmp_path: Path) -> None:
    """A small car within a crowd of persons keeps its class."""
    ids = drawn({1: (20, 90, 20, 90), 2: (50, 62, 50, 60)})
    judge = Oracle(data_set(tmp_path, ids, crowd=(1,), cars=(2,)), stride=1)
    (report,) = judge
    assert report.lost == ()
    assert report.pq.all.pq == 1
    assert report.pq.per_class[1].tp == 0
    assert report.left_out == int(((ids == 0) | (ids == 1)).sum())
    assert "left out" in judge.summary([])["note"]


def test_two_things_of_equal_box_and_center_are_one_point_of_the_representation(tmp_path: Path) -> None:
    ids = drawn({})
    ids[20:81, 20:81] = 1
    ids[22:79, 22:79] = 9
    ids[[20, 80], 50] = 2
    ids[50, [20, 80]] = 2
    (report,) = Oracle(data_set(tmp_path, ids), stride=1)
    assert {lost.stage for lost in report.lost} == {"representation"}
    assert report.ceiling.things.pq < 1


def test_a_data_set_without_things_or_without_labels_is_scored(tmp_path: Path) -> None:
    (report,) = Oracle(data_set(tmp_path, drawn({})))
    assert report.pq.all.pq == 1
    (report,) = Oracle(data_set(tmp_path, drawn({}) * 0))
    assert report.to_dict()["pq"] is None
    data = replace(data_set(tmp_path, drawn({})), categories=CATEGORIES[2:])
    (report,) = Oracle(data)
    assert report.pq.all.pq == 1


def test_stages_end_in_what_fuse_gives(tmp_path: Path) -> None:
    """The stages that the diagnosis looks at are those of the fusion itself."""
    truth, heads = prepared(tmp_path, PAIR)
    params = FuseParams(box_iou=1.0)
    found = fuse(heads, THINGS, size=truth.size, params=params)
    accepted = Candidates.of(heads, THINGS, truth.size, params).without_nms
    kept = found.keypoints[: int(found.count)]
    assert {k.tobytes() for k in accepted} == {k.tobytes() for k in kept}


def prepared(folder: Path, boxes: Boxes, cars: tuple[int, ...] = ()) -> tuple[Truth, Heads]:
    data = data_set(folder, drawn(boxes), cars=cars)
    (annotation,) = data.annotations
    truth = Truth.of(data.ids(annotation), annotation.segments, data.categories)
    return truth, encode_heads(truth.category, truth.instance, len(CATEGORIES), stride=4, ignore=-1)


def explained(truth: Truth, heads: Heads, params: FuseParams, number: int, lost_anyway: bool = False) -> Lost:
    found = fuse(heads, THINGS, size=truth.size, params=params)
    best = assigned_to(truth.keypoints, heads, THINGS, truth.size, params)
    return Diagnosis(heads, THINGS, params, truth, found, best).explain(truth.segments[number], lost_anyway)


def test_no_peak_is_a_loss_of_vote(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, PAIR)
    lost = explained(truth, heads, FuseParams(peak_threshold=1000.0), 0)
    assert (lost.stage, lost.segment_id, lost.category, lost.area) == ("vote", 1, "person", 60 * 40)
    assert lost.reason == "no peak within 8 px of its keypoints; there is none"
    heatmap, semantic = heads.heatmap.copy(), heads.semantic.copy()
    heatmap[:, :, :19] = -90  # neither short votes around the first, nor long ones on it
    semantic[2, :, :15] = 20
    lost = explained(truth, replace(heads, heatmap=heatmap, semantic=semantic), FuseParams(), 0)
    assert lost.stage == "vote"
    assert "the nearest is" in lost.reason


def test_no_hypothesis_is_a_loss_of_trace(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, PAIR)
    lost = explained(truth, replace(heads, middle_range=heads.middle_range * 0), FuseParams(), 0)
    assert lost.stage == "trace"
    assert "peaks, but the best hypothesis is" in lost.reason


def test_hypotheses_that_fit_another_better_are_a_loss_of_trace(tmp_path: Path) -> None:
    """The heads know the first alone, the truth has a twin 1 px beside it."""
    truth, heads = prepared(tmp_path, PAIR)
    twins = np.concatenate((truth.keypoints, truth.keypoints[:1] + np.float32(1)))
    segments = (*truth.segments, coco.SegmentInfo(3, 1))
    instance = truth.instance.copy()
    instance[20:80, 49] = 3
    twin = replace(truth, keypoints=twins, segments=segments, instance=instance)
    lost = explained(twin, heads, FuseParams(), 2)
    assert lost.stage == "trace"
    assert lost.reason.endswith("px off, nearer to person 1")


def test_a_low_score_is_a_loss_of_rescore(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, PAIR)
    lost = explained(truth, heads, FuseParams(instance_threshold=1.0), 0)
    assert lost.stage == "rescore"
    assert "below instance_threshold 1" in lost.reason


def test_box_overlap_and_nearness_are_losses_of_select(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, {1: (20, 80, 10, 70), 2: (30, 80, 15, 75)})
    kept = fuse(heads, THINGS, size=truth.size, params=FuseParams(box_iou=0.1)).keypoints[0]
    number = int(np.abs(truth.keypoints - kept).sum((1, 2)).argmax())
    lost = explained(truth, heads, FuseParams(box_iou=0.1), number)
    assert lost.stage == "select"
    assert lost.reason.startswith("box NMS: box IoU 0.7")
    assert f"with person {2 - number}" in lost.reason
    near = FuseParams(nms_radius=60.0, nms_radius_min=60.0, box_iou=1.0)
    kept = fuse(heads, THINGS, size=truth.size, params=near).keypoints[0]
    number = int(np.abs(truth.keypoints - kept).sum((1, 2)).argmax())
    lost = explained(truth, heads, near, number)
    assert lost.stage == "select"
    assert lost.reason.startswith("rejected as near an accepted instance: ")
    full = FuseParams(max_instances=1, box_iou=1.0)
    kept = fuse(heads, THINGS, size=truth.size, params=full).keypoints[0]
    number = int(np.abs(truth.keypoints - kept).sum((1, 2)).argmax())
    assert explained(truth, heads, full, number).reason == "no room among max_instances = 1"


def test_pixels_that_go_elsewhere_are_a_loss_of_assign(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, {1: (20, 80, 10, 50), 2: (20, 80, 51, 110)})
    long_range = heads.long_range.copy()
    for k in range(5):  # the right three quarters of the first point to the second
        for axis in (0, 1):
            coordinate = (4 * np.indices(long_range.shape[1:]))[1 - axis]
            target = truth.keypoints[1, k, axis] - coordinate
            long_range[2 * k + axis][5:20, 4:13] = target[5:20, 4:13]
    lost = explained(truth, replace(heads, long_range=long_range), FuseParams(long_short_steps=0), 0)
    assert lost.stage == "assign"
    assert "% person 2" in lost.reason
    assert "its own instance" in lost.reason
    assert lost.iou < 0.3


def test_a_wrong_class_is_a_loss_of_merge(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, PAIR, cars=(2,))
    semantic = heads.semantic.copy()
    semantic[[0, 1], 7:15, 17:28] = semantic[[1, 0], 7:15, 17:28]
    lost = explained(truth, replace(heads, semantic=semantic), FuseParams(), 1)
    assert lost.stage == "merge"
    assert lost.reason.endswith("the majority voted person")


def test_an_iou_just_too_low_is_border_and_a_loss_with_true_keypoints_is_of_the_representation(tmp_path: Path) -> None:
    truth, heads = prepared(tmp_path, PAIR)
    semantic = heads.semantic.copy()
    semantic[2, :, :9] = 20.0  # grass over the left of the first
    spoiled = replace(heads, semantic=semantic)
    lost = explained(truth, spoiled, FuseParams(), 0)
    assert lost.stage == "border"
    assert 0.3 <= lost.iou <= 0.5
    assert "% grass" in lost.reason
    lost = explained(truth, spoiled, FuseParams(), 0, lost_anyway=True)
    assert lost.stage == "representation"
    assert lost.reason.startswith("with its true keypoints, border: ")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "5.png").write_bytes(b"no"), r"5\.png: not a PNG"),
        (lambda f: coco.write_ids(f / "5.png", drawn({1: (20, 80, 10, 50)})), r"5\.png: no pixel of id 2"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    data = data_set(tmp_path, drawn(PAIR))
    spoil(tmp_path)
    with pytest.raises(coco.FormatError, match=words):
        list(Oracle(data))


def test_several_bad_files_are_named_before_any_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_set(tmp_path, drawn(PAIR))
    (annotation,) = data.annotations
    monkeypatch.setattr(Oracle, "image", None)
    (tmp_path / "6.png").write_bytes(b"no")
    more = tuple(replace(annotation, image_id=i, file_name=f"{i}.png") for i in (6, 7))
    with pytest.raises(FaultyFilesError, match=r"2 faults: .*6\.png: not a PNG; .*7\.png"):
        list(Oracle(replace(data, annotations=(annotation, *more))))


def test_a_segment_of_id_zero_and_bad_arguments_are_refused(tmp_path: Path) -> None:
    data = data_set(tmp_path, drawn(PAIR))
    (annotation,) = data.annotations
    void = replace(annotation, segments=(*annotation.segments, coco.SegmentInfo(0, 92)))
    with pytest.raises(coco.FormatError, match=r"5\.png: id 0, which is void"):
        Oracle(data).image(void)
    with pytest.raises(ValueError, match="stride: expected at least 1, got 0"):
        Oracle(data, stride=0)
    with pytest.raises(ValueError, match="radius"):
        Oracle(data, radius=0)


@pytest.mark.parametrize("stride", [1, 4])
def test_real_photos_reach_their_aims(realdata: Path, stride: int) -> None:
    folder = realdata / "panopticapi_sample"
    judge = Oracle(coco.read(folder / "panoptic_examples.json", folder / "panoptic_examples"), stride=stride)
    reports = list(judge)
    pq, ceiling = judge.pq.compute(), judge.ceiling.compute()
    assert sum(report.left_out for report in reports) == 27007 + 15449
    assert not any(report.lost for report in reports)
    assert pq.all.n == 8
    assert pq.all.pq >= (0.999 if stride == 1 else max(0.97, ceiling.all.pq - 0.005))
    assert pq.things.pq >= (0.999 if stride == 1 else 0.97)
