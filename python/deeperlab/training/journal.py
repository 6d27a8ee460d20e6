# SPDX-License-Identifier: Apache-2.0
"""What a run writes down of its steps: means over those since the last line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .events import Event, Kind, Progress
from .run_folder import RunFolder

NOTHING_TO_VALIDATE = (
    "nothing to validate on: there will be no best/, only last/; data.fold = 1/5 validates on a fifth of the images"
)


class Journal:
    """Lines of the metrics, to the folder, to trackers and to the caller; by the first process alone.

    Attributes:
        window: Sums over the steps since the last line.
    """

    def __init__(self, folder: RunFolder, accelerator: Any, progress: Progress | None, batch: int) -> None:
        self._folder, self._accelerator, self._progress, self._batch = folder, accelerator, progress, batch
        self.window: dict[str, float] = {}

    def count(self, values: Mapping[str, float], *, waited: float, seconds: float) -> None:
        """Add a step, which took so many seconds, and waited for its samples in some of them."""
        for name, value in {**values, "waited": waited, "seconds": seconds, "steps": 1}.items():
            self.window[name] = self.window.get(name, 0.0) + value

    def line(self, step: int) -> dict[str, Any]:
        """Make a line of the means, and begin anew."""
        line = self._means(step)
        self.window = {}
        return line

    def log(self, kind: Kind, line: Mapping[str, Any]) -> None:
        """Write down a line."""
        if self._accelerator.is_main_process:
            self._folder.append(line)
        numbers = {name: value for name, value in line.items() if isinstance(value, (int, float)) and name != "step"}
        self._accelerator.log(numbers, line["step"])
        self.tell(kind, line["step"], values=line)

    def tell(self, kind: Kind, step: int, text: str = "", values: Mapping[str, Any] | None = None) -> None:
        """Tell the caller."""
        self._tell(Event(kind, step, text, values or {}))

    def follow_step(self, step: int) -> None:
        """Tell the caller that a step is done, with the means so far."""
        self._tell(Event("progress", step, values=self._means(step)))

    def follow(self, step: int, text: str) -> Callable[[int, int], None]:
        """Tell the caller what goes on between steps; return what tells how much of it is done."""
        self._tell(Event("progress", step, text))
        return lambda done, of: self._tell(Event("progress", step, text, done=done, of=of))

    def _tell(self, event: Event) -> None:
        if self._progress is not None and self._accelerator.is_main_process:
            self._progress(event)

    def _means(self, step: int) -> dict[str, Any]:
        """Means since the last line."""
        window = dict(self.window)
        steps, seconds, waited = (window.pop(name) for name in ("steps", "seconds", "waited"))
        means = {name: total / steps for name, total in window.items()}
        speed = {"images_per_second": self._batch * steps / seconds, "data_share": waited / seconds}
        return {"step": step, **means, **speed}
