# SPDX-License-Identifier: Apache-2.0
"""A learning rate for a network and its data: it rises from step to step until the loss does."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from .config import Config
from .config_file import require
from .events import Progress
from .faults import DivergedError
from .trial import samples, trial

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
MEMORY = 0.9
"""Share of the smoothed loss that is kept from step to step."""
DIVERGED = 2.0
"""Times its least value at which the smoothed loss ends the sweep."""
BELOW = 10.0
"""The suggestion is at least so many times below the rate of the least loss: there the loss is about to rise."""
WINDOW = 5
"""Steps over which the fall of the loss is measured."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    Attributes:
        rates: The learning rate of every step, ascending.
        losses: The loss of every step, smoothed; as many.
        stopped: Why the sweep ended before the highest rate; empty: it did not.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    stopped: str

    @property
    def least(self) -> float:
        """The rate of the least loss."""
        return self.rates[min(range(len(self.losses)), key=self.losses.__getitem__)]

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest; the last one where there are few."""
        falls = [before - after for before, after in zip(self.losses, self.losses[WINDOW:], strict=False)]
        return self.rates[falls.index(max(falls)) + WINDOW // 2] if falls else self.rates[-1]

    @property
    def suggestion(self) -> float | None:
        """A rate for `train.lr`, of one digit; None where the loss never fell by a twentieth."""
        if min(self.losses) > 0.95 * self.losses[0]:
            return None
        return float(f"{min(self.steepest, self.least / BELOW):.0e}")

    def table(self, rows: int = 12) -> list[tuple[float, float]]:
        """Return rates and losses of some steps, spread evenly."""
        count = len(self.rates)
        chosen = sorted({round(i * (count - 1) / max(rows - 1, 1)) for i in range(rows)})
        return [(self.rates[i], self.losses[i]) for i in chosen]

    def png(self) -> bytes:
        """Draw the losses over the rates.

        Raises:
            ImportError: matplotlib is not installed.
        """
        require("matplotlib", "for the picture of --find-lr")
        from matplotlib.figure import Figure

        figure = Figure((8, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss, smoothed")
        axes.grid(alpha=0.3)
        if self.suggestion is not None:
            axes.axvline(self.suggestion, linestyle="--", label=f"suggestion {self.suggestion:g}")
            axes.legend()
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        return file.getvalue()


def find_lr(config: Config, *, steps: int = STEPS, progress: Progress | None = None) -> Sweep:
    """Train with a learning rate that rises exponentially from `LOWEST` to `HIGHEST`, without a warm-up.

    Args:
        config: of the run that the rate is for.
        steps: of the whole sweep.
        progress: as of `deeperlab.training.train`.

    Raises:
        As `deeperlab.training.train`.
    """
    train = replace(config.train, steps=steps, warmup=0, schedule="constant", ema=0.0)
    config = replace(config, train=train, loss=replace(config.loss, top_k_steps=0))
    rates, losses = list[float](), list[float]()
    smoothed, stopped = 0.0, ""
    with trial(config, progress) as loop, samples(loop) as stream:
        tell = loop.journal.follow(0, "learning rates")
        for step, parts in enumerate(stream):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(steps - 1, 1))
            loop.config = replace(config, train=replace(train, lr=rate))
            try:
                loss = loop.optimize(parts)["loss"]
            except DivergedError:
                stopped = f"at {rate:.1e} the loss or its gradient is no longer finite"
                break
            loop.step += 1
            smoothed = MEMORY * smoothed + (1 - MEMORY) * loss
            rates.append(rate)
            losses.append(smoothed / (1 - MEMORY ** (step + 1)))
            tell(step + 1, steps)
            if losses[-1] > DIVERGED * min(losses):
                stopped = f"at {rate:.1e} the loss is {DIVERGED:g} times its least value"
                break
    if not rates:
        raise ArithmeticError(f"--find-lr: the first step already fails: {stopped}; see --check")
    return Sweep(tuple(rates), tuple(losses), stopped)
