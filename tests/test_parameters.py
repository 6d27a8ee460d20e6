# SPDX-License-Identifier: Apache-2.0
"""A parameter of the fusion is written in four places and no fifth: its line in the table, its field of FuseParams, the
header of its stage, the reference. Everything else follows from the table."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from deeperlab import FuseParams
from deeperlab._schema import OPERATORS, PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path("src/common/parameters.h")
SIZES = {"max_candidates", "max_instances", "vote_cell"}  # of results: read wherever these are made

# The four edits by which somebody adds a parameter to `merge`: file -> (an anchor, what comes before it).
DUMMY = {
    str(TABLE): (
        '      real("fit_area"',
        '      real("dummy_share", {"merge"}, &Params::dummy_share, 0.25, 0.75),\n',
    ),
    "python/deeperlab/params.py": ("    fit_area: float", "    dummy_share: float = 0.5\n"),
    "csrc/include/deeperlab/merge.h": ("  float fit_area;", "  float dummy_share;\n"),
    "python/deeperlab/stages/reference.py": ("          fit_area: float)", "          dummy_share: float,\n"),
}
PROGRAM = """
#include <iostream>
#include "common/operators.h"
using namespace deeperlab::binding;
int main() {
  for (const Operator& op : operators()) std::cout << op.schema() << "\\n";
  const auto& table = parameters();
  for (const Parameter& p : table) {
    if (std::string(p.name) != "dummy_share") continue;
    deeperlab::Params params{};
    p.store(0.625, 5, params);
    std::cout << params.dummy_share << "\\n";
    try {
      p.store(0.875, 5, params);
    } catch (const std::invalid_argument& fault) {
      std::cout << fault.what() << "\\n";
    }
  }
}
"""


@pytest.mark.slow
def test_a_new_parameter_is_four_edits(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    for folder in ("csrc", "src", "python"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name, (anchor, line) in DUMMY.items():
        text = (tmp_path / name).read_text()
        assert text.count(anchor) == 1, (name, anchor)
        (tmp_path / name).write_text(text.replace(anchor, line + anchor))
    (tmp_path / "main.cpp").write_text(PROGRAM)
    includes = [f"-I{tmp_path / folder}" for folder in ("csrc/include", "csrc", "src")]
    subprocess.run([compiler, "-std=c++17", *includes, "main.cpp", "-o", "main"], cwd=tmp_path, check=True)
    *schemas, stored, refused = subprocess.run([tmp_path / "main"], capture_output=True, text=True).stdout.splitlines()
    assert [schema.split("(")[0] for schema in schemas if "float dummy_share" in schema] == ["fuse", "merge"]
    assert stored == "0.625"
    assert refused == "dummy_share: expected 0.25 to 0.75, got 0.875"
    assert len(places("dummy_share", tmp_path)) == 4


@pytest.mark.parametrize("name", sorted(PARAMETERS.keys() - SIZES))
def test_a_parameter_is_written_in_four_files(name: str) -> None:
    found = places(name, ROOT)
    assert {str(TABLE), "python/deeperlab/params.py", "python/deeperlab/stages/reference.py"} <= found
    assert len(found) <= 4, found


def places(name: str, root: Path) -> set[str]:
    """The files that must be changed to add or rename a parameter, or to hand it on.

    Who merely reads its value, such as a loop of the engine or the oracle's explanations, does not count. In C++ it may
    be kept as its square or as a switch.
    """
    stored = {"long_voters": "all_voters", "majority": "majority_all"}.get(name, name)
    word, use = re.compile(rf"\b({stored}|{name}2)\b"), re.compile(rf'"{name}"|[:.>]({stored}|{name}2)\b')
    found = set()
    for path in sorted((root / "csrc/include").rglob("*.h")):
        fields = re.findall(r"^struct \w+Params \{(.*?)^\};", path.read_text(), re.MULTILINE | re.DOTALL)
        if any(word.search(re.sub("//.*", "", text)) for text in fields):
            found.add(str(path.relative_to(root)))
    for path in sorted((root / "src").rglob("*.*")):
        if path.suffix in (".h", ".cpp") and use.search(re.sub("//.*", "", path.read_text())):
            found.add(str(path.relative_to(root)))
    package = root / "python/deeperlab"
    for path in (package / "params.py", package / "fuse.py", *sorted((package / "stages").glob("*.py"))):
        if name in words_of(path):
            found.add(str(path.relative_to(root)))
    return found


def words_of(path: Path) -> set[str]:
    """Names, attributes, arguments, keywords and strings of a module; no comments, no docstrings."""
    words = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("id", "attr", "arg", "value"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                words.add(word)
    return words


def test_the_stubs_are_those_of_the_table() -> None:
    spec = spec_from_file_location("stubs", ROOT / "src/numpy/stubs.py")
    assert spec is not None
    assert spec.loader is not None
    stubs: Any = module_from_spec(spec)
    spec.loader.exec_module(stubs)
    assert stubs.STUBS.read_text() == stubs.text(), "run `make stubs`"


def test_every_operator_takes_the_parameters_of_its_stage_by_name() -> None:
    assert [name for name in OPERATORS["fuse"].options if name in PARAMETERS] == list(FuseParams().options(5))
    assert set().union(*(op.options for op in OPERATORS.values())) >= PARAMETERS.keys()
    assert [name for name in OPERATORS["merge"].options if name in PARAMETERS] == ["radius", "majority", "fit_area"]


def test_no_function_takes_more_than_eight_arguments() -> None:
    """Of the engine and the bindings: values travel, not lists of pointers."""
    signature = re.compile(
        r"^[ \t]*(?:[\w:<>&*,\s]+?)\b(\w+)\(((?:[^()]|\([^()]*\))*)\)\s*(?:const\s*)?\{", re.MULTILINE
    )
    seen = 0
    for folder in ("csrc", "src"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix not in (".h", ".cpp", ".cu", ".cuh"):
                continue
            text = re.sub(r"//.*", "", path.read_text())
            for name, arguments in signature.findall(text):
                if name in ("if", "for", "while", "switch", "catch"):
                    continue
                depth, count = 0, int(bool(arguments.strip()))
                for letter in arguments:
                    depth += (letter in "<([{") - (letter in ">)]}")
                    count += letter == "," and depth == 0
                assert count <= 8, (path.relative_to(ROOT), name, count)
                seen += 1
    assert seen > 300
