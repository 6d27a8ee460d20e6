# SPDX-License-Identifier: Apache-2.0
"""Text that someone else wrote: UTF-8, or what a byte-order mark says, as Windows' editors and PowerShell save it.

And JSON that is written, whose numbers may be NumPy's or torch's.
"""

from __future__ import annotations

import codecs
import json
import os
from typing import Any

from .files import FormatError, read_bytes

_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16-LE", codecs.BOM_UTF16_BE: "UTF-16-BE"}


def read_text(path: str | os.PathLike[str], *, max_bytes: int) -> str:
    """Read a text file without its mark.

    Raises:
        FormatError: more than `max_bytes`, no regular file, or bytes that are no text.
        OSError: it cannot be read.
    """
    return decode_text(path, read_bytes(path, max_bytes, "text"))


def decode_text(path: str | os.PathLike[str], data: bytes) -> str:
    """Decode the bytes of a text file; errors as of `read_text`."""
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "UTF-8")
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as fault:
        hint = "" if mark else "; save it as UTF-8"
        raise FormatError(
            path, f"expected text in {encoding}, got {fault.reason} at byte {fault.start}{hint}"
        ) from fault


def encode_json(value: Any, *, indent: int | None = None) -> bytes:
    """Encode what others wrote into a value, as JSON.

    Raises:
        TypeError: it holds what JSON cannot.
        ValueError: it holds NaN or infinity.
    """
    return json.dumps(value, indent=indent, allow_nan=False, default=_plain_number).encode()


def _plain_number(value: Any) -> Any:
    """Convert a number of NumPy or torch, which JSON does not know, to Python's."""
    if getattr(value, "ndim", None) != 0:
        raise TypeError(f"expected numbers and texts, as JSON has them, got {type(value).__name__} {value!r}")
    return value.item()
