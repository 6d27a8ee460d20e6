# SPDX-License-Identifier: Apache-2.0
"""What images are called: a name of digits alone is a number, so that COCO's 139 and 000000000139.jpg are one image.

Of a letter with a mark Unicode has two spellings, é or e´: file systems of macOS, and archives made there, split what
others join. Both are one name.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from .fields import Field
from .files import FormatError

ImageId = int | str
"""COCO numbers its images; Cityscapes and Vistas name them."""
_MOST_DIGITS = 18
"""That always fit 64 bits, as other programs keep such numbers."""


def image_id_of(name: ImageId) -> ImageId:
    """Return the id of an image that has a name: 7 of "007", "7" and 7, which are the same image; else the name, with
    its letters joined to their marks (Unicode's NFC)."""
    if isinstance(name, str) and name.isascii() and name.isdigit() and len(name.lstrip("0")) <= _MOST_DIGITS:
        return int(name)
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


def describe_ambiguous(one: ImageId, other: ImageId) -> str:
    """Say what is wrong with two names of one set that are written differently and mean the same image."""
    zeros = isinstance(image_id_of(one), int)
    alike = "leading zeros make" if zeros else f"how Unicode spells a letter ({one!a}, {other!a}) makes"
    return f"images {one!r} and {other!r}: expected distinct names, and {alike} no difference; rename one"


def ids_of(names: Sequence[str], path: str | os.PathLike[str]) -> list[ImageId]:
    """Return the ids of the images of a set.

    Raises:
        FormatError: two mean the same image; `path` is what lists them.
    """
    written: dict[ImageId, str] = {}
    ids = [image_id_of(name) for name in names]
    for image_id, name in zip(ids, names, strict=True):
        other = written.setdefault(image_id, name)
        if other != name:
            raise FormatError(path, describe_ambiguous(other, name))
    return ids


def put_image(table: dict[ImageId, tuple[ImageId, Any]], image_id: ImageId, value: Any, item: Field) -> None:
    """Add to a table by what an id means, with the id as it is written."""
    key = image_id_of(image_id)
    if key in table and table[key][0] != image_id:
        raise item.fault(describe_ambiguous(table[key][0], image_id))
    if key in table:
        raise item.fault(f"id {image_id!r} is there twice")
    table[key] = image_id, value
