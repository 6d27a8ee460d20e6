# SPDX-License-Identifier: Apache-2.0
"""The gates of a wheel let a good one pass and name what a bad one lacks."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = "deeperlab-0.2.0-cp311-cp311-manylinux_2_28_x86_64.whl"
SDIST = Path("deeperlab-0.2.0.tar.gz")
GOOD = {
    "deeperlab/_C.so": b"\x7fELF csrc/cpu/vote.cpp /proc/self/maps",
    "deeperlab/_numpy.cpython-311-x86_64-linux-gnu.so": b"\x7fELF",
    "deeperlab/shipped/photo16/model.safetensors": bytes(1000),
    "deeperlab-0.2.0.dist-info/METADATA": b"[a](https://b.example/c) [d](#e)",
    "deeperlab-0.2.0.dist-info/licenses/LICENSE": b"Apache",
    "deeperlab-0.2.0.dist-info/licenses/src/third_party/NOTICES.md": b"CUDA",
    "deeperlab-0.2.0.dist-info/licenses/src/third_party/torch/LICENSE": b"BSD",
}


def script(name: str) -> ModuleType:
    """Load a file of .ci by its name, as its neighbors import it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("wheel", "install_check", "gates"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # and so out again
    script("wheel")
    script("install_check")
    return script("gates")


def wheel(folder: Path, name: str = NAME, **changed: bytes | None) -> Path:
    """A wheel of the good files, of which some are changed, by the start of their names, or left out."""
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in GOOD.items():
            new = next((value for key, value in changed.items() if key in file), content)
            if new is not None:
                archive.writestr(file, new)
    return folder / name


def test_good_ones_pass(gates: ModuleType, tmp_path: Path) -> None:
    good, sdist = [wheel(tmp_path)], [SDIST]
    for gate in (gates.exact_tag, gates.no_foreign_paths, gates.size):
        gate(good, sdist)


@pytest.mark.parametrize(
    "name",
    [
        NAME.replace("manylinux_2_28", "linux"),
        NAME.replace("2_28", "2_34"),
        NAME.replace("cp311-cp311", "cp311-abi3"),
        NAME.replace("manylinux_2_28_x86_64", "manylinux_2_27_x86_64.manylinux_2_28_x86_64"),
    ],
)
def test_another_tag_is_named(gates: ModuleType, tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match="expected a name as deeperlab-") as fault:
        gates.exact_tag([wheel(tmp_path, name)], [SDIST])
    assert str(fault.value).startswith(name)


def test_a_free_threaded_tag_is_one(gates: ModuleType, tmp_path: Path) -> None:
    gates.exact_tag([wheel(tmp_path, NAME.replace("cp311-cp311", "cp314-cp314t"))], [SDIST])


def test_missing_operators_and_a_missing_sdist_are_named(gates: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"expected the libraries deeperlab/_C and deeperlab/_numpy, got \['deeperlab/_n"
    ):
        gates.exact_tag([wheel(tmp_path, _C=None)], [SDIST])
    with pytest.raises(RuntimeError, match="expected one source distribution, got 0"):
        gates.exact_tag([wheel(tmp_path)], [])
    with pytest.raises(RuntimeError, match="expected wheels, got none"):
        gates.exact_tag([], [SDIST])
    with pytest.raises(
        RuntimeError, match=r"manylinux_2_28_x86_64\.whl: expected the version of deeperlab-0\.2\.0\.tar\.gz"
    ):
        gates.exact_tag([wheel(tmp_path, NAME.replace("0.2.0", "0.2.1"))], [SDIST])


@pytest.mark.parametrize(
    "path", ["/home/me/src/vote.cpp", "/tmp/tmpxft_0001/vote.cu", "tmpxft_0002_vote", "/root/x/y.h"]
)
def test_a_path_of_the_builder_is_named(gates: ModuleType, tmp_path: Path, path: str) -> None:
    with pytest.raises(RuntimeError, match=r"_C\.so names files of the machine") as fault:
        gates.no_foreign_paths([wheel(tmp_path, _C=b"\x7fELF\0" + path.encode() + b"\0")], [])
    assert path.removeprefix("/tmp/") in str(fault.value)


def test_too_large_a_wheel_or_a_model_that_is_missing_is_named(gates: ModuleType, tmp_path: Path) -> None:
    import numpy as np

    noise = np.random.default_rng(0).bytes(4_100_000)
    with pytest.raises(RuntimeError, match=r"expected at most 4\.0 MB"):
        gates.size([wheel(tmp_path, _C=noise)], [])
    gates.size([wheel(tmp_path, model=noise)], [])  # the model has room of its own
    with pytest.raises(RuntimeError, match=r"a model of at most 8\.0 MB"):
        gates.size([wheel(tmp_path, model=noise * 2)], [])
    with pytest.raises(RuntimeError, match="a model of"):
        gates.size([wheel(tmp_path, model=None)], [])


def test_a_relative_link_of_the_description_and_a_missing_notice_are_named(
    gates: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "tool", lambda *words: None)
    gates.metadata([wheel(tmp_path)], [])
    with pytest.raises(RuntimeError, match=r"relative links in its description: \['docs/install\.md'\]"):
        gates.metadata([wheel(tmp_path, METADATA=b"[a](docs/install.md)")], [])
    with pytest.raises(RuntimeError, match=r"asks for the texts \['src/third_party/NOTICES\.md'\]"):
        gates.metadata([wheel(tmp_path, NOTICES=None)], [])


def test_operators_that_differ_between_wheels_are_named(
    gates: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "tool", lambda *words: audit())
    one, other = wheel(tmp_path), NAME.replace("cp311-cp311", "cp312-cp312")
    gates.stable_abi([one, wheel(tmp_path, other)], [])
    with pytest.raises(RuntimeError, match=r"expected one _C\.so for x86_64, got \{"):
        gates.stable_abi([one, wheel(tmp_path, other, _C=b"\x7fELF 2")], [])


def audit(**torch: Any) -> str:
    """A report of torch-abi-audit: a good one but for what is given."""
    good = {"stable": True, "min_torch_version": "2.11.0", "unstable_symbols": [], "unknown_shim_symbols": []}
    symbols = torch.pop("violations", [])
    return json.dumps({"bundled_libs": [{"torch": {**good, **torch}, "cpython": {"violations": symbols}}]})


@pytest.mark.parametrize(
    "bad",
    [
        {"stable": False, "unstable_symbols": ["_ZN2at6Tensor"]},
        {"min_torch_version": "2.13.0"},
        {"min_torch_version": None, "stable": False},
        {"unknown_shim_symbols": ["torch_other"]},
        {"violations": ["PyList_New"]},
    ],
    ids=str,
)
def test_another_abi_than_that_of_the_oldest_torch_is_named(gates: ModuleType, bad: dict[str, Any]) -> None:
    gates.check_audit(audit())
    with pytest.raises(RuntimeError, match=r"expected the stable ABI of torch==2\.11\.0, and no symbol of Python"):
        gates.check_audit(audit(**bad))


def test_the_first_gate_that_fails_ends_it_by_name(
    gates: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gates.py", str(wheel(tmp_path, NAME.replace("many", ""))), str(SDIST)])
    with pytest.raises(
        SystemExit, match=r"^gates\.py: exact tag: deeperlab-0\.2\.0-cp311-cp311-linux_2_28_x86_64\.whl"
    ):
        gates.main()


def test_the_interpreters_are_found_once_each_and_work(gates: ModuleType) -> None:
    found = sys.modules["wheel"].interpreters()
    names = [path.name for path in found]
    assert names == sorted(set(names), key=lambda name: (int(name.removeprefix("python3.").rstrip("t")), name))
    assert all(int(name.removeprefix("python3.").rstrip("t")) >= 10 for name in names)
