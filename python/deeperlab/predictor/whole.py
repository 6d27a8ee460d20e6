# SPDX-License-Identifier: Apache-2.0
"""Whether a video file is all there. Of one that was cut short a decoder gives the frames that are left, without a
word."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from ..data.files import FormatError

TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
SLACK = 1
"""Seconds that a header may promise too much."""


def require_whole(path: Path, file: IO[bytes]) -> None:
    """Refuse an MP4, AVI or Matroska file whose outermost parts say that they end after the file does.

    Raises:
        FormatError: it was cut short.
    """
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp":
        _boxes(path, file, end)
    elif head[:4] == b"RIFF" and head[8:] == b"AVI ":
        _chunks(path, file, end)
    elif head[:4] == EBML:
        _segment(path, file, end)
    file.seek(0)


class Clock:
    """Compares the time at which the frames of a stream end with what its header says.

    Only AVI and Matroska promise a duration that is independent of the frames. A stream whose pictures are shown for
    long may end by one of them earlier.
    """

    def __init__(self, stream: Any) -> None:
        self._stated = _stated(stream)
        self._frame = 1 / stream.average_rate if stream.average_rate else Fraction(0)
        self._last, self._longest = Fraction(0), self._frame

    def tick(self, frame: Any) -> None:
        """Another frame, in the order they are shown."""
        if frame.pts is None or not frame.time_base:
            self._stated = None
            return
        time = frame.pts * frame.time_base
        self._longest, self._last = max(self._longest, time - self._last), time

    def require_end(self, path: Path) -> None:
        """After the last frame.

        Raises:
            FormatError: frames are missing.
        """
        end = self._last + self._frame
        if self._stated is not None and self._stated - end > max(SLACK, 2 * self._longest):
            stated = f"{float(self._stated):.1f}"
            raise FormatError(path, f"damaged video: ends after {float(end):.1f} s, its header says {stated} s")


def _stated(stream: Any) -> Fraction | None:
    """Seconds."""
    if not {"avi", "matroska"} & set(stream.container.format.name.split(",")):
        return None
    if stream.duration and stream.time_base:
        return Fraction(stream.duration * stream.time_base)
    for key, text in stream.metadata.items():
        if key.partition("-")[0] == "DURATION" and (match := TIME.match(text)):  # DURATION-eng, as mkvmerge writes
            hours, minutes, seconds = map(Fraction, match.groups())
            return 3600 * hours + 60 * minutes + seconds
    return None


EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def _boxes(path: Path, file: IO[bytes], end: int) -> None:
    place = 0
    while place + 16 <= end:
        file.seek(place)
        size, _, long_size = struct.unpack(">I4sQ", file.read(16))
        size = long_size if size == 1 else size or end - place
        if size < 8 or place + size > end:
            raise _cut(path, end, f"a box that says {size} at {place}")
        place += size


def _chunks(path: Path, file: IO[bytes], end: int) -> None:
    place = 0
    while place + 8 <= end:
        file.seek(place)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or size in (0, 0xFFFFFFFF):  # it ends; or it was written where one cannot seek
            return
        if place + 8 + size > end:
            raise _cut(path, end, f"a chunk that says {size} at {place}")
        place += 8 + size + size % 2


def _segment(path: Path, file: IO[bytes], end: int) -> None:
    file.seek(len(EBML))
    file.seek(_number(file) or 0, 1)
    if file.read(len(SEGMENT)) == SEGMENT:
        size, place = _number(file), file.tell()
        if size is not None and place + size > end:
            raise _cut(path, end, f"a segment that says {size} at {place}")


def _number(file: IO[bytes]) -> int | None:
    """EBML's number: as many zero bits as bytes follow, a one, the value. All ones: unknown."""
    first = file.read(1)
    more = 8 - first[0].bit_length() if first else 8
    if more == 8:
        return None
    value = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _cut(path: Path, end: int, part: str) -> FormatError:
    return FormatError(path, f"damaged video: ends after {end} bytes, within {part}")
