# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict --tile`: large photographs, and what a run tells the next about its tiles."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicting import LABELS, Net, contents, fault, picture, run, write_video

import deeperlab
from deeperlab import Heads
from deeperlab.data import archive
from deeperlab.data.formats import coco
from deeperlab.data.formats.photo import ORIENTATION
from deeperlab.predictor import Parser, flow

TILES = "--tile", 65, "--batch", 3


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """150 × 201 px: 3 × 4 tiles without a halo."""
    Image.fromarray(picture((150, 201), 7)).save(tmp_path / "large.png")
    return tmp_path / "large.png"


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What networks are given."""
    forward, given = Net.forward, list[tuple[int, ...]]()

    def told(self: Net, images: torch.Tensor) -> Heads:
        if images.shape[3] > 17:  # no strip by which it is measured
            given.append(tuple(images.shape))
        return forward(self, images)

    monkeypatch.setattr(Net, "forward", told)
    return given


def test_maps_in_tiles_are_those_of_the_whole(
    large: Path, model: Path, tmp_path: Path, shapes: list[tuple[int, ...]]
) -> None:
    out = tmp_path / "out"
    result = run(large, "--model", model, "--out", out, *TILES, "--halo", 0, "--heads")
    assert result.exit_code == 0, result.output
    assert "1 image written" in result.stdout
    assert "; tiles of 65 px with a halo of 0 px;" in result.stdout
    assert shapes == [(3, 3, 65, 65)] * 4
    (whole,) = Parser(Net("trained"), LABELS, size=0).stream([Image.open(large)])
    data = coco.read(out / "panoptic.json", out / "panoptic")
    ids, (want, _) = data.ids(data.annotations[0]), whole.panoptic.to_coco()
    assert ids.shape == want.shape == (150, 201)
    assert (ids == want).mean() > 0.99  # a product of matrices rounds otherwise for other sizes
    heads = archive.load(out / "heads" / "large.npz")
    assert heads.semantic.dtype == np.uint8
    np.testing.assert_allclose(heads.long_range, whole.heads.long_range, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        deeperlab.fuse(heads, LABELS.things).semantic >= 0, np.ones(ids.shape, bool)
    )  # fmt: skip


def test_small_photos_and_frames_go_through_the_network_as_without_tiles(
    photos: Path, model: Path, tmp_path: Path, shapes: list[tuple[int, ...]]
) -> None:
    film = write_video(tmp_path / "film.mp4", size=(34, 50), frames=4)
    result = run(photos / "a.png", film, "--model", model, "--out", tmp_path / "out", "--tile", 65, "--batch", 2)
    assert result.exit_code == 0, result.output
    assert shapes == [(1, 3, 33, 49), (2, 3, 49, 65), (2, 3, 49, 65)]


def test_frames_are_cut_too(model: Path, tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    film = write_video(tmp_path / "film.mp4", size=(80, 64), frames=3)
    result = run(film, "--model", model, "--out", tmp_path / "out", *TILES)
    assert result.exit_code == 0, result.output
    assert shapes == [(2, 3, 65, 65)] * 3
    assert "3 frames of 1 video written" in result.stdout


def test_with_a_size_the_resized_image_is_cut(
    large: Path, model: Path, tmp_path: Path, shapes: list[tuple[int, ...]]
) -> None:
    out = tmp_path / "out"
    assert run(large, "--model", model, "--out", out, *TILES, "--size", 120).exit_code == 0
    assert shapes == [(3, 3, 65, 65), (1, 3, 65, 65)]  # 90 × 120 px, padded to 97 × 129
    (whole,) = Parser(Net("trained"), LABELS, size=120).stream([Image.open(large)])
    data = coco.read(out / "panoptic.json", out / "panoptic")
    ids, (want, _) = data.ids(data.annotations[0]), whole.panoptic.to_coco()
    assert (ids == want).mean() > 0.99


def test_results_of_other_tiles_are_not_mixed(large: Path, model: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "out", (large, "--model", model)
    assert run(*arguments, "--out", out, "--tile", 129, "--halo", 10).exit_code == 0
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert (info["tile"], info["halo"], info["size"]) == (129, 16, None)
    before = contents(out)
    again = run(*arguments, "--out", out, "--tile", 129, "--halo", 10, "--batch", 2)
    assert "1 finished already" in again.stdout
    assert "has results of tile 129, not 65" in fault(*arguments, "--out", out, "--tile", 65)
    assert "has results of tile 129, not None" in fault(*arguments, "--out", out)
    assert "has results of halo 16, not 32" in fault(*arguments, "--out", out, "--tile", 129, "--halo", 32)
    assert contents(out) == before
    plain = tmp_path / "plain"
    assert run(*arguments, "--out", plain).exit_code == 0
    assert not {"tile", "halo"} & json.loads((plain / "panoptic.json").read_text())["info"].keys()


def test_logits_that_are_not_finite_are_told_though_labels_hide_them(
    large: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, out = Net.forward, tmp_path / "out"

    def overflows(self: Net, images: torch.Tensor) -> Heads:
        heads = forward(self, images)
        heads.semantic[-1, 3, 4, 4] = float("nan")
        return heads

    monkeypatch.setattr(Net, "forward", overflows)
    result = run(large, "--model", model, "--out", out, *TILES, "--halo", 0)
    assert result.exit_code == 1
    assert "large.png: the network gave NaN or infinity" in result.stderr


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (1, 1)])
def test_photos_of_one_pixel_s_width_are_cut_too(size: tuple[int, int], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Image.fromarray(picture(size, 3)).save(tmp_path / "thin.png")
    assert run(tmp_path / "thin.png", "--model", model, "--out", out, *TILES, "--halo", 16).exit_code == 0
    (whole,) = Parser(Net("trained"), LABELS, size=0).stream([Image.open(tmp_path / "thin.png")])
    data = coco.read(out / "panoptic.json", out / "panoptic")
    ids, (want, _) = data.ids(data.annotations[0]), whole.panoptic.to_coco()
    assert ids.shape == size
    assert (ids == want).mean() > 0.99


def test_tiles_are_those_of_the_photograph_turned_upright(model: Path, tmp_path: Path) -> None:
    shown, exif = picture((150, 201), 7), Image.Exif()
    exif[ORIENTATION] = 6
    for name, pixels, given in (("stored", np.rot90(shown), exif), ("shown", shown, Image.Exif())):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=given)
        assert run(tmp_path / f"{name}.png", "--model", model, "--out", tmp_path / name, *TILES).exit_code == 0
    stored, upright = ((tmp_path / name / "panoptic" / f"{name}.png").read_bytes() for name in ("stored", "shown"))
    assert stored == upright


def test_an_interrupted_run_ends_between_tiles_and_the_next_is_whole(
    large: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "PATIENCE", 60.0)
    closed, given, forward, close = threading.Event(), list[int](), Net.forward, flow._Room.close

    def stopped(self: Net, images: torch.Tensor) -> Heads:
        if images.shape[3] > 17:  # no strip by which it is measured
            given.append(len(images))
            if len(given) == 2:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                assert closed.wait(60)
        return forward(self, images)

    def tells(room: Any) -> None:
        close(room)
        closed.set()

    options = (large, "--model", model, "--out", tmp_path / "out", "--tile", 65, "--halo", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Net, "forward", stopped)
        patch.setattr(flow._Room, "close", tells)
        assert run(*options).exit_code == 130
    assert given == [1, 1]
    assert run(*options).exit_code == 0
    assert run(*options[:4], tmp_path / "whole", *options[5:]).exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile", 100), "tile: expected 16 m + 1 px, as 97 or 113, got 100"),
        (("--tile", 65, "--halo", 32), "tile: expected at least 81, 17 beside a halo of 32 on either side, got 65"),
        (("--halo", 32), "halo: expected None without a tile, got 32"),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    options: tuple[Any, ...], message: str, large: Path, model: Path, tmp_path: Path
) -> None:
    assert fault(large, "--model", model, "--out", tmp_path / "out", *options) == message
