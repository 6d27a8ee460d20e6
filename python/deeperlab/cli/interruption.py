# SPDX-License-Identifier: Apache-2.0
"""How a command ends that computes for hours: by SIGTERM as by Ctrl-C, at once, and as one of several processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import typer

GRACE = 5.0
"""Seconds in which torchrun ends all processes after the first that failed."""


@contextmanager
def after_the_first(waits: bool) -> Iterator[None]:
    """Let one of torchrun's processes tell a fault that all have: the others wait, and are ended before they tell it.

    What one of the others alone has met, it tells then.
    """
    try:
        yield
    except typer.Exit:
        raise
    except Exception:
        if waits:
            time.sleep(GRACE)
        raise


@contextmanager
def terminable() -> Iterator[None]:
    """Obey SIGTERM, as a batch system sends it, like Ctrl-C; its exit code goes along."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def at_once(is_busy: Callable[[], bool]) -> Iterator[None]:
    """End the process with a command that fails while the network computes: it cannot be interrupted, nor write."""
    try:
        yield
    except typer.Exit as end:
        if is_busy():
            with suppress(AttributeError, OSError):  # closed by the shell
                sys.stdout.flush()
            os._exit(end.exit_code)
        raise
