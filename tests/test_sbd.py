# SPDX-License-Identifier: Apache-2.0
"""SBD: objects of MATLAB's files stand in where VOC has no maps, and make up its larger list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from deeperlab.data import sbd, voc
from deeperlab.data.files import FormatError
from deeperlab.data.formats import matlab
from deeperlab.data.labels import preset

OBJECTS = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)


def write(path: Path, objects: Any = OBJECTS, categories: Any = ((15,), (3,))) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = {"Segmentation": objects, "Categories": np.array(categories, np.uint8), "Boundaries": np.zeros(2)}
    savemat(path, {"GTinst": truth}, do_compression=True)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    lists = {"train": "a", "val": "b", "trainval": "a\nb"}
    for name in ("ImageSets/Segmentation", "SegmentationClass", "SegmentationObject", "JPEGImages"):
        (base / name).mkdir(parents=True)
    for split, text in lists.items():
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text)
    for name in "ab":
        Image.fromarray(np.array([[0, 20]], np.uint8)).save(base / "SegmentationClass" / f"{name}.png")
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(base / "SegmentationObject" / f"{name}.png")
        Image.new("RGB", (2, 1)).save(base / "JPEGImages" / f"{name}.jpg")
    other = tmp_path / "benchmark_RELEASE" / "dataset"
    for name in "bc":
        write(other / "inst" / f"{name}.mat")
    (other / "train.txt").write_text("c\n")
    (other / "val.txt").write_text("b\n")
    (other / "img").mkdir()
    Image.new("RGB", (3, 2)).save(other / "img" / "c.jpg")
    return tmp_path


def test_the_larger_list_has_all_of_sbd_without_what_is_validated_on(root: Path) -> None:
    layout = voc.find(root)
    assert layout is not None
    assert set(layout.splits) == {"train", "val", "trainval", "train_aug"}
    first, second = layout.splits["train_aug"]()
    assert (first.image_id, second.image_id) == ("a", "c")
    assert first.categories.tolist() == [20]
    assert second.category.tolist() == [[0, 15, 15], [0, 3, 3]]
    assert second.categories.tolist() == [3, 15]
    assert second.instance.tolist() == [[0, 2, 2], [0, 1, 1]]
    assert second.image().shape == (2, 3, 3)


def test_maps_made_of_sbd_are_taken_where_they_are(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    (base / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("c")
    for folder, values in (("SegmentationClassAug", [[7, 0]]), ("SegmentationObjectAug", [[1, 0]])):
        (base / folder).mkdir()
        Image.fromarray(np.array(values, np.uint8)).save(base / folder / "c.png")
    (sample,) = voc.samples(root, "train_aug", sbd=root / "benchmark_RELEASE" / "dataset")
    assert sample.categories.tolist() == [7]


@pytest.mark.parametrize(
    ("objects", "categories", "words"),
    [
        (OBJECTS + 1, ((15,), (3,)), "Segmentation: expected 0 to 2 objects, got 3"),
        (OBJECTS, ((15,), (30,)), "expected 0 to 20 or 255 of voc, got 30"),
        (np.array([["a"]]), ((15,),), "GTinst: expected numbers as Segmentation"),
        (np.full((2, 3), np.nan), ((15,),), r"Segmentation: expected numbers below 2\^31"),
        (np.zeros((2, 2, 2)), ((15,),), r"Segmentation: expected a map \[H, W\], got shape \(2, 2, 2\)"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(
    objects: Any, categories: Any, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.mat", objects, categories)
    with pytest.raises(FormatError, match=rf"x\.mat: {words}"):
        sbd.load(path, preset("voc"))


def test_what_is_packed_or_not_and_of_any_numbers_is_read(tmp_path: Path) -> None:
    for kind in (np.uint8, np.float64, np.int32, np.uint16):
        for packed in (False, True):
            truth = {"Categories": np.array([[15], [3]], kind), "Segmentation": OBJECTS.astype(kind), "Note": "text"}
            savemat(tmp_path / "x.mat", {"other": 3, "GTinst": truth}, do_compression=packed)
            found = matlab.read_struct(tmp_path / "x.mat", "GTinst")
            assert set(found) == {"Categories", "Segmentation"}
            np.testing.assert_array_equal(found["Segmentation"], OBJECTS)
            np.testing.assert_array_equal(found["Categories"], truth["Categories"])


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.mat", np.zeros((1 << 14, 1 << 14), np.uint8))
    with pytest.raises(FormatError, match=r"x\.mat: damaged file of MATLAB: a variable unpacks to more than"):
        sbd.load(tmp_path / "x.mat", preset("voc"))


def test_other_files_of_matlab_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"GTcls": {"Segmentation": OBJECTS}})
    with pytest.raises(FormatError, match="no structure GTinst"):
        sbd.load(path, preset("voc"))
    savemat(path, {"GTinst": OBJECTS}, format="4")
    with pytest.raises(FormatError, match="no file of MATLAB of level 5"):
        sbd.load(path, preset("voc"))
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    with pytest.raises(FormatError, match="expected a file of MATLAB of level 5, little-endian: save it with -v7"):
        sbd.load(path, preset("voc"))
