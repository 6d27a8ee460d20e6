# SPDX-License-Identifier: Apache-2.0
"""COCO panoptic files: what is written is read back, real files are read, and every fault names its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.data.formats import coco

CATEGORIES = (coco.Category(1, "person", True, (220, 20, 60)), coco.Category(92, "banner", False))


def small() -> NDArray[np.int32]:
    ids = np.zeros((5, 7), np.int32)
    ids[1:3, 2:6] = 0x010203
    ids[4] = coco.MAX_ID
    return ids


def written(folder: Path) -> Path:
    """A data set of one image."""
    ids = small()
    segments = coco.describe(ids, {0x010203: 1, coco.MAX_ID: 92})
    annotation = coco.Annotation(7, "seven.png", segments, "seven.jpg")
    coco.write(folder / "all.json", folder / "png", [(annotation, ids)], CATEGORIES)
    return folder / "all.json"


def edited(path: Path, edit: Callable[[Any], Any]) -> Path:
    root = json.loads(path.read_text())
    edit(root)
    path.write_text(json.dumps(root))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = coco.read(written(tmp_path), tmp_path / "png")
    assert data.categories == CATEGORIES
    (annotation,) = data.annotations
    assert annotation == coco.Annotation(
        7, "seven.png", (coco.SegmentInfo(0x010203, 1), coco.SegmentInfo(coco.MAX_ID, 92)), "seven.jpg", 5, 7
    )
    np.testing.assert_array_equal(data.ids(annotation), small())
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["all.json", "seven.png"]


def test_ids_are_red_then_green_then_blue(tmp_path: Path) -> None:
    written(tmp_path)
    assert Image.open(tmp_path / "png" / "seven.png").getpixel((2, 1)) == (3, 2, 1)


def test_area_and_box_are_those_of_the_mask(tmp_path: Path) -> None:
    first, second = coco.describe(small(), {0x010203: 1, coco.MAX_ID: 92})
    assert (first.area, first.bbox) == (8, (2, 1, 4, 2))
    assert (second.area, second.bbox) == (7, (0, 4, 7, 1))
    assert coco.describe(np.zeros((0, 0), int), {}) == ()
    segments = json.loads(written(tmp_path).read_text())["annotations"][0]["segments_info"]
    assert segments[0] == {"id": 0x010203, "category_id": 1, "iscrowd": 0, "area": 8, "bbox": [2, 1, 4, 2]}


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    box = tuple(np.array([0, 0, 2, 2]))
    info = coco.SegmentInfo(np.int64(5), np.uint8(1), np.bool_(False), np.int64(4), box, np.float32(0.5))  # type: ignore[arg-type]
    entry = coco.Annotation(np.int64(3), "3.png", (info,)), np.full((2, 2), 5)  # type: ignore[arg-type]
    coco.write(tmp_path / "a.json", tmp_path, [entry], CATEGORIES, info={"pq": np.float32(0.25)})
    root = json.loads((tmp_path / "a.json").read_text())
    expected = {"id": 5, "category_id": 1, "iscrowd": 0, "area": 4, "bbox": [0, 0, 2, 2], "score": 0.5}
    assert root["annotations"] == [{"image_id": 3, "file_name": "3.png", "segments_info": [expected]}]
    assert root["info"] == {"pq": 0.25}


def test_what_json_cannot_hold_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    info = coco.SegmentInfo(1, 1, area=np.ones(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected numbers and texts, as JSON has them, got ndarray"):
        coco.write(tmp_path / "a.json", tmp_path, [(coco.Annotation(3, "3.png", (info,)), np.ones((2, 2)))], CATEGORIES)
    assert not [*tmp_path.iterdir()]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    annotation = coco.Annotation(8, "eight.png", ())
    with pytest.raises(ValueError, match="image 8"):
        coco.write(path, tmp_path / "png", [(annotation, small())], CATEGORIES)
    with pytest.raises(ValueError, match="16777215"):
        coco.write_ids(tmp_path / "png" / "seven.png", small().astype(np.int64) + 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        coco.write(path, tmp_path / "png", [], CATEGORIES, info={"x": float("nan")})
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["all.json", "seven.png"]


def test_a_name_may_not_leave_its_folder(tmp_path: Path) -> None:
    with pytest.raises(coco.FormatError, match="inside the folder"):
        coco.write(tmp_path / "a.json", tmp_path, [(coco.Annotation(1, "../x.png", ()), small() * 0)], CATEGORIES)
    path = edited(written(tmp_path), lambda root: root["annotations"][0].update(file_name="/etc/x.png"))
    with pytest.raises(coco.FormatError, match="inside the folder"):
        coco.read(path, tmp_path)


def test_a_name_with_the_separators_of_windows_is_told(tmp_path: Path) -> None:
    def place(name: str) -> Callable[[Any], None]:
        return lambda root: root["annotations"][0].update(file_name=name)

    data = coco.read(edited(written(tmp_path), place("C:\\maps\\seven.png")), tmp_path / "png")
    with pytest.raises(FileNotFoundError, match="no such file; is its name of Windows\\? / goes between folders"):
        data.ids(data.annotations[0])
    (tmp_path / "png" / "seven.png").rename(tmp_path / "png" / "a\\b.png")
    data = coco.read(edited(tmp_path / "all.json", place("a\\b.png")), tmp_path / "png")
    np.testing.assert_array_equal(data.ids(data.annotations[0]), small())


def test_categories_may_stand_in_for_categories_and_images(tmp_path: Path) -> None:
    def strip(root: Any) -> None:
        del root["categories"], root["images"]

    path = edited(written(tmp_path), strip)
    data = coco.read(path, tmp_path / "png", categories=CATEGORIES)
    assert data.annotations[0].height is None
    assert data.ids(data.annotations[0]).shape == (5, 7)
    listing = tmp_path / "categories.json"
    listing.write_text(json.dumps([{"id": 1, "name": "person", "isthing": 1, "supercategory": "person"}]))
    assert coco.read_categories(listing) == (coco.Category(1, "person", True),)


def test_image_ids_may_be_names_and_flags_truth_values(tmp_path: Path) -> None:
    def rename(root: Any) -> None:
        root["images"][0]["id"] = root["annotations"][0]["image_id"] = "aachen_000"
        root["annotations"][0]["segments_info"][0]["iscrowd"] = True

    data = coco.read(edited(written(tmp_path), rename), tmp_path / "png")
    assert data.annotations[0].image_id == "aachen_000"
    assert data.annotations[0].segments[0].iscrowd


def _delete(*keys: Any) -> Callable[[Any], None]:
    def edit(root: Any) -> None:
        for key in keys[:-1]:
            root = root[key]
        del root[keys[-1]]

    return edit


def _set(*keys: Any) -> Callable[[Any], None]:
    def edit(root: Any) -> None:
        for key in keys[:-2]:
            root = root[key]
        root[keys[-2]] = keys[-1]

    return edit


_SEGMENT = ("annotations", 0, "segments_info", 0)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_delete("categories"), "no key 'categories'"),
        (_delete("images"), "no key 'images'"),
        (_delete("annotations"), "no key 'annotations'"),
        (_delete("images", 0, "id"), r"images\[0\]: no key 'id'"),
        (_delete("annotations", 0, "segments_info"), r"annotations\[0\]: no key 'segments_info'"),
        (_delete("annotations", 0, "file_name"), r"annotations\[0\]: no key 'file_name'"),
        (_delete(*_SEGMENT, "category_id"), r"segments_info\[0\]: no key 'category_id'"),
        (_delete("categories", 1, "isthing"), r"categories\[1\]: no key 'isthing', 1 of a thing, 0 of stuff"),
        (_set("categories", []), "categories: expected at least one"),
        (_set("categories", {}), "categories: expected a list, got an object"),
        (_set("categories", 0, 5), r"categories\[0\]: expected an object, got an integer"),
        (_set("categories", 1, "id", 1), r"categories\[1\]: id 1 is there twice"),
        (_set("categories", 0, "color", [1, 2, 256]), "color: expected three integers"),
        (_set("categories", 0, "isthing", 2), "isthing: expected 0 or 1, got 2"),
        (_set("images", 0, "id", 8), "image_id 7 is not in images"),
        (_set("images", 0, "height", "5"), r"images\[0\]: height: expected an integer, got a string"),
        (_set("annotations", 0, "image_id", None), "image_id: expected an integer or a string, got null"),
        (_set("annotations", 0, "image_id", True), "image_id: expected an integer or a string, got a bool"),
        (_set("annotations", 0, "file_name", "../x.png"), "file_name: expected a name inside the folder"),
        (_set("annotations", 0, "file_name", "\0.png"), "file_name: expected a name inside the folder"),
        (_set("annotations", 0, "file_name", "\ud800.png"), "file_name: expected valid Unicode"),
        (_set("categories", 0, "name", "\udfff"), r"categories\[0\]: name: expected valid Unicode"),
        (_set(*_SEGMENT, "category_id", 5), "category_id 5 is not in categories"),
        (_set(*_SEGMENT, "id", 1 << 24), "id: expected 0 to 16777215, got 16777216"),
        (_set(*_SEGMENT, "id", coco.MAX_ID), r"segments_info\[1\]: id 16777215 is there twice"),
    ],
)
def test_a_fault_of_the_json_is_named_in_one_line(tmp_path: Path, edit: Callable[[Any], None], words: str) -> None:
    path = edited(written(tmp_path), edit)
    with pytest.raises(coco.FormatError, match=words) as fault:
        coco.read(path, tmp_path / "png")
    assert str(fault.value).startswith(f"{path}: ")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"images": [', "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "expected an object, got a list"),
        (b"null", "expected an object, got null"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    for categories in (None, CATEGORIES):
        with pytest.raises(coco.FormatError, match=words):
            coco.read(path, tmp_path, categories=categories)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_set("images", 0, "height", 6), "height is 5 px, but all.json says 6"),
        (_set("images", 0, "width", 5), "width is 7 px, but all.json says 5"),
        (_delete(*_SEGMENT), "id 66051 not in segments_info"),
        (_set(*_SEGMENT, "id", 9), "id 66051 not in segments_info"),
        (_set("annotations", 0, "segments_info", 1, "id", 4), "id 16777215 not in segments_info"),
    ],
)
def test_a_png_that_disagrees_with_the_json_is_named(tmp_path: Path, edit: Callable[[Any], None], words: str) -> None:
    data = coco.read(edited(written(tmp_path), edit), tmp_path / "png")
    with pytest.raises(coco.FormatError, match=words) as fault:
        data.ids(data.annotations[0])
    assert str(fault.value).startswith(str(tmp_path / "png" / "seven.png"))


def test_a_listed_segment_without_pixels_is_named(tmp_path: Path) -> None:
    def add(root: Any) -> None:
        root["annotations"][0]["segments_info"] += [{"id": i, "category_id": 1} for i in (4, 5, 6, 8)]

    data = coco.read(edited(written(tmp_path), add), tmp_path / "png")
    with pytest.raises(coco.FormatError, match="no pixel of ids 4, 5 and 2 more"):
        data.ids(data.annotations[0])


def test_a_damaged_or_foreign_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    rng = np.random.default_rng(0)
    coco.write_ids(path, rng.integers(0, 1 << 24, (64, 64)))
    whole = path.read_bytes()
    for length in (0, 4, 20, 40, 200, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(coco.FormatError, match=f"{path.name}: (not a PNG|damaged PNG)"):
            coco.read_ids(path)
    for mode in ("L", "P", "RGBA", "I;16"):
        Image.new(mode, (4, 4)).save(path)
        with pytest.raises(coco.FormatError, match=f"24-bit RGB, got mode {mode}"):
            coco.read_ids(path)
    Image.new("RGB", (4, 4)).save(path, format="JPEG")
    with pytest.raises(coco.FormatError, match="not a PNG"):
        coco.read_ids(path)
    path.write_bytes(whole)
    for limit in (4000, 2000):  # Pillow warns above the limit and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(coco.FormatError, match="too many pixels"):
            coco.read_ids(path)


def test_no_damage_of_a_byte_raises_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    coco.write_ids(path, np.arange(64).reshape(8, 8))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            coco.read_ids(path)
        except coco.FormatError as fault:
            assert str(path) in str(fault)  # noqa: PT017


def test_no_damage_of_the_json_raises_anything_else(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    faults = 0
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.choice(list(b'"{}[]:,0-9eanull \xff'))
        path.write_bytes(damaged)
        try:
            data = coco.read(path, tmp_path / "png")
            for annotation in data.annotations:
                data.ids(annotation)
        except (coco.FormatError, FileNotFoundError):
            faults += 1
    assert faults > 250


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        coco.read(tmp_path / "none.json", tmp_path)
    data = coco.read(written(tmp_path), tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"seven\.png"):
        data.ids(data.annotations[0])


@pytest.mark.parametrize(
    ("name", "images", "segments", "crowd"),
    [
        ("panopticapi_sample/panoptic_examples", 2, 50, 3),
        ("tf_models_deeplab_eval/coco_gt", 4, 20, 1),
        ("tf_models_deeplab_eval/coco_pred", 4, 19, 0),
    ],
)
def test_real_files_are_read(realdata: Path, name: str, images: int, segments: int, crowd: int) -> None:
    data = coco.read(realdata / f"{name}.json", realdata / name)
    root = json.loads((realdata / f"{name}.json").read_text())
    assert len(data.annotations) == images
    for annotation, raw in zip(data.annotations, root["annotations"], strict=True):
        ids = data.ids(annotation)
        mine = {s.id: s for s in coco.describe(ids, {s.id: s.category_id for s in annotation.segments})}
        for item in raw["segments_info"]:
            if item["id"]:
                assert mine[item["id"]].area == item["area"]
                assert list(mine[item["id"]].bbox or ()) == item.get("bbox", list(mine[item["id"]].bbox or ()))
    listed = [s for a in data.annotations for s in a.segments]
    assert (len(listed), sum(s.iscrowd for s in listed)) == (segments, crowd)


def test_a_list_of_images_is_refused_with_the_key_that_lacks(realdata: Path) -> None:
    folder = realdata / "panopticapi_sample"
    assert len(coco.read_categories(folder / "panoptic_coco_categories.json")) == 133
    with pytest.raises(coco.FormatError, match="no key 'annotations'"):
        coco.read(folder / "images_info_examples.json", folder)
