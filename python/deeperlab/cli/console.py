# SPDX-License-Identifier: Apache-2.0
"""How all commands speak: tables, progress, numbers, and faults in one line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.box
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from .._memory import is_out_of_memory
from ..data.files import message_of
from .streams import complain

UNBROKEN = 1000
"""Columns of what is no terminal; tables are as wide as what they hold."""
ROWS = 40
"""Rows of a table that may be as long as the data set; --json has them all."""


def print_rest(console: Console, count: int, what: str) -> None:
    """Say what a table of `ROWS` rows left out."""
    if count > ROWS:
        console.print(f"{count} {what}; --json has them all")


def new_console() -> Console:
    """Make a console that prints names from files as they are, not as markup, and breaks no line in a file or pipe."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBROKEN
    return console


def new_table(*columns: str) -> Table:
    """Make a table; columns whose name begins with * hold numbers, and stay whole where the window is narrow."""
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column.startswith("*")
        table.add_column(column.lstrip("*"), justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def progress_bar(*more: ProgressColumn) -> Progress:
    """Make a progress bar on stderr, shown only on a terminal; `more` columns follow the usual ones."""
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more)
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def size_of(text: str) -> tuple[int, int]:
    """Parse (H, W) from HEIGHTxWIDTH, or from one side."""
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise typer.BadParameter(f"expected a side in pixels or HEIGHTxWIDTH, got {text!r}") from None


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write "1 image", "2 images"; `many` is the plural that an s does not make."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def percent(value: float | None) -> str:
    """Write a fraction as per cent; undefined is a dash."""
    return "–" if value is None else f"{100 * value:.2f}"


@contextmanager
def warnings_in_lines(path: Path | None = None) -> Iterator[None]:
    """Tell each warning of ours in one line, once, with the file's name if given; others are for programmers."""
    said = set[str]()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        text = str(message) if path is None else f"{path}: {message}"
        if text not in said:
            said.add(text)
            complain(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"deeperlab\.")
        warnings.showwarning = tell
        yield


@contextmanager
def one_line(*kinds: type[Exception], smaller: str = "input", code: int = 2) -> Iterator[None]:
    """Turn faults of the input, and memory that does not suffice, into an exit code and one line that names the fault
    (one for each of several files).

    Args:
        kinds: of faults of the input; those that name a file are told with it.
        smaller: what would need less memory, such as "--size".
        code: the exit code.
    """
    try:
        yield
    except Exception as fault:
        if is_out_of_memory(fault):
            complain(f"out of memory; use a smaller {smaller} ({' '.join(str(fault).split()) or 'no more was given'})")
        elif not isinstance(fault, kinds):
            raise
        else:
            faults = getattr(fault, "faults", (fault,))  # of several files
            for each in faults[:ROWS]:
                complain(message_of(each))
            if len(faults) > ROWS:
                complain(f"{len(faults)} faults in all")
        raise typer.Exit(code) from None
