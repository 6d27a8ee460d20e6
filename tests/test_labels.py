# SPDX-License-Identifier: Apache-2.0
"""Label sets: the presets are the public lists, ids go both ways, and files of labels are checked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeperlab.data import fields, labels
from deeperlab.data._lookup import UnknownValueError, look_up, relabel
from deeperlab.data.files import FormatError
from deeperlab.data.formats import coco

toml = pytest.mark.skipif(not importlib.util.find_spec(fields.TOML_READER), reason="no reader of TOML")


@pytest.mark.parametrize(
    ("name", "classes", "things", "ignore"),
    [("coco", 133, 80, 255), ("cityscapes", 19, 8, 255), ("vistas", 65, 37, 65), ("voc", 21, 20, 255)],
)
def test_presets_have_the_classes_of_their_data_sets(name: str, classes: int, things: int, ignore: int) -> None:
    preset = labels.preset(name)
    assert (preset.name, len(preset), len(preset.things), preset.ignore) == (name, classes, things, ignore)
    assert labels.find(name) == preset
    assert list(preset.ids) == sorted(preset.ids)
    np.testing.assert_array_equal(preset.to_classes(np.array(preset.ids)), np.arange(classes))
    np.testing.assert_array_equal(preset.to_ids(np.arange(classes)), preset.ids)


def test_coco_is_its_public_list(realdata: Path) -> None:
    listed = coco.read_categories(realdata / "panopticapi_sample" / "panoptic_coco_categories.json")
    preset = labels.preset("coco")
    assert preset.categories == listed
    assert preset.things == tuple(range(80))
    assert labels.from_categories("coco", listed) == preset


def test_photo16_takes_in_every_class_of_coco_as_a_thing_or_as_stuff() -> None:
    coarse, fine = labels.preset("photo16"), labels.preset("coco")
    assert coarse.names == (
        "person", "vehicle", "animal", "food", "furniture", "kitchen", "object", "plant", "ground", "sky", "wall",
        "furniture-stuff", "building", "water", "floor", "other-stuff",
    )  # fmt: skip
    assert coarse.things == tuple(range(7))
    assert {name for names in coarse.merged for name in names} == set(fine.names)
    for name, thing in zip(fine.names, fine.isthing, strict=True):
        assert coarse.isthing[coarse.class_of_name[name]] == thing
    for name, wanted in {
        "person": "person",
        "bus": "vehicle",
        "tv": "object",
        "river": "water",
        "rug-merged": "other-stuff",
    }.items():
        assert coarse.names[coarse.class_of_name[name]] == wanted


def test_cityscapes_classes_are_its_train_ids() -> None:
    preset = labels.preset("cityscapes")
    assert preset.ids == (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
    assert preset.things == tuple(range(11, 19))
    assert preset.names[0] == "road"
    assert preset.names[-1] == "bicycle"
    assert preset.colors[13] == (0, 0, 142)
    assert sorted((*preset.ids, *preset.void_ids)) == list(range(-1, 34))  # all labels that Cityscapes has
    assert preset.to_ids(np.array([-1])) == [0]  # unlabeled


def test_vistas_ids_are_places_in_the_configuration_from_one() -> None:
    preset = labels.preset("vistas")
    assert preset.ids == tuple(range(1, 66))
    stuff = {name for name, thing in zip(preset.names, preset.isthing, strict=True) if not thing}
    assert {"On Rails", "Pothole", "Ego Vehicle", "Car Mount", "Road"} < stuff
    assert {"Crosswalk - Plain", "Pole", "Bird"}.isdisjoint(stuff)


def test_voc_colors_are_the_bits_of_the_label() -> None:
    preset = labels.preset("voc")
    assert preset.isthing == (False, *[True] * 20)
    assert preset.colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert preset.colors[20] == (0, 64, 128)
    assert labels.bit_color(255) == (224, 224, 192)
    assert len({labels.bit_color(i) for i in range(256)}) == 256


@given(st.lists(st.integers(-1, 132), max_size=30))
def test_ids_go_both_ways(classes: list[int]) -> None:
    preset = labels.preset("coco")
    array = np.array(classes, np.int32)
    np.testing.assert_array_equal(preset.to_classes(preset.to_ids(array)), array)


@given(
    st.dictionaries(st.integers(-(1 << 31), 1 << 40), st.integers(-1, 100), min_size=1),
    st.integers(0, 1 << 32),
    st.booleans(),
)
def test_looking_up_is_indexing_whatever_the_range(table: dict[int, int], seed: int, foreign: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array(list(table), np.int64), (4, 5))
    expected = np.vectorize(table.get, otypes=[np.int32])(values)
    np.testing.assert_array_equal(look_up(values, table), expected)
    if foreign:
        values[2, 3] = next(v for v in range(-3, 1 << 20) if v not in table)
        with pytest.raises(UnknownValueError, match=f"^{values[2, 3]}$"):
            look_up(values, table)


@given(st.lists(st.one_of(st.integers(-2, 40), st.integers(0, 1 << 40)), max_size=40))
def test_numbers_are_ranks(values: list[int]) -> None:
    array = np.array(values, np.int64)
    ranks, present = relabel(array)
    expected, index = np.unique(array, return_inverse=True)
    np.testing.assert_array_equal(present, expected)
    np.testing.assert_array_equal(ranks, index)


def test_an_id_that_is_neither_class_nor_void_is_named() -> None:
    preset = labels.preset("coco")
    with pytest.raises(ValueError, match="category ids of coco, got 12"):
        preset.to_classes(np.array([[1, 12]]))
    with pytest.raises(ValueError, match="classes 0 to 132 or −1"):
        preset.to_ids(np.array([133]))
    with pytest.raises(ValueError, match="classes 0 to 1 of all"):  # there is no id for void
        labels.LabelSet("all", ("a", "b"), (True, True), ((0, 0, 0),) * 2, (0, 1), ()).to_ids(np.array([-1]))
    np.testing.assert_array_equal(preset.from_numbers(np.array([0, 255], np.uint8)), [0, -1])
    with pytest.raises(ValueError, match="0 to 132 or 255 of coco, got 133"):
        preset.from_numbers(np.array([133], np.uint8))
    assert preset.to_classes(np.zeros((0, 3), np.int32)).shape == (0, 3)


FARM = {"name": "farm", "classes": [{"name": "cow", "thing": True, "color": [1, 2, 3]}, {"name": "grass", "thing": 0}]}


def test_a_file_of_labels_needs_names_and_things(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(FARM))
    farm = labels.find(path)
    assert farm == labels.LabelSet("farm", ("cow", "grass"), (True, False), ((1, 2, 3), (0, 128, 0)), (1, 2), (0,), 255)
    path.write_text(json.dumps({"classes": [{"name": str(i), "thing": 0} for i in range(300)]}))
    assert (labels.read(path).name, labels.read(path).ignore) == ("x", -1)  # 255 is a class


def test_categories_of_a_panoptic_file_are_labels(tmp_path: Path) -> None:
    listed = [{"id": 7, "name": "cow", "isthing": 1, "color": [1, 2, 3]}, {"id": 0, "name": "grass", "isthing": 0}]
    expected = labels.LabelSet("x", ("cow", "grass"), (True, False), ((1, 2, 3), (0, 0, 0)), (7, 0), (), 255)
    for content in (listed, {"categories": listed, "images": []}):
        (tmp_path / "x.json").write_text(json.dumps(content))
        assert labels.find(tmp_path / "x.json") == expected
    (tmp_path / "x.json").write_text(json.dumps([*listed, listed[0] | {"id": 8}]))
    with pytest.raises(FormatError, match=r"x\.json: names: expected each once, got 'cow' 2 times"):
        labels.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "cow\ngrass\n"),
        ("data.yaml", "names: [cow, grass]"),
        ("x.json", '["cow", "grass"]'),
        ("x.json", '{"0": "cow"}'),
        ("x.json", '{"categories": [{"id": 1, "name": "cow"}]}'),
    ],
)
def test_names_alone_are_told_to_be_too_little(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=f"{name}: .*; a list of names does not tell which are things"):
        labels.find(tmp_path / name)


COARSE = {
    "classes": [
        {"name": "livestock", "thing": True, "of": ["cow", "sheep"]},
        {"name": "meadow", "thing": False, "of": ["grass"]},
    ]
}


def test_a_class_takes_in_finer_ones(tmp_path: Path) -> None:
    (tmp_path / "farm.json").write_text(json.dumps(COARSE))
    farm = labels.read(tmp_path / "farm.json")
    assert farm.class_of_name == {"livestock": 0, "cow": 0, "sheep": 0, "grass": 1, "meadow": 1}
    (tmp_path / "again.json").write_text(labels.to_json(farm))
    assert labels.read(tmp_path / "again.json") == replace(farm, name="farm")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["grass", 3], "of: expected a list of names"),
        (["meadow"], "meadow is a class of its own"),
        (["grass"], "merged: expected each once, got 'grass' 2 times"),
        ("grass", "of: expected an array|of: expected a list"),
    ],
)
def test_finer_classes_that_do_not_fit_are_named(change: Any, words: str, tmp_path: Path) -> None:
    form = {"classes": [COARSE["classes"][0] | {"of": change}, COARSE["classes"][1]]}
    (tmp_path / "farm.json").write_text(json.dumps(form))
    with pytest.raises(FormatError, match=words):
        labels.read(tmp_path / "farm.json")


@toml
def test_the_same_as_toml(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(
        'name = "farm"\n[[classes]]\nname = "cow"\nthing = true\ncolor = [1, 2, 3]\n'
        '[[classes]]\nname = "grass"\nthing = false\n'
    )
    twin = tmp_path / "farm.json"
    twin.write_text(json.dumps(FARM))
    assert labels.read(path) == labels.read(twin)
    path.write_text("name = ")
    with pytest.raises(FormatError, match="not TOML"):
        labels.read(path)
    path.write_text("classes = " + "[" * 100_000)
    with pytest.raises(FormatError, match="not TOML"):
        labels.read(path)
    path.write_text("name = 2020-01-01\nclasses = []\n")
    with pytest.raises(FormatError, match="name: expected a string, got date"):
        labels.read(path)


def test_toml_before_python_3_11_is_said_to_need_tomli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "TOML_READER", "tomli")
    monkeypatch.setitem(sys.modules, "tomli", None)
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(FormatError, match=r"TOML needs Python 3\.11, or tomli: pip install 'deeperlab\[train\]'"):
        labels.read(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": []}, "at least one class"),
        ({"classes": {}}, "classes: expected a list, got an object"),
        ({"classes": [{"name": "a"}]}, r"classes\[0\]: no key 'thing': expected 1 or true, or 0 or false"),
        ({"classes": [{"thing": 1}]}, r"classes\[0\]: no key 'name'"),
        ({"classes": [{"name": "a", "thing": 2}]}, "thing: expected 0 or 1, got 2"),
        ({"classes": [{"name": "a", "thing": 1, "color": [0, 0]}]}, "color: expected three integers"),
        ({"classes": [{"name": "a", "thing": 1, "color": [0, 0, True]}]}, "color: expected three integers"),
        ({"classes": [{"name": "a", "thing": 1, "id": 1 << 31}]}, "expected 32 bits"),
        ({"classes": [{"name": "a", "thing": 1, "id": 10**40}]}, "expected 64 bits"),
        ({"classes": [{"name": "a", "thing": 1}] * 2}, "names: expected each once, got 'a' 2 times"),
        ({"classes": [{"name": n, "thing": 1, "id": 5} for n in "ab"]}, "ids: expected each once, got 5 2 times"),
        ({"void": [1]}, "ids: expected each once, got 1"),
        ({"void": ["x"]}, "void: expected a list of integers"),
        ({"void": 0}, "void: expected a list, got an integer"),
        ({"ignore": 1}, r"ignore: expected a number that is no class \(0 to 1\), got 1"),
        ({"ignore": 1e400}, "not JSON: Infinity is no number of JSON"),
        ({"classes": [{"name": "a", "thing": 1, "id": 7.0}]}, r"id: expected an integer, got 7\.0, a float"),
        ({"name": 7}, "name: expected a string, got an integer"),
    ],
)
def test_a_fault_of_the_file_is_named_in_one_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(FARM | change))
    with pytest.raises(FormatError, match=words) as fault:
        labels.read(path)
    assert str(fault.value).startswith(f"{path}: ")
    assert "\n" not in str(fault.value)


@pytest.mark.slow
def test_a_file_too_large_for_labels_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(labels.MAX_BYTES + 1)
    with pytest.raises(FormatError, match="too large: 16,777,217 bytes of JSON"):
        labels.read(path)
    path.write_text('{"classes": [' + '{"name": "a", "thing": 1},' * 100_000 + '{"name": "b", "thing": 1}]}')
    with pytest.raises(FormatError, match="100000 times"):  # in no more than linear time
        labels.read(path)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '{"classes": [{"name": "Kühe", "thing": true}]}'),
        pytest.param("x.toml", '[[classes]]\nname = "Kühe"\nthing = true\n', marks=toml),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_file(name: str, text: str, mark: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe" * (mark == "utf-16-le") + text.encode(mark))
    assert labels.read(tmp_path / name).names == ("Kühe",)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="coco, cityscapes, vistas, voc, ade20k, photo16, got 'imagenet'"):
        labels.preset("imagenet")
    with pytest.raises(FileNotFoundError):
        labels.find("no/such.json")
    with pytest.raises(ValueError, match="isthing: expected 1, one per name, got 0"):
        labels.LabelSet("x", ("a",), (), ((0, 0, 0),), (1,))
    with pytest.raises(ValueError, match="colors: expected three"):
        labels.LabelSet("x", ("a",), (True,), ((0, 0, 256),), (1,))


def test_reading_data_loads_neither_torch_nor_pillow_before_a_picture() -> None:
    modules = "cityscapes, coco, label_map, labels, sample, segments, two_channel, vistas, voc"
    code = f"import sys; from deeperlab.data import {modules}; labels.preset('coco')"
    code += "; print({'torch', 'PIL', 'deeperlab._C'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'deeperlab\[cli\]'"):
        coco.read_ids(tmp_path / "x.png")
