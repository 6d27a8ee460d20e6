# SPDX-License-Identifier: Apache-2.0
"""Cityscapes: the formats say the same, instances count from 0, groups are crowd, and 0 is no road."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.data.files import FormatError
from deeperlab.data.formats import cityscapes, coco, segments
from deeperlab.data.labels import LabelSet, preset
from deeperlab.metrics import PanopticQuality

LABELS = preset("cityscapes")
NAME = "aachen_000000_000019"
# labelIds: 7 road, 11 building, 24 person, 26 car, 29 caravan (not evaluated), 4 static, 0 unlabeled
INSTANCE_IDS = np.array(
    [
        [0, 4, 11, 11, 11, 29001],
        [7, 7, 24000, 24000, 24001, 24001],
        [7, 7, 24, 24, 26000, 26012],
        [7, 7, 7, 24, 26000, 26012],
    ],
    np.uint16,
)
CATEGORY = np.array([[-1, -1, 2, 2, 2, -1], [0, 0, 11, 11, 11, 11], [0, 0, 11, 11, 13, 13], [0, 0, 0, 11, 13, 13]])
INSTANCE = np.array([[0] * 6, [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 3, 4], [0, 0, 0, 0, 3, 4]])


def write_panoptic(base: Path, split: str, ids: NDArray[Any], train_ids: bool) -> None:
    """As `createPanopticImgs.py` does: raw ids in the PNG, groups as crowd, what is not evaluated left black."""
    stem = f"cityscapes_panoptic_{split}{'_trainId' if train_ids else ''}"
    known = dict(zip(LABELS.ids, range(19), strict=True))
    picture = np.zeros((*ids.shape, 3), np.uint8)
    infos = []
    for value in np.unique(ids).tolist():
        label = value // 1000 if value >= 1000 else value
        if label not in known:
            continue
        thing = LABELS.isthing[known[label]]
        picture[ids == value] = value % 256, value // 256, 0
        category = known[label] if train_ids else label
        infos.append({"id": value, "category_id": category, "iscrowd": int(thing and value < 1000), "area": 1})
    (base / stem).mkdir(parents=True)
    Image.fromarray(picture).save(base / stem / f"{NAME}_gtFine_panoptic.png")
    root = {
        "images": [{"id": NAME, "file_name": f"{NAME}_gtFine_leftImg8bit.png", "width": 6, "height": 4}],
        "annotations": [{"image_id": NAME, "file_name": f"{NAME}_gtFine_panoptic.png", "segments_info": infos}],
        "categories": [
            {"id": known[c.id] if train_ids else c.id, "name": c.name, "isthing": int(c.isthing), "color": c.color}
            for c in LABELS.categories
        ],
    }
    (base / f"{stem}.json").write_text(json.dumps(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One image in every format."""
    city = tmp_path / "gtFine" / "val" / "aachen"
    city.mkdir(parents=True)
    Image.fromarray(INSTANCE_IDS).save(city / f"{NAME}_gtFine_instanceIds.png")
    train_ids = np.where(CATEGORY < 0, 255, CATEGORY).astype(np.uint8)
    Image.fromarray(train_ids).save(city / f"{NAME}_gtFine_labelTrainIds.png")
    for variant in (False, True):
        write_panoptic(tmp_path / "gtFine", "val", INSTANCE_IDS, variant)
    photos = tmp_path / "leftImg8bit" / "val" / "aachen"
    photos.mkdir(parents=True)
    Image.new("RGB", (6, 4), (9, 8, 7)).save(photos / f"{NAME}_leftImg8bit.png")
    return tmp_path


@pytest.mark.parametrize("source", ["instanceIds", "panoptic", "panoptic_trainId"])
def test_all_formats_that_tell_instances_say_the_same(root: Path, source: str) -> None:
    (sample,) = cityscapes.samples(root, "val", source=source)
    assert sample.image_id == NAME
    assert sample.category.dtype == sample.instance.dtype == np.int32
    np.testing.assert_array_equal(sample.category, CATEGORY)
    np.testing.assert_array_equal(sample.instance, INSTANCE)
    np.testing.assert_array_equal(sample.crowd, np.isin(INSTANCE_IDS, [24]))
    assert sample.categories.tolist() == [11, 11, 13, 13]
    assert sample.image()[0, 0].tolist() == [9, 8, 7]


def test_label_train_ids_have_classes_and_all_things_as_crowd(root: Path) -> None:
    (sample,) = cityscapes.samples(root, "val", source="labelTrainIds")
    np.testing.assert_array_equal(sample.category, CATEGORY)
    assert not sample.instance.any()
    np.testing.assert_array_equal(sample.crowd, CATEGORY >= 11)


def test_instance_zero_is_an_instance(root: Path) -> None:
    """24000 is the first person, not a group, and 26000 another instance than 24000."""
    (sample,) = cityscapes.samples(root, "val")
    assert sample.instance[1, 2] == 1
    assert not sample.crowd[1, 2]


def test_class_zero_is_road_and_zero_is_void(root: Path) -> None:
    """trainId 0 · divisor + 0 is 0: whoever writes that as a segment id makes road void, or void road."""
    (sample,) = cityscapes.samples(root, "val")
    ids, infos = sample.to_coco(LABELS)
    assert (ids[CATEGORY == 0] > 0).all()
    assert not ids[CATEGORY < 0].any()
    assert {s.category_id for s in infos} == {7, 11, 24, 26}  # labelIds, as the official evaluation wants them
    assert [s.category_id for s in infos if s.iscrowd] == [24]


def test_samples_can_be_scored_against_the_panoptic_files(root: Path) -> None:
    data = coco.read(root / "gtFine" / "cityscapes_panoptic_val.json", root / "gtFine" / "cityscapes_panoptic_val")
    quality = PanopticQuality({c.id: c.isthing for c in LABELS.categories})
    for annotation, sample in zip(data.annotations, cityscapes.samples(root, "val"), strict=True):
        ids, infos = sample.to_coco(LABELS)
        quality.update((ids, list(infos)), (data.ids(annotation), list(annotation.segments)))
    assert quality.compute().all.pq == 1


def test_samples_can_be_pickled_and_sliced(root: Path) -> None:
    for source in cityscapes.SOURCES:
        samples = pickle.loads(pickle.dumps(cityscapes.samples(root, "val", source=source)))
        np.testing.assert_array_equal(samples[0].category, CATEGORY)
        assert len(samples[1:]) == 0


def test_images_may_be_absent_until_they_are_asked_for(root: Path) -> None:
    photo = root / "leftImg8bit" / "val" / "aachen" / f"{NAME}_leftImg8bit.png"
    photo.rename(photo.with_name("other.png"))
    for source in cityscapes.SOURCES:
        (sample,) = cityscapes.samples(root, "val", source=source)
        with pytest.raises(FileNotFoundError, match=photo.name):
            sample.image()
    (root / "leftImg8bit").rename(root / "elsewhere")
    (sample,) = cityscapes.samples(root, "val")
    assert sample.image_path is None
    with pytest.raises(FileNotFoundError, match=NAME):
        sample.image()


def test_an_image_of_another_size_is_named(root: Path) -> None:
    (sample,) = cityscapes.samples(root, "val")
    Image.new("RGB", (6, 5)).save(sample.image_path or "")
    with pytest.raises(FormatError, match="expected 4 × 6 px as annotated, got 5 × 6"):
        sample.image()


def test_a_label_map_of_eight_bits_is_no_instance_map(root: Path) -> None:
    """24001 cut to 8 bits is 193: it must not be taken for a labelId."""
    path = next(root.rglob("*_instanceIds.png"))
    Image.fromarray(INSTANCE_IDS.astype(np.uint8)).save(path)
    with pytest.raises(FormatError, match="expected a PNG of 16-bit gray, got mode L, 8 bits"):
        cityscapes.samples(root, "val")[0]


@pytest.mark.parametrize(("value", "words"), [(34, "got 34"), (40000, "got 40"), (999, "got 999")])
def test_a_label_that_does_not_exist_is_named(root: Path, value: int, words: str) -> None:
    path = next(root.rglob("*_instanceIds.png"))
    Image.fromarray(np.full((4, 6), value, np.uint16)).save(path)
    with pytest.raises(FormatError, match=f"instanceIds.png: expected category ids of cityscapes, {words}"):
        cityscapes.samples(root, "val")[0]


def test_folders_that_are_not_as_distributed_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gtFine/train"):
        cityscapes.samples(root, "train")
    (root / "gtFine" / "test").mkdir()
    with pytest.raises(FormatError, match=r"gtFine/test: no file \*/\*_gtFine_instanceIds.png; expected <city>/"):
        cityscapes.samples(root, "test")
    with pytest.raises(ValueError, match="source: expected one of instanceIds"):
        cityscapes.samples(root, "val", source="polygons")


def test_categories_are_understood_by_name_before_id(root: Path) -> None:
    """In the trainId file, 7 is a traffic sign; in the other, the road."""
    base = root / "gtFine"
    data = coco.read(base / "cityscapes_panoptic_val_trainId.json", base)
    assert segments.classes_of(data.path, data.categories, LABELS)[7] == 7
    data = coco.read(base / "cityscapes_panoptic_val.json", base)
    assert segments.classes_of(data.path, data.categories, LABELS)[7] == 0


def test_categories_of_another_data_set_are_refused(root: Path) -> None:
    path = root / "gtFine" / "cityscapes_panoptic_val_trainId.json"
    file = json.loads(path.read_text())
    file["categories"][0]["name"] = "Straße"  # an unknown name: now the ids must do, and they mean something else
    path.write_text(json.dumps(file))
    with pytest.raises(
        FormatError, match=r"category 1 \(sidewalk\) is void in cityscapes; .*; the file has Straße, sidewalk"
    ):
        cityscapes.samples(root, "val", source="panoptic_trainId")
    farm = LabelSet("farm", ("cow",), (True,), ((0, 0, 0),), (200,))
    with pytest.raises(FormatError, match=r"category 7 \(road\) is not in farm"):
        cityscapes.samples(root, "val", source="panoptic", labels=farm)
