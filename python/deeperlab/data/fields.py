# SPDX-License-Identifier: Apache-2.0
"""Reading JSON that someone else wrote: every fault names the file and the spot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .png import FormatError

_REQUIRED = object()
_NOUN = {int: "an integer", float: "a number", str: "a string", list: "a list", dict: "an object", type(None): "null"}


@dataclass(frozen=True)
class Field:
    """A value of a JSON file and where it stands, e.g. `annotations[3]`."""

    path: Path
    spot: str
    value: Any

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Field:
        """The whole file.

        Raises:
            FormatError: not JSON, or not UTF-8.
            OSError: it cannot be read.
        """
        data = Path(path).read_bytes()
        try:
            return cls(Path(path), "", json.loads(data))
        except RecursionError as fault:
            raise FormatError(path, "not JSON: nested too deeply") from fault
        except ValueError as fault:
            raise FormatError(path, f"not JSON: {fault}") from fault

    def fault(self, text: str) -> FormatError:
        """The error that says `text` of this spot."""
        return FormatError(self.path, f"{self.spot}: {text}" if self.spot else text)

    def get(self, key: str, *kinds: type, default: Any = _REQUIRED) -> Any:
        """The value of a key, of one of the types wanted (a bool is no int); absent and null give the default."""
        if not isinstance(self.value, Mapping):
            raise self.fault(f"expected an object, got {_NOUN.get(type(self.value), 'a bool')}")
        value = self.value.get(key)
        if value is None and default is not _REQUIRED:
            return default
        if key not in self.value:
            raise self.fault(f"no key {key!r}")
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(_NOUN[kind] for kind in kinds)
            raise self.fault(f"{key}: expected {wanted}, got {_NOUN.get(type(value), 'a bool')}")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise self.fault(f"{key}: expected valid Unicode, got {value!r}")
        return value

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """A truth value, written as 0, 1, false or true."""
        if isinstance(self.value, Mapping) and isinstance(self.value.get(key), bool):
            return bool(self.value[key])
        value = self.get(key, int, default=default)
        if value not in (0, 1):
            raise self.fault(f"{key}: expected 0 or 1, got {value}")
        return bool(value)

    def each(self, key: str) -> list[Field]:
        """The entries of the list under `key`."""
        prefix = f"{self.spot}.{key}" if self.spot else key
        return [Field(self.path, f"{prefix}[{i}]", item) for i, item in enumerate(self.get(key, list))]

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Add to a table of distinct ids."""
        if key in table:
            raise self.fault(f"id {key!r} is there twice")
        table[key] = value
