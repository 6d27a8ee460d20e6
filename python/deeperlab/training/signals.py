# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and Ctrl-C end a run after the step that is being computed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SAME = 2.0
"""Seconds in which a second signal is the same one: a terminal and torchrun may both hand it on."""


class Aborted(KeyboardInterrupt):
    """A signal has ended what nothing would be lost of."""


class Interruption:
    """Whether somebody has asked the process to end. Asked once more, it ends at once, as it would without this.

    Attributes:
        requested: Whether.
    """

    def __init__(self) -> None:
        self.requested = False
        self._asked = 0.0
        self._may_abort = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # others may not, and get no signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def abort(self, allowed: bool = True) -> Iterator[None]:
        """Let a signal raise `Aborted` in here, also one that came before: nothing would be lost."""
        if allowed and self.requested:
            raise Aborted
        self._may_abort = allowed
        try:
            yield
        finally:
            self._may_abort = False

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and now - self._asked > SAME:
            self.__exit__()
            os.kill(os.getpid(), number)
        if not self.requested:
            self.requested, self._asked = True, now
            if self._may_abort:
                raise Aborted
