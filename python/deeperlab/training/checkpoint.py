# SPDX-License-Identifier: Apache-2.0
"""What a run leaves on disk: its full state, and folders of a network. Each is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from .._memory import is_out_of_memory
from ..data.files import FormatError, replace
from ..data.labels import LabelSet
from ..models import Network

VERSION = 1


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the old file stays until the new one has reached the disk.

    Raises:
        OSError: the folder or the file cannot be written.
    """

    def write(file: Any) -> None:
        try:
            torch.save({"version": VERSION, **state}, file)
        except RuntimeError as fault:  # what torch makes of a disk that is full
            if isinstance(fault.__context__, OSError):
                raise fault.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())

    path.parent.mkdir(exist_ok=True)
    replace(path, write)
    _sync(path.parent)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        FormatError: damaged, or of another version.
        OSError: it cannot be read.
        MemoryError, RuntimeError: it does not fit into memory.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as fault:
        if is_out_of_memory(fault):
            raise
        raise FormatError(path, f"damaged, or no state of a run ({type(fault).__name__})") from fault
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise FormatError(path, f"expected a state of version {VERSION}; train on with the deeperlab that wrote it")
    return state


def save_model(folder: Path, model: Network, labels: LabelSet) -> None:
    """Write a folder for `models.from_pretrained`, with its label set beside the network.

    A folder that is there already belongs to the same run: config and labels stay the same, and the weights are
    replaced in one step. A new one gets its name when it is whole.
    """
    model.mark_untrained(False)
    model.labels = labels
    if folder.exists():
        model.save_pretrained(folder)
    else:
        unfinished = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        model.save_pretrained(unfinished)
        unfinished.rename(folder)
    for path in folder.iterdir():
        _sync(path)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
