# SPDX-License-Identifier: Apache-2.0
"""What a user wants parsed: files, folders, patterns and lists become images and videos with distinct names."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ..data.files import FormatError, is_relative_name, reason_of
from ..data.formats.photo import SUFFIXES as IMAGES
from ..data.ids import ImageId, describe_ambiguous, image_id_of
from ..data.text import read_text

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
LIST = ".txt"
MAX_LIST_BYTES = 1 << 26
URL = re.compile(r"[a-z][a-z0-9+]+:/+", re.IGNORECASE)
"""How an address begins, after `Path` has taken one of its slashes."""
CITYSCAPES = "_leftImg8bit"
"""What follows the image id in the file names of Cityscapes' photographs."""
WILDCARDS = frozenset("*?[")
LONGEST_NAME = 237
"""Bytes before the suffix: results have temporary names that are 18 longer, and file systems stop at 255."""
MOST_FOLDERS = 100
"""In the name of a source: making a folder with all above it is a call within a call for every one."""
FRAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,}")
"""The stem of a frame's files, in a folder that has the name of the video."""

Key = tuple[bool, ImageId]
"""Whether it is a video, and its id."""
Fault = tuple[Path, str]
"""A file, and what is wrong with it."""


@dataclass(frozen=True)
class Source:
    """One image or video; `name` is that of its results: where it lies below what was given, without suffix."""

    path: Path
    name: str

    @classmethod
    def named(cls, path: Path, file_name: str) -> Source:
        """Name the results of a file by its place below what was given."""
        return cls(path, file_name[: len(file_name) - len(path.suffix)])

    @property
    def file_name(self) -> str:
        """Where it lies below what was given."""
        return self.name + self.path.suffix

    @property
    def is_video(self) -> bool:
        """By its suffix."""
        return self.path.suffix.lower() in VIDEOS

    @property
    def image_id(self) -> ImageId:
        """As data sets have it: 139 of COCO's 000000000139.jpg, if in no folder below what was given; a_1_2 of
        Cityscapes' a/a_1_2_leftImg8bit.png; else the name, on which alone it depends."""
        stem = self.name.rpartition("/")[2]
        if self.is_video:
            return self.name
        return image_id_of(stem.removesuffix(CITYSCAPES) if stem.endswith(CITYSCAPES) else self.name)

    @property
    def key(self) -> Key:
        """What no other source may have."""
        return self.is_video, self.image_id

    @property
    def video_name(self) -> str | None:
        """The video that would have a frame of this image's name: film, of film/000012.png."""
        folder, _, stem = self.name.rpartition("/")
        return folder if folder and not self.is_video and FRAME.fullmatch(stem) else None

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort by ids, numbers before names, videos by the id of their first frame."""
        if isinstance(self.image_id, int):
            return False, self.image_id, ""
        return True, 0, f"{self.name}/000000" if self.is_video else self.image_id

    def identity(self) -> dict[str, Any]:
        """Tell this file from another, and from itself once it is edited.

        Raises:
            OSError: it is not there.
        """
        stat = self.path.stat()
        return {"path": str(self.path), "bytes": stat.st_size, "modified": stat.st_mtime_ns}


class SourceIndex(dict[Key, Source]):
    """Sources by key, no two of which have results of the same id or name."""

    def __init__(self) -> None:
        super().__init__()
        self._like_frames: dict[str | None, set[Key]] = {}  # images, by the video of which they could be frames

    def add(self, source: Source) -> None:
        """Add a source that has no rivals."""
        self[source.key] = source
        self._like_frames.setdefault(source.video_name, set()).add(source.key)

    def remove(self, source: Source) -> None:
        """Forget a source."""
        del self[source.key]
        self._like_frames[source.video_name].discard(source.key)

    def rivals(self, source: Source) -> list[Source]:
        """Find the sources whose results would have the id of a source, or names of its results."""
        keys = {source.key, (True, source.video_name or "")}
        if source.is_video:
            keys |= self._like_frames.get(source.name, set())
        return [self[key] for key in sorted(keys & self.keys(), key=str)]


@dataclass(frozen=True)
class Found:
    """What `find_sources` finds.

    Attributes:
        sources: images and videos whose results do not clash.
        faults: what is not there, is empty, or has results that would clash.
        left_out: how many files of each suffix folders and patterns hold beside them.
    """

    sources: list[Source]
    faults: list[Fault]
    left_out: Counter[str]


def find_sources(given: Sequence[str | Path], out: Path) -> Found:
    """Find images and videos, in the given order; a file that is reached twice, links followed, comes once.

    Args:
        given: each a file; a folder, with those below it (hidden ones and results left out), sorted, links last; a
            pattern such as "photos/**/*.jpg", of files and folders; or a .txt file with a file or folder a line,
            relative to its own folder, where empty lines and those that begin with # say nothing.
        out: the folder for results.

    Raises:
        FormatError: there is no image and no video at all; it is the first of the faults.
    """
    found, faults = SourceIndex(), list[Fault]()
    seen, search = set[str](), _Search(out, faults)
    for source in search.of(given):
        real = os.path.realpath(source.path)
        if real in seen:
            continue
        if rivals := found.rivals(source):
            other = rivals[0]
            two_names = source.name != other.name and image_id_of(source.name) == image_id_of(other.name)
            text = describe_ambiguous(other.name, source.name) if two_names else clash(other.path)
            faults.append((source.path, text))
        elif not is_relative_name(source.name) or source.path.stem in ("", ".", "..") or source.image_id == "":
            faults.append((source.path, "expected a file with a name before its suffix"))
        elif len(os.fsencode(source.name.rpartition("/")[2])) > LONGEST_NAME:
            faults.append((source.path, f"expected a name of at most {LONGEST_NAME} bytes before its suffix"))
        elif source.name.count("/") > MOST_FOLDERS:
            faults.append((source.path, f"expected at most {MOST_FOLDERS} folders above it, below what was given"))
        elif any("\ud800" <= c <= "\udfff" for c in source.name):  # Python's signs of bytes that are no text
            faults.append((source.path, "expected a name in UTF-8, which the JSON can hold"))
        else:
            seen.add(real)
            found.add(source)
    if faults and not found:
        raise FormatError(*faults[0])
    return Found(list(found.values()), faults, count_suffixes(search.left_out))


def count_suffixes(paths: Iterable[str]) -> Counter[str]:
    """Count files by their suffix, in small letters; the most frequent come first."""
    counted = Counter(Path(path).suffix.lower() for path in paths)
    return Counter(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))))


def list_suffixes(counted: Counter[str]) -> str:
    """Write "3 .heic, 1 .txt, 1 without suffix"."""
    return ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in counted.items())


def clash(other: Path) -> str:
    """Say that the results of one file would take the place of another's."""
    return f"its results would take the place of those of {other}; choose another --out"


class _Search:
    """Finds images and videos; what is wrong on the way is added to the faults."""

    def __init__(self, out: Path, faults: list[Fault]) -> None:
        self._faults = faults
        self.left_out = set[str]()
        self._given = set[str]()
        self._results = tuple(os.path.realpath(out / name) + os.sep for name in ("overlay", "panoptic", "heads"))
        self._listing = os.path.realpath(out / "panoptic.json")

    def of(self, given: Sequence[str | Path]) -> Iterator[Source]:
        for path in map(Path, given):
            try:
                if not path.exists() and WILDCARDS & set(str(path)):
                    yield from self._of_pattern(path)
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
        if path.is_dir():
            if (real := os.path.realpath(path)) not in self._given:  # a list may name it on every line
                self._given.add(real)
                yield from self._sources(path, self._below(path, set()), path)
        else:
            if URL.match(str(path)):
                raise FormatError(path, "an address, which is not fetched; download or record it first")
            if str(path).isdigit() and not path.exists():
                raise FormatError(path, "no such file or directory; cameras are not read: record a video first")
            try:
                path.stat()  # it must be there
            except ValueError as fault:  # a name with a zero in it
                raise FormatError(path, str(fault)) from fault
            yield Source.named(path, path.name)

    def _of_pattern(self, pattern: Path) -> Iterator[Source]:
        """What matches, by its place below the folders that the pattern names in full."""
        parts = pattern.parts
        base = Path(*parts[: max(i for i in range(len(parts)) if _is_literal(parts[:i]))])
        seen = set[str]()
        matches = sorted(self._matching(base, list(parts[len(base.parts) :]), {}), key=str)
        files = (self._below(path, seen) if path.is_dir() else filter(self._is_wanted, [path]) for path in matches)
        yield from self._sources(pattern, chain.from_iterable(files), base)

    def _sources(self, given: Path, files: Iterator[Path], base: Path) -> Iterator[Source]:
        """Name what was found by its place below `base`; a fault if that is nothing."""
        faults, path, before = len(self._faults), None, set(self.left_out)
        for path in files:
            yield Source.named(path, path.relative_to(base).as_posix())
        if path is None and len(self._faults) == faults:
            others = count_suffixes(self.left_out - before)
            hint = f"; of other types: {list_suffixes(others)}" if others else ""
            raise FormatError(given, f"no image ({', '.join(IMAGES)}) and no video in it{hint}")

    def _below(self, top: Path, seen: set[str]) -> Iterator[Path]:
        """What is reached through links comes last: its names are those of the files themselves where it has such."""
        folders = deque([top])
        while folders:
            files = [path for _, here in self._walk(folders.popleft(), folders, seen) for path in here]
            yield from sorted(filter(self._is_wanted, files), key=lambda file: (file.is_symlink(), file))

    def _matching(self, base: Path, parts: list[str], seen: dict[int, set[str]]) -> Iterator[Path]:
        """What a pattern finds below a folder, as `glob` does, but that `**` enters no folder twice."""
        if not parts:
            yield from [base] if os.path.lexists(base) else []
        elif WILDCARDS.isdisjoint(parts[0]):
            yield from self._matching(base / parts[0], parts[1:], seen)
        elif not base.is_dir():
            return
        elif parts == ["**"]:
            yield base
        elif parts[0] == "**":
            folders = deque([base])
            while folders:
                for folder, _ in self._walk(folders.popleft(), folders, seen.setdefault(len(parts), set())):
                    yield from self._matching(folder, parts[1:], seen)
        else:
            for path in self._entries(base, hidden=parts[0].startswith(".")):
                if fnmatch.fnmatch(path.name, parts[0]):
                    yield from self._matching(path, parts[1:], seen)

    def _walk(self, top: Path, links: deque[Path], seen: set[str]) -> Iterator[tuple[Path, list[Path]]]:
        """A folder and those below it, each with its files, hidden ones left out; links to folders are added to
        `links`. One whose real path is in `seen` is left out: links in circles have no end."""
        folders = [top]  # os.walk calls itself for every level, before Python 3.12
        while folders:
            folder = folders.pop()
            if (real := os.path.realpath(folder)) in seen:
                continue
            seen.add(real)
            entries = self._entries(folder)
            within = {path: path.is_symlink() for path in entries if path.is_dir()}
            links.extend(path for path, is_link in within.items() if is_link)
            folders.extend(path for path, is_link in reversed(within.items()) if not is_link)
            yield folder, [path for path in entries if path not in within]

    def _entries(self, folder: Path, *, hidden: bool = False) -> list[Path]:
        """What is in a folder, sorted; a fault, and nothing, if it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                return sorted(folder / entry.name for entry in entries if hidden or not entry.name.startswith("."))
        except OSError as fault:
            self._faults.append((folder, reason(folder, fault)))
            return []

    def _is_wanted(self, path: Path) -> bool:
        """An image or a video by its suffix, and no result; else it is counted."""
        real = os.path.realpath(path)
        if any(each.startswith(self._results) for each in (real, os.path.realpath(path.parent / "_"))):
            return False
        if path.suffix.lower() in IMAGES + VIDEOS:
            return True
        if real != self._listing:
            self.left_out.add(real)
        return False


def _is_literal(parts: Sequence[str]) -> bool:
    """Whether the beginning of a pattern is a place, even one with brackets in its name."""
    return not WILDCARDS & set("".join(parts)) or Path(*parts).exists()


def _lines(path: Path) -> list[Path]:
    lines = read_text(path, max_bytes=MAX_LIST_BYTES).splitlines()
    found = [path.parent / line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not found:
        raise FormatError(path, "an empty list")
    return found


def reason(path: Path, fault: BaseException) -> str:
    """Say what an error says, without the file."""
    if isinstance(fault, FileNotFoundError) and path.is_symlink():
        return f"a symbolic link to {path.readlink()}, which is not there"
    if isinstance(fault, OSError):
        return reason_of(fault)
    return str(fault).removeprefix(f"{path}: ")
