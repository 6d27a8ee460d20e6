# SPDX-License-Identifier: Apache-2.0
"""Installs wheels into fresh environments, away from the sources, and tells what works there: `make install-check`.

    python .ci/install_check.py [--cheap] [--load-only] [WHEEL ...]

The environments: no torch, the oldest, the pinned and the newest; each with the oldest and the newest NumPy. --cheap
leaves out the oldest and the newest torch, which are gigabytes, --no-torch the pinned one too. --load-only computes the
stored digests and no more, as the gates of a wheel ask. The table goes to the screen and to build/install-check.md, for
docs/install.md. Ends with code 1 where anything fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wheel import DIST, ROOT, interpreters

OLDEST_TORCH, NEWEST_TORCH = "torch==2.11.0", "torch"
PINNED_TORCH = os.environ.get("TORCH", "torch==2.13.0")  # as the makefile has it, perhaps with an index
NO_TORCH = ""
OLDEST_NUMPY = {"cp310": "1.26.0", "cp311": "1.26.0", "cp312": "1.26.0", "cp313": "2.1.0"}  # the first for each Python
FORMS = ("plain", "baseline", "avx2", "avx512")


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a temporary folder, and beside it an empty folder to run commands in."""

    wheel: Path
    folder: Path
    torch: str  # as pip is told, or empty

    def bin(self, name: str) -> Path:
        return self.folder / "env" / "bin" / name

    def pip(self, *words: object) -> str:
        command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.bin("python"))
        return self.run(*command, *words)

    def run(self, *command: object, code: int = 0, **variables: str) -> str:
        """Return what was printed; nothing of the sources can be imported. A RuntimeError where it ends otherwise."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DEEPERLAB"))}
        words, empty = [str(word) for word in command], self.folder / "empty"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(words, cwd=empty, env={**kept, **variables}, check=False, **pipes)
        if done.returncode != code:
            raise RuntimeError(f"{' '.join(words)}\nended with code {done.returncode}:\n{done.stdout.strip()[-2000:]}")
        return str(done.stdout).strip()

    def python(self, code: str) -> str:
        return self.run(self.bin("python"), "-c", code)

    def version(self, name: str) -> str:
        return self.python(f"import importlib.metadata; print(importlib.metadata.version({name!r}))")


def digests(at: Environment) -> str:
    """The stored digests: by every face of the package, in every form of the engine that this processor has."""
    faces = ("numpy", "torch", "compile", "export") if at.torch else ("numpy",)
    processor = Path("/proc/cpuinfo").read_text()
    forms = [form for form in FORMS if form in ("plain", "baseline") or f" {form}" in processor]
    for form in forms:
        at.run(at.bin("python"), at.folder / "digests.py", *faces, DEEPERLAB_SIMD=form)
    return f"{', '.join(faces)}: {', '.join(forms)}"


def alone(at: Environment) -> str:
    """Without extras: `doctor` works, and what lacks something says in one line what to install."""
    at.run(at.bin("deeperlab"), "doctor")
    lacking = {"cli": at.run(at.bin("deeperlab"), "demo", code=1)}
    if not at.torch:
        lacking["torch"] = at.python("try: import deeperlab.models\nexcept ImportError as fault: print(fault)")
    for extra, said in lacking.items():
        if f"pip install 'deeperlab[{extra}]'" not in said or "\n" in said:
            raise RuntimeError(f"without the extra {extra} it says: {said}")
    return "yes"


def commands(at: Environment) -> str:
    """With their extra: `doctor`, `demo`, and `predict` with the network of the package, by torch or ONNX Runtime."""
    numpy = at.version("numpy")
    at.pip("install", "-q", f"{at.wheel}[{'cli' if at.torch else 'onnx'}]", f"numpy=={numpy}")
    out = at.folder / "out"
    at.run(at.bin("deeperlab"), "doctor")
    at.run(at.bin("deeperlab"), "demo", "--out", out)
    runtime = ("torch", "torch") if at.torch else ("onnx", "ONNX Runtime")
    at.run(at.bin("deeperlab"), "predict", out / "photo.jpg", "--out", out / "results", "--runtime", runtime[0])
    if not (out / "results" / "overlay" / "photo.jpg").is_file():
        raise RuntimeError("predict wrote no overlay")
    return f"doctor, demo, predict by {runtime[1]}"


def times(at: Environment) -> str:
    """Milliseconds, medians of five processes: import, `deeperlab --help`, the first fuse once torch is loaded."""
    scene = (
        "import time, deeperlab; from deeperlab import scenes, targets\n"
        "scene = scenes.draw(4, (481, 641))\n"
        "heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes)\n"
    )
    if at.torch:
        scene += "import torch; heads = heads.map(lambda array: torch.from_numpy(array.copy()))\n"
    took = "print(1e3 * (time.perf_counter() - begin))"
    imported = f"import time; begin = time.perf_counter(); import deeperlab; {took}"
    fused = f"{scene}begin = time.perf_counter(); deeperlab.fuse(heads, scene.things, size=(481, 641)); {took}"
    figures: dict[str, list[float]] = {"import": [], "help": [], "fuse": []}
    for _ in range(5):
        figures["import"].append(float(at.python(imported)))
        figures["fuse"].append(float(at.python(fused)))
        begin = time.perf_counter()
        at.run(at.bin("deeperlab"), "--help")
        figures["help"].append(1e3 * (time.perf_counter() - begin))
    return " / ".join(f"{statistics.median(values):.0f}" for values in figures.values())


def requirements(at: Environment) -> str:
    at.pip("check")
    return "yes"


def uninstalled(at: Environment) -> str:
    """Nothing of our name is left."""
    at.pip("uninstall", "-q", "-y", "deeperlab")
    left = [str(path) for path in (at.folder / "env").rglob("*") if "deeperlab" in path.name.lower()]
    if left:
        raise RuntimeError(f"uninstalling left {', '.join(left[:5])}")
    return "nothing left"


LOADS: dict[str, Callable[[Environment], str]] = {"same bits": digests}
ALL: dict[str, Callable[[Environment], str]] = {
    "the wheel alone": alone,
    **LOADS,
    "commands": commands,
    "import / `--help` / first `fuse`, ms": times,
    "`pip check`": requirements,
    "uninstalled": uninstalled,
}


def tag(wheel: Path) -> str:
    """Return the tag of the Python that a wheel is for, as cp311 or cp314t."""
    return wheel.name.split("-")[3]


def interpreter(wheel: Path) -> Path:
    code = "import sys, sysconfig; print('cp%d%d' % sys.version_info[:2] + sysconfig.get_config_var('abiflags'))"
    for python in (Path(sys.executable), *interpreters()):
        if subprocess.check_output([python, "-c", code], text=True).strip() == tag(wheel):
            return python
    raise SystemExit(f"install_check.py: found no interpreter for {wheel.name}")


def check(wheel: Path, torch: str, oldest_numpy: bool, checks: dict[str, Callable[[Environment], str]]) -> list[str]:
    """Return a row of the table; what failed is printed, and its cell says FAILED."""
    numpy = f"numpy=={OLDEST_NUMPY.get(tag(wheel), '2.3.2')}" if oldest_numpy else "numpy"
    with tempfile.TemporaryDirectory(prefix="install-check-") as name:
        at = Environment(wheel, Path(name), torch)
        (at.folder / "empty").mkdir()
        for file in ("digests.py", "digests.json"):
            shutil.copy(ROOT / "tests" / file, at.folder)
        try:
            at.run(interpreter(wheel), "-m", "venv", "--without-pip", at.folder / "env")
            at.pip("install", "-q", wheel, numpy)
            if torch:  # by itself: it may bring an index of its own
                at.pip("install", "-q", numpy, *torch.split())
            row = [
                at.python("import platform; print(platform.python_version())"),
                at.version("torch") if torch else "none",
                at.version("numpy"),
            ]
        except RuntimeError as fault:
            print(f"{wheel.name}, {torch or 'no torch'}, {numpy}: no such environment: {fault}", file=sys.stderr)
            return [
                tag(wheel),
                torch.removeprefix("torch==") or "none",
                numpy.removeprefix("numpy=="),
                "FAILED",
                *["-"] * (len(checks) - 1),
            ]
        for title, do in checks.items():
            try:
                row.append(do(at))
            except RuntimeError as fault:
                print(f"{wheel.name}, torch {row[1]}, NumPy {row[2]}: {title}: {fault}", file=sys.stderr)
                row.append("FAILED")
    return row


def table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="those in dist/ unless given")
    parser.add_argument("--cheap", action="store_true", help="no torch and the pinned one only")
    parser.add_argument("--no-torch", action="store_true", help="no torch only")
    parser.add_argument("--load-only", action="store_true", help="the stored digests only")
    asked = parser.parse_args()
    wheels = [wheel.resolve() for wheel in asked.wheels] or sorted(DIST.glob("*.whl"))
    if not wheels:
        raise SystemExit("install_check.py: dist/ has no wheel; make one first: make wheel")
    rows_of = [(NO_TORCH, True), (NO_TORCH, False)]  # torch, the oldest NumPy or the newest
    if asked.cheap:
        rows_of += [(PINNED_TORCH, False)]
    elif not asked.no_torch:
        rows_of += [(torch, old) for torch in (OLDEST_TORCH, PINNED_TORCH, NEWEST_TORCH) for old in (True, False)]
    checks = LOADS if asked.load_only else ALL
    rows = [["Python", "torch", "NumPy", *checks]]
    for wheel in wheels:
        for torch, oldest_numpy in rows_of:
            rows.append(check(wheel, torch, oldest_numpy, checks))
            print(" | ".join(rows[-1]), flush=True)
    if not asked.load_only:
        (ROOT / "build" / "install-check.md").write_text(table(rows) + "\n")
    print(f"\n{table(rows)}")
    raise SystemExit(any("FAILED" in row for row in rows))


if __name__ == "__main__":
    main()
