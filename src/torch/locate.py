# SPDX-License-Identifier: Apache-2.0
"""Tells CMake for which CUDA the torch of this environment is built, without importing it: a version, or nothing.

A build in isolation does not see the environment that it builds for. The torch there is the one that will load the
operators, so it is looked for all the same.
"""

from __future__ import annotations

import importlib.util
import runpy
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def folders() -> Iterator[Path]:
    """Where torch may be, the one that Python would import first."""
    spec = importlib.util.find_spec("torch")
    yield from (Path(folder) for folder in (spec and spec.submodule_search_locations) or ())
    yield from (Path(sysconfig.get_path(name), "torch") for name in ("platlib", "purelib"))


def cuda_of_torch() -> str:
    """Return the version of CUDA; empty where torch has none, or there is no torch."""
    for folder in folders():
        if (folder / "version.py").is_file():
            return runpy.run_path(str(folder / "version.py")).get("cuda") or ""
    return ""


if __name__ == "__main__":
    print(cuda_of_torch())
