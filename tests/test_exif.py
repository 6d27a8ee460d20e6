# SPDX-License-Identifier: Apache-2.0
"""Photographs that EXIF turns, and annotations of their pixels as they are stored, or as they are shown."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import coco
from deeperlab.data.files import FormatError
from deeperlab.data.formats.photo import ORIENTATION
from deeperlab.data.labels import preset
from deeperlab.data.sample import ExifWarning, Sample, from_maps
from deeperlab.metrics import FolderEvaluation

STORED = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
SHOWN = {6: np.rot90(STORED, -1), 8: np.rot90(STORED), 3: STORED[::-1, ::-1]}


def labeled(folder: Path, orientation: int, shape: tuple[int, int], kind: str = "png") -> Sample:
    """A photograph of 2 × 4 px, and an annotation of a size."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(STORED).save(folder / f"a.{kind}", exif=exif)
    nothing = np.zeros(shape, int)
    return from_maps(nothing, nothing, preset("cityscapes"), image_path=folder / f"a.{kind}")


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("orientation", [6, 8])
def test_an_annotation_of_the_stored_pixels_has_them_and_a_warning(kind: str, orientation: int, tmp_path: Path) -> None:
    sample = labeled(tmp_path, orientation, (2, 4), kind)
    words = (
        rf"a\.{kind}: labeled as it is stored, 2 × 4 px, not as EXIF turns it \(orientation {orientation}\); predict"
    )
    with pytest.warns(ExifWarning, match=words):
        image = sample.image()
    assert image.shape == STORED.shape
    assert np.abs(image.astype(int) - STORED).max() <= (20 if kind == "jpg" else 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(sample.image(exif=False), image)
    with pytest.raises(FormatError, match="expected 2 × 4 px as annotated, got 4 × 2 px; exif=False fits"):
        sample.image(exif=True)


@pytest.mark.parametrize("orientation", [6, 8])
def test_an_annotation_of_what_is_shown_has_that(orientation: int, tmp_path: Path) -> None:
    sample = labeled(tmp_path, orientation, (4, 2))
    np.testing.assert_array_equal(sample.image(), SHOWN[orientation])
    np.testing.assert_array_equal(sample.image(exif=True), SHOWN[orientation])
    with pytest.raises(FormatError, match="expected 4 × 2 px as annotated, got 2 × 4 px; exif=True fits"):
        sample.image(exif=False)


def test_where_both_fit_the_pixels_are_those_stored(tmp_path: Path) -> None:
    sample = labeled(tmp_path, 3, (2, 4))
    np.testing.assert_array_equal(sample.image(), STORED)
    np.testing.assert_array_equal(sample.image(exif=True), SHOWN[3])


@pytest.mark.parametrize("exif", [None, False, True])
def test_where_neither_fits_both_are_refused(exif: bool | None, tmp_path: Path) -> None:
    got = "4 × 2" if exif else "2 × 4"
    with pytest.raises(FormatError, match=f"expected 3 × 4 px as annotated, got {got} px$"):
        labeled(tmp_path, 6, (3, 4)).image(exif=exif)


def test_eval_asks_whether_a_prediction_was_turned(tmp_path: Path) -> None:
    datasets = []
    for name, shape in (("target", (2, 4)), ("prediction", (4, 2))):
        entry = coco.Annotation(1, "1.png", (coco.SegmentInfo(5, 7),)), np.full(shape, 5)
        coco.write(tmp_path / f"{name}.json", tmp_path / name, [entry], preset("cityscapes").categories)
        datasets.append(coco.read(tmp_path / f"{name}.json", tmp_path / name))
    with pytest.raises(FormatError, match=r"but its ground truth 1\.png 4 × 2 px; .* predict --no-exif leaves it"):
        list(FolderEvaluation(*datasets))


@pytest.mark.parametrize(("name", "orientation"), [("Landscape_6.jpg", 6), ("Portrait_8.jpg", 8)])
def test_real_photographs_are_read_both_ways(name: str, orientation: int, realdata: Path) -> None:
    path = realdata / "formats" / "exif_orientation" / name
    with Image.open(path) as image:
        stored = image.size[::-1]
    for shape in (stored, stored[::-1]):
        sample = from_maps(np.zeros(shape, int), np.zeros(shape, int), preset("cityscapes"), image_path=path)
        assert sample.image(exif=shape != stored).shape[:2] == shape
        if shape == stored:
            with pytest.warns(ExifWarning, match=f"orientation {orientation}"):
                sample.image()
        else:
            assert sample.image().shape[:2] == shape
