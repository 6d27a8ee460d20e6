# SPDX-License-Identifier: Apache-2.0
"""Files that are taken for panoptic ones: one line says what they are, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import cityscapes, coco, two_channel
from deeperlab.data.files import FormatError
from deeperlab.data.labels import LabelSet
from deeperlab.data.sample import from_maps

LABELS = LabelSet("small", ("road", "car"), (False, True), ((0, 0, 0),) * 2, (7, 26), (0,))
BOX = {"id": 1, "image_id": 3, "category_id": 26, "bbox": [0, 0, 2, 2]}
MASK = BOX | {"segmentation": [[0, 0, 2, 0, 2, 2]], "iscrowd": 0}
POINTS = BOX | {"keypoints": [1, 1, 2], "num_keypoints": 1}


def data_set(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {"images": [{"id": 3, "file_name": "3.jpg"}], "annotations": list(annotations), "categories": []}


JSON: dict[str, tuple[Any, str]] = {
    "instances": (data_set(MASK), r"got COCO annotations of instances \(polygons or RLE\); .*detection2panoptic"),
    "keypoints": (data_set(POINTS), "got COCO annotations of instances with keypoints; of keypoints there is no"),
    "boxes": (data_set(BOX), "got COCO annotations of instances with boxes only; of boxes there is no panoptic map"),
    "captions": (data_set({"image_id": 3, "id": 1, "caption": "a"}), "got COCO annotations of captions"),
    "results": ([MASK | {"score": 0.5}], r"got a list of instances \(polygons or RLE\) with scores, as COCO's results"),
    "results with boxes": ([BOX | {"score": 0.5}], "got a list of instances with boxes only with scores"),
    "the list alone": (
        [{"image_id": 3, "file_name": "3.png", "segments_info": []}],
        "got a list of panoptic annotations; an object is needed that has them under 'annotations'",
    ),
    "categories": ([{"id": 7, "name": "road", "isthing": 0}], "got a list of categories; give it as --categories"),
    "Scalabel": ([{"name": "a", "labels": []}], "got a list of frames of Scalabel"),
    "LabelMe": ({"shapes": [], "imagePath": "a"}, "got polygons of LabelMe"),
    "Cityscapes": ({"imgHeight": 4, "objects": []}, "got polygons of one image, as of Cityscapes or Vistas"),
    "Vistas": ({"labels": [], "mapping": "public"}, "got the configuration of Vistas; give panoptic_2018.json"),
    "labels": ({"classes": []}, "got a label set; give the panoptic JSON"),
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("categories", [None, LABELS.categories])
def test_another_json_is_told(kind: str, categories: Any, tmp_path: Path) -> None:
    content, words = JSON[kind]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=rf"x\.json: expected COCO's panoptic format, {words}"):
        coco.read(tmp_path / "x.json", tmp_path, categories=categories)


@pytest.mark.parametrize("content", [[], {}, [1], [[]], {"annotations": [3]}, {"annotations": {}}, 5, None])
def test_what_is_unknown_is_told_by_what_it_lacks(content: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"x\.json: (expected an object|no key|annotations)"):
        coco.read(tmp_path / "x.json", tmp_path)


def test_real_annotations_of_instances_are_told(realdata: Path) -> None:
    for path in ("coco_instances/instances.json", "panopticapi_sample/panoptic_coco_detection_format.json"):
        with pytest.raises(FormatError, match="annotations of instances"):
            coco.read(realdata / path, realdata)


@pytest.fixture
def dataset(tmp_path: Path) -> coco.Dataset:
    """A car of id 900 on a road of id 800."""
    ids = np.array([[800, 900, 900]])
    entry = coco.Annotation(3, "3.png", coco.describe(ids, {800: 7, 900: 26})), ids
    coco.write(tmp_path / "x.json", tmp_path / "x", [entry], LABELS.categories)
    return coco.read(tmp_path / "x.json", tmp_path / "x")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("I;16", "got mode I;16, 16 bits; such are Cityscapes' instanceIds and Vistas' instances"),
        ("P", r"got mode P, \d bits; a palette holds classes or objects, as VOC's PNGs"),
        ("L", "got mode L, 8 bits; 8-bit gray holds classes, as labelTrainIds"),
        ("RGBA", "got mode RGBA, 8 bits; save it without its alpha channel"),
    ],
)
def test_another_png_is_told(mode: str, words: str, dataset: coco.Dataset) -> None:
    Image.new(mode, (3, 1)).save(dataset.directory / "3.png")
    for read in (dataset.ids, dataset.size):
        with pytest.raises(FormatError, match=rf"3\.png: expected a PNG of 24-bit RGB, {words}"):
            read(dataset.annotations[0])


def test_a_two_channel_png_is_told(dataset: coco.Dataset) -> None:
    sample = from_maps(np.array([[0, 1, 1]]), np.array([[0, 1, 1]]), LABELS)
    two_channel.write(dataset.directory / "3.png", sample, LABELS)
    with pytest.raises(FormatError, match=r"ids 7, 26 not in segments_info of x\.json; a two-channel PNG \(red: cat"):
        dataset.ids(dataset.annotations[0])
    coco.write_ids(dataset.directory / "3.png", np.array([[800, 900, 901]]))
    with pytest.raises(FormatError, match=r"id 901 not in segments_info of x\.json$"):
        dataset.ids(dataset.annotations[0])


def test_ids_whose_red_and_blue_are_swapped_are_told(dataset: coco.Dataset) -> None:
    ids = np.array([[800, 900, 900]])
    rgb = np.stack((ids & 255, ids >> 8, 0 * ids), axis=-1).astype(np.uint8)
    Image.fromarray(np.ascontiguousarray(rgb[..., ::-1])).save(dataset.directory / "3.png")
    with pytest.raises(FormatError, match=r"ids 2097920, 8651520 not in .*; red and blue are swapped, as cv2\.imwrite"):
        dataset.ids(dataset.annotations[0])


@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, "JPEG"])
def test_ids_that_were_interpolated_or_compressed_are_told(how: Any, tmp_path: Path) -> None:
    ids = np.full((48, 64), 70_000)
    ids[10:30, 12:40] = 12_345_678
    entry = coco.Annotation(3, "3.png", coco.describe(ids, {70_000: 7, 12_345_678: 26})), ids
    coco.write(tmp_path / "x.json", tmp_path / "x", [entry], LABELS.categories)
    path = tmp_path / "x" / "3.png"
    with Image.open(path) as image:
        if how == "JPEG":
            image.save(tmp_path / "lossy.jpg", quality=95)
            image = Image.open(tmp_path / "lossy.jpg")
        else:
            image = image.resize((45, 31), how).resize((64, 48), how)
    image.save(path)
    data = coco.read(tmp_path / "x.json", tmp_path / "x")
    with pytest.raises(FormatError, match=r"3\.png: ids .* not in .*such ids come of a resize with interpol"):
        data.ids(data.annotations[0])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("JPEG", "not a PNG but JPEG; a photograph\\? it keeps no ids: maps are saved as PNG"),
        ("WEBP", "not a PNG but WEBP; a photograph"),
        ("BMP", "not a PNG but BMP; save it as PNG, with the same values"),
        ("TIFF", "not a PNG but TIFF; save it as PNG"),
    ],
)
def test_a_map_of_another_kind_of_file_is_told(kind: str, words: str, dataset: coco.Dataset) -> None:
    Image.new("RGB", (3, 1)).save(dataset.directory / "3.png", format=kind)
    with pytest.raises(FormatError, match=words):
        dataset.size(dataset.annotations[0])


def test_segments_of_transformers_are_told(dataset: coco.Dataset) -> None:
    dataset.path.write_text(dataset.path.read_text().replace("category_id", "label_id"))
    with pytest.raises(
        FormatError, match=r"segments_info\[0\]: no key 'category_id'; label_id, as transformers has it"
    ):
        coco.read(dataset.path, dataset.directory)


def test_segment_ids_in_the_place_of_instance_ids_are_told(tmp_path: Path) -> None:
    path = tmp_path / "gtFine" / "val" / "a" / "a_0_0_gtFine_instanceIds.png"
    path.parent.mkdir(parents=True)
    coco.write_ids(path, np.array([[1]]))
    with pytest.raises(FormatError, match="expected a PNG of 16-bit gray, got mode RGB, 8 bits; 24-bit RGB holds seg"):
        cityscapes.samples(tmp_path, "val")[0]
