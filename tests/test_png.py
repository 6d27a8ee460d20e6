# SPDX-License-Identifier: Apache-2.0
"""Maps in PNG: our decoder has Pillow's values, never takes what Pillow refuses, and leaves the unusual to it."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deeperlab._numpy import unfilter
from deeperlab.data.files import FormatError
from deeperlab.data.formats import chunks, photo, png

MODES = {"L": (0, 8, 1), "P": (3, 8, 1), "I;16": (0, 16, 2), "RGB": (2, 8, 3)}
"""Mode → color type, bits, bytes of a pixel."""


@pytest.fixture(params=["zlib-ng", "zlib"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With zlib-ng, and without."""
    if request.param == "zlib":
        monkeypatch.setattr(chunks, "fast_zlib", zlib)
    elif chunks.fast_zlib is zlib:
        pytest.skip("there is no zlib-ng")
    return str(request.param)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(mode: str, rows: bytes, shape: tuple[int, int], *extra: bytes, parts: int = 1, level: int = 6) -> bytes:
    """A PNG of rows that are filtered already."""
    color, depth, _ = MODES[mode]
    packed = zlib.compress(rows, level)
    cuts = [len(packed) * i // parts for i in range(parts + 1)]
    idat = [chunk(b"IDAT", packed[a:b]) for a, b in pairwise(cuts)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", shape[1], shape[0], depth, color, 0, 0, 0))
    palette = [chunk(b"PLTE", bytes(range(256)) * 3)] if mode == "P" else []
    return chunks.SIGNATURE + b"".join([header, *extra, *palette, *idat, chunk(b"IEND", b"")])


def by_pillow(data: bytes, mode: str) -> NDArray[Any] | None:
    """What Pillow makes of a file; None where it refuses it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            values = np.array(image)
            return png._ids(values) if mode == "RGB" else values if image.mode == mode else None
    except Exception:  # it has many kinds
        return None


def by_us(data: bytes) -> NDArray[Any] | None:
    header = chunks.Header.of(data[: chunks.HEADER_BYTES])
    if header is None or not 0 < header.width * header.height < 10_000:
        return None
    return chunks.decode(io.BytesIO(data), header)


@st.composite
def filtered(draw: st.DrawFn) -> tuple[str, bytes, tuple[int, int]]:
    """Rows of any filter with many bytes of 0, as label maps have."""
    mode = draw(st.sampled_from(sorted(MODES)))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(0, 256, (height, 1 + width * MODES[mode][2])).astype(np.uint8)
    rows[:, 1:] *= rng.random((height, rows.shape[1] - 1)) < draw(st.sampled_from([0.02, 0.3, 1]))
    rows[:, 0] = rng.integers(0, 5, height)
    return mode, rows.tobytes(), (height, width)


@settings(deadline=None)
@given(filtered(), st.integers(1, 3), st.integers(0, 9))
def test_every_filter_gives_the_values_of_pillow(given: Any, parts: int, level: int) -> None:
    mode, rows, shape = given
    data = png_of(mode, rows, shape, parts=parts, level=level)
    ours, theirs = by_us(data), by_pillow(data, mode)
    assert ours is not None
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == {"I;16": np.uint16, "RGB": np.int32}.get(mode, np.uint8)


def test_maps_that_pillow_writes_are_read_without_it(inflate: str, tmp_path: Path) -> None:
    ids = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 1 << 24, (9, 7)), 20, 0), 30, 1)
    path = tmp_path / "x.png"
    png.write_ids(path, ids)
    data = path.read_bytes()
    np.testing.assert_array_equal(by_us(data) if ids.size < 10_000 else png.read_ids(path), ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "_decode", None)
        np.testing.assert_array_equal(png.read_ids(path), ids)


def test_what_is_damaged_is_never_taken_where_pillow_refuses_it(inflate: str) -> None:
    """Also where the checksum fits the damage."""
    rng = np.random.default_rng(1)
    taken = 0
    for n in range(1500):
        mode = sorted(MODES)[n % 4]
        rows = (rng.integers(0, 256, (5, 1 + 8 * MODES[mode][2])) * (rng.random() < 0.5)).astype(np.uint8)
        rows[:, 0] = rng.integers(0, 5, 5)
        extra = [chunk(b"pHYs", bytes(9)), chunk(b"tEXt", b"a\0b")][: n % 3]
        whole = bytearray(png_of(mode, rows.tobytes(), (5, 8), *extra, parts=1 + n % 2))
        whole[rng.integers(8, len(whole))] = rng.integers(256)
        if n % 5 == 0:
            del whole[rng.integers(8, len(whole)) :]
        for fix in (False, True):
            data = with_checksums(bytes(whole)) if fix else bytes(whole)
            ours = by_us(data)
            if ours is not None:
                taken += 1
                header = chunks.Header.of(data)
                assert header is not None
                kind = "I;16" if header.depth == 16 else {0: "L", 2: "RGB", 3: "P"}[header.color]
                theirs = by_pillow(chunks.without_words(io.BytesIO(data)).read(), kind)
                np.testing.assert_array_equal(ours, theirs)
    assert taken > 50


def with_checksums(data: bytes) -> bytes:
    """With those of the chunks as they are now."""
    fixed = bytearray(data)
    for kind, start, length in chunks._walk(io.BytesIO(data)):
        end = start + length
        if end + 4 <= len(fixed):
            fixed[end : end + 4] = struct.pack(">I", zlib.crc32(kind + bytes(fixed[start:end])))
    return bytes(fixed)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (chunk(b"tRNS", bytes(6)), "transparency"),
        (chunk(b"acTL", struct.pack(">II", 1, 0)), "an animation"),
        (chunk(b"pHYs", bytes(5)), "a chunk cut short, which Pillow refuses"),
        (chunk(b"abCd", b""), "a chunk that nobody knows"),
        (chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)), "a second header"),
        (chunk(b"IDAT", zlib.compress(bytes(14))) + chunk(b"pHYs", bytes(9)), "pixels in two places"),
    ],
)
def test_what_is_unusual_is_left_to_pillow(extra: bytes, reason: str) -> None:
    assert by_us(png_of("RGB", bytes(14), (2, 2))) is not None
    assert by_us(png_of("RGB", bytes(14), (2, 2), extra)) is None, reason


def test_real_maps_have_the_values_of_pillow_and_hardly_need_it(realdata: Path, inflate: str) -> None:
    paths = sorted((realdata / "coco_panoptic" / "panoptic_val").glob("*.png"))[:20]
    paths += sorted((realdata / "panopticapi_sample" / "panoptic_examples").glob("*.png"))
    assert len(paths) == 22
    for path in paths:
        data = path.read_bytes()
        header = chunks.Header.of(data[: chunks.HEADER_BYTES])
        assert header is not None
        np.testing.assert_array_equal(chunks.decode(io.BytesIO(data), header), by_pillow(data, "RGB"))


def test_interlaced_maps_and_those_of_few_colors_are_read_too(tmp_path: Path) -> None:
    indices = (np.arange(77).reshape(7, 11) % 3).astype(np.uint8)
    few = Image.fromarray(indices)
    few.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
    few.save(tmp_path / "few.png", bits=2)
    np.testing.assert_array_equal(png.read_map(tmp_path / "few.png", ("P",)), indices)
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in indices[y::dy, x::dx] if row.size)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 7, 8, 0, 0, 0, 1))
    whole = chunks.SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "interlaced.png").write_bytes(whole)
    np.testing.assert_array_equal(png.read_map(tmp_path / "interlaced.png", ("L",)), indices)


@pytest.mark.parametrize(("height", "words"), [(1, "too few"), (3, "too many")])
def test_rows_that_are_not_as_many_as_the_header_says_are_left_to_pillow(height: int, words: str, inflate: str) -> None:
    data = png_of("L", bytes(5 * height), (2, 4))
    assert by_us(data) is None, words


def test_a_stream_that_unpacks_to_far_more_than_the_header_says_costs_no_memory(inflate: str) -> None:
    import tracemalloc

    data = png_of("L", bytes(100_000_000), (2, 4))
    tracemalloc.start()
    try:
        assert by_us(data) is None
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["text", "packed text", "text in Unicode", "profile"])
def test_text_and_profiles_of_any_length_are_nobodys_business(kind: str, tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    words = PngInfo()
    if kind == "text in Unicode":
        words.add_itxt("workflow", "ü" * 2_000_000, zip=True)
    elif kind != "profile":
        words.add_text("prompt", "a" * 3_000_000, zip=kind == "packed text")
    profile = bytes(2_000_000) if kind == "profile" else None
    path = tmp_path / "x.png"
    Image.fromarray(values).save(path, pnginfo=words, icc_profile=profile)
    np.testing.assert_array_equal(photo.read_image(path), values)
    expected = values.astype(np.int32) @ [1, 256, 65536]
    np.testing.assert_array_equal(png.read_ids(path), expected)
    few = Image.fromarray(values[..., 0] & 1)
    few.putpalette([0, 0, 0, 9, 9, 9])
    few.save(path, pnginfo=words, icc_profile=profile, transparency=0)  # of one bit: Pillow's business
    np.testing.assert_array_equal(png.read_map(path, ("P",)), values[..., 0] & 1)


def test_a_photograph_with_words_is_still_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[photo.ORIENTATION] = 6
    words = PngInfo()
    words.add_text("prompt", "a" * 2_000_000, zip=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "x.png", exif=exif, pnginfo=words)
    assert photo.read_image(tmp_path / "x.png", exif=True).shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((bytes(7), 2, 3, 1), "data: expected 2 rows of 4 bytes, got 7 bytes"),
        ((bytes(9), 2, 3, 1), "data: expected 2 rows of 4 bytes, got 9 bytes"),
        ((b"\5" + bytes(7), 2, 3, 1), "data: expected filters 0 to 4"),
        ((b"", 0, 3, 1), "height: expected 1 to .*, got 0"),
        ((b"", 2**31 - 1, 2**31 - 1, 3), "data: expected 2147483647 rows of 6442450942 bytes, got 0 bytes"),
        ((bytes(8), 2, 3, 4), "pixel_bytes: expected 1 to 3, got 4"),
    ],
)
def test_rows_that_do_not_fit_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unfilter(*arguments)


def test_a_broken_file_is_named_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_of("RGB", b"\7" + bytes(13), (2, 2)))
    with pytest.raises(FormatError, match=r"x\.png: damaged PNG: "):
        png.read_ids(path)


@pytest.mark.parametrize("most", [0, 1, 255, 256, 70000, (1 << 24) - 1])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 50), (700, 601)])
def test_ids_that_are_written_are_those_that_anyone_reads(
    most: int, shape: tuple[int, int], inflate: str, tmp_path: Path
) -> None:
    """In strips of rows: the last map has two of them."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, most + 1, (shape[0] // 9 + 1, shape[1] // 9 + 1)).repeat(9, 0).repeat(9, 1)
    ids = ids[: shape[0], : shape[1]]
    ids[-1, -1] = most
    for turned in (ids, ids.astype(np.int32)[::-1, ::-1], ids.astype(np.uint32)):
        png.write_ids(tmp_path / "x.png", turned)
        with Image.open(tmp_path / "x.png") as image:
            assert (image.mode, image.size) == ("RGB", shape[::-1])
            np.testing.assert_array_equal(np.asarray(image).astype(np.int32) @ [1, 256, 65536], turned)
        np.testing.assert_array_equal(png.read_ids(tmp_path / "x.png"), turned)


def test_maps_of_few_values_are_small_files(tmp_path: Path) -> None:
    ids = np.indices((400, 600)).sum(axis=0) // 90
    png.write_ids(tmp_path / "x.png", ids)
    rgb = np.stack((ids, 0 * ids, 0 * ids), axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "pillow.png")
    assert (tmp_path / "x.png").stat().st_size < 1.5 * (tmp_path / "pillow.png").stat().st_size
