# SPDX-License-Identifier: Apache-2.0
"""What was predicted so far, image after image: a file of lines that an interruption leaves usable, until all is done
and it becomes one COCO panoptic JSON."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ..data.files import FormatError, open_file, replace
from ..data.formats.coco import Category, ImageId
from .folder import LINES, LISTING, MARK, File, Folder, files_of_image, files_of_video
from .settings import difference
from .sources import Key, Source, frame_of, in_order_of


class Journal:
    """The entries of a folder of results, and with them their files.

    Memory holds where each entry begins, not the entry. A line is `{"image", "annotation"}` of an image or a frame,
    `{"video"}` of a video all of whose frames are there, `{"gone"}`, the key of what was dropped, or `{"due"}`, the
    names of what a run has found free to write. When the file is opened again, what the last run had due and no line
    lists is removed, as are frames of a video that no line says to be whole.

    Args:
        folder: locked.
        info: of the JSON: what made the results. Results of other makers are not mixed.
        overwrite: remove what another maker has left, or what is listed in a damaged file.

    Attributes:
        removed: images and videos of another maker.

    Raises:
        FileExistsError: the results in the folder are not of `deeperlab predict`, or of another model or setting.
        FormatError: they are damaged.
        OSError: a file cannot be read or written.
    """

    def __init__(self, folder: Folder, info: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._folder, self._info, self.removed = folder, dict(info), 0
        self._listing, self._lines = folder.out / LISTING, folder.out / LINES
        if folder.marked:
            path = self._lines if self._lines.exists() else self._listing
            if other := difference(_maker(path), info):
                if not overwrite:
                    text = f"has results of {other}; choose another --out, or --overwrite"
                    raise FileExistsError(errno.EEXIST, text, str(path))
            else:
                try:
                    if path == self._listing:
                        replace(self._lines, lambda file: self._begin(file, _entries(path)))
                    self._open()
                    return
                except FormatError:
                    if not overwrite:
                        raise
            self.removed = self._remove_all(path)
        replace(self._lines, lambda file: self._begin(file, iter(())))
        self._listing.unlink(missing_ok=True)
        self._open()

    def __contains__(self, key: Key) -> bool:
        return key[1] in (self._videos if key[0] else self._place)

    def identity(self, key: Key) -> dict[str, Any]:
        """That of the file which an image or a video was made of, see `Source.identity`."""
        entry = self._videos[str(key[1])] if key[0] else self._read(self._place[key[1]])["image"]
        identity: dict[str, Any] = entry.get("source", {})
        return identity

    def is_whole(self, key: Key) -> bool:
        """Whether all files of an entry are there."""
        video, image_id = key
        if video:
            return self._folder.has_video(str(image_id), self._videos[str(image_id)]["frames"])
        return self._folder.has_image(_name(self._read(self._place[image_id])))

    def rivals(self, source: Source) -> list[Key]:
        """What must go before a source can have results: under its id, or with files of the same name."""
        if source.frame_of in self._videos:  # one of whose frames has the same id
            return [(True, source.frame_of)]
        keys = [source.key] if source.key in self else []
        if source.video:
            keys += [(False, image_id) for image_id in self._likes.get(source.name, ())]
        return keys

    def begin(self, sources: Sequence[Source]) -> None:
        """Remove what the results of sources take the place of, if all of it is ours.

        Raises:
            FileExistsError: some is not, and nothing was removed.
            OSError: of the disk.
        """
        for source in sources:
            self._folder.require_free(source, self._listed(source))
        self.add({"due": [[source.video, source.name] for source in sources]})
        for source in sources:
            for key in self.rivals(source):
                self.drop(key)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Remember an entry; it survives the end of the process."""
        place = self._file.seek(0, 2)
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        self._remember(entry, place)

    def drop(self, key: Key) -> None:
        """Forget an image, or a video with its frames, and remove their files."""
        files = self._files(key)
        self._listing.unlink(missing_ok=True)  # it would tell of files that are about to go
        try:
            self.add({"gone": list(key)})
        finally:  # a full disk needs it most
            self._folder.remove(files)

    def give_up(self, source: Source) -> None:
        """Drop a source of this run, with the files that are not listed yet."""
        try:
            self.drop(source.key)
        finally:  # as above
            self._folder.remove(self._folder.taken(source))

    def finish(self, categories: Sequence[Category]) -> None:
        """Write the JSON, whole or not at all, and remove the lines."""
        listing = [
            {key: value for key, value in asdict(c).items() if value is not None} | {"isthing": int(c.isthing)}
            for c in categories
        ]
        replace(self._listing, lambda file: self._write(file, listing))
        self.close()
        self._lines.unlink()

    def close(self) -> None:
        """Leave the lines for the next run."""
        with contextlib.suppress(OSError):  # a full disk has been told already
            self._file.close()

    def _open(self) -> None:
        self._place: dict[ImageId, int] = {}
        self._videos: dict[str, dict[str, Any]] = {}
        self._frames: dict[str, list[ImageId]] = {}
        self._likes: dict[str, set[ImageId]] = {}
        """Images that have the names of frames, by the video that would have them."""
        self._due: list[Source] = []
        self._file = self._lines.open("r+b")
        try:
            end = 0
            for line in self._file:
                if not line.endswith(b"\n"):  # cut short: the process was killed
                    break
                with _damage(self._lines):
                    self._remember(json.loads(line), end)
                end += len(line)
            self._file.truncate(end)
            for video in [name for name in self._frames if name not in self._videos]:
                self.drop((True, video))
            for source in self._due:
                ours = self._listed(source)
                self._folder.remove(file for file in self._folder.taken(source) if file not in ours)
            self.add({"due": []})
        except BaseException:
            self.close()
            raise

    def _remember(self, entry: Mapping[str, Any], place: int) -> None:
        if "image" in entry:
            image_id, video = entry["image"]["id"], entry["image"].get("video")
            self._place[image_id] = place
            like = frame_of(_name(entry))
            if video is not None:
                self._frames.setdefault(video, []).append(image_id)
            elif like is not None:
                self._likes.setdefault(like, set()).add(image_id)
        elif "video" in entry:
            self._videos[entry["video"]["id"]] = entry["video"]
        elif "gone" in entry:
            video, image_id = entry["gone"]
            if video:
                self._videos.pop(image_id, None)
            for gone in self._frames.pop(image_id, []) if video else [image_id]:
                self._place.pop(gone, None)
            for likes in self._likes.values() if not video else ():
                likes.discard(image_id)
        elif "due" in entry:
            self._due = _due(entry)
        elif "info" not in entry:
            raise ValueError("a line that is no entry")

    def _files(self, key: Key) -> list[File]:
        """Of what is listed."""
        if key[0]:
            return files_of_video(str(key[1]), map(str, self._frames.get(str(key[1]), ())))
        return files_of_image(_name(self._read(self._place[key[1]])))

    def _listed(self, source: Source) -> set[File]:
        """The files of all that a source takes the place of."""
        return {file for key in self.rivals(source) for file in self._files(key)}

    def _begin(self, file: IO[bytes], entries: Iterator[dict[str, Any]]) -> None:
        file.write(json.dumps({"info": self._info}).encode() + b"\n")
        for entry in entries:
            file.write(json.dumps(entry).encode() + b"\n")

    def _read(self, place: int) -> dict[str, Any]:
        self._file.seek(place)
        entry: dict[str, Any] = json.loads(self._file.readline())
        return entry

    def _write(self, file: IO[bytes], categories: Any) -> None:
        file.write(b'{\n"info": ' + json.dumps(self._info).encode())
        images = sorted(self._place, key=in_order_of)  # whatever was done first, or again
        for key, name in (("images", "image"), ("annotations", "annotation")):
            file.write(f',\n"{key}": ['.encode())
            for i, image_id in enumerate(images):
                file.write((b",\n" if i else b"\n") + json.dumps(self._read(self._place[image_id])[name]).encode())
            file.write(b"]")
        if self._videos:
            file.write(b',\n"videos": ' + json.dumps([self._videos[name] for name in sorted(self._videos)]).encode())
        file.write(b',\n"categories": ' + json.dumps(categories).encode() + b"\n}\n")

    def _remove_all(self, path: Path) -> int:
        """Remove the files of all that is listed or was due, and of nothing else; how many images and videos they
        were."""
        files: dict[Key, set[File]] = {}
        due: list[Source] = []
        with contextlib.suppress(FormatError):  # of the rest of a damaged file nothing is known
            for entry in _entries(path):
                with _damage(path):
                    if "video" in entry:
                        name = entry["video"]["id"]
                        files.setdefault((True, name), set()).update(files_of_video(name))
                    elif "image" in entry and "video" in entry["image"]:
                        video = entry["image"]["video"]
                        files.setdefault((True, video), set()).update(files_of_video(video, [_name(entry)]))
                    elif "image" in entry:
                        files[False, entry["image"]["id"]] = set(files_of_image(_name(entry)))
                    elif "gone" in entry:
                        video, image_id = entry["gone"]
                        files.pop((video, image_id), None)
                    elif "due" in entry:
                        due = _due(entry)
        for each in files.values():
            with contextlib.suppress(FormatError):  # a name that leads out of the folder
                self._folder.remove(each)
        for source in due:
            self._folder.remove(self._folder.taken(source))
        return len(files)


def _due(entry: Mapping[str, Any]) -> list[Source]:
    """Of their files only the names are known."""
    return [Source(Path(name), str(name), bool(video)) for video, name in entry["due"]]


def _name(entry: Mapping[str, Any]) -> str:
    """Of the files of an image or a frame."""
    return str(entry["annotation"]["file_name"]).removesuffix(".png")


def _maker(path: Path) -> Mapping[str, Any]:
    """The info of results that are ours."""
    with contextlib.suppress(FormatError, StopIteration, KeyError, TypeError):
        info: Mapping[str, Any] = next(_entries(path))["info"]
        if info["description"] == MARK:
            return info
    damaged = ", or damaged in its first line" if path.name == LINES else ""
    fault = f"is there already and not of {MARK}{damaged}; choose another --out"
    raise FileExistsError(errno.EEXIST, fault, str(path))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """`{"info"}`, then the entries; a last line that was cut short is none."""
    with open_file(path) as file, _damage(path):
        if path.name == LINES:
            yield from (json.loads(line) for line in file if line.endswith(b"\n"))
            return
        root = json.load(file)
        yield {"info": root["info"]}
        annotations = {annotation["image_id"]: annotation for annotation in root["annotations"]}
        for image in root["images"]:
            yield {"image": image, "annotation": annotations[image["id"]]}
        for video in root.get("videos", ()):
            yield {"video": video}


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise FormatError(path, f"damaged: {fault}; --overwrite removes what it still lists") from fault
