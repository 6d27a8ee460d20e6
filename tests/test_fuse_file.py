# SPDX-License-Identifier: Apache-2.0
"""`deeperlab fuse` and `deeperlab doctor`: heads from a file, results in files, faults in one line."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deeperlab
from deeperlab.cli import app
from deeperlab.data import archive, coco

HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")


def run(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def arrays(heads: deeperlab.Heads) -> dict[str, Any]:
    return {name: getattr(heads, name) for name in HEADS}


@pytest.fixture
def saved(tmp_path: Path, make_heads: Any) -> Path:
    np.savez(tmp_path / "heads.npz", **arrays(make_heads(seed=1, n=2)), stride=4)
    return tmp_path / "heads.npz"


def test_heads_survive_a_file(tmp_path: Path, make_heads: Any, graph: Any, assert_same: Any) -> None:
    heads = make_heads(seed=2, graph=graph, stride=3, labels=(40, 50))
    archive.save(tmp_path / "heads.npz", heads)
    back = archive.load(tmp_path / "heads.npz")
    assert (back.stride, back.graph, back.num_classes) == (3, graph, 6)
    for name in HEADS:
        assert_same(getattr(back, name), getattr(heads, name), name)


def test_tensors_are_not_saved(tmp_path: Path, make_heads: Any, as_tensors: Any) -> None:
    with pytest.raises(TypeError, match=r"semantic: expected a numpy\.ndarray, got Tensor; use \.cpu\(\)\.numpy\(\)"):
        archive.save(tmp_path / "heads.npz", as_tensors(make_heads()))
    assert list(tmp_path.iterdir()) == []


def test_fuse_writes_what_fuse_returns(saved: Path, tmp_path: Path, assert_same: Any) -> None:
    result = run("fuse", saved, "--things", "1,3-4", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    want = deeperlab.fuse(archive.load(saved), [1, 3, 4])
    with np.load(tmp_path / "out" / "panoptic.npz") as file:
        for name in ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count"):
            assert_same(file[name], getattr(want, name), name)
    data = coco.read(tmp_path / "out" / "panoptic.json", tmp_path / "out")
    assert [annotation.file_name for annotation in data.annotations] == ["heads_0000.png", "heads_0001.png"]
    for i, annotation in enumerate(data.annotations):
        assert_same(data.ids(annotation), want[i].to_ids())
        assert [s.category_id for s in annotation.segments] == [s.category + 1 for s in want[i].segments]
    assert {category.id for category in data.categories if category.isthing} == {2, 4, 5}


def test_one_image_has_no_batch(tmp_path: Path, make_heads: Any) -> None:
    heads = make_heads(seed=3)
    np.savez(tmp_path / "one.npz", **{name: array[0] for name, array in arrays(heads).items()})
    assert run("fuse", tmp_path / "one.npz", "--things", "0", "--out", tmp_path, "--size", "60x70").exit_code == 0
    with np.load(tmp_path / "panoptic.npz") as file:
        assert file["semantic"].shape == (60, 70)
    assert (tmp_path / "one.png").is_file()


def test_paper_parameters_are_an_option(saved: Path, tmp_path: Path, assert_same: Any) -> None:
    assert run("fuse", saved, "--things", "1-4", "--out", tmp_path / "out", "--paper").exit_code == 0
    want = deeperlab.fuse(archive.load(saved), [1, 2, 3, 4], params=deeperlab.FuseParams.paper())
    with np.load(tmp_path / "out" / "panoptic.npz") as file:
        assert_same(file["instance"], want.instance)


def test_an_empty_batch_is_written_too(tmp_path: Path, make_heads: Any) -> None:
    np.savez(tmp_path / "none.npz", **arrays(make_heads(n=0)))
    result = run("fuse", tmp_path / "none.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"] == []


def spoil(name: str, value: Any) -> Any:
    return lambda given: {**given, name: value}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda given: {k: v for k, v in given.items() if k != "heatmap"}, "missing heatmap"),
        (spoil("extra", np.zeros(3)), "unknown arrays extra"),
        (spoil("stride", np.float32(4)), "stride: expected one integer"),
        (spoil("stride", np.int64(0)), "stride: expected at least 1, got 0"),
        (spoil("heatmap", np.zeros((2, 5, 17, 19))), "heatmap: expected dtype float32, float16, bfloat16, got float64"),
        (spoil("heatmap", np.zeros((2, 4, 17, 19), np.float32)), "heatmap: expected 5 channels"),
        (spoil("heatmap", np.array([None])), "damaged"),
        (spoil("edges", np.zeros((2, 3), np.int64)), "edges: expected integer pairs [E, 2]"),
        (spoil("keypoints", np.zeros(5)), "keypoints: expected names [P]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_heads_that_do_not_fit_are_named_in_one_line(change: Any, fault: str, tmp_path: Path, make_heads: Any) -> None:
    np.savez(tmp_path / "heads.npz", **change(arrays(make_heads(n=2))))
    result = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "heads.npz") in result.stderr
    assert fault in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_named_in_one_line(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(256)
        (tmp_path / "bad.npz").write_bytes(damaged[: rng.integers(1, len(whole))] if i % 2 else damaged)
        result = run("fuse", tmp_path / "bad.npz", "--things", "1", "--out", tmp_path / "out")
        assert result.exit_code in (0, 2), result.output  # a changed offset is a legal file
        assert result.exit_code == 0 or result.stderr.count("\n") == 1


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    np.savez_compressed(tmp_path / "bomb.npz", semantic=np.zeros(10**6, np.float32))
    result = run("fuse", tmp_path / "bomb.npz", "--things", "1", "--out", tmp_path)
    assert result.exit_code == 2
    assert "unpacks to 4000128 bytes, more than 1000" in result.stderr


def test_a_pickle_is_never_loaded(tmp_path: Path, make_heads: Any) -> None:
    np.savez(tmp_path / "heads.npz", **{**arrays(make_heads()), "heatmap": np.array([{"a": 1}], object)})
    result = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "damaged" in result.stderr
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("semantic.npy", "no array")
    assert run("fuse", tmp_path / "text.npz", "--things", "1", "--out", tmp_path / "out").exit_code == 2


@pytest.mark.parametrize("things", ["", "a", "3-1", "-1", "0-99999", "1,,2"])
def test_classes_that_are_none_are_refused(things: str, saved: Path, tmp_path: Path) -> None:
    assert run("fuse", saved, f"--things={things}", "--out", tmp_path / "out").exit_code == 2


def test_a_class_beyond_the_heads_is_refused(saved: Path, tmp_path: Path) -> None:
    result = run("fuse", saved, "--things", "6", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "things: expected class ids in [0, 6), got 6" in result.stderr


def test_a_folder_that_cannot_be_written_is_named(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = run("fuse", saved, "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "out") in result.stderr


def test_labels_need_no_logits(tmp_path: Path, make_heads: Any) -> None:
    heads = replace(make_heads(seed=4, labels=(65, 73)))
    archive.save(tmp_path / "heads.npz", heads)
    assert run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out").exit_code == 0


def test_doctor_says_one_line_each() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.splitlines()]
    assert names[:4] == ["deeperlab", "Python", "numpy", "torch"]
    assert {"_numpy", "ops", "SIMD", "threads", "CUDA"} < set(names)
    assert "loads" in result.output
    assert "no CUDA kernels" in result.output


def test_doctor_reports_a_part_that_does_not_load(monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "deeperlab.ops", None)
    result = run("doctor")
    assert result.exit_code == 1
    assert "torch operators, _C: does not load" in result.output
