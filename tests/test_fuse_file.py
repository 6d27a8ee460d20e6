# SPDX-License-Identifier: Apache-2.0
"""`deeperlab fuse`: heads from a file, results in files, faults in one line."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deeperlab
from deeperlab.cli import app
from deeperlab.data import archive
from deeperlab.data.formats import coco

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
    trained = as_tensors(make_heads()).map(lambda head: head.bfloat16().requires_grad_())
    with pytest.raises(TypeError, match=r"got Tensor; use \.detach\(\)\.float\(\)\.cpu\(\)\.numpy\(\)$"):
        archive.save(tmp_path / "heads.npz", trained)
    assert list(tmp_path.iterdir()) == []


def test_fuse_writes_what_fuse_returns(saved: Path, tmp_path: Path, assert_same: Any) -> None:
    result = run("fuse", saved, "--things", "1,3-4", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    want = deeperlab.fuse(archive.load(saved), [1, 3, 4])
    with np.load(tmp_path / "out" / "panoptic.npz") as file:
        for name in ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count"):
            assert_same(file[name], getattr(want, name), name)
    data = coco.read(tmp_path / "out" / "panoptic.json", tmp_path / "out")
    assert [annotation.file_name for annotation in data.annotations] == ["000000000000.png", "000000000001.png"]
    for i, annotation in enumerate(data.annotations):
        assert_same(data.ids(annotation), want[i].to_coco()[0])
        assert [s.category_id for s in annotation.segments] == [s.category + 1 for s in want[i].segments]
    assert {category.id for category in data.categories if category.isthing} == {2, 4, 5}


def test_one_image_has_no_batch(tmp_path: Path, make_heads: Any) -> None:
    heads = make_heads(seed=3)
    np.savez(tmp_path / "one.npz", **{name: array[0] for name, array in arrays(heads).items()})
    assert run("fuse", tmp_path / "one.npz", "--things", "0", "--out", tmp_path, "--size", "60x70").exit_code == 0
    with np.load(tmp_path / "panoptic.npz") as file:
        assert file["semantic"].shape == (60, 70)
    assert (tmp_path / "000000000000.png").is_file()


def test_the_file_may_say_at_which_size_heads_are_fused_and_maps_are_wanted(
    tmp_path: Path, make_heads: Any, assert_same: Any
) -> None:
    heads, out = make_heads(seed=3, n=2), tmp_path / "out"
    archive.save(tmp_path / "heads.npz", heads, size=(62, 70), image_ids=["a", "below/b"])
    assert archive.sizes(tmp_path / "heads.npz") == ((62, 70), None)
    assert run("fuse", tmp_path / "heads.npz", "--things", "0", "--out", out).exit_code == 0
    fused = deeperlab.fuse(heads, [0], size=(62, 70))
    data = coco.read(out / "panoptic.json", out)
    assert [a.file_name for a in data.annotations] == ["a.png", "below/b.png"]
    assert_same(data.ids(data.annotations[1]), fused[1].to_coco()[0])

    archive.save(tmp_path / "heads.npz", heads, size=(62, 70), original=(31, 140))
    assert run("fuse", tmp_path / "heads.npz", "--things", "0", "--out", out).exit_code == 0
    with np.load(out / "panoptic.npz") as file:
        assert_same(file["semantic"], fused.semantic[:, 1::2].repeat(2, axis=2))  # the lower of two rows is nearest
        assert_same(file["score"], fused.score)
        assert file["area"].sum() + file["class_area"].sum() == 2 * 31 * 140
    assert run("fuse", tmp_path / "heads.npz", "--things", "0", "--out", out, "--size", "65x73").exit_code == 0
    with np.load(out / "panoptic.npz") as file:
        assert_same(file["semantic"], deeperlab.fuse(heads, [0], size=(65, 73)).semantic)


@pytest.mark.parametrize("name", ["size", "original"])
@pytest.mark.parametrize("sides", [3, [3, 4, 5], [0, 4], [5.0, 4.0], [10**6, 10**6]])
def test_sizes_in_a_file_that_are_none_are_refused(name: str, sides: Any, tmp_path: Path, make_heads: Any) -> None:
    archive.save(tmp_path / "heads.npz", make_heads(), **{name: sides})
    result = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "heads.npz") in result.stderr
    assert re.search(rf"{name}: expected|too many pixels", result.stderr)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_parameters_in_a_file_are_those_that_were_saved_and_options_go_before_them(
    tmp_path: Path, make_heads: Any, assert_same: Any
) -> None:
    heads, path = make_heads(seed=1), tmp_path / "heads.npz"
    params = deeperlab.FuseParams(radius=7.0, kappa=(0.1, 0.1, 0.1, 0.1, 0.2), max_instances=3)
    archive.save(path, heads, params=params, stuff_area=0.25)
    assert archive.fusion(path) == (params, 0.25)
    assert run("fuse", path, "--things", "1,3-4", "--out", tmp_path / "out", "--max-instances", 2).exit_code == 0
    want = deeperlab.fuse(heads, [1, 3, 4], params=replace(params, max_instances=2))
    with np.load(tmp_path / "out" / "panoptic.npz") as file:
        assert_same(file["instance"], want.instance)
        assert set(np.unique(file["semantic"])) < set(np.unique(want.semantic)) | {-1}
    archive.save(path, heads)
    assert archive.fusion(path) == (None, 0.0)


def test_instances_have_scores(tmp_path: Path, make_heads: Any) -> None:
    heads = make_heads(seed=1)
    archive.save(tmp_path / "heads.npz", heads)
    assert run("fuse", tmp_path / "heads.npz", "--things", "1,3-4", "--out", tmp_path / "out").exit_code == 0
    (annotation,) = json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"]
    segments = deeperlab.fuse(heads, [1, 3, 4])[0].segments
    told = [segment.get("score") for segment in annotation["segments_info"]]
    assert told == [None if s.score is None else round(s.score, 6) for s in segments]
    assert None in told
    assert any(told)


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


def test_a_file_of_torch_is_named_as_such(tmp_path: Path, make_heads: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    torch.save(arrays(make_heads()), tmp_path / "heads.pt")
    result = run("fuse", tmp_path / "heads.pt", "--things", "1", "--out", tmp_path / "out")
    remedy = "expected an NPZ: deeperlab.data.archive.save, or numpy.savez"
    assert result.stderr == f"deeperlab: {tmp_path / 'heads.pt'}: a file of torch.save; {remedy}\n"


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
        (spoil("params", np.zeros(5)), "params: expected the fields of FuseParams in JSON: expected text, got float64"),
        (spoil("params", np.array("{")), "params: expected the fields of FuseParams in JSON: "),
        (spoil("params", np.array("[" * 99_999)), "params: expected the fields of FuseParams in JSON: "),
        (spoil("params", np.array('{"radios": 3}')), "params: expected the fields of FuseParams in JSON: "),
        (spoil("params", np.array('{"radius": -3}')), "FuseParams in JSON: radius: expected "),
        (spoil("stuff_area", np.float64(1.5)), "stuff_area: expected a share from 0 to below 1, got float64 1.5"),
        (spoil("stuff_area", np.array([0.1, 0.2])), "stuff_area: expected a share from 0 to below 1, got float64 [0.1"),
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
    assert "unpacks to 4,000,128 bytes, the most is 1,000" in result.stderr


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


def test_the_heads_themselves_are_never_overwritten(tmp_path: Path, make_heads: Any) -> None:
    archive.save(tmp_path / "panoptic.npz", make_heads(seed=5))
    before = (tmp_path / "panoptic.npz").read_bytes()
    result = run("fuse", tmp_path / "panoptic.npz", "--things", "1", "--out", tmp_path)
    assert result.exit_code == 2
    assert "are the heads themselves" in result.stderr
    assert (tmp_path / "panoptic.npz").read_bytes() == before


def test_few_bytes_cannot_ask_for_a_vast_map(tmp_path: Path, make_heads: Any) -> None:
    np.savez(tmp_path / "heads.npz", **arrays(make_heads(seed=5)), stride=3000)
    result = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "too many pixels: 54001 × 48001" in result.stderr
    assert not (tmp_path / "out").exists()


def test_limits_are_options(saved: Path, tmp_path: Path) -> None:
    tight = run("fuse", saved, "--things", "1-4", "--out", tmp_path / "out", "--max-candidates", "2")
    assert tight.exit_code == 0
    with np.load(tmp_path / "out" / "panoptic.npz") as file:
        assert file["count"].max() <= 2


@pytest.mark.parametrize(("option", "most"), [("max_candidates", 65536), ("max_instances", 65535)])
def test_bounds_of_options_are_those_of_the_engine(option: str, most: int, saved: Path, tmp_path: Path) -> None:
    for value in (0, most + 1):
        result = run(
            "fuse", saved, "--things", "1-4", "--out", tmp_path / "out", f"--{option.replace('_', '-')}", value
        )
        assert result.exit_code == 2
        assert f"{option}: expected 1 to {most}" in " ".join(result.stderr.replace("│", " ").split())
        assert not (tmp_path / "out").exists()


def test_what_fuse_writes_eval_reads(tmp_path: Path) -> None:
    """From drawn ground truth to figures with two commands: the label set's ids and the images' own names."""
    from deeperlab import scenes, targets
    from deeperlab.data import labels, sample

    classes = [{"name": "thing", "thing": True, "id": 7}, {"name": "stuff", "thing": False, "id": 3}]
    (tmp_path / "labels.json").write_text(json.dumps({"name": "mine", "classes": classes}))
    mine = labels.find(str(tmp_path / "labels.json"))
    entries, heads = [], []
    for seed in (0, 1):
        scene = scenes.draw(seed, (65, 97), instances=3, num_classes=2, num_things=1, least_area=60)
        made = sample.from_maps(scene.category, scene.instance, mine)
        ids, segments = made.to_coco(mine)
        entries.append((coco.Annotation(f"scene{seed}", f"scene{seed}.png", segments), ids))
        heads.append(targets.encode_heads(scene.category, scene.instance, 2))
    coco.write(tmp_path / "gt.json", tmp_path / "gt", entries, mine.categories)
    batch = {name: np.stack([getattr(one, name) for one in heads]) for name in HEADS}
    np.savez(tmp_path / "heads.npz", **batch, image_ids=np.array(["scene0", "scene1"]))
    out = tmp_path / "out"
    assert run("fuse", tmp_path / "heads.npz", "--labels", tmp_path / "labels.json", "--out", out).exit_code == 0
    args = ("--gt-dir", tmp_path / "gt", "--pred-dir", out, "--json", tmp_path / "figures.json")
    result = run("eval", tmp_path / "gt.json", out / "panoptic.json", *args)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["pq"]["All"]["pq"] > 0.8
    over = run("eval", tmp_path / "gt.json", out / "panoptic.json", *args[:-1], tmp_path / "gt.json")
    assert over.exit_code == 2
    assert "is an input" in over.stderr


def test_a_listing_of_somebody_else_is_not_overwritten(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "panoptic.json").write_text("{}")
    result = run("fuse", saved, "--things", "1", "--out", tmp_path)
    assert result.exit_code == 2
    assert "is there already and not of deeperlab fuse" in result.stderr
    assert (tmp_path / "panoptic.json").read_text() == "{}"


@pytest.mark.parametrize("theirs", ["day/street.png", "panoptic.npz"])
def test_files_of_somebody_else_are_not_overwritten(theirs: str, tmp_path: Path, make_heads: Any) -> None:
    heads = make_heads(seed=3)
    np.savez(tmp_path / "heads.npz", **arrays(heads), image_ids=np.array(["day/street"]))
    photo = tmp_path / "out" / theirs
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a photograph")
    result = run("fuse", tmp_path / "heads.npz", "--things", "0", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{theirs}: is there already and not of deeperlab fuse; choose another --out" in result.stderr
    assert photo.read_bytes() == b"a photograph"
    photo.unlink()
    for _ in range(2):  # its own it may
        assert run("fuse", tmp_path / "heads.npz", "--things", "0", "--out", tmp_path / "out").exit_code == 0


def test_things_or_labels_are_needed(saved: Path, tmp_path: Path) -> None:
    result = run("fuse", saved, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "things: expected class ids where there are no labels" in result.stderr
    wrong = run("fuse", saved, "--labels", "cityscapes", "--out", tmp_path / "out")
    assert wrong.exit_code == 2
    assert "labels: expected 6 classes as the heads have, got 19 of cityscapes" in wrong.stderr


@pytest.mark.parametrize("ids", [np.array(["a", "a"]), np.array([1]), np.array(["../x", "y"]), np.zeros(2)])
def test_image_ids_that_name_no_images(ids: np.ndarray, tmp_path: Path, make_heads: Any) -> None:
    np.savez(tmp_path / "heads.npz", **arrays(make_heads(n=2)), image_ids=ids)
    result = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "image_ids: expected" in result.stderr
