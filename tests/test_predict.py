# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict`: what it writes, what it keeps, what it refuses, and what an interruption leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import deeperlab
from deeperlab import Heads, _journal, _sources, _video, models, predict
from deeperlab.cli import app
from deeperlab.data import archive, coco, labels
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


def video(path: Path, size: tuple[int, int] = (34, 50), frames: int = 7, times: Any = None) -> Path:
    """Smooth pictures that move, as a codec likes them."""
    times = range(frames) if times is None else times
    ramp = np.linspace(0, 180, size[1])[None, :, None] + np.array([0, 30, 60]) + np.zeros((size[0], 1, 1))
    with path.open("wb") as file, _video.Encoder(file, path) as encoder:
        for i, pts in enumerate(times):
            pixels = (ramp + i).astype(np.uint8)
            encoder.add(pixels, _video.Frame(pixels, pts, Fraction(1, 10)))
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
        path = next(photos.rglob(annotation.image_file_name or ""))
        (parsed,) = parser.stream([Image.open(path)])
        assert_same(data.ids(annotation), parsed.panoptic.numpy().to_ids())
        assert [s.category_id for s in annotation.segments] == [
            LABELS.ids[s.category] for s in parsed.panoptic.segments
        ]
        name = Path(annotation.file_name).stem
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
    assert info["weights"] == predict.digest(Net("trained"))
    assert (info["trained"], info["size"], info["dtype"], info["labels"]) == (True, 40, "float32", "cityscapes")
    assert "warning" not in info
    folders = [f"{folder}/{name}" for folder in ("overlay", "panoptic") for name in ("a.png", "aachen_1_2.png")]
    assert set(folders) < set(contents(out))
    assert not [name for name in contents(out) if Path(name).name.startswith(".")]


def test_eval_reads_what_was_predicted(photos: Path, model: Path, tmp_path: Path) -> None:
    assert run(photos, "--model", model, "--out", tmp_path / "out").exit_code == 0
    listing, folder = tmp_path / "out" / "panoptic.json", tmp_path / "out" / "panoptic"
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["eval", str(listing), str(listing), "--gt-dir", str(folder), "--pred-dir", str(folder)]
    )
    assert result.exit_code == 0, result.output
    assert "100.00" in result.stdout


def test_compile_compiles_the_network(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    assert run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--compile").exit_code == 0
    assert [type(network) for network in compiled] == [Net]


def test_half_heads_are_written_as_numpy_has_them(photos: Path, model: Path, tmp_path: Path) -> None:
    result = run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--heads", "--half")
    assert result.exit_code == 0, result.output
    assert archive.load(tmp_path / "out" / "heads" / "a.npz").heatmap.dtype == np.float32
    assert json.loads((tmp_path / "out" / "panoptic.json").read_text())["info"]["dtype"] == "bfloat16"


def test_sources_are_files_folders_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    def names(*sources: object, out: Path = tmp_path / "out") -> list[str]:
        return [source.name for source in _sources.expand([str(s) for s in sources], out)]

    assert names(photos) == ["000000000139", "a", "b", "aachen_1_2"]
    assert names(photos, photos / "a.png") == ["000000000139", "a", "b", "aachen_1_2"]
    assert names(photos / "b.png", photos / "a.png") == ["b", "a"]
    assert names(photos / "[ab].png") == ["a", "b"]
    assert names(photos / "**" / "*.png") == ["000000000139", "a", "b", "aachen_1_2"]
    assert names(photos, out=photos) == names(photos)
    (photos / "below").rename(photos / "overlay")
    assert names(photos, out=photos) == ["000000000139", "a", "b"]
    (photos / "overlay").rename(photos / "below")
    listing = photos / "some.txt"
    listing.write_text("# two\n\nbelow/aachen_1_2_leftImg8bit.png\n b.png \n")
    assert names(listing) == ["aachen_1_2", "b"]
    (photos / "below" / "film.MP4").write_bytes(b"")
    assert [source.video for source in _sources.expand([photos / "below"], tmp_path)] == [False, True]
    for absent in (photos / "none.png", photos / "*.gif", photos / "none.txt", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match=r"[Nn]o such file|no image"):
            names(absent)
    (photos / "below" / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: its results would have the name of those of .*a\.jpg|a\.jpg: its"):
        names(photos)
    listing.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="expected a list of paths in UTF-8"):
        names(listing)


def test_finished_results_are_kept(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    (out / "overlay" / "a.png").write_bytes(b"mine")
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 images written" in result.stdout
    assert "1 sources were finished already" in result.stdout
    assert (out / "overlay" / "a.png").read_bytes() == b"mine"
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 4
    before = contents(out)
    assert "0 images written" in run(photos, "--model", model, "--out", out).stdout
    assert contents(out) == before
    (out / "panoptic" / "b.png").unlink()
    assert "1 images written" in run(photos, "--model", model, "--out", out).stdout
    assert (out / "panoptic" / "b.png").read_bytes() == before["panoptic/b.png"]
    assert "4 images written" in run(photos, "--model", model, "--out", out, "--overwrite").stdout
    assert (out / "overlay" / "a.png").read_bytes() != b"mine"
    assert run(photos / "a.png", "--model", model, "--out", out, "--overwrite").exit_code == 0
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 1


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


def test_settings_are_not_mixed(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    other = tmp_path / "another"
    other.mkdir()
    assert "has results of size none, not 30" in fault(photos, "--model", model, "--out", out, "--size", 30)
    assert "has results of model's name 'trained', not 'another'" in fault(photos, "--model", other, "--out", out)
    assert contents(out) == before
    assert run(photos, "--model", other, "--out", out, "--overwrite").exit_code == 0


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
        assert lines[0].startswith(f"deeperlab: {photos / 'b.png'}: damaged PNG")
        assert lines[1] == f"deeperlab: {photos / 'c.jpg'}: neither PNG nor JPEG"
        assert lines[2] == f"deeperlab: {photos / 'absent.png'}: no such file or directory"
        assert f"{written} images written" in result.stdout
        assert "3 could not be read" in result.stdout
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
            patch.setattr(_journal.Journal, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
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
    assert "sources were finished already" in result.stdout
    assert contents(out) == contents(whole)


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
    assert str(tmp_path / "file") in fault(photos, "--model", model, "--out", tmp_path / "file")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / ".panoptic.jsonl").write_text('{"info": {"description": "deeperlab predict"}}\n{}\n')
    assert "has results of" in fault(photos, "--model", model, "--out", tmp_path / "taken")


def test_a_damaged_list_of_results_is_told(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    root = json.loads((out / "panoptic.json").read_text())
    (out / "panoptic.json").write_text(json.dumps(root | {"annotations": []}))
    assert "panoptic.json: damaged" in fault(photos, "--model", model, "--out", out)
    assert run(photos, "--model", model, "--out", out, "--overwrite").exit_code == 0
    assert json.loads((out / "panoptic.json").read_text()) == root


def test_help_teaches() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", "--help"])
    assert result.exit_code == 0
    for words in (
        "deeperlab predict street.jpg --model trained/",
        "deeperlab eval",
        "--random-weights",
        "exit code is 1",
    ):
        assert words in result.stdout


@pytest.mark.parametrize("size", [(34, 50), (33, 51)])
def test_a_video_becomes_a_video(size: tuple[int, int], model: Path, tmp_path: Path, assert_same: Any) -> None:
    times = [3, 4, 5, 9, 10, 11, 15]  # that of the first does not count
    path, out = video(tmp_path / "film.mp4", size, times=times), tmp_path / "out"
    frames = list(_video.frames(path))
    even = tuple(side + side % 2 for side in size)
    assert [frame.pixels.shape for frame in frames] == [(*even, 3)] * 7
    result = run(path, "--model", model, "--out", out, "--batch", 3)
    assert result.exit_code == 0, result.output
    assert "7 images written" in result.stdout
    drawn = list(_video.frames(out / "overlay" / "film.mp4"))
    assert [float(f.pts * f.time_base) for f in drawn] == pytest.approx([(t - 3) / 10 for t in times], abs=1e-3)
    assert _video.count(out / "overlay" / "film.mp4") == 7
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert [a.image_id for a in data.annotations] == [f"film/{i:06d}" for i in range(7)]
    parser = Parser(Net("trained"), LABELS)
    for annotation, frame, shown in zip(data.annotations, frames, drawn, strict=True):
        panoptic = parser(frame.pixels).numpy()
        assert_same(data.ids(annotation), panoptic.to_ids())
        overlay = deeperlab.visualize.overlay(frame.pixels, panoptic, LABELS)
        assert np.abs(shown.pixels.astype(int) - overlay).mean() < 12  # the codec's loss, most of it of the colours
    (told,) = json.loads((out / "panoptic.json").read_text())["videos"]
    assert told == {"id": "film", "file_name": "film.mp4", "frames": 7, "height": even[0], "width": even[1]}
    before = contents(out)
    assert "0 images written" in run(path, "--model", model, "--out", out).stdout
    assert contents(out) == before


def test_an_interrupted_video_begins_anew(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = video(tmp_path / "film.mp4", frames=9), tmp_path / "out"
    add, calls = _video.Encoder.add, []

    def dies(self: Any, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 5:
            raise KeyboardInterrupt
        add(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(_video.Encoder, "add", dies)
        assert run(photos / "a.png", path, "--model", model, "--out", out).exit_code == 130
    assert list((out / "overlay").iterdir()) == [out / "overlay" / "a.png"]
    result = run(photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1  # no frames of half a video
    result = run(photos / "a.png", path, "--model", model, "--out", out)
    assert "9 images written" in result.stdout
    assert len(coco.read(out / "panoptic.json", out).annotations) == 10
    assert _video.count(out / "overlay" / "film.mp4") == 9


def test_broken_videos_are_told_and_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.mp4", (130, 130), frames=30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.mkv").write_bytes(b"\0" * 3000)
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'whole.mp4'}\n#EXT-X-ENDLIST\n")
    names = ("cut.mp4", "none.mkv", "list.mp4")
    out = tmp_path / "out"
    result = run(*(tmp_path / name for name in names), photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 1, result.output
    for line, name in zip(result.stderr.splitlines(), names, strict=True):
        assert line.startswith(f"deeperlab: {tmp_path / name}: ")
    assert "1 images written" in result.stdout
    assert not list((out / "overlay").glob("*.mp4"))
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1


def test_a_video_is_read_frame_by_frame(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "film.mp4", frames=40)
    ahead, most = 0, 0
    frames, add = _video.frames, _video.Encoder.add

    def counted(path: Path) -> Iterator[Any]:
        nonlocal ahead, most
        for frame in frames(path):
            ahead, most = ahead + 1, max(most, ahead + 1)
            yield frame

    def encoded(self: Any, *rest: Any) -> None:
        nonlocal ahead
        ahead -= 1
        add(self, *rest)

    monkeypatch.setattr(_video, "frames", counted)
    monkeypatch.setattr(_video.Encoder, "add", encoded)
    assert run(path, "--model", model, "--out", tmp_path / "out", "--batch", 2).exit_code == 0
    assert ahead == 0
    assert most <= 2 * predict.WORKERS + 1 + 2


def test_videos_without_pyav_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    message = fault(tmp_path / "film.mp4", "--model", model, "--out", tmp_path / "out")
    assert message == "videos need PyAV: pip install 'deeperlab[video]'"
    with pytest.raises(ImportError, match="PyAV"):
        list(_video.frames(tmp_path / "film.mp4"))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(FormatError, match="not a regular file"):
        _video.count(tmp_path / "film.mp4")


def test_the_digest_tells_weights_apart() -> None:
    first = predict.digest(Net())
    assert first == predict.digest(Net())
    assert first == predict.digest(Net().to(memory_format=torch.channels_last))
    changed = Net()
    with torch.no_grad():
        changed.weight[0, 0] += 1e-6
    assert first != predict.digest(changed)
    assert first != predict.digest(Net().half())
