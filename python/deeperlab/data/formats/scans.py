# SPDX-License-Identifier: Apache-2.0
"""The scans of a JPEG: a progressive one may have any number, each of which goes over all pixels for a few bytes."""

from __future__ import annotations

import mmap
import os
import re
from typing import IO

from ..files import FormatError

MAX_SCANS = 100
"""Encoders write ten or so; one bit of one coefficient at a time, they could write some hundreds."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""Not a byte of the data that is 255, nor a mark within a scan."""
_SCAN, _END = 0xDA, 0xD9


def check_scans(path: str | os.PathLike[str], file: IO[bytes]) -> None:
    """Refuse a JPEG of more than `MAX_SCANS`: a megabyte could keep a decoder busy for hours."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place, scans = 2, 0
        while (found := _MARKER.search(data, place)) and (kind := found[0][1]) != _END:
            place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
            scans += kind == _SCAN
            if scans > MAX_SCANS:
                raise FormatError(path, f"a JPEG of more than {MAX_SCANS} scans, which costs more than it is worth")
