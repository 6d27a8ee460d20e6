# SPDX-License-Identifier: Apache-2.0
"""A console that is not UTF-8, or that ends: every command still says what it has to say, and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeperlab.data.formats import coco

CATEGORIES = (coco.Category(1, "Fußgänger", True), coco.Category(92, "草 × 2", False))


@pytest.fixture
def evaluation(tmp_path: Path) -> list[str]:
    """The arguments of an evaluation of one image, with names that no 8 bits hold."""
    ids = np.full((20, 30), 7, np.int32)
    ids[4:12, 5:20] = 1
    for name in ("gt", "pred"):
        annotation = coco.Annotation(3, "3.png", coco.describe(ids, {7: 92, 1: 1}))
        coco.write(tmp_path / f"{name}.json", tmp_path / name, [(annotation, ids)], CATEGORIES)
    files = [str(tmp_path / name) for name in ("gt.json", "pred.json")]
    return ["eval", *files, "--gt-dir", str(tmp_path / "gt"), "--pred-dir", str(tmp_path / "pred")]


def run(
    *arguments: object, encoding: str = "utf-8", before: str = "", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    code = f"import sys\n{before}\nsys.argv[1:] = {[str(a) for a in arguments]}\nfrom deeperlab.cli import main\nmain()"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    env = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=env, check=False, **streams)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "name"), [("ascii", b"Fussganger"), ("latin-1", "Fußgänger".encode("latin-1")), ("cp1252", b"Fu\xdfg")]
)
def test_what_an_encoding_lacks_has_a_stand_in(encoding: str, name: bytes, evaluation: list[str]) -> None:
    for command in (evaluation, ["oracle", evaluation[1], *evaluation[3:5]]):
        result = run(*command, encoding=encoding)
        assert (result.returncode, result.stderr) == (0, b"")
        assert name in result.stdout
        cross = b"x" if encoding == "ascii" else b"\xd7"
        assert b"? " + cross + b" 2" in result.stdout
        assert b"All    |" in result.stdout
    for name_of in ("demo", "doctor", "eval", "fuse", "oracle", "predict"):
        assert b"Usage: deeperlab" in run(name_of, "--help", encoding=encoding).stdout


def test_an_error_has_stand_ins_too(evaluation: list[str]) -> None:
    coco.write_ids(Path(evaluation[4], "3.png"), np.ones((9, 9), int))
    for name in ("gt.json", "pred.json"):
        root = json.loads(Path(evaluation[1]).with_name(name).read_text())
        root["annotations"][0]["segments_info"] = [{"id": 1, "category_id": 1}]
        Path(evaluation[1]).with_name(name).write_text(json.dumps({k: v for k, v in root.items() if k != "images"}))
    coco.write_ids(Path(evaluation[6], "3.png"), np.ones((8, 9), int))
    listing = Path(evaluation[1]).with_name("é.json")
    listing.write_text(json.dumps(root["categories"]))
    result = run(*evaluation, "--categories", listing, encoding="ascii")
    assert result.returncode == 2
    assert result.stderr.endswith(b"is 9 x 8 px, but its ground truth 3.png 9 x 9 px\n"), result.stderr
    result = run(*evaluation, "--categories", "日.json", encoding="ascii")
    assert result.stderr == b"deeperlab: ?.json: no such file or directory\n"


def test_names_that_are_no_text_are_printed(tmp_path: Path) -> None:
    """As a folder's name in another encoding is."""
    out = os.fsdecode(os.fsencode(tmp_path) + b"/\xfc")
    result = run("demo", "--out", out, "--size", "33", "--things", "1")
    assert result.returncode == 0, result.stderr
    assert f"in {tmp_path}/\N{REPLACEMENT CHARACTER}\n".encode() in result.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_progress_bar_on_such_a_terminal_is_drawn(encoding: str, evaluation: list[str]) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    result = run(*evaluation, encoding=encoding, stderr=theirs)
    os.close(theirs)
    drawn = os.read(ours, 4096)
    os.close(ours)
    assert result.returncode == 0
    assert b"images" in drawn
    assert b"1/1" in drawn
    assert encoding == "utf-8" or drawn.isascii()


@pytest.mark.parametrize("command", [["--version"], ["--help"], ["doctor"], ["demo", "--size", "33"], ["eval"]])
def test_a_reader_who_leaves_is_no_fault(command: list[str], evaluation: list[str], tmp_path: Path) -> None:
    full = {"eval": [*evaluation, "--json", tmp_path / "out.json"], "demo": [*command, "--out", tmp_path / "demo"]}
    reading, writing = os.pipe()
    os.close(reading)
    result = run(*full.get(command[0], command), stdout=writing)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")
    if command[0] == "eval":
        assert json.loads((tmp_path / "out.json").read_text())["pq"]["All"]["pq"] == 1
    if command[0] == "demo":
        assert (tmp_path / "demo" / "panoptic.json").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_a_closed_stream_none(evaluation: list[str], tmp_path: Path) -> None:
    for command in (evaluation, ["doctor"], ["--help"]):
        with Path("/dev/full").open("wb") as full:
            result = run(*command, stdout=full)
        assert result.returncode == 2
        assert result.stderr == b"deeperlab: the output cannot be written: no space left on device\n"
    for closed in ("sys.stdout = None", "sys.stderr = None"):
        result = run(*evaluation, "--json", tmp_path / "out.json", before=closed)
        assert (result.returncode, result.stderr) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        Path(evaluation[4], "3.png").unlink()
        assert run(*evaluation, stderr=full).returncode == 2
