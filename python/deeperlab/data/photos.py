# SPDX-License-Identifier: Apache-2.0
"""Photographs beside annotations: where they are."""

from __future__ import annotations

from pathlib import Path

from .containers import exists, is_dir
from .files import inside
from .formats.photo import SUFFIXES
from .missing import spellings


def photo_beside(directory: Path, name: str, *, follow_links: bool = False) -> Path | None:
    """Find the photograph of an annotation: of the name given or, where there is none, with another suffix.

    Args:
        directory: the folder of the photographs.
        name: that of the data set, such as `a.jpg`; `a.JPG`, `a.png` or another spelling of é will do as well.
        follow_links: as of `files.inside`.

    Returns:
        its path, which is that of `name` where there is no such file: `Sample.image` will miss it. None where the whole
        folder is absent.

    Raises:
        FormatError: a symbolic link leads out of the folder.
    """
    if not is_dir(directory):
        return None
    named = [inside(directory, spelled, follow_links=follow_links) for spelled in spellings(name)]
    others = (path.with_suffix(suffix) for path in named for kind in SUFFIXES for suffix in (kind, kind.upper()))
    found = next((path for path in (*named, *others) if exists(path)), named[0])
    return inside(directory, str(found.relative_to(directory)), follow_links=follow_links)
