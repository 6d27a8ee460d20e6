# SPDX-License-Identifier: Apache-2.0
"""What is trained on: drawn scenes, folders as data sets are distributed, and files that list several."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import coco
from deeperlab.data.files import FormatError
from deeperlab.data.folders import find_layouts
from deeperlab.data.labels import LabelSet
from deeperlab.scenes import draw
from deeperlab.training.config import Config, DataConfig
from deeperlab.training.drawn import FIRST_VAL
from deeperlab.training.index import id_of, packed
from deeperlab.training.report import report
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


def panoptic(root: Path, json: str, images: str, key: int = 7) -> None:
    """One image of a cow on a meadow, with a photograph."""
    path = root / json
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.array([[1, 1, 2], [0, 2, 2]])
    annotation = coco.Annotation(key, f"{key}.png", coco.describe(ids, {1: 1, 2: 2}), f"{key}.jpg")
    coco.write(path, path.with_suffix(""), [(annotation, ids)], FARM.categories)
    (root / images).mkdir(parents=True, exist_ok=True)
    coco.write_ids(root / images / f"{key}.png", ids + (9 << 16))  # a PNG serves as a photograph


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
    with pytest.raises(FormatError, match=r"annotations such as .*, but no folder of photographs"):
        open_sources(DataConfig(source=str(tmp_path)))


def test_a_folder_of_nothing_known_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no data set; expected one of these: COCO panoptic"):
        open_sources(DataConfig(source=str(tmp_path)))


def write_maps(root: Path, split: str, **ids: int) -> None:
    """Label maps of one class each, with photographs beside."""
    (root / split).mkdir(parents=True, exist_ok=True)
    for name, value in ids.items():
        np.save(root / split / f"{name}.npy", np.full((2, 3), value))
        coco.write_ids(root / split / f"{name}.png", np.full((2, 3), 9 << 16))


def labels_file(path: Path, *names: str, things: int = 1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = [{"name": name, "thing": i < things} for i, name in enumerate(names)]
    path.write_text(json.dumps({"name": path.stem, "classes": classes}))
    return str(path)


def cityscapes_folder(root: Path) -> None:
    path = root / "gtFine" / "train" / "a" / "a_0_0_gtFine_instanceIds.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.array([[7, 24001], [26, 26000]], np.uint16)).save(path)
    (root / "leftImg8bit" / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(root / "leftImg8bit" / "train" / "a" / "a_0_0_leftImg8bit.png")


def voc_folder(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "SegmentationClass", "SegmentationObject", "JPEGImages"):
        (base / name).mkdir(parents=True)
    for split in ("train", "val", "trainval"):
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("a\n")
    for kind in ("Class", "Object"):
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(base / f"Segmentation{kind}" / "a.png")
    Image.new("RGB", (2, 1)).save(base / "JPEGImages" / "a.jpg")


def vistas_folder(root: Path) -> None:
    for kind in ("v1.2/instances", "images"):
        (root / "training" / kind).mkdir(parents=True)
    Image.fromarray(np.array([[256, 257]], np.uint16)).save(root / "training" / "v1.2" / "instances" / "a.png")
    Image.new("RGB", (2, 1)).save(root / "training" / "images" / "a.jpg")


def instances_folder(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    image = {"id": 7, "file_name": "7.png", "height": 2, "width": 3}
    mask = {"image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 2, 0, 2, 1, 0, 1]]}
    content = {"images": [image], "annotations": [mask], "categories": [{"id": 1, "name": "cow"}]}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    (root / "train2017").mkdir()
    Image.new("RGB", (3, 2)).save(root / "train2017" / "7.png")


def label_maps_folder(root: Path) -> None:
    write_maps(root, "train", a=0, b=1)
    labels_file(root / "labels.json", "cow", "meadow")


def two_channel_folder(root: Path) -> None:
    (root / "annotations" / "train").mkdir(parents=True)
    coco.write_ids(root / "annotations" / "train" / "a.png", np.array([[1, 2]]))
    (root / "images" / "train").mkdir(parents=True)
    Image.new("RGB", (2, 1)).save(root / "images" / "train" / "a.jpg")
    labels_file(root / "labels.json", "cow", "meadow")


def pairs_folder(root: Path, key: str = "a") -> None:
    root.mkdir(parents=True, exist_ok=True)
    coco.write_ids(root / f"{key}.png", np.array([[70000, 70001]]))
    segments = [{"id": 70000, "category_id": 1, "iscrowd": 0}, {"id": 70001, "category_id": 2, "iscrowd": 0}]
    (root / f"{key}.json").write_text(json.dumps({"image_id": key, "segments_info": segments}))
    Image.new("RGB", (2, 1)).save(root / f"{key}.jpg")
    labels_file(root / "labels.json", "cow", "meadow")


FOLDERS: dict[str, Callable[[Path], None]] = {
    "segments": lambda root: panoptic(root, "annotations/panoptic_train2017.json", "train2017"),
    "instances": instances_folder,
    "cityscapes": cityscapes_folder,
    "vistas": vistas_folder,
    "voc": voc_folder,
    "pairs": pairs_folder,
    "two_channel": two_channel_folder,
    "label_map": label_maps_folder,
}
OPTIONS = {"label_map": {"divisor": 1}}


def pack(folder: Path, suffix: str) -> Path:
    return Path(shutil.make_archive(str(folder), suffix, folder))


@pytest.mark.parametrize("suffix", ["", "zip", "tar"])
@pytest.mark.parametrize("name", FOLDERS)
def test_every_format_is_known_by_its_files_also_in_a_zip_or_tar(name: str, suffix: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    FOLDERS[name](root)
    (layout,) = find_layouts(root)
    assert layout.format == name
    source = pack(root, suffix) if suffix else root
    sources = open_sources(DataConfig(source=str(source), options=OPTIONS.get(name, {})))
    samples = pickle.loads(pickle.dumps(packed(sources).train[0].samples))
    for sample in samples:
        assert sample.image().shape[:2] == sample.category.shape
        assert (sample.category >= 0).any()


def test_a_folder_may_be_within_another(tmp_path: Path) -> None:
    cityscapes_folder(tmp_path / "data" / "cityscapes")
    assert len(open_sources(DataConfig(source=str(tmp_path))).train[0].samples) == 1


def test_a_zip_made_by_macos_is_read(tmp_path: Path) -> None:
    cityscapes_folder(tmp_path / "data" / "cityscapes")
    (tmp_path / "data" / "__MACOSX" / "cityscapes").mkdir(parents=True)
    (tmp_path / "data" / "__MACOSX" / "cityscapes" / "._gtFine").touch()
    assert len(open_sources(DataConfig(source=str(pack(tmp_path / "data", "zip")))).train[0].samples) == 1


def test_a_folder_of_another_format_is_told_which_it_looks_like(tmp_path: Path) -> None:
    cityscapes_folder(tmp_path)
    with pytest.raises(FormatError, match=r"expected PASCAL VOC: .*; it looks like cityscapes \(Cityscapes: gtFine"):
        open_sources(DataConfig(source=str(tmp_path), format="voc"))
    with pytest.raises(ValueError, match=r"format: expected one of segments, .*, got 'pascal'"):
        open_sources(DataConfig(source=str(tmp_path), format="pascal"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train/_annotations.coco.json", {"annotations": [{"segmentation": []}]}, r"call it instances_<split>\.json"),
        ("annotations/panoptic_train.json", {"annotations": [{"segments_info": []}]}, r"beside the folder panoptic_"),
        ("a.json", {"shapes": [], "imagePath": "a.jpg"}, r"a\.json looks like polygons of LabelMe; convert them"),
        ("labels/train/a.txt", "0 .5 .5 .1 .1", "it looks like boxes or polygons of YOLO"),
        ("Annotations/a.xml", "<annotation/>", "it looks like boxes in XML"),
        ("SegmentationClass/a.png", "", "it looks like PASCAL VOC, but without SegmentationObject"),
        ("broken.json", "{", "no data set; expected one of these"),
        ("labels.json", {"classes": []}, "no data set; expected one of these"),
    ],
)
def test_a_folder_of_a_format_that_is_not_read_is_told_what_it_looks_like(
    name: str, content: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "images").mkdir()
    with pytest.raises(FormatError, match=rf"no data set.*{words}.*; expected one of" if words[:2] != "no" else words):
        open_sources(DataConfig(source=str(tmp_path)))


def test_a_folder_of_two_formats_says_both_and_how_to_choose(tmp_path: Path) -> None:
    cityscapes_folder(tmp_path)
    voc_folder(tmp_path)
    with pytest.raises(FormatError, match=r"fits several formats: cityscapes .*; voc .*; say which with format"):
        open_sources(DataConfig(source=str(tmp_path)))
    assert open_sources(DataConfig(source=str(tmp_path), format="voc")).labels.name == "voc"


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").touch()
    with pytest.raises(FormatError, match=r"expected a folder, a zip or tar file \(of \.tar\.gz: gunzip it"):
        open_sources(DataConfig(source=str(tmp_path / "x.tar.gz")))
    with pytest.raises(FileNotFoundError, match="none"):
        open_sources(DataConfig(source=str(tmp_path / "none")))
    with pytest.raises(ValueError, match=r"data\.source: expected scenes, a folder"):
        open_sources(DataConfig())


def test_shards_are_one_data_set_split_by_their_names(tmp_path: Path) -> None:
    for shard, key in (("farm-train-000", "a"), ("farm-train-001", "b"), ("farm-val-000", "c")):
        pairs_folder(tmp_path / "unpacked" / shard, key)
        (tmp_path / "unpacked" / shard / "labels.json").unlink()
        pack(tmp_path / "unpacked" / shard, "tar").rename(tmp_path / f"{shard}.tar")
    shutil.rmtree(tmp_path / "unpacked")
    labels_file(tmp_path / "labels.json", "cow", "meadow")
    sources = open_sources(DataConfig(source=str(tmp_path)))
    assert sources.val is not None
    assert [sample.image_id for sample in sources.train[0].samples] == ["a", "b"]
    assert [sample.image().shape for sample in sources.val.samples] == [(1, 2, 3)]
    shutil.copy(tmp_path / "farm-train-000.tar", tmp_path / "farm-train-002.tar")
    with pytest.raises(FormatError, match=r"farm-train-002\.tar: image 'a' is in farm-train-000\.tar as well"):
        open_sources(DataConfig(source=str(tmp_path)))


def in_pieces(folder: Path, root: Path, suffix: str) -> None:
    """Pack each folder of a folder by itself, as data sets are distributed."""
    root.mkdir()
    for part in sorted(folder.iterdir()):
        shutil.make_archive(str(root / f"{part.name}_trainval"), suffix, folder, part.name)


def whole_panoptic(root: Path) -> None:
    for split in ("train", "val"):
        panoptic(root, f"annotations/panoptic_{split}2017.json", f"{split}2017")


PIECES = {"segments": whole_panoptic, "instances": instances_folder, "cityscapes": cityscapes_folder}


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("name", PIECES)
def test_zip_and_tar_files_beside_each_other_are_one_data_set(
    name: str, unpacked: bool, suffix: str, tmp_path: Path
) -> None:
    PIECES[name](tmp_path / "unpacked")
    in_pieces(tmp_path / "unpacked", tmp_path / "data", suffix)
    if unpacked:  # the photographs alone
        safe = {"filter": "data"} if suffix == "tar" else {}  # Python 3.12 and 3.13 warn without
        shutil.unpack_archive(sorted((tmp_path / "data").iterdir())[-1], tmp_path / "data", **safe)
        sorted((tmp_path / "data").glob("*." + suffix))[-1].unlink()
    for path in (tmp_path / "data").glob("val*." + suffix):
        path.rename(path.with_suffix(path.suffix.upper()))
    found, expected = (open_sources(DataConfig(source=str(tmp_path / folder))) for folder in ("data", "unpacked"))
    assert (found.val is None) == (expected.val is None)
    samples = pickle.loads(pickle.dumps(found.train[0].samples))
    for sample, other in zip(samples, expected.train[0].samples, strict=True):
        assert (sample.image() == other.image()).all()
        assert (sample.category == other.category).all()


def test_voc_and_sbd_are_found_in_two_tar_files(tmp_path: Path) -> None:
    voc_folder(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "benchmark_RELEASE" / "dataset" / "inst").mkdir(parents=True)
    (tmp_path / "unpacked" / "benchmark_RELEASE" / "dataset" / "inst" / "x.mat").touch()
    in_pieces(tmp_path / "unpacked", tmp_path / "data", "tar")
    (layout,) = find_layouts(tmp_path / "data")
    assert (layout.format, "train_aug" in layout.splits) == ("voc", True)
    assert len(layout.splits["train"]()) == 1


def test_pngs_still_packed_beside_their_json_are_read(tmp_path: Path) -> None:
    whole_panoptic(tmp_path)
    for split in ("train", "val"):
        pngs = tmp_path / "annotations" / f"panoptic_{split}2017"
        shutil.make_archive(str(pngs), "zip", pngs.parent, pngs.name)
        shutil.rmtree(pngs)
    (sample,) = open_sources(DataConfig(source=str(tmp_path))).train[0].samples
    assert sample.category.tolist() == [[0, 0, 1], [-1, 1, 1]]
    in_pieces(tmp_path, tmp_path.parent / "in_pieces", "zip")
    with pytest.raises(FormatError, match=r"panoptic_train2017\.zip: a zip within a zip cannot be read; unpack"):
        open_sources(DataConfig(source=str(tmp_path.parent / "in_pieces")))


def test_files_left_beside_what_was_unpacked_from_them_are_not_opened(tmp_path: Path) -> None:
    whole_panoptic(tmp_path)
    (tmp_path / "annotations_trainval2017.zip").write_bytes(b"half of it")
    assert len(open_sources(DataConfig(source=str(tmp_path))).train[0].samples) == 1


def test_shards_that_are_whole_data_sets_stay_shards(tmp_path: Path) -> None:
    for shard, key in (("coco-train-000", 7), ("coco-train-001", 8)):
        panoptic(tmp_path / shard, "panoptic_train.json", "train", key)
        shutil.make_archive(str(tmp_path / "data" / shard), "zip", tmp_path / shard)
    assert [s.image_id for s in open_sources(DataConfig(source=str(tmp_path / "data"))).train[0].samples] == [7, 8]


def test_a_folder_of_one_zip_is_what_the_zip_holds(tmp_path: Path) -> None:
    vistas_folder(tmp_path / "unpacked")
    (tmp_path / "data").mkdir()
    pack(tmp_path / "unpacked", "zip").rename(tmp_path / "data" / "vistas.zip")
    assert open_sources(DataConfig(source=str(tmp_path / "data"))).labels.name == "vistas"


def test_formats_without_names_need_labels(tmp_path: Path) -> None:
    write_maps(tmp_path / "data", "train", a=1)
    config = DataConfig(source=str(tmp_path / "data"), options={"divisor": 1})
    with pytest.raises(FormatError, match=r"label_map does not say what the classes are; give labels \(data\.labels\)"):
        open_sources(config)
    labels = labels_file(tmp_path / "x.json", "cow", "meadow")
    assert open_sources(replace(config, labels=labels)).labels.names == ("cow", "meadow")
    with pytest.raises(FormatError, match=r"label_map does not say its divisor; give data\.options\.divisor"):
        open_sources(replace(config, labels=labels, options={}))


@pytest.mark.parametrize("name", FOLDERS)
def test_an_option_that_a_reader_does_not_take_is_named_with_the_nearest(name: str, tmp_path: Path) -> None:
    FOLDERS[name](tmp_path)
    needed = OPTIONS.get(name, {})
    open_sources(DataConfig(source=str(tmp_path), options=needed | {"max_pixels": 10**6}))
    with pytest.raises(FormatError, match=rf"options of {name}: unknown 'maxpixels'; max_pixels\?"):
        open_sources(DataConfig(source=str(tmp_path), options=needed | {"maxpixels": 9}))


def test_data_and_labels_that_disagree_are_named_with_both_lists(tmp_path: Path) -> None:
    panoptic(tmp_path, "panoptic_train.json", "train")
    labels = labels_file(tmp_path / "zoo.json", "lion", "meadow")
    with pytest.raises(
        FormatError,
        match=r"panoptic_train\.json: category 1 \(cow\) is not in zoo; zoo has lion, meadow; the file has cow, meadow",
    ):
        open_sources(DataConfig(source=str(tmp_path), labels=labels))
    cityscapes_folder(tmp_path / "streets")
    with pytest.raises(FormatError, match=r"streets: category 8 \(sidewalk\) is not in coco; coco has person, bicycle"):
        open_sources(DataConfig(source=str(tmp_path / "streets"), labels="coco"))


def write_list(path: Path, text: str) -> DataConfig:
    path.write_text(text)
    return DataConfig(source=str(path))


def test_a_file_lists_sources_with_weights_whose_classes_go_by_name(tmp_path: Path) -> None:
    panoptic(tmp_path / "farm", "panoptic_train.json", "train")
    panoptic(tmp_path / "farm", "panoptic_val.json", "val")
    write_maps(tmp_path / "maps", "train", a=0, b=1)
    write_maps(tmp_path / "maps", "val", c=1)
    labels_file(tmp_path / "other.json", "cow", "meadow")
    labels_file(tmp_path / "both.json", "dog", "cow", "sky", "meadow", things=2)
    sources = open_sources(
        write_list(
            tmp_path / "list.toml",
            """
            labels = "both.json"
            [[train]]
            path = "farm"
            weight = 3
            [[train]]
            path = "maps"
            format = "label_map"
            labels = "other.json"
            options = {divisor = 1}
            [[val]]
            path = "farm"
            [[val]]
            path = "maps"
            labels = "other.json"
            options = {divisor = 1}
            """,
        )
    )
    assert sources.labels.names == ("dog", "cow", "sky", "meadow")
    assert [(source.name, source.weight) for source in sources.train] == [("farm", 3), ("maps", 1)]
    first, second = (pickle.loads(pickle.dumps(source.samples)) for source in packed(sources).train)
    assert first[0].category.tolist() == [[1, 1, 3], [-1, 3, 3]]
    assert first[0].categories.tolist() == [1]
    assert [sample.category[0, 0] for sample in second] == [1, 3]
    assert sources.val is not None
    assert [sample.image_id for sample in sources.val.samples] == [7, "c"]


def test_classes_that_take_in_others_are_trained_on_as_one(tmp_path: Path) -> None:
    panoptic(tmp_path / "farm", "panoptic_train.json", "train")
    classes = [{"name": "animal", "thing": True, "of": ["dog", "cow"]}, {"name": "outside", "thing": False}]
    classes[1]["of"] = ["meadow", "sky"]
    (tmp_path / "coarse.json").write_text(json.dumps({"classes": classes}))
    (train,) = open_sources(DataConfig(source=str(tmp_path / "farm"), labels=str(tmp_path / "coarse.json"))).train
    assert train.samples.labels.names == ("animal", "outside")
    assert train.samples[0].category.tolist() == [[0, 0, 1], [-1, 1, 1]]

    classes[0]["thing"] = False
    (tmp_path / "coarse.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(FormatError, match=r"category 1 \(cow\) is a thing, but not so in coarse"):
        open_sources(DataConfig(source=str(tmp_path / "farm"), labels=str(tmp_path / "coarse.json")))


def test_drawn_scenes_and_files_are_validated_on_together(tmp_path: Path) -> None:
    names = draw(0, (33, 33)).names
    labels_file(tmp_path / "all.json", "cow", *names, "meadow", things=17)
    panoptic(tmp_path / "farm", "panoptic_val.json", "val")
    scenes = 'path = "scenes"\noptions = {size = 33, count = 2, count_val = 3}\n'
    text = f'labels = "all.json"\n[[train]]\n{scenes}[[val]]\npath = "farm"\n[[val]]\n{scenes}'
    val = packed(open_sources(write_list(tmp_path / "list.toml", text))).val
    assert val is not None
    assert [sample.image_id for sample in val.samples] == [7, *(FIRST_VAL + i for i in range(3))]
    assert [id_of(val.samples, n) for n in range(2)] == [7, 0]


def test_sources_of_one_name_are_told_apart_and_so_are_their_broken_images(tmp_path: Path) -> None:
    for place in ("one", "other"):
        panoptic(tmp_path / place / "farm", "panoptic_train.json", "train")
        (tmp_path / place / "farm" / "train" / "7.png").write_bytes(b"")
    text = '[[train]]\npath = "one/farm"\n[[train]]\npath = "other/farm"\n'
    config = write_list(tmp_path / "list.toml", text)
    sources = open_sources(config)
    assert [source.name for source in sources.train] == ["farm", "farm #2"]
    assert report(sources, Config(data=config)).broken.keys() == {"farm/7", "farm #2/7"}


def test_things_without_stuff_are_mixed_in_as_some_stuff(tmp_path: Path) -> None:
    instances_folder(tmp_path / "things")
    panoptic(tmp_path / "farm", "panoptic_train.json", "train")
    labels_file(tmp_path / "all.json", "cow", "sky", "meadow")
    text = 'labels = "all.json"\n[[train]]\npath = "farm"\n[[train]]\npath = "things"\n'
    farm, things = open_sources(write_list(tmp_path / "list.toml", text)).train
    assert farm.samples[0].some_stuff is None
    some_stuff = things.samples[0].some_stuff
    assert some_stuff is not None
    np.testing.assert_array_equal(some_stuff, things.samples[0].instance == 0)


def test_scenes_may_be_mixed_in_where_their_classes_are_known(tmp_path: Path) -> None:
    names = draw(0, (33, 33)).names
    labels_file(tmp_path / "all.json", "cow", *names[:16], *names[16:], "meadow", things=17)
    panoptic(tmp_path / "farm", "panoptic_train.json", "train")
    text = (
        'labels = "all.json"\n[[train]]\npath = "farm"\n[[train]]\npath = "scenes"\noptions = {size = 33, count = 2}\n'
    )
    sources = open_sources(write_list(tmp_path / "list.toml", text))
    np.testing.assert_array_equal(sources.train[1].samples[1].category, draw(1, (33, 33)).category + 1)
    assert sources.val is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("annotations = []", r"list\.toml: expected a list of data sets, got annotations; give the folder"),
        ("x = 1", r"list\.toml: unknown key 'x'; known are labels, train, val"),
        ("train = []", "train: expected at least one table"),
        ("[[train]]\npaht = 'x'", r"train\[0\]: unknown key 'paht'; path\?"),
        ("[[train]]\nformat = 'x'", r"train\[0\]: no key 'path'"),
        ("[[train]]\npath = 'x'\nweight = 0", r"train\[0\]: weight: expected more than 0, got 0"),
        ("[[train]]\npath = 'x'\nweight = 'a'", r"train\[0\]: weight: expected an integer or a number"),
        ("[[train]]\npath = 'x'\n[[val]]\npath = 'x'\nweight = 2", "val: expected no weights"),
        ("[[train]]\npath = 'farm'\nsplit = 'dev'", "split: expected one of train, got 'dev'"),
    ],
)
def test_a_list_that_is_wrong_is_told_where(text: str, words: str, tmp_path: Path) -> None:
    panoptic(tmp_path / "farm", "panoptic_train.json", "train")
    with pytest.raises(FormatError, match=words):
        open_sources(write_list(tmp_path / "list.toml", text))


def test_folds_part_the_images_and_every_image_is_validated_on_once(tmp_path: Path) -> None:
    write_maps(tmp_path, "train", **{f"n{i}": i % 2 for i in range(40)})
    write_maps(tmp_path, "val", other=1)
    labels_file(tmp_path / "labels.json", "cow", "meadow")
    held = []
    for i in (1, 2, 3):
        sources = open_sources(DataConfig(source=str(tmp_path), fold=f"{i}/3", options={"divisor": 1}))
        assert sources.val is not None
        kept, left = ([s.image_id for s in part] for part in (sources.train[0].samples, sources.val.samples))
        assert len(kept) + len(left) == 40
        assert 5 < len(left) < 25
        held += left
    assert sorted(held) == sorted(f"n{i}" for i in range(40))
    for fold in ("0/3", "4/3", "1/1", "a", "1", "1/100"):
        with pytest.raises(ValueError, match=r"data\.fold: "):
            open_sources(DataConfig(source=str(tmp_path), fold=fold, options={"divisor": 1}))
    with pytest.raises(ValueError, match=r"data\.fold: scenes have no folds"):
        open_sources(DataConfig(source="scenes", fold="1/3"))
