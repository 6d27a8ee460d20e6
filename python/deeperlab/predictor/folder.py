# SPDX-License-Identifier: Apache-2.0
"""The folder of results: which files belong to which image or video, and that one run at a time writes there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from ..data.files import TEMPORARY, inside
from .sources import FRAME, HEADS, IDS, OVERLAY, RESULTS, Source

File = tuple[str, str]
"""One of `RESULTS`, and the name of a file in it."""
LISTING, LINES = "panoptic.json", ".panoptic.jsonl"
MARK = "deeperlab predict"
SUFFIX = {OVERLAY: ".png", IDS: ".png", HEADS: ".npz"}


class Folder:
    """A folder that is ours as long as the `with` lasts; names are those of `Source`, or a frame's `film/000000`.

    On the way in it is made if absent, locked, and rid of the temporary files of a run that was killed.

    Args:
        out: the folder.
        heads: whether results have raw heads.

    Raises:
        OSError: it cannot be made, or another run has locked it.
    """

    def __init__(self, out: Path, *, heads: bool) -> None:
        self.out = out
        self.wanted = RESULTS if heads else (OVERLAY, IDS)

    def __enter__(self) -> Folder:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            text = "is a file" if self.out.is_file() else (fault.strerror or "").lower()
            raise OSError(fault.errno, f"cannot be the folder of --out: {text}", str(self.out)) from fault
        self._lock = os.open(self.out, os.O_RDONLY)
        try:
            self._take_lock()
            self._sweep()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def marked(self) -> bool:
        """Whether it holds the JSON or the lines of an earlier run."""
        return (self.out / LINES).exists() or (self.out / LISTING).exists()

    def path(self, kind: str, name: str) -> Path:
        """Of the overlay, the ids or the heads of an image; ids and heads of a frame."""
        return self.out / kind / (name + SUFFIX[kind])

    def film(self, name: str) -> Path:
        """The overlay of a video."""
        return self.out / OVERLAY / f"{name}.mp4"

    def has_image(self, name: str) -> bool:
        """Whether all files of an image are there."""
        return all(_exists(self.path(kind, name)) for kind in self.wanted)

    def has_video(self, name: str, frames: int) -> bool:
        """Whether all files of a video are there."""
        kinds = [kind for kind in self.wanted if kind != OVERLAY]
        files = (self.path(kind, f"{name}/{i:06d}") for i in range(frames) for kind in kinds)
        return _exists(self.film(name)) and all(map(_exists, files))

    def taken(self, source: Source) -> list[File]:
        """What is there under the names that results of a source have, whoever made it."""
        if not source.video:
            return [file for file in files_of_image(source.name) if os.path.lexists(self.out.joinpath(*file))]
        film = files_of_video(source.name)
        found = [file for file in film if os.path.lexists(self.out.joinpath(*file))]
        for kind in (IDS, HEADS):
            folder = self.out / kind / source.name
            for path in sorted(folder.iterdir()) if _exists(folder) and folder.is_dir() else []:
                if FRAME.fullmatch(path.stem) and path.suffix == SUFFIX[kind]:
                    found.append((kind, f"{source.name}/{path.name}"))
        return found

    def require_free(self, source: Source, ours: Collection[File] = ()) -> None:
        """Nothing is overwritten but what an earlier run has listed.

        Raises:
            FileExistsError: a source's results would take the place of a file.
        """
        for file in self.taken(source):
            if file not in ours:
                fault = f"is there already and not of {MARK}; choose another --out"
                raise FileExistsError(errno.EEXIST, fault, str(self.out.joinpath(*file)))

    def remove(self, files: Iterable[File]) -> None:
        """Remove files as far as they are there, and folders that become empty.

        Raises:
            FormatError: a name leads out of the folder.
            OSError: a file cannot be removed.
        """
        for kind, name in files:
            path = inside(self.out / kind, name)  # the name may be of a JSON that somebody has changed
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            with contextlib.suppress(OSError):  # not empty, or not there
                while (path := path.parent) != self.out:
                    path.rmdir()

    def _take_lock(self) -> None:
        """On the folder itself: nothing is left behind, however the process ends."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            text = f"another {MARK} is writing there; wait for it, or choose another --out"
            raise BlockingIOError(fault.errno, text, str(self.out)) from fault
        except OSError:  # a file system without locks, as NFS may be
            pass

    def _sweep(self) -> None:
        """Remove what `replace` was filling when its process was killed."""
        for path in self.out.iterdir():
            if path.name.startswith((f".{LISTING}.", f".{LINES}.")) and TEMPORARY.fullmatch(path.name):
                path.unlink()
        for kind in RESULTS if self.marked else ():
            for folder, _, names in os.walk(self.out / kind):
                for name in filter(TEMPORARY.fullmatch, names):
                    (Path(folder) / name).unlink()


def files_of_image(name: str) -> list[File]:
    """All that an image may have."""
    return [(kind, name + SUFFIX[kind]) for kind in RESULTS]


def files_of_video(name: str, frames: Iterable[str] = ()) -> list[File]:
    """All that a video may have, with the files of the frames that are named."""
    return [(OVERLAY, f"{name}.mp4"), *((kind, frame + SUFFIX[kind]) for frame in frames for kind in (IDS, HEADS))]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False
