# SPDX-License-Identifier: Apache-2.0
"""What a user wants parsed: files, folders, patterns and lists become images and videos with distinct names."""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .data.coco import ImageId

IMAGES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
LIST = ".txt"
CITYSCAPES = "_leftImg8bit"
"""What Cityscapes' photographs have after their image id."""

OVERLAY, IDS, HEADS = RESULTS = "overlay", "panoptic", "heads"
"""Folders of the pictures, of the PNGs that the JSON names, and of the raw heads."""


@dataclass(frozen=True)
class Source:
    """One image or video; `name` is that of its results."""

    path: Path
    name: str
    video: bool

    @property
    def image_id(self) -> ImageId:
        """As data sets have it: COCO's 000000000139.jpg is 139, Cityscapes' a_1_2_leftImg8bit.png is a_1_2."""
        digits = not self.video and self.name.isascii() and self.name.isdigit()
        return int(self.name) if digits else self.name


def expand(sources: Sequence[str | Path], out: Path) -> list[Source]:
    """The images and videos, in the given order; what is named twice comes once.

    Args:
        sources: each a file; a folder, with those below it (hidden ones and results left out), sorted; a pattern
            such as "photos/**/*.jpg"; or a .txt file with one path a line, relative to its own folder, where empty
            lines and those that begin with # say nothing.
        out: the folder for results.

    Raises:
        FileNotFoundError: a source is not there, or nothing is in it.
        ValueError: two files whose results would have one name, or a list that is not UTF-8.
        OSError: a folder or a list cannot be read.
    """
    found: dict[Path, Source] = {}
    taken: dict[tuple[bool, ImageId], Path] = {}
    for given in sources:
        paths = list(_paths(given, out))
        if not paths:
            raise FileNotFoundError(errno.ENOENT, f"no image ({', '.join(IMAGES)}) and no video in it", str(given))
        for path in paths:
            if path.absolute() in found:
                continue
            video = path.suffix.lower() in VIDEOS
            source = Source(path, path.stem.removesuffix(CITYSCAPES), video)
            other = taken.setdefault((video, source.image_id), path)
            if other != path:
                raise ValueError(f"{path}: its results would have the name of those of {other}; use another --out")
            found[path.absolute()] = source
    return list(found.values())


def _paths(given: str | Path, out: Path) -> Iterator[Path]:
    path = Path(given)
    if path.is_dir():
        results = [out.absolute() / name for name in RESULTS]
        for file in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            known = file.suffix.lower() in IMAGES + VIDEOS and file.is_file()
            if known and not hidden and not any(file.absolute().is_relative_to(folder) for folder in results):
                yield file
    elif not path.exists() and any(mark in str(given) for mark in "*?["):
        yield from (Path(name) for name in _matches(str(given)) if _is_wanted(Path(name)))
    elif path.suffix.lower() == LIST:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except UnicodeDecodeError as fault:
            raise ValueError(f"{path}: expected a list of paths in UTF-8, got {fault.reason}") from fault
        yield from (path.parent / line for line in lines if line and not line.startswith("#"))
    elif not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(given))
    else:
        yield path


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern


def _is_wanted(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGES + VIDEOS
