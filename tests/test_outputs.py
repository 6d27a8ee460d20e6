# SPDX-License-Identifier: Apache-2.0
"""Where results are written: a file whole or not at all, and what is no regular file stays what it is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deeperlab.cli import app
from deeperlab.data.files import is_special, replace, require_writable
from deeperlab.data.formats import coco

CATEGORIES = (coco.Category(1, "person", True), coco.Category(92, "grass", False))


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture
def evaluation(tmp_path: Path) -> list[str]:
    """The arguments of an evaluation of one image."""
    ids = np.full((20, 30), 7, np.int32)
    ids[4:12, 5:20] = 1
    for name in ("gt", "pred"):
        annotation = coco.Annotation(3, "3.png", coco.describe(ids, {7: 92, 1: 1}))
        coco.write(tmp_path / f"{name}.json", tmp_path / name, [(annotation, ids)], CATEGORIES)
    files = [str(tmp_path / name) for name in ("gt.json", "pred.json")]
    return ["eval", *files, "--gt-dir", str(tmp_path / "gt"), "--pred-dir", str(tmp_path / "pred")]


def seeking(file: IO[bytes]) -> None:
    """As writers of archives and videos do."""
    file.write(b"head, body")
    file.seek(0)
    file.write(b"HEAD")


class Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.content = path, b""
        self.start()

    def run(self) -> None:
        self.content = self.path.read_bytes()

    def read(self) -> bytes:
        self.join(20)
        return self.content


def test_a_pipe_and_a_link_to_it_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "far").symlink_to(tmp_path / "link")
    for name in ("pipe", "link", "far"):
        reader = Reader(tmp_path / "pipe")
        require_writable(tmp_path / name, "--json")
        replace(tmp_path / name, seeking)
        assert reader.read() == b"HEAD, body"
        assert is_special(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link", "pipe"]


def test_a_pipe_gets_nothing_of_what_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = Reader(tmp_path / "pipe")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        replace(tmp_path / "pipe", fail)
    (tmp_path / "pipe").write_bytes(b"")  # ends the reader
    assert reader.read() == b""


def test_a_device_and_a_link_to_it_stay(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.open("wb").close()
    except PermissionError:  # no root, or a file system without devices: only the link is tried
        device = Path("/dev/null")
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        require_writable(path, "--json")
        replace(path, seeking)
        assert stat.S_ISCHR(path.stat().st_mode)
    assert (tmp_path / "link").is_symlink()


def test_a_descriptor_is_written_to_where_it_stands(tmp_path: Path) -> None:
    """/dev/stdout and its kind, which may lead to a regular file that a shell has opened."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    assert is_special(tmp_path / "link")
    with (tmp_path / "log").open("w+b", buffering=0) as log:
        log.write(b"before;")
        for path in (f"/dev/fd/{log.fileno()}", f"/proc/self/fd/{log.fileno()}"):
            require_writable(Path(path), "--json")
            replace(path, seeking)
        log.write(b";after")
    assert (tmp_path / "log").read_bytes() == b"before;HEAD, bodyHEAD, body;after"
    assert not Path("/dev/fd/99").exists()
    with (tmp_path / "log").open("rb") as log, pytest.raises(PermissionError):
        require_writable(Path(f"/dev/fd/{log.fileno()}"), "--json")


def test_a_link_to_a_regular_file_is_replaced_and_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for target in ("file", "none", "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        require_writable(tmp_path / "link", "--json")
        replace(tmp_path / "link", seeking)
        assert (tmp_path / "link").read_bytes() == b"HEAD, body"
        assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("command", ["eval", "oracle"])
def test_json_goes_into_a_pipe(command: str, evaluation: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = Reader(tmp_path / "pipe")
    arguments = evaluation if command == "eval" else ["oracle", evaluation[1], *evaluation[3:5]]
    result = run(*arguments, "--json", tmp_path / "pipe")
    assert result.exit_code == 0, result.output
    assert json.loads(reader.read())["pq"]["All"]["pq"] > 0.9
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_json_and_tables_share_a_redirected_output(evaluation: list[str], tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "deeperlab", *evaluation, "--json", "/dev/stdout"]
        subprocess.run(command, stdout=log, check=True)
    text = (tmp_path / "log").read_text()
    report, end = json.JSONDecoder().raw_decode(text)
    assert report["pq"]["All"]["pq"] == 1
    assert "person" in text[end:]


def test_what_cannot_be_written_takes_no_figures_along(evaluation: list[str]) -> None:
    result = run(*evaluation, "--json", "/dev/full")
    assert result.exit_code == 2
    assert "person" in result.stdout
    assert result.stderr == "deeperlab: /dev/full: no space left on device\n"


def test_a_socket_or_an_input_is_refused_before_the_work(evaluation: list[str], tmp_path: Path) -> None:
    Path(evaluation[4], "3.png").unlink()  # would be the next fault
    listing = tmp_path / "categories.json"
    listing.write_text(json.dumps([{"id": 1, "name": "a", "isthing": 1}]))
    (tmp_path / "link").symlink_to(listing)
    for out in (evaluation[1], evaluation[2], listing, tmp_path / "link"):
        result = run(*evaluation, "--categories", listing, "--json", out)
        assert result.stderr == f"deeperlab: {out}: is an input; choose another --json\n"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        result = run(*evaluation, "--json", tmp_path / "socket")
        assert result.stderr == f"deeperlab: {tmp_path / 'socket'}: is a socket; choose another --json\n"
    assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


@pytest.mark.parametrize("command", ["demo", "fuse", "predict"])
def test_a_folder_that_is_none_is_refused_before_the_work(command: str, tmp_path: Path, make_heads: Any) -> None:
    from deeperlab.data import archive

    archive.save(tmp_path / "heads.npz", make_heads(classes=19))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    network = ["--model", "light_wider_mobilenet_v2", "--random-weights", "--labels", "cityscapes"]
    words = {
        "demo": ["--size", "9x9"],
        "fuse": [str(tmp_path / "heads.npz"), "--things", "1"],
        "predict": [str(tmp_path / "a.png"), *network],
    }[command]
    os.mkfifo(tmp_path / "pipe")
    for out in ("/dev/null", tmp_path / "pipe", tmp_path / "pipe" / "below"):
        result = run(command, *words, "--out", out)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"deeperlab: {'/dev/null' if out == '/dev/null' else tmp_path / 'pipe'}")
        assert result.stderr.count("\n") == 1
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_pipe_in_the_place_of_a_result_is_refused(tmp_path: Path) -> None:
    small = ("demo", "--out", tmp_path, "--size", "33", "--things", "1")
    assert run(*small).exit_code == 0
    for name in ("overlay.png", "panoptic.png"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        result = run(*small)
        assert result.stderr == f"deeperlab: {tmp_path / name}: is no regular file; choose another --out\n"
        (tmp_path / name).unlink()
    assert run(*small).exit_code == 0
