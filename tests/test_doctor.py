# SPDX-License-Identifier: Apache-2.0
"""`deeperlab doctor`, and what is said of an operator library that is missing or does not load."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deeperlab.cli import doctor

NUMPY_ALONE = "".join(
    f"sys.modules[{name!r}] = None\n" for name in ("typer", "click", "rich", "PIL", "zlib_ng", "safetensors")
)


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `python -m deeperlab` where some code has run before."""
    code = f"import sys\n{before}\nimport runpy\nsys.argv[1:] = {list(arguments)}\n"
    code += "runpy.run_module('deeperlab', run_name='__main__')"
    env = {**os.environ, "COLUMNS": "120", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=env, check=False, capture_output=True, text=True)


def with_library(path: Path | None) -> str:
    """Code after which deeperlab._C is another file, or none."""
    return (
        "import importlib.util\nfrom types import SimpleNamespace\nfind = importlib.util.find_spec\n"
        f"library = {path and str(path)!r} and SimpleNamespace(origin={str(path)!r})\n"
        "importlib.util.find_spec = lambda name, *a: library if name == 'deeperlab._C' else find(name, *a)\n"
    )


def lines_of(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    split = (line.split(maxsplit=1) for line in result.stdout.splitlines())
    return dict(split)  # type: ignore[arg-type]


def test_doctor_says_one_line_each() -> None:
    result = run("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    lines = lines_of(result)
    names = ["deeperlab", "wheel", "Python", "libc", *doctor.PACKAGES]
    assert list(lines) == [*names, "_numpy", "ops", "SIMD", "threads", "CUDA"]
    assert lines["Python"].startswith(platform.python_version())
    assert lines["libc"] == " ".join(platform.libc_ver())
    assert lines["numpy"] == importlib.metadata.version("numpy")
    assert lines["_numpy"] == "NumPy arrays: loads"
    assert lines["ops"].startswith("torch operators, _C: ")
    assert re.match(r"with kernels|built without kernels|needs torch", lines["CUDA"])


def test_doctor_tells_the_tags_of_the_wheel(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "deeperlab-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: deeperlab\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert dict(doctor.examine()[0])["wheel"] == "unknown"
    tags = ["cp311-cp311-manylinux_2_27_x86_64", "cp311-cp311-manylinux_2_28_x86_64"]
    (folder / "WHEEL").write_text("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags))
    assert dict(doctor.examine()[0])["wheel"] == " ".join(tags)


@pytest.mark.slow
def test_doctor_and_its_help_need_numpy_alone() -> None:
    result = run("doctor", before=NUMPY_ALONE)
    assert (result.returncode, result.stderr, result.stdout) == (0, "", run("doctor").stdout)
    without_torch = (
        "sys.modules['torch'] = None\nimport importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
    )
    result = run("doctor", before=NUMPY_ALONE + without_torch)
    assert (result.returncode, result.stderr) == (0, "")
    assert lines_of(result)["ops"].endswith(
        "torch is not installed; tensors and networks need it: pip install 'deeperlab[torch]'"
    )
    for option in ("-h", "--help"):
        result = run("doctor", option, before=NUMPY_ALONE)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: deeperlab doctor\n\nTell what is installed here")


@pytest.mark.slow
def test_all_else_tells_in_one_line_what_to_install() -> None:
    for words in ((), ("--help",), ("--version",), ("fuse", "a.npz"), ("doctor", "--json")):
        result = run(*words, before=NUMPY_ALONE)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "deeperlab: the command line needs PIL: pip install 'deeperlab[cli]'\n"


def test_an_extra_that_does_not_load_keeps_its_reason(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('libz.so.9: cannot open shared object file')")
    result = run("--help", before=f"sys.path.insert(0, {str(tmp_path)!r})")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "deeperlab: the command line does not load (libz.so.9: cannot open shared object file): "
        "pip install 'deeperlab[cli]'\n"
    )


def test_doctor_reports_a_torch_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.9: cannot open shared object file')")
    result = run("doctor", before=f"sys.path.insert(0, {str(tmp_path)!r})")
    assert (result.returncode, result.stderr) == (1, "")
    told = lines_of(result)
    assert told["ops"] == "torch operators, _C: does not load: libcudart.so.9: cannot open shared object file"
    assert (told["threads"], told["CUDA"]) == ("needs torch", "needs torch and its operators")


def broken(kind: str, folder: Path) -> Path:
    """Make a library that does not load."""
    library = folder / f"{kind}.so"
    if kind == "text":
        library.write_text("no library, but long enough for the header of one: " * 9)
        return library
    source = "void gone(void); void f(void) { gone(); }" if kind == "symbol" else "void f(void) {}"
    (folder / "f.c").write_text(source)
    command = ["cc", "-shared", "-fPIC", "-Wl,-z,now", "-Wl,--no-as-needed", "f.c"]
    if kind == "dependency":
        (folder / "g.c").write_text("void g(void) {}")
        subprocess.run(
            ["cc", "-shared", "-fPIC", "g.c", "-o", "libgone.so", "-Wl,-soname,libgone.so"], cwd=folder, check=True
        )
        command.append("./libgone.so")
    subprocess.run([*command, "-o", str(library)], cwd=folder, check=True)
    return library


@pytest.mark.skipif(find_spec("torch") is None, reason="torch loads the library")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "text.so: invalid ELF header"),
        ("symbol", "symbol.so: undefined symbol: gone"),
        ("dependency", "libgone.so: cannot open shared object file: No such file or directory"),
    ],
)
def test_why_the_operators_do_not_load_is_told(kind: str, reason: str, tmp_path: Path) -> None:
    before = with_library(broken(kind, tmp_path))
    done = run(before=before + "import deeperlab.stages.torch_ops")
    last = done.stderr.splitlines()[-1]
    assert re.match(r"ImportError: deeperlab\._C does not load with torch \d\S* \(torch >= 2\.11 is needed\): ", last)
    assert last.endswith(reason)
    result = run("doctor", before=before)
    assert (result.returncode, result.stderr) == (1, "")
    assert lines_of(result)["ops"] == f"torch operators, _C: does not load: {last.removeprefix('ImportError: ')}"


@pytest.mark.skipif(find_spec("torch") is None, reason="torch loads the library")
@pytest.mark.parametrize(
    ("platform", "why"),
    [
        ("linux", "this installation is damaged; install it again, with --force-reinstall --no-deps"),
        ("darwin", "on darwin there are no torch operators: pass NumPy arrays"),
    ],
)
def test_an_operator_library_that_is_missing_is_told_of(platform: str, why: str) -> None:
    code = f"import torch\nsys.platform = {platform!r}\nimport deeperlab.stages.torch_ops"
    done = run(before=with_library(None) + code)
    assert done.stderr.splitlines()[-1] == f"ImportError: deeperlab._C is missing; {why}"
