# SPDX-License-Identifier: Apache-2.0
"""What numbers must be, before any work."""

from __future__ import annotations

import operator
from typing import Any


def integer(name: str, value: Any, *, least: int, why: str = "") -> int:
    """Return an int of at least some value; `why` is told where it is less.

    Raises:
        TypeError, ValueError: it is another.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected at least {least}{why}, got {number}")
    return number
