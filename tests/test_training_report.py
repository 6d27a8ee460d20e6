"""What is said of the data before the first step."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from annotated import CATEGORIES, LABELS, Scenes, scene, write
from PIL import Image

from deeperlab.data import coco, label_map, labels, pairs, segments, voc
from deeperlab.training.config import Config, DataConfig, TrainConfig
from deeperlab.training.report import Report, report
from deeperlab.training.sources import Source, Sources

CONFIG = Config(data=DataConfig(crop=(10, 20)), train=TrainConfig(steps=30, batch=4))


def look(*sources: Source, config: Config = CONFIG, **options: Any) -> Report:
    return report(Sources(LABELS, sources, None), config, **options)


def test_classes_are_counted_by_pixels_images_and_instances() -> None:
    found = look(Source("drawn", Scenes(6)))
    scenes = [scene(n) for n in range(6)]
    disk, ground = found.classes
    assert disk.pixels == sum(int((s.category == 0).sum()) for s in scenes)
    assert disk.instances == sum(len(np.unique(s.instance)) - 1 for s in scenes)
    assert (ground.images, ground.instances, ground.is_thing) == (6, 0, False)
    assert disk.pixels + ground.pixels == found.pixels == 6 * 60 * 80
    assert found.sizes == ((60, 80), (60, 80))
    text = str(found)
    assert "drawn: 6 images, of which all were looked at; 100.0% of the samples, 20.0 epochs" in text
    assert f"disk    {disk.pixels / found.pixels:7.2%}" in text


def test_a_report_comes_back_from_json() -> None:
    found = look(Source("one", Scenes(6, frozenset({2}), OSError), 3), Source("other", Scenes(4)))
    assert found.broken
    assert Report.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_run_is_told_in_samples_pixels_and_epochs_of_every_source() -> None:
    found = look(Source("one", Scenes(6), 3), Source("other", Scenes(4)))
    assert (found.samples, found.sample_pixels) == (120, 120 * 200)
    assert [(s.share, s.epochs) for s in found.sources] == [(0.75, 15), (0.25, 7.5)]
    assert "the run sees 120 samples, 2.40e+04 px" in str(found)


def test_crowd_void_some_stuff_small_and_empty_instances_and_images_without_labels_are_told() -> None:
    plain = scene(1)
    crowded = replace(plain, crowd=plain.instance == 1, instance=np.where(plain.instance == 1, 0, plain.instance))
    unlabeled = replace(plain, category=np.full_like(plain.category, -1), instance=np.zeros_like(plain.instance))
    unlabeled = replace(unlabeled, categories=np.zeros(0, np.int32), image_id=7)
    stuff = replace(unlabeled, image_id=8, some_stuff=np.ones(plain.category.shape, bool))
    instance = np.zeros_like(plain.instance)
    instance[0, :15], instance[2, :16] = 1, 2
    small = replace(plain, image_id=9, instance=instance, category=np.where(instance > 0, 0, 1).astype(np.int32))
    small = replace(small, categories=np.zeros(2, np.int32))
    found = look(Source("set", (crowded, unlabeled, stuff, small)))  # type: ignore[arg-type]
    area = plain.category.size
    assert found.crowd == int(crowded.crowd.sum())
    assert (found.void, found.some_stuff) == (area, area)
    assert found.empty_masks == {"set/1": "1 of 4 instances have no pixel"}
    assert found.unlabeled == ("set/7",)
    assert found.below_node == {"set/9": 1}
    assert "instances below one node, 4 × 4 px: 1, in set/9 (1)" in str(found)
    assert "images without labels: 1: set/7" in str(found)
    scaled = replace(CONFIG, data=replace(CONFIG.data, longest_side=79))
    assert look(Source("set", (small,)), config=scaled).below_node == {"set/9": 2}  # type: ignore[arg-type]


def test_files_are_named_by_what_is_wrong_with_them(tmp_path: Path) -> None:
    samples = write(tmp_path, 6)
    Image.fromarray(np.zeros((61, 80, 3), np.uint8)).save(tmp_path / "photos" / "1.png")
    (tmp_path / "photos" / "2.png").unlink()
    (tmp_path / "maps" / "3.png").write_bytes(b"no map")
    for number, change in ((4, 77), (5, 0)):
        ids = coco.read_ids(tmp_path / "maps" / f"{number}.png")
        coco.write_ids(tmp_path / "maps" / f"{number}.png", np.where(ids == 1, change, ids))
    found = look(Source("files", samples))
    assert list(found.mismatched) == ["files/1"]
    assert "expected 60 × 80 px as annotated, got 61 × 80 px" in found.mismatched["files/1"]
    assert sorted(found.broken) == ["files/2", "files/3"]
    assert list(found.unknown_ids) == ["files/4"]
    assert "4.png: id 77 not in segments_info of maps.json" in found.unknown_ids["files/4"]
    assert list(found.empty_masks) == ["files/5"]
    text = str(found)
    for start in (
        "unknown ids: 1: files/4: ",
        "empty masks: 1: files/5: ",
        "photographs of another size: 1: files/1: ",
    ):
        assert start in text
    assert json.loads(json.dumps(found.to_dict()))["unknown_ids"].keys() == {"files/4"}


def test_classes_that_the_label_set_lacks_are_unknown_ids(tmp_path: Path) -> None:
    for folder in ("ImageSets/Segmentation", "SegmentationClass", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    found = look(Source("set", voc.samples(tmp_path, "train", objects=None)))
    assert "a.png: expected 0 to 20 or 255 of voc, got 99" in found.unknown_ids["set/a"]


def test_a_large_set_is_looked_at_in_part_which_is_told() -> None:
    told: list[tuple[int, int]] = []
    sources = (Source("one", Scenes(50)), Source("other", Scenes(3)))
    found = look(*sources, limit=8, progress=lambda done, of: told.append((done, of)))
    assert [s.seen for s in found.sources] == [8, 3]
    assert "one: 50 images, of which 8, drawn at random, were looked at" in str(found)
    assert told == [(n, 11) for n in range(1, 12)]
    assert [s.seen for s in look(*sources, seconds=0).sources] == [1, 1]
    assert [s.seen for s in look(*sources, limit=0, seconds=math.inf).sources] == [50, 3]


def test_damaged_maps_are_not_taken_for_unknown_ids_nor_the_other_way_round(tmp_path: Path) -> None:
    for name, value in (("huge", 1 << 62), ("unknown", 2), ("known", 1)):
        np.save(tmp_path / f"{name}.npy", np.full((3, 4), value, np.uint64))
    maps = label_map.samples(tmp_path, LABELS, divisor=1, images=tmp_path)
    found = look(Source("maps", maps))
    assert "below 2^62" in found.broken["maps/huge"]
    assert found.unknown_ids.keys() == {"maps/unknown"}


def test_pairs_whose_ids_differ_are_told_as_what_they_are(tmp_path: Path) -> None:
    listed = {"unlisted": [(1, 1)], "empty": [(1, 1), (2, 1), (3, 1)], "no_class": [(1, 1), (2, 77)]}
    for key, segments_info in listed.items():
        coco.write_ids(tmp_path / f"{key}.png", np.array([[1, 2]]))
        entries = [{"id": number, "category_id": category} for number, category in segments_info]
        (tmp_path / f"{key}.json").write_text(json.dumps({"segments_info": entries}))
        Image.new("RGB", (2, 1)).save(tmp_path / f"{key}.jpg")
    found = look(Source("pairs", pairs.samples(tmp_path, LABELS)))
    assert found.unknown_ids.keys() == {"pairs/unlisted", "pairs/no_class"}
    assert found.empty_masks.keys() == {"pairs/empty"}
    assert not found.broken


def test_classes_without_an_image_are_named_and_long_lists_are_cut_in_the_text_only() -> None:
    found = look(Source("drawn", Scenes(9, frozenset(range(8)))))
    assert len(found.broken) == 8
    assert "files that cannot be read: 8: " in str(found)
    assert str(found).count("is torn") == 5
    assert " and 3 more" in str(found)
    more = labels.from_categories("more", (*CATEGORIES, coco.Category(3, "cube", True)))
    assert "classes that were not seen: cube" in str(report(Sources(more, (Source("d", Scenes(2)),), None), CONFIG))


def test_real_photographs_are_reported(realdata: Path) -> None:
    folder = realdata / "coco_panoptic"
    samples = segments.samples(folder / "panoptic_train.json", folder / "panoptic_train", images=folder / "train")
    found = report(Sources(samples.labels, (Source("coco", samples),), None), CONFIG, limit=20)
    assert {} == found.broken == found.unknown_ids == found.mismatched == found.empty_masks
    assert 0.02 < found.void / found.pixels < 0.3
    assert sum(c.instances for c in found.classes) > 50
