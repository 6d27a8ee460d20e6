# SPDX-License-Identifier: Apache-2.0
"""How a run is followed: on a terminal bars that move, elsewhere a line for each line of its metrics.

Where no line has come for `PATIENCE` seconds, a line says what the run is at; a thread writes it, so that it comes
whatever takes long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from .console import percent
from .streams import plain

if TYPE_CHECKING:
    from ..training import Config
    from ..training.events import Event


PATIENCE = 30.0
"""Seconds without a line where there is no terminal."""


class Follower:
    """Prints what a run tells; its `progress`. To be entered, so that bars and thread go when the run ends.

    Args:
        console: where to.
        config: of the run.
        name: before each line, where there are several runs.
    """

    def __init__(self, console: Console, config: Config, name: str = "") -> None:
        self._steps, self._batch, self._name = config.train.steps, config.train.batch, name
        self._console = console
        self._before: tuple[int, float] | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=min(20, console.width // 8)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[told]}", table_column=Column()),  # breaks into lines where the window is narrow
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(name or "steps", total=self._steps, told="")
        self._stage: tuple[str, TaskID] | None = None
        self._quality = ""
        self._doing, self._spoke, self._ended = "begins", time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Follower:
        self._bar.start()
        if self._bar.disable:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._bar.stop()
        if self._bar.disable:
            self._thread.join()

    def __call__(self, event: Event) -> None:
        """Print an event."""
        if event.kind == "note":
            self._line("\n".join(map(plain, event.text.splitlines())))
            return
        if event.kind == "progress" and event.text:
            self._show_stage(event.text, event.done, event.of)
            return
        if self._stage is not None:
            self._bar.remove_task(self._stage[1])
            self._stage = None
        if event.kind == "saved":
            return
        told = self._step(event.values)
        self._doing = f"at step {event.step}/{self._steps}  {told}"
        self._bar.update(
            self._task, completed=event.step, told="  ".join(part for part in (told, self._quality) if part)
        )
        if event.kind == "step" and self._bar.disable:
            self._line(f"step {event.step}/{self._steps}  {told}")
        if event.kind == "validation":
            self._line(f"step {event.step}/{self._steps}  {self._validation(event)}")
            if heads := event.values.get("heads"):
                self._line(describe_heads(heads, event.merit.name))

    def _show_stage(self, text: str, done: int, of: int) -> None:
        """Show what goes on between steps."""
        self._doing = f"{text}: {done} of {of}" if of else text
        if self._stage is None or self._stage[0] != text:
            if self._stage is not None:
                self._bar.remove_task(self._stage[1])
            self._stage = text, self._bar.add_task(text, total=None, told="")
        self._bar.update(self._stage[1], completed=done, total=of or None)

    def _break_silence(self) -> None:
        """Say what the run is at whenever nothing was said for long, until it ends."""
        while not self._ended.wait(max(0.0, self._spoke + PATIENCE - time.monotonic())):
            if time.monotonic() - self._spoke >= PATIENCE:
                self._line(self._doing)

    def _step(self, values: Mapping[str, Any]) -> str:
        parts = []
        if "loss" in values:
            parts += [f"loss {values['loss']:.4g}", f"lr {values['lr']:.2e}"]
        if speed := values.get("images_per_second"):
            parts.append(f"{speed:.3g} images/s")
            if "data_share" in values:
                parts.append(f"waits for data {100 * values['data_share']:.0f} %")
            left = (self._steps - values["step"]) * self._batch / speed
            parts.append(f"ETA {timedelta(seconds=round(left))}")
        return "  ".join(parts)

    def _validation(self, event: Event) -> str:
        merit, values = event.merit, event.values
        figure, share = values.get(merit.key), values.get("ceiling_share")
        notes = [] if share is None else [f"{100 * share:.0f} % of the ceiling"]
        if figure is not None:
            if self._before is not None:
                before, was = self._before
                notes.append(f"{100 * (figure - was):+.2f} since step {before}")
            self._before = event.step, figure
        self._quality = f"{merit.name} {percent(figure)} %{f' ({notes[0]})' if notes else ''}"
        names = {"pq": "PQ", "pq_things": "things", "pq_stuff": "stuff", "pc": "PC", "miou": "mIoU"}
        others = [
            f"{word} {percent(values[name])}" for name, word in names.items() if name in values and name != merit.key
        ]
        told = f"{merit.name} {percent(figure)} %" + (f" ({', '.join(notes)})" if notes else "")
        return "  ".join([told, *others])

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(f"{self._name}: {text}" if self._name else text, soft_wrap=True)


def describe_heads(gained: Mapping[str, float | None], figure: str) -> str:
    """Say which head costs how much of a figure, from `heads` of a validation."""
    points = ", ".join(f"{name} {'–' if value is None else f'{100 * value:+.1f}'}" for name, value in gained.items())
    return f"{figure} gained with the truth in place of a head: {points}"
