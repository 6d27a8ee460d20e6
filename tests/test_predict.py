# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict`: what it writes, what it keeps, what it refuses, and what an interruption leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import deeperlab
from deeperlab import Heads, models, predict, targets
from deeperlab.cli import app
from deeperlab.data import archive, coco, labels, png, sample, scenes
from deeperlab.data.files import FormatError
from deeperlab.parser import Parser

LABELS = labels.preset("cityscapes")
SIZES = {"a": (33, 49), "b": (50, 21), "000000000139": (20, 20), "aachen_1_2_leftImg8bit": (17, 60)}


class Net(torch.nn.Module):
    """Heads are mixtures of the colours at the nodes."""

    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    num_classes = len(LABELS)

    def __init__(self, name: str = "net", *, trained: bool = True, num_classes: int = num_classes) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.has_trained_weights = trained
        self.config = {"name": name, "num_classes": num_classes}
        generator = torch.Generator().manual_seed(len(name))
        self.register_buffer("steps", torch.tensor(3))
        self.weight = torch.nn.Parameter(torch.randn((num_classes + 41, 3, 1, 1), generator=generator))

    def fuse_bn(self) -> Net:
        return self

    def forward(self, images: torch.Tensor) -> Heads:
        mixed = torch.nn.functional.conv2d(images[:, :, ::4, ::4], self.weight)
        return Heads(*mixed.split((self.num_classes, 5, 10, 16, 10), dim=1))


class Perfect(Net):
    """Sees one drawn scene, whatever it is shown."""

    scene = scenes.draw(1, (129, 193), instances=6, num_classes=19, num_things=8, least_area=200)
    scene = replace(scene, category=(scene.category + 11) % 19)  # Cityscapes' things are the last eight

    def forward(self, images: torch.Tensor) -> Heads:
        heads = targets.encode_heads(self.scene.category, self.scene.instance, self.num_classes)
        return heads.map(lambda head: torch.from_numpy(head)[None])


@pytest.fixture(autouse=True)
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """`net` and `other` take the place of the networks; a file makes them trained."""

    def load(model: Net, file: Path) -> None:
        file.read_bytes()
        model.has_trained_weights = True

    monkeypatch.setattr(models, "list_models", lambda: ["net", "other"])
    monkeypatch.setattr(models, "create", lambda name, num_classes: Net(name, trained=False, num_classes=num_classes))
    monkeypatch.setattr(models, "load_weights", load)
    monkeypatch.setattr(models.DeeperLab, "from_pretrained", lambda folder: Net(Path(folder).name))


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for i, (name, size) in enumerate(SIZES.items()):
        place = folder / "below" if i == 3 else folder
        Image.fromarray(picture(size, i)).save(place / f"{name}.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.md").write_text("")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "trained").mkdir()
    return tmp_path / "trained"


def video(
    path: Path, size: tuple[int, int] = (34, 50), frames: int = 7, times: Any = None, aspect: Any = Fraction(1)
) -> Path:
    """Smooth pictures that move, as a codec likes them."""
    times = range(frames) if times is None else times
    ramp = np.linspace(0, 180, size[1])[None, :, None] + np.array([0, 30, 60]) + np.zeros((size[0], 1, 1))
    with path.open("wb") as file, predict.video.Encoder(file, path) as encoder:
        for i, pts in enumerate(times):
            pixels = (ramp + i).astype(np.uint8)
            encoder.add(pixels, predict.video.Frame(pixels, pts, Fraction(1, 10), aspect))
    return path


def run(*arguments: object, labels: str = "cityscapes") -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["predict", *map(str, arguments), "--device", "cpu", "--labels", labels]
    )


def fault(*arguments: object, **options: Any) -> str:
    result = run(*arguments, **options)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("deeperlab: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr[len("deeperlab: ") : -1])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_results_are_those_of_the_parser(photos: Path, model: Path, tmp_path: Path, assert_same: Any) -> None:
    out = tmp_path / "new" / "out"
    result = run(photos, "--model", model, "--out", out, "--batch", 3, "--heads", "--size", 40)
    assert result.exit_code == 0, result.output
    assert "4 images written" in result.stdout
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert {a.image_id for a in data.annotations} == {"a", "b", 139, "aachen_1_2"}
    parser = Parser(Net("trained"), LABELS, size=40)
    for annotation in data.annotations:
        path = photos / (annotation.image_file_name or "")
        (parsed,) = parser.stream([Image.open(path)])
        assert_same(data.ids(annotation), parsed.panoptic.numpy().to_ids())
        assert [s.category_id for s in annotation.segments] == [
            LABELS.ids[s.category] for s in parsed.panoptic.segments
        ]
        name = annotation.file_name.removesuffix(".png")
        overlay = np.asarray(Image.open(out / "overlay" / f"{name}.png"))
        assert overlay.shape == (*parsed.panoptic.size, 3)
        assert (overlay != np.asarray(Image.open(path))).any()
        heads = archive.load(out / "heads" / f"{name}.npz")
        assert_same(deeperlab.fuse(heads, LABELS.things, size=parsed.size).semantic, deeperlab.fuse(
            parsed.heads, LABELS.things, size=parsed.size).semantic)  # fmt: skip
    assert data.categories == LABELS.categories
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert info["description"] == "deeperlab predict"
    assert info["model"] == {"name": "trained", "num_classes": 19}
    assert info["weights"] == predict.maker.digest(Net("trained"))
    assert (info["trained"], info["size"], info["dtype"], info["labels"]) == (True, 40, "float32", "cityscapes")
    assert "warning" not in info
    folders = [
        f"{folder}/{name}"
        for folder in ("overlay", "panoptic")
        for name in ("a.png", "below/aachen_1_2_leftImg8bit.png")
    ]
    assert set(folders) < set(contents(out))
    assert not [name for name in contents(out) if Path(name).name.startswith(".")]


def test_compile_compiles_the_network(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    assert run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--compile").exit_code == 0
    assert [type(network) for network in compiled] == [Net]


def test_heads_that_are_not_finite_make_no_map(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, out = Net.forward, tmp_path / "out"

    def overflows(self: Net, images: torch.Tensor) -> Heads:
        heads = forward(self, images)
        if images.shape[2] == 65:
            heads.semantic[0, 3, 0, 0] = float("inf")
        return heads

    monkeypatch.setattr(Net, "forward", overflows)
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 1
    assert "b.png: the network gave NaN or infinity; with --half, try without" in result.stderr
    assert not (out / "panoptic" / "b.png").exists()
    assert (out / "panoptic" / "a.png").exists()


def test_half_heads_are_written_as_numpy_has_them(photos: Path, model: Path, tmp_path: Path) -> None:
    result = run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--heads", "--half")
    assert result.exit_code == 0, result.output
    assert archive.load(tmp_path / "out" / "heads" / "a.npz").heatmap.dtype == np.float32
    assert json.loads((tmp_path / "out" / "panoptic.json").read_text())["info"]["dtype"] == "bfloat16"


def test_sources_are_files_folders_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    def names(*sources: object, out: Path = tmp_path / "out") -> list[str]:
        found, faults = predict.sources.expand([str(s) for s in sources], out)
        assert faults == []
        return [source.name for source in found]

    below = "below/aachen_1_2_leftImg8bit"
    assert names(photos) == ["000000000139", "a", "b", below]
    assert names(photos, photos / "a.png") == ["000000000139", "a", "b", below]
    assert names(photos / "b.png", photos / "a.png") == ["b", "a"]
    assert names(photos / "[ab].png") == ["a", "b"]
    assert names(photos / "**" / "*.png") == ["000000000139", "a", "b", below]
    assert names(photos / "be*") == [below]  # a folder: what is in it
    assert names(tmp_path / "ph*s") == [f"photos/{name}" for name in ("000000000139", "a", "b", below)]
    assert names(photos, out=photos) == names(photos)
    (photos / "below").rename(photos / "overlay")
    assert names(photos, out=photos) == names(photos / "**" / "*.png", out=photos) == ["000000000139", "a", "b"]
    (photos / "overlay").rename(photos / "below")
    listing = photos / "some.txt"
    listing.write_text("# three\n\nbelow\n b.png \n", encoding="utf-8-sig")
    assert names(listing) == ["aachen_1_2_leftImg8bit", "b"]
    (photos / "below" / "film.MP4").write_bytes(b"")
    assert [source.video for source in predict.sources.expand([photos / "below"], tmp_path)[0]] == [False, True]
    assert names(photos / "below" / "film.MP4") == ["film"]


def found_names(*sources: object, out: Path) -> list[str]:
    found, faults = predict.sources.expand([str(source) for source in sources], out)
    assert faults == []
    return [source.name for source in found]


def test_results_are_no_sources_however_the_folder_is_called(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    (tmp_path / "link").symlink_to(photos)
    for out in (Path("../photos/results"), tmp_path / "link" / "results", Path("results")):
        for written in (4, 0):
            result = run(".", "--model", model, "--out", out)
            assert result.exit_code == 0, result.output
            assert f"{written} images written" in result.stdout
        shutil.rmtree(photos / "results")
    (photos / "results" / "overlay").mkdir(parents=True)
    (photos / "results" / "overlay" / "a.png").symlink_to(photos / "b.png")
    assert "results/overlay/a" not in found_names(photos, out=tmp_path / "link" / "results")


def test_what_is_named_twice_comes_once_whatever_the_way(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    (photos / "0.png").symlink_to("b.png")
    sources = (photos / "a.png", photos / "below" / ".." / "a.png", tmp_path / "link" / "a.png")
    assert found_names(*sources, out=tmp_path / "out") == ["a"]
    assert found_names(photos, tmp_path / "link", out=tmp_path / "out") == [
        *("000000000139", "a", "b", "below/aachen_1_2_leftImg8bit")
    ]


def test_folders_that_are_linked_are_entered_once(photos: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (photos / "below" / "aachen_1_2_leftImg8bit.png").rename(elsewhere / "c.png")
    (photos / "0").symlink_to(photos / "below")  # what is there without a link keeps its name
    (photos / "below" / "up").symlink_to("..")
    (photos / "below" / "linked").symlink_to(elsewhere)
    (photos / "below" / "d.png").write_bytes((photos / "a.png").read_bytes())
    names = ["000000000139", "a", "b", "below/d", "below/linked/c"]
    assert found_names(photos, out=tmp_path / "out") == names


def test_what_cannot_be_read_below_a_folder_is_named(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "gone.png").symlink_to("nowhere.png")
    scan = os.scandir

    def refuses(path: Any) -> Any:
        if str(path) == str(photos / "below"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    result = run(photos, "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"deeperlab: {photos / 'below'}: permission denied",
        f"deeperlab: {photos / 'gone.png'}: no such file or directory",
    ]
    assert "3 images written" in result.stdout
    with pytest.raises(FormatError, match="below: permission denied"):
        predict.sources.expand([photos / "below"], tmp_path / "out")


def test_frames_of_many_folders_do_not_clash(photos: Path, tmp_path: Path) -> None:
    for folder in ("train", "val"):
        (photos / folder).mkdir()
        (photos / folder / "000001.png").write_bytes((photos / "a.png").read_bytes())
    found, faults = predict.sources.expand([photos / "train" / "000001.png", photos], tmp_path / "out")
    assert faults == []
    assert {1, 139, "val/000001"} < {source.image_id for source in found}
    found, faults = predict.sources.expand([photos], tmp_path / "out")
    assert faults == []
    assert {139, "train/000001", "val/000001"} < {source.image_id for source in found}


def test_a_pattern_may_begin_with_folders_that_have_brackets(photos: Path, tmp_path: Path) -> None:
    (photos / "below").rename(photos / "br[1]")
    assert found_names(photos / "br[1]" / "*.png", out=tmp_path / "out") == ["aachen_1_2_leftImg8bit"]


def test_sources_that_are_none_are_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (photos / "bad.txt").write_bytes(b"\xff\xfe")
    (photos / "absent.txt").write_text("a.png\nnone.jpg\n")
    (photos / "nothing.txt").write_text("# nothing\n")
    absent = {
        photos / "none.png": "no such file or directory",
        photos / "*.gif": "no image (.png, .jpg, .jpeg) and no video in it",
        photos / "none.txt": "no such file or directory",
        tmp_path / "empty": "no image (.png, .jpg, .jpeg) and no video in it",
        photos / ("x" * 300): "file name too long",
        photos / "bad.txt": "expected a list of paths in UTF-8, got invalid start byte",
        photos / "nothing.txt": "an empty list",
    }
    for path, text in absent.items():
        with pytest.raises(FormatError, match=re.escape(f"{path}: {text}")):
            predict.sources.expand([path], tmp_path)
    found, faults = predict.sources.expand([*absent, photos / "absent.txt", photos / "b.png"], tmp_path)
    assert faults == [*absent.items(), (photos / "none.jpg", "no such file or directory")]
    assert [source.name for source in found] == ["a", "b"]


def test_results_never_share_an_id_or_a_name(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "c").mkdir()
    for name in ("c/a.png", "c/000000000139.png", "c/aachen_1_2_leftImg8bit.png", "a.jpg", "c/000012.png", "c.png"):
        (photos / name).write_bytes((photos / "b.png").read_bytes())
    for name in ("c.mp4", "c.mkv", "a.mp4"):
        (photos / name).write_bytes(b"")
    found, faults = predict.sources.expand([photos, photos / "below"], tmp_path)
    assert {source.name for source in found if source.video} == {"a"}
    assert {source.image_id for source in found if not source.video} == {
        *("a", "b", "c", "c/a", "c/000012", "c/000000000139", 139, "aachen_1_2")
    }
    pairs = [("a.png", "a.jpg"),
             ("c/aachen_1_2_leftImg8bit.png", "below/aachen_1_2_leftImg8bit.png"),
             ("c.mkv", "c/000012.png"), ("c.mp4", "c/000012.png")]  # fmt: skip
    told = {path: fault.partition("those of ")[2].removesuffix("; choose another --out") for path, fault in faults}
    assert told == {photos / one: str(photos / other) for one, other in pairs}
    first = video(tmp_path / "c.mp4")
    _, faults = predict.sources.expand([first, photos / "c.mkv", photos], tmp_path)
    assert (photos / "c.mkv", f"its results would take the place of those of {first}; choose another --out") in faults
    assert (photos / "c/000012.png", faults[0][1]) in faults
    result = run(photos / "a.png", photos / "a.jpg", "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"deeperlab: {photos / 'a.jpg'}: its results would take the place of those of ")
    assert "1 image written" in result.stdout


def test_names_that_would_leave_the_folder_or_be_none_are_refused(model: Path, tmp_path: Path) -> None:
    names = ("...mp4", "..mp4", "...png", "_leftImg8bit.png")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    whole = video(tmp_path / "_leftImg8bit.mp4")
    result = run(*(tmp_path / name for name in names), whole, "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    for line, name in zip(result.stderr.splitlines(), names, strict=True):
        assert line == f"deeperlab: {tmp_path / name}: expected a file with a name before its suffix"
    assert "7 frames of 1 video written" in result.stdout
    assert (tmp_path / "out" / "overlay" / "_leftImg8bit.mp4").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {*names, whole.name, "out", "trained"}


def test_names_that_no_json_can_hold_are_refused(photos: Path, model: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")
    for name in (odd, photos / "Screenshot 1\u202fPM.png", photos / "new\nline [1].png"):
        shutil.copy(photos / "a.png", name)
    out = tmp_path / "out"
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "caf\N{REPLACEMENT CHARACTER}.png: expected a name in UTF-8, which the JSON can hold\n"
    )
    assert "6 images written" in result.stdout
    ids = {a.image_id for a in coco.read(out / "panoptic.json", out / "panoptic").annotations}
    assert {"Screenshot 1\u202fPM", "new\nline [1]"} < ids


def evaluate(truth: Path, truth_folder: Path, listing: Path, folder: Path) -> Any:
    """Figures of `deeperlab eval`."""
    figures = listing.parent / "figures.json"
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app,
        [*("eval", str(truth), str(listing), "--gt-dir", str(truth_folder), "--pred-dir", str(folder)),
         *("--json", str(figures))],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    figures.unlink()
    return report


def test_eval_finds_the_images_of_coco_cityscapes_and_ones_own_folders(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    (photos / "mine" / "day").mkdir(parents=True)
    (photos / "a.png").rename(photos / "mine" / "day" / "a.png")
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    by_id = {a.image_id: a for a in data.annotations}
    assert set(by_id) == {"b", 139, "aachen_1_2", "mine/day/a"}
    assert by_id["mine/day/a"].file_name == by_id["mine/day/a"].image_file_name == "mine/day/a.png"
    assert (out / "overlay" / "mine" / "day" / "a.png").is_file()
    truth = [(coco.Annotation(a.image_id, f"{i}.png", a.segments), data.ids(a)) for i, a in enumerate(data.annotations)]
    coco.write(tmp_path / "gt.json", tmp_path / "gt", truth, LABELS.categories)
    report = evaluate(tmp_path / "gt.json", tmp_path / "gt", out / "panoptic.json", out / "panoptic")
    assert report["pq"]["All"]["pq"] == 1


def test_what_predict_writes_fuse_and_eval_read(photos: Path, model: Path, tmp_path: Path, assert_same: Any) -> None:
    """Raw heads know the size of the image, the size that the network saw, and the image's id."""
    out = tmp_path / "out"
    film = video(tmp_path / "film.mp4", frames=2)
    options = ("--model", model, "--out", out, "--heads", "--size", 40, "--batch", 2)
    assert run(photos, film, *options).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert len(data.annotations) == 6
    for annotation in data.annotations:
        heads = out / "heads" / Path(annotation.file_name).with_suffix(".npz")
        again = tmp_path / f"again {annotation.image_id}".replace("/", " ")
        result = CliRunner().invoke(app, ["fuse", str(heads), "--labels", "cityscapes", "--out", str(again)])
        assert result.exit_code == 0, result.output
        fused = coco.read(again / "panoptic.json", again)
        assert [a.image_id for a in fused.annotations] == [annotation.image_id]
        assert_same(fused.ids(fused.annotations[0]), data.ids(annotation))
        root = json.loads((out / "panoptic.json").read_text())
        (entry,) = (a for a in root["annotations"] if a["image_id"] == annotation.image_id)
        (twin,) = json.loads((again / "panoptic.json").read_text())["annotations"]
        assert twin["segments_info"] == entry["segments_info"]
    root |= {"images": root["images"][:1], "annotations": root["annotations"][:1]}
    (tmp_path / "gt.json").write_text(json.dumps(root))
    first = tmp_path / "again 139"
    assert evaluate(tmp_path / "gt.json", out / "panoptic", first / "panoptic.json", first)["pq"]["All"]["pq"] == 1


def test_instances_have_scores_and_stuff_has_none(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And `deeperlab eval` does not mind."""
    monkeypatch.setattr(models.DeeperLab, "from_pretrained", lambda _: Perfect("perfect"))
    scene = Perfect.scene
    Image.fromarray(picture(scene.instance.shape, 1)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert run(tmp_path / "a.png", "--model", model, "--out", out).exit_code == 0
    segments = Parser(Perfect("perfect"), LABELS)(picture(scene.instance.shape, 1)).segments
    (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
    told = [segment.get("score") for segment in annotation["segments_info"]]
    assert told == [None if s.score is None else round(s.score, 6) for s in segments]
    assert None in told
    assert len(set(told)) > 2
    truth = sample.of_maps(scene.category, scene.instance, LABELS)
    ids, listed = truth.to_coco(LABELS)
    coco.write(tmp_path / "gt.json", tmp_path / "gt", [(coco.Annotation("a", "a.png", listed), ids)], LABELS.categories)
    report = evaluate(tmp_path / "gt.json", tmp_path / "gt", out / "panoptic.json", out / "panoptic")
    assert report["pq"]["All"]["pq"] > 0.7


def test_a_photo_is_turned_upright_as_its_exif_says(model: Path, tmp_path: Path, assert_same: Any) -> None:
    upright = picture((33, 49), 5)
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2)}
    turned |= {6: np.rot90(upright), 7: np.rot90(upright[::-1]), 8: np.rot90(upright, -1)}
    (tmp_path / "photos").mkdir()
    for orientation, pixels in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "photos" / f"{orientation}o.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "photos" / "damaged.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    out = tmp_path / "out"
    assert run(tmp_path / "photos", "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert len(data.annotations) == 9
    ids = Parser(Net("trained"), LABELS)(upright).numpy().to_ids()
    for annotation in data.annotations:
        assert (annotation.height, annotation.width) == (33, 49)
        assert_same(data.ids(annotation), ids)
        assert png.read_image(out / "overlay" / annotation.file_name).shape == (33, 49, 3)
        path = tmp_path / "photos" / annotation.file_name
        if annotation.file_name[0].isdigit():  # data sets label the pixels as they are stored
            assert_same(png.read_image(path), np.ascontiguousarray(turned[int(annotation.file_name[0])]))


def test_finished_results_are_kept(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    (out / "overlay" / "a.png").write_bytes(b"mine")
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 images written" in result.stdout
    assert "1 finished already" in result.stdout
    assert (out / "overlay" / "a.png").read_bytes() == b"mine"
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 4
    before = contents(out)
    assert "0 images written" in run(photos, "--model", model, "--out", out).stdout
    assert contents(out) == before
    (out / "panoptic" / "b.png").unlink()
    assert "1 image written" in run(photos, "--model", model, "--out", out).stdout
    assert (out / "panoptic" / "b.png").read_bytes() == before["panoptic/b.png"]
    assert "4 images written" in run(photos, "--model", model, "--out", out, "--overwrite").stdout
    assert (out / "overlay" / "a.png").read_bytes() != b"mine"
    (out / "overlay" / "a.png").write_bytes(b"mine")
    (out / "overlay" / "b.png").write_bytes(b"mine")
    result = run(photos / "a.png", "--model", model, "--out", out, "--overwrite")
    assert "removed" not in result.stdout
    assert "1 image written" in result.stdout
    assert (out / "overlay" / "a.png").read_bytes() != b"mine"
    assert (out / "overlay" / "b.png").read_bytes() == b"mine"
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 4


def test_results_of_others_are_not_touched(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "panoptic").mkdir(parents=True)
    (out / "panoptic" / "a.png").write_bytes(b"mine")
    message = fault(photos, "--model", model, "--out", out, "--overwrite")
    assert "a.png: is there already and not of deeperlab predict; choose another --out" in message
    (out / "panoptic" / "a.png").unlink()
    for theirs in ('{"info": {"description": "deeperlab fuse"}, "images": [], "annotations": []}', "{", "[]"):
        (out / "panoptic.json").write_text(theirs)
        for options in ((), ("--overwrite",)):
            assert "panoptic.json: is there already" in fault(photos, "--model", model, "--out", out, *options)
        assert (out / "panoptic.json").read_text() == theirs
    assert set(contents(out)) == {"panoptic.json"}


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("a.png", "overlay/a.png"),
        ("a.png", "heads/a.npz"),
        ("ana.mp4", "overlay/ana.mp4"),
        ("ana.mp4", "panoptic/ana/202401.png"),
        ("ana.mp4", "heads/ana/000000.npz"),
    ],
)
def test_files_that_no_run_has_listed_are_not_touched(
    name: str, mine: str, overwrite: tuple[str, ...], photos: Path, model: Path, tmp_path: Path
) -> None:
    """Not in a folder of results either."""
    out, film = tmp_path / "out", video(photos / "ana.mp4")
    assert run(photos / "b.png", "--model", model, "--out", out).exit_code == 0
    (out / mine).parent.mkdir(parents=True, exist_ok=True)
    (out / mine).write_bytes(b"mine")
    before = contents(out) | {".panoptic.jsonl": b""}
    for _ in range(2):
        message = fault(photos / "b.png", photos / name, "--model", model, "--out", out, *overwrite)
        assert message == f"{out / mine}: is there already and not of deeperlab predict; choose another --out"
        assert contents(out).keys() == before.keys()
        assert all(data == before[file] for file, data in contents(out).items() if file != ".panoptic.jsonl")
    (out / mine).unlink()
    (out / "panoptic" / "ana").mkdir(exist_ok=True)
    others = ("panoptic/ana/20240131x.png", "panoptic/ana/01234567.png", "panoptic/ana/12345.png")
    for other in others:  # frames are not called so
        (out / other).write_bytes(b"mine")
    assert run(photos, film, "--model", model, "--out", out, *overwrite).exit_code == 0
    assert all((out / other).read_bytes() == b"mine" for other in others)


def test_a_video_that_is_done_again_leaves_files_that_are_not_its_own(model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", video(tmp_path / "film.mp4")
    assert run(film, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    (out / "panoptic" / "film" / "000099.png").write_bytes(b"mine")
    assert "000099.png: is there already" in fault(film, "--model", model, "--out", out, "--overwrite")
    assert run(film, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == before | {"panoptic/film/000099.png": b"mine"}


def test_settings_are_not_mixed(photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    other = tmp_path / "another"
    other.mkdir()
    arguments = (photos, "--model", model, "--out", out)
    assert "has results of size none, not 30" in fault(*arguments, "--size", 30)
    assert "has results of dtype 'float32', not 'bfloat16'" in fault(*arguments, "--half")
    assert "has results of model's name 'trained', not 'another'" in fault(photos, "--model", other, "--out", out)
    assert "has results of fusion's max_instances 1024, not 3" in fault(*arguments, "--max-instances", 3)
    assert "has results of fusion's max_candidates 4096, not 9" in fault(*arguments, "--max-candidates", 9)
    assert "has results of fusion's long_steps 0, not 2" in fault(*arguments, "--paper")
    classes = [
        {"name": name, "thing": thing, "id": i, "color": color}
        for name, thing, i, color in zip(LABELS.names, LABELS.isthing, LABELS.ids, LABELS.colours, strict=True)
    ]
    for change in ({"name": "path"}, {"id": 99}, {"thing": True}, {"color": [1, 2, 3]}):
        mine = {"name": "cityscapes", "void": list(LABELS.void_ids), "classes": [classes[0] | change, *classes[1:]]}
        (tmp_path / "mine.json").write_text(json.dumps(mine))
        assert "has results of labels_sha256 '" in fault(*arguments, labels=str(tmp_path / "mine.json"))
    with monkeypatch.context() as patch:
        patch.setattr(deeperlab, "__version__", "99.0")
        assert "not '99.0'" in fault(*arguments)
    assert contents(out) == before


def test_fusion_has_the_options_of_fuse(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.DeeperLab, "from_pretrained", lambda _: Perfect("perfect"))
    Image.fromarray(picture(Perfect.scene.instance.shape, 1)).save(tmp_path / "a.png")
    for options, instances in (((), 5), (("--max-instances", 1), 1), (("--max-candidates", 2), 2)):
        out = tmp_path / f"out{instances}"
        assert run(tmp_path / "a.png", "--model", model, "--out", out, *options).exit_code == 0
        (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
        found = sum("score" in segment for segment in annotation["segments_info"])
        assert found == instances


def test_overwriting_removes_the_results_of_other_settings_and_nothing_else(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    out, film = tmp_path / "out", video(tmp_path / "film.mp4")
    for interrupted in (False, True):
        assert run(photos, film, "--model", model, "--out", out, "--heads").exit_code == 0
        if interrupted:  # then the lines tell what there is
            listed = predict.journal.Journal(
                predict.folder.Folder(out, heads=True), json.loads((out / "panoptic.json").read_text())["info"]
            )
            listed.close()
        mine = {"overlay/mine.png", "panoptic/film/mine.png", "panoptic/film/000099.png", "heads/mine.npz", "mine.txt"}
        for name in mine:
            (out / name).write_bytes(b"mine")
        result = run(photos / "b.png", "--model", model, "--out", out, "--size", 20, "--overwrite")
        assert result.exit_code == 0, result.output
        assert "removed 5 results of another model or other settings\n" in result.stdout
        assert set(contents(out)) == mine | {"overlay/b.png", "panoptic/b.png", "panoptic.json"}
        assert not (out / "panoptic" / "below").exists()
        assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 1
        shutil.rmtree(out)


def test_a_listing_that_names_files_outside_removes_nothing(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    root = json.loads((out / "panoptic.json").read_text())
    root["annotations"][0]["file_name"] = "../../photos/b.png"
    (out / "panoptic.json").write_text(json.dumps(root))
    message = fault(photos / "a.png", "--model", model, "--out", out, "--size", 20, "--overwrite")
    assert "a.png: is there already" in message  # for the listing does not tell of it
    assert (photos / "b.png").is_file()


@pytest.mark.parametrize("name", ["a.png", "film.mp4"])
def test_another_file_of_the_same_name_is_not_taken_for_the_first(name: str, model: Path, tmp_path: Path) -> None:
    out, paths = tmp_path / "out", [tmp_path / folder / name for folder in ("one", "two")]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        if name == "a.png":
            Image.fromarray(picture((20 + i, 30), i)).save(path)
        else:
            video(path, frames=3 + 2 * i)
    assert run(paths[0], "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    result = run(paths[1], "--model", model, "--out", out)
    assert result.exit_code == 1
    assert result.stderr == (
        f"deeperlab: {paths[1]}: its results would take the place of those of {paths[0]}; choose another --out, or "
        "--overwrite\n"
    )
    assert contents(out) == before
    assert run(paths[1], "--model", model, "--out", out, "--overwrite").exit_code == 0
    assert run(paths[1], "--model", model, "--out", tmp_path / "clean").exit_code == 0
    assert contents(out) == contents(tmp_path / "clean")

    moved = tmp_path / "three" / name
    moved.parent.mkdir()
    paths[1].rename(moved)
    result = run(moved, "--model", model, "--out", out)
    assert result.exit_code == 0
    assert "1 finished already" in result.stdout

    changed = tmp_path / "out" / "panoptic.json"
    paths[0].rename(paths[1])  # where the results say that theirs was: an edited file
    result = run(paths[1], "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 image written" in result.stdout or "3 frames of 1 video written" in result.stdout
    assert contents(out).keys() == before.keys()
    root = json.loads(changed.read_text())
    (entry,) = root["videos"] if "videos" in root else root["images"]
    stat = paths[1].stat()
    assert entry["source"] == {"path": str(paths[1]), "bytes": stat.st_size, "modified": stat.st_mtime_ns}


def test_frames_of_a_video_and_images_of_its_name_never_mix(photos: Path, model: Path, tmp_path: Path) -> None:
    film, out = video(tmp_path / "film.mp4"), tmp_path / "out"
    (tmp_path / "root" / "film").mkdir(parents=True)
    like = tmp_path / "root" / "film" / "000003.png"
    like.write_bytes((photos / "a.png").read_bytes())
    for first, second, written in ((film, tmp_path / "root", "1 image"), (tmp_path / "root", film, "7 frames")):
        assert run(first, "--model", model, "--out", out).exit_code == 0
        result = run(second, "--model", model, "--out", out)
        assert result.exit_code == 1
        told = like if second is not film else film
        other = film if second is not film else like
        assert result.stderr.startswith(
            f"deeperlab: {told}: its results would take the place of those of {other}; choose"
        )
        result = run(second, "--model", model, "--out", out, "--overwrite")
        assert result.exit_code == 0
        assert f"{written}" in result.stdout
        names = {"film/000003.png"} if second is not film else {f"film/{i:06d}.png" for i in range(7)}
        assert {a.file_name for a in coco.read(out / "panoptic.json", out / "panoptic").annotations} == names
        assert {str(p.relative_to(out / "panoptic")) for p in out.glob("panoptic/*/*")} == names
        shutil.rmtree(out)


def test_one_run_at_a_time_writes_to_a_folder(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with predict.folder.Folder(out, heads=False):
        message = fault(photos, "--model", model, "--out", out)
        assert message == f"{out}: another deeperlab predict is writing there; wait for it, or choose another --out"
    assert list(out.iterdir()) == []
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    assert run(photos, "--model", model, "--out", out).exit_code == 0


def test_a_folder_without_locks_is_written_to_as_well(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(predict.folder.fcntl, "flock", none)
    assert run(photos, "--model", model, "--out", tmp_path / "out").exit_code == 0


def test_what_a_killed_run_left_is_swept_away(photos: Path, model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", video(tmp_path / "film.mp4")
    assert run(photos, film, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    left = ("overlay/.a.png.0123abcd.tmp", "panoptic/film/.000001.png.0123abcd.tmp", ".panoptic.json.0123abcd.tmp",
            "..panoptic.jsonl.0123abcd.tmp")  # fmt: skip
    mine = (
        ".a.png.0123abcd.tmp",
        "overlay/a.png.0123abcd.tmp",
        "overlay/.a.png.0123abcg.tmp",
        "photos/.a.01234567.tmp",
    )
    (out / "photos").mkdir()
    for name in (*left, *mine):
        (out / name).write_bytes(b"mine")
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == before | dict.fromkeys(mine, b"mine")


def test_frames_that_a_killed_run_left_are_removed(photos: Path, model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", video(tmp_path / "film.mp4")
    assert run(photos / "a.png", film, "--model", model, "--out", out, "--heads").exit_code == 0
    root = json.loads((out / "panoptic.json").read_text())
    annotations = {a["image_id"]: a for a in root["annotations"]}
    due = {"due": [[False, "a"], [True, "film"]]}
    lines = [
        {"info": root["info"]},
        due,
        *({"image": i, "annotation": annotations[i["id"]]} for i in root["images"][:5]),
    ]
    (out / ".panoptic.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(photos / "a.png", "--model", model, "--out", out, "--heads").exit_code == 0
    assert set(contents(out)) == {"overlay/a.png", "panoptic/a.png", "heads/a.npz", "panoptic.json"}
    assert not (out / "panoptic" / "film").exists()


@pytest.mark.parametrize("settings", [(), ("--size", 20, "--overwrite")])
@pytest.mark.parametrize("lines", [1, 3, 7])
def test_files_that_a_killed_run_wrote_ahead_of_its_lines_are_removed(
    lines: int, settings: Any, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the next has other sources or settings."""
    out, film, whole = tmp_path / "out", video(tmp_path / "film.mp4"), tmp_path / "whole"
    sources = (photos / "b.png", photos / "a.png", film)
    add, calls = predict.journal.Journal.add, []

    def dies(self: Any, entry: Any) -> None:
        calls.extend([entry] if "image" in entry else [])
        if len(calls) > lines:
            raise KeyboardInterrupt
        add(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(predict.journal.Journal, "add", dies)
        patch.setattr(predict.journal.Journal, "give_up", lambda *_: None)  # who is killed cleans nothing up
        assert run(*sources, "--model", model, "--out", out, "--heads").exit_code == 130
    left = set(contents(out))
    assert ("panoptic/a.png" if lines == 1 else f"panoptic/film/{lines - 2:06d}.png") in left
    (out / "overlay" / "mine.png").write_bytes(b"mine")
    assert run(photos / "b.png", "--model", model, "--out", out, *settings).exit_code == 0
    there = {a.file_name for a in coco.read(out / "panoptic.json", out / "panoptic").annotations}
    assert there == ({"a.png", "b.png"} if lines > 1 and not settings else {"b.png"})
    files = {f"{kind}/{name}" for kind in ("overlay", "panoptic") for name in there}
    files |= set() if settings else {f"heads/{Path(name).stem}.npz" for name in there}
    assert set(contents(out)) == files | {"overlay/mine.png", "panoptic.json"}
    (out / "overlay" / "mine.png").unlink()
    assert run(*sources, "--model", model, "--out", out, *settings[:2]).exit_code == 0
    assert run(*sources, "--model", model, "--out", whole, *settings[:2]).exit_code == 0
    after = {name: data for name, data in contents(out).items() if not name.startswith("heads")}
    assert after == contents(whole)


def test_what_was_due_once_is_not_for_ever(photos: Path, model: Path, tmp_path: Path) -> None:
    """A run that is refused has no right to what one before it left."""
    out = tmp_path / "out"
    assert run(photos / "b.png", "--model", model, "--out", out).exit_code == 0
    info = json.loads((out / "panoptic.json").read_text())["info"]
    with predict.folder.Folder(out, heads=False) as folder:
        journal = predict.journal.Journal(folder, info)
        journal.begin([predict.sources.Source(photos / "a.png", "a", video=False)])
        journal.close()
        predict.journal.Journal(folder, info).close()
        (out / "overlay" / "a.png").write_bytes(b"mine")
        predict.journal.Journal(folder, info).close()
    assert (out / "overlay" / "a.png").read_bytes() == b"mine"


def test_sigterm_ends_it_as_ctrl_c_does(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, whole = video(tmp_path / "film.mp4"), tmp_path / "out", tmp_path / "whole"
    assert run(photos, film, "--model", model, "--out", whole).exit_code == 0
    add, calls = predict.video.Encoder.add, []

    def killed(self: Any, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, *rest)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(predict.video.Encoder, "add", killed)
        result = run(photos, film, "--model", model, "--out", out)
    assert result.exit_code == 143
    assert result.stderr == "deeperlab: stopped after 4 images; the same command goes on\n"
    assert signal.getsignal(signal.SIGTERM) == before
    left = contents(out)
    assert {name for name in left if "film" in name} == set()
    assert not [name for name in left if name.endswith(".tmp")]
    assert run(photos, film, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == contents(whole)


def test_doing_again_can_be_interrupted(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No JSON tells of files that are gone, and nothing is done twice."""
    out = tmp_path / "out"
    arguments = (photos, "--model", model, "--out", out)
    assert run(*arguments).exit_code == 0
    before = contents(out)
    add, calls = predict.journal.Journal.add, []

    def dies(self: Any, entry: Any) -> None:
        calls.extend([entry] if "image" in entry else [])
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(predict.journal.Journal, "add", dies)
        result = run(*arguments, "--overwrite")
    assert result.exit_code == 130
    assert "stopped after 2 images; the same command without --overwrite goes on" in result.stderr
    assert not (out / "panoptic.json").exists()
    result = run(*arguments)
    assert "2 images written" in result.stdout
    assert "2 finished already" in result.stdout
    assert contents(out) == before


def test_the_order_in_the_json_is_that_of_the_ids(photos: Path, model: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    films = [video(tmp_path / name, frames=2) for name in ("y.mp4", "z.mp4")]
    (photos / "7.png").write_bytes((photos / "a.png").read_bytes())
    sources = [photos, *films]
    assert run(*sources, "--model", model, "--out", one).exit_code == 0
    for source in (films[1], photos / "b.png", *sources):
        assert run(source, "--model", model, "--out", other).exit_code == 0
    assert contents(one) == contents(other)
    root = json.loads((one / "panoptic.json").read_text())
    ids = [7, 139, "a", "aachen_1_2", "b", "y/000000", "y/000001", "z/000000", "z/000001"]
    assert [image["id"] for image in root["images"]] == [a["image_id"] for a in root["annotations"]] == ids
    assert [film["id"] for film in root["videos"]] == ["y", "z"]
    late = [f"y/{number}" for number in (999999, 1000000, 1000001)]
    shuffled = [late[1], late[2], late[0]]
    assert sorted(shuffled, key=predict.sources.in_order_of) == late


def test_broken_images_are_told_and_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:90])
    (photos / "c.jpg").write_bytes(b"no picture")
    (photos / "all.txt").write_text("a.png\nb.png\nc.jpg\nabsent.png\n000000000139.png\n")
    out = tmp_path / "out"
    for written in (2, 0):  # and they are no reason to do the others again
        result = run(photos / "all.txt", "--model", model, "--out", out, "--batch", 2)
        assert result.exit_code == 1, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 3
        assert lines[0] == f"deeperlab: {photos / 'absent.png'}: no such file or directory"
        assert lines[1].startswith(f"deeperlab: {photos / 'b.png'}: damaged PNG")
        assert lines[2] == f"deeperlab: {photos / 'c.jpg'}: neither PNG nor JPEG"
        assert f"{written} images written" in result.stdout
        assert "3 skipped" in result.stdout
        assert {a.image_id for a in coco.read(out / "panoptic.json", out).annotations} == {"a", 139}


@pytest.mark.parametrize("moment", ["write_ids", "write_rgb", "entry"])
def test_an_interruption_leaves_nothing_half_written(
    moment: str, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(photos, "--model", model, "--out", whole).exit_code == 0
    with monkeypatch.context() as patch:
        save, calls = Image.Image.save, []

        def dies(image: Any, file: Any, *rest: Any, **options: Any) -> None:
            calls.append(file)
            if len(calls) == {"write_ids": 3, "write_rgb": 4, "entry": 99}[moment]:
                file.write(b"\x89PNG half a fi")
                raise KeyboardInterrupt
            save(image, file, *rest, **options)

        patch.setattr(predict, "WORKERS", 1)
        patch.setattr(Image.Image, "save", dies)
        if moment == "entry":
            patch.setattr(predict.journal.Journal, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    left = contents(out)
    assert "panoptic.json" not in left
    assert not [name for name in left if name.endswith(".tmp")]
    for name, data in left.items():
        assert name == ".panoptic.jsonl" or data == contents(whole)[name]
    with (out / ".panoptic.jsonl").open("ab") as file:
        file.write(b'{"image": {"id": "cut sh')
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "finished already" in result.stdout
    assert contents(out) == contents(whole)


def test_lines_survive_a_second_interruption(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    info = json.loads((out / "panoptic.json").read_text())["info"]
    with predict.folder.Folder(out, heads=False) as folder:
        for _ in range(3):
            journal = predict.journal.Journal(folder, info)
            assert (False, "a") in journal
            assert (False, "half") not in journal
            journal.close()
            with (out / ".panoptic.jsonl").open("ab") as file:
                file.write(b'{"image": {"id": "half')
            journal = predict.journal.Journal(folder, info)
            journal.add({"gone": [False, "nothing"]})
            journal.close()
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == before


def test_a_full_disk_ends_it(photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: Any, file: Any, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        assert fault(photos, "--model", model, "--out", tmp_path / "out").endswith(".png: no space left on device")
    assert set(contents(tmp_path / "out")) == {".panoptic.jsonl"}


def test_untrained_weights_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, weights = tmp_path / "out", tmp_path / "best.safetensors"
    message = fault(photos, "--model", "net", "--out", out)
    assert message.startswith("--model: the weights of net are not trained; give --weights FILE, or --random-weights")
    assert not out.exists()
    result = run(photos, "--model", "net", "--out", out, "--random-weights")
    assert result.exit_code == 0, result.output
    assert "random weights: the results mean nothing" in result.stdout
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert info["trained"] is False
    assert info["warning"] == "random weights: the results mean nothing"
    assert str(weights) in fault(photos, "--model", "net", "--out", tmp_path / "two", "--weights", weights)
    weights.write_bytes(b"")
    assert run(photos, "--model", "net", "--out", tmp_path / "two", "--weights", weights).exit_code == 0
    assert json.loads((tmp_path / "two" / "panoptic.json").read_text())["info"]["trained"] is True
    folder = tmp_path / "net"
    folder.mkdir()
    monkeypatch.setattr(models.DeeperLab, "from_pretrained", lambda folder: Net(trained=False))
    assert "are not trained" in fault(photos, "--model", folder, "--out", tmp_path / "three")


def test_faults_are_one_line(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "expected a folder or one of net, other, got 'nets'" in fault(photos, "--model", "nets", "--out", out)
    assert "none.png: no such file" in fault(photos / "none.png", "--model", model, "--out", out)
    assert "labels: expected 19 classes" in fault(photos, "--model", model, "--out", out, labels="voc")
    assert "expected none with a folder" in fault(photos, "--model", model, "--out", out, "--weights", photos / "a.png")
    both = ("--weights", photos / "a.png", "--random-weights")
    assert "expected no --weights" in fault(photos, "--model", "net", "--out", out, *both)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        reason = "is a file" if out.name == "file" else "not a directory"
        message = fault(photos, "--model", model, "--out", out)
        assert message == f"{out}: cannot be the folder of --out: {reason}"
    message = fault(photos, "--model", model, "--out", tmp_path / "out", labels="citiscapes")
    assert message == "citiscapes: no such file of labels, and none of the presets coco, cityscapes, vistas, voc"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / ".panoptic.jsonl").write_text('{"info": {"description": "deeperlab predict"}}\n{}\n')
    assert "has results of" in fault(photos, "--model", model, "--out", tmp_path / "taken")


def test_a_damaged_list_of_results_is_told(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    root = json.loads((out / "panoptic.json").read_text())
    (out / "panoptic.json").write_text(json.dumps(root | {"annotations": []}))
    assert "panoptic.json: damaged" in fault(photos, "--model", model, "--out", out)
    message = fault(photos, "--model", model, "--out", out, "--overwrite")
    assert message.endswith(".png: is there already and not of deeperlab predict; choose another --out")
    for kind in ("overlay", "panoptic"):
        shutil.rmtree(out / kind)
    assert run(photos, "--model", model, "--out", out, "--overwrite").exit_code == 0
    assert json.loads((out / "panoptic.json").read_text()) == root


def test_a_damaged_first_line_is_told(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".panoptic.jsonl").write_text('{"info": {"descri\n')
    message = fault(photos, "--model", model, "--out", tmp_path / "out")
    assert ".panoptic.jsonl: is there already and not of deeperlab predict, or damaged in its first line" in message


def test_help_teaches() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", "--help"])
    assert result.exit_code == 0
    for words in (
        "deeperlab predict street.jpg --model trained/",
        "deeperlab eval",
        "--random-weights",
        "--max-instances",
        "--paper",
        "exit code is 1",
        "by default the model's own (image_size), 0: the image's",
    ):
        assert words in result.stdout


@pytest.mark.parametrize("size", [(34, 50), (33, 51)])
def test_a_video_becomes_a_video(size: tuple[int, int], model: Path, tmp_path: Path, assert_same: Any) -> None:
    times = [3, 4, 5, 9, 10, 11, 15]  # that of the first does not count
    path, out = video(tmp_path / "film.mp4", size, times=times), tmp_path / "out"
    frames = list(predict.video.frames(path))
    even = tuple(side + side % 2 for side in size)
    assert [frame.pixels.shape for frame in frames] == [(*even, 3)] * 7
    result = run(path, "--model", model, "--out", out, "--batch", 3)
    assert result.exit_code == 0, result.output
    assert "7 frames of 1 video written" in result.stdout
    drawn = list(predict.video.frames(out / "overlay" / "film.mp4"))
    assert [float(f.pts * f.time_base) for f in drawn] == pytest.approx([(t - 3) / 10 for t in times], abs=1e-3)
    assert predict.video.count(out / "overlay" / "film.mp4") == 7
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert [a.image_id for a in data.annotations] == [f"film/{i:06d}" for i in range(7)]
    parser = Parser(Net("trained"), LABELS)
    for annotation, frame, shown in zip(data.annotations, frames, drawn, strict=True):
        panoptic = parser(frame.pixels).numpy()
        assert_same(data.ids(annotation), panoptic.to_ids())
        overlay = deeperlab.visualize.overlay(frame.pixels, panoptic, LABELS)
        assert np.abs(shown.pixels.astype(int) - overlay).mean() < 12  # the codec's loss, most of it of the colours
    (told,) = json.loads((out / "panoptic.json").read_text())["videos"]
    stat = path.stat()
    source = {"path": str(path), "bytes": stat.st_size, "modified": stat.st_mtime_ns}
    size_told = {"height": even[0], "width": even[1]}
    assert told == {"id": "film", "file_name": "film.mp4", "frames": 7, "source": source} | size_told
    before = contents(out)
    assert "0 images written" in run(path, "--model", model, "--out", out).stdout
    assert contents(out) == before


def test_the_same_pictures_give_the_same_video(tmp_path: Path) -> None:
    """Or a resumed run would not give the bytes of one that was never interrupted."""
    pictures = [np.roll(picture((34, 50), 0), i, axis=1) for i in range(40)]
    made, kept = set(), []
    for i in range(10):
        kept.append(np.full(100_000 * i + 1000, i, np.uint8))  # other memory for the codec
        with (tmp_path / "film.mp4").open("wb") as file, predict.video.Encoder(file, tmp_path) as encoder:
            for pts, pixels in enumerate(pictures):
                encoder.add(pixels, predict.video.Frame(pixels, pts, Fraction(1, 10)))
        made.add((tmp_path / "film.mp4").read_bytes())
    assert len(made) == 1


def test_an_interrupted_video_begins_anew(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = video(tmp_path / "film.mp4", frames=9), tmp_path / "out"
    add, calls = predict.video.Encoder.add, []

    def dies(self: Any, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 5:
            raise KeyboardInterrupt
        add(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(predict.video.Encoder, "add", dies)
        assert run(photos / "a.png", path, "--model", model, "--out", out).exit_code == 130
    assert set(contents(out)) == {"overlay/a.png", "panoptic/a.png", ".panoptic.jsonl"}
    assert not (out / "panoptic" / "film").exists()
    result = run(photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1  # no frames of half a video
    result = run(photos / "a.png", path, "--model", model, "--out", out)
    assert "9 frames of 1 video written" in result.stdout
    assert len(coco.read(out / "panoptic.json", out).annotations) == 10
    assert predict.video.count(out / "overlay" / "film.mp4") == 9


def test_broken_videos_are_told_and_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.mp4", (130, 130), frames=30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.mkv").write_bytes(b"\0" * 3000)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'whole.mp4'}\n#EXT-X-ENDLIST\n")
    names = ("cut.mp4", "none.mkv", "list.mp4", "empty.mp4")
    out = tmp_path / "out"
    result = run(*(tmp_path / name for name in names), photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 1, result.output
    for line, name in zip(result.stderr.splitlines(), names, strict=True):
        assert line.startswith(f"deeperlab: {tmp_path / name}: ")
    assert f"{tmp_path / 'empty.mp4'}: an empty file, no video\n" in result.stderr
    assert "1 image written" in result.stdout
    assert not list((out / "overlay").glob("*.mp4"))
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_a_video_that_breaks_leaves_no_frames(
    finished: bool, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, frames = video(tmp_path / "film.mp4"), tmp_path / "out", predict.video.frames
    arguments = (photos / "a.png", film, "--model", model, "--out", out, "--heads")

    def breaks(path: Path) -> Iterator[Any]:
        for i, frame in enumerate(frames(path)):
            if i == 4:
                raise FormatError(path, "damaged video: half of it is noise")
            yield frame

    if finished:  # and edited since
        assert run(*arguments).exit_code == 0
        os.utime(film, ns=(1, 1))
    monkeypatch.setattr(predict.video, "frames", breaks)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr == f"deeperlab: {film}: damaged video: half of it is noise\n"
    assert ("1 finished already" if finished else "1 image written,") in result.stdout
    assert "frame" not in result.stdout
    assert set(contents(out)) == {"overlay/a.png", "panoptic/a.png", "heads/a.npz", "panoptic.json"}
    assert not (out / "panoptic" / "film").exists()
    assert "videos" not in json.loads((out / "panoptic.json").read_text())


def test_a_disk_that_is_full_within_a_video_ends_it(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, add, calls = video(tmp_path / "film.mp4"), tmp_path / "out", predict.journal.Journal.add, []

    def full(self: Any, entry: Any) -> None:
        calls.append(entry)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(predict.journal.Journal, "add", full)
        assert "no space left on device" in fault(photos / "a.png", film, "--model", model, "--out", out)
    assert set(contents(out)) == {"overlay/a.png", "panoptic/a.png", ".panoptic.jsonl"}
    assert run(photos / "a.png", film, "--model", model, "--out", out).exit_code == 0


def test_a_name_that_is_too_long_for_results_is_a_fault_of_its_source(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    long = tmp_path / f"{'x' * 251}.png"
    long.write_bytes((photos / "a.png").read_bytes())
    film = video(tmp_path / f"{'y' * 251}.mp4")
    out = tmp_path / "out"
    for _ in range(2):
        result = run(long, film, photos / "b.png", "--model", model, "--out", out)
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            f"deeperlab: {long}: its results cannot be named: file name too long",
            f"deeperlab: {film}: file name too long",
        ]
        assert set(contents(out)) == {"overlay/b.png", "panoptic/b.png", "panoptic.json"}


def test_the_console_tells_images_from_frames(photos: Path, model: Path, tmp_path: Path) -> None:
    films = [video(tmp_path / "one.mp4"), video(tmp_path / "two.mp4", frames=3)]
    result = run(photos, *films, "--model", model, "--out", tmp_path / "out")
    assert result.stdout.startswith("4 images, 10 frames of 2 videos written, ")
    assert "6 finished already" in run(photos, *films, "--model", model, "--out", tmp_path / "out").stdout


CONTAINERS = {"film.mkv": "libx264", "film.webm": "libvpx", "film.avi": "mpeg4", "film.mp4": "libx264"}


def contained(target: Any, codec: str, times: Any = range(75), **options: Any) -> Any:
    """Noise, 25 frames a second, in a container of any kind."""
    av = predict.video.pyav()
    rng = np.random.default_rng(0)
    with av.open(target, "w", **options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for pts in times:
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 96, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_video_that_was_cut_short_is_told(name: str, tmp_path: Path) -> None:
    path = contained(tmp_path / name, CONTAINERS[name])
    assert len(list(predict.video.frames(path))) == 75
    data = path.read_bytes()
    for percent in (10, 25, 50, 75, 95):
        path.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(FormatError, match=r"damaged|no video|not a video"):
            list(predict.video.frames(path))
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))  # a download that was never finished
    with pytest.raises(
        FormatError, match=r"damaged|not a video" if name == "film.mp4" else r"ends after [01]\.. s, its "
    ):
        list(predict.video.frames(path))


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("times", [[0], [0, 1, 2, 3, 200], [0, 100, 101, 400], range(3), [0, 50, 51, 52, 53, 54]])
def test_a_whole_video_is_never_told_to_be_cut(name: str, times: Any, tmp_path: Path) -> None:
    path = contained(tmp_path / name, CONTAINERS[name], times)
    assert len(list(predict.video.frames(path))) >= len(times)  # AVI repeats frames to fill a gap


@pytest.mark.parametrize(
    ("times", "said", "damaged"),
    [(range(75), 3.9, False), (range(75), 4.1, True), ([0, 50], 5.9, False), ([0, 50], 6.1, True)],
)
def test_a_header_may_say_a_little_too_much(
    times: Any, said: float, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second, or two of the longest frames."""
    path = contained(tmp_path / "film.mkv", "libx264", times)
    monkeypatch.setattr(predict.whole, "_stated", lambda _: Fraction(said))
    if damaged:
        with pytest.raises(
            FormatError, match=rf"film\.mkv: damaged video: ends after [23]\.0 s, its header says {said} s"
        ):
            list(predict.video.frames(path))
    else:
        assert len(list(predict.video.frames(path))) == len(times)


def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    """As a recorder writes it where it cannot seek."""

    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data)
            return len(data)

    pipe, path = Pipe(), tmp_path / "film.mkv"
    contained(pipe, "libx264", format="matroska")
    path.write_bytes(pipe.data)
    assert len(list(predict.video.frames(path))) == 75


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_video_is_turned_upright(degrees: int, model: Path, tmp_path: Path, assert_same: Any) -> None:
    path, aspect = video(tmp_path / "film.mp4", (34, 50), aspect=Fraction(4, 3)), Fraction(4, 3)
    stored = [frame.pixels for frame in predict.video.frames(path)]
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40  # the matrix: a, b, u, c, d, v, x, y, w
    one, cos, sin = 1 << 16, *{0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    frames = [frame.pixels for frame in predict.video.frames(path)]
    for frame, pixels in zip(frames, stored, strict=True):
        assert_same(frame, np.rot90(pixels, -degrees // 90))  # the matrix turns clockwise
    out = tmp_path / "out"
    assert run(path, "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert_same(data.ids(data.annotations[2]), Parser(Net("trained"), LABELS)(frames[2]).numpy().to_ids())
    size, shown = ((50, 34), 1 / aspect) if degrees % 180 else ((34, 50), aspect)
    drawn = {(frame.pixels.shape[:2], frame.aspect) for frame in predict.video.frames(out / "overlay" / "film.mp4")}
    assert drawn == {(size, shown)}


def test_a_video_is_read_frame_by_frame(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "film.mp4", frames=40)
    ahead, most = 0, 0
    frames, add = predict.video.frames, predict.video.Encoder.add

    def counted(path: Path) -> Iterator[Any]:
        nonlocal ahead, most
        for frame in frames(path):
            ahead, most = ahead + 1, max(most, ahead + 1)
            yield frame

    def encoded(self: Any, *rest: Any) -> None:
        nonlocal ahead
        ahead -= 1
        add(self, *rest)

    monkeypatch.setattr(predict.video, "frames", counted)
    monkeypatch.setattr(predict.video.Encoder, "add", encoded)
    assert run(path, "--model", model, "--out", tmp_path / "out", "--batch", 2).exit_code == 0
    assert ahead == 0
    assert most <= 2 * predict.WORKERS + 1 + 2


def test_videos_without_pyav_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    message = fault(tmp_path / "film.mp4", "--model", model, "--out", tmp_path / "out")
    assert message == "videos need PyAV: pip install 'deeperlab[video]'"
    with pytest.raises(ImportError, match="PyAV"):
        list(predict.video.frames(tmp_path / "film.mp4"))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(FormatError, match="not a regular file"):
        predict.video.count(tmp_path / "film.mp4")


def test_the_digest_tells_weights_apart() -> None:
    first = predict.maker.digest(Net())
    assert first == predict.maker.digest(Net())
    assert first == predict.maker.digest(Net().to(memory_format=torch.channels_last))
    changed = Net()
    with torch.no_grad():
        changed.weight[0, 0] += 1e-6
    assert first != predict.maker.digest(changed)
    assert first != predict.maker.digest(Net().half())
