# SPDX-License-Identifier: Apache-2.0
"""Names of images: leading zeros of numbers, and how Unicode spells a letter, make no difference to whoever reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import archive, coco, label_map, two_channel, vistas, voc
from deeperlab.data.files import FormatError
from deeperlab.data.ids import ImageId, ids_of, image_id_of
from deeperlab.data.labels import LabelSet
from deeperlab.data.photos import photo_beside
from deeperlab.data.sample import from_maps
from deeperlab.metrics import FolderEvaluation
from deeperlab.predictor.sources import Source, find_sources

LABELS = LabelSet("small", ("road", "car"), (False, True), ((0, 0, 0),) * 2, (7, 26), (0,))
IDS = np.full((2, 3), 5)
TWO = "leading zeros make no difference; rename one"


def written(folder: Path, name: str, *images: ImageId) -> coco.Dataset:
    """A data set whose images have these ids."""
    entries = [(coco.Annotation(i, f"{n}.png", (coco.SegmentInfo(5, 7),)), IDS) for n, i in enumerate(images)]
    coco.write(folder / f"{name}.json", folder / name, entries, LABELS.categories)
    return coco.read(folder / f"{name}.json", folder / name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("007", 7), ("7", 7), (7, 7), ("000000000139", 139), ("0", 0), ("0" * 30 + "1", 1), ("9" * 18, 10**18 - 1)]
    + [(name, name) for name in ("1" * 19, "7a", "-7", "٣", "²", "", "a/007", "2007_000032", " 7")],
)
def test_a_name_of_digits_alone_is_a_number(name: ImageId, meant: ImageId) -> None:
    assert image_id_of(name) == meant
    assert type(image_id_of(name)) is type(meant)


@pytest.mark.parametrize(("truth", "predicted"), [("007", 7), (7, "007"), ("007", "7"), (139, "000000000139")])
def test_eval_finds_a_prediction_whatever_zeros_lead_its_name(
    truth: ImageId, predicted: ImageId, tmp_path: Path
) -> None:
    target, prediction = written(tmp_path, "target", truth), written(tmp_path, "prediction", predicted, "other")
    evaluation = FolderEvaluation(target, prediction)
    assert [image.target.image_id for image in evaluation] == [truth]
    assert (evaluation.left_out, evaluation.total.compute().pq.all.pq) == (1, 1)


def test_what_predict_calls_an_image_is_what_readers_call_it(tmp_path: Path) -> None:
    sample = from_maps(np.array([[0, 1]]), np.array([[0, 1]]), LABELS)
    for folder in ("two", "maps", "v/training/v1.2/labels", "voc/ImageSets/Segmentation", "voc/SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    two_channel.write(tmp_path / "two" / "007.png", sample, LABELS)
    label_map.write(tmp_path / "maps" / "007.npy", sample, LABELS, divisor=9)
    for folder in ("v/training/v1.2/labels", "voc/SegmentationClass"):
        Image.new("L", (2, 1)).save(tmp_path / folder / "007.png")
    (tmp_path / "voc" / "ImageSets" / "Segmentation" / "val.txt").write_text("007\n")
    readers: list[Any] = [
        two_channel.samples(tmp_path / "two", LABELS),
        label_map.samples(tmp_path / "maps", LABELS, divisor=9),
        vistas.samples(tmp_path / "v", "training", source="labels"),
        voc.samples(tmp_path / "voc", "val", objects=None),
    ]
    assert [samples[0].image_id for samples in readers] == [7] * 4
    for file_name, image_id in (("007.jpg", 7), ("007_leftImg8bit.png", 7), ("a/007.jpg", "a/007")):
        assert Source.named(tmp_path / file_name, file_name).image_id == image_id


def test_two_names_of_one_number_are_refused_everywhere(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"list.txt: images '07' and '7': expected distinct names, and {TWO}"):
        ids_of(["a", "07", "b", "7"], tmp_path / "list.txt")
    target = written(tmp_path, "x", "07", "8")
    with pytest.raises(ValueError, match="expected distinct images"):
        written(tmp_path, "y", "07", 7)
    text = target.path.read_text()
    target.path.write_text(text.replace('"image_id": "8"', '"image_id": 7'))
    with pytest.raises(FormatError, match=rf"annotations\[1\]: images '07' and 7: .*{TWO}"):
        coco.read(target.path, target.directory)
    target.path.write_text(text.replace('"id": "8"', '"id": "007"'))
    with pytest.raises(FormatError, match=rf"images\[1\]: images '07' and '007': .*{TWO}"):
        coco.read(target.path, target.directory)
    (tmp_path / "two").mkdir()
    for name in ("07", "7"):
        Image.new("RGB", (2, 1)).save(tmp_path / "two" / f"{name}.png")
    with pytest.raises(FormatError, match=f"two: images '07' and '7': .*{TWO}"):
        two_channel.samples(tmp_path / "two", LABELS)
    found = find_sources([tmp_path / "two"], tmp_path / "out")
    assert [source.image_id for source in found.sources] == [7]
    assert [(path.name, TWO in text) for path, text in found.faults] == [("7.png", True)]
    np.savez(tmp_path / "x.npz", image_ids=np.array(["07", "7"]))
    with pytest.raises(FormatError, match="image_ids: expected 2 distinct integers or strings"):
        archive.image_ids(tmp_path / "x.npz", 2)


JOINED, SPLIT = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("truth", "predicted"), [(JOINED, SPLIT), (SPLIT, JOINED)])
def test_eval_finds_a_prediction_however_its_letters_are_spelled(truth: str, predicted: str, tmp_path: Path) -> None:
    target, prediction = written(tmp_path, "target", truth), written(tmp_path, "prediction", predicted)
    assert [image.result.pq.all.pq for image in FolderEvaluation(target, prediction)] == [1]
    assert [image_id_of(name) for name in (JOINED, SPLIT)] == [JOINED] * 2
    assert Source.named(tmp_path / "x.jpg", f"{SPLIT}.jpg").image_id == JOINED
    with pytest.raises(
        FormatError, match=r"and how Unicode spells a letter \('caf\\xe9', 'cafe\\u0301'\) makes no diff"
    ):
        ids_of([JOINED, SPLIT], tmp_path)
    for name in (JOINED, SPLIT):
        (tmp_path / f"{name}.jpg").touch()
    found = find_sources([tmp_path / "*.jpg"], tmp_path / "out")
    assert ([len(found.sources)], ["spells a letter" in text for _, text in found.faults]) == ([1], [True])


@pytest.mark.parametrize(("listed", "there"), [(JOINED, SPLIT), (SPLIT, JOINED)])
def test_files_are_found_however_their_letters_are_spelled(listed: str, there: str, tmp_path: Path) -> None:
    entry = coco.Annotation(1, f"{listed}/1.png", (coco.SegmentInfo(5, 7),)), IDS
    coco.write(tmp_path / "x.json", tmp_path / "x", [entry], LABELS.categories)
    (tmp_path / "x" / listed).rename(tmp_path / "x" / there)
    data = coco.read(tmp_path / "x.json", tmp_path / "x")
    np.testing.assert_array_equal(data.ids(data.annotations[0]), IDS)
    Image.new("RGB", (3, 2)).save(tmp_path / "x" / there / "1.JPG")
    assert photo_beside(tmp_path / "x", f"{listed}/1.png") == tmp_path / "x" / there / "1.png"
    assert photo_beside(tmp_path / "x" / there, "1.jpg") == tmp_path / "x" / there / "1.JPG"
    for folder in ("ImageSets/Segmentation", "SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text(listed)
    Image.new("P", (3, 2)).save(tmp_path / "SegmentationClass" / f"{there}.png")
    assert (voc.samples(tmp_path, "val", objects=None)[0].category == 0).all()


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("1.jpg", r"no such file, but 1\.jpg: is this the folder of the photographs\? segment ids are in PNGs"),
        ("1.PNG", r"no such file, but 1\.PNG: capital letters make a difference; rename it, or change file_name"),
        ("2.png", "no such file or directory"),
    ],
)
def test_of_a_missing_map_it_is_said_what_is_there_instead(there: str, words: str, tmp_path: Path) -> None:
    data = written(tmp_path, "x", 1)
    (tmp_path / "x" / "0.png").rename(tmp_path / "x" / there.replace("1", "0"))
    for look in (data.ids, data.size):
        with pytest.raises(FileNotFoundError, match=words.replace("1", "0")) as fault:
            look(data.annotations[0])
        assert fault.value.filename == str(tmp_path / "x" / "0.png")


def test_the_same_name_in_two_folders_is_no_fault_of_a_reader(tmp_path: Path) -> None:
    assert ids_of(["07", "07"], tmp_path) == [7, 7]
