# SPDX-License-Identifier: Apache-2.0
"""Compiles the plain programs as anyone would: -O2, no flags for this processor."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INCLUDE = ROOT / "csrc" / "include"
BUILT = ROOT / "build" / "yardsticks"
HEADERS = (HERE / "problem.h", *(INCLUDE / "deeperlab" / name for name in ("exp.h", "number.h", "types.h")))
FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC")


@cache
def load(name: str) -> ctypes.CDLL:
    """The program `name`.cpp as a shared library, compiled anew where a source is newer.

    Raises:
        RuntimeError: there is no C++ compiler, or it failed; with its words.
    """
    source, library = HERE / f"{name}.cpp", BUILT / f"{name}.so"
    newest = max(path.stat().st_mtime for path in (source, *HEADERS))
    if not library.is_file() or library.stat().st_mtime < newest:
        _compile(source, library)
    return ctypes.CDLL(str(library))


def _compile(source: Path, library: Path) -> None:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"CXX: expected a C++17 compiler to build {source.name} with, found no {compiler!r}")
    library.parent.mkdir(parents=True, exist_ok=True)
    fresh = library.with_suffix(f".{os.getpid()}.so")  # another run may be loading the old one
    command = [compiler, *FLAGS, f"-I{INCLUDE}", str(source), "-o", str(fresh)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
    fresh.replace(library)
