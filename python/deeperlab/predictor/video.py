# SPDX-License-Identifier: Apache-2.0
"""Videos, frame after frame, by PyAV: never more than one frame is held here."""

from __future__ import annotations

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

CODEC, QUALITY = "libx264", {"crf": "20", "mbtree": "0", "bf": "0"}
"""Without macroblock trees: with them, x264 does not give the same bytes for the same pictures twice; and without B
frames: with them, MP4 tells how long frames are shown in the order of decoding."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
"""Containers that are read. A playlist, whatever its suffix, is none: it would lead to other files and hosts."""
RATE = Fraction(25)
"""Frames a second where a file tells none."""
LONGEST = 3600
"""Seconds that a frame may be shown; the times of MP4 have 32 bits."""
PICTURES = {"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "jpegls", "jpegxl"}
"""Codecs of pictures: of two streams, the one in another codec is the film."""
HD = 720
"""Lines from which on colors that are not told are BT.709, as players take them; below, BT.601."""
BT709, BT601, UNTOLD = 1, 6, 2
"""Matrices, primaries and transfers have these numbers, all three alike, in H.273 and in FFmpeg."""
MATRICES = {1, 4, 5, 6, 7, 9}
"""Those that FFmpeg turns into RGB."""
RESYNC = 1 << 12
"""Bytes, at least, that FFmpeg looks through for the next packet before it gives up for once."""
SLACK = 1
"""Seconds that a header may promise too much; or twice as long as the longest frame is shown."""


@dataclass(frozen=True)
class Frame:
    """uint8 RGB [H, W, 3], upright, shown `pts · time_base` seconds after the beginning, for `duration · time_base`
    seconds; `aspect`: width by height of a pixel; `primaries` and `transfer`: what the numbers mean, as in H.273."""

    pixels: NDArray[np.uint8]
    pts: int
    time_base: Fraction
    duration: int = 1
    aspect: Fraction = Fraction(1)
    primaries: int = UNTOLD
    transfer: int = UNTOLD


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
                across, down, is_turned = _orientation(frame)
                pixels = _rgb(path, frame).swapaxes(0, 1) if is_turned else _rgb(path, frame)
                pixels = np.ascontiguousarray(pixels[::down, ::across])
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    sizes = [f"{s[1]} × {s[0]} px" for s in (pixels.shape, shape)]
                    raise FormatError(path, f"frame {number} is {sizes[0]}, those before it {sizes[1]}")
                before, timed = last, frame.pts is not None and frame.time_base
                base = frame.time_base if timed else period
                last = max(last + 1, frame.pts) if timed else last + 1  # an encoder wants them ascending
                if number and (last - before) * base > LONGEST:
                    raise FormatError(path, f"damaged video: frame {number} comes more than {LONGEST} s after the last")
                longest = max(longest, (last - before) * base)
                aspect = stream.sample_aspect_ratio or Fraction(1)  # none, or 0: it is not told
                meaning = stream.codec_context.color_primaries, stream.codec_context.color_trc
                shown = _shown(stream, frame, number) or period
                shown_for = max(1, round(min(shown, LONGEST) / base))
                yield Frame(pixels, last, base, shown_for, 1 / aspect if is_turned else aspect, *meaning)
        except MemoryError as fault:  # of FFmpeg too
            raise FormatError(path, "too large for the memory") from fault
        except av.FFmpegError as fault:
            raise FormatError(path, f"damaged video: {fault.strerror or fault}") from fault
        end, stated = last * base + period, _duration(stream)
    if shape is None:
        raise FormatError(path, "a video without a frame")
    if stated is not None and stated - end > max(SLACK, 2 * longest):
        text = f"damaged video: ends after {float(end):.1f} s, its header says {float(stated):.1f} s"
        raise FormatError(path, text)


class Encoder:
    """An H.264 MP4 with the times and the colors of the frames it was made of, without sound.

    H.264 wants even sides: an odd one is made longer by its last row or column. Y′CbCr is made by the matrix of BT.709,
    below `HD` lines of BT.601, in the limited range, and the stream says so; primaries and transfer are the film's.
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
                self._stream.codec_context.flags |= av.codec.context.Flags.frame_duration  # else the last has none
                self._tag(self._stream.codec_context, frame)
                self._start = frame.pts
            context = self._stream.codec_context
            space = {"dst_colorspace": context.colorspace, "dst_color_range": context.color_range}
            image = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format=context.pix_fmt, **space)
            image.colorspace = context.colorspace
            image.pts, image.duration, image.time_base = frame.pts - self._start, frame.duration, frame.time_base
            self._container.mux(self._stream.encode(image))

    def _tag(self, context: Any, frame: Frame) -> None:
        """Say how Y′CbCr is made, and what the colors mean; where the film does not tell, what its lines suggest."""
        usual = _usual_matrix(context.height)
        context.colorspace, context.color_range = usual, pyav().video.reformatter.ColorRange.MPEG
        context.color_primaries = usual if frame.primaries in (0, UNTOLD) else frame.primaries
        context.color_trc = usual if frame.transfer in (0, UNTOLD) else frame.transfer

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
        except pyav().FFmpegError as fault:  # those of the disk come as they are
            raise FormatError(self._path, f"cannot be encoded: {fault.strerror or fault}") from fault


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The film in a file."""
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
            stream = _film(path, container)
            check_pixels(path, stream.width, stream.height, None)
            stream.thread_type = "AUTO"
            yield stream


def _film(path: Path, container: Any) -> Any:
    """The stream that is meant to be watched: no cover, no thumbnails, no still before the film."""
    kinds = pyav().stream.Disposition
    aside = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & aside]
    if not streams:
        raise FormatError(path, f"no video in it{', but a picture' if container.streams.video else ''}")

    def suits(stream: Any) -> tuple[bool, bool, bool]:
        codec = stream.codec_context and stream.codec_context.name
        return stream.frames != 1, codec not in PICTURES, bool(stream.disposition & kinds.default)

    film = max(streams, key=suits)  # the first of several
    if film.codec_context is None:
        raise FormatError(path, "its codec is none that this FFmpeg decodes; convert it to H.264 first")
    return film


def _usual_matrix(lines: int) -> int:
    return BT709 if lines >= HD else BT601


def _rgb(path: Path, frame: Any) -> NDArray[np.uint8]:
    """The pixels of a frame by its own matrix and range; BT.709 or BT.601, limited, where it does not tell."""
    matrix = frame.colorspace
    if matrix in (0, UNTOLD, 3) and not frame.format.is_rgb:  # 0: of RGB, 3: reserved
        frame.colorspace = matrix = _usual_matrix(frame.height)
    if matrix not in MATRICES and not frame.format.is_rgb:
        raise FormatError(path, f"colors by a matrix that is not read, number {matrix} of H.273; convert it to BT.709")
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return pixels


def _orientation(frame: Any) -> tuple[int, int, bool]:
    """The steps, 1 or -1, by which to go through columns and rows, once they have changed places if that is True.

    A display matrix takes (x, y) of a frame to (a x + c y, b x + d y): a phone that was held upright asks for a turn, a
    camera that faces its user may ask for a mirror.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(matrix, np.int32).tolist()
    is_turned = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if is_turned else (a, d)
    return -1 if across < 0 else 1, -1 if down < 0 else 1, is_turned


def _decoded(path: Path, stream: Any) -> Iterator[Any]:
    packets, number = -1, 0  # the last packet is empty: it has the decoder let go of what it holds
    for packet in _packets(stream):
        if packet.is_corrupt:
            raise FormatError(path, "damaged video: a packet is cut short")
        packets += 1
        for frame in packet.decode():
            if frame.is_corrupt:  # the decoder has filled it with what it guesses
                raise FormatError(path, f"damaged video: frame {number} cannot be decoded whole")
            yield frame
            number += 1
    if "mp4" in stream.container.format.name and packets < (stated := len(stream.index_entries)):
        raise FormatError(path, f"damaged video: ends after {packets} of {stated} frames")


def _packets(stream: Any) -> Iterator[Any]:
    """All packets; what follows the last of a transport stream, and is none, is searched in vain, bit by bit."""
    for _ in range(2 + stream.container.size // RESYNC):
        try:
            yield from stream.container.demux(stream)
            return
        except pyav().BlockingIOError:
            pass


def _shown(stream: Any, frame: Any, number: int) -> Fraction | None:
    """Seconds that a frame is shown, where the file tells.

    MP4 tells how long samples are in the order of decoding, which is not that of showing: of the last frame its end is
    that of the film.
    """
    if number + 1 == stream.frames and stream.duration and frame.pts is not None and frame.time_base:
        end = ((stream.start_time or 0) + stream.duration) * stream.time_base
        if (rest := end - frame.pts * frame.time_base) > 0:
            return Fraction(rest)
    return Fraction(frame.duration * frame.time_base) if frame.duration > 0 and frame.time_base else None


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
