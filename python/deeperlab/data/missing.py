# SPDX-License-Identifier: Apache-2.0
"""Maps that are not there under the name that a data set gives them: in another spelling, or something else."""

from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path

from .containers import exists
from .files import inside
from .formats.photo import SUFFIXES


def spellings(name: str) -> list[str]:
    """Return a name and the same with its letters joined to their marks and split from them (NFC, NFD), each once."""
    return list(dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))))


def as_spelled(directory: str | os.PathLike[str], name: str, *, follow_links: bool) -> Path:
    """Return what `inside` does of the spelling of a name that is there; of the name itself where none is."""
    paths = (inside(directory, spelled, follow_links=follow_links) for spelled in spellings(name))
    return next((path for path in paths if exists(path)), Path(directory) / name)


def existing(directory: str | os.PathLike[str], name: str, *, follow_links: bool) -> Path:
    """Return what `inside` does, of a file that has to be there, in either of Unicode's spellings.

    Raises:
        FormatError, OSError: as of `inside`.
        FileNotFoundError: there is none; where it can be told, why.
    """
    path = as_spelled(directory, name, follow_links=follow_links)
    if exists(path):
        return path
    raise FileNotFoundError(errno.ENOENT, f"no such file{_hint(path, name)}", str(path))


def _hint(path: Path, name: str) -> str:
    """Say what is there instead."""
    if "\\" in name:
        return "; is its name of Windows? / goes between folders"
    if not path.stem:
        return " or directory"
    others = (path.with_suffix(suffix) for kind in SUFFIXES for suffix in (kind, kind.upper()))
    found = next((other for other in others if other != path and exists(other)), None)
    if found is None:
        return " or directory"
    if found.suffix.lower() == path.suffix.lower():
        return f", but {found.name}: capital letters make a difference; rename it, or change file_name"
    return f", but {found.name}: is this the folder of the photographs? segment ids are in PNGs"
