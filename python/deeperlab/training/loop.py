# SPDX-License-Identifier: Apache-2.0
"""The loop of the training: it can be read as the recipe.

A run is a pure function of its options, whatever interrupts it. Samples and dropout depend on the seed, the step and
the place in the batch alone, so that the state on disk needs no more of them than the number of the step. Every term
of the loss is a sum over its count in the whole step: neither accumulated parts nor several processes change it.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import torch

from ..data.files import FormatError
from . import ema
from .batches import Batch
from .checkpoint import load_state, save_model, save_state
from .config import Config
from .config_file import to_toml
from .events import Ending, Progress, Run
from .faults import DivergedError, keep_fault, replay
from .index import packed
from .journal import NOTHING_TO_VALIDATE, Journal
from .loader import batches
from .memory import lost_workers_explained, memory_explained
from .network import create_network, load_initial_weights, prepare
from .optimizers import create_optimizer, learning_rate, restore_optimizer, set_learning_rate
from .overfit import first_samples
from .page import write_page
from .processes import create_accelerator, determinism, end_trackers, gather, settled, share_buffers, start_trackers
from .report import report
from .run_folder import RunFolder
from .signals import Aborted, Interruption
from .slots import Skips
from .sources import open_sources
from .step import Step, seed_part, terms_of
from .validation import Validator


def train(
    config: Config,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: Progress | None = None,
    until: int | None = None,
) -> Run:
    """Train a network, as torchrun's processes or alone.

    SIGTERM and SIGINT (Ctrl-C) end the run after the step that is being computed, with its state saved.

    Args:
        config: all options.
        out: folder of the run, on a file system that all processes see.
        resume: go on from the state in `out`; on the same device, with as many threads, to the same bits; with CUDA
            only under `config.train.deterministic`.
        progress: called on the first process with what happens.
        until: end after so many steps, as if interrupted; None: go on to `config.train.steps`.

    Raises:
        FileExistsError: `out` holds a run already, and `resume` is false.
        FileNotFoundError: `resume`, and `out` holds no run.
        BlockingIOError: another process trains in `out`.
        DivergedError: the loss or the gradient is not finite.
        OutOfMemoryError: with the peak, and what would need less.
        ValueError, FormatError, OSError, ImportError: options, data or weights that cannot be trained on.
    """
    with (
        closing(RunFolder(out)) as folder,
        Interruption() as interruption,
        torch.random.fork_rng(),
        determinism(config.train.deterministic),
    ):
        return Loop(settled(config), folder, interruption, progress, resume=resume).run(until)


class Loop:
    """One run in this process.

    Attributes:
        step: Steps that are done.
        network: What is trained; `forward` is it with all that is wrapped around.
        average: The moving average of its weights, which is validated and saved.
        best, best_step, stale: The best PQ or mIoU, after how many steps, and how many validations ago.
        outstanding: The line of a step whose validation is still to come.
    """

    def __init__(
        self, config: Config, folder: RunFolder, interruption: Interruption, progress: Progress | None, *, resume: bool
    ) -> None:
        folder.require_run() if resume else folder.require_new()
        self.config, self.folder, self.interruption = config, folder, interruption
        self.step, self.best, self.best_step, self.stale, self.started = 0, math.nan, 0, 0, time.monotonic()
        self.outstanding: dict[str, Any] | None = None
        settings = config.train
        self.accelerator = accelerator = create_accelerator(config, folder)
        self.rank, self.world, self.device = accelerator.process_index, accelerator.num_processes, accelerator.device
        self.journal = Journal(folder, accelerator, progress, settings.batch)
        self.journal.follow(0, "reads what the data are")
        self.sources = first_samples(packed(open_sources(config.data)), config.data.overfit)
        self.labels, self.skips = self.sources.labels, Skips(config.data.max_broken)
        folder.require_classes(self.labels)
        if self.rank == 0 and resume:
            folder.claim(resume=True)
        state = load_state(folder.state) if resume and folder.state.exists() else None
        if resume and state is None:
            self.journal.tell("note", 0, "the run was stopped before its first state: it begins anew")

        torch.manual_seed(settings.seed)
        self.network = create_network(config, self.labels, self.sources.train[0].samples)
        if config.model.weights and state is None:
            fresh = load_initial_weights(self.network, config.model.weights, self.labels)
            self.journal.tell("note", 0, f"weights of {config.model.weights}; random: {', '.join(fresh) or 'none'}")
        layout = torch.channels_last if settings.channels_last else torch.preserve_format
        self.network.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.network = prepare(self.network, settings, self.world)
        self.optimizer = accelerator.prepare(create_optimizer(self.network, settings))
        self.forward = accelerator.prepare(self.network)
        self.recipe = Step(config, self.labels, self.device)
        self.validator: Validator | None = None
        if self.sources.val is not None:
            numbers = {"stride": self.network.stride, "rank": self.rank, "world": self.world}
            self.validator = Validator(self.sources.val.samples, self.labels, config, self.network.graph, **numbers)
        if state is not None:
            self.restore(state)
        first = self.step + (self.outstanding is None)  # step of the next line of the metrics
        if self.rank == 0:
            folder.claim(resume=resume)
            folder.create(to_toml(config))
            folder.forget_from(first)
        start_trackers(accelerator, config, folder, first)

    # --- the recipe ---------------------------------------------------------------------------------------------------

    def run(self, until: int | None) -> Run:
        """Train until the steps are done, or something ends the run."""
        try:
            with self.interruption.abort(self.world == 1), self.folder.undone_by_faults():
                self.begin()
            if self.outstanding is not None:  # an interrupted run still owes it
                self.validate()
                self.save()
            with self.batches() as stream:
                ended = self.follow(stream, until)
        except Aborted:
            ended = "interrupted"
        end_trackers(self.accelerator)
        if self.rank == 0:
            write_page(self.folder.path)
        return Run(self.folder.path, self.step, self.best, ended, self.validator.merit if self.validator else None)

    @contextmanager
    def batches(self) -> Iterator[Iterator[tuple[int, list[Batch]]]]:
        """Make the batches of this process, from the next step on, by workers that end with the context."""
        stream = batches(
            self.sources, self.config, graph=self.network.graph, start=self.step, rank=self.rank, world=self.world,
            skip=self.skips, mean=self.network.mean,
        )  # fmt: skip
        with closing(stream), lost_workers_explained(self.config.data.workers):
            yield stream

    def begin(self) -> None:
        """Say what the data are, and whether the truth itself passes the validation, before the first step."""
        if self.step == 0 and self.outstanding is None:
            if self.rank == 0:
                found = report(self.sources, self.config, progress=self.journal.follow(0, "looks at the data"))
                self.folder.write_data(found.to_dict())
                self.journal.tell("note", 0, str(found))
            if self.validator is not None:
                self.journal.tell("note", 0, f"ceiling: {self.validator.merit.name} {100 * self.measure_ceiling():.1f}")
            else:
                self.journal.tell("note", 0, NOTHING_TO_VALIDATE)
        elif self.step < self.config.train.steps:
            self.journal.tell("note", self.step, f"goes on after step {self.step} of {self.config.train.steps}")

    def measure_ceiling(self) -> float:
        """Measure what the truth itself reaches, once in a process."""
        assert self.validator is not None
        return self.validator.ceiling(gather=gather, progress=self.journal.follow(self.step, "ceiling")).figure

    def follow(self, stream: Iterator[tuple[int, list[Batch]]], until: int | None) -> Ending:
        """Take the steps, and after each log, validate and save what is due."""
        settings, every = self.config.train, self.config.validate.every
        ended = self.ending(until)
        while ended is None:
            asked = time.monotonic()
            _, parts = next(stream)
            waited = time.monotonic() - asked
            with memory_explained(self.config, self.device, self.step, self.world):
                values = self.optimize(parts)
            self.journal.count(values, waited=waited, seconds=time.monotonic() - asked)
            self.step += 1
            self.journal.follow_step(self.step)
            ended = self.ending(until)
            is_due = self.step == settings.steps or (every > 0 and self.step % every == 0)
            if is_due and self.validator is not None:
                self.outstanding = self.journal.line(self.step)
            elif is_due or self.step % settings.log_every == 0:
                self.journal.log("step", self.journal.line(self.step))
            if self.outstanding is not None and ended in (None, "done"):
                self.save()  # first: a validation takes long
                self.validate()
                ended = ended or self.ending(until)
            if ended is not None or self.step % settings.save_every == 0:
                self.save()
        return ended

    def optimize(self, batches: list[Batch]) -> dict[str, float]:
        """Take one step; return its loss with the terms of all heads, learning rate, and norm of the gradient."""
        settings, names = self.config.train, terms_of(self.network)
        rate = learning_rate(self.step, settings)
        set_learning_rate(self.optimizer, rate)
        parts = [self.recipe.prepare(batch, self.network) for batch in batches]
        counts = self.accelerator.reduce(self.recipe.counts(parts))
        sums = torch.zeros(len(names), device=self.device)
        for m, part in enumerate(parts):
            seed_part(settings.seed, self.step, m * self.world + self.rank)
            with nullcontext() if part is parts[-1] else self.accelerator.no_sync(self.forward):
                loss, terms = self.recipe.loss(self.forward, self.network, part, counts, self.step)
                self.accelerator.backward(loss * self.world)  # of the processes' gradients the mean is taken
            sums += torch.stack([terms[name] for name in names])
        norm = float(self.accelerator.clip_grad_norm_(self.network.parameters(), settings.clip_grad or math.inf))
        values = dict(zip(names, self.accelerator.reduce(sums).tolist(), strict=True))
        total = self.recipe.total(values)
        scaler = self.accelerator.scaler  # float16's, which leaves out steps until its scale fits
        if not math.isfinite(total) or not (math.isfinite(norm) or (scaler is not None and scaler.get_scale() > 1)):
            raise self.diverged(batches, counts, sums)
        self.optimizer.step()
        self.optimizer.zero_grad()
        ema.update(self.average, self.network, ema.decay_at(self.step, settings.ema) if settings.ema else 0.0)
        return {"loss": total, **values, "lr": rate, "grad_norm": norm}

    def validate(self) -> None:
        """Validate the average for the line of the metrics that waits for it, and keep it where it is the best."""
        assert self.outstanding is not None
        assert self.validator is not None
        config, is_last = self.config.validate, self.step == self.config.train.steps
        share_buffers(self.average)
        with self.interruption.abort(self.world == 1):
            self.measure_ceiling()  # a resumed run has not yet
            found = self.validator.validate(
                self.average,
                heads=config.heads == "always" or (config.heads == "end" and is_last),
                pictures=self.folder.pictures / str(self.step) if self.rank == 0 and config.pictures else None,
                gather=gather,
                progress=self.journal.follow(self.step, "validation"),
            ).to_dict()
        figure, self.stale = found[self.validator.merit.key], self.stale + 1
        if figure is not None and not figure <= self.best:
            self.best, self.best_step, self.stale = figure, self.step, 0
            if self.rank == 0:
                save_model(self.folder.best, self.average, self.labels)
        self.journal.log("validation", self.outstanding | found)
        self.outstanding = None

    def ending(self, until: int | None) -> Ending | None:
        """Say why the run is to end now, if it is; all processes say the same."""
        settings = self.config.train
        is_late = 0 < settings.max_hours < (time.monotonic() - self.started) / 3600
        asked = torch.tensor([self.interruption.requested, is_late], device=self.device).int()
        interrupted, late = self.accelerator.reduce(asked).tolist()
        if self.step >= settings.steps and not interrupted:
            return "done"
        if interrupted or (until is not None and self.step >= until):
            return "interrupted"
        if settings.patience and self.stale >= settings.patience:
            return "patience"
        return "max_hours" if late else None

    # --- what is kept -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the network, then the state: a run that is killed between them comes here again."""
        if self.skips.share(gather(self.skips.faults)):
            self.journal.tell("note", self.step, str(self.skips))
        if self.rank == 0:
            save_model(self.folder.last, self.average, self.labels)
            save_state(self.folder.state, self.state())
            self.folder.write_table()
        self.accelerator.wait_for_everyone()
        self.journal.tell("saved", self.step)

    def state(self) -> dict[str, Any]:
        """Return all that the run goes on from."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "weights": self.config.model.weights,
            "images": " + ".join(str(len(source.samples)) for source in self.sources.train),
            "best": (self.best, self.best_step, self.stale),
            "outstanding": self.outstanding,
            "window": self.journal.window,
            "skips": self.skips.faults,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: fewer steps are wanted than it has, or other weights to begin with.
            FormatError: it is that of another network or optimizer.
        """
        if self.config.train.steps < state["step"]:
            raise ValueError(
                f"train.steps: expected at least {state['step']}, which are done, got {self.config.train.steps}"
            )
        now = self.state()
        if state.get("weights", now["weights"]) != now["weights"]:
            raise ValueError(f"model.weights: expected {state['weights']!r}, as at the start, got {now['weights']!r}")
        self.step = state["step"]
        if told := self.folder.changed(self.config):
            self.journal.tell("note", self.step, told)
        self.outstanding = state["outstanding"] if self.validator is not None else None
        if state.get("images", now["images"]) != now["images"]:
            text = f"saved with {state['images']} images, now there are {now['images']}: samples differ from here on"
            self.journal.tell("note", self.step, text)
        self.best, self.best_step, self.stale = state["best"]
        self.journal.window = state["window"]
        self.skips.share([state["skips"]])
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            restore_optimizer(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError) as fault:
            raise FormatError(self.folder.state, self.folder.of_others(self.config, fault)) from fault
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def diverged(self, batches: list[Batch], counts: torch.Tensor, sums: torch.Tensor) -> DivergedError:
        """Keep the step on the first process whose own loss is not finite, and find out where that began."""
        are_finite = gather(bool(torch.isfinite(sums).all()))
        culprit = are_finite.index(False) if False in are_finite else 0
        fault = None
        if self.rank == culprit:
            numbered = [(m * self.world + self.rank, batch) for m, batch in enumerate(batches)]
            keep_fault(self.folder, self.network, self.labels, numbered, counts, self.step)
            fault = replay(self.folder.path)
        return DivergedError(gather(fault)[culprit], self.step, self.folder.fault, self.config.train)
