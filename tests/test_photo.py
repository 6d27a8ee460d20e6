# SPDX-License-Identifier: Apache-2.0
"""Photographs of every format: one array whatever they come as, and the size is known before a pixel is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from deeperlab.data.files import FormatError
from deeperlab.data.formats import photo
from deeperlab.predictor.images import pixels_of

KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "avif": "AVIF"}


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((3 * x + 20, 4 * y + 30, 100 + x + y), axis=-1).astype(np.uint8)


def save(path: Path, picture: Any, kind: str, **options: Any) -> Path:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(picture).save(path, format=kind, **options)
    return path


@pytest.mark.parametrize(("suffix", "kind"), KINDS.items())
def test_every_format_is_read_whatever_the_file_is_called(suffix: str, kind: str, tmp_path: Path) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}.get(kind, {})
    path = save(tmp_path / "photo", smooth(), kind, **options)
    read = photo.read_image(path)
    assert (read.dtype, read.shape) == (np.uint8, (40, 56, 3))
    loss = np.abs(read.astype(int) - smooth()).max()
    assert loss <= (12 if kind in ("JPEG", "AVIF", "GIF") else 0)
    with photo.Photo(path) as opened:
        assert opened.pixels == 40 * 56
    with pytest.raises(FormatError, match="too many pixels: 56 × 40, the most is 2239"):
        photo.read_image(path, max_pixels=2239)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(FormatError, match=rf"photo: damaged {kind}"):
        photo.read_image(path)
    assert f".{suffix}" in photo.SUFFIXES


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_tiffs_of_every_compression_are_read(compression: str, tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", smooth(), "TIFF", compression=compression)
    assert np.abs(photo.read_image(path).astype(int) - smooth()).max() <= (12 if compression == "jpeg" else 0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    upright = smooth()
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2)}
    stored |= {6: np.rot90(upright), 7: np.rot90(upright[::-1]), 8: np.rot90(upright, -1)}
    exif = Image.Exif()
    exif[photo.ORIENTATION] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(
        tmp_path / f"x.{suffix}", np.ascontiguousarray(stored[orientation]), KINDS[suffix], exif=exif, **options
    )
    read = photo.read_image(path, exif=True)
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).max() <= (40 if suffix in ("jpg", "avif") else 0)
    if suffix != "tif":
        assert photo.read_image(path).shape == stored[orientation].shape


def test_the_first_of_several_pictures_is_read(tmp_path: Path) -> None:
    first, second = (Image.fromarray(picture) for picture in (smooth(), 255 - smooth()))
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        first.save(tmp_path / "x", format=kind, save_all=True, append_images=[second], **options)
        with pytest.warns(photo.PicturesWarning, match="x: an animation, or several pages; the first picture is read"):
            read = photo.read_image(tmp_path / "x")
        assert np.abs(read.astype(int) - smooth()).max() <= (12 if kind == "GIF" else 0)
        first.save(tmp_path / "x", format=kind, save_all=True, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            photo.read_image(tmp_path / "x")


def test_colors_are_read_whatever_covers_them_and_no_library_warns(tmp_path: Path) -> None:
    index = Image.fromarray((np.arange(12, dtype=np.uint8) % 3).reshape(3, 4)).convert("P")
    index.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    index.save(tmp_path / "bytes.png", transparency=bytes([0, 128, 255]))
    index.save(tmp_path / "one.png", transparency=1)
    index.save(tmp_path / "x.gif", transparency=1)
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)[np.arange(12) % 3].reshape(3, 4, 3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name in ("bytes.png", "one.png", "x.gif"):
            np.testing.assert_array_equal(photo.read_image(tmp_path / name), expected, strict=True)
    assert told == []


def test_text_behind_the_pixels_does_no_harm(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a" * (3 << 20), zip=True)
    path = save(tmp_path / "x.png", smooth(), "PNG", pnginfo=info)
    data = path.read_bytes()
    begin, end = data.index(b"zTXt") - 4, data.index(b"IDAT") - 4
    path.write_bytes(data[:begin] + data[end:-12] + data[begin:end] + data[-12:])
    np.testing.assert_array_equal(photo.read_image(path), smooth())


def test_an_orientation_that_a_text_holds_is_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[photo.ORIENTATION] = 6
    data = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    info.add_text("comment", "a" * 99)
    path = save(tmp_path / "x.png", np.ascontiguousarray(np.rot90(smooth())), "PNG", pnginfo=info)
    np.testing.assert_array_equal(photo.read_image(path, exif=True), smooth())


@pytest.mark.parametrize(
    ("suffix", "picture"),
    [("tif", np.zeros((3, 4), np.uint16)), ("tif", np.zeros((3, 4), np.float32)), ("png", np.zeros((3, 4), np.uint16))],
)
def test_more_than_8_bits_are_refused(suffix: str, picture: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / f"x.{suffix}", picture, KINDS[suffix])
    with pytest.raises(FormatError, match="expected an image of 8 bits, got"):
        photo.read_image(path)


def test_a_large_webp_is_refused_before_pillow_makes_room(tmp_path: Path) -> None:
    for begin in (b"VP8X" + b"\0" * 8 + b"\xff\x3f\0" * 2, b"VP8L" + b"\0" * 5 + b"\xff" * 4,
                  b"VP8 " + b"\0" * 10 + b"\xff\x3f" * 2):  # fmt: skip
        (tmp_path / "x.webp").write_bytes(b"RIFF\0\0\0\0WEBP" + begin + bytes(99))
        with pytest.raises(FormatError, match=r"too many pixels: 1638[34] × 1638[34]"):
            photo.read_image(tmp_path / "x.webp")
    (tmp_path / "x.webp").write_bytes(b"RIFF\0\0\0\0WEBPnone" + bytes(99))
    with pytest.raises(FormatError, match="damaged WEBP: no size"):
        photo.read_image(tmp_path / "x.webp")


def test_what_an_iphone_writes_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(FormatError, match="HEIC, which Pillow does not read; convert it to JPEG or PNG"):
        photo.read_image(tmp_path / "x.heic")


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_pillow_image_is_turned_once_and_left_as_it_was(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[photo.ORIENTATION] = 6
    path = save(tmp_path / f"x.{kind}", np.ascontiguousarray(np.rot90(smooth())), KINDS[kind], exif=exif)
    with Image.open(path) as image:
        image.info["transparency"] = 0
        np.testing.assert_array_equal(pixels_of(image, "image"), smooth())
        assert image.info["transparency"] == 0
