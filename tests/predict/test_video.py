# SPDX-License-Identifier: Apache-2.0
"""Videos in `deeperlab predict`."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predicting import LABELS, Net, contents, fault, picture, result_files, run, write_video

import deeperlab
from deeperlab.data.files import FormatError
from deeperlab.data.formats import coco
from deeperlab.predictor import batch, flow, video
from deeperlab.predictor.parser import Parser

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [(34, 50), (33, 51)])
def test_a_video_becomes_a_video(size: tuple[int, int], model: Path, tmp_path: Path, assert_same: Any) -> None:
    times = [3, 4, 5, 9, 10, 11, 15]  # that of the first does not count
    path, out = write_video(tmp_path / "film.mp4", size, times=times), tmp_path / "out"
    frames = list(video.frames(path))
    even = tuple(side + side % 2 for side in size)
    assert [frame.pixels.shape for frame in frames] == [(*even, 3)] * 7
    result = run(path, "--model", model, "--out", out, "--batch", 3)
    assert result.exit_code == 0, result.output
    assert "7 frames of 1 video written" in result.stdout
    drawn = list(video.frames(out / "overlay" / "film.mp4"))
    assert [float(f.pts * f.time_base) for f in drawn] == pytest.approx([(t - 3) / 10 for t in times], abs=1e-3)
    assert video.count(out / "overlay" / "film.mp4") == 7
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert [a.image_id for a in data.annotations] == [f"film/{i:06d}" for i in range(7)]
    parser = Parser(Net("trained"), LABELS)
    for annotation, frame, shown in zip(data.annotations, frames, drawn, strict=True):
        panoptic = parser(frame.pixels).numpy()
        assert_same(data.ids(annotation), panoptic.to_coco()[0])
        overlay = deeperlab.visualize.overlay(frame.pixels, panoptic, LABELS)
        assert np.abs(shown.pixels.astype(int) - overlay).mean() < 12  # the codec's loss, most of it of the colors
    (told,) = json.loads((out / "panoptic.json").read_text())["videos"]
    stat = path.stat()
    source = {"path": str(path), "bytes": stat.st_size, "modified": stat.st_mtime_ns}
    size_told = {"height": even[0], "width": even[1]}
    assert told == {"id": "film", "file_name": "film.mp4", "frames": 7, "source": source} | size_told
    before = contents(out)
    assert "0 images written" in run(path, "--model", model, "--out", out).stdout
    assert contents(out) == before


def test_the_same_pictures_give_the_same_video(tmp_path: Path) -> None:
    """Or a resumed run would not give the bytes of one that was never interrupted."""
    pictures = [np.roll(picture((34, 50), 0), i, axis=1) for i in range(40)]
    made, kept = set(), []
    for i in range(10):
        kept.append(np.full(100_000 * i + 1000, i, np.uint8))  # other memory for the codec
        with (tmp_path / "film.mp4").open("wb") as file, video.Encoder(file, tmp_path) as encoder:
            for pts, pixels in enumerate(pictures):
                encoder.add(pixels, video.Frame(pixels, pts, Fraction(1, 10)))
        made.add((tmp_path / "film.mp4").read_bytes())
    assert len(made) == 1


def test_an_interrupted_video_begins_anew(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_video(tmp_path / "film.mp4", frames=9), tmp_path / "out"
    add, calls = video.Encoder.add, []

    def dies(self: Any, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 5:
            raise KeyboardInterrupt
        add(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(video.Encoder, "add", dies)
        assert run(photos / "a.png", path, "--model", model, "--out", out).exit_code == 130
    assert result_files(out) == {"overlay/a.jpg", "panoptic/a.png"}
    assert not (out / "panoptic" / "film").exists()
    result = run(photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1  # no frames of half a video
    result = run(photos / "a.png", path, "--model", model, "--out", out)
    assert "9 frames of 1 video written" in result.stdout
    assert len(coco.read(out / "panoptic.json", out).annotations) == 10
    assert video.count(out / "overlay" / "film.mp4") == 9


def test_broken_videos_are_told_and_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", (130, 130), frames=30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.mkv").write_bytes(b"\0" * 3000)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'whole.mp4'}\n#EXT-X-ENDLIST\n")
    names = ("cut.mp4", "none.mkv", "list.mp4", "empty.mp4")
    out = tmp_path / "out"
    result = run(*(tmp_path / name for name in names), photos / "a.png", "--model", model, "--out", out)
    assert result.exit_code == 1, result.output
    for line, name in zip(result.stderr.splitlines(), names, strict=True):
        assert line.startswith(f"deeperlab: {tmp_path / name}: ")
    assert f"{tmp_path / 'empty.mp4'}: an empty file, no video\n" in result.stderr
    assert "1 image written" in result.stdout
    assert not list((out / "overlay").glob("*.mp4"))
    assert len(coco.read(out / "panoptic.json", out).annotations) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_a_video_that_breaks_leaves_no_frames(
    finished: bool, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, frames = write_video(tmp_path / "film.mp4"), tmp_path / "out", video.frames
    arguments = (photos / "a.png", film, "--model", model, "--out", out, "--heads")

    def breaks(path: Path) -> Iterator[Any]:
        for i, frame in enumerate(frames(path)):
            if i == 4:
                raise FormatError(path, "damaged video: half of it is noise")
            yield frame

    if finished:  # and edited since
        assert run(*arguments).exit_code == 0
        os.utime(film, ns=(1, 1))
    monkeypatch.setattr(video, "frames", breaks)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr == f"deeperlab: {film}: damaged video: half of it is noise\n"
    assert ("1 finished already" if finished else "1 image written,") in result.stdout
    assert "frame" not in result.stdout
    assert result_files(out) == {"overlay/a.jpg", "panoptic/a.png", "heads/a.npz", "panoptic.json"}
    assert not (out / "panoptic" / "film").exists()
    assert "videos" not in json.loads((out / "panoptic.json").read_text())


def test_a_disk_that_is_full_within_a_video_ends_it(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, out, write, calls = write_video(tmp_path / "film.mp4"), tmp_path / "out", batch.write_ids, []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_ids", full)
        assert "no space left on device" in fault(photos / "a.png", film, "--model", model, "--out", out)
    assert result_files(out) == {"overlay/a.jpg", "panoptic/a.png"}
    assert run(photos / "a.png", film, "--model", model, "--out", out).exit_code == 0


CONTAINERS = {"film.mkv": "libx264", "film.webm": "libvpx", "film.avi": "mpeg4", "film.mp4": "libx264"}


def contained(target: Any, codec: str, times: Any = range(75), **options: Any) -> Any:
    """Noise, 25 frames a second, in a container of any kind."""
    av = video.pyav()
    rng = np.random.default_rng(0)
    with av.open(target, "w", **options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for pts in times:
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 96, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in CONTAINERS),
     *(("film.mp4", {"movflags": flags}) for flags in ("faststart", "frag_keyframe+empty_moov"))],
)  # fmt: skip
def test_a_video_that_was_cut_short_is_told(name: str, options: dict[str, str], tmp_path: Path) -> None:
    path = contained(tmp_path / name, CONTAINERS[name], options=options)
    assert len(list(video.frames(path))) == 75
    data = path.read_bytes()
    lengths = [len(data) * percent // 100 for percent in (2, 10, 25, 50, 60, 75, 95)]
    if name in ("film.mkv", "film.webm"):  # of these, nothing is told that lacks less than a second
        lengths = lengths[:-2]
    with video.pyav().open(str(path)) as container:  # within a packet is easily noticed; and between two?
        lengths += [packet.pos + packet.size for packet in container.demux(video=0) if packet.pos][10:45:6]
    for length in lengths:
        path.write_bytes(data[:length])
        with pytest.raises(FormatError, match=r"damaged|no video|not a video|without a frame"):
            list(video.frames(path))
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))  # a download that was never finished
    with pytest.raises(FormatError, match=r"damaged|not a video"):
        list(video.frames(path))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_a_frame_that_is_damaged_in_the_middle_is_told(name: str, tmp_path: Path) -> None:
    """In an MP4 the decoder would go on with a guess, in Matroska it stops."""
    path = contained(tmp_path / name, "libx264")
    with video.pyav().open(str(path)) as container:
        position, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pos][40]
    data = bytearray(path.read_bytes())
    data[position + 8 : position + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"damaged video: (frame \d+ cannot be decoded whole|Invalid data found)"):
        list(video.frames(path))


def test_a_video_that_an_edit_list_trims_is_complete(tmp_path: Path) -> None:
    """Its header counts frames that are not shown."""
    av, path, trimmed = video.pyav(), contained(tmp_path / "film.mp4", "libx264"), tmp_path / "trimmed.mp4"
    with av.open(str(path)) as source, av.open(str(trimmed), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                second = int(1 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - second, packet.dts - second, stream
                target.mux(packet)
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames == 75
    assert len(list(video.frames(trimmed))) == 50


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("times", [[0], [0, 1, 2, 3, 200], [0, 100, 101, 400], range(3), [0, 50, 51, 52, 53, 54]])
def test_a_whole_video_is_never_told_to_be_cut(name: str, times: Any, tmp_path: Path) -> None:
    path = contained(tmp_path / name, CONTAINERS[name], times)
    assert len(list(video.frames(path))) >= len(times)  # AVI repeats frames to fill a gap


@pytest.mark.parametrize(
    ("times", "said", "damaged"),
    [(range(75), 3.9, False), (range(75), 4.1, True), ([0, 50], 5.9, False), ([0, 50], 6.1, True)],
)
def test_a_header_may_say_a_little_too_much(
    times: Any, said: float, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second, or two of the longest frames."""
    path = contained(tmp_path / "film.mkv", "libx264", times)
    monkeypatch.setattr(video, "_duration", lambda _: Fraction(said))
    if damaged:
        with pytest.raises(
            FormatError, match=rf"film\.mkv: damaged video: ends after [23]\.0 s, its header says {said} s"
        ):
            list(video.frames(path))
    else:
        assert len(list(video.frames(path))) == len(times)


def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    """As a recorder writes it where it cannot seek."""

    class Pipe:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data)
            return len(data)

    pipe, path = Pipe(), tmp_path / "film.mkv"
    contained(pipe, "libx264", format="matroska")
    path.write_bytes(pipe.data)
    assert len(list(video.frames(path))) == 75


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_video_is_turned_upright(degrees: int, mirrored: bool, model: Path, tmp_path: Path, assert_same: Any) -> None:
    path, aspect = write_video(tmp_path / "film.mp4", (34, 50), aspect=Fraction(4, 3)), Fraction(4, 3)
    stored = [frame.pixels for frame in video.frames(path)]
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40  # the matrix: a, b, u, c, d, v, x, y, w
    one, cos, sin = 1 << 16, *{0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    side = -1 if mirrored else 1  # as a camera does that faces its user
    matrix = struct.pack(">9i", side * cos * one, side * sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    frames = [frame.pixels for frame in video.frames(path)]
    for frame, pixels in zip(frames, stored, strict=True):
        assert_same(frame, np.rot90(pixels[:, ::side], -degrees // 90))  # the matrix turns clockwise
    out = tmp_path / "out"
    assert run(path, "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert_same(data.ids(data.annotations[2]), Parser(Net("trained"), LABELS)(frames[2]).to_coco()[0])
    size, shown = ((50, 34), 1 / aspect) if degrees % 180 else ((34, 50), aspect)
    drawn = {(frame.pixels.shape[:2], frame.aspect) for frame in video.frames(out / "overlay" / "film.mp4")}
    assert drawn == {(size, shown)}


def test_a_video_is_read_frame_by_frame(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "film.mp4", frames=40)
    ahead, most = 0, 0
    frames, add = video.frames, video.Encoder.add

    def counted(path: Path) -> Iterator[Any]:
        nonlocal ahead, most
        for frame in frames(path):
            ahead, most = ahead + 1, max(most, ahead + 1)
            yield frame

    def encoded(self: Any, *rest: Any) -> None:
        nonlocal ahead
        ahead -= 1
        add(self, *rest)

    monkeypatch.setattr(video, "frames", counted)
    monkeypatch.setattr(video.Encoder, "add", encoded)
    assert run(path, "--model", model, "--out", tmp_path / "out", "--batch", 2).exit_code == 0
    assert ahead == 0
    assert most <= flow.ROOM // flow.LEAST + 1


def test_videos_without_pyav_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    message = fault(tmp_path / "film.mp4", "--model", model, "--out", tmp_path / "out")
    assert message == "videos need PyAV: pip install 'deeperlab[video]'"
    with pytest.raises(ImportError, match="PyAV"):
        list(video.frames(tmp_path / "film.mp4"))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(FormatError, match="not a regular file"):
        video.count(tmp_path / "film.mp4")
