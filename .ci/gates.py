# SPDX-License-Identifier: Apache-2.0
"""What a release must pass, in this order; ends at the first that fails, and names it: `make wheel`.

    python .ci/gates.py [--cheap] [FILE ...]

It runs in an environment that has the dependency group `wheel` of pyproject.toml. --cheap loads
the wheel without torch only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from install_check import OLDEST_TORCH, interpreter
from wheel import DIST, ROOT

TAG = re.compile(r"deeperlab-[\d.]+-(cp3\d+)-\1t?-manylinux_2_28_(x86_64|aarch64)\.whl")
LICENSES = ("LICENSE", "src/third_party/NOTICES.md", "src/third_party/torch/LICENSE")
MODEL = "deeperlab/shipped/"
LARGEST, LARGEST_MODEL = 4_000_000, 8_000_000  # bytes in the wheel, without the model and of it
# Folders of whoever built it; nvcc also names its intermediate files.
FOREIGN = re.compile(rb"/(?:home|root|tmp|work|Users|github|project|host)/[\w./-]+|tmpxft_\w+")

Files = Sequence[Path]


def tool(name: str, *words: object) -> str:
    """Return what a command of this interpreter's environment prints; a RuntimeError with it where it fails."""
    command = [Path(sys.executable).with_name(name), *(str(word) for word in words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout.strip())
    return done.stdout


def libraries(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(".so")}


def exact_tag(wheels: Files, sdists: Files) -> None:
    if len(sdists) != 1:
        raise RuntimeError(f"expected one source distribution, got {len(sdists)}")
    if not wheels:
        raise RuntimeError("expected wheels, got none")
    version = sdists[0].name.removesuffix(".tar.gz")
    for wheel in wheels:
        if not wheel.name.startswith(f"{version}-"):
            raise RuntimeError(f"{wheel.name}: expected the version of {sdists[0].name}")
        if not TAG.fullmatch(wheel.name):
            raise RuntimeError(
                f"{wheel.name}: expected a name as deeperlab-0.2.0-cp311-cp311-manylinux_2_28_x86_64.whl"
            )
        found = sorted(libraries(wheel))
        if [name.partition(".")[0] for name in found] != ["deeperlab/_C", "deeperlab/_numpy"]:
            raise RuntimeError(f"{wheel.name}: expected the libraries deeperlab/_C and deeperlab/_numpy, got {found}")


def stable_abi(wheels: Files, sdists: Files) -> None:
    """Torch's stable ABI of 2.11 alone, and nothing of Python: the operators are the same bytes in all wheels."""
    contents = {libraries(wheel)["deeperlab/_C.so"]: wheel for wheel in wheels}
    for content in contents:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "_C.so")
            library.write_bytes(content)
            check_audit(tool("torch-abi-audit", "--json", library))
    machines = {wheel.stem.rpartition("_2_28_")[2] for wheel in wheels}
    if len(contents) != len(machines):
        named = {wheel.name: hashlib.sha256(content).hexdigest()[:8] for content, wheel in contents.items()}
        raise RuntimeError(f"expected one _C.so for {' and '.join(sorted(machines))}, got {named}")


def check_audit(report: str) -> None:
    """Raise a RuntimeError unless torch-abi-audit found the stable ABI of torch 2.11, and no symbol of Python."""
    (library,) = json.loads(report)["bundled_libs"]
    torch, python = library["torch"], library["cpython"]
    found = (torch["stable"], torch["min_torch_version"], torch["unknown_shim_symbols"], python["violations"])
    if found != (True, OLDEST_TORCH.removeprefix("torch=="), [], []):
        unstable = torch["unstable_symbols"]
        raise RuntimeError(
            f"_C.so: expected the stable ABI of {OLDEST_TORCH}, and no symbol of Python: {found}, {unstable}"
        )


def metadata(wheels: Files, sdists: Files) -> None:
    """What a package index asks, links of the description that lead somewhere, the licenses of what is inside."""
    tool("twine", "check", "--strict", *wheels, *sdists)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            relative = re.findall(r"\]\((?!https:|#)([^)]*)\)", archive.read(name).decode())
            missing = [
                text for text in LICENSES if name.replace("METADATA", f"licenses/{text}") not in archive.namelist()
            ]
        if relative:
            raise RuntimeError(f"{wheel.name}: relative links in its description: {relative}")
        if missing:
            raise RuntimeError(f"{wheel.name}: what it holds of others asks for the texts {missing}")


def no_foreign_paths(wheels: Files, sdists: Files) -> None:
    for wheel in wheels:
        for name, content in libraries(wheel).items():
            found = sorted({path.decode() for path in FOREIGN.findall(content)})
            if found:
                raise RuntimeError(f"{wheel.name}: {name} names files of the machine that built it: {found[:5]}")


def size(wheels: Files, sdists: Files) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            model = sum(file.compress_size for file in archive.infolist() if file.filename.startswith(MODEL))
        rest = wheel.stat().st_size - model
        print(f"  {wheel.name}: {rest / 1e6:.2f} MB, and the model {model / 1e6:.2f} MB")
        if rest > LARGEST or not 0 < model <= LARGEST_MODEL:
            raise RuntimeError(f"expected at most {LARGEST / 1e6} MB, and a model of at most {LARGEST_MODEL / 1e6} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="those in dist/ unless given")
    parser.add_argument("--cheap", action="store_true", help="load without torch only")
    asked = parser.parse_args()
    files = sorted(asked.files or DIST.iterdir())
    wheels = [file for file in files if file.suffix == ".whl"]
    sdists = [file for file in files if file.name.endswith(".tar.gz")]

    def loads(wheels: Files, sdists: Files) -> None:
        """All without torch; and one with each torch, for its operators are those of all."""
        check = ("python", ROOT / ".ci/install_check.py", "--load-only")
        ours = [wheel for wheel in wheels if interpreter(wheel) == Path(sys.executable)]
        with_torch = [] if asked.cheap else (ours or list(wheels))[:1]
        if without := [wheel for wheel in wheels if wheel not in with_torch]:
            tool(*check, "--no-torch", *without)
        if with_torch:
            tool(*check, *with_torch)

    gates: dict[str, Callable[[Files, Files], None]] = {
        "exact tag": exact_tag,
        "stable ABI": stable_abi,
        "metadata": metadata,
        "loads in fresh environments": loads,
        "no paths of the builder": no_foreign_paths,
        "size": size,
    }
    for name, gate in gates.items():
        print(f"gate: {name}", flush=True)
        try:
            gate(wheels, sdists)
        except RuntimeError as fault:
            raise SystemExit(f"gates.py: {name}: {fault}") from None


if __name__ == "__main__":
    main()
