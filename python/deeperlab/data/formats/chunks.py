# SPDX-License-Identifier: Apache-2.0
"""The chunks of a PNG: maps are encoded and those of the usual kind decoded here, and what nobody needs is left out.

Label maps repeat themselves, from pixel to pixel and from row to row: zlib-ng inflates them, and the engine undoes
their filters, in a sixth of Pillow's time. Whatever is unusual, or not as it should be, is left to Pillow, so that what
is refused is one decoder's business.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

fast_zlib: ModuleType = zlib
with contextlib.suppress(ImportError):
    fast_zlib = importlib.import_module("zlib_ng.zlib_ng")

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 33
"""Of the signature and IHDR."""

_WORDS = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP"))
"""Text and color profiles. No pixel depends on them, but Pillow unpacks them, and refuses what unpacks to over 1 MB."""
_EXIF = b"Raw profile type exif\0"
"""How a text begins that tells how the camera was held."""
_LENGTHS = {b"gAMA": 4, b"pHYs": 9, b"sRGB": 1, b"cHRM": 32, b"tIME": 7}
"""What else may stand beside the pixels in a file of the usual kind, with its bytes."""
_NUMBERS = {(0, 8): 1, (3, 8): 1, (0, 16): 2, (2, 8): 3}
"""Color type and bits → bytes of a pixel."""
_SPARE = 1 << 20
"""Bytes that a file of the usual kind may have beyond those of its pixels, unpacked."""
_MOST_COPIED = 1 << 30
_LEVEL, _UP = 2, 2
"""Of zlib: on the rows of a map, of which each is the filter "up", as small as at 6 in a third of its time."""
_STRIP = 1 << 18
"""Pixels that are packed at a time."""


@dataclass(frozen=True)
class Header:
    """IHDR, as it stands."""

    width: int
    height: int
    depth: int
    """Bits of a channel."""
    color: int
    """0: gray, 2: RGB, 3: a palette, 4 and 6: those with alpha."""
    compression: int
    filtering: int
    interlace: int

    @classmethod
    def of(cls, head: bytes) -> Header | None:
        """Read it from the first `HEADER_BYTES` of a file; None where there is none."""
        if len(head) < 26 or head[8:16] != b"\0\0\0\rIHDR":
            return None
        return cls(*struct.unpack(">IIBBBBB", head[16:29].ljust(13, b"\0")))


def decode(file: IO[bytes], header: Header) -> NDArray[Any] | None:
    """Decode a PNG of the usual kind, whole and undamaged, as encoders write label maps.

    Args:
        file: at any place.
        header: of a size that has been checked.

    Returns:
        The numbers [H, W]: uint8 of 8 bits, uint16 of 16 bits, int32 R + 256·G + 65536·B of RGB. None of any other
        file: interlaced, animated, with transparency, of other bits, cut short, damaged.
    """
    from ..._numpy import unfilter

    size = _NUMBERS.get((header.color, header.depth))
    if size is None or header.compression or header.filtering or header.interlace:
        return None
    expected = header.height * (1 + header.width * size)
    file.seek(0)
    data = file.read(expected + expected // 64 + _SPARE)
    packed = _packed(data)
    if packed is None:
        return None
    stream = fast_zlib.decompressobj()
    try:
        rows = stream.decompress(packed, expected + 1)  # one more shows that there are too many
        if not stream.eof or stream.unused_data or len(rows) != expected:
            return None
        return unfilter(rows, header.height, header.width, size)
    except (fast_zlib.error, ValueError):
        return None


def is_whole(file: IO[bytes]) -> bool:
    """Tell whether the pixels of a PNG of any kind are all there, and as they were packed."""
    stream = fast_zlib.decompressobj()
    try:
        for kind, start, length in _walk(file):
            file.seek(start)
            rest = file.read(length) if kind == b"IDAT" else b""
            while rest and not stream.eof:
                stream.decompress(rest, _STRIP)
                rest = stream.unconsumed_tail
    except fast_zlib.error:
        return False
    return bool(stream.eof)


def _packed(data: bytes) -> bytes | None:
    """The joined IDAT of a whole file in which every chunk is one that we know, once; else None."""
    parts, seen, last = list[bytes](), set[bytes](), b""
    view = memoryview(data)
    for kind, start, length in _walk(io.BytesIO(data)):
        end = start + length
        if len(data) < end + 4:
            return None
        if kind in _WORDS:
            continue
        if fast_zlib.crc32(view[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        if kind == b"IDAT":
            parts.append(data[start:end])
        elif kind == b"PLTE":
            if length % 3 or length > 768 or parts:
                return None
        elif kind not in (b"IHDR", b"IEND") and _LENGTHS.get(kind) != length:
            return None
        if kind in seen and not kind == last == b"IDAT":
            return None
        seen.add(kind)
        last = kind
    return b"".join(parts) if last == b"IEND" and parts else None


def encode(file: IO[bytes], numbers: NDArray[np.integer[Any]]) -> None:
    """Write a map [H, W] of 0 to 2^24 − 1, at least one pixel, as a PNG of RGB, R + 256·G + 65536·B.

    Every row is the difference to the one above, which is mostly 0.
    """
    height, width = numbers.shape
    channels = range(max(1, -(-int(numbers.max()).bit_length() // 8)))  # the others are 0
    file.write(SIGNATURE)
    _write(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    stream, parts = fast_zlib.compressobj(_LEVEL), list[bytes]()
    above = np.zeros((1, width), np.int32)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        strip = np.concatenate((above, numbers[top : top + step]), dtype=np.int32)
        above = strip[-1:]
        rows = np.zeros((len(strip) - 1, 1 + 3 * width), np.uint8)
        rows[:, 0] = _UP
        for c in channels:
            values = (strip >> 8 * c).astype(np.uint8)
            rows[:, 1 + c :: 3] = values[1:] - values[:-1]
        parts.append(stream.compress(rows))
    _write(file, b"IDAT", b"".join([*parts, stream.flush()]))
    _write(file, b"IEND", b"")


def _write(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(len(data).to_bytes(4, "big") + kind + data)
    file.write(fast_zlib.crc32(data, fast_zlib.crc32(kind)).to_bytes(4, "big"))


def without_words(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG file at its beginning, or a copy of it without texts and profiles where it has such.

    A text that holds EXIF stays. A file of another form, or of more than 1 GiB, is returned as it is.
    """
    kept, begin, total = list[tuple[int, int]](), 0, len(SIGNATURE)
    for kind, start, length in _walk(file):
        if kind in _WORDS and file.read(len(_EXIF)) != _EXIF:
            kept.append((begin, start - 8))
            begin = start + length + 4
        else:
            total += length + 12
    if not kept or total > _MOST_COPIED:
        file.seek(0)
        return file
    copy = io.BytesIO()
    for first, end in kept:
        file.seek(first)
        copy.write(file.read(end - first))
    file.seek(begin)
    copy.write(file.read(max(0, total - copy.tell())))
    copy.seek(0)
    return copy


def _walk(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, place and bytes of the data of every chunk, up to IEND or to what is none."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or not head[4:].isalpha():
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        yield kind, place + 8, length
        place += 12 + length
