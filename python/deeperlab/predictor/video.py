# SPDX-License-Identifier: Apache-2.0
"""Videos, frame after frame, by PyAV: never more than one frame is held here."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..data.files import FormatError, open_file
from ..data.formats.png import check_pixels

CODEC, QUALITY = "libx264", {"crf": "20", "mbtree": "0"}
"""Without macroblock trees: with them, x264 does not give the same bytes for the same pictures twice."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
"""Containers that are read. A playlist, whatever its suffix, is none: it would lead to other files and hosts."""
RATE = Fraction(25)
"""Frames a second where a file tells none."""
SLACK = 1
"""Seconds that a header may promise too much; or twice as long as the longest frame is shown."""


@dataclass(frozen=True)
class Frame:
    """uint8 RGB [H, W, 3], upright, shown `pts · time_base` seconds after the beginning; `aspect`: width by height of a
    pixel."""

    pixels: NDArray[np.uint8]
    pts: int
    time_base: Fraction
    aspect: Fraction = Fraction(1)


def pyav() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as fault:
        raise ImportError("videos need PyAV: pip install 'deeperlab[video]'") from fault


def count(path: Path) -> int:
    """Frames that the file says it has; 0: it does not say.

    Raises:
        FormatError: no video; OSError: it cannot be read; ImportError: there is no PyAV.
    """
    with _opened(path) as stream:
        return int(stream.frames)


def frames(path: Path) -> Generator[Frame, None, None]:
    """Decode every frame, in the order they are shown.

    Raises:
        FormatError: no video, damaged, cut short, without a frame, or frames of different or too large size.
        OSError: the file cannot be read.
        ImportError: there is no PyAV.
    """
    av = pyav()
    with _opened(path) as stream:
        period = 1 / (stream.average_rate or RATE)
        shape, last, base, longest = None, -1, period, period
        try:
            for number, frame in enumerate(_decoded(path, stream)):
                turns = round(frame.rotation / 90)  # anticlockwise, as a phone that was held upright asks for
                pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    sizes = [f"{s[1]} × {s[0]} px" for s in (pixels.shape, shape)]
                    raise FormatError(path, f"frame {number} is {sizes[0]}, those before it {sizes[1]}")
                before, timed = last, frame.pts is not None and frame.time_base
                base = frame.time_base if timed else period
                last = max(last + 1, frame.pts) if timed else last + 1  # an encoder wants them ascending
                longest = max(longest, (last - before) * base)
                aspect = stream.sample_aspect_ratio or Fraction(1)  # none, or 0: it is not told
                yield Frame(pixels, last, base, 1 / aspect if turns % 2 else aspect)
        except av.FFmpegError as fault:
            raise FormatError(path, f"damaged video: {fault.strerror or fault}") from fault
        end, stated = last * base + period, _duration(stream)
    if shape is None:
        raise FormatError(path, "a video without a frame")
    if stated is not None and stated - end > max(SLACK, 2 * longest):
        text = f"damaged video: ends after {float(end):.1f} s, its header says {float(stated):.1f} s"
        raise FormatError(path, text)


class Encoder:
    """An H.264 MP4 with the times of the frames it was made of, without sound.

    H.264 wants even sides: an odd one is made longer by its last row or column.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._container = pyav().open(file, "w", format="mp4", options={"movflags": "faststart"})
        self._path, self._start = path, 0
        self._stream: Any = None

    def add(self, picture: NDArray[np.uint8], frame: Frame) -> None:
        """Encode a picture [H, W, 3] in the place of a frame."""
        av = pyav()
        even = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
        with self._faults():
            if self._stream is None:
                self._stream = self._container.add_stream(CODEC, options=QUALITY)
                self._stream.height, self._stream.width = even.shape[:2]
                self._stream.pix_fmt = "yuv420p"
                if frame.aspect != 1:
                    self._stream.codec_context.sample_aspect_ratio = frame.aspect
                self._stream.codec_context.time_base = frame.time_base
                self._start = frame.pts
            image = av.VideoFrame.from_ndarray(even, format="rgb24")
            image.pts, image.time_base = frame.pts - self._start, frame.time_base
            self._container.mux(self._stream.encode(image))

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what the codec still holds, and the index; after a fault just let go."""
        if kind is not None:
            with suppress(Exception):
                self._container.close()
            return
        with self._faults():
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except pyav().FFmpegError as fault:
            raise OSError(fault.errno or errno.EIO, f"cannot be encoded: {fault.strerror}", str(self._path)) from fault


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The first video stream of a file."""
    av = pyav()
    with open_file(path) as file:
        if not file.seek(0, 2):
            raise FormatError(path, "an empty file, no video")
        file.seek(0)
        try:
            container = av.open(file, options={"format_whitelist": FORMATS}, metadata_errors="replace")
        except av.FFmpegError as fault:
            raise FormatError(path, f"not a video: {fault.strerror or fault}") from fault
        with container:
            if not container.streams.video:
                raise FormatError(path, "no video in it")
            stream = container.streams.video[0]
            check_pixels(path, stream.width, stream.height, None)
            stream.thread_type = "AUTO"
            yield stream


def _decoded(path: Path, stream: Any) -> Iterator[Any]:
    packets = -1  # the last one is empty: it has the decoder let go of what it holds
    for packet in stream.container.demux(stream):
        if packet.is_corrupt:
            raise FormatError(path, "damaged video: a packet is cut short")
        packets += 1
        yield from packet.decode()
    if "mp4" in stream.container.format.name and packets < (stated := len(stream.index_entries)):
        raise FormatError(path, f"damaged video: ends after {packets} of {stated} frames")


def _duration(stream: Any) -> Fraction | None:
    """Seconds that the header of an AVI or Matroska file promises; other headers do not tell or follow the frames."""
    containers = stream.container.format.name.split(",")
    if "avi" in containers and stream.frames and stream.average_rate:
        return Fraction(stream.frames / stream.average_rate)
    for key, text in stream.metadata.items() if "matroska" in containers else ():
        with suppress(ValueError):
            if key.startswith("DURATION"):  # DURATION-eng, as mkvmerge writes
                hours, minutes, seconds = map(Fraction, text.split(":"))
                return 3600 * hours + 60 * minutes + seconds
    return None
