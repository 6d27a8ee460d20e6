# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas: 16 bits stay 16 bits, v // 256 and v % 256, both versions of folders, the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.data.files import FormatError
from deeperlab.data.formats import vistas
from deeperlab.data.labels import LabelSet, preset

NAME = "8kFP7s0ElfmDHqDMG0JUvQ"
# v1.2: 0 bird (thing), 13 road, 55 car (thing), 65 unlabeled
LABEL = np.array([[65, 13, 13, 0], [55, 55, 55, 0], [55, 55, 13, 13]])
IDENTITY = np.array([[0, 0, 0, 0], [0, 201, 201, 255], [0, 201, 0, 0]])
CATEGORY = np.where(LABEL == 65, -1, LABEL)
INSTANCE = np.array([[0, 0, 0, 1], [3, 4, 4, 2], [3, 4, 0, 0]])


def config(labels: LabelSet) -> dict[str, Any]:
    """As the data set's own, whose last label is not evaluated."""
    listed = [
        {"name": n.lower(), "readable": n, "color": list(c), "instances": t, "evaluate": True}
        for n, c, t in zip(labels.names, labels.colors, labels.isthing, strict=True)
    ]
    void = {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "instances": False}
    return {"version": "1.2", "mapping": "public", "labels": [*listed, void | {"evaluate": False}]}


def write(base: Path, label: NDArray[Any], identity: NDArray[Any], panoptic_json: str, labels: LabelSet) -> None:
    for folder in ("instances", "labels", "panoptic"):
        (base / folder).mkdir(parents=True)
    values = (label * 256 + identity).astype(np.uint16)
    Image.fromarray(values).save(base / "instances" / f"{NAME}.png")
    picture = Image.fromarray(label.astype(np.uint8), "L")
    picture.putpalette([channel for color in labels.colors for channel in color] + [0] * 9)
    picture.save(base / "labels" / f"{NAME}.png")

    ids = np.zeros(label.shape, np.int64)
    infos = []
    for i, value in enumerate(np.unique(values).tolist(), start=1):
        category = value // 256 + 1
        if category in labels.ids:
            ids[values == value] = i
            infos.append({"id": i, "category_id": category, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]})
    rgb = np.stack([ids % 256, ids // 256, ids * 0], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(base / "panoptic" / f"{NAME}.png")
    root = {
        "images": [{"id": NAME, "file_name": f"{NAME}.jpg", "width": 4, "height": 3}],
        "annotations": [{"image_id": NAME, "file_name": f"{NAME}.png", "segments_info": infos}],
        "categories": [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in labels.categories],
    }
    (base / "panoptic" / panoptic_json).write_text(json.dumps(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One image of v1.2, as distributed."""
    write(tmp_path / "training" / "v1.2", LABEL, IDENTITY, "panoptic_2018.json", preset("vistas"))
    (tmp_path / "training" / "images").mkdir()
    Image.new("RGB", (4, 3), (200, 200, 200)).save(tmp_path / "training" / "images" / f"{NAME}.jpg")
    return tmp_path


@pytest.mark.parametrize("source", ["instances", "panoptic"])
def test_instances_and_panoptic_say_the_same(root: Path, source: str) -> None:
    (sample,) = vistas.samples(root, "training", source=source)
    assert sample.image_id == NAME
    np.testing.assert_array_equal(sample.category, CATEGORY)
    np.testing.assert_array_equal(sample.instance, INSTANCE)
    assert not sample.crowd.any()
    assert sample.categories.tolist() == [0, 0, 55, 55]
    assert sample.image().shape == (3, 4, 3)


def test_the_factor_is_256_and_not_255(root: Path) -> None:
    """Label 55, instance 201: 14281 // 255 would be 56, and class 0, instance 255 another class."""
    (sample,) = vistas.samples(root, "training")
    assert (55 * 256 + 201) // 255 == 56
    assert sample.category[1].tolist() == [55, 55, 55, 0]


def test_class_zero_instance_zero_is_a_bird(root: Path) -> None:
    """Its value in the file is 0, which elsewhere is void."""
    (sample,) = vistas.samples(root, "training")
    assert (sample.category[0, 3], sample.instance[0, 3]) == (0, 1)
    ids, infos = sample.to_coco(preset("vistas"))
    assert ids[0, 3] == 1
    assert infos[0].category_id == 1


def test_labels_tell_no_instances(root: Path) -> None:
    (sample,) = vistas.samples(root, "training", source="labels")
    np.testing.assert_array_equal(sample.category, CATEGORY)
    np.testing.assert_array_equal(sample.crowd, INSTANCE > 0)


def test_folders_without_a_version_are_those_of_v1_1(root: Path) -> None:
    for folder in ("instances", "labels", "panoptic"):
        (root / "training" / "v1.2" / folder).rename(root / "training" / folder)
    (root / "training" / "v1.2").rmdir()
    for source in vistas.SOURCES:
        (sample,) = vistas.samples(root, "training", source=source)
        np.testing.assert_array_equal(sample.category, CATEGORY)


def test_a_configuration_is_the_label_set(root: Path) -> None:
    (root / "config_v1.2.json").write_text(json.dumps(config(preset("vistas"))))
    labels = vistas.samples(root, "training").labels
    assert labels.name == "config_v1.2"
    for field in ("names", "isthing", "colors", "ids", "void_ids", "ignore"):
        assert getattr(labels, field) == getattr(preset("vistas"), field)


def test_v2_needs_its_configuration_and_may_have_void_anywhere(root: Path) -> None:
    listed = [
        {"name": "a--group", "readable": "Group", "color": [1, 1, 1], "instances": True, "evaluate": False},
        {"name": "a--person", "readable": "Same", "color": [2, 2, 2], "instances": True, "evaluate": True},
        {"name": "b--road", "readable": "Same", "color": [3, 3, 3], "instances": False, "evaluate": True},
    ]
    labels = LabelSet("x", ("a--person", "b--road"), (True, False), ((2, 2, 2), (3, 3, 3)), (2, 3), (1,))
    label = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 2, 1]])
    identity = np.array([[0, 1, 0, 0], [0, 0, 0, 7], [0, 0, 0, 7]])
    write(root / "training" / "v2.0", label, identity, "panoptic_2020.json", labels)
    with pytest.raises(FormatError, match=r"no config_v2\.0\.json, whose labels v2\.0 needs"):
        vistas.samples(root, "training", version="v2.0")
    (root / "config_v2.0.json").write_text(json.dumps({"labels": listed}))
    for source in vistas.SOURCES:
        samples = vistas.samples(root, "training", version="v2.0", source=source)
        assert samples.labels.names == ("a--person", "b--road")  # readable names may repeat
        np.testing.assert_array_equal(samples[0].category, label - 1)
        if source != "labels":
            np.testing.assert_array_equal(samples[0].instance, [[0, 0, 1, 1], [0, 0, 0, 2], [0, 0, 0, 2]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no key 'labels'"),
        ('{"labels": [{"evaluate": true}]}', r"labels\[0\]: no key 'readable'"),
        ('{"labels": [{"evaluate": 3}]}', "evaluate: expected 0 or 1, got 3"),
        ('{"labels": [{"evaluate": false}]}', "at least one class"),
        ("labels", "not JSON"),
    ],
)
def test_a_fault_of_the_configuration_is_named(root: Path, text: str, words: str) -> None:
    (root / "config_v1.2.json").write_text(text)
    with pytest.raises(FormatError, match=rf"config_v1\.2\.json: .*{words}"):
        vistas.samples(root, "training")


def test_values_beyond_the_labels_and_other_modes_are_named(root: Path) -> None:
    path = root / "training" / "v1.2" / "instances" / f"{NAME}.png"
    Image.fromarray(np.full((3, 4), 66 * 256, np.uint16)).save(path)
    with pytest.raises(FormatError, match="category ids of vistas, got 67"):
        vistas.samples(root, "training")[0]
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)
    with pytest.raises(FormatError, match="expected a PNG of 16-bit gray, got mode L"):
        vistas.samples(root, "training")[0]
    with pytest.raises(ValueError, match="version: expected one of"):
        vistas.samples(root, "training", version="v3")
    with pytest.raises(FileNotFoundError, match="validation"):
        vistas.samples(root, "validation")


def test_another_version_in_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "validation" / "v2.0" / "instances").mkdir(parents=True)
    with pytest.raises(FormatError, match=r"validation: no instances of v1\.2, but v2\.0; give version='v2\.0'"):
        vistas.samples(tmp_path, "validation")
