# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .merit import Merit, merit_of_line

Kind = Literal["note", "step", "validation", "saved", "progress"]
Ending = Literal["done", "interrupted", "patience", "max_hours"]
UNFINISHED = ("interrupted", "max_hours")
"""Of these: what was stopped, and goes on when it is resumed."""


@dataclass(frozen=True)
class Event:
    """One thing that has happened.

    Attributes:
        kind: A remark; a line of metrics.jsonl, of steps or of steps and a validation; a state on disk; progress, which
            comes often: after every step, and after every image of what takes long between steps.
        step: Steps that are done.
        text: Of a remark; of progress: what goes on, empty for the steps themselves.
        values: Of a line; after a step what a line would hold now.
        done: How many images of what goes on, and
        of: of how many; 0: nobody knows.
    """

    kind: Kind
    step: int
    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    done: int = 0
    of: int = 0

    @property
    def merit(self) -> Merit:
        """What the network is judged by, of a validation."""
        return merit_of_line(self.values)


Progress = Callable[[Event], None]


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        folder: Where it lies; `last/` and, where it was validated, `best/` in it are networks.
        step: Steps that are done.
        best: The best PQ or mIoU, NaN where nothing was validated.
        ended: Why: all steps are `done`; `interrupted` by a signal, or by `until`; for want of `patience`; after
            `max_hours`. All can be resumed; a run that is done wants more steps, one out of patience more of it.
        merit: What `best` is; None where there is nothing to validate on.
    """

    folder: Path
    step: int
    best: float
    ended: Ending
    merit: Merit | None = None
