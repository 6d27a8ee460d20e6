# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC: palette indices, never colors; the rim of 255 is void; objects carry no class of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.data.files import FormatError
from deeperlab.data.formats import voc
from deeperlab.data.labels import bit_color, preset

CLASS = np.array([[0, 0, 255, 255, 0], [255, 15, 15, 15, 255], [255, 15, 15, 20, 20], [0, 255, 255, 255, 255]])
OBJECT = np.array([[0, 0, 255, 255, 0], [255, 1, 1, 2, 255], [255, 1, 1, 3, 3], [0, 255, 255, 255, 255]])


def save(path: Path, values: NDArray[Any]) -> None:
    """With the palette of the data set."""
    picture = Image.fromarray(values.astype(np.uint8), "L")
    picture.putpalette([channel for i in range(256) for channel in bit_color(i)])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    save(base / "SegmentationClass" / "2007_000032.png", CLASS)
    save(base / "SegmentationObject" / "2007_000032.png", OBJECT)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000032\n\n")
    return tmp_path


def test_indices_are_classes_and_the_rim_is_void(root: Path) -> None:
    for folder in (root, root / "VOCdevkit" / "VOC2012"):
        (sample,) = voc.samples(folder, "val")
        assert sample.image_id == "2007_000032"
        np.testing.assert_array_equal(sample.category, np.where(CLASS == 255, -1, CLASS))
        np.testing.assert_array_equal(sample.instance, np.where(OBJECT == 255, 0, OBJECT))
        assert sample.categories.tolist() == [15, 15, 20]
        assert not sample.crowd.any()


def test_background_is_a_class_and_never_segment_zero(root: Path) -> None:
    samples = voc.samples(root, "val")
    ids, infos = samples[0].to_coco(samples.labels)
    assert ids[0, 0] == 4
    assert infos[3].category_id == 0
    assert (ids == 0).sum() == (CLASS == 255).sum()


def test_classes_without_objects_are_crowd(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    (base / "SegmentationClassAug").mkdir()
    Image.fromarray(CLASS.astype(np.uint8), "L").save(base / "SegmentationClassAug" / "2007_000032.png")
    (sample,) = voc.samples(root, "val", classes="SegmentationClassAug", objects=None)
    np.testing.assert_array_equal(sample.crowd, (CLASS > 0) & (CLASS < 255))
    assert not sample.instance.any()


def test_a_pixel_that_is_void_in_either_map_is_void(root: Path) -> None:
    objects = OBJECT.copy()
    objects[1, 1], objects[1, 2] = 255, 0
    save(root / "VOCdevkit" / "VOC2012" / "SegmentationObject" / "2007_000032.png", objects)
    (sample,) = voc.samples(root, "val")
    assert sample.category[1, :3].tolist() == [-1, -1, 15]
    assert sample.crowd[1].tolist() == [False, False, True, False, False]  # a thing of no object


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_may_begin_with_a_byte_order_mark(root: Path, mark: str) -> None:
    names = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    names.write_text("2007_000032\r\n", encoding=mark)
    assert voc.samples(root, "val")[0].image_id == "2007_000032"


def test_images_are_jpeg_beside_or_of_another_suffix(root: Path) -> None:
    photos = root / "VOCdevkit" / "VOC2012" / "JPEGImages"
    photos.mkdir()
    for suffix in (".png", ".JPG", ".jpg"):  # the data set's own goes first
        Image.new("L", (5, 4), len(suffix) + ord(suffix[1])).save(photos / f"2007_000032{suffix}")
        sample = voc.samples(root, "val")[0]
        assert sample.image_path == photos / f"2007_000032{suffix}"
        assert sample.image()[0, 0].tolist() == [4 + ord(suffix[1])] * 3


def test_a_photograph_that_is_not_there_is_missed_by_image_alone(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2012" / "JPEGImages").mkdir()
    (sample,) = voc.samples(root, "val")
    assert sample.category.shape == (4, 5)
    with pytest.raises(FileNotFoundError, match=r"nor one of this name with .jpg, .jpeg, .png, .*: .*2007_000032\.jpg"):
        sample.image()


def test_colors_instead_of_indices_are_refused(root: Path) -> None:
    path = root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000032.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(FormatError, match="expected a PNG of a palette or 8-bit gray, got mode RGB, 8 bits"):
        voc.samples(root, "val")[0]
    save(path, np.full((4, 5), 21))
    with pytest.raises(FormatError, match="expected 0 to 20 or 255 of voc, got 21"):
        voc.samples(root, "val")[0]
    save(path, np.zeros((5, 4)))
    with pytest.raises(FormatError, match=r"SegmentationObject/2007_000032.png: expected 5 × 4 px as .*, got 4 × 5"):
        voc.samples(root, "val")[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no name"),
        (b"a\na\n", "a name is there twice"),
        (b"../a\n", r"expected names of files, got '\.\./a'"),
        (b"/etc/a\n", "expected names of files, got '/etc/a'"),
        (b"a/b\n", "expected names of files, got 'a/b'"),
        (b"a\0b\n", "expected names of files"),
        (b"a\xff", "expected text in UTF-8, got invalid start byte at byte 1; save it as UTF-8"),
        (b"\xff\xfea", "expected text in UTF-16-LE, got truncated data at byte 0"),
        (b"\n" * (voc.MAX_BYTES + 1), "too large"),
    ],
)
def test_a_fault_of_the_list_is_named(root: Path, content: bytes, words: str) -> None:
    path = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"val.txt: {words}"):
        voc.samples(root, "val")


def test_missing_lists_and_maps_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        voc.samples(root, "train")
    (root / "VOCdevkit" / "VOC2012" / "SegmentationObject" / "2007_000032.png").unlink()
    with pytest.raises(FileNotFoundError, match="SegmentationObject/2007_000032"):
        voc.samples(root, "val")[0]


def test_colors_in_the_place_of_numbers_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (128, 0, 0)).save(tmp_path / "a.png")
    with pytest.raises(
        FormatError, match=r"got mode RGB, 8 bits; are these colors of classes\? their numbers are need"
    ):
        voc.load(tmp_path / "a.png", None, preset("voc"))
