# SPDX-License-Identifier: Apache-2.0
"""The house rules, as tests: who may know whom, one stem per stage, line budgets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from deeperlab._schema import OPERATORS
from deeperlab.stages import torch_ops as ops
from deeperlab.stages.pipeline import NAMES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "deeperlab"

C_FILES = sorted(
    path
    for folder in ("csrc", "src")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and ROOT / "src/third_party" not in path.parents
)
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#include [<"](.*)[>"]', path.read_text(), re.MULTILINE)


def imports(path: Path) -> set[str]:
    """Everything a module imports, at any depth of its code; our own modules as "deeperlab.x"."""
    found = set()
    parent = ".".join(("deeperlab", *path.relative_to(PACKAGE).parts[:-1]))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parent.split(".")[: len(parent.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def knows(path: Path, *names: str) -> set[str]:
    return {name for name in imports(path) if any(name == n or name.startswith(f"{n}.") for n in names)}


def test_every_stage_has_header_loop_op_reference_test_and_bench() -> None:
    for stage in NAMES:
        assert (ROOT / "csrc/include/deeperlab" / f"{stage}.h").is_file()
        assert (ROOT / "csrc/cpu" / f"{stage}.cpp").is_file()
        assert (ROOT / "csrc/cuda" / f"{stage}.cu").is_file()
        assert stage in OPERATORS
        assert re.search(rf"^def {stage}\(", (PACKAGE / "stages/reference.py").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_knows_neither_python_nor_torch(path: Path) -> None:
    names = includes(path)
    if path.is_relative_to(ROOT / "csrc"):
        assert not [name for name in names if re.match(r"torch|pybind11|Python\.h|numpy|ATen|c10", name)]
    if path.is_relative_to(ROOT / "csrc/include"):
        assert all(name.startswith("deeperlab/") or "/" not in name for name in names)
    if path.is_relative_to(ROOT / "csrc/simd"):
        assert all(name.startswith(("deeperlab/", "simd/")) or "/" not in name for name in names)
        stage_headers = {f"deeperlab/{stage}.h" for stage in (*NAMES, "fuse", "problem", "nodes")}
        assert not stage_headers & set(names)
    for one, other in (("cpu", "cuda"), ("cuda", "cpu")):
        if path.is_relative_to(ROOT / "csrc" / one):
            assert not [name for name in names if name.startswith(f"{other}/")]
    if path.is_relative_to(ROOT / "src"):
        assert not [name for name in names if name.startswith(("cpu/", "cuda/"))]
    if path.parent == ROOT / "src/numpy":
        assert not [name for name in names if name.startswith("torch")]
    if path.parent == ROOT / "src/common":
        assert not [name for name in names if name.startswith(("torch", "pybind11"))]
    if path.parent == ROOT / "src/torch":
        assert not [name for name in names if name.startswith(("pybind11", "ATen", "c10"))]
        assert all("stable" in name or "headeronly" in name for name in names if name.startswith("torch"))


LAYERS = (
    ("_threads", "_torch_library"),
    ("_layout", "_memory", "_runs", "_schema"),
    ("graph", "params"),
    ("heads",),
    ("conventions",),
    ("panoptic",),
    ("_pytree",),
    ("stages",),
    ("crf", "fuse"),
    ("merge_top_down",),
    ("targets",),
    ("data",),
    ("shipped",),
    ("models",),
    ("metrics",),
    ("visualize",),
    ("scenes",),
    ("oracle",),
    ("predictor",),
    ("training",),
    ("cli",),
    ("__main__",),
)
"""Modules and folders of the package: each knows those before it."""
LOADED_ON_USE = {
    "data": {"formats"},
    "models": {"norms"},
    "scenes": {"demo"},
    "stages": {"crf_ops", "crf_reference", "numpy_ops", "pipeline", "reference", "top_down", "torch_ops"},
    "training": {
        *(
            "check",
            "config_file",
            "events",
            "find_lr",
            "loop",
            "memory",
            "overfit",
            "profile",
            "run_folder",
            "seeds",
            "slots",
            "tables",
            "trained",
            "tune",
        ),
    },
    "predictor": {"heads_check", "heads_file"},
}
"""Submodules that others import by themselves, because their folder's `__init__` stays light without them."""


TRAINING_WITHOUT_TORCH = ("__init__", "batches", "config", "config_check", "config_file", "drawn", "losses", "sources")
"""Of the training, what its options are read with."""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("deeperlab", *(part for part in parts if part != "__init__")))


def exported(folder: Path) -> set[str]:
    """The names in a folder's `__all__`."""
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_never_go_up(path: Path) -> None:
    layer = {name: level for level, names in enumerate(LAYERS) for name in names}
    inside = module_of(path).split(".")[1:]
    if inside:  # the package itself offers everything
        assert inside[0] in layer, f"{inside[0]} has no place in LAYERS"
        for module in knows(path, "deeperlab"):
            name = module.partition(".")[2].partition(".")[0]
            if name in layer and name != inside[0]:
                assert layer[name] < layer[inside[0]], module
    assert not knows(path, "tests", "benchmarks")
    if inside[:1] == ["models"]:  # networks know what goes out of them, and their files
        known = ("deeperlab.models", "deeperlab.graph", "deeperlab.heads", "deeperlab.data", "deeperlab.params")
        known += ("deeperlab._layout", "deeperlab._memory", "deeperlab.shipped")
        if path.stem == "crf":
            known += ("deeperlab.crf", "deeperlab.stages", "deeperlab._torch_library")
        assert all(module.startswith(known) for module in knows(path, "deeperlab") - {"deeperlab"})
    if path.stem == "reference":
        assert not knows(
            path, "torch", "deeperlab._numpy", "deeperlab._C", "deeperlab.stages.torch_ops", "deeperlab.fuse"
        )
    needs_torch = path.is_relative_to(PACKAGE / "models") or (
        path.is_relative_to(PACKAGE / "training") and path.stem not in TRAINING_WITHOUT_TORCH
    )
    if (
        path.stem not in ("torch_ops", "crf_ops", "_pytree", "_torch_library") and not needs_torch
    ):  # torch only inside functions
        top = ast.Module([n for n in ast.parse(path.read_text()).body if not isinstance(n, ast.If)], [])
        assert not re.search(r"^(import|from) torch", ast.unparse(top), re.MULTILINE)
    if not path.is_relative_to(PACKAGE / "cli") and path.stem != "__main__":
        assert not knows(path, "deeperlab.cli", "typer", "rich")


def test_no_two_modules_know_each_other() -> None:
    """Not even through others, in functions or for a type checker."""
    files = {module_of(path): path for path in PYTHON_FILES if path.name != "__init__.py"}
    known = {module: {m for m in imports(path) if m in files and m != module} for module, path in files.items()}
    while leaves := [module for module, others in known.items() if not others & known.keys()]:
        for module in leaves:
            del known[module]
    assert not known, f"in a circle: {sorted(known)}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_folder_is_entered_by_its_init(path: Path) -> None:
    """Outsiders import what its `__all__` names, and no underscore names."""
    package = ["deeperlab", *path.relative_to(PACKAGE).parts[:-1]]
    for module in knows(path, "deeperlab"):
        parts = module.split(".")
        for depth, part in enumerate(parts):
            if part.startswith("_") and not part.startswith("__"):
                holder = parts[:depth] if (PACKAGE / Path(*parts[1:depth])).is_dir() else parts[: depth - 1]
                assert package[: len(holder)] == holder, f"{module} is private"
        folder = PACKAGE / parts[1] if len(parts) > 2 else PACKAGE
        if folder != PACKAGE and folder.is_dir() and package[1:2] != [parts[1]]:
            doors = exported(folder) | LOADED_ON_USE.get(parts[1], set())
            assert parts[2] in doors, f"{module}: not in __all__ of {parts[1]}/__init__.py"


@pytest.mark.parametrize("path", [*C_FILES, *PYTHON_FILES], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_hold_one_concept(path: Path) -> None:
    """Over some 300 lines ask whether a file still holds one concept; past this it does not."""
    assert len(path.read_text().splitlines()) <= (450 if path.name == "reference.py" else 350)


@pytest.mark.parametrize("path", [*C_FILES, *PYTHON_FILES], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_begin_with_their_license_and_end_with_a_line(path: Path) -> None:
    text = path.read_text()
    assert "SPDX-License-Identifier: Apache-2.0" in text.splitlines()[0]
    assert text.endswith("\n")
    assert not re.search(r"\b(TODO|FIXME)\b", text)


def test_a_formula_has_one_body() -> None:
    """csrc/simd knows no stage, and no function is another's copy by lanes."""
    for path in C_FILES:
        if path.parent == ROOT / "csrc/simd":
            assert {name for name in includes(path) if "/" in name} <= {
                "deeperlab/number.h", "deeperlab/types.h", *(f"simd/{other.name}" for other in path.parent.iterdir())
            }  # fmt: skip
        assert path.name != "lanes.h"
        assert not re.search(r"\w_lanes\(", path.read_text()), path


def test_two_macros_in_the_engine() -> None:
    """What a device also runs, and whether the forms of x86's vectors are compiled."""
    macros = {name for path in C_FILES for name in re.findall(r"^\s*#define (\w+)", path.read_text(), re.MULTILINE)}
    assert macros == {"DEEPERLAB_HD", "DEEPERLAB_AVX"}


def test_defaults_have_one_home() -> None:
    """No op and no engine struct has a default; params.py has them all."""
    for name in (*NAMES, "fuse"):
        arguments = getattr(ops, name)._schema.arguments
        assert not [argument.name for argument in arguments if argument.has_default_value()]
    headers = (ROOT / "csrc/include/deeperlab").glob("*.h")
    fields = [re.findall(r"^struct \w+Params \{(.*?)^\};", path.read_text(), re.M | re.S) for path in headers]
    assert sum(map(len, fields)) == 8
    assert not [field for found in fields for field in found if "=" in re.sub("//.*", "", field)]
