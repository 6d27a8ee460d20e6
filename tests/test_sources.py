# SPDX-License-Identifier: Apache-2.0
"""What is trained on: drawn scenes, folders as data sets are distributed, and files that list several."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from deeperlab.data import coco
from deeperlab.data.files import FormatError
from deeperlab.data.labels import LabelSet
from deeperlab.scenes import draw
from deeperlab.training.config import DataConfig
from deeperlab.training.sources import open_sources

SMALL = {"size": [33, 49], "instances": 2}


def test_scenes_are_drawn_by_seeds_that_training_and_validation_do_not_share() -> None:
    sources = open_sources(DataConfig(source="scenes", scenes=SMALL | {"count": 5, "count_val": 3}))
    (train,), val = sources.train, sources.val
    assert val is not None
    assert (len(train.samples), len(val.samples)) == (5, 3)
    scene, sample = draw(4, (33, 49), instances=2), train.samples[-1]
    assert sources.labels.names == scene.names
    assert sources.labels.things == scene.things
    np.testing.assert_array_equal(sample.image(), scene.image)
    np.testing.assert_array_equal(sample.category, scene.category)
    np.testing.assert_array_equal(sample.instance, scene.instance)
    assert not sample.crowd.any()
    seeds = [{sample.image_id for sample in part.samples} for part in (train, val)]
    assert not seeds[0] & seeds[1]
    assert pickle.loads(pickle.dumps(val.samples))[0].image_id == val.samples[0].image_id


def test_scenes_may_have_no_validation_and_any_number_of_classes() -> None:
    sources = open_sources(
        DataConfig(source="scenes", scenes=SMALL | {"count_val": 0, "num_classes": 90, "num_things": 60})
    )
    assert sources.val is None
    assert len(sources.labels) == 90


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"instance": 3}, r"data\.scenes\.instance: unknown; instances\?"),
        ({"zzz": 3}, r"data\.scenes\.zzz: unknown; known are count, count_val, size, instances"),
        ({"seed": 3}, r"data\.scenes\.seed: unknown"),
        ({"count": 0}, r"data\.scenes\.count: expected an integer of 1 to"),
        ({"count_val": 1.5}, r"data\.scenes\.count_val: expected an integer of 0 to"),
        ({"num_things": 30}, r"data\.scenes\.num_things: expected 0 to 23, got 30"),
    ],
)
def test_an_option_of_scenes_that_is_wrong_is_named_with_the_nearest(option: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_sources(DataConfig(source="scenes", scenes=option))


FARM = LabelSet("farm", ("cow", "meadow"), (True, False), ((0, 0, 0),) * 2, (1, 2), (0,))


def panoptic(root: Path, json: str, images: str) -> None:
    """One image of a cow on a meadow, with a photograph."""
    path = root / json
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.array([[1, 1, 2], [0, 2, 2]])
    annotation = coco.Annotation(7, "7.png", coco.describe(ids, {1: 1, 2: 2}), "7.jpg")
    coco.write(path, path.with_suffix(""), [(annotation, ids)], FARM.categories)
    (root / images).mkdir(parents=True, exist_ok=True)
    coco.write_ids(root / images / "7.png", ids)  # a PNG serves as a photograph


@pytest.mark.parametrize(
    ("json", "images"),
    [
        ("annotations/panoptic_{}2017.json", "{}2017"),
        ("panoptic_{}.json", "{}"),
        ("annotations/panoptic_{}.json", "images/{}"),
        ("annotations/panoptic_{}.json", "images"),
    ],
)
def test_a_folder_of_coco_panoptic_is_known_by_its_files(json: str, images: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        panoptic(tmp_path, json.format(split), images.format(split))
    sources = open_sources(DataConfig(source=str(tmp_path)))
    assert sources.labels.names == FARM.names
    assert sources.val is not None
    for source in (*sources.train, sources.val):
        (sample,) = pickle.loads(pickle.dumps(source.samples))
        assert sample.image().shape == (2, 3, 3)
        assert sample.category.tolist() == [[0, 0, 1], [-1, 1, 1]]


def test_a_single_split_is_trained_on_and_nothing_validates(tmp_path: Path) -> None:
    panoptic(tmp_path, "panoptic_examples.json", "input_images")
    assert open_sources(DataConfig(source=str(tmp_path))).val is None


def test_annotations_without_photographs_are_told(tmp_path: Path) -> None:
    panoptic(tmp_path, "panoptic_train.json", "elsewhere")
    with pytest.raises(FormatError, match=r"annotations of .*, but no folder of photographs"):
        open_sources(DataConfig(source=str(tmp_path)))


def test_a_folder_of_nothing_known_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no data set; expected one of these: COCO panoptic"):
        open_sources(DataConfig(source=str(tmp_path)))
