# SPDX-License-Identifier: Apache-2.0
"""COCO instances: masks are pycocotools', the smaller instance is in front, and the rest is some stuff."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from deeperlab.data import instances
from deeperlab.data.files import FormatError
from deeperlab.data.labels import LabelSet, preset

LABELS = LabelSet(
    "farm", ("cow", "pen", "sky", "meadow"), (True, True, False, False), ((0, 0, 0),) * 4, (4, 9, 20, 21), (0,)
)
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]
"""Covers x, y from 1 to 4."""
INNER = [[2, 2, 4, 2, 4, 4, 2, 4]]


def annotation(category_id: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": category_id, "segmentation": segmentation, "iscrowd": 0} | more


def write(root: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    names = {4: "cow", 9: "pen"}
    content = {
        "images": [{"id": 3, "file_name": "3.jpg", "height": 6, "width": 8}],
        "annotations": [{"id": i} | one for i, one in enumerate(annotations)],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
    }
    path = root / "instances_train.json"
    path.write_text(json.dumps(content | more))
    return path


def test_the_smaller_instance_is_in_front_whatever_the_order(tmp_path: Path) -> None:
    for order in ((0, 1), (1, 0)):
        both = annotation(9, SQUARE), annotation(4, INNER)
        (sample,) = instances.samples(write(tmp_path, *(both[i] for i in order)), labels=LABELS)
        expected = np.full((6, 8), -1)
        expected[1:5, 1:5], expected[2:4, 2:4] = 1, 0
        np.testing.assert_array_equal(sample.category, expected)
        assert sample.categories.tolist() == [0, 1]
        np.testing.assert_array_equal(sample.instance, np.where(expected < 0, 0, expected + 1))


def test_of_two_of_one_area_the_first_is_in_front_and_a_hidden_one_is_none(tmp_path: Path) -> None:
    (sample,) = instances.samples(write(tmp_path, annotation(9, SQUARE), annotation(4, SQUARE)), labels=LABELS)
    assert sample.categories.tolist() == [1]


def test_pixels_of_no_instance_are_some_stuff_or_the_only_stuff_class(tmp_path: Path) -> None:
    path = write(tmp_path, annotation(4, SQUARE))
    (sample,) = instances.samples(path, labels=LABELS)
    assert sample.some_stuff is not None
    np.testing.assert_array_equal(sample.some_stuff, sample.instance == 0)
    assert sample.category[0, 0] == -1
    samples = instances.samples(path)
    assert samples.labels.names == ("cow", "pen", instances.BACKGROUND)
    assert samples.labels.things == (0, 1)
    assert samples[0].some_stuff is None
    assert samples[0].category[0, 0] == 2


def test_crowd_is_crowd_and_behind_all(tmp_path: Path) -> None:
    crowd = {"size": [6, 8], "counts": [8, 3, 37]}  # down the columns: x = 1, y = 2, 3, 4
    (sample,) = instances.samples(write(tmp_path, annotation(9, INNER), annotation(4, crowd, iscrowd=1)), labels=LABELS)
    np.testing.assert_array_equal(np.argwhere(sample.crowd), [[2, 1], [3, 1], [4, 1]])
    assert not sample.instance[sample.crowd].any()
    assert (sample.category[sample.crowd] == 0).all()


def test_packed_run_lengths_are_read(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8), np.uint8, order="F")
    pixels[2:4, 3:7] = 1
    packed = masks.encode(pixels)
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    (sample,) = instances.samples(write(tmp_path, annotation(4, rle)), labels=LABELS)
    np.testing.assert_array_equal(sample.instance, pixels)


def test_an_image_without_instances_is_there(tmp_path: Path) -> None:
    (sample,) = instances.samples(write(tmp_path), labels=LABELS)
    assert sample.some_stuff is not None
    assert sample.some_stuff.all()
    assert not sample.crowd.any()


def test_labels_need_a_class_for_the_rest(tmp_path: Path) -> None:
    things = LabelSet("things", ("cow", "pen"), (True, True), ((0, 0, 0),) * 2, (4, 9), (0,))
    with pytest.raises(FormatError, match=r"things has no stuff class.*; add one, such as background"):
        instances.samples(write(tmp_path), labels=things)


def test_categories_that_disagree_are_named_with_both_lists(tmp_path: Path) -> None:
    other = LabelSet("zoo", ("lion", "pen", "grass"), (True, True, False), ((0, 0, 0),) * 3, (4, 9, 20), (0,))
    with pytest.raises(
        FormatError,
        match=r"\.json: category 4 \(cow\) is not in zoo; zoo has lion, pen, grass; the file has cow, pen",
    ):
        instances.samples(write(tmp_path), labels=other, exact=True)
    stuff = LabelSet("stuff", ("cow", "pen"), (True, False), ((0, 0, 0),) * 2, (4, 9), (0,))
    with pytest.raises(FormatError, match=r"category 9 \(pen\) is a thing, but not so in stuff; stuff has cow, pen"):
        instances.samples(write(tmp_path), labels=stuff, exact=True)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 5, 1]], "expected polygons of at least three x, y"),
        ([[1, 1, 5, 1, 5]], "expected polygons of at least three x, y"),
        ([[1, 1, 5, 1, 5, "a"]], "expected polygons"),
        ([3], "expected polygons"),
        ([[1, 1, 5, 1, 5, 1e300]], r"expected coordinates in px of the image, got 1e\+300"),
        ([[0, 0, 1e6, 1e6] * 3], "expected a polygon of at most 4,194,304 px around"),
        ({"size": [6, 9], "counts": [54]}, r"size: expected \[6, 8\] as of the image, got \[6, 9\]"),
        ({"size": [6, 8], "counts": [40]}, "counts: expected runs of 48 px in all"),
        ({"size": [6, 8], "counts": [-1, 49]}, "counts: expected runs of 48 px in all"),
        ({"size": [6, 8], "counts": "P"}, "damaged run lengths"),
        ({"size": [6, 8], "counts": "ooooooooooooooo"}, "damaged run lengths"),
        ({"size": [6, 8], "counts": "é"}, "damaged run lengths"),
        ({"counts": [48]}, "no key 'size'"),
    ],
)
def test_a_mask_that_cannot_be_drawn_is_named(segmentation: Any, words: str, tmp_path: Path) -> None:
    samples = instances.samples(write(tmp_path, annotation(4, SQUARE), annotation(4, segmentation)), labels=LABELS)
    with pytest.raises(FormatError, match=rf"instances_train\.json: annotations\[1\].*{words}"):
        samples[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"annotations": [{"image_id": 3, "segments_info": []}]}, "got panoptic annotations.*segments reads"),
        ({"annotations": [annotation(4, SQUARE, image_id=8)]}, "image_id 8 is not in images"),
        ({"annotations": [annotation(5, SQUARE)]}, "category_id 5 is not in categories"),
        ({"images": [{"id": 3, "file_name": "../3.jpg", "height": 6, "width": 8}]}, "inside the folder"),
        ({"images": [{"id": 3, "file_name": "3.jpg", "height": 60000, "width": 60000}]}, "too many pixels"),
        ({"images": [{"id": 3, "file_name": "3.jpg", "height": -1, "width": -8}]}, "at least 1 px"),
        ({"images": [{"id": 3, "file_name": "3.jpg"}]}, "no key 'height'"),
        ({"categories": []}, "categories"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=words):
        instances.samples(write(tmp_path, **content))


def test_samples_can_be_pickled(tmp_path: Path) -> None:
    samples = instances.samples(write(tmp_path, annotation(4, SQUARE)), labels=LABELS)
    assert pickle.loads(pickle.dumps(samples))[0].categories.tolist() == [0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_of_real_annotations_are_those_of_pycocotools(realdata: Path) -> None:
    path = realdata / "coco_instances" / "instances.json"
    content = json.loads(path.read_text())
    labels = preset("coco")
    samples = instances.samples(path, labels=labels, exact=True)
    assert len(samples) == 572
    entries = [entry.image_id for entry in samples.entries]
    for image in content["images"][::12]:
        sample = samples[entries.index(image["id"])]
        size = image["height"], image["width"]
        assert sample.category.shape == size
        covered, expected = np.zeros(size, bool), np.zeros(size, bool)
        areas = []
        for one in content["annotations"]:
            if one["image_id"] == image["id"]:
                rle = masks.frPyObjects(one["segmentation"], *size)
                pixels = masks.decode(masks.merge(rle) if isinstance(rle, list) else rle).astype(bool)
                covered |= pixels
                if not one["iscrowd"]:
                    areas.append(int(pixels.sum()))
                    expected |= pixels
        np.testing.assert_array_equal(sample.instance > 0, expected)
        assert sample.some_stuff is not None
        np.testing.assert_array_equal(sample.some_stuff, ~covered)
        if areas:  # nothing is in front of the smallest
            assert min(areas) in np.bincount(sample.instance.ravel())
