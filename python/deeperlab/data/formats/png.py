# SPDX-License-Identifier: Apache-2.0
"""Label maps and segment ids as PNG.

The header is checked before anything is decoded: no other format is ever tried, and no picture of more than
`max_pixels` is unpacked. `chunks` decodes maps of the usual kind, Pillow the rest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..files import FormatError, open_file, replace
from ..pointers import describe_pointer
from .chunks import HEADER_BYTES, SIGNATURE, Header, decode, encode, is_whole, without_words
from .mistaken import describe_mode, describe_picture

MAX_ID = (1 << 24) - 1

_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}  # Pillow's names of PNG color types
_WORDS = {"L": "8-bit gray", "P": "a palette", "RGB": "24-bit RGB", "I;16": "16-bit gray"}


def read_map(path: str | os.PathLike[str], modes: tuple[str, ...], *, max_pixels: int | None = None) -> NDArray[Any]:
    """Read the values of a PNG as they are stored: indices of a palette, never its colors; 16 bits as 16 bits.

    Args:
        path: the file.
        modes: those accepted, of "L" (gray, 8 bits), "P" (palette), "RGB" (8 bits) and "I;16" (gray, 16 bits).
        max_pixels: None is Pillow's `Image.MAX_IMAGE_PIXELS`, 89 478 485.

    Returns:
        [H, W]: uint8; uint16 of "I;16"; int32 of "RGB", R + 256·G + 65536·B.

    Raises:
        FormatError: not a whole PNG, another mode, or too many pixels.
        OSError: the file cannot be read.
        ImportError: there is no Pillow.
    """
    require_pillow()
    with open_file(path) as file:
        header, mode = _header(path, file, modes, max_pixels)
        try:
            numbers = decode(file, header)
        except MemoryError as fault:
            raise FormatError(path, "too large for the memory") from fault
        if numbers is not None:
            return numbers
        from PIL import ImageFile

        if ImageFile.LOAD_TRUNCATED_IMAGES and not is_whole(file):  # Pillow would fill up what is missing
            raise FormatError(path, "damaged PNG: cut short, or with wrong bytes")
        values = _decode(path, without_words(file), mode)
        return _ids(values) if mode == "RGB" else values


def read_size(
    path: str | os.PathLike[str], modes: tuple[str, ...], *, max_pixels: int | None = None
) -> tuple[int, int]:
    """Read (H, W) from a PNG's header, without its pixels; arguments and errors as of `read_map`."""
    require_pillow()
    with open_file(path) as file:
        header, _ = _header(path, file, modes, max_pixels)
    return header.height, header.width


def read_ids(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> NDArray[np.int32]:
    """Read the segment ids [H, W] of one PNG of 24-bit color.

    Raises:
        FormatError: not a whole PNG, not RGB of 8 bits, or more than `max_pixels` (see `read_map`).
        OSError: the file cannot be read.
    """
    return read_map(path, ("RGB",), max_pixels=max_pixels)


def write_ids(path: str | os.PathLike[str], ids: NDArray[Any]) -> None:
    """Write an id map [H, W] as a PNG, whole or not at all; ValueError for ids beyond 24 bits."""
    if ids.ndim != 2 or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= MAX_ID):
        raise ValueError(f"ids: expected a map [H, W] of 0 to {MAX_ID}")
    _require_pixels(path, ids)
    replace(path, lambda file: encode(file, ids))


def write_rgb(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Write a picture [H, W, 3] as a PNG, whole or not at all, quickly rather than small."""
    require_pillow()
    from PIL import Image

    _require_pixels(path, picture)
    replace(path, lambda file: Image.fromarray(picture).save(file, format="PNG", compress_level=1))


def _require_pixels(path: str | os.PathLike[str], picture: NDArray[Any]) -> None:
    if 0 in picture.shape:
        raise ValueError(f"{os.fspath(path)}: expected at least one pixel, got shape {picture.shape[:2]}")


def check_pixels(path: str | os.PathLike[str], width: int, height: int, max_pixels: int | None) -> None:
    """Refuse what has no pixels, or more than `max_pixels`; None is Pillow's limit."""
    if width == 0 or height == 0:
        raise FormatError(path, f"no pixels: {width} × {height}")
    if max_pixels is None:
        from PIL import Image

        max_pixels = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None and width * height > max_pixels:
        allowed = f"the most is {max_pixels}; --max-pixels {width * height} or max_pixels takes it"
        raise FormatError(path, f"too many pixels: {width} × {height}, {allowed}")


def require_pillow() -> None:
    """Raise an ImportError that tells the remedy where there is no Pillow."""
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as fault:
        raise ImportError("pictures need Pillow: pip install 'deeperlab[cli]'") from fault


def _header(
    path: str | os.PathLike[str], file: IO[bytes], modes: tuple[str, ...], max_pixels: int | None
) -> tuple[Header, str]:
    """The header of a PNG that has been checked, and Pillow's name of its mode."""
    head = file.read(HEADER_BYTES)
    if not head.startswith(SIGNATURE):
        raise FormatError(path, f"not a PNG{describe_picture(head) or describe_pointer(Path(path))}")
    header = Header.of(head)
    if header is None:
        raise FormatError(path, "damaged PNG: no header")
    color, depth = header.color, header.depth
    mode = "I;16" if (color, depth) == (0, 16) else _MODES.get(color, str(color))
    if mode not in modes or (depth != 8 and mode in ("L", "RGB")):
        words = " or ".join(_WORDS[m] for m in modes)
        raise FormatError(path, f"expected a PNG of {words}, got mode {mode}, {depth} bits{describe_mode(mode, modes)}")
    check_pixels(path, header.width, header.height, max_pixels)
    return header, mode


def _ids(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    ids = rgb[..., 2].astype(np.int32)  # 8 bits would overflow
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def _decode(path: str | os.PathLike[str], file: IO[bytes], mode: str) -> NDArray[Any]:
    """Unpack, without `Image.open`, which would look at the first bytes again and warn of large files."""
    from PIL.PngImagePlugin import PngImageFile

    try:
        with PngImageFile(file) as image:
            if image.mode != mode:
                raise FormatError(path, f"expected mode {mode}, got {image.mode}")
            return np.array(image)
    except FormatError:
        raise
    except MemoryError as fault:
        raise FormatError(path, "too large for the memory") from fault
    except Exception as fault:  # Pillow has many kinds for a damaged file, warnings as errors among them
        raise FormatError(path, f"damaged PNG: {fault}") from fault
