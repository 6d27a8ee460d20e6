# SPDX-License-Identifier: Apache-2.0
"""Tensors in files. No pickle is ever executed.

`.safetensors` files hold nothing but tensors. `.pth` and `.pt` files are pickles, of which torch's restricted reader
(`weights_only=True`) builds tensors and plain containers; one that asks for more is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeperlab.data.files import FormatError, open_file

SUFFIXES = (".safetensors", ".pth", ".pt")
NESTED = ("state_dict", "model")
"""Keys below which training scripts put the weights."""
PREFIXES = ("module.", "_orig_mod.")
"""What torch's wrappers for many GPUs and for compilation put before every name."""


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file by their names, on the CPU, without wrappers around them or before their names.

    Raises:
        FormatError: of another kind, damaged, not of tensors alone, or a pickle that asks for more than tensors.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        fault = f"expected a file {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}; other pickles are never loaded"
        raise FormatError(path, fault)
    with open_file(path):  # what cannot be read is an OSError, whichever reader follows
        pass
    values = _read_safetensors(path) if suffix == ".safetensors" else _read_checkpoint(path)
    for _ in NESTED:  # a pickle may hold itself
        inner = [values[key] for key in NESTED if isinstance(values, Mapping) and isinstance(values.get(key), Mapping)]
        values = inner[0] if inner else values
    if not isinstance(values, Mapping) or not values:
        raise FormatError(path, f"expected named tensors, got {'none' if values == {} else type(values).__name__}")
    for name, tensor in values.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise FormatError(path, f"{name}: expected a tensor, got {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise FormatError(path, f"{name}: expected a dense tensor, got {tensor.layout} on {tensor.device}")
    tensors = dict(values)
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> Any:
    load_file = safetensors_torch().load_file
    try:
        return load_file(path)
    except (OSError, MemoryError):
        raise
    except Exception as fault:  # SafetensorError, and whatever torch says to a header that lies
        raise FormatError(path, f"damaged, or not safetensors: {fault}") from fault


def _read_checkpoint(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as fault:  # of any kind where a file is damaged; torch's advice to trust it is not passed on
        asked = re.search(r"GLOBAL ([\w.]+)", str(fault))
        what = f"a pickle that asks for {asked[1]}" if asked else f"damaged, or not of tensors ({type(fault).__name__})"
        raise FormatError(path, f"{what}; refused: save model.state_dict(), or a .safetensors file") from fault


def said_to_be_trained(path: Path) -> bool:
    """What `save_pretrained` noted beside the tensors of a .safetensors file; other files hold trained weights."""
    if path.suffix.lower() != ".safetensors":
        return True
    safetensors_torch()
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("trained") != "false"


def safetensors_torch() -> Any:
    """The module safetensors.torch, or an ImportError that says how to get it."""
    try:
        import safetensors.torch
    except ImportError as fault:
        raise ImportError("weights need safetensors: pip install 'deeperlab[hub]'") from fault
    return safetensors.torch
