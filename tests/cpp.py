# SPDX-License-Identifier: Apache-2.0
"""C++ programs of this folder, which call the engine's headers directly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-Wno-psabi")


def rows_of(name: str, folder: Path) -> list[list[str]]:
    """Compile `name`.cpp into a folder, run it, and return the words of each line that it prints."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    includes = (f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc'}")
    source, program = ROOT / "tests" / f"{name}.cpp", folder / name
    subprocess.run([compiler, *FLAGS, *includes, str(source), "-o", str(program)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return [line.split() for line in output.splitlines()]
