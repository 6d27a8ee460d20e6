# SPDX-License-Identifier: Apache-2.0
"""A step for which there is too little memory: how much it took, and what takes less."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .._memory import is_out_of_memory
from .config import Config


class OutOfMemoryError(MemoryError):
    """A step, or what makes its samples, needs more memory than there is."""


@contextmanager
def memory_explained(config: Config, device: torch.device, step: int, processes: int) -> Iterator[None]:
    """Say how much memory a step took where there was too little, and what would need less.

    Raises:
        OutOfMemoryError: torch or Python says that there is none left.
    """
    try:
        yield
        return
    except Exception as fault:
        if not is_out_of_memory(fault):
            raise
    raise OutOfMemoryError(_describe_memory(config, device, step, processes))


@contextmanager
def lost_workers_explained(workers: int) -> Iterator[None]:
    """Say what it mostly means that a worker was killed, which torch tells at any moment.

    Raises:
        OutOfMemoryError: one was.
    """
    try:
        yield
        return
    except RuntimeError as fault:
        if not str(fault).startswith("DataLoader worker"):
            raise
        text = str(fault).strip().rstrip(".")
    raise OutOfMemoryError(f"{text}; systems kill processes when memory is short; try data.workers = {workers // 2}")


def _describe_memory(config: Config, device: torch.device, step: int, processes: int) -> str:
    """Say how much memory a step took, and three ways to need less, of which the first do not change the result."""
    train, data = config.train, config.data
    if device.type == "cuda":
        peak, there = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        used = f"{peak / 2**30:.1f} of {there / 2**30:.1f} GiB on {device}"
    else:
        used = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    images = train.batch // (train.accumulate * processes)
    height, width = (data.crop, data.crop) if isinstance(data.crop, int) else data.crop
    smaller = 16 * (min(height, width) * 3 // 4 // 16) + 1
    remedies = [
        f"train.accumulate = {2 * train.accumulate} (the same step in smaller parts)" if images % 2 == 0 else "",
        "" if train.recompute else "train.recompute = true (the same step, slower)",
        "train.precision = 'bf16'" if train.precision == "fp32" else "",
        f"data.crop = {smaller}",
        "model.name = 'light_wider_mobilenet_v2'",
        f"train.batch = {train.batch // 2}" if images > 1 else "",
    ]
    return (
        f"step {step}: out of memory: peak {used}, for {images} images of {height} × {width} px at once; "
        f"try {', or '.join([remedy for remedy in remedies if remedy][:3])}"
    )
