# SPDX-License-Identifier: Apache-2.0
"""The scans of a JPEG: a progressive one may have any number, each of which goes over all pixels for a few bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO

from ..files import FormatError

MAX_SCANS = 100
"""Encoders write ten or so; one bit of one coefficient at a time, they could write some hundreds."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""Not a byte of the data that is 255, nor a mark within a scan."""
_SCAN, _END = 0xDA, 0xD9
_BLOCK = 1 << 20


def check_scans(path: str | os.PathLike[str], file: IO[bytes]) -> None:
    """Refuse a JPEG of more than `MAX_SCANS`: a megabyte could keep a decoder busy for hours."""
    scans, place = 0, file.tell()
    for kind in _kinds(file):
        scans += kind == _SCAN
        if scans > MAX_SCANS:
            raise FormatError(path, f"a JPEG of more than {MAX_SCANS} scans, which costs more than it is worth")
    file.seek(place)


def _kinds(file: IO[bytes]) -> Iterator[int]:
    """Yield the kind of every segment up to the end of the picture.

    The file is read and not mapped: one that someone shortens meanwhile would end the process.
    """
    begin, block, place = 2, b"", 2
    while True:
        found = _MARKER.search(block, place - begin)
        if found is not None and found.end() + 2 <= len(block):  # the length of what follows
            if (kind := found[0][1]) == _END:
                return
            yield kind
            place = begin + found.end() + int.from_bytes(block[found.end() : found.end() + 2], "big")
            continue
        begin += found.start() if found else max(place - begin, len(block) - 1)  # the last byte may begin a marker
        file.seek(begin)
        block, place = file.read(_BLOCK), begin
        if len(block) < 4:
            return
