# SPDX-License-Identifier: Apache-2.0
"""Reading JSON or TOML that someone else wrote: every fault names the file and the location."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import reprlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import FormatError, open_file, read_bytes
from .pointers import describe_packed, describe_pointer
from .text import decode_text

_REQUIRED = object()
_NOUN = {
    bool: "a bool",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
MAX_BYTES = 1 << 31
"""Of an annotation file; the largest of COCO, Cityscapes and Vistas have some hundred MB."""
MAX_TOML_BYTES = 1 << 20
TOML_READER = "tomllib" if sys.version_info >= (3, 11) else "tomli"
MAX_DOTS = 100
"""In a line of TOML: the parser takes the square of the parts of a dotted key."""
MAX_LINE_BYTES = 1 << 26


@dataclass(frozen=True)
class Field:
    """A value of a JSON or TOML file and where it stands, e.g. `annotations[3]`."""

    path: Path
    location: str
    value: Any

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Field:
        """Read a whole file: TOML where its name ends so, else JSON.

        Raises:
            FormatError: neither, not UTF-8, or more than `max_bytes` of JSON or `MAX_TOML_BYTES` of TOML.
            OSError: it cannot be read.
        """
        kind = "TOML" if Path(path).suffix.lower() == ".toml" else "JSON"
        data = read_bytes(path, min(max_bytes, MAX_TOML_BYTES) if kind == "TOML" else max_bytes, kind)
        return cls(Path(path), "", _parse(path, data, kind))

    @classmethod
    def lines(cls, path: str | os.PathLike[str]) -> Iterator[Field]:
        """Read a file of a JSON value a line, one after another.

        Raises:
            FormatError: not JSON, not UTF-8, or a line of more than `MAX_LINE_BYTES`.
            OSError: it cannot be read.
        """
        with open_file(path) as file:
            for number in itertools.count(1):
                line = file.readline(MAX_LINE_BYTES + 1)
                if not line:
                    return
                if len(line) > MAX_LINE_BYTES:
                    raise FormatError(path, f"line {number}: too large: the most is {MAX_LINE_BYTES:,} bytes of JSON")
                yield cls(Path(path), f"line {number}", _parse(path, line, "JSON"))

    def fault(self, text: str) -> FormatError:
        """Make the error that says `text` of this place."""
        return FormatError(self.path, f"{self.location}: {text}" if self.location else text)

    def get(self, key: str, *kinds: type, default: Any = _REQUIRED) -> Any:
        """Return the value of a key, of one of the types wanted (a bool is no int); the default if absent or null."""
        if not isinstance(self.value, Mapping):
            raise self.fault(f"expected an object, got {_noun(self.value)}")
        value = self.value.get(key)
        if value is None and default is not _REQUIRED:
            return default
        if key not in self.value:
            raise self.fault(f"no key {key!r}")
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(_NOUN[kind] for kind in kinds)
            raise self.fault(f"{key}: expected {wanted}, got {_noun(value)}")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise self.fault(f"{key}: expected 64 bits, got a number of {value.bit_length()}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.fault(f"{key}: expected a finite number, got {value}")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise self.fault(f"{key}: expected valid Unicode, got {value!r}")
        return value

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """Return a truth value, written as 0, 1, false or true."""
        if isinstance(self.value, Mapping) and isinstance(self.value.get(key), bool):
            return bool(self.value[key])
        if isinstance(self.value, Mapping) and key not in self.value and default is _REQUIRED:
            raise self.fault(f"no key {key!r}: expected 1 or true, or 0 or false")
        value = self.get(key, int, default=default)
        if value not in (0, 1):
            raise self.fault(f"{key}: expected 0 or 1, got {value}")
        return bool(value)

    def color(self, key: str) -> tuple[int, int, int] | None:
        """Return RGB of 0 to 255, or None where there is none."""
        value = self.get(key, list, default=None)
        if value is None:
            return None
        if len(value) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in value):
            raise self.fault(f"{key}: expected three integers of 0 to 255, got {reprlib.repr(value)}")
        return value[0], value[1], value[2]

    def each(self, key: str) -> list[Field]:
        """Return the entries of the list under `key`."""
        prefix = f"{self.location}.{key}" if self.location else key
        return [Field(self.path, f"{prefix}[{i}]", item) for i, item in enumerate(self.get(key, list))]

    def child(self, key: str) -> Field:
        """Return the object under `key`."""
        return Field(self.path, f"{self.location}.{key}" if self.location else key, self.get(key, dict))

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Add to a table of distinct ids."""
        if key in table:
            raise self.fault(f"id {key!r} is there twice")
        table[key] = value


def _noun(value: Any) -> str:
    if isinstance(value, float):
        return f"{value}, a float"
    return _NOUN.get(type(value), type(value).__name__)


def _parse(path: str | os.PathLike[str], data: bytes, kind: str) -> Any:
    try:
        return parse_toml(decode_text(path, data)) if kind == "TOML" else json.loads(data, parse_constant=_refuse)
    except FormatError:
        raise
    except RecursionError as fault:
        raise FormatError(path, f"not {kind}: nested too deeply") from fault
    except ImportError as fault:
        raise FormatError(path, str(fault)) from fault
    except MemoryError as fault:
        raise FormatError(path, f"{kind} too large for the memory") from fault
    except ValueError as fault:
        hint = describe_pointer(Path(path)) or describe_packed(data) or _hint(fault)
        raise FormatError(path, f"not {kind}: {fault}{hint}") from fault


def _hint(fault: ValueError) -> str:
    """Say what a file may be that is no JSON: "; …", or nothing."""
    if not isinstance(fault, json.JSONDecodeError):
        return ""
    text = fault.doc.strip()
    if not text:
        return "; the file is empty"
    if text.startswith("<"):
        return "; it is HTML or XML, perhaps what a server said instead: download it again"
    if fault.pos >= len(fault.doc.rstrip()) or fault.msg.startswith("Unterminated string"):
        return "; it ends too early: if it was cut short, copy or download it again"
    lines = fault.msg == "Extra data" and fault.colno == 1
    return "; a value a line, as JSON Lines have it? one object is needed" if lines else ""


def parse_toml(text: str) -> Any:
    """Parse a TOML document.

    Raises:
        ValueError: it is none, or has a line of more than `MAX_DOTS` dots.
        ImportError: Python 3.10 has no parser of its own, and tomli is not installed.
    """
    if (dots := max((line.count(".") for line in text.splitlines()), default=0)) > MAX_DOTS:
        raise ValueError(f"expected at most {MAX_DOTS} dots in a line, got {dots}")
    try:
        reader = importlib.import_module(TOML_READER)  # by its name, which one of the two Pythons does not know
    except ModuleNotFoundError as fault:
        raise ImportError(f"TOML needs Python 3.11, or {TOML_READER}: pip install 'deeperlab[train]'") from fault
    return reader.loads(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
