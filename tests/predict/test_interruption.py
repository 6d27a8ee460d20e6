# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict` interrupted, killed, and given again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from predicting import contents, result_files, run, write_video

from deeperlab.data.formats import coco, png
from deeperlab.predictor import flow, results, video

pytestmark = pytest.mark.slow


def after(calls: int, function: Any) -> Any:
    """A function that is interrupted after some calls."""
    done: list[Any] = []

    def dies(*arguments: Any) -> Any:
        if len(done) >= calls:
            raise KeyboardInterrupt
        done.append(arguments)
        return function(*arguments)

    return dies


def test_what_a_killed_run_left_is_swept_away(photos: Path, model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", write_video(tmp_path / "film.mp4")
    assert run(photos, film, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    left = ("overlay/.a.jpg.0123abcd.tmp", "panoptic/film/.000001.png.0123abcd.tmp",
            ".deeperlab/.settings.json.0123abcd.tmp", ".deeperlab/.panoptic.json.0123abcd.tmp")  # fmt: skip
    mine = (
        ".a.png.0123abcd.tmp",
        "overlay/a.jpg.0123abcd.tmp",
        "overlay/.a.jpg.0123abcg.tmp",
        "photos/.a.01234567.tmp",
    )
    (out / "photos").mkdir()
    for name in (*left, *mine):
        (out / name).write_bytes(b"mine")
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == before | dict.fromkeys(mine, b"mine")


def test_frames_that_a_killed_run_left_are_removed(photos: Path, model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", write_video(tmp_path / "film.mp4")
    arguments = ("--model", model, "--out", out, "--heads")
    assert run(film, *arguments).exit_code == 0
    (record,) = (out / ".deeperlab").glob("*.jsonl")
    record.unlink()  # it is the last file that is written of a video
    (out / ".deeperlab" / "announced.json").write_text('["film.mp4"]')
    assert run(photos / "a.png", *arguments).exit_code == 0
    assert result_files(out) == {"overlay/a.jpg", "panoptic/a.png", "heads/a.npz", "panoptic.json"}
    assert not (out / "panoptic" / "film").exists()


@pytest.mark.parametrize("settings", [(), ("--size", 20, "--overwrite")])
@pytest.mark.parametrize("records", [0, 1, 2])
def test_files_that_a_killed_run_wrote_ahead_of_its_records_are_removed(
    records: int, settings: Any, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the next has other sources or settings."""
    out, film, whole = tmp_path / "out", write_video(tmp_path / "film.mp4"), tmp_path / "whole"
    sources = (photos / "b.png", photos / "a.png", film)
    dies = after(records, results.Results.add)
    with monkeypatch.context() as patch:
        patch.setattr(results.Results, "add", dies)
        patch.setattr(results.Results, "give_up", lambda *_: None)  # who is killed cleans nothing up
        assert run(*sources, "--model", model, "--out", out, "--heads").exit_code == 130
    left = result_files(out)
    assert ("b.png", "a.png", "film/000006.png")[records] in {name.removeprefix("panoptic/") for name in left}
    (out / "overlay" / "mine.jpg").write_bytes(b"mine")
    assert run(photos / "b.png", "--model", model, "--out", out, *settings).exit_code == 0
    there = {a.file_name for a in coco.read(out / "panoptic.json", out / "panoptic").annotations}
    assert there == ({"a.png", "b.png"} if records == 2 and not settings else {"b.png"})
    heads = () if settings else there if records else there - {"b.png"}  # which the second run did without them
    files = {f"panoptic/{name}" for name in there} | {f"overlay/{Path(name).stem}.jpg" for name in there}
    files |= {f"heads/{Path(name).stem}.npz" for name in heads}
    assert result_files(out) == files | {"overlay/mine.jpg", "panoptic.json"}
    (out / "overlay" / "mine.jpg").unlink()
    assert run(*sources, "--model", model, "--out", out, "--overwrite", *settings[:2]).exit_code == 0
    assert run(*sources, "--model", model, "--out", whole, *settings[:2]).exit_code == 0
    assert contents(out) == contents(whole)


def test_what_was_announced_once_is_not_for_ever(photos: Path, model: Path, tmp_path: Path) -> None:
    """A run that is refused has no right to what one before it left."""
    out = tmp_path / "out"
    assert run(photos / "b.png", "--model", model, "--out", out).exit_code == 0
    (out / ".deeperlab" / "announced.json").write_text('["a.png"]')
    assert run(photos / "b.png", "--model", model, "--out", out, "--size", 20).exit_code == 2
    (out / "overlay" / "a.jpg").write_bytes(b"mine")
    assert run(photos / "b.png", "--model", model, "--out", out).exit_code == 0
    assert (out / "overlay" / "a.jpg").read_bytes() == b"mine"


def test_sigterm_ends_it_as_ctrl_c_does(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, whole = write_video(tmp_path / "film.mp4"), tmp_path / "out", tmp_path / "whole"
    assert run(photos, film, "--model", model, "--out", whole).exit_code == 0
    add, calls = video.Encoder.add, []

    def killed(self: Any, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, *rest)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(video.Encoder, "add", killed)
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
    with monkeypatch.context() as patch:
        patch.setattr(results.Results, "add", after(2, results.Results.add))
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
    films = [write_video(tmp_path / name, frames=2) for name in ("y.mp4", "z.mp4")]
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


@pytest.mark.parametrize("moment", ["ids", "overlay", "entry"])
def test_an_interruption_leaves_nothing_half_written(
    moment: str, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(photos, "--model", model, "--out", whole).exit_code == 0
    with monkeypatch.context() as patch:
        calls: list[Any] = []

        def dying(save: Any, when: str, file_at: int) -> Any:
            def dies(*given: Any, **options: Any) -> None:
                calls.append(when)
                if calls.count(moment) == 2 and when == moment:
                    given[file_at].write(b"half a fi")
                    raise KeyboardInterrupt
                save(*given, **options)

            return dies

        patch.setattr(flow, "WORKERS", 1)
        patch.setattr(png, "encode", dying(png.encode, "ids", 0))
        patch.setattr(Image.Image, "save", dying(Image.Image.save, "overlay", 1))
        if moment == "entry":
            patch.setattr(results.Results, "finish", after(0, results.Results.finish))
        result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    left = contents(out)
    assert "panoptic.json" not in left
    assert not [name for name in left if name.endswith(".tmp")]
    for name, data in left.items():
        assert name == ".deeperlab/announced.json" or data == contents(whole)[name]
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "finished already" in result.stdout
    assert contents(out) == contents(whole)


def test_a_run_that_is_killed_and_given_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """At random moments, ten times and more."""
    script = Path(__file__).with_name("kill.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[1])}
    arguments = [sys.executable, str(script), str(tmp_path), "10", "0"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 10
