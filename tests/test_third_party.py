# SPDX-License-Identifier: Apache-2.0
"""The headers of torch that ship: what the operators include, no more, and declared alike by the installed torch."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADERS = ROOT / "src/third_party/torch/include"
SHIMS = ("torch/csrc/stable/c/shim.h", "torch/csrc/inductor/aoti_torch/c/shim.h")  # the C functions of the stable ABI
TARGET = re.findall(r"TORCH_TARGET_VERSION=(\w+)", (ROOT / "CMakeLists.txt").read_text())[0]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to preprocess with")


def preprocessed(folder: Path, *flags: str, text: str) -> str:
    command = [
        "g++",
        "-std=c++17",
        "-E",
        "-x",
        "c++",
        f"-DTORCH_TARGET_VERSION={TARGET}",
        "-isystem",
        str(folder),
        *flags,
        "-",
    ]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def functions(folder: Path) -> dict[str, str]:
    """Return the C functions that the shims of a folder declare for the targeted version: name -> declaration."""
    lines, ours = [], False
    for line in preprocessed(folder, text="".join(f'#include "{shim}"\n' for shim in SHIMS)).splitlines():
        if place := re.match(r'# \d+ "(.*?)"', line):
            ours = Path(place[1]).is_relative_to(folder)
        elif ours:
            lines.append(line)
    statements = [" ".join(statement.split()) for statement in re.split(r"[;{}]", "\n".join(lines))]
    return {
        name[1]: s for s in statements if (name := re.search(r"\b((?:aoti_)?torch_\w+) ?\(", s)) and "return" not in s
    }


def test_exactly_what_the_operators_include_ships() -> None:
    flags = [f"-I{ROOT / folder}" for folder in ("csrc/include", "csrc", "src")]
    included: set[Path] = set()
    for source in sorted((ROOT / "src/torch").glob("*.cpp")):
        rules = preprocessed(HEADERS, "-M", *flags, text=f'#include "{source}"\n')
        included |= {Path(word) for word in rules.split() if word.startswith(str(HEADERS))}
    assert included == set(HEADERS.rglob("*.h"))
    assert (HEADERS.parent / "LICENSE").is_file()


def test_the_target_is_the_release_that_ships_and_is_required() -> None:
    version = (HEADERS / "torch/headeronly/version.h").read_text()
    major, minor = (re.findall(rf"#define TORCH_VERSION_{part} (\d+)", version)[0] for part in ("MAJOR", "MINOR"))
    assert int(TARGET, 16) >> 48 == int(major) << 8 | int(minor)
    assert f'torch = ["torch>={major}.{minor}"]' in (ROOT / "pyproject.toml").read_text()


def test_the_installed_torch_declares_the_same_functions() -> None:
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    ours, theirs = functions(HEADERS), functions(Path(torch.__file__).parent / "include")
    assert len(ours) > 150
    assert {name: theirs.get(name) for name in ours} == ours  # newer ones have others beside them


def test_a_function_that_changed_is_found(tmp_path: Path) -> None:
    shutil.copytree(HEADERS, tmp_path / "include")
    shim = tmp_path / "include" / SHIMS[1]
    changed = re.sub(
        r"(aoti_torch_get_sizes\(\s*AtenTensorHandle tensor,\s*)int64_t\*\*", r"\1int32_t**", shim.read_text()
    )
    assert changed != shim.read_text()
    shim.write_text(changed)
    ours, theirs = functions(HEADERS), functions(tmp_path / "include")
    assert [name for name in ours if ours[name] != theirs[name]] == ["aoti_torch_get_sizes"]


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm to list symbols with")
def test_the_built_operators_need_no_other_function_of_torch() -> None:
    from importlib.util import find_spec

    library = find_spec("deeperlab._C")
    assert library is not None
    listed = subprocess.check_output(["nm", "-D", "--undefined-only", str(library.origin)], text=True)
    needed = set(re.findall(r"\b((?:aoti_)?torch_\w+)", listed))
    assert len(needed) > 30
    assert needed <= functions(HEADERS).keys()
