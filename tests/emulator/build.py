# SPDX-License-Identifier: Apache-2.0
"""Compiles the text of the CUDA kernels as C++ into a Python module: its cuda_runtime.h stands for that of CUDA."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pybind11

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KERNELS = sorted((ROOT / "csrc/cuda").glob("*.cu"))
UNITS = [*sorted(HERE.glob("*.cpp"), reverse=True), *KERNELS]  # the one that takes longest first
INCLUDES = [HERE, *(ROOT / folder for folder in ("csrc/include", "csrc", "csrc/cuda", "src", "src/numpy"))]
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-psabi"]


def load() -> Any:
    """The module `_emulated`, built where it is not there yet: some ten seconds on two cores."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    folders = [HERE, *(ROOT / name for name in ("csrc/include", "csrc/simd", "csrc/cuda", "src"))]
    sources = [path for folder in folders for path in sorted(folder.rglob("*.*"))]
    state = hashlib.blake2b(f"{compiler}{FLAGS}{sys.version}".encode(), digest_size=8)
    for path in sources:
        if path.suffix in (".cu", ".cuh", ".cpp", ".h"):
            state.update(path.read_bytes())
    folder = ROOT / "build" / f"emulator-{state.hexdigest()}"
    module = folder / "_emulated.so"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of pytest-xdist share one build
        if not module.exists():
            _build(compiler, module)
    spec = spec_from_file_location("_emulated", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _build(compiler: str, module: Path) -> None:
    paths = [*INCLUDES, Path(pybind11.get_include()), Path(sysconfig.get_paths()["include"])]
    options = [*FLAGS, *(f"-I{path}" for path in paths)]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda unit: _compile(compiler, options, unit, module.parent), UNITS))
    linked = module.with_suffix(".linked")
    _run(compiler, "-shared", *map(str, objects), "-o", str(linked))
    linked.rename(module)  # the module is there when it is complete


def _compile(compiler: str, options: list[str], unit: Path, folder: Path) -> Path:
    output = folder / f"{unit.parent.name}-{unit.name}.o"
    _run(compiler, *options, "-x", "c++", "-c", str(unit), "-o", str(output))
    return output


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
