# SPDX-License-Identifier: Apache-2.0
"""An installation without torch: what works, what the rest says, and what is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python where torch cannot be imported, and nothing that would bring it."""
    (folder / "code.py").write_text(
        "import sys, importlib.util\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'torchmetrics'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package)\n"
        + code
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    command = [sys.executable, str(folder / "code.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)


def command(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return python(f"sys.argv[1:] = {[str(w) for w in words]}\nfrom deeperlab.cli import main\nmain()", folder)


@pytest.mark.slow
def test_arrays_and_commands_need_no_torch(tmp_path: Path, make_heads: Any) -> None:
    from deeperlab.data import archive

    result = command(tmp_path, "demo", "--size", "65x97", "--things", "2", "--out", "demo")
    assert (result.returncode, result.stderr) == (0, "")
    ours = ("demo/panoptic.json", "--gt-dir", "demo")
    assert command(tmp_path, "eval", ours[0], *ours, "--pred-dir", "demo").stderr == ""
    assert command(tmp_path, "oracle", *ours).returncode == 0
    archive.save(tmp_path / "heads.npz", make_heads(classes=6), original=(130, 146))
    assert command(tmp_path, "fuse", "heads.npz", "--things", "1", "--out", "fused").returncode == 0
    doctor = command(tmp_path, "doctor")
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "torch operators, _C: torch is not installed" in doctor.stdout


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import deeperlab.models", "deeperlab.models"),
        ("from deeperlab.stages import torch_ops", "deeperlab.stages.torch_ops"),
        ("import deeperlab\ndeeperlab.Parser(None, 'coco')", "deeperlab.Parser"),
        ("from deeperlab.training import train", "deeperlab.training.train"),
        ("from deeperlab.training.loader import batches", "deeperlab.training.loader"),
        ("from deeperlab.training.validation import Validator", "deeperlab.training.validation"),
        ("PANOPTIC.to_detectron2()", "to_detectron2"),
        ("PANOPTIC.to('cpu')", "Panoptic.to"),
    ],
)
def test_what_needs_torch_says_so(code: str, name: str, tmp_path: Path) -> None:
    made = "" if "PANOPTIC" not in code else (
        "import deeperlab, numpy as np\nfrom deeperlab import targets\n"
        "square = np.zeros((9, 9), np.int32)\nsquare[2:7, 2:7] = 1\n"
        "PANOPTIC = deeperlab.fuse(targets.encode_heads(square, square, 2), [1])\n"
    )  # fmt: skip
    result = python(made + code, tmp_path)
    assert result.stderr.splitlines()[-1] == f"ImportError: {name} needs torch >= 2.11: pip install 'deeperlab[torch]'"


def test_predict_says_it_in_one_line(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    words = ("a.png", "--model", "trained", "--labels", "coco", "--out", "out")
    result = command(tmp_path, "predict", *words)
    assert (result.returncode, result.stderr) == (
        2,
        "deeperlab: deeperlab predict needs torch >= 2.11: pip install 'deeperlab[torch]'; or --runtime onnx: "
        "pip install 'deeperlab[onnx]'\n",
    )
    assert not (tmp_path / "out").exists()


def test_an_old_torch_is_told_where_it_is_used_and_arrays_need_none(tmp_path: Path) -> None:
    (tmp_path / "torch" / "utils").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '2.1.0+cu118'\n")
    (tmp_path / "torch" / "utils" / "__init__.py").touch()
    (tmp_path / "torch" / "utils" / "_pytree.py").write_text("def _register_pytree_node(*_): ...\n")

    def run(code: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)

    for order in ("import torch, deeperlab", "import deeperlab, torch"):
        assert run(f"{order}; from deeperlab import scenes; scenes.draw(1, (9, 9))").stderr == ""
        for module in ("deeperlab.models", "deeperlab.stages.torch_ops"):
            told = f"ImportError: {module} needs torch >= 2.11, got 2.1.0+cu118: pip install 'deeperlab[torch]'"
            assert run(f"{order}; import {module}").stderr.splitlines()[-1] == told


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An empty environment's Python."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    return tmp_path / "env" / "bin" / "python"


def pretend(environment: Path, cuda: str | None) -> Path:
    """Install a torch that says for which CUDA it is built, and no more."""
    (site,) = (environment.parents[1] / "lib").glob("python3*/site-packages")
    (site / "torch").mkdir(exist_ok=True)
    (site / "torch" / "version.py").write_text(f"__version__ = '2.13.0'\ncuda = {cuda!r}\n")
    return site / "torch"


def test_the_torch_that_decides_on_cuda_is_that_of_the_environment(environment: Path) -> None:
    script = ROOT / "src/torch/locate.py"
    hide = "import sys; sys.path = [path for path in sys.path if 'site-packages' not in path]; "

    def located(*command: object) -> str:
        return subprocess.check_output([environment, "-I", *command], text=True)

    assert located(script) == "\n"
    pretend(environment, "13.0")
    assert located(script) == "13.0\n"
    isolated = f"{hide}import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert located("-c", isolated) == "13.0\n"
    pretend(environment, None)
    assert located(script) == "\n"


@pytest.mark.slow
def test_the_log_says_what_of_cuda_is_built_and_why(environment: Path) -> None:
    """An nvcc that is found and does not work is told, never passed over."""
    pybind11 = pytest.importorskip("pybind11", reason="needs pybind11, of the group build")
    (site,) = (environment.parents[1] / "lib").glob("python3*/site-packages")
    (site / "pybind11").symlink_to(Path(pybind11.__file__).parent)
    cmake = next(path for path in (Path(sys.executable).with_name("cmake"), shutil.which("cmake")) if path)
    broken = environment.parents[2] / "nvcc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    def configure(*options: str, **variables: str) -> str:
        folder = environment.parents[2] / "build"
        shutil.rmtree(folder, ignore_errors=True)
        flags = ["-S", str(ROOT), "-B", str(folder), f"-DPython_EXECUTABLE={environment}", *options]
        env = {**os.environ, **(variables or {"CUDACXX": str(broken)})}
        done = subprocess.run([str(cmake), *flags], capture_output=True, text=True, check=False, env=env)
        return " ".join((done.stdout + done.stderr).split())

    built, refused = "Build files have been written", "no CUDA compiler works here"
    told = configure()
    assert "without CUDA kernels: no torch with CUDA is installed here" in told
    assert built in told
    told = configure("-DDEEPERLAB_CUDA=ON")
    assert "CUDA kernels are wanted (DEEPERLAB_CUDA=ON), but" in told
    assert refused in told
    assert built not in told
    pretend(environment, "13.0")
    told = configure()
    assert "CUDA kernels are wanted (torch has CUDA 13.0), but" in told
    assert built not in told
    told = configure(DEEPERLAB_CUDA="OFF")  # of the environment
    assert "without CUDA kernels: DEEPERLAB_CUDA=OFF" in told
    assert built in told
    assert "expected ON, OFF or AUTO, got no" in configure("-DDEEPERLAB_CUDA=no")
    (environment.parents[2] / "bin").mkdir()
    broken.rename(environment.parents[2] / "bin" / "nvcc")
    nowhere = {"CUDA_HOME": str(environment.parents[2]), "PATH": "/usr/bin:/bin"}
    assert "CUDA kernels are wanted (torch has CUDA 13.0), but" in configure(**nowhere)  # it is looked for there too
    pretend(environment, None)
    assert "without CUDA kernels: no torch with CUDA" in configure()
