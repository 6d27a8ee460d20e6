# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict` interrupted, killed, and given again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from predicting import contents, run, video

from deeperlab.data.formats import coco
from deeperlab.predictor import prediction as predict


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
