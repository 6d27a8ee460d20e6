# SPDX-License-Identifier: Apache-2.0
"""The same training with several seeds: how much of a PQ is luck."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from .config import Config
from .config_file import changes, read
from .events import UNFINISHED, Progress, Run
from .loop import train
from .run_folder import RunFolder
from .tables import METRICS, figures_of


def train_seeds(
    config: Config,
    out: str | os.PathLike[str],
    count: int,
    follow: Callable[[Config], AbstractContextManager[Progress]],
) -> list[Run]:
    """Train in `out`/seed0, seed1, …, each where it was saved if it is there already.

    Args:
        config: of the first; the others have the seeds that follow.
        out: folder of all runs.
        count: how many.
        follow: makes what is told of a run's progress.

    Returns:
        The runs that have ended; fewer than `count` where one was interrupted or out of time, which is then the last.

    Raises:
        ValueError: a count below 1, or a folder holds a run with other options.
        Others: as `train`.
    """
    if count < 1:
        raise ValueError(f"--seeds: expected at least 1, got {count}")
    runs: list[Run] = []
    for number in range(count):
        each = replace(config, train=replace(config.train, seed=config.train.seed + number))
        folder = RunFolder(Path(out) / f"seed{number}")
        resume = folder.config.exists()
        if resume and (others := changes(each, read(folder.config))):
            told = ", ".join(others.values())
            raise ValueError(
                f"{folder.path}: expected a run with these options, got one with others: {told}; use another --out"
            )
        with follow(each) as progress:
            runs.append(train(each, folder.path, resume=resume, progress=progress))
        if runs[-1].ended in UNFINISHED:
            break
    return runs


def spread(runs: Sequence[Run]) -> list[tuple[str, float, float]]:
    """Return name, mean and standard deviation (NaN for a single run) of the figures of the last validations."""
    found = [figures_of(run.folder)[1] for run in runs if run.ended not in UNFINISHED]
    spreads = []
    for name in METRICS:
        values = [figures[name] / 100 for figures in found if name in figures]
        if values:
            spreads.append((name, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan))
    return spreads
