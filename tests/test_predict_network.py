# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict` with a network of the paper, from `save_pretrained` to files."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from deeperlab import models
from deeperlab.cli import app
from deeperlab.data import labels
from deeperlab.data.formats import coco, photo
from deeperlab.predictor import video
from deeperlab.predictor.parser import Parser

NAME = "light_wider_mobilenet_v2"
LABELS = labels.preset("cityscapes")


def run(*arguments: object) -> Any:
    options = ("--labels", "cityscapes", "--device", "cpu")
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", *map(str, arguments), *options])


def trained(**options: Any) -> models.DeeperLab:
    """A network whose heads somebody has touched: that is what counts as training."""
    torch.manual_seed(1)
    model = models.create(NAME, len(LABELS), **options)
    assert not model.has_trained_weights
    with torch.no_grad():
        for head in model.heads.values():
            head[-1].weight.normal_(std=100)  # what little a network that was never trained sees becomes a map
    assert model.has_trained_weights
    return model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two of unequal size in sub-folders, and a video."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for name, size in (("day/street.png", (60, 90)), ("night/street.jpg", (97, 71))):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    with (folder / "day" / "drive.mp4").open("wb") as file, video.Encoder(file, folder) as encoder:
        for i in range(4):
            pixels = np.full((48, 64, 3), (40 * i, 90, 200 - 40 * i), np.uint8)
            encoder.add(pixels, video.Frame(pixels, i, Fraction(1, 10)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model. 75 of 75 batch norms")  # nobody trained it
@pytest.mark.parametrize(("options", "size"), [((), 97), (("--size", 0), 0), (("--batch", 3), 97)])
def test_what_a_trained_network_sees_is_written(
    options: tuple[Any, ...], size: int, photos: Path, tmp_path: Path, assert_same: Any
) -> None:
    folder, out = tmp_path / "network", tmp_path / "out"
    trained(decoder_channels=16, semantic_channels=16, instance_channels=16, image_size=97).save_pretrained(folder)
    arguments = (photos, "--model", folder, "--out", out, "--heads", *options)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "2 images, 4 frames of 1 video written" in result.stdout
    frames = [f"day/drive/{i:06d}" for i in range(4)]
    names = ["day/street", "night/street"]
    assert {name for name in contents(out) if not name.startswith(".deeperlab/")} == {
        "panoptic.json",
        "overlay/day/drive.mp4",
        *(f"overlay/{name}.jpg" for name in names),
        *(f"panoptic/{name}.png" for name in names + frames),
        *(f"heads/{name}.npz" for name in names + frames),
    }
    batch = 3 if "--batch" in options else 1
    parser = Parser(models.DeeperLab.from_pretrained(folder).fold_batch_norm(), LABELS, size=size, batch=batch)
    shown = {f"day/drive/{i:06d}": f.pixels for i, f in enumerate(video.frames(photos / "day" / "drive.mp4"))}
    shown |= {path.split(".")[0]: photo.read_image(photos / path) for path in ("day/street.png", "night/street.jpg")}
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert [a.image_id for a in data.annotations] == sorted(names + frames)
    pictures = [*parser([shown[name] for name in names]), *parser([shown[name] for name in frames])]
    maps = dict(zip(names + frames, pictures, strict=True))
    for annotation in data.annotations:
        panoptic = maps[str(annotation.image_id)]
        pixels = shown[str(annotation.image_id)]
        assert (annotation.height, annotation.width) == pixels.shape[:2]
        assert_same(data.ids(annotation), panoptic.to_coco()[0])
    assert len({segment.category_id for a in data.annotations for segment in a.segments}) > 1
    for name in names:
        assert photo.read_image(out / "overlay" / f"{name}.jpg").shape == shown[name].shape
    film = [frame.pixels.shape for frame in video.frames(out / "overlay" / "day" / "drive.mp4")]
    assert film == [(48, 64, 3)] * 4
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert (info["trained"], info["size"]) == (True, size or None)
    assert info["model"]["decoder_channels"] == 16

    before = contents(out)
    again = run(*arguments)
    assert again.exit_code == 0
    assert "0 images written" in again.stdout
    assert "3 finished already" in again.stdout
    assert contents(out) == before


@pytest.mark.slow
def test_a_name_alone_is_refused_unless_random_weights_are_wanted(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (photos / "day" / "street.png", "--model", NAME, "--out", out, "--size", 65)
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"deeperlab: --model: the weights of {NAME} are not trained")
    assert not out.exists()
    for written in ("1 image written", "1 finished already"):  # the same random weights every time
        result = run(*arguments, "--random-weights")
        assert result.exit_code == 0, result.output
        assert result.stderr == "deeperlab: warning: random weights: the results mean nothing\n"
        assert written in result.stdout
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert (info["trained"], info["warning"]) == (False, "random weights: the results mean nothing")

    trained().save_pretrained(tmp_path / "whole")
    weights = ("--weights", tmp_path / "whole" / "model.safetensors")
    other = run(*arguments, *weights)
    assert other.exit_code == 2
    assert "has results of weights" in other.stderr
    assert run(*arguments[:-4], "--out", tmp_path / "trained", "--size", 65, *weights).exit_code == 0
    models.create(NAME, len(LABELS)).save_pretrained(tmp_path / "untrained")
    untrained = ("--weights", tmp_path / "untrained" / "model.safetensors")
    refused = run(*arguments[:-4], "--out", tmp_path / "untrained-out", *untrained)
    assert refused.exit_code == 2
    assert "are not trained" in refused.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:model. 75 of 75 batch norms")
def test_labels_beside_the_model_are_its_labels(photos: Path, tmp_path: Path) -> None:
    def predict(out: str, *more: object) -> Any:
        street, options = photos / "day" / "street.png", ("--model", folder, "--device", "cpu")
        arguments = (street, *options, "--out", tmp_path / out, *more)
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", *map(str, arguments)])

    folder, model = tmp_path / "network", trained(image_size=65)
    model.save_pretrained(folder)
    refused = predict("out")
    assert refused.exit_code == 2
    assert "--labels: expected coco, cityscapes, vistas, voc, ade20k, photo16, or a file, as" in refused.stderr
    (folder / "labels.json").write_text(labels.to_json(LABELS))
    for out, more in (("out", ()), ("same", ("--labels", "cityscapes"))):
        assert predict(out, *more).exit_code == 0
    assert contents(tmp_path / "out")["panoptic.json"] == contents(tmp_path / "same")["panoptic.json"]


@pytest.mark.slow
def test_a_finished_folder_is_told_without_torch(photos: Path, tmp_path: Path) -> None:
    """Which alone takes seconds to import."""
    folder, out = tmp_path / "network", tmp_path / "out"
    trained(decoder_channels=16, semantic_channels=16, instance_channels=16, image_size=97).save_pretrained(folder)
    arguments = ("predict", photos, "--model", folder, "--out", out, "--labels", "cityscapes")
    code = f"""
import sys
from deeperlab.cli import app
app({[str(argument) for argument in arguments]!r}, standalone_mode=False)
assert "torch" not in sys.modules, "torch"
"""
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert first.stderr.endswith("AssertionError: torch\n")
    before = contents(out)
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "3 finished already" in again.stdout
    assert contents(out) == before
    for change in (("--size", "65"), ("--overlay", "png")):
        other = run(photos, "--model", folder, "--out", out, *change)
        assert other.exit_code == 2
        assert "has results of" in other.stderr
    (out / "overlay" / "day" / "street.jpg").unlink()
    assert "1 image written" in run(photos, "--model", folder, "--out", out).stdout
    assert contents(out) == before
    torch.save({}, folder / "model.safetensors")
    assert run(photos, "--model", folder, "--out", out).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torch", "torch.nn", "torch.nn.functional", "deeperlab.models.hub"])
def test_an_interruption_is_told_whatever_is_being_imported(module: str, photos: Path, tmp_path: Path) -> None:
    arguments = ("predict", photos, "--model", NAME, "--random-weights", "--out", tmp_path / "out", "--labels", "voc")
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
from deeperlab.cli import app
class Finder:
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
app({[str(argument) for argument in arguments]!r})
"""
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "deeperlab: stopped before the first image; the same command goes on\n"
