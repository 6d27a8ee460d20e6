# SPDX-License-Identifier: Apache-2.0
"""Which part of a step takes how much of its time, and what a validation does with an image."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .batches import Batch
from .config import Config
from .events import Progress
from .loop import Loop
from .trial import samples, trial
from .validation import Validator

STEPS, WARM_UP, IMAGES = 10, 2, 4
"""Steps that are timed, after others that are not; images that are validated."""
PARTS = ("data", "targets", "forward", "loss", "backward", "optimizer", "other")


@dataclass(frozen=True)
class Profile:
    """Where the time goes.

    Attributes:
        seconds: Of a step, the mean.
        shares: Of it: waiting for samples; targets and the way to the device; forward; losses; backward; optimizer and
            gradient clipping; all else, such as the average of the weights.
        images_per_second: Of the training.
        validation: Seconds for an image, and the shares of network and fusion; None: nothing to validate on.
    """

    seconds: float
    shares: dict[str, float]
    images_per_second: float
    validation: tuple[float, float, float] | None


def profile(
    config: Config, *, steps: int = STEPS, trace: Path | None = None, progress: Progress | None = None
) -> Profile:
    """Time steps of a run, and a validation.

    Args:
        config: of the run.
        steps: that are timed.
        trace: a file for the trace of torch's profiler, for chrome://tracing or ui.perfetto.dev. It slows the steps.
        progress: as of `deeperlab.training.train`.

    Raises:
        As `deeperlab.training.train`.
    """
    config = replace(config, train=replace(config.train, steps=steps + WARM_UP))
    with trial(config, progress) as loop:
        tell = loop.journal.follow(0, "times steps")
        clock = _Clock(loop.device)
        with samples(loop) as stream, _instrumented(loop, clock):
            for _ in range(WARM_UP):
                _step(loop, stream, clock)
            clock.seconds.clear()
            with torch.profiler.profile() if trace else nullcontext() as profiler:
                begin = clock.now()
                for step in range(steps):
                    _step(loop, stream, clock)
                    tell(step + 1, steps)
                total = clock.now() - begin
        if profiler is not None:
            profiler.export_chrome_trace(str(trace))
        validation = _validation(loop)
    seconds = dict(clock.seconds)
    seconds["loss"] -= seconds["forward"]  # which it calls
    seconds["other"] = total - sum(seconds.values())
    shares = {part: seconds[part] / total for part in PARTS}
    return Profile(total / steps, shares, config.train.batch * steps / total, validation)


def _step(loop: Loop, stream: Iterator[list[Batch]], clock: _Clock) -> None:
    with clock.part("data"):
        parts = next(stream)
    loop.optimize(parts)
    loop.step += 1


def _validation(loop: Loop) -> tuple[float, float, float] | None:
    val = loop.sources.val
    if val is None:
        return None
    config = replace(loop.config, validate=replace(loop.config.validate, images=IMAGES, pictures=0, ceiling=0.0))
    found = Validator(val.samples, loop.labels, config, loop.network.graph, stride=loop.network.stride).validate(
        loop.average, progress=loop.journal.follow(0, "validation")
    )
    return found.seconds / min(IMAGES, len(val.samples)), found.network, found.fusion


class _Clock:
    """Seconds by part; a device that works by itself is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device

    def now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begin = self.now()
        try:
            yield
        finally:
            self.seconds[name] += self.now() - begin

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


class _Timed:
    """Stands for an object of which some methods are timed."""

    def __init__(self, thing: Any, clock: _Clock, parts: dict[str, str]) -> None:
        self._thing = thing
        for method, part in parts.items():
            setattr(self, method, clock.timed(part, getattr(thing, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thing, name)


@contextmanager
def _instrumented(loop: Any, clock: _Clock) -> Iterator[None]:
    """Time the parts of `Loop.optimize`."""
    before = loop.recipe, loop.accelerator, loop.optimizer
    loop.recipe = _Timed(loop.recipe, clock, {"prepare": "targets", "counts": "targets", "loss": "loss"})
    loop.accelerator = _Timed(loop.accelerator, clock, {"backward": "backward", "clip_grad_norm_": "optimizer"})
    loop.optimizer = _Timed(loop.optimizer, clock, {"step": "optimizer", "zero_grad": "optimizer"})
    begun: list[float] = []
    hooks = (
        loop.network.register_forward_pre_hook(lambda *_: begun.append(clock.now())),
        loop.network.register_forward_hook(lambda *_: _add(clock, "forward", clock.now() - begun.pop())),
    )
    try:
        yield
    finally:
        loop.recipe, loop.accelerator, loop.optimizer = before
        for hook in hooks:
            hook.remove()


def _add(clock: _Clock, part: str, seconds: float) -> None:
    clock.seconds[part] += seconds
