# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab predict` takes for a source, and what its results are called."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from predicting import run, write_video

from deeperlab.data.files import FormatError
from deeperlab.data.formats import coco
from deeperlab.predictor import find_sources
from deeperlab.predictor.sources import IMAGES, Found


def test_sources_are_files_folders_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    def names(*sources: object, out: Path = tmp_path / "out") -> list[str]:
        found = find_sources([str(s) for s in sources], out)
        assert found.faults == []
        return [source.name for source in found.sources]

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
    assert [source.is_video for source in find_sources([photos / "below"], tmp_path).sources] == [False, True]
    assert names(photos / "below" / "film.MP4") == ["film"]


def parts(found: Found) -> tuple[list[Any], list[Any]]:
    return found.faults, found.sources


def found_names(*sources: object, out: Path) -> list[str]:
    found = find_sources([str(source) for source in sources], out)
    assert found.faults == []
    return [source.name for source in found.sources]


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
    (photos / "results" / "overlay" / "a.jpg").symlink_to(photos / "b.png")
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


def test_a_pattern_does_not_follow_links_in_circles(photos: Path, tmp_path: Path) -> None:
    """With two of them, a search that did would find 2 to the 40th paths before the system stops it."""
    deep = photos / "below" / "deeper"
    deep.mkdir()
    for i in range(3):
        (deep / f"up{i}").symlink_to("..")
    (deep / "c.png").write_bytes((photos / "a.png").read_bytes())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "below" / "linked").symlink_to(tmp_path / "elsewhere")
    everything = ["000000000139", "a", "b", "below/aachen_1_2_leftImg8bit", "below/deeper/c", "below/linked/d"]
    for pattern, names in {
        "**": everything,
        "**/*": everything,
        "**/**/**/*.png": everything,
        "**/deeper/**/c.p?g": ["below/deeper/c"],
        "be*/**/[cd].png": everything[-2:],
        "**/.hidden.png": [".hidden"],
        "*/linked": everything[-1:],
    }.items():
        assert sorted(found_names(photos / pattern, out=tmp_path / "out")) == sorted(names), pattern


def test_what_lies_in_too_many_folders_is_named(photos: Path, tmp_path: Path) -> None:
    deep = photos / "/".join("d" * 101)
    deep.mkdir(parents=True)
    for path in (deep / "c.png", deep.parent / "d.png"):
        path.write_bytes((photos / "a.png").read_bytes())
    for given in (photos, photos / "**" / "*.png"):
        faults, found = parts(find_sources([given], tmp_path / "out"))
        assert faults == [(deep / "c.png", "expected at most 100 folders above it, below what was given")]
        assert "d" in {source.path.stem for source in found}


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
        f"deeperlab: {photos / 'gone.png'}: a symbolic link to nowhere.png, which is not there",
    ]
    assert "3 images written" in result.stdout
    with pytest.raises(FormatError, match="below: permission denied"):
        find_sources([photos / "below"], tmp_path / "out")


def test_frames_of_many_folders_do_not_clash(photos: Path, tmp_path: Path) -> None:
    for folder in ("train", "val"):
        (photos / folder).mkdir()
        (photos / folder / "000001.png").write_bytes((photos / "a.png").read_bytes())
    faults, found = parts(find_sources([photos / "train" / "000001.png", photos], tmp_path / "out"))
    assert faults == []
    assert {1, 139, "val/000001"} < {source.image_id for source in found}
    faults, found = parts(find_sources([photos], tmp_path / "out"))
    assert faults == []
    assert {139, "train/000001", "val/000001"} < {source.image_id for source in found}


def test_a_pattern_may_begin_with_folders_that_have_brackets(photos: Path, tmp_path: Path) -> None:
    (photos / "below").rename(photos / "br[1]")
    assert found_names(photos / "br[1]" / "*.png", out=tmp_path / "out") == ["aachen_1_2_leftImg8bit"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_may_begin_with_a_byte_order_mark(photos: Path, tmp_path: Path, encoding: str) -> None:
    """As PowerShell and Windows' editors write it."""
    (photos / "list.txt").write_text("a.png\r\n", encoding=encoding)
    found = find_sources([photos / "list.txt"], tmp_path / "out")
    assert [source.path for source in found.sources] == [photos / "a.png"]


def test_sources_that_are_none_are_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (photos / "bad.txt").write_bytes(b"a\xff")
    (photos / "absent.txt").write_text("a.png\nnone.jpg\n")
    (photos / "nothing.txt").write_text("# nothing\n")
    absent = {
        photos / "none.png": "no such file or directory",
        photos / "*.gif": f"no image ({', '.join(IMAGES)}) and no video in it",
        photos / "none.txt": "no such file or directory",
        tmp_path / "empty": f"no image ({', '.join(IMAGES)}) and no video in it",
        photos / ("x" * 300): "file name too long",
        photos / "bad.txt": "expected text in UTF-8, got invalid start byte at byte 1; save it as UTF-8",
        photos / "nothing.txt": "an empty list",
    }
    for path, text in absent.items():
        with pytest.raises(FormatError, match=re.escape(f"{path}: {text}")):
            find_sources([path], tmp_path)
    faults, found = parts(find_sources([*absent, photos / "absent.txt", photos / "b.png"], tmp_path))
    assert faults == [*absent.items(), (photos / "none.jpg", "no such file or directory")]
    assert [source.name for source in found] == ["a", "b"]


def test_results_never_share_an_id_or_a_name(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "c").mkdir()
    for name in ("c/a.png", "c/000000000139.png", "c/aachen_1_2_leftImg8bit.png", "a.jpg", "c/000012.png", "c.png"):
        (photos / name).write_bytes((photos / "b.png").read_bytes())
    for name in ("c.mp4", "c.mkv", "a.mp4"):
        (photos / name).write_bytes(b"")
    faults, found = parts(find_sources([photos, photos / "below"], tmp_path))
    assert {source.name for source in found if source.is_video} == {"a"}
    assert {source.image_id for source in found if not source.is_video} == {
        *("a", "b", "c", "c/a", "c/000012", "c/000000000139", 139, "aachen_1_2")
    }
    pairs = [("a.png", "a.jpg"),
             ("c/aachen_1_2_leftImg8bit.png", "below/aachen_1_2_leftImg8bit.png"),
             ("c.mkv", "c/000012.png"), ("c.mp4", "c/000012.png")]  # fmt: skip
    told = {path: fault.partition("those of ")[2].removesuffix("; choose another --out") for path, fault in faults}
    assert told == {photos / one: str(photos / other) for one, other in pairs}
    first = write_video(tmp_path / "c.mp4")
    faults, _ = parts(find_sources([first, photos / "c.mkv", photos], tmp_path))
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
    whole = write_video(tmp_path / "_leftImg8bit.mp4")
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


def test_files_of_other_types_are_counted_and_named(photos: Path, model: Path, tmp_path: Path) -> None:
    for name in ("a.gif.txt", "b.HEIC", "c.heic", "below/d.heic", "README"):
        (photos / name).write_bytes(b"")
    found = find_sources([photos, photos / "*"], tmp_path / "out")
    assert list(found.left_out.items()) == [(".heic", 3), ("", 1), (".md", 1), (".txt", 1)]
    out = photos / "out"
    for written in (4, 0):  # results are none of them
        result = run(photos, "--model", model, "--out", out)
        assert result.exit_code == 0, result.output
        assert f"{written} images written" in result.stdout
        assert "left out 6 files of other types: 3 .heic, 1 without suffix, 1 .md, 1 .txt\n" in result.stdout
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.heic").write_bytes(b"")
    with pytest.raises(FormatError, match=r"and no video in it; of other types: 1 \.heic$"):
        find_sources([tmp_path / "others"], tmp_path / "out")


def test_photographs_of_every_suffix_are_sources(tmp_path: Path) -> None:
    for i, suffix in enumerate(IMAGES):
        (tmp_path / f"{i}{suffix.upper()}").write_bytes(b"")
    found = find_sources([tmp_path], tmp_path / "out")
    assert len(found.sources) == len(IMAGES) >= 11
    assert not found.faults
    assert not found.left_out


def test_addresses_are_not_fetched(tmp_path: Path) -> None:
    for address in ("https://example.org/a.jpg", "s3://bucket/a.jpg"):
        with pytest.raises(FormatError, match="an address, which is not fetched; download or record it first"):
            find_sources([address], tmp_path / "out")
    with pytest.raises(
        FormatError, match=r"^0: no such file or directory; cameras are not read: record a video first$"
    ):
        find_sources(["0"], tmp_path / "out")


def test_links_that_leave_the_folder_are_followed(photos: Path, model: Path, tmp_path: Path) -> None:
    """As in the caches of hubs and of DVC, whose files have no suffix."""
    cache, hub = tmp_path / "cache", tmp_path / "hub"
    for folder in (cache, hub):
        folder.mkdir()
    for number, name in enumerate(("a", "b")):
        (photos / f"{name}.png").rename(cache / f"{number}")
        (hub / f"{name}.png").symlink_to(cache / f"{number}")
    result = run(hub, "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 images written" in result.stdout
    (cache / "0").unlink()
    result = run(hub, "--model", model, "--out", tmp_path / "other")
    assert result.exit_code == 1
    assert f"{hub / 'a.png'}: a symbolic link to {cache / '0'}, which is not there" in result.stderr


def test_what_is_no_file_is_named_and_the_next_goes_on(photos: Path, model: Path, tmp_path: Path) -> None:
    """Nothing is waited for: not a pipe that nobody writes to, nor a device without an end."""
    os.mkfifo(photos / "pipe.png")
    os.mkfifo(photos / "pipe.mp4")
    (photos / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(photos / "socket.jpg"))
    (photos / "list.txt").write_text("list.txt\npipe.png\na.png\nbelow\n")
    bad = ("device.png", "pipe.mp4", "pipe.png", "socket.jpg")
    refused = [
        f"deeperlab: {photos / name}: not a regular file; write what a pipe or device gives to a file first"
        for name in bad
    ]
    result = run(photos, "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert sorted(line for line in result.stderr.splitlines() if "regular" in line) == refused
    assert "4 images written" in result.stdout
    result = run(photos / "list.txt", "--model", model, "--out", tmp_path / "list")
    assert result.exit_code == 1
    assert f"deeperlab: {photos / 'list.txt'}: not an image" in result.stderr
    assert "2 images written" in result.stdout
