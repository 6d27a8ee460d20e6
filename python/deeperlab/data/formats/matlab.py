# SPDX-License-Identifier: Apache-2.0
"""Numbers in a file of MATLAB, level 5 (`save -v6` and `-v7`): what SBD is distributed as.

Read here, since SciPy's reader, which is made for files that one trusts, lets the process die on some that are damaged.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..files import FormatError, read_bytes

MAX_BYTES = 1 << 24
MAX_UNPACKED = 1 << 28
"""Bytes of one variable; SBD's have 200 kB."""

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT, _NUMBERS = 2, range(6, 16)
"""Classes of arrays."""


def read_struct(path: str | os.PathLike[str], name: str) -> dict[str, NDArray[np.generic]]:
    """Read the real numbers that are fields of a structure; fields of other kinds are left out.

    Args:
        path: the file.
        name: that of the variable, a structure of one element.

    Raises:
        FormatError: no file of level 5, damaged, too large, or without such a variable.
        OSError: it cannot be read.
    """
    data = read_bytes(path, MAX_BYTES, "MATLAB's arrays")
    if data[:5] == b"MATLA" and data[124:128] != b"\0\1IM":
        raise FormatError(path, "expected a file of MATLAB of level 5, little-endian: save it with -v7")
    if data[124:128] != b"\0\1IM":
        raise FormatError(path, "no file of MATLAB of level 5")
    try:
        for kind, part in _elements(data[_HEADER:]):
            matrix = _unpacked(part) if kind == _COMPRESSED else part if kind == _MATRIX else b""
            if matrix and (fields := _fields(matrix, name)) is not None:
                return fields
    except (ValueError, zlib.error) as fault:
        raise FormatError(path, f"damaged file of MATLAB: {fault}") from fault
    raise FormatError(path, f"no structure {name}")


def _unpacked(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(packed, MAX_UNPACKED + 1)
    if len(data) > MAX_UNPACKED:
        raise ValueError(f"a variable unpacks to more than {MAX_UNPACKED:,} bytes")
    if not stream.eof:
        raise ValueError("cut short")
    kind, matrix = next(_elements(data), (0, b""))
    return matrix if kind == _MATRIX else b""


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the data of one element after another."""
    place = 0
    while place < len(data):
        word = int.from_bytes(data[place : place + 4], "little")
        if word >> 16:  # up to four bytes in the tag itself
            kind, length, begin, end = word & 0xFFFF, word >> 16, place + 4, place + 8
            if length > 4:
                raise ValueError(f"{length} bytes in a tag, which holds 4")
        else:
            kind, length, begin = word, int.from_bytes(data[place + 4 : place + 8], "little"), place + 8
            end = begin + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        if begin + length > len(data):
            raise ValueError("cut short")
        yield kind, data[begin : begin + length]
        place = end


def _fields(matrix: bytes, name: str) -> dict[str, NDArray[np.generic]] | None:
    """The fields of a variable; None where it is another, or no structure of one element."""
    parts = [part for _, part in _elements(matrix)]
    if len(parts) < 5 or parts[2] != name.encode() or parts[0][:1] != bytes([_STRUCT]) or math.prod(_sides(parts)) != 1:
        return None
    width = int.from_bytes(parts[3], "little")
    if width < 1:
        raise ValueError("names of fields of no length")
    names = [parts[4][i : i + width].rstrip(b"\0") for i in range(0, len(parts[4]), width)]
    arrays = [_numbers(part) for part in parts[5:]]
    return {
        key.decode("ascii", "replace"): array for key, array in zip(names, arrays, strict=False) if array is not None
    }


def _numbers(matrix: bytes) -> NDArray[np.generic] | None:
    elements = list(_elements(matrix))
    parts = [part for _, part in elements]
    if len(parts) < 4 or not parts[0] or parts[0][0] not in _NUMBERS or elements[3][0] not in _TYPES:
        return None
    values = np.frombuffer(parts[3], "<" + _TYPES[elements[3][0]])
    return values.reshape(_sides(parts), order="F")  # a ValueError where they are not as many


def _sides(parts: list[bytes]) -> tuple[int, ...]:
    sides = tuple(np.frombuffer(parts[1], "<i4").tolist())
    if any(side < 0 for side in sides):
        raise ValueError(f"sides {sides}")
    return sides
