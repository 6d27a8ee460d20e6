# SPDX-License-Identifier: Apache-2.0
"""The folder of results: that it is ours, which results in it are finished, and the COCO JSON made of those.

`.deeperlab` marks the folder. It holds `settings.json`; a record of every finished image or video, written after all
its files, the line {"kinds", "image", "annotation"} or {"kinds", "video"} with {"image", "annotation"} of every frame
below it; and, while a run lasts or when it was interrupted, `announced.json`: whose files it writes or removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ..data.fields import Field
from ..data.files import TEMPORARY, FormatError, inside, is_relative_name, is_special, replace
from ..data.formats import coco
from .settings import difference
from .sources import FRAME, Key, Source, SourceIndex, reason

OVERLAY, IDS, HEADS = KINDS = "overlay", "panoptic", "heads"
"""Folders of the pictures, of the PNGs that the JSON names, and of the raw heads."""
SUFFIX = {IDS: ".png", HEADS: ".npz"}
"""Of the files of a kind; that of overlays is a setting."""
OVERLAYS = {"jpeg": ".jpg", "png": ".png", "none": ""}
"""The setting → the suffix of the overlay of an image."""
STATE, LISTING = ".deeperlab", "panoptic.json"
SETTINGS, REQUEST = "settings.json", "request.json"
SPECIAL = "is no regular file; choose another --out"


@dataclass(frozen=True)
class Record:
    """A finished image or video.

    Attributes:
        source: as it was then.
        identity: of its file then, see `Source.identity`.
        kinds: those of `KINDS` that were written.
        video: its entry of the JSON.
        overlay: the suffix of overlays.
    """

    source: Source
    identity: Mapping[str, Any]
    kinds: Sequence[str]
    video: Mapping[str, Any] | None
    overlay: str

    def files(self, kinds: Iterable[str] | None = None) -> Iterator[str]:
        """Name its files, by default of the kinds that were written."""
        return files_of(self.source, kinds or self.kinds, self.overlay, self.video["frames"] if self.video else 0)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make a folder of results if it is absent, mark it as ours, and lock it as long as the `with` lasts.

    Raises:
        FileExistsError: it is neither empty nor marked.
        OSError: it cannot be made, or another run has locked it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        text = "is a file" if path.is_file() else (fault.strerror or "").lower()
        raise OSError(fault.errno, f"cannot be the folder of --out: {text}", str(path)) from fault
    descriptor = os.open(path, os.O_RDONLY)  # a lock on the folder itself leaves nothing behind
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            text = "another deeperlab predict is writing there; wait for it, or choose another --out"
            raise BlockingIOError(fault.errno, text, str(path)) from fault
        except OSError:  # a file system without locks, as NFS may be
            pass
        if not (path / STATE).is_dir() and any(path.iterdir()):
            text = "is neither empty nor a folder of deeperlab predict; choose another --out"
            raise FileExistsError(errno.EEXIST, text, str(path))
        (path / STATE).mkdir(exist_ok=True)
        yield
    finally:
        os.close(descriptor)


class Results:
    """What is finished in a folder of results. Files are named relative to it: "overlay/a.png".

    On the way in, what an interrupted run has left beside its records is removed.

    Args:
        path: the folder, locked.
        settings: what makes the results, see `settings.describe`; those of other settings are not mixed with them.
        kinds: those of `KINDS` that are wanted.
        overwrite: remove results of other settings.

    Attributes:
        removed: images and videos of other settings.

    Raises:
        FileExistsError: there are results of other settings, or the JSON is no regular file.
        FormatError: a record is damaged.
        OSError: a file cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], kinds: Sequence[str], *, overwrite: bool) -> None:
        self.path, self.state = path, path / STATE
        self._settings, self._kinds, self.removed = settings, kinds, 0
        self._announced = self.state / "announced.json"
        self._records: dict[Key, Record] = {}
        self._sources = SourceIndex()
        if is_special(path / LISTING):
            self._refuse(SPECIAL, LISTING)
        self._earlier = earlier_settings(path)
        self._overlay = OVERLAYS[self._earlier.get("overlay", "png")]  # of what is there
        self._clean_up()
        self._check_settings(overwrite)

    def rivals(self, source: Source) -> list[Record]:
        """Find what must go before a source can have results: under its id, or with files of the same name."""
        return [self._records[rival.key] for rival in self._sources.rivals(source)]

    def is_complete(self, record: Record) -> bool:
        """Whether all wanted files of a result are there."""
        files = record.files(self._kinds)
        return set(self._kinds) <= set(record.kinds) and all((self.path / file).exists() for file in files)

    def announce(self, sources: Sequence[Source]) -> None:
        """Remove what the results of sources take the place of, if all of it is ours.

        Raises:
            FileExistsError: some is not, and nothing was removed.
            OSError: of the disk.
        """
        rivals: dict[Key, Record] = {}
        for source in sources:
            records = self.rivals(source)
            rivals |= {record.source.key: record for record in records}
            present = self._present(source)
            for file in sorted(file for file in present if is_special(self.path / file)):
                self._refuse(SPECIAL, file)
            if others := present.difference(*(record.files() for record in records)):
                self._refuse("is there already and not of deeperlab predict; choose another --out", min(others))
        self._make_way(sources, list(rivals.values()))

    def add(self, source: Source, entry: Mapping[str, Any], frames: Iterable[bytes] = ()) -> None:
        """Record a result, all of whose files are there; `frames`: encoded entries of those of a video."""
        path = self._path(source)
        replace(path, lambda file: file.writelines(chain([encode({"kinds": self._kinds, **entry})], frames)))
        self._remember(path)

    def give_up(self, source: Source) -> None:
        """Remove the files of a source that was announced and cannot be finished."""
        self._remove(self._present(source))

    def remember(self, request: Mapping[str, Any]) -> None:
        """Keep what was asked for beside the settings that came of it."""
        replace(self.state / REQUEST, lambda file: file.write(encode({"request": request, "settings": self._settings})))

    def finish(self, categories: Sequence[coco.Category]) -> None:
        """Write the JSON of all that is recorded, in the order of the ids, whole or not at all."""
        replace(self.state / LISTING, lambda file: self._write(file, categories))
        (self.state / LISTING).replace(self.path / LISTING)
        self._announced.unlink()

    def _clean_up(self) -> None:
        """Read the records; remove temporary files, and announced ones that belong to no record."""
        for folder, _, names in chain.from_iterable(os.walk(self.path / name) for name in (*KINDS, STATE)):
            for name in filter(TEMPORARY.fullmatch, names):
                Path(folder, name).unlink()
        for path in self.state.glob("*.jsonl"):
            self._remember(path)
        with _whole(self._announced):
            names = _first(self._announced, list)
            if wrong := [name for name in names if not isinstance(name, str) or not is_relative_name(name)]:
                raise FormatError(self._announced, f"expected names, got {wrong[0]!r}")
        for name in names:
            source = Source.named(Path(name), name)
            self._remove(self._present(source).difference(*(record.files() for record in self.rivals(source))))
        self._announced.unlink(missing_ok=True)

    def _check_settings(self, overwrite: bool) -> None:
        if self._records and (other := difference(self._earlier, self._settings)):
            if not overwrite:
                self._refuse(f"has results of {other}; choose another --out, or --overwrite")
            self.removed = len(self._records)
            self._make_way([], list(self._records.values()))
        if self._earlier != self._settings:
            replace(self.state / SETTINGS, lambda file: file.write(encode(self._settings)))
        self._overlay = OVERLAYS[self._settings["overlay"]]

    def _make_way(self, sources: Sequence[Source], records: Sequence[Record]) -> None:
        """Announce what is written and removed, and remove it."""
        names = [source.file_name for source in (*sources, *(record.source for record in records))]
        replace(self._announced, lambda file: file.write(encode(names)))
        if records:
            (self.path / LISTING).unlink(missing_ok=True)  # it would tell of files that are about to go
        for record in records:
            self._path(record.source).unlink()
            del self._records[record.source.key]
            self._sources.remove(record.source)
            self._remove(record.files())

    def _remember(self, path: Path) -> None:
        with _whole(path):
            entry = Field(path, "line 1", _first(path, dict))
            about = entry.child("video" if "video" in entry.value else "image")
            origin, kinds = about.child("source"), entry.get("kinds", list)
            source = Source.named(Path(origin.value["path"]), about.get("file_name", str))  # bytes that are no text too
            identity = {name: origin.get(name, int) for name in ("bytes", "modified")}
            frames = about.get("frames", int) if source.is_video else 0
            if not is_relative_name(source.name) or path != self._path(source):
                raise FormatError(path, f"not of {source.name}")
            if not set(kinds) <= set(KINDS) or not 0 <= frames <= path.stat().st_size:  # a line for every frame
                raise about.fault(f"expected files of {', '.join(KINDS)}, got {kinds!r} of {frames} frames")
        self._records[source.key] = Record(
            source, identity, kinds, about.value if source.is_video else None, self._overlay
        )
        self._sources.add(source)

    def _path(self, source: Source) -> Path:
        """Of its record; an id may be too long for the name of a file."""
        return self.state / f"{hashlib.sha256(repr(source.key).encode()).hexdigest()[:32]}.jsonl"

    def _present(self, source: Source) -> set[str]:
        """The files under the names that results of a source may have, whoever wrote them."""
        files = set(files_of(source, KINDS, self._overlay))
        for kind in (IDS, HEADS) if source.is_video else ():
            with contextlib.suppress(OSError):  # there is no such folder
                paths = (self.path / kind / source.name).iterdir()
                names = {path.name for path in paths if FRAME.fullmatch(path.stem) and path.suffix == SUFFIX[kind]}
                files |= {f"{kind}/{source.name}/{name}" for name in names}
        return {file for file in files if os.path.lexists(self.path / file)}

    def _remove(self, files: Iterable[str]) -> None:
        """Remove files as far as they are there, and folders that become empty."""
        for path in [inside(self.path, file) for file in files]:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            with contextlib.suppress(OSError):  # not empty, or not there
                while (path := path.parent) != self.path:
                    path.rmdir()

    def _write(self, file: IO[bytes], categories: Sequence[coco.Category]) -> None:
        """Hold no entries in memory: each is read when it is written."""
        records = sorted(self._records.values(), key=lambda record: record.source.order)

        def entries(name: str) -> Iterator[Any]:
            for record in records:
                with _whole(path := self._path(record.source)):
                    yield from (line.value[name] for line in Field.lines(path) if name in line.value)

        lists: dict[str, Iterable[Any]] = {"images": entries("image"), "annotations": entries("annotation")}
        videos = [record.video for record in records if record.video]
        lists |= ({"videos": videos} if videos else {}) | {"categories": map(coco.to_json, categories)}
        file.write(b'{"info": ' + encode(self._settings))
        for name, values in lists.items():
            file.write(f',"{name}": [\n'.encode())
            file.writelines(b"," * (i > 0) + encode(value) for i, value in enumerate(values))
            file.write(b"]\n")
        file.write(b"}\n")

    def _refuse(self, fault: str, file: str = "") -> None:
        raise FileExistsError(errno.EEXIST, fault, str(self.path / file))


def earlier_settings(out: Path) -> dict[str, Any]:
    """Read the settings of the results in a folder; none where there are no results.

    Raises:
        FormatError: they are damaged.
        OSError: they cannot be read.
    """
    path = out / STATE / SETTINGS
    with _whole(path):
        found: dict[str, Any] = _first(path, dict)
        if found.get("overlay", "png") not in tuple(OVERLAYS):
            raise FormatError(path, f"overlay: expected {', '.join(OVERLAYS)}, got {found['overlay']!r}")
    return found


def files_of(source: Source, kinds: Iterable[str], overlay: str, frames: int = 0) -> Iterator[str]:
    """Name the results of an image, or of a video with so many frames; `overlay`: the suffix of an image's."""
    for kind in kinds:
        suffix = SUFFIX.get(kind, overlay)
        if not suffix:
            continue
        if not source.is_video:
            yield f"{kind}/{source.name}{suffix}"
        elif kind == OVERLAY:
            yield f"{kind}/{source.name}.mp4"
        else:
            yield from (f"{kind}/{source.name}/{i:06d}{suffix}" for i in range(frames))


def encode(value: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _first(path: Path, kind: type) -> Any:
    """Decode the first line of a file, which is a list or an object; an empty one where there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        line = next(Field.lines(path), Field(path, "", None))
        if not isinstance(line.value, kind):
            raise FormatError(path, "empty, or a record of another kind")
        return line.value
    return kind()


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Say what to do where a record is damaged."""
    try:
        yield
    except (FormatError, LookupError, TypeError) as fault:
        raise FormatError(path, f"damaged: {reason(path, fault)}; choose another --out") from fault
