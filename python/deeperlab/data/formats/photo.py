# SPDX-License-Identifier: Apache-2.0
"""Photographs, as RGB of 8 bits: the formats of a list, of which Pillow decodes one that the first bytes name.

Neither `Image.open` nor any other format is ever tried, and the size is known and checked before a pixel is unpacked.
Of a file with several pictures the first is read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..files import FormatError, open_file, replace
from ..pointers import describe_pointer
from . import png
from .chunks import without_words
from .scans import check_scans
from .signatures import HEAD_BYTES, kind_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".jfif", ".jpe", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif")
"""In small or capital letters; what a file is, its first bytes say."""
ORIENTATION = 0x0112
"""EXIF's tag of how a camera was held."""
JPEG_SIDE = 65500
"""The most px a side that a JPEG has."""
JPEG_QUALITY = 90

_NAMES = "PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF"
_STRIP = 1 << 18
"""Pixels that are copied at a time: then Pillow's four bytes a pixel and our three are all there is."""
_BITS_PER_SAMPLE = 258


class PicturesWarning(UserWarning):
    """A file holds several pictures, of which the first is read."""


class Photo:
    """A photograph of which the header has been read.

    Args:
        path: the file.
        max_pixels: None is Pillow's `Image.MAX_IMAGE_PIXELS`, 89 478 485.

    Attributes:
        pixels: how many it has.

    Raises:
        FormatError: no photograph of a known format, damaged, of 16 bits, or more than `max_pixels`.
        OSError: the file cannot be read.
        ImportError: there is no Pillow.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_pixels: int | None = None) -> None:
        self._path = path
        png.require_pillow()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_file(path))
            self._kind = _kind_of(path, file, max_pixels)
            bare = without_words(file) if self._kind == "Png" else file
            with self._faults():
                self._image: Any = stack.enter_context(_plugin(self._kind)(bare))
            self.pixels = self._image.width * self._image.height
            png.check_pixels(path, self._image.width, self._image.height, max_pixels)
            self._require_8_bits()
            if self._kind == "Jpeg":
                check_scans(path, file)
            self._files = stack.pop_all()

    def __enter__(self) -> Photo:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()
        self._image.close()  # which alone lets go of its pixels

    @property
    def orientation(self) -> int:
        """How EXIF says that its stored pixels are to be turned, 1 to 8; 1 also where it says nothing.

        A PNG may say it at its end only, so that it is decoded for this; a TIFF is turned by Pillow, and has 1.
        """
        with self._faults():
            return 1 if self._kind == "Tiff" else orientation_of(self._image)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pixels as they are stored."""
        return self._image.height, self._image.width

    @property
    def upright_size(self) -> tuple[int, int]:
        """(H, W) of the pixels as EXIF turns them."""
        return self.size[::-1] if self.orientation > 4 else self.size

    def read(self, *, exif: bool = False) -> NDArray[np.uint8]:
        """Decode it: uint8 RGB [H, W, 3].

        Args:
            exif: turned as EXIF tells viewers to; else with its pixels as they are stored.

        Raises:
            FormatError: it is damaged, or too large for the memory.

        Warns:
            PicturesWarning: it is an animation, or has several pages.
        """
        with self._faults():
            several = getattr(self._image, "is_animated", False)
            self._image.load()
            self._require_8_bits()  # of what it turned out to be
            picture = rgb_of(self._image, exif=exif)
        if several:
            text = f"{os.fspath(self._path)}: an animation, or several pages; the first picture is read, and no other"
            warnings.warn(text, PicturesWarning, stacklevel=2)
        return picture

    def _require_8_bits(self) -> None:
        depth = self._image.tag_v2.get(_BITS_PER_SAMPLE, (8,)) if self._kind == "Tiff" else (8,)
        if self._image.mode[0] in "IF" or max(depth) > 8:  # converted, they would be clipped to 255, or halved
            what = f"mode {self._image.mode}" if self._image.mode[0] == "F" else "16 bits or more"
            raise FormatError(self._path, f"expected an image of 8 bits, got {what}")

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FormatError:
            raise
        except MemoryError as fault:
            raise FormatError(self._path, "too large for the memory") from fault
        except Exception as fault:  # Pillow has many kinds for a damaged file, warnings as errors among them
            raise FormatError(self._path, f"damaged {self._kind.upper()}: {fault}") from fault


def read_image(path: str | os.PathLike[str], *, max_pixels: int | None = None, exif: bool = False) -> NDArray[np.uint8]:
    """Read a photograph, uint8 RGB [H, W, 3]; see `Photo`."""
    with Photo(path, max_pixels=max_pixels) as photo:
        return photo.read(exif=exif)


def write_jpeg(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a picture [H, W, 3] of at most `JPEG_SIDE` px a side, for the eye, whole or not at all."""
    png.require_pillow()
    from PIL import Image

    replace(path, lambda file: Image.fromarray(picture).save(file, format="JPEG", quality=JPEG_QUALITY))


def rgb_of(image: Any, *, exif: bool) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image of 8 bits a channel, uint8 RGB [H, W, 3], turned as EXIF says if wanted."""
    image.load()  # a TIFF is turned by that
    turn = orientation_of(image) if exif else 1
    width, height = image.size
    picture = np.empty((width, height, 3) if turn > 4 else (height, width, 3), np.uint8)
    stored = _as_stored(picture, turn)
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        strip.info.pop("transparency", None)  # colors are wanted whatever covers them; Pillow warns of some
        stored[top : top + rows] = strip if strip.mode == "RGB" else strip.convert("RGB")
    return picture


def orientation_of(image: Any) -> int:
    """Return the EXIF orientation of a Pillow image, 1 to 8; 1: it is upright, or says nothing that can be read.

    `ImageOps.exif_transpose` fails on EXIF that is damaged elsewhere.
    """
    with contextlib.suppress(Exception):
        found = image.getexif().get(ORIENTATION)
        return found if found in range(2, 9) else 1
    return 1


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """View an upright picture as a file of this orientation stores it."""
    view = upright.transpose(1, 0, 2) if orientation > 4 else upright
    return view[:: -1 if orientation in (3, 4, 6, 7) else 1, :: -1 if orientation in (2, 3, 7, 8) else 1]


def _kind_of(path: str | os.PathLike[str], file: IO[bytes], max_pixels: int | None) -> str:
    """The format that the first bytes name, as Pillow spells it in the names of its modules."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    kind = kind_of(head)
    if kind == "Png" and head[24:25] == b"\x10":
        raise FormatError(path, "expected an image of 8 bits, got 16 bits")
    if kind == "Webp":
        png.check_pixels(path, *_webp_size(path, head), max_pixels)  # Pillow makes room for all before it tells
    if kind == "Heif":
        raise FormatError(path, "HEIC, which Pillow does not read; convert it to JPEG or PNG")
    if kind is None:
        raise FormatError(path, f"not an image of a known format ({_NAMES}){describe_pointer(Path(path))}")
    return kind


def _webp_size(path: str | os.PathLike[str], head: bytes) -> tuple[int, int]:
    """Width and height, of the canvas where the file has one."""

    def number(begin: int, end: int) -> int:
        return int.from_bytes(head[begin:end], "little")

    if head[12:16] == b"VP8X":
        return number(24, 27) + 1, number(27, 30) + 1
    if head[12:16] == b"VP8L":
        return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
    raise FormatError(path, "damaged WEBP: no size")


def _plugin(kind: str) -> Any:
    name = {"Webp": "WebP"}.get(kind, kind)
    module = importlib.import_module(f"PIL.{name}ImagePlugin")
    return getattr(module, f"{name}ImageFile")
