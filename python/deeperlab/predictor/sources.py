# SPDX-License-Identifier: Apache-2.0
"""What a user wants parsed: files, folders, patterns and lists become images and videos with distinct names."""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import FormatError, is_relative_name
from ..data.formats.coco import ImageId

IMAGES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
LIST = ".txt"
CITYSCAPES = "_leftImg8bit"
"""What Cityscapes' photographs have after their image id."""
WILDCARDS = frozenset("*?[")
"""What makes a pattern."""

OVERLAY, IDS, HEADS = RESULTS = "overlay", "panoptic", "heads"
"""Folders of the pictures, of the PNGs that the JSON names, and of the raw heads."""
FRAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,}")
"""The stem of a frame's files, in a folder that has the name of the video."""

Key = tuple[bool, ImageId]
"""Whether it is a video, and its id: no two results have the same."""
Fault = tuple[Path, str]
"""A file, and what is wrong with it."""


@dataclass(frozen=True)
class Source:
    """One image or video; `name` is that of its results: where it lies below what was given, without suffix."""

    path: Path
    name: str
    video: bool

    @property
    def file_name(self) -> str:
        """Where it lies below what was given."""
        return self.name + self.path.suffix

    @property
    def image_id(self) -> ImageId:
        """As data sets have it: COCO's 000000000139.jpg, in no folder below what was given, is 139, Cityscapes'
        a/a_1_2_leftImg8bit.png is a_1_2; else the name. It follows from the name, so that no two images with different
        ids have one name."""
        stem = self.name.rpartition("/")[2]
        if self.video:
            return self.name
        if stem == self.name and stem.isascii() and stem.isdigit() and len(stem) <= 18:  # int64
            return int(stem)
        return stem.removesuffix(CITYSCAPES) if stem.endswith(CITYSCAPES) else self.name

    @property
    def key(self) -> Key:
        """What no other source may have."""
        return self.video, self.image_id

    @property
    def frame_of(self) -> str | None:
        """The video that would have a frame of this image's name: film/000012.png may be one of film.mp4."""
        return None if self.video else frame_of(self.name)

    def identity(self) -> dict[str, Any]:
        """What tells this file from another, and from itself once it is edited.

        Raises:
            OSError: it is not there.
        """
        stat = self.path.stat()
        return {"path": str(self.path), "bytes": stat.st_size, "modified": stat.st_mtime_ns}


def frame_of(name: str) -> str | None:
    """The folder of a name that ends as those of frames do."""
    folder, _, stem = name.rpartition("/")
    return folder if folder and FRAME.fullmatch(stem) else None


def in_order_of(image_id: ImageId) -> tuple[bool, int, str]:
    """To sort by: numbers before names, and the frames of a video as they are shown."""
    if isinstance(image_id, int):
        return False, image_id, ""
    film = frame_of(image_id)
    return True, 0, image_id if film is None else f"{film}/{image_id.rpartition('/')[2].zfill(20)}"


def expand(sources: Sequence[str | Path], out: Path) -> tuple[list[Source], list[Fault]]:
    """The images and videos, in the given order, what is named twice, links followed, but once; and
    what is none.

    Args:
        sources: each a file; a folder, with those below it (hidden ones and results left out), sorted, links last; a
            pattern such as "photos/**/*.jpg", of files and folders; or a .txt file with a file or folder a line,
            relative to its own folder, where empty lines and those that begin with # say nothing.
        out: the folder for results.

    Returns:
        Sources with distinct keys; and what is not there, is empty, or would take the place of another's results.

    Raises:
        FormatError: there is no image and no video at all; it is the first of the faults.
    """
    found: dict[str, Source] = {}
    faults: list[Fault] = []
    taken: dict[Key, Path] = {}
    likes: dict[str | None, Path] = {}  # by the video of which they could be frames
    for source in _Search(out, faults).of(sources):
        real = os.path.realpath(source.path)
        if real in found:
            continue
        fault = None
        other = taken.get(source.key) or (
            likes.get(source.name) if source.video else taken.get((True, source.frame_of or ""))
        )
        if other is not None:
            fault = f"its results would take the place of those of {other}; choose another --out"
        elif not is_relative_name(source.name) or source.path.stem in ("", ".", "..") or source.image_id == "":
            fault = "expected a file with a name before its suffix"
        elif any("\ud800" <= c <= "\udfff" for c in source.name):  # Python's signs of bytes that are no text
            fault = "expected a name in UTF-8, which the JSON can hold"
        if fault is not None:
            faults.append((source.path, fault))
            continue
        found[real] = source
        taken[source.key] = source.path
        likes.setdefault(source.frame_of, source.path)
    if faults and not found:
        raise FormatError(*faults[0])
    return list(found.values()), faults


class _Search:
    """Finds images and videos; what is wrong on the way is added to the faults."""

    def __init__(self, out: Path, faults: list[Fault]) -> None:
        self._faults = faults
        self._results = tuple(os.path.realpath(out / name) + os.sep for name in RESULTS)

    def of(self, given: Sequence[str | Path]) -> Iterator[Source]:
        for each in given:
            path = Path(each)
            try:
                if not path.exists() and WILDCARDS & set(str(each)):
                    yield from self._of_pattern(Path(each))
                elif path.suffix.lower() == LIST and path.is_file():
                    for line in _lines(path):
                        try:
                            yield from self._of_path(line)
                        except (OSError, FormatError) as fault:
                            self._faults.append((line, reason(line, fault)))
                else:
                    yield from self._of_path(path)
            except (OSError, FormatError) as fault:
                self._faults.append((path, reason(path, fault)))

    def _of_path(self, path: Path) -> Iterator[Source]:
        """A file by itself, or those below a folder."""
        if not path.is_dir():
            path.stat()  # it must be there
            yield _source(path, path.parent)
            return
        faults = len(self._faults)
        found = [_source(file, path) for file in self._below(path)]
        if not found and len(self._faults) == faults:
            raise _empty(path)
        yield from found

    def _of_pattern(self, pattern: Path) -> Iterator[Source]:
        """What matches, by its place below the folders that the pattern names in full."""
        parts = pattern.parts
        place = max(i for i in range(len(parts)) if _is_literal(parts[:i]))
        base = Path(*parts[:place])
        full = Path(glob.escape(str(base)), *parts[place:])
        matches = glob.glob(str(full), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        found, faults = False, len(self._faults)
        for path in map(Path, sorted(matches)):
            for file in self._below(path) if path.is_dir() else [path] if self._is_wanted(path) else []:
                found = True
                yield _source(file, base)
        if not found and len(self._faults) == faults:
            raise _empty(pattern)

    def _below(self, top: Path) -> Iterator[Path]:
        """What is reached through links comes last: its names are those of the files themselves where it has such."""
        folders, seen = deque([top]), set()
        while folders:
            files: list[Path] = []
            for folder, names, here in os.walk(folders.popleft(), onerror=self._unreadable):
                real = os.path.realpath(folder)
                names[:] = sorted(name for name in names if not name.startswith(".")) if real not in seen else []
                seen.add(real)
                folders.extend(path for path in (Path(folder, name) for name in names) if path.is_symlink())
                files.extend(Path(folder, name) for name in here if not name.startswith("."))
            yield from sorted(filter(self._is_wanted, files), key=lambda file: (file.is_symlink(), file))

    def _is_wanted(self, path: Path) -> bool:
        """An image or a video by its suffix, and no result."""
        if path.suffix.lower() not in IMAGES + VIDEOS:
            return False
        return not any(os.path.realpath(each).startswith(self._results) for each in (path, path.parent / "_"))

    def _unreadable(self, fault: OSError) -> None:
        path = Path(str(fault.filename))
        self._faults.append((path, reason(path, fault)))


def _is_literal(parts: Sequence[str]) -> bool:
    """Whether the beginning of a pattern is a place, even one with brackets in its name."""
    return not WILDCARDS & set("".join(parts)) or Path(*parts).exists()


def _source(path: Path, base: Path) -> Source:
    place = path.relative_to(base).as_posix()
    return Source(path, place[: len(place) - len(path.suffix)], path.suffix.lower() in VIDEOS)


def _lines(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows' editors begin with a mark
    except UnicodeDecodeError as fault:
        raise FormatError(path, f"expected a list of paths in UTF-8, got {fault.reason}") from fault
    found = [path.parent / line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not found:
        raise FormatError(path, "an empty list")
    return found


def _empty(path: Path) -> FormatError:
    return FormatError(path, f"no image ({', '.join(IMAGES)}) and no video in it")


def reason(path: Path, fault: Exception) -> str:
    """What an error says, without the file."""
    if isinstance(fault, OSError):
        return (fault.strerror or type(fault).__name__).lower()
    return str(fault).removeprefix(f"{path}: ")
