# SPDX-License-Identifier: Apache-2.0
"""A run that leaves nothing behind: what is tried on it is what would be trained."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import torch

from .batches import Batch
from .config import Config
from .events import Progress
from .faults import DivergedError
from .loop import Loop
from .processes import determinism, settled
from .run_folder import RunFolder
from .signals import Interruption


@contextmanager
def trial(config: Config, progress: Progress | None = None) -> Iterator[Loop]:
    """Make a run in a folder that goes when it ends, with what is kept of a failed step; Ctrl-C ends it at once.

    Raises:
        As `deeperlab.training.train` before its first step.
    """
    config = settled(replace(config, train=replace(config.train, trackers=())))
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="deeperlab-trial-") as folder,
        closing(RunFolder(folder)) as run,
        torch.random.fork_rng(),
        determinism(config.train.deterministic),
    ):
        warnings.filterwarnings("ignore", "model: .*batch norms")  # after a few steps they cannot be otherwise
        try:
            yield Loop(config, run, Interruption(), progress, resume=False)
        except DivergedError as fault:
            raise DivergedError(fault.fault, fault.step, None, fault.train) from fault


@contextmanager
def samples(loop: Loop) -> Iterator[Iterator[list[Batch]]]:
    """Make the batches of its steps, as the loop would."""
    with loop.batches() as stream:
        yield (parts for _, parts in stream)
