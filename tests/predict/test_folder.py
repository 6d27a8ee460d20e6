# SPDX-License-Identifier: Apache-2.0
"""The folder of `deeperlab predict`: what it keeps, and what it never touches."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predicting import LABELS, contents, fault, picture, result_files, run, write_video

import deeperlab
from deeperlab.data.formats import coco
from deeperlab.predictor import recall_settings, results

pytestmark = pytest.mark.slow


def test_finished_results_are_kept(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    (out / "overlay" / "a.jpg").write_bytes(b"mine")
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 images written" in result.stdout
    assert "1 finished already" in result.stdout
    assert (out / "overlay" / "a.jpg").read_bytes() == b"mine"
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 4
    before = contents(out)
    assert "0 images written" in run(photos, "--model", model, "--out", out).stdout
    assert contents(out) == before
    (out / "panoptic" / "b.png").unlink()
    assert "1 image written" in run(photos, "--model", model, "--out", out).stdout
    assert (out / "panoptic" / "b.png").read_bytes() == before["panoptic/b.png"]
    assert "4 images written" in run(photos, "--model", model, "--out", out, "--overwrite").stdout
    assert (out / "overlay" / "a.jpg").read_bytes() != b"mine"
    (out / "overlay" / "a.jpg").write_bytes(b"mine")
    (out / "overlay" / "b.jpg").write_bytes(b"mine")
    result = run(photos / "a.png", "--model", model, "--out", out, "--overwrite")
    assert "removed" not in result.stdout
    assert "1 image written" in result.stdout
    assert (out / "overlay" / "a.jpg").read_bytes() != b"mine"
    assert (out / "overlay" / "b.jpg").read_bytes() == b"mine"
    assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 4


def test_results_of_others_are_not_touched(photos: Path, model: Path, tmp_path: Path) -> None:
    """A folder is taken only if it is empty or marked."""
    for theirs in ("panoptic.json", "panoptic/other.png", ".hidden"):
        out = tmp_path / theirs.replace("/", "_")
        (out / theirs).parent.mkdir(parents=True)
        (out / theirs).write_bytes(b"theirs")
        for options in ((), ("--overwrite",)):
            message = fault(photos, "--model", model, "--out", out, *options)
            assert message == f"{out}: is neither empty nor a folder of deeperlab predict; choose another --out"
        assert contents(out) == {theirs: b"theirs"}
    (tmp_path / "empty").mkdir()
    assert run(photos, "--model", model, "--out", tmp_path / "empty").exit_code == 0


@pytest.mark.parametrize("file", ["overlay/a.jpg", "panoptic/a.png", "panoptic.json"])
def test_a_pipe_or_a_device_is_not_replaced(file: str, photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    (out / file).unlink()
    (out / file).symlink_to("/dev/null")
    message = fault(photos / "a.png", "--model", model, "--out", out, "--overwrite")
    assert message == f"{out / file}: is no regular file; choose another --out"
    assert (out / file).is_char_device()
    assert len(contents(out)) >= 2


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("a.png", "overlay/a.jpg"),
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
    out, film = tmp_path / "out", write_video(photos / "ana.mp4")
    assert run(photos / "b.png", "--model", model, "--out", out).exit_code == 0
    (out / mine).parent.mkdir(parents=True, exist_ok=True)
    (out / mine).write_bytes(b"mine")
    before = contents(out)
    for _ in range(2):
        message = fault(photos / "b.png", photos / name, "--model", model, "--out", out, *overwrite)
        assert message == f"{out / mine}: is there already and not of deeperlab predict; choose another --out"
        assert contents(out) == before
    (out / mine).unlink()
    (out / "panoptic" / "ana").mkdir(exist_ok=True)
    others = ("panoptic/ana/20240131x.png", "panoptic/ana/01234567.png", "panoptic/ana/12345.png")
    for other in others:  # frames are not called so
        (out / other).write_bytes(b"mine")
    assert run(photos, film, "--model", model, "--out", out, *overwrite).exit_code == 0
    assert all((out / other).read_bytes() == b"mine" for other in others)


def test_a_video_that_is_done_again_leaves_files_that_are_not_its_own(model: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", write_video(tmp_path / "film.mp4")
    assert run(film, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    (out / "panoptic" / "film" / "000099.png").write_bytes(b"mine")
    assert "000099.png: is there already" in fault(film, "--model", model, "--out", out, "--overwrite")
    assert run(film, "--model", model, "--out", out).exit_code == 0
    assert contents(out) == before | {"panoptic/film/000099.png": b"mine"}


def test_a_file_in_the_place_of_heads_that_were_not_wanted_is_not_touched(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    """The record of an image tells which of its files were written."""
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    (out / "heads").mkdir()
    (out / "heads" / "a.npz").write_bytes(b"mine")
    before = contents(out)
    for options in ((), ("--heads",)):
        message = fault(photos / "a.png", "--model", model, "--out", out, "--overwrite", *options)
        assert message.startswith(f"{out / 'heads' / 'a.npz'}: is there already")
        assert contents(out) == before
    assert run(photos, "--model", model, "--out", out, "--size", 20, "--overwrite").exit_code == 2
    assert (out / "heads" / "a.npz").read_bytes() == b"mine"


def test_heads_that_are_wanted_later_are_made(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    assert "1 image written" in run(photos / "a.png", "--model", model, "--out", out, "--heads").stdout
    before = contents(out)
    assert "heads/a.npz" in before
    assert "1 finished already" in run(photos / "a.png", "--model", model, "--out", out).stdout
    assert contents(out) == before


def test_settings_are_not_mixed(photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    other = tmp_path / "another"
    other.mkdir()
    arguments = (photos, "--model", model, "--out", out)
    assert "has results of size None, not 30" in fault(*arguments, "--size", 30)
    assert "has results of dtype 'float32', not 'bfloat16'" in fault(*arguments, "--half")
    assert "has results of model's name 'trained', not 'another'" in fault(photos, "--model", other, "--out", out)
    assert "has results of fusion's max_instances 1024, not 3" in fault(*arguments, "--max-instances", 3)
    assert "has results of fusion's max_candidates 4096, not 9" in fault(*arguments, "--max-candidates", 9)
    assert "has results of fusion's long_steps 0, not 2" in fault(*arguments, "--paper")
    classes = [
        {"name": name, "thing": thing, "id": i, "color": color}
        for name, thing, i, color in zip(LABELS.names, LABELS.isthing, LABELS.ids, LABELS.colors, strict=True)
    ]
    for change in ({"name": "path"}, {"id": 99}, {"thing": True}, {"color": [1, 2, 3]}):
        mine = {"name": "cityscapes", "void": list(LABELS.void_ids), "classes": [classes[0] | change, *classes[1:]]}
        (tmp_path / "mine.json").write_text(json.dumps(mine))
        assert "has results of labels_sha256 '" in fault(*arguments, labels=str(tmp_path / "mine.json"))
    with monkeypatch.context() as patch:
        patch.setattr(deeperlab, "__version__", "99.0")
        assert "not '99.0'" in fault(*arguments)
    assert contents(out) == before


def test_overwriting_removes_the_results_of_other_settings_and_nothing_else(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    out, film = tmp_path / "out", write_video(tmp_path / "film.mp4")
    for interrupted in (False, True):
        assert run(photos, film, "--model", model, "--out", out, "--heads").exit_code == 0
        if interrupted:
            (out / "panoptic.json").unlink()
        mine = {"overlay/mine.jpg", "panoptic/film/mine.png", "panoptic/film/000099.png", "heads/mine.npz", "mine.txt"}
        for name in mine:
            (out / name).write_bytes(b"mine")
        result = run(photos / "b.png", "--model", model, "--out", out, "--size", 20, "--overwrite")
        assert result.exit_code == 0, result.output
        assert "removed 5 results of another model or other settings\n" in result.stdout
        assert result_files(out) == mine | {"overlay/b.jpg", "panoptic/b.png", "panoptic.json"}
        assert not (out / "panoptic" / "below").exists()
        assert len(coco.read(out / "panoptic.json", out / "panoptic").annotations) == 1
        shutil.rmtree(out)


def test_a_record_that_names_files_outside_removes_nothing(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    (record,) = (out / ".deeperlab").glob("*.jsonl")
    record.write_text(record.read_text().replace('"file_name": "a.png"', '"file_name": "../../photos/b.png"'))
    message = fault(photos / "a.png", "--model", model, "--out", out, "--size", 20, "--overwrite")
    assert message == f"{record}: damaged: not of ../../photos/b; choose another --out"
    assert (photos / "b.png").is_file()
    assert contents(out).keys() == before.keys()


@pytest.mark.parametrize("name", ["a.png", "film.mp4"])
def test_another_file_of_the_same_name_is_not_taken_for_the_first(name: str, model: Path, tmp_path: Path) -> None:
    out, paths = tmp_path / "out", [tmp_path / folder / name for folder in ("one", "two")]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        if name == "a.png":
            Image.fromarray(picture((20 + i, 30), i)).save(path)
        else:
            write_video(path, frames=3 + 2 * i)
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
    film, out = write_video(tmp_path / "film.mp4"), tmp_path / "out"
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
    with results.locked(out):
        message = fault(photos, "--model", model, "--out", out)
        assert message == f"{out}: another deeperlab predict is writing there; wait for it, or choose another --out"
    assert contents(out) == {}
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    assert run(photos, "--model", model, "--out", out).exit_code == 0


def test_a_folder_without_locks_is_written_to_as_well(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(results.fcntl, "flock", none)
    assert run(photos, "--model", model, "--out", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("name", ["settings.json", "a record"])
def test_damage_is_told(name: str, photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", model, "--out", out).exit_code == 0
    state = out / ".deeperlab"
    path = state / name if name.endswith("json") else next(state.glob("*.jsonl"))
    path.write_text('{"kinds": [')
    before = contents(out)
    for options in ((), ("--overwrite",)):
        message = fault(photos, "--model", model, "--out", out, *options)
        assert message.startswith(f"{path}: damaged: ")
    assert contents(out) == before


def test_the_json_is_made_of_the_records(photos: Path, model: Path, tmp_path: Path) -> None:
    """Whatever became of it since."""
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    before = contents(out)
    (out / "panoptic.json").write_text("{")
    assert "4 finished already" in run(photos, "--model", model, "--out", out).stdout
    assert contents(out) == before
    next((out / ".deeperlab").glob("*.jsonl")).unlink()  # then nobody knows whose its files are
    message = fault(photos, "--model", model, "--out", out)
    assert message.endswith(".jpg: is there already and not of deeperlab predict; choose another --out")


def test_overlays_are_jpegs_pngs_or_none(photos: Path, model: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", frames=2)
    for overlay, suffix in (("jpeg", "jpg"), ("png", "png"), ("none", None)):
        out = tmp_path / overlay
        arguments = (photos / "a.png", film, "--model", model, "--out", out, "--overlay", overlay)
        for written in ("1 image, 2 frames of 1 video written", "2 finished already"):
            result = run(*arguments)
            assert result.exit_code == 0, result.output
            assert written in result.stdout
        files = {"panoptic.json", "panoptic/a.png", "panoptic/film/000000.png", "panoptic/film/000001.png"}
        assert result_files(out) == files | ({f"overlay/a.{suffix}", "overlay/film.mp4"} if suffix else set())
        assert json.loads((out / "panoptic.json").read_text())["info"]["overlay"] == overlay
    lossy, lossless = (Image.open(tmp_path / kind) for kind in ("jpeg/overlay/a.jpg", "png/overlay/a.png"))
    assert (lossy.format, lossless.format) == ("JPEG", "PNG")
    difference = np.asarray(lossy).astype(int) - np.asarray(lossless)
    assert 0 < np.abs(difference).mean() < 20


def test_overlays_of_another_type_are_another_setting(photos: Path, model: Path, tmp_path: Path) -> None:
    """And so are those of a folder from before there was a choice, which are PNGs."""
    out, arguments = tmp_path / "out", (photos / "a.png", "--model", model, "--out", tmp_path / "out")
    assert run(*arguments, "--overlay", "png").exit_code == 0
    settings = out / ".deeperlab" / "settings.json"
    for told in ("'png'", "None"):
        assert f"has results of overlay {told}, not 'jpeg'" in fault(*arguments)
        settings.write_text(settings.read_text().replace('"overlay": "png", ', ""))
    result = run(*arguments, "--overwrite")
    assert "removed 1 result of another model or other settings" in result.stdout
    assert result_files(out) == {"overlay/a.jpg", "panoptic/a.png", "panoptic.json"}
    settings.write_text(settings.read_text().replace('"overlay": "jpeg"', '"overlay": "gif"'))
    assert "settings.json: damaged: overlay: expected jpeg, png, none, got 'gif'" in fault(*arguments)


@pytest.mark.parametrize("kind", ["a pipe", "nested", "other"])
def test_a_note_of_the_request_that_is_none_is_not_believed(kind: str, tmp_path: Path) -> None:
    request: dict[str, object] = {"files": [], "options": {}, "versions": {}}
    note = tmp_path / results.STATE / results.REQUEST
    note.parent.mkdir()
    (note.parent / results.SETTINGS).write_text('{"size": 9}')
    note.write_text(json.dumps({"request": request, "settings": {"size": 9}}))
    assert recall_settings(tmp_path, request) == {"size": 9}
    note.unlink()
    if kind == "a pipe":
        os.mkfifo(note)
    else:
        note.write_text("[" * 100_000 if kind == "nested" else '{"request": {}}')
    assert recall_settings(tmp_path, request) is None
