# SPDX-License-Identifier: Apache-2.0
"""Sources as pictures to be decoded: a photograph, or one frame of a video after the other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.files import FormatError
from ..data.formats.photo import Photo
from . import video
from .flow import Task
from .sources import Source, reason


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video with its number; `identity`: of the file, see `Source.identity`."""

    source: Source
    pixels: NDArray[np.uint8]
    identity: Mapping[str, Any]
    frame: video.Frame | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        return self.source.name if self.frame is None else f"{self.source.name}/{self.number:06d}"


class UnreadError(Exception):
    """A photograph that cannot be read, and why."""

    def __init__(self, source: Source, fault: Exception) -> None:
        super().__init__(source, fault)
        self.source, self.fault = source, fault


def photo_task(source: Source, *, exif: bool) -> Task[Picture]:
    """A photograph, turned as EXIF says or as it is stored."""
    try:
        identity = source.identity()  # before the pixels: a change in between is noticed by the next run
        photo = Photo(source.path)
    except (FormatError, OSError) as fault:
        unread = UnreadError(source, fault)
        return Task(0, lambda: unread)

    def decode() -> Picture | Exception:
        try:
            with photo:
                return Picture(source, photo.read(exif=exif), identity)
        except (FormatError, OSError) as fault:
            return UnreadError(source, fault)

    return Task(photo.pixels, decode)


class Frames:
    """The frames of a video, upright; an OSError is a fault of the source, not of the disk that is written to."""

    def __init__(self, source: Source) -> None:
        self._source, self._number = source, 0
        self._frames = video.frames(source.path)
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        with self._one_at_a_time:  # a generator that runs cannot be closed
            self._frames.close()

    def tasks(self) -> Iterator[Task[Picture]]:
        """Frames, all of the size of the first, to be decoded one after the other."""
        self._identity = self._identify()
        first = self._decode()
        pixels = 0 if first is None else first.pixels.size // 3
        yield Task(pixels, lambda: first)
        while True:
            yield Task(pixels, self._decode)

    def _decode(self) -> Picture | None:
        with self._one_at_a_time, self._faults():
            frame = next(self._frames, None)
            if frame is None:
                return None
            self._number += 1
            return Picture(self._source, frame.pixels, self._identity, frame, self._number - 1)

    def _identify(self) -> Mapping[str, Any]:
        with self._faults():
            return self._source.identity()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise FormatError(self._source.path, reason(self._source.path, fault)) from fault
