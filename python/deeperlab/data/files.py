# SPDX-License-Identifier: Apache-2.0
"""Files that someone else made, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)
"""Names of the files that `replace` fills; they are left behind only where a process is killed."""


class FormatError(ValueError):
    """A file that is not what it should be: `path: fault`, in one line."""

    def __init__(self, path: str | os.PathLike[str], fault: str) -> None:
        super().__init__(f"{os.fspath(path)}: {' '.join(fault.split())}")


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading; a pipe or a device, which may never end, is refused.

    Raises:
        FormatError: not a regular file.
        OSError: it cannot be opened.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a folder has an error of its own
        raise FormatError(path, "not a regular file")
    return path.open("rb")


def inside(directory: str | os.PathLike[str], name: str) -> Path:
    """Return `directory / name` after checking that neither name nor symbolic links lead out of the directory.

    The directory itself may be reached through links.

    Raises:
        FormatError: they lead out of it.
        OSError: the links go in circles.
    """
    path = Path(directory) / name
    if not is_relative_name(name):
        raise FormatError(directory, f"expected a name inside the folder, got {name!r}")
    try:
        real = path.resolve()
    except RuntimeError as fault:  # links in circles, before Python 3.13
        raise FormatError(path, "a symbolic link that leads to itself") from fault
    if not real.is_relative_to(Path(directory).resolve()):
        raise FormatError(path, f"a symbolic link that leaves the folder {os.fspath(directory)}")
    return path


def is_relative_name(name: str) -> bool:
    """Tell whether a name is relative and does not go up."""
    return bool(name) and "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts


def list_files(directory: str | os.PathLike[str], pattern: str, expected: str) -> list[Path]:
    """List the files of a folder that match a pattern, sorted; at least one.

    Args:
        directory: the folder.
        pattern: of `Path.glob`.
        expected: what should be there, for the error.

    Raises:
        FormatError: no file matches, or one leaves the folder through a symbolic link.
        OSError: there is no such folder.
    """
    directory = Path(directory)
    names = next(os.walk(directory, onerror=_fail), None)  # an OSError where it is no folder that can be read
    found = sorted(path for path in directory.glob(pattern) if not path.name.startswith(".")) if names else []
    if not found:
        raise FormatError(directory, f"no file {pattern}; expected {expected}")
    for path in found:
        inside(directory, os.fspath(path.relative_to(directory)))
    return found


def replace(path: str | os.PathLike[str], save: Callable[[IO[bytes]], Any]) -> None:
    """Let `save` fill a temporary file beside `path`, then put it in the place of `path` in one step.

    A symbolic link at `path` is replaced, not followed.

    Raises:
        OSError: of `path`; what was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            save(file)
        temporary.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written
            temporary.unlink(missing_ok=True)


def check_ours(out: Path, names: Sequence[str], listing: str, mark: str) -> None:
    """Refuse to overwrite files but those of an earlier run of the same command, whose JSON says whose they are.

    Raises:
        FileExistsError: one of `names` is in `out`, and `listing` is not of `mark`.
    """
    present = [out / name for name in names if (out / name).exists()]
    if not present:
        return
    try:
        ours = json.loads((out / listing).read_bytes())["info"]["description"] == mark
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        fault = f"is there already and not of {mark}; choose another --out"
        raise FileExistsError(errno.EEXIST, fault, str(present[0]))


def _fail(fault: OSError) -> None:
    raise fault
