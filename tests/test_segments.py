# SPDX-License-Identifier: Apache-2.0
"""Samples as COCO panoptic files and back: panopticapi's rules are kept, and id 0 is never a segment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeperlab.data.files import FormatError
from deeperlab.data.formats import coco, segments
from deeperlab.data.labels import LabelSet, preset
from deeperlab.data.sample import Entry, Regions, Sample, Samples, from_maps

LABELS = LabelSet(
    "four", ("road", "car", "person", "sky"), (False, True, True, False), ((0, 0, 0),) * 4, (0, 26, 24, 300), (9,)
)


def build(category: np.ndarray, identity: np.ndarray, crowd: np.ndarray | None = None) -> Sample:
    """Every pixel a region of its own."""
    tables = (category.astype(np.int32).reshape(-1), identity.reshape(-1), None if crowd is None else crowd.reshape(-1))
    regions = Regions(np.arange(category.size, dtype=np.int32).reshape(category.shape), *tables)
    return Samples(LABELS, (Entry("x", None, Path("x"), lambda: regions),))[0]


def drawn(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 9, 2))
    crowd = rng.random(size) < 0.1
    return build(rng.integers(-1, 4, size), rng.integers(-1, 1 << rng.integers(1, 33), size), crowd)


def write(folder: Path, samples: list[Sample], labels: LabelSet = LABELS) -> tuple[Path, Path]:
    entries = []
    for i, sample in enumerate(samples):
        ids, infos = sample.to_coco(labels)
        entries.append((coco.Annotation(i, f"{i}.png", infos), ids))
    coco.write(folder / "x.json", folder / "x", entries, labels.categories)
    return folder / "x.json", folder / "x"


def accept(path: Path, directory: Path) -> None:
    """What panopticapi checks of a prediction, written anew: every id of the PNG but 0 (void) is in the JSON, every id
    of the JSON is in the PNG, every category is known; and of a ground truth, that the areas are those of the PNG."""
    root = json.loads(path.read_text())
    categories = {category["id"]: category for category in root["categories"]}
    images = {image["id"]: image for image in root["images"]}
    assert len(images) == len(root["images"]) == len(root["annotations"])
    for annotation in root["annotations"]:
        rgb = np.asarray(Image.open(directory / annotation["file_name"])).astype(np.uint32)
        assert rgb.shape[2] == 3
        ids = rgb[:, :, 0] + rgb[:, :, 1] * 256 + rgb[:, :, 2] * 256**2
        image = images[annotation["image_id"]]
        assert (image["height"], image["width"]) == ids.shape
        listed = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert len(listed) == len(annotation["segments_info"])
        remaining = set(listed)
        for label, count in zip(*np.unique(ids, return_counts=True), strict=True):
            if label not in listed:
                assert label == 0
                continue
            assert label != 0
            assert listed[label]["area"] == count
            assert listed[label]["category_id"] in categories
            assert listed[label]["iscrowd"] in (0, 1)
            remaining.remove(label)
        assert not remaining


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_panopticapi_accepts_and_is_read_back(tmp_path: Path, seed: int) -> None:
    sample = drawn(seed)
    path, directory = write(tmp_path, [sample, drawn(seed + 1000)])
    accept(path, directory)
    again = segments.samples(path, directory, labels=LABELS)[0]
    for field in ("category", "instance", "crowd", "categories"):
        np.testing.assert_array_equal(getattr(again, field), getattr(sample, field), err_msg=field)
    alone = segments.samples(path, directory)  # the classes of the file
    assert alone.labels.names == LABELS.names
    np.testing.assert_array_equal(alone[0].category, sample.category)


def test_thing_pixels_are_an_instance_or_crowd() -> None:
    for seed in range(20):
        sample = drawn(seed)
        thing = np.isin(sample.category, LABELS.things)
        np.testing.assert_array_equal(thing, (sample.instance > 0) | (sample.crowd & thing))
        assert not (sample.crowd & (sample.instance > 0)).any()
        assert not (sample.crowd & (sample.category < 0)).any()
        assert set(np.unique(sample.instance)) - {0} == set(range(1, len(sample.categories) + 1))
        np.testing.assert_array_equal(
            sample.categories[sample.instance - 1][thing & ~sample.crowd], sample.category[thing & ~sample.crowd]
        )


def test_segments_of_one_class_differ_only_where_they_are_things() -> None:
    sample = build(np.array([[0, 0, 1, 1, 3]]), np.array([[1, 2, 1, 2, -1]]))
    assert sample.instance.tolist() == [[0, 0, 1, 2, 0]]
    ids, infos = sample.to_coco(LABELS)
    assert ids.tolist() == [[3, 3, 1, 2, 4]]
    assert [(s.id, s.category_id, s.area) for s in infos] == [(1, 26, 1), (2, 26, 1), (3, 0, 2), (4, 300, 1)]


def test_own_maps_become_a_sample() -> None:
    category = np.array([[-1, 0, 1, 1], [2, 2, 2, 3]])
    instance = np.array([[9, 9, 7, (1 << 32) - 1], [0, 7, 7, 0]])
    sample = from_maps(category, instance, LABELS, image_id="a")
    assert sample.image_id == "a"
    np.testing.assert_array_equal(sample.category, category)
    assert sample.instance.tolist() == [[0, 0, 1, 2], [0, 3, 3, 0]]
    assert sample.crowd.tolist() == [[False] * 4, [True, False, False, False]]
    assert sample.categories.tolist() == [1, 1, 2]
    again = from_maps(*sample.maps, LABELS)
    np.testing.assert_array_equal(again.instance, sample.instance)
    assert from_maps(np.zeros((0, 3), int), np.zeros((0, 3), int), LABELS).categories.tolist() == []


def test_own_maps_out_of_bounds_are_named() -> None:
    zero = np.zeros((2, 2), int)
    for category, instance, words in (
        (zero + 4, zero, "category: expected -1 to 3, got 4 to 4"),
        (zero - 2, zero, "category: expected -1 to 3, got -2 to -2"),
        (zero, zero - 1, "instance: expected 0 to 4294967295, got -1 to -1"),
        (zero, zero[:1], r"two maps \[H, W\], got \(2, 2\) and \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=words):
            from_maps(category, instance, LABELS)


def test_a_writer_that_breaks_the_rules_is_stopped(tmp_path: Path) -> None:
    ids = np.array([[1, 1, 0]])
    good = coco.SegmentInfo(1, 26)

    def fail(words: str, *entries: tuple[coco.Annotation, np.ndarray]) -> None:
        with pytest.raises(ValueError, match=words):
            coco.write(tmp_path / "x.json", tmp_path / "x", entries, LABELS.categories)
        with pytest.raises((FormatError, FileNotFoundError), match=r"x\.json: unfinished|No such file"):
            coco.read(tmp_path / "x.json", tmp_path / "x")

    first = coco.Annotation(1, "a.png", (good,)), ids
    fail("distinct segment ids above 0", (coco.Annotation(1, "a.png", (good, coco.SegmentInfo(0, 26))), ids))
    fail("distinct segment ids above 0", (coco.Annotation(1, "a.png", (good, good)), ids))
    fail("ids of image 1 and of its segments", (coco.Annotation(1, "a.png", (good, coco.SegmentInfo(2, 26))), ids))
    fail("ids of image 1 and of its segments", (coco.Annotation(1, "a.png", ()), ids))
    fail("categories of the list in image 1, got id 5", (coco.Annotation(1, "a.png", (coco.SegmentInfo(1, 5),)), ids))
    fail("distinct images and files", first, (coco.Annotation(1, "b.png", (good,)), ids))
    fail("distinct images and files", first, (coco.Annotation(2, "./a.png", (good,)), ids))


def test_an_id_of_eight_bits_does_not_overflow(tmp_path: Path) -> None:
    """256 · G in uint8 is 0: all ids would be below 256."""
    ids = np.arange(1, 1 << 24, 65_521).reshape(1, -1)
    coco.write_ids(tmp_path / "x.png", ids)
    np.testing.assert_array_equal(coco.read_ids(tmp_path / "x.png"), ids)


def test_a_listed_segment_zero_is_refused(tmp_path: Path) -> None:
    path, directory = write(tmp_path, [build(np.array([[0, -1]]), np.array([[0, 0]]))])
    root = json.loads(path.read_text())
    root["annotations"][0]["segments_info"].append({"id": 0, "category_id": 26, "iscrowd": 0})
    path.write_text(json.dumps(root))
    with pytest.raises(FormatError, match=r"0\.png: id 0, which is void, is a segment in x\.json"):
        segments.samples(path, directory)[0]


def test_images_are_found_by_their_own_name_or_that_of_the_png(tmp_path: Path) -> None:
    path, directory = write(tmp_path, [drawn(0)])
    (tmp_path / "photos").mkdir()
    (sample,) = segments.samples(path, directory, images=tmp_path / "photos")
    with pytest.raises(FileNotFoundError, match=r"photos/0\.png"):
        sample.image()
    root = json.loads(path.read_text())
    del root["images"][0]["file_name"]
    path.write_text(json.dumps(root))
    Image.new("RGB", drawn(0).category.shape[::-1]).save(tmp_path / "photos" / "0.jpg")
    (sample,) = segments.samples(path, directory, images=tmp_path / "photos")
    assert sample.image().shape == (*sample.category.shape, 3)


def test_real_files_become_samples(realdata: Path) -> None:
    folder = realdata / "panopticapi_sample"
    samples = segments.samples(
        folder / "panoptic_examples.json",
        folder / "panoptic_examples",
        images=folder / "input_images",
        labels=preset("coco"),
    )
    assert [len(sample.categories) for sample in samples] == [14, 26]
    assert all(sample.crowd.any() for sample in samples)
    assert [sample.image().shape for sample in samples] == [(427, 640, 3), (360, 640, 3)]


def test_categories_that_repeat_a_name_are_named_with_the_file(tmp_path: Path) -> None:
    path, directory = write(tmp_path, [drawn(0)])
    root = json.loads(path.read_text())
    root["categories"][1]["name"] = "road"
    path.write_text(json.dumps(root))
    with pytest.raises(FormatError, match=r"x\.json: categories: names: expected each once, got 'road'"):
        segments.samples(path, directory)
