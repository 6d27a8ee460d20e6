# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""Batches of samples, made by worker processes: the same bits whatever their number and wherever a run begins."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._layout import require_torch

require_torch("deeperlab.training.loader")

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..graph import Graph
from .batches import Batch
from .config import Config
from .index import packed
from .slots import GRAY, Faults, SampleError, Skips, Slots
from .sources import Sources
from .transform import Example

AHEAD = 2
"""Parts of a step that every worker makes ahead."""
BYTES = 12
"""Of a pixel of a sample: three colors, class, instance, and a flag."""
SHARED = Path("/dev/shm")
"""Where workers leave what they made."""


def batches(
    sources: Sources,
    config: Config,
    *,
    graph: Graph,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    skip: Skips | None = None,
    mean: Sequence[float] = GRAY,
    context: str | None = None,
) -> Generator[tuple[int, list[Batch]], None, None]:
    """Yield every step from `start` to `config.train.steps`, with the `accumulate` parts of it that are this process's.

    A step's samples are cut into world · accumulate equal parts; part m · world + r is the m-th of process r. So a
    process that accumulates two parts computes on those of two processes. Workers end with the iterator, which
    `close` ends before its time.

    Args:
        sources, config, graph, mean: as of `Slots`; the seed is `config.train.seed`.
        start: the first step.
        rank, world: number of this process, and of all.
        skip: counts the images that cannot be read; None: a new count of at most `config.data.max_broken`.
        context: how workers are started: fork, spawn or forkserver; None: as Python does.

    Raises:
        ValueError: the samples of a step cannot be cut so, or as of `Plan`.
        FaultyFilesError: more images than `skip` allows cannot be read; all are named.
        SampleError: a sample could not be made for another reason; the image is named.
        OSError: there is no room for what workers make.
    """
    parts = config.train.accumulate * world
    slots, rest = divmod(config.train.batch, parts)
    if rest or not slots:
        raise ValueError(
            f"train.batch: expected a multiple of {parts}, which is accumulate × processes, got {config.train.batch}"
        )
    workers, crop = config.data.workers, config.data.crop
    if workers:
        height, width = (crop, crop) if isinstance(crop, int) else crop
        _require_room(workers, workers * AHEAD * slots * height * width * BYTES)
    loader = DataLoader(
        _Parts(Slots(packed(sources), config, graph, mean, config.train.seed), slots),
        batch_size=None,  # an item is a part of a step
        sampler=_Keys(start, config.train.steps, rank, world, config.train.accumulate),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=_same,
        worker_init_fn=_begin,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=context if workers else None,
        generator=torch.Generator(),  # or it would draw from torch's, which decides on dropout
    )
    return _steps(loader, config.train.accumulate, Skips(config.data.max_broken) if skip is None else skip)


def _steps(loader: DataLoader[_Part], accumulate: int, skip: Skips) -> Generator[tuple[int, list[Batch]], None, None]:
    with _deaf():
        made = iter(loader)  # starts the workers
    try:
        found: list[Batch] = []
        for part in made:
            skip.add(part.faults)
            if part.batch is None:
                raise SampleError(part.error, part.faults) from (RuntimeError(part.details) if part.details else None)
            found.append(part.batch)
            if len(found) == accumulate:
                yield part.step, found
                found = []
    finally:
        del made  # ends the workers, which whoever keeps the traceback would keep too


@dataclass(frozen=True)
class _Keys:
    """The parts of a process in order: (step, part)."""

    start: int
    stop: int
    rank: int
    world: int
    accumulate: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for step in range(self.start, self.stop):
            for m in range(self.accumulate):
                yield step, m * self.world + self.rank


@dataclass(frozen=True, eq=False)
class _Part:
    """What a worker sends: a part of a step, or why there is none."""

    step: int
    batch: Batch | None
    faults: Faults
    error: str = ""
    details: str = ""

    def pin_memory(self) -> _Part:
        """Move it to memory that a GPU copies from; the loader calls this."""
        return self if self.batch is None else replace(self, batch=self.batch.map(torch.Tensor.pin_memory))


class _Parts(Dataset[_Part]):
    """Parts of steps, `count` slots each."""

    def __init__(self, slots: Slots, count: int) -> None:
        self._slots, self._count = slots, count

    def __getitem__(self, key: tuple[int, int]) -> _Part:
        """Make part `key[1]` of step `key[0]`."""
        step, part = key
        examples: list[Example] = []
        faults: Faults = ()
        try:
            for slot in range(part * self._count, (part + 1) * self._count):
                example, skipped = self._slots.sample(step, slot)
                examples.append(example)
                faults += skipped
        except SampleError as fault:  # as a value: torch would make a page of it
            details = traceback.format_exc() if fault.__cause__ else ""
            return _Part(step, None, faults + fault.faults, str(fault), details)
        return _Part(step, _collate(examples), faults)


def _collate(examples: Sequence[Example]) -> Batch:
    """Stack samples; images lie in memory as channels_last networks want them."""

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(example, name) for example in examples]))

    ids, points = _padded(examples)
    return Batch(
        images=stack("image").permute(0, 3, 1, 2),
        category=stack("category"),
        instance=stack("instance"),
        ignore=stack("ignore"),
        point_ids=ids,
        points=points,
        names=tuple(example.name for example in examples),
    )


def _padded(examples: Sequence[Example]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Stack the keypoints of samples, padded by zeros to the most instances of them."""
    pairs = [(e.point_ids, e.points) for e in examples if e.point_ids is not None and e.points is not None]
    if not pairs:
        return None, None
    most = max(len(ids) for ids, _ in pairs)
    all_ids = torch.zeros((len(pairs), most), dtype=torch.int64)
    all_points = torch.zeros((len(pairs), most, *pairs[0][1].shape[1:]), dtype=torch.int64)
    for i, (ids, points) in enumerate(pairs):
        all_ids[i, : len(ids)] = torch.from_numpy(ids)
        all_points[i, : len(ids)] = torch.from_numpy(points)
    return all_ids, all_points


def _same(part: Any) -> Any:
    return part


def _begin(_: int) -> None:
    """Begin a worker."""
    gc.freeze()  # or the collector of garbage would write to all that was forked, which copies it
    threading.Thread(target=_end_if_told, daemon=True).start()


def _end_if_told() -> None:
    """End a worker where the training process says so, which it does when it ends itself."""
    parent = multiprocessing.parent_process()
    while parent and signal.sigwaitinfo((signal.SIGTERM,)).si_pid != parent.pid:
        pass
    os._exit(0)


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C and SIGTERM, which a terminal and SLURM send to all of a group.

    The training process decides what they mean. Workers end when it wants no more samples, ends, or is gone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_room(workers: int, needed: int) -> None:
    """Raise where processes would die of a full /dev/shm, which is small in containers."""
    if not SHARED.is_dir():
        return
    stats = os.statvfs(SHARED)
    free = stats.f_bavail * stats.f_frsize
    if free < needed:
        text = (
            f"data.workers: {workers} need {needed >> 20} MiB for samples, {free >> 20} are free; give the container "
            "more (docker run --shm-size=2g), or set data.workers to 0"
        )
        raise OSError(errno.ENOSPC, text, str(SHARED))
