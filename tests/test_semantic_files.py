# SPDX-License-Identifier: Apache-2.0
"""A semantic head alone beyond the fusion: files of heads, commands, figures, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import run

import deeperlab
from deeperlab import NO_KEYPOINTS, Heads, visualize
from deeperlab.data import archive, labels
from deeperlab.data.files import FormatError
from deeperlab.metrics import Evaluation
from deeperlab.oracle import Oracle
from deeperlab.predictor.heads_check import examine
from deeperlab.predictor.heads_file import read_heads

RNG = np.random.default_rng(0)
LABELS = labels.preset("cityscapes")


def heads(n: int = 2) -> Heads:
    return Heads.of_semantic(RNG.normal(0, 3, (n, len(LABELS), 9, 13)).astype(np.float32))


def test_a_file_may_hold_the_semantic_head_alone(tmp_path: Path, assert_same: Any) -> None:
    given = heads()
    np.savez(tmp_path / "heads.npz", semantic=given.semantic)
    read = archive.load(tmp_path / "heads.npz")
    assert (read.graph, read.stride) == (NO_KEYPOINTS, 4)
    assert_same(read.semantic, given.semantic)
    ids = RNG.integers(0, 3, (5, 7)).astype(np.uint8)
    np.savez(tmp_path / "labels.npz", semantic=ids, stride=2, num_classes=3)
    assert archive.load(tmp_path / "labels.npz").heatmap.shape == (0, 3, 4)


def test_five_heads_may_say_that_there_are_no_keypoints(tmp_path: Path) -> None:
    given = heads(1)
    none = np.empty((1, 0, 9, 13), np.float32)
    rest = dict.fromkeys(("heatmap", "short_range", "middle_range", "long_range"), none)
    empty = {"keypoints": np.array([], np.str_), "edges": np.empty((0, 2), np.int64)}
    np.savez(tmp_path / "heads.npz", semantic=given.semantic, **rest, **empty)
    assert archive.load(tmp_path / "heads.npz").graph == NO_KEYPOINTS


def test_keypoints_without_their_heads_are_refused(tmp_path: Path) -> None:
    names, edges = np.array(deeperlab.STAR.keypoints), np.array(deeperlab.STAR.edges)
    np.savez(tmp_path / "heads.npz", semantic=heads(1).semantic, keypoints=names, edges=edges)
    with pytest.raises(FormatError, match="keypoints: expected none beside a semantic head alone"):
        archive.load(tmp_path / "heads.npz")
    np.savez(tmp_path / "heads.npz", heatmap=heads(1).heatmap)
    with pytest.raises(FormatError, match=r"missing semantic, short_range"):
        archive.load(tmp_path / "heads.npz")


@pytest.mark.parametrize("layout", [{}, {"grid": "half_pixel", "components": "yx", "units": "nodes"}])
def test_the_commands_take_it(layout: dict[str, str], tmp_path: Path) -> None:
    archive.save(tmp_path / "heads.npz", heads(), image_ids=["a", "b"])
    options = [part for name, value in layout.items() for part in (f"--{name}", value)]
    fused = run("fuse", tmp_path / "heads.npz", "--labels", "cityscapes", "--out", tmp_path / "out", *options)
    assert fused.exit_code == 0, fused.output
    assert "no instances" not in fused.output
    listing = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    for entry in listing["annotations"]:
        classes = [segment["category_id"] for segment in entry["segments_info"]]
        assert len(set(classes)) == len(classes) > 0
    assert np.load(tmp_path / "out" / "panoptic.npz")["keypoints"].shape[2:] == (0, 2)
    checked = run("check", tmp_path / "heads.npz", "--labels", "cityscapes", *options)
    assert checked.exit_code == 0, checked.output
    assert "The heads fit" in checked.output

    where = ("--gt-dir", tmp_path / "out", "--pred-dir", tmp_path / "out")
    judged = run("eval", tmp_path / "out" / "panoptic.json", tmp_path / "out" / "panoptic.json", *where)
    assert judged.exit_code == 0, judged.output


def test_labels_that_are_ids_are_still_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "heads.npz", semantic=RNG.integers(20, 40, (9, 9)).astype(np.int32), num_classes=19)
    report = examine(read_heads(tmp_path / "heads.npz"), range(19), {})
    assert report.faults
    assert not report.rows


def test_the_figures_of_a_semantic_map_by_hand() -> None:
    """Stuff on the left; on the right two things of 8 px, of which the map makes one segment of 16 px."""
    category = np.zeros((4, 8), np.int32)
    category[:, 4:] = 1
    instance = np.zeros((4, 8), np.int32)
    instance[:2, 4:], instance[2:, 4:] = 1, 2
    found = deeperlab.fuse(Heads.of_semantic(category, stride=1, num_classes=2), (1,))
    evaluation = Evaluation({0: False, 1: True})
    ids = np.where(instance > 0, instance, 3).astype(np.int32)
    truth = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in ((1, 1), (2, 1), (3, 0))]
    evaluation.update(found.to_coco(), (ids, truth))
    result = evaluation.compute()
    assert result.iou.miou == 1
    assert (result.pq.stuff.pq, result.pq.things.pq, result.pq.all.pq) == (1, 0, 0.5)  # IoU 1/2 is no match
    assert result.pc.pc == pytest.approx((1 + 0.5) / 2)


def test_pictures_show_segments_and_no_instance() -> None:
    image = RNG.integers(0, 256, (33, 49, 3)).astype(np.uint8)
    (found,) = deeperlab.fuse(heads(1), LABELS.things)
    assert visualize.overlay(image, found, LABELS).shape == image.shape
    assert visualize.instances(image, found, LABELS, graph=NO_KEYPOINTS).shape == image.shape


def test_the_oracle_judges_instances_and_refuses_to_judge_none() -> None:
    with pytest.raises(ValueError, match="graph: expected keypoints, by which instances are found"):
        Oracle(None, graph=NO_KEYPOINTS)  # type: ignore[arg-type]
