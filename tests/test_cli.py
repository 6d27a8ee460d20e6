# SPDX-License-Identifier: Apache-2.0
"""The command line, as a user meets it: help, the demo, the oracle, and one line for every fault."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer import Exit
from typer.testing import CliRunner

import deeperlab
from deeperlab.cli import app
from deeperlab.cli.console import one_line
from deeperlab.data.formats import coco

CATEGORIES = (coco.Category(1, "person", True), coco.Category(92, "grass", False))
SMALL = ("--size", "97x129", "--things", "3", "--noise", "1")


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


def fault(*arguments: object) -> str:
    """The one line on stderr of a call that must end with code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("deeperlab: ")
    assert result.stderr.count("\n") == 1
    return result.stderr[len("deeperlab: ") : -1]


def python(code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    ids = np.full((65, 97), 7, np.int32)
    ids[10:50, 10:40] = 1
    ids[20:60, 60:90] = 2
    ids[:4] = 0
    segments = coco.describe(ids, {7: 92, 1: 1, 2: 1})
    coco.write(tmp_path / "gt.json", tmp_path / "gt", [(coco.Annotation(3, "3.png", segments), ids)], CATEGORIES)
    return tmp_path / "gt.json"


def edit(path: Path, **values: Any) -> Path:
    """Change keys of a JSON file; None removes."""
    root = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in root.items() if v is not None}))
    return path


def test_the_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"deeperlab {deeperlab.__version__}\n")


COMMANDS = [command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_teaches(command: str | None) -> None:
    result = run(*([command] if command else []), "--help")
    assert result.exit_code == 0
    assert "Usage: deeperlab" in result.stdout.replace("Usage: root", "Usage: deeperlab")
    if command not in (None, "doctor"):  # which takes nothing
        assert re.search(f"Examples?:\\s+deeperlab {command} ", result.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_broken_where_the_terminal_ends_alone(command: str) -> None:
    result = CliRunner(env={"COLUMNS": "5000"}).invoke(app, [command, "--help"])
    text = result.stdout.partition("Usage")[2].partition("╭")[0]
    paragraphs = [line for line in map(str.strip, text.splitlines()[1:]) if line]
    assert paragraphs
    assert all(line[-1] in ".:" for line in paragraphs), paragraphs


def test_help_does_not_load_torch_and_a_missing_extra_is_named() -> None:
    loaded = python(
        "import sys\nfrom deeperlab.cli import app\nfrom typer.testing import CliRunner\n"
        "CliRunner().invoke(app, ['oracle', '--help'])\n"
        "print([m for m in ('torch', 'deeperlab._numpy') if m in sys.modules])"
    )
    assert loaded.stdout == "[]\n", loaded.stderr
    for module in ("typer", "rich", "PIL"):
        missing = python(f"import sys\nsys.modules[{module!r}] = None\nfrom deeperlab.cli import main\nmain()")
        assert missing.returncode == 1
        assert missing.stderr == f"deeperlab: the command line needs {module}: pip install 'deeperlab[cli]'\n"


def test_the_demo_writes_a_result_that_its_own_readers_read(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = run("demo", "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    for words in ("instances found of 3 drawn", "% of the pixels right", "ms for 97 x 129 px", "score"):
        assert words in result.stdout
    data = coco.read(out / "panoptic.json", out)
    ids = data.ids(data.annotations[0])
    assert ids.shape == (97, 129)
    files = ["image.png", "instances.png", "overlay.png", "panoptic.json", "panoptic.png"]
    files += ["photo-overlay.jpg", "photo.jpg"]
    assert sorted(path.name for path in out.iterdir()) == files
    image, *views = (np.asarray(Image.open(out / name)) for name in ("image.png", "overlay.png", "instances.png"))
    for view in views:
        assert image.shape == view.shape == (97, 129, 3)
        assert (image != view).any()
    assert run("oracle", out / "panoptic.json", "--gt-dir", out).exit_code == 0
    photo, parsed = (np.asarray(Image.open(out / name)) for name in ("photo.jpg", "photo-overlay.jpg"))
    assert photo.shape == parsed.shape
    assert np.abs(photo.astype(int) - parsed).mean() > 10
    assert "on the photograph photo16 sees " in result.stdout


def test_the_demo_is_repeatable_and_overwrites_its_own_files_only(tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert run("demo", "--out", tmp_path, *SMALL).exit_code == 0
    first = contents()
    assert run("demo", "--out", tmp_path, *SMALL).exit_code == 0
    assert contents() == first
    assert run("demo", "--out", tmp_path, *SMALL, "--seed", "5").exit_code == 0
    assert contents()["image.png"] != first["image.png"]
    (tmp_path / "panoptic.json").write_text('{"info": {}}')
    before = contents()
    assert "is there already and not of deeperlab demo" in fault("demo", "--out", tmp_path, *SMALL)
    assert contents() == before


def test_perfect_heads_at_stride_one_are_almost_all_right(tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path, "--size", "161", "--things", "4", "--noise", "0", "--stride", "1")
    assert "100.00 % of the pixels right" in result.stdout


def test_the_demo_does_without_things(tmp_path: Path) -> None:
    assert "0 instances found of 0 drawn" in run("demo", "--out", tmp_path, "--size", "65", "--things", "0").stdout


def test_faults_of_the_demo_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in fault("demo", "--out", tmp_path / "file" / "below", *SMALL)
    assert "size" in fault("demo", "--out", tmp_path / "x", "--size", "0")
    for size in ("big", "1x2x3", "x", ""):
        result = run("demo", "--out", tmp_path / "x", "--size", size)
        assert result.exit_code == 2
        assert "HEIGHTxWIDTH" in result.stderr
    assert run("demo", "--noise", "4").exit_code == 2
    assert not (tmp_path / "x").exists()


def test_the_oracle_prints_tables_and_writes_the_figures(annotations: Path, tmp_path: Path) -> None:
    result = run("oracle", annotations, "--gt-dir", tmp_path / "gt", "--stride", 1, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    for words in ("Things", "ceiling", "person", "grass", "0 things lost", "left out of the prediction", "stride 1"):
        assert words in result.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report)[:3] == ["pq", "ceiling", "images"]
    assert report["pq"]["All"] == report["ceiling"]["All"] == {"pq": 1, "sq": 1, "rq": 1, "n": 2}
    assert set(report["pq"]) == {"All", "Things", "Stuff", "per_class"}
    assert report["images"][0]["image_id"] == 3
    assert report["images"][0]["pq"] == 1
    assert report["images"][0]["lost"] == []


def test_the_oracle_names_what_is_lost(tmp_path: Path) -> None:
    ids = np.full((65, 97), 7, np.int32)
    ids[10:50, 10:40] = 1
    ids[14:46, 14:36] = 2  # about the same box and center
    ids[18:42, 18:32] = 7
    ids[10, 25] = ids[49, 25] = ids[30, 10] = ids[30, 39] = 2
    segments = coco.describe(ids, {7: 92, 1: 1, 2: 1})
    coco.write(tmp_path / "gt.json", tmp_path, [(coco.Annotation(3, "3.png", segments), ids)], CATEGORIES)
    result = run("oracle", tmp_path / "gt.json", "--gt-dir", tmp_path, "--json", tmp_path / "out.json")
    (image,) = json.loads((tmp_path / "out.json").read_text())["images"]
    assert image["lost"]
    for lost in image["lost"]:
        assert set(lost) == {"segment_id", "category_id", "category", "area", "stage", "reason", "iou"}
        assert lost["stage"] in result.stdout
        assert lost["area"] == int((ids == lost["segment_id"]).sum())


def test_categories_may_come_from_a_file(annotations: Path, tmp_path: Path) -> None:
    listing = tmp_path / "categories.json"
    listing.write_text(json.dumps(json.loads(annotations.read_text())["categories"]))
    for missing in ("images", "categories"):
        edit(annotations, **{missing: None})
        assert fault("oracle", annotations, "--gt-dir", tmp_path / "gt") == f"{annotations}: no key '{missing}'"
    result = run("oracle", annotations, "--gt-dir", tmp_path / "gt", "--categories", listing)
    assert result.exit_code == 0, result.output


def test_names_from_a_file_are_no_markup(annotations: Path, tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "[/red]:car:", "isthing": 1}, {"id": 92, "name": "[bold]\x1b[31m", "isthing": 0}]
    result = run("oracle", edit(annotations, categories=categories), "--gt-dir", tmp_path / "gt")
    assert result.exit_code == 0, result.output
    assert "[/red]:car:" in result.stdout
    assert "[bold]" in result.stdout
    assert "\x1b" not in result.stdout


def test_faults_of_the_oracle_are_one_line_with_file_and_fault(annotations: Path, tmp_path: Path) -> None:
    folder, png = tmp_path / "gt", tmp_path / "gt" / "3.png"
    none = tmp_path / "none.json"
    assert fault("oracle", none, "--gt-dir", folder) == f"{none}: no such file or directory"
    assert fault("oracle", tmp_path, "--gt-dir", folder) == f"{tmp_path}: is a directory"
    assert fault("oracle", annotations, "--gt-dir", tmp_path) == f"{tmp_path / '3.png'}: no such file or directory"
    assert fault("oracle", annotations, "--gt-dir", folder, "--categories", none).startswith(f"{none}: ")
    target = tmp_path / "absent" / "out.json"
    assert fault("oracle", annotations, "--gt-dir", folder, "--json", target) == f"{target.parent}: no such folder"
    assert fault("oracle", annotations, "--gt-dir", folder, "--json", folder).startswith(f"{folder}: ")
    none.write_text("{")
    assert fault("oracle", none, "--gt-dir", folder).startswith(f"{none}: not JSON")
    png.write_bytes(png.read_bytes()[:60])
    assert fault("oracle", annotations, "--gt-dir", folder).startswith(f"{png}: damaged PNG")
    coco.write_ids(png, np.full((65, 97), 8))
    assert fault("oracle", annotations, "--gt-dir", folder) == f"{png}: id 8 not in segments_info of gt.json"
    assert run("oracle", annotations, "--gt-dir", folder, "--radius", "nan").exit_code == 2
    assert run("oracle", annotations).exit_code == 2
    assert run("oracle", annotations, "--gt-dir", folder, "--stride", "0").exit_code == 2


def test_a_fault_keeps_the_names_that_its_remedy_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for reason, told in (("Is a directory", "is a directory"), ("set HF_HUB_OFFLINE=0", "set HF_HUB_OFFLINE=0")):
        with pytest.raises(Exit), one_line(OSError):
            raise OSError(1, reason, "a/B")
        assert capsys.readouterr().err == f"deeperlab: a/B: {told}\n"


@pytest.mark.parametrize(
    "exhaust",
    [
        lambda: bytearray(1 << 60),
        lambda: np.empty(1 << 60, np.uint8),
        lambda: torch.empty(1 << 60, dtype=torch.uint8),
        lambda: _raise(RuntimeError("std::bad_alloc")),
        lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        lambda: _raise(RuntimeError("can't start new thread")),
        lambda: _raise(ImportError("libtorch_cpu.so: failed to map segment from shared object")),
    ],
)
def test_every_kind_of_exhausted_memory_is_told_in_one_line(exhaust: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit), one_line(OSError, smaller="--size"):
        exhaust()
    line = capsys.readouterr().err
    assert line.startswith("deeperlab: out of memory; use a smaller --size (")
    assert line.count("\n") == 1


def _raise(fault: Exception) -> None:
    raise fault


def test_faults_of_the_code_are_not_called_memory() -> None:
    text = "more than one element of the written-to tensor refers to a single memory location"
    with pytest.raises(RuntimeError, match=text), one_line(ValueError):
        raise RuntimeError(text)


@pytest.mark.slow
def test_a_command_that_needs_more_memory_than_there_is_says_so(tmp_path: Path) -> None:
    code = (
        "import resource, sys; import deeperlab.scenes.demo; from deeperlab.cli import app\n"
        "used = 4096 * int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        f"app(['demo', '--size', '6000', '--out', {str(tmp_path / 'out')!r}])"
    )
    done = python(code)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("deeperlab: out of memory; use a smaller --size (")
    assert done.stderr.count("\n") == 1
