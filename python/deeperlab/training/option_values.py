# SPDX-License-Identifier: Apache-2.0
"""Values of TOML as the types of `Config` have them, and back."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

NOUNS: dict[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def convert(hint: Any, value: Any) -> Any:
    """Return a value of TOML as its option's type: lists become tuples, integers floats where a float is asked for.

    Args:
        hint: bool, int, float, str, a Literal, a tuple of one of them, a union, or Any.
        value: as a reader of TOML gives it.

    Raises:
        ValueError: it is of another type.
    """
    kind = get_origin(hint)
    if hint is Any:
        return _frozen(value)
    if kind is Literal:
        if value not in get_args(hint):
            _refuse(" or ".join(map(repr, get_args(hint))), value)
        return value
    if kind in (types.UnionType, Union):
        for choice in get_args(hint):
            try:
                return convert(choice, value)
            except ValueError:
                continue
        _refuse(_noun(hint), value)
    if kind is tuple:
        kinds = get_args(hint)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not ... and len(value) != len(kinds)):
            _refuse(_noun(hint), value)
        try:
            return tuple(convert(kinds[0], entry) for entry in value)
        except ValueError:
            _refuse(_noun(hint), value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            _refuse("a number", value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        _refuse(_noun(hint), value)
    return value


def plain(option: str, value: Any) -> Any:
    """Return a value as TOML has a word for it.

    Raises:
        ValueError: it has none, as for None.
    """
    if hasattr(value, "to_config"):  # a graph
        value = value.to_config()
    if isinstance(value, (list, tuple)):
        return [plain(option, entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): plain(option, entry) for key, entry in value.items()}
    if not isinstance(value, (bool, int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{option}: expected what TOML has a word for, got {value!r}")
    return value


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return {key: _frozen(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


def _noun(hint: Any) -> str:
    """Name a type as somebody who writes TOML would."""
    if get_origin(hint) in (types.UnionType, Union):
        return " or ".join(map(_noun, get_args(hint)))
    if get_origin(hint) is tuple:
        kind, last = get_args(hint)[0], get_args(hint)[-1]
        plural = NOUNS[kind].partition(" ")[2] + "s"
        return f"a list of {'' if last is ... else f'{len(get_args(hint))} '}{plural}"
    return NOUNS[hint]


def _refuse(expected: str, value: Any) -> NoReturn:
    raise ValueError(f"expected {expected}, got {value!r}")
