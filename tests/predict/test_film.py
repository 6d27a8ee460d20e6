# SPDX-License-Identifier: Apache-2.0
"""Which stream of a file is the film, and that its colors come through."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predicting import run, write_video

from deeperlab.data.files import FormatError
from deeperlab.predictor import video

pytestmark = pytest.mark.slow

COLORS = np.array([[40, 180, 60], [200, 30, 90], [250, 250, 250], [5, 5, 5], [20, 40, 220], [128, 128, 128]], np.uint8)
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Red's and blue's in the luma of BT.709, BT.601 and BT.2020, by their numbers in H.273."""


def add_pictures(container: Any, stream: Any, pictures: Any) -> None:
    for pts, pixels in enumerate(pictures):
        frame = video.pyav().VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = pts, Fraction(1, 25)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def film_and_cover(path: Path, *, cover_first: bool, flagged: bool, film: int = 9) -> Path:
    """Frames of 96 × 64 px, and one picture of 80 × 48."""
    av = video.pyav()
    with av.open(str(path), "w") as container:
        streams = {}
        for name in ("cover", "film") if cover_first else ("film", "cover"):
            codec, width, height = ("mjpeg", 80, 48) if name == "cover" else ("libx264", 96, 64)
            if name == "film" and not film:
                continue
            stream = streams[name] = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if name == "cover" else "yuv420p"
            if name == "cover" and flagged:
                stream.disposition = av.stream.Disposition.attached_pic
        add_pictures(container, streams["cover"], [np.full((48, 80, 3), 99, np.uint8)])
        if film:
            add_pictures(container, streams["film"], [np.full((64, 96, 3), 20 * i, np.uint8) for i in range(film)])
    return path


@pytest.mark.parametrize("name", ["film.mp4", "film.mov", "film.mkv"])
@pytest.mark.parametrize("cover_first", [False, True])
@pytest.mark.parametrize("flagged", [False, True])
def test_a_cover_is_not_taken_for_the_film(name: str, cover_first: bool, flagged: bool, tmp_path: Path) -> None:
    path = film_and_cover(tmp_path / name, cover_first=cover_first, flagged=flagged)
    frames = list(video.frames(path))
    assert [frame.pixels.shape for frame in frames] == [(64, 96, 3)] * 9
    assert frames[5].pixels.mean() == pytest.approx(100, abs=3)


def test_motion_jpeg_is_a_film_where_there_is_no_other(tmp_path: Path) -> None:
    with video.pyav().open(str(tmp_path / "film.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        add_pictures(container, stream, [np.full((64, 96, 3), 20 * i, np.uint8) for i in range(5)])
    means = [frame.pixels.mean() for frame in video.frames(tmp_path / "film.avi")]
    assert means == pytest.approx([0, 20, 40, 60, 80], abs=2)


def test_a_cover_alone_is_no_video(tmp_path: Path) -> None:
    path = film_and_cover(tmp_path / "song.mp4", cover_first=True, flagged=True, film=0)
    with pytest.raises(FormatError, match=r"song\.mp4: no video in it, but a picture"):
        list(video.frames(path))


CODECS = {
    "film.mp4": ("libx264", b"avc1"), "film.mov": ("libx264", b"avc1"), "film.avi": ("mpeg4", b"FMP4"),
    "film.mkv": ("libx264", b"V_MPEG4/ISO/AVC"), "film.ts": ("libx264", b""), "film.mpg": ("mpeg2video", b""),
}  # fmt: skip


def contained(path: Path, codec: str) -> bytes:
    with video.pyav().open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        add_pictures(container, stream, np.random.default_rng(0).integers(0, 256, (9, 64, 96, 3), np.uint8))
    return path.read_bytes()


@pytest.mark.parametrize("name", [name for name in CODECS if CODECS[name][1]])
@pytest.mark.parametrize("letters", [b"zzzz", b"\xff\xfe\0\1"])
def test_a_codec_that_nobody_knows_is_told(name: str, letters: bytes, tmp_path: Path) -> None:
    path, (codec, known) = tmp_path / name, CODECS[name]
    path.write_bytes(contained(path, codec).replace(known, known[:-4] + letters))
    for read in (video.count, lambda path: list(video.frames(path))):
        with pytest.raises(FormatError, match=r"its codec is none that this FFmpeg decodes; convert it"):
            read(path)


@pytest.mark.parametrize(("name", "letters"), [("film.mp4", b"AVC1"), ("film.mov", b"h264"), ("film.avi", b"DIVX")])
def test_a_codec_may_have_other_letters(name: str, letters: bytes, tmp_path: Path) -> None:
    path, (codec, known) = tmp_path / name, CODECS[name]
    path.write_bytes(contained(path, codec).replace(known, letters))
    assert len(list(video.frames(path))) == 9


def test_the_next_source_goes_on_after_a_codec_that_nobody_knows(photos: Path, model: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(contained(film, "libx264").replace(b"avc1", b"zzzz"))
    whole = write_video(tmp_path / "whole.mp4")
    result = run(film, whole, photos / "a.png", "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"deeperlab: {film}: its codec is none")
    assert result.stderr.count("\n") == 1
    assert "1 image, 7 frames of 1 video written" in result.stdout


@pytest.mark.parametrize("name", CODECS)
def test_bytes_after_the_end_are_of_no_account(name: str, tmp_path: Path) -> None:
    """As cameras, phones and servers add them: texts, pictures, thumbnails of their own, zeros up to a block."""
    path = tmp_path / name
    data = contained(path, CODECS[name][0])
    whole = [frame.pixels for frame in video.frames(path)]
    noise = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
    boxes = b"\0\0\0\0free", b"\xff\xff\xff\xffmdat"
    for tail in (b"end", b"\xff\xd8\xff", bytes(5000), b"\xff" * 300_000, noise, *boxes):
        path.write_bytes(data + tail)
        frames = [frame.pixels for frame in video.frames(path)]
        np.testing.assert_array_equal(frames, whole)


def ycbcr(matrix: int, full: bool) -> np.ndarray:
    """`COLORS` by the formulas of H.273, in 8 bits."""
    red, blue = WEIGHTS[matrix]
    r, g, b = COLORS.astype(float).T / 255
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / 2 / (1 - blue), (r - y) / 2 / (1 - red)
    planes = np.stack([255 * y, 255 * u + 128, 255 * v + 128] if full else [16 + 219 * y, 128 + 224 * u, 128 + 224 * v])
    return planes.round().clip(0, 255).astype(np.uint8)


def striped(path: Path, lines: int, matrix: int, full: bool, tags: dict[str, int]) -> Path:
    """A film without loss, a stripe of 16 px for each of `COLORS`."""
    av = video.pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, lines, "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame(96, lines, "yuv444p")
        for plane, row in zip(frame.planes, ycbcr(matrix, full), strict=True):
            stored = np.zeros((plane.height, plane.line_size), np.uint8)
            stored[:, :96] = row.repeat(16)
            plane.update(stored.tobytes())
        frame.colorspace, frame.color_range = tags.get("colorspace", 2), tags.get("color_range", 0)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def stripes(pixels: np.ndarray) -> np.ndarray:
    return pixels[pixels.shape[0] // 2, 8::16].astype(int)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_colors_are_read_by_the_matrix_and_range_of_the_film(
    name: str, matrix: int, full: bool, tmp_path: Path
) -> None:
    for lines in (64, 720):
        tags = {"colorspace": matrix, "color_range": 2 if full else 1}
        (frame,) = video.frames(striped(tmp_path / name, lines, matrix, full, tags))
        np.testing.assert_allclose(stripes(frame.pixels), COLORS, atol=3)


@pytest.mark.parametrize(("lines", "matrix"), [(576, 6), (718, 6), (720, 1), (1080, 1)])
@pytest.mark.parametrize("told", [2, 3])  # unspecified, reserved
def test_colors_of_which_nothing_is_told_are_those_of_the_lines(
    told: int, lines: int, matrix: int, tmp_path: Path
) -> None:
    tags = {} if told == 2 else {"colorspace": told, "color_range": 1}
    path = striped(tmp_path / "film.mp4", lines, matrix, False, tags)
    (frame,) = video.frames(path)
    np.testing.assert_allclose(stripes(frame.pixels), COLORS, atol=3)


def test_a_matrix_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = striped(tmp_path / "film.mp4", 64, 6, False, {"colorspace": 8, "color_range": 1})  # YCgCo
    with pytest.raises(FormatError, match=r"film\.mp4: colors by a matrix that is not read, number 8 of H\.273"):
        list(video.frames(path))


@pytest.mark.parametrize(("lines", "number"), [(64, 6), (718, 6), (719, 1), (720, 1)])
def test_what_is_written_tells_its_colors(lines: int, number: int, tmp_path: Path) -> None:
    """A player that obeys the tags, or that has none and follows the lines, shows the colors that were given."""
    path = tmp_path / "film.mp4"
    picture = np.broadcast_to(COLORS.repeat(16, axis=0), (lines, 96, 3)).copy()
    with path.open("wb") as file, video.Encoder(file, path) as encoder:
        encoder.add(picture, video.Frame(picture, 0, Fraction(1, 25)))
    with video.pyav().open(str(path)) as container:
        frame, context = next(container.decode(video=0)), container.streams.video[0].codec_context
        told = (frame.colorspace, frame.color_range, context.color_primaries, context.color_trc)
        assert told == (number, 1, number, number)
        planes = [np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[plane.height // 2] for plane in frame.planes]
        stored = np.stack([plane[start:][:: start * 2][:6] for plane, start in zip(planes, (8, 4, 4), strict=True)])
        np.testing.assert_allclose(stored.astype(int), ycbcr(number, full=False).astype(int), atol=4)
    (frame,) = video.frames(path)
    np.testing.assert_allclose(stripes(frame.pixels), COLORS, atol=8)


def test_what_the_colors_of_a_film_mean_goes_into_its_overlay(model: Path, tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}  # BT.2020, PQ
    path = striped(tmp_path / "film.mp4", 64, 9, False, tags)
    assert run(path, "--model", model, "--out", tmp_path / "out").exit_code == 0
    with video.pyav().open(str(tmp_path / "out" / "overlay" / "film.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (6, 9, 16)


def test_times_that_no_mp4_holds_are_faults_of_the_film(photos: Path, model: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "film.mkv", tmp_path / "out"
    with video.pyav().open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for pts in (0, 1, 25 * 3700):
            frame = video.pyav().VideoFrame(96, 64, "yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    result = run(path, photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 1
    assert result.stderr == f"deeperlab: {path}: damaged video: frame 2 comes more than 3600 s after the last\n"


def test_what_cannot_be_encoded_is_a_fault_of_the_film(tmp_path: Path) -> None:
    picture = np.zeros((2, 40_000, 3), np.uint8)
    with (tmp_path / "film.mp4").open("wb") as file:
        encoder = video.Encoder(file, tmp_path / "film.mp4")
        with pytest.raises(FormatError, match=r"film\.mp4: cannot be encoded: ") as fault:
            encoder.add(picture, video.Frame(picture, 0, Fraction(1, 1000)))
        encoder.__exit__(FormatError, fault.value, None)


def test_the_last_frame_of_an_overlay_is_shown_as_long_as_that_of_its_film(model: Path, tmp_path: Path) -> None:
    """A slide show of four pictures, a second each, the last for three: by its end alone MP4 knows how long it was."""
    path, picture = tmp_path / "film.mp4", np.full((34, 50, 3), 90, np.uint8)
    with path.open("wb") as file, video.Encoder(file, path) as encoder:
        for pts, shown in enumerate((1, 1, 1, 3)):
            encoder.add(picture, video.Frame(picture, pts, Fraction(1), shown))
    assert run(path, "--model", model, "--out", tmp_path / "out").exit_code == 0
    for film in (path, tmp_path / "out" / "overlay" / "film.mp4"):
        *_, last = video.frames(film)
        assert last.duration * last.time_base == 3
        with video.pyav().open(str(film)) as container:
            (stream,) = container.streams.video
            assert (stream.duration * stream.time_base, stream.average_rate) == (6, Fraction(4, 6))
