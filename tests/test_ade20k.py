# SPDX-License-Identifier: Apache-2.0
"""ADE20K: instances of the challenge over its classes, and the full data set by the names of its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import ade20k
from deeperlab.data.files import FormatError
from deeperlab.data.labels import preset

CLASSES = np.array([[0, 1, 8], [8, 8, 150]], np.uint8)
"""Void, wall, bed, flag."""
THINGS = np.array([[[0, 0, 0], [0, 0, 0], [1, 3, 9]], [[1, 3, 9], [2, 4, 9], [0, 0, 9]]], np.uint8)
"""The first thing class is bed, the second windowpane; blue says nothing."""


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, values in (("annotations", CLASSES), ("annotations_instance", THINGS)):
        save(tmp_path / folder / "training" / "ADE_train_00000001.png", values)
    save(tmp_path / "images" / "training" / "ADE_train_00000001.jpg", THINGS)
    return tmp_path


def test_the_preset_has_100_things_and_50_kinds_of_stuff() -> None:
    labels = preset("ade20k")
    assert (len(labels), len(labels.things)) == (150, 100)
    assert labels.ids == tuple(range(1, 151))
    assert [labels.names[c] for c in labels.things[:3]] == ["bed", "windowpane, window", "cabinet"]
    assert labels.names[labels.things[-1]] == "flag"


def test_instances_count_where_both_say_something(root: Path) -> None:
    (sample,) = ade20k.samples(root, "training")
    assert sample.image_id == "ADE_train_00000001"
    assert sample.category.tolist() == [[-1, 0, 7], [7, 8, 149]]
    assert sample.instance.tolist() == [[0, 0, 1], [1, 2, 0]]
    assert sample.categories.tolist() == [7, 8]
    assert sample.crowd.tolist() == [[False, False, False], [False, False, True]]
    assert sample.image().shape == (2, 3, 3)


def test_without_instances_all_things_are_crowd(root: Path) -> None:
    (root / "annotations_instance").rename(root / "away")
    (sample,) = ade20k.samples(root, "training")
    assert sample.category.tolist() == [[-1, 0, 7], [7, 7, 149]]
    assert sample.crowd.tolist() == [[False, False, True], [True, True, True]]


def test_maps_that_do_not_fit_are_named(root: Path) -> None:
    path = root / "annotations_instance" / "training" / "ADE_train_00000001.png"
    save(path, np.where(THINGS == 2, 101, THINGS).astype(np.uint8))
    with pytest.raises(FormatError, match=r"annotations_instance.*: red: expected 1 to 100, the things of ade20k"):
        ade20k.samples(root, "training")[0]
    save(path, THINGS[:1])
    with pytest.raises(FormatError, match=r"expected 2 × 3 px as .*, got 1 × 3"):
        ade20k.samples(root, "training")[0]
    save(
        root / "annotations" / "training" / "ADE_train_00000001.png", np.where(CLASSES == 1, 151, CLASSES).astype("u1")
    )
    save(path, THINGS)
    with pytest.raises(FormatError, match="expected category ids of ade20k, got 151"):
        ade20k.samples(root, "training")[0]


def full(root: Path, objects: list[dict[str, object]]) -> Path:
    """Of the numbers 312 (building), 774 (door), 64 (ashcan), 3000."""
    folder = root / "images" / "ADE" / "training" / "urban" / "street"
    rows = [[(10, 56, 1), (30, 6, 2), (30, 6, 3)], [(0, 64, 4), (110, 184, 5), (0, 0, 0)]]
    save(folder / "ADE_train_1_seg.png", np.array(rows, np.uint8))
    save(folder / "ADE_train_1.jpg", THINGS)
    text = json.dumps({"annotation": {"object": objects, "note": "é"}}, ensure_ascii=False)
    (folder / "ADE_train_1.json").write_text(text, encoding="latin-1")
    return folder


def test_the_full_data_set_goes_by_the_names_of_its_classes(tmp_path: Path) -> None:
    names = {312: "building, edifice", 774: "door", 64: "ashcan, trash can", 3000: "unicorn"}
    full(tmp_path, [{"name": name, "name_ndx": number} for number, name in names.items()])
    layout = ade20k.find(tmp_path)
    assert layout is not None
    (sample,) = layout.splits["training"]()
    assert sample.category.tolist() == [[1, 14, 14], [138, -1, -1]]
    assert sample.instance.tolist() == [[0, 1, 2], [3, 0, 0]]
    assert sample.image().shape == (2, 3, 3)


def test_a_name_that_two_classes_have_is_void(tmp_path: Path) -> None:
    folder = full(tmp_path, [{"name": "screen", "name_ndx": 774}])
    assert (ade20k.full(folder)[0].category == -1).all()


def test_a_json_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    folder = full(tmp_path, [])
    for text, words in (("{", "not JSON"), ("[" * 10000, "not JSON"), ("[]", "expected an object"), ("{}", "no key")):
        (folder / "ADE_train_1.json").write_text(text)
        with pytest.raises(FormatError, match=rf"ADE_train_1\.json: {words}"):
            ade20k.full(folder)[0]
    (folder / "ADE_train_1.json").unlink()
    with pytest.raises(FormatError, match=r"ADE_train_1\.json: no such file, which names the classes"):
        ade20k.full(folder)[0]


def test_real_files_are_read(realdata: Path) -> None:
    labels = preset("ade20k")
    (sample,) = ade20k.full(realdata / "formats" / "ade20k_full")
    names = [labels.names[c].split(",")[0] for c in sample.categories]
    assert names == ["car", *["signboard"] * 2, *["streetlight"] * 3, *["van"] * 2, "fountain", *names[9:]]
    assert names[9:] == ["trade name", "traffic light", "ashcan"]
    assert sample.image().shape[:2] == sample.category.shape
    samples = ade20k.samples(realdata / "formats" / "ade20k_150", "")
    assert len(samples) == 3
    for sample in samples:
        assert sample.image().shape[:2] == sample.category.shape
        assert sample.crowd.any() == np.isin(sample.category, labels.things).any()
