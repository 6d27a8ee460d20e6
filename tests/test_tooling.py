# SPDX-License-Identifier: Apache-2.0
"""The files around the code agree with it: pinned tools, presets, forms, the citation, what CI runs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ONE_WORKER

import deeperlab

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_hooks_have_the_versions_that_the_project_pins() -> None:
    pinned = dict(re.findall(r'"([\w-]+)==([\w.]+)"', PYPROJECT))
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    wanted = [need.split("==") for hook in hooks for need in hook.get("additional_dependencies", [])]
    assert {name for name, _ in wanted} == {"ruff", "clang-format"}
    assert all(pinned[name] == version for name, version in wanted)


def test_what_is_skipped_says_why() -> None:
    """pytest's own words for a package that is missing do not say where it would come from."""
    calls, silent = {"importorskip", "skipif", "skip", "xfail"}, []
    for path in sorted(file for folder in ("tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls:
                keywords = {keyword.arg for keyword in node.keywords}
                if "reason" not in keywords and not (node.func.attr == "skip" and node.args):
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not silent


def test_hooks_run_outside_a_virtual_environment() -> None:
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"python", "pygrep"}
    assert not [hook for hook in hooks if "/" in hook["entry"].split()[0]]


def test_the_citation_is_that_of_this_version_and_names_the_paper() -> None:
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == re.findall(r'^version = "(.*)"', PYPROJECT, re.MULTILINE)[0] == deeperlab.__version__
    assert citation["license"] in (ROOT / "pyproject.toml").read_text()
    (paper,) = citation["references"]
    assert paper["title"] == "DeeperLab: Single-Shot Image Parser"
    assert [author["family-names"] for author in paper["authors"]] == (
        ["Yang", "Collins", "Zhu", "Hwang", "Liu", "Zhang", "Sze", "Papandreou", "Chen"]
    )
    assert paper["url"] == "https://arxiv.org/abs/1902.05093"


def test_presets_set_what_the_build_knows() -> None:
    presets = json.loads((ROOT / "CMakePresets.json").read_text())
    options = set(re.findall(r"(DEEPERLAB_\w+|CMAKE_\w+|Python_EXECUTABLE)", (ROOT / "CMakeLists.txt").read_text()))
    for preset in presets["configurePresets"]:
        assert set(preset["cacheVariables"]) <= options
    shown = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
    assert shown == {preset["configurePreset"] for preset in presets["buildPresets"]}
    assert shown == {"release", "dev", "asan", "cuda"}


def test_the_build_says_what_to_do_on_windows(tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    build = [cmake, "-S", str(ROOT), "-B", str(tmp_path), "-DCMAKE_SYSTEM_NAME=Windows"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "deeperlab does not support Windows" in said
    assert "WSL 2" in said
    assert "compiler" not in done.stdout  # nothing else is asked for before


@pytest.mark.parametrize("name", ["bug", "feature", "performance"])
def test_issue_forms_are_forms(name: str) -> None:
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    asks_for_doctor = any("`deeperlab doctor`" in field["attributes"]["label"] for field in fields)
    assert asks_for_doctor == (name != "feature")


def test_ci_runs_what_the_readme_says_and_what_a_release_is_made_of() -> None:
    commands = re.findall(r"^make [\w-]+", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert commands[:3] == ["make demo", "make lint", "make test"]
    assert commands[3:] == ["make wheel", "make install-check", "make compilers", "make aarch64"]
    readme, table = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    assert all(command in readme for command in commands[:3])
    assert all(f"| `{command}`" in table for command in commands)
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "run: .ci/run" in workflow


WORKFLOWS = {path.name: read(f".github/workflows/{path.name}") for path in (ROOT / ".github/workflows").iterdir()}
JOBS = [(file, name, job) for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()]


def test_workflows_call_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for _, _, job in JOBS:
        for words in re.findall(
            r"^make ([^|&;\n]+)", "\n".join(step.get("run", "") for step in job["steps"]), re.MULTILINE
        ):
            called |= set(re.sub(r"-C \S+|--\S+|\b[A-Z]+=\S*", "", words).split())
    assert {"demo", "lint", "test", "bench-compare"} <= called <= targets


def test_workflows_read_and_only_publishing_may_say_who_it_is() -> None:
    assert all(workflow["permissions"] == {"contents": "read"} for workflow in WORKFLOWS.values())
    more = {(file, name): job["permissions"] for file, name, job in JOBS if "permissions" in job}
    assert more == {("wheels.yml", "publish"): {"id-token": "write", "attestations": "write"}}
    assert not [file for file in WORKFLOWS if "secrets." in (ROOT / ".github/workflows" / file).read_text()]
    checkouts = [step for _, _, job in JOBS for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_jobs_end() -> None:
    assert all(0 < job["timeout-minutes"] < 360 for _, _, job in JOBS)  # GitHub's own limit


def test_only_a_tag_is_published_and_only_after_the_gates() -> None:
    wheels = WORKFLOWS["wheels.yml"]
    assert wheels[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}  # YAML reads `on` so
    publish = wheels["jobs"]["publish"]
    assert publish["if"] == "github.event_name == 'push'"
    assert publish["needs"] == ["wheels", "gates"]
    assert publish["environment"]["name"] == "pypi"


def test_the_workflow_makes_wheels_as_make_does() -> None:
    ours = (ROOT / ".ci/wheel.py").read_text()
    (platform,) = re.findall(r'f"(manylinux_\w+)_\{platform\.machine\(\)\}"', ours)
    (words,) = re.findall(r'"auditwheel",\s+(.*?),?\s+\)', ours, re.DOTALL)
    repair = " ".join(word.strip('"') for word in re.split(r",\s+", words))
    (theirs,) = re.findall(r'^repair-wheel-command = "auditwheel (.*?) --wheel-dir', PYPROJECT, re.MULTILINE)
    assert theirs == repair.replace(" plat ", f" {platform}_$(uname -m) ")
    images = re.findall(r'^manylinux-\w+-image = "(\w+)"', PYPROJECT, re.MULTILINE)
    assert images == [platform, platform]
    # nvcc hashes the folder it works in into names: wheels are built in one fixed folder, here by wheel.py, there
    # within cibuildwheel's container, where the project always has the same place.
    assert re.findall(r'build-dir = "(.*?)"', PYPROJECT) == ["build/{wheel_tag}", "build/wheel", "build/wheel"]


def test_the_workflow_makes_and_tries_wheels_for_every_python() -> None:
    minors = re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', PYPROJECT)
    (patterns,) = re.findall(r"^build = (\[.*?\])$", PYPROJECT.partition("[tool.cibuildwheel]")[2], re.MULTILINE)
    wanted = [f"cp3{minor}-manylinux_x86_64" for minor in minors] + ["cp314t-manylinux_x86_64"]
    assert all(any(fnmatch(name, pattern) for pattern in json.loads(patterns)) for name in wanted)
    (setup,) = [
        step for step in WORKFLOWS["wheels.yml"]["jobs"]["gates"]["steps"] if "setup-python" in step.get("uses", "")
    ]
    assert setup["with"]["python-version"].split() == ["3.14t", *(f"3.{minor}" for minor in minors)]


def test_what_a_build_needs_is_said_twice_alike() -> None:
    """pip reads one list where it builds by itself, and the other for builds without isolation."""
    (isolated,) = re.findall(r"^requires = (\[.*?\])", PYPROJECT, re.MULTILINE)
    groups = PYPROJECT.partition("[dependency-groups]")[2].partition("[tool.")[0]
    (ours,) = re.findall(r"^build = (\[.*?\])", groups, re.MULTILINE)
    assert json.loads(ours) == [*json.loads(isolated), "cmake", "ninja"]


def test_the_oldest_torch_that_is_tried_is_the_oldest_that_is_taken() -> None:
    (extra,) = re.findall(r'^torch = \["torch>=([\d.]+)"\]', PYPROJECT, re.MULTILINE)
    assert f'OLDEST_TORCH, NEWEST_TORCH = "torch=={extra}.0"' in (ROOT / ".ci/install_check.py").read_text()
    (pinned,) = re.findall(r"^TORCH \?= (torch==[\d.]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f'os.environ.get("TORCH", "{pinned}")' in (ROOT / ".ci/install_check.py").read_text()


def test_targets_of_make_are_all_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert phony == set(re.findall(r"^([a-z0-9-]+):.*## ", text, re.MULTILINE))


def test_files_that_share_what_is_costly_are_there() -> None:
    """Or each worker would build the emulator and compute the digests again."""
    assert all((ROOT / file).is_file() for file in ONE_WORKER)
