# SPDX-License-Identifier: Apache-2.0
"""`deeperlab doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
import sysconfig
from importlib.util import find_spec

PACKAGES = ("numpy", "torch", "onnxruntime", "safetensors", "Pillow", "zlib-ng", "typer", "rich")


def doctor() -> None:
    """Tell what is installed here and what works: versions, compiled parts, SIMD, CUDA; one line each.

    Needs NumPy alone. Ends with code 1 where a compiled part does not load. Put the output into a bug report.
    """
    lines, sound = examine()
    for name, text in lines:
        print(f"{name:<11} {text}")
    if not sound:
        raise SystemExit(1)


def examine() -> tuple[list[tuple[str, str]], bool]:
    """Return the lines (name, text), and whether all compiled parts load."""
    lines = [("deeperlab", _version("deeperlab")), ("wheel", _wheel()), ("Python", _python())]
    lines.append(("libc", " ".join(platform.libc_ver()).strip() or "unknown"))
    lines += [(name, _version(name)) for name in PACKAGES]
    sound = True
    for part, module, what in (
        ("_numpy", "deeperlab._numpy", "NumPy arrays"),
        ("ops", "deeperlab.stages.torch_ops", "torch operators, _C"),
    ):
        if part == "ops" and find_spec("torch") is None:
            remedy = "pip install 'deeperlab[torch]'"
            lines.append((part, f"{what}: torch is not installed; tensors and networks need it: {remedy}"))
            continue
        try:
            importlib.import_module(module)
            lines.append((part, f"{what}: loads"))
        except Exception as fault:
            sound = False
            lines.append((part, f"{what}: does not load: {' '.join(str(fault).split())}"))
    lines.append(("SIMD", _simd()))
    lines.append(("threads", _threads()))
    lines.append(("CUDA", _cuda()))
    return lines, sound


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _wheel() -> str:
    """The tags of what was installed, which say for which Python, libc and processor it was built."""
    try:
        lines = (importlib.metadata.distribution("deeperlab").read_text("WHEEL") or "").splitlines()
    except importlib.metadata.PackageNotFoundError:
        lines = []
    return " ".join(line.partition(": ")[2] for line in lines if line.startswith("Tag: ")) or "unknown"


def _python() -> str:
    kind = f"{platform.python_implementation()}, {sys.platform} {platform.machine()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        kind += f", free-threaded, the GIL is {'on' if getattr(sys, '_is_gil_enabled', lambda: True)() else 'off'}"
    return f"{platform.python_version()} ({kind})"


def _simd() -> str:
    try:
        from .._numpy import simd

        return f"{simd()}; DEEPERLAB_SIMD=plain|baseline|avx2|avx512 forces another, with the same bits"
    except (ImportError, ValueError) as fault:
        return str(fault)


def _threads() -> str:
    try:
        import torch
    except Exception:  # told above
        return "needs torch"
    return f"torch uses {torch.get_num_threads()}; torch.set_num_threads changes it"


def _cuda() -> str:
    try:
        import torch

        from ..stages.torch_ops import HAS_CUDA
    except Exception:  # told above
        return "needs torch and its operators"
    without = "built without kernels (DEEPERLAB_CUDA=ON builds them; docs/install.md)"
    kernels = "with kernels" if HAS_CUDA else without
    if torch.version.cuda is None:
        return f"{kernels}; torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return f"{kernels}; torch is built for CUDA {torch.version.cuda}, but sees no device or driver"
    return f"{kernels}; torch sees {torch.cuda.get_device_name()} with CUDA {torch.version.cuda}"
