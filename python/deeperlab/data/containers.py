# SPDX-License-Identifier: Apache-2.0
"""Zip and tar files as folders: a member's path is that of the file and its own name, as in `coco.zip/train2017/9.jpg`.

Nothing is unpacked to disk, and of a member only as much as is read. What is kept in memory of a file is an index in
arrays, made once in each process; members are opened anew each time, so that processes share nothing.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import functools
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .faults import FormatError

SUFFIXES = (".zip", ".tar")
_BOUNDARY = re.compile(r"\.(zip|tar)(?=/|$)", re.IGNORECASE)
_MOST_INDEXES = 1 << 14
_ENCRYPTED = 1
"""A bit of the flags of a zip."""
_LOCAL_HEADER_BYTES = 30
_BLOCK = 512
"""Bytes of a header of tar, and of zeros that end it."""
_PLAIN, _UNREADABLE = -1, -2
"""Methods beside those of zip: the bytes as they are; encrypted."""


@dataclass(frozen=True)
class Index:
    """Where the members of a file are, in order of their names.

    Attributes:
        text: The names, UTF-8, one after another.
        start: int64 [N + 1]: where each begins.
        place: int64 [N, 5]: where the member begins (of a zip, its local header), bytes as stored, bytes, CRC, method.
    """

    text: bytes
    start: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, members: Iterable[tuple[str, tuple[int, int, int, int, int]]]) -> Index:
        """Make it of names and places."""
        table: dict[bytes, tuple[int, int, int, int, int]] = {}
        for name, place in members:
            key = _normal(path, name)
            if key in table:
                raise FormatError(path, f"member {name!r} is there twice")
            table[key] = place
        names = sorted(table)
        start = np.cumsum([0, *map(len, names)], dtype=np.int64)
        return cls(b"".join(names), start, np.array([table[name] for name in names], np.int64).reshape(-1, 5))

    def name(self, i: int) -> bytes:
        """The i-th name."""
        return self.text[self.start[i] : self.start[i + 1]]

    def find(self, name: bytes) -> int | None:
        """Tell which member has a name."""
        i = self._first(name)
        return i if i < len(self.place) and self.name(i) == name else None

    def below(self, folder: bytes) -> range:
        """Tell which members are in a folder, at any depth; the empty name is that of all."""
        if not folder:
            return range(len(self.place))
        return range(self._first(folder + b"/"), self._first(folder + b"0"))  # 0 follows / in ASCII

    def _first(self, name: bytes) -> int:
        return bisect.bisect_left(range(len(self.place)), name, key=self.name)


def is_dir(path: Path) -> bool:
    """Tell whether there is a folder, or a zip or tar file, or a folder in one."""
    found = None if path.is_dir() else _split(path)
    if found is None:
        return path.is_dir()
    return not found[1] or bool(_index(found[0]).below(found[1]))


def exists(path: Path) -> bool:
    """Tell whether there is a file or a folder, perhaps in a zip or tar file."""
    if path.exists():
        return True
    found = _split(path)
    return found is not None and (is_dir(path) or _index(found[0]).find(found[1]) is not None)


def matching(directory: Path, pattern: str) -> list[Path]:
    """List what matches a pattern of `Path.glob` in a folder, perhaps in a zip or tar file.

    Returns:
        sorted, without hidden files; none where there is no such folder.
    """
    found = None if directory.is_dir() else _split(directory)
    if found is None:
        paths = directory.glob(pattern)
        return sorted(path for path in paths if not path.name.startswith("."))
    index, depth = _index(found[0]), pattern.count("/") + 1
    skip = len(found[1]) + 1 if found[1] else 0
    below = (_decode(index.name(i)[skip:]).split("/")[:depth] for i in index.below(found[1]))
    names = {"/".join(parts) for parts in below if len(parts) == depth and not parts[-1].startswith(".")}
    return sorted(directory / name for name in names if PurePosixPath(name).match(pattern))


def open_member(path: str | os.PathLike[str]) -> IO[bytes] | None:
    """Open a member for reading; None where no part of the path is a zip or tar file.

    Raises:
        FormatError: the file is damaged; the member is encrypted, or packed in another way than zip's usual ones. Also
            from reading a member that is damaged.
        OSError: there is no such member, or the file cannot be read.
    """
    found = _split(Path(path))
    if found is None:
        return None
    index = _index(found[0])
    i = index.find(found[1])
    if i is None:
        code = errno.EISDIR if not found[1] or index.below(found[1]) else errno.ENOENT
        raise OSError(code, os.strerror(code), os.fspath(path))
    offset, packed, size, crc, method = index.place[i].tolist()
    if method == _PLAIN:
        return io.BufferedReader(_Window(path, found[0], offset, size))
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = "encrypted" if method == _UNREADABLE else f"packed by method {method} of zip"
        raise FormatError(path, f"{how}; expected members that are stored or deflated, without a password")
    with _Window(path, found[0], offset, _LOCAL_HEADER_BYTES) as file:
        head = file.read(_LOCAL_HEADER_BYTES) or b""
    if head[:4] != b"PK\3\4":
        raise FormatError(path, "damaged zip: no member where there should be one")
    offset += _LOCAL_HEADER_BYTES + sum(int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
    member = zipfile.ZipInfo(_decode(found[1]))
    member.compress_type, member.compress_size, member.file_size, member.CRC = method, packed, size, crc
    stored = io.BufferedReader(_Window(path, found[0], offset, packed))
    return io.BufferedReader(_Unpacked(path, zipfile.ZipExtFile(stored, "r", member, close_fileobj=True), size))


def size_of(file: IO[bytes]) -> int:
    """Tell the bytes of an open file, which of a member need not be unpacked for it."""
    raw = getattr(file, "raw", None)
    return raw.size if isinstance(raw, _Raw) else os.fstat(file.fileno()).st_size


class _Raw(io.RawIOBase):
    """What both kinds of members have in common; `path` is for errors, `size` in bytes."""

    def __init__(self, path: str | os.PathLike[str], size: int) -> None:
        self._path, self.size = path, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def _take(self, count: int) -> bytes:
        raise NotImplementedError


class _Window(_Raw):
    """A part of a file. It has no place in the file that processes could share."""

    def __init__(self, path: str | os.PathLike[str], archive: Path, offset: int, size: int) -> None:
        super().__init__(path, size)
        self._offset, self._at = offset, 0
        self._descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)

    def _take(self, count: int) -> bytes:
        wanted = max(0, min(count, self.size - self._at))
        data = os.pread(self._descriptor, wanted, self._offset + self._at)
        if wanted and not data:
            raise FormatError(self._path, "cut short")
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Unpacked(_Raw):
    """A member of a zip."""

    def __init__(self, path: str | os.PathLike[str], file: zipfile.ZipExtFile, size: int) -> None:
        super().__init__(path, size)
        self._file = file

    def _take(self, count: int) -> bytes:
        with self._faults():
            return self._file.read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._faults():
            return self._file.seek(offset, whence)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
            raise FormatError(self._path, f"damaged in its zip: {fault}") from fault

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _split(path: Path) -> tuple[Path, bytes] | None:
    """The zip or tar file that a path leads into, and the name within it."""
    text = os.fspath(path)
    for match in _BOUNDARY.finditer(text):
        if Path(text[: match.end()]).is_file():
            return Path(text[: match.end()]), text[match.end() + 1 :].encode("utf-8", "surrogateescape")
    return None


def _index(path: Path) -> Index:
    now = path.stat()
    return _read_index(path, now.st_mtime_ns, now.st_size)


@functools.lru_cache(_MOST_INDEXES)
def _read_index(path: Path, modified: int, size: int) -> Index:
    """The index of a file as it is now."""
    members = _members_of_zip if path.suffix.lower() == ".zip" else _members_of_tar
    try:
        return Index.of(path, members(path, size))
    except (FormatError, MemoryError):
        raise
    except Exception as fault:  # zipfile and tarfile have many kinds for a damaged file
        if isinstance(fault, OSError) and fault.filename is not None:
            raise
        raise FormatError(path, f"damaged, or no {path.suffix[1:].lower()}: {fault}") from fault


def _members_of_zip(path: Path, size: int) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                method = _UNREADABLE if member.flag_bits & _ENCRYPTED else member.compress_type
                if not 0 <= member.header_offset <= member.header_offset + member.compress_size <= size:
                    raise FormatError(path, f"damaged zip: {member.filename!r} is not within the file")
                place = member.header_offset, member.compress_size, member.file_size, member.CRC, method
                yield member.filename, place


def _members_of_tar(path: Path, size: int) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined] # or it keeps an object of each
            if member.isreg() and not member.issparse():
                if member.offset_data + member.size > size:
                    raise FormatError(path, f"cut short in {member.name!r}")
                yield member.name, (member.offset_data, member.size, member.size, 0, _PLAIN)
        end = archive.offset
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes any damage for the end
            raise FormatError(path, f"cut short or damaged at byte {end:,}: neither a member nor the end")


def _normal(path: Path, name: str) -> bytes:
    """The name of a member as it is looked for; none that would leave a folder into which it is unpacked."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise FormatError(path, f"member {name!r}: expected a name inside the folder")
    return "/".join(parts).encode("utf-8", "surrogateescape")


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
