# SPDX-License-Identifier: Apache-2.0
"""Output and error stream: what an encoding lacks has a stand-in, and a reader who leaves is no fault."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STAND_INS = {
    "–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "│": "|", "×": "x", "·": ".", "…": "...",
    "→": "->", "≤": "<=", "≥": ">=", "‘": "'", "’": "'", "“": '"', "”": '"', "ß": "ss", "æ": "ae", "ø": "o", "µ": "u",
}  # fmt: skip
"""For letters that have no ASCII letter inside, as é has e; what is not here becomes a question mark."""


@contextmanager
def guarded() -> Iterator[None]:
    """Write to both streams what their encoding can say, and end without a traceback where they cannot be written.

    A reader who leaves early (`| head`) ends the command with exit code 1, another fault of a stream with 2 and a line.
    Files are written before anything is printed, so that both take no result along.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="deeperlab.stand_in")
    code, text = 0, ""
    try:
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # closed by the shell
                    stream.flush()
    except BrokenPipeError:
        code = 1
    except OSError as fault:
        if fault.filename is not None:
            raise
        code, text = 2, f"the output cannot be written: {(fault.strerror or str(fault)).lower()}"
    if code:
        _silence()
        if text:
            complain(text)
        raise SystemExit(code)


def complain(text: str) -> None:
    """Write a line to the error stream if that can be written; control characters are replaced.

    Click's own `echo` would take an ASCII stream for a mistake, and write UTF-8.
    """
    if sys.stderr is not None:  # closed by the shell; print would take the output for it
        with suppress(OSError):
            print(f"deeperlab: {plain(text)}", file=sys.stderr)


def plain(text: object) -> str:
    """Replace the control characters of a text, which a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def _silence() -> None:
    """Let what is left in the output's buffer go nowhere, or the interpreter would complain of it at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stand_in(fault: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded by letters of ASCII."""
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    letters = fault.object[fault.start : fault.end]
    return "".join(STAND_INS.get(c) or _without_marks(c) or "?" for c in letters), fault.end


def _without_marks(letter: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", letter) if c.isascii())


codecs.register_error("deeperlab.stand_in", _stand_in)
