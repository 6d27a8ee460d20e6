# SPDX-License-Identifier: Apache-2.0
"""Files that someone else made, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from . import containers
from .faults import FaultyFilesError, FormatError, message_of, reason_of

__all__ = [
    "MOST_BYTES",
    "MOST_BYTES_OF_PATH",
    "TEMPORARY",
    "FaultyFilesError",
    "FormatError",
    "check_names",
    "check_ours",
    "clean_up",
    "inside",
    "is_relative_name",
    "is_special",
    "list_files",
    "message_of",
    "open_file",
    "read_bytes",
    "reason_of",
    "replace",
    "require_folder",
    "require_writable",
]

MOST_BYTES, MOST_BYTES_OF_PATH = 240, 4080
"""Of the name of a file, so that Linux also takes that of the temporary file; of its path."""

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
"""Names of the files that `replace` fills; they are left behind only where a process is killed."""

NOT_REGULAR = "not a regular file; write what a pipe or device gives to a file first"


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading, also one in a zip or tar file (`containers`).

    A pipe, a socket or a device, which may never end, is refused without a wait.

    Raises:
        FormatError: not a regular file.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except NotADirectoryError:
        if (member := containers.open_member(path)) is not None:
            return member
        raise
    except OSError as fault:
        if fault.errno == errno.ENXIO:  # a socket
            raise FormatError(path, NOT_REGULAR) from fault
        raise
    except ValueError as fault:  # a name with a zero in it
        raise FormatError(path, str(fault)) from fault
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise FormatError(path, NOT_REGULAR)


def read_bytes(path: str | os.PathLike[str], max_bytes: int, kind: str) -> bytes:
    """Read a whole regular file of at most `max_bytes`; `kind` says of what, for the error.

    Raises:
        FormatError: not a regular file, or longer.
        OSError: it cannot be read.
    """
    with open_file(path) as file:
        size = containers.size_of(file)
        if size > max_bytes:
            raise FormatError(path, f"too large: {size:,} bytes of {kind}, the most is {max_bytes:,}")
        return file.read(size) or b""  # the kernel's own files may have nothing to say


def inside(directory: str | os.PathLike[str], name: str, *, follow_links: bool | None = None) -> Path:
    """Return `directory / name` after checking that neither name nor symbolic links lead out of the directory.

    The directory itself may be reached through links.

    Args:
        directory: the folder.
        name: of a file in it.
        follow_links: links may lead out of it: the files of the Hugging Face hub's cache, DVC or git-annex are links.
            None: of a file that is written, for which there is no such choice.

    Raises:
        FormatError: they lead out of it, or the links go in circles.
    """
    path = Path(directory) / name
    if not is_relative_name(name):
        raise FormatError(directory, f"expected a name inside the folder, got {name!r}")
    real = Path(os.path.realpath(path))  # Path.resolve takes circles for a fault before Python 3.13 only
    try:
        path.stat()
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            raise FormatError(path, "a symbolic link that leads to itself") from fault
    if not follow_links and not real.is_relative_to(Path(directory).resolve()):
        choice = (
            "; to read it, follow_links=True or --follow-links (deeperlab train: --set "
            "data.options.follow_links=true), or copy the folder with cp -rL"
        )
        raise FormatError(
            path,
            f"a symbolic link that leaves the folder {os.fspath(directory)}{choice if follow_links is False else ''}",
        )
    return path


def require_folder(directory: Path) -> None:
    """Raise an OSError where there is no such folder, nor a zip or tar file that is read as one."""
    if not containers.is_dir(directory):
        directory.stat()
        raise NotADirectoryError(errno.ENOTDIR, "is no folder, zip or tar file", str(directory))


def is_relative_name(name: str) -> bool:
    """Tell whether a name is relative and does not go up."""
    return bool(name) and "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts


def list_files(
    directory: str | os.PathLike[str], pattern: str, expected: str, *, follow_links: bool = False
) -> list[Path]:
    """List the files of a folder that match a pattern, sorted; at least one.

    Args:
        directory: the folder.
        pattern: of `Path.glob`.
        expected: what should be there, for the error.
        follow_links: as of `inside`.

    Raises:
        FormatError: no file matches, or one leaves the folder through a symbolic link.
        OSError: there is no such folder.
    """
    directory = Path(directory)
    if directory.is_dir() or not containers.is_dir(directory):
        next(os.walk(directory, onerror=_fail), None)  # an OSError where it is no folder that can be read
    found = containers.matching(directory, pattern)
    if not found:
        raise FormatError(directory, f"no file {pattern}; expected {expected}")
    for path in found:
        inside(directory, os.fspath(path.relative_to(directory)), follow_links=follow_links)
    return found


def replace(path: str | os.PathLike[str], save: Callable[[IO[bytes]], Any]) -> None:
    """Let `save` fill a temporary file beside `path`, then put it in the place of `path` in one step.

    A symbolic link at `path` is replaced, not followed: the file that it leads to stays. What `is_special` is never
    replaced: once `save` is done, all of it is written there.

    Raises:
        OSError: of `path`; what was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if is_special(path):
            _write_through(path, save)
            return
        with temporary.open("xb") as file:
            save(file)
        temporary.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written
            temporary.unlink(missing_ok=True)


def clean_up(directory: Path, names: Sequence[str]) -> None:
    """Remove what `replace` has left beside files of these names where it was killed."""
    paths = {directory / name for name in names}
    for folder in {path.parent for path in paths}:
        for left in folder.glob(".*.tmp"):
            if (match := TEMPORARY.fullmatch(left.name)) and folder / match[1] in paths:
                left.unlink(missing_ok=True)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path, or what links there lead to, is a device, a pipe, a socket or an open file.

    An open file is what `/dev/stdout` and `/dev/fd/63` name: a shell has opened it, perhaps as a regular file, and
    others go on writing to it.
    """
    path = Path(path)
    return _descriptor(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


def require_writable(path: Path, option: str, *inputs: Path | None) -> None:
    """Raise before the work what `replace` would raise after it.

    Args:
        path: the output.
        option: that gives it, for the error.
        inputs: files that are read, which it must not overwrite; None: not given.

    Raises:
        OSError: it is an input or a folder, its folder is not there, or it may not be written.
    """
    if any(given is not None and os.path.realpath(path) == os.path.realpath(given) for given in inputs):
        raise FileExistsError(errno.EEXIST, f"is an input; choose another {option}", str(path))
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
    number = _descriptor(path)
    if number is None and path.is_socket():
        raise OSError(errno.ENXIO, f"is a socket; choose another {option}", str(path))
    if number is not None:
        allowed = _is_open_for_writing(number)
    else:
        allowed = os.access(path if is_special(path) else path.absolute().parent, os.W_OK)
    if not allowed:
        raise PermissionError(errno.EACCES, "permission denied", str(path))


def check_names(directory: Path, names: Sequence[str], option: str = "--out") -> None:
    """Raise before the work what writing files of these names into a folder would raise after some of them.

    `option` gives the folder, for the error.

    Raises:
        ValueError: a name that leaves the folder, is longer than a file's may be or not of its characters, or that is
            given twice, perhaps as the folder of another.
        OSError: a folder is there already where a file would go, or the other way round.
    """
    paths = {Path(name) for name in names}
    folders = {folder for path in paths for folder in path.parents} - {Path()}
    for name in names:
        path, expected = Path(name), "distinct names of files"
        try:
            inside(directory, name)
            longest = max(len(os.fsencode(part)) for part in path.parts)
        except (FormatError, UnicodeEncodeError):
            raise ValueError(f"expected names of files inside the folder, got {name!r}") from None
        if longest > MOST_BYTES or len(os.fsencode(directory.absolute() / path)) > MOST_BYTES_OF_PATH:
            raise ValueError(f"expected names of files of at most {MOST_BYTES} bytes, got {name!r}")
        if path in folders or path not in paths:
            raise ValueError(f"expected {expected}, got {name!r} twice, or as a folder of another")
        paths.remove(path)
        if (directory / path).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"is a directory; choose another {option}", str(directory / path))
        for folder in path.parents[:-1]:
            if (directory / folder).exists() and not (directory / folder).is_dir():
                raise NotADirectoryError(
                    errno.ENOTDIR, f"is no folder; choose another {option}", str(directory / folder)
                )


def check_ours(out: Path, names: Sequence[str], listing: str, mark: str, option: str = "--out") -> None:
    """Refuse a folder that cannot be one of results, before the work.

    Files of an earlier run of the same command, whose JSON says whose they are, may be overwritten, and no others.
    `option` gives the folder, for the error.

    Raises:
        FileExistsError: one of `names` is in `out`, and `listing` is not of `mark`; or it is no regular file.
        OSError: `out` is no folder, or may not be made or written.
    """
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.lexists(path))
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"is no folder; choose another {option}", str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "permission denied", str(folder))
    present = [out / name for name in names if (out / name).exists()]
    if not present:
        return
    try:
        ours = json.loads(read_bytes(out / listing, 1 << 31, "JSON"))["info"]["description"] == mark
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        fault = f"is there already and not of {mark}; choose another {option}"
        raise FileExistsError(errno.EEXIST, fault, str(present[0]))
    for path in filter(is_special, present):
        raise FileExistsError(errno.EEXIST, f"is no regular file; choose another {option}", str(path))


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Of this process, if links lead to an open file of it."""
    path = os.fspath(path)
    for _ in range(40):  # as many as Linux follows
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
        path = os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
        if re.fullmatch(rf"/proc/{os.getpid()}(/task/\d+)?/fd/\d+", path):
            return int(name)
        if not os.path.islink(path):  # noqa: PTH114
            return None
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120
    return None


def _is_open_for_writing(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:  # it is not open at all
        return False


def _write_through(path: Path, save: Callable[[IO[bytes]], Any]) -> None:
    """Write to what is there, once all is there: a pipe cannot be sought in, nor take anything back."""
    with tempfile.TemporaryFile() as whole:
        save(whole)
        whole.seek(0)
        number = _descriptor(path)  # to open its name again would begin a regular file anew
        with path.open("wb") if number is None else os.fdopen(os.dup(number), "wb") as file:
            shutil.copyfileobj(whole, file)


def _fail(fault: OSError) -> None:
    raise fault
