# SPDX-License-Identifier: Apache-2.0
"""Writes the type stubs of deeperlab._numpy from what the module says of its operators."""

from __future__ import annotations

import sys
from pathlib import Path

from deeperlab import _numpy
from deeperlab._schema import OPERATORS

STUBS = Path(__file__).resolve().parents[2] / "python" / "deeperlab" / "_numpy.pyi"
TYPES = {
    "int": "int",
    "float": "float",
    "float?": "float | None",
    "float[]": "Sequence[float]",
    "bool": "bool",
    "str": "str",
    "int[]": "Sequence[int]",
    "SymInt[]": "Sequence[int]",
}
HEAD = """# Made by `make stubs` from the table of parameters in src/common.
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def simd() -> str: ...
def parameters() -> dict[str, tuple[str, float, float, float, tuple[str, ...]]]: ...
def operators() -> dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...], int]]: ...
def overlap(*maps: Array) -> tuple[Array, ...]: ...
def find_runs(*maps: Array) -> tuple[Array, Array, Array, Array]: ...
def pixel_boxes(length: Array, y: Array, x: Array, label: Array, count: int) -> Array: ...
def spread(length: Array, value: Array, height: int, width: int) -> Array: ...
def draw(image: Array, category: Array, instance: Array, shades: Array, **how: Any) -> Array: ...
def unfilter(data: bytes, height: int, width: int, pixel_bytes: int) -> Array: ...
"""


def text() -> str:
    """Return the stubs."""
    parts = [HEAD]
    for name, operator in OPERATORS.items():
        arguments = [f"{array}: Array" for array in operator.arrays]
        arguments += ["*", *(f"{option}: {TYPES[kind]}" for option, kind in operator.options.items())]
        arguments.append("num_threads: int = 1")
        result = "Array" if operator.results == 1 else f"tuple[{', '.join(['Array'] * operator.results)}]"
        lines = "".join(f"    {argument},\n" for argument in arguments)
        parts.append(f"def {name}(\n{lines}) -> {result}: ...\n")
    return "".join(parts)


if __name__ == "__main__":
    assert _numpy.__file__, "deeperlab._numpy is not built"
    STUBS.write_text(text())
    sys.stdout.write(f"wrote {STUBS}\n")
