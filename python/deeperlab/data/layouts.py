# SPDX-License-Identifier: Apache-2.0
"""How a data set lies in a folder: what a reader's `find` says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .containers import SUFFIXES, is_dir, matching
from .sample import Samples

_CANONICAL = {"training": "train", "validation": "val", "valid": "val"}


@dataclass(frozen=True)
class Layout:
    """A data set that was found in a folder.

    Attributes:
        format: The module that reads it.
        splits: Of each split, under the name that the folder gives it, a function that lists its samples; arguments are
            those of the reader beyond the places: `labels`, `max_pixels`, `follow_links`, and what it has of its own.
    """

    format: str
    splits: Mapping[str, Callable[..., Samples]]


def canonical(split: str) -> str:
    """Return `train` or `val` for what data sets call so, such as `train2017` and `validation`; else the name."""
    name = split.lower().rstrip("0123456789_-")
    return _CANONICAL.get(name, name)


def archives(root: Path) -> list[Path]:
    """Return the zip and tar files of a folder on disk."""
    return [path for path in matching(root, "*") if path.suffix.lower() in SUFFIXES] if root.is_dir() else []


def folder_in(root: Path, *names: str) -> Path | None:
    """Find a folder by the first of its names, as if the zip and tar files in `root` were unpacked there.

    Archives are opened only where none of the names is on disk.
    """
    found = next((root / name for name in names if is_dir(root / name)), None)
    if found is None:
        found = next((path / name for path in archives(root) for name in names if is_dir(path / name)), None)
    return found


def photo_folder(root: Path, split: str) -> Path | None:
    """Find the photographs of a split: below `<split>`, `images/<split>`, `images` or `input_images`."""
    names = (split, f"images/{split}", "images", "input_images") if split else ("images", "input_images")
    return folder_in(root, *names)
