# SPDX-License-Identifier: Apache-2.0
"""Segment ids as 24-bit PNG, and files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_ID = (1 << 24) - 1


class FormatError(ValueError):
    """A file that is not what it should be: `path: fault`."""

    def __init__(self, path: str | os.PathLike[str], fault: str) -> None:
        super().__init__(f"{os.fspath(path)}: {' '.join(fault.split())}")


def read_ids(path: str | os.PathLike[str]) -> NDArray[np.int32]:
    """Segment ids [H, W] of one PNG of 24-bit colour.

    Raises:
        FormatError: not a whole PNG, not RGB of 8 bits, or more pixels than Pillow's `Image.MAX_IMAGE_PIXELS`.
        OSError: the file cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    with Path(path).open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        depth = file.read(25)[24:]  # of the PNG header; Pillow would cut 16 bits to 8 and not say so
        file.seek(0)
        try:
            with Image.open(file, formats=["PNG"]) as image:
                if image.mode != "RGB" or depth != b"\x08":
                    raise FormatError(path, f"expected a PNG of 24-bit RGB, got mode {image.mode}, {depth[0]} bits")
                rgb = np.asarray(image, np.int32)
        except UnidentifiedImageError as fault:
            raise FormatError(path, "not a PNG") from fault
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as fault:
            raise FormatError(path, f"too many pixels: {fault}") from fault
        except (OSError, SyntaxError, EOFError, ValueError) as fault:  # Pillow's words for a damaged file
            if isinstance(fault, FormatError):
                raise
            raise FormatError(path, f"damaged PNG: {fault}") from fault
    return np.asarray(rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2], np.int32)


def write_ids(path: str | os.PathLike[str], ids: NDArray[Any]) -> None:
    """Write an id map [H, W] as a PNG, whole or not at all; ValueError for ids beyond 24 bits."""
    from PIL import Image

    if ids.ndim != 2 or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= MAX_ID):
        raise ValueError(f"ids: expected a map [H, W] of 0 to {MAX_ID}")
    rgb = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    replace(path, lambda file: Image.fromarray(rgb).save(file, format="PNG"))


def replace(path: str | os.PathLike[str], save: Callable[[IO[bytes]], Any]) -> None:
    """Let `save` fill a temporary file beside `path`, then put it in the place of `path` in one step.

    Raises:
        OSError: of `path`; what was there before stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            save(file)
        temporary.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    finally:
        temporary.unlink(missing_ok=True)
