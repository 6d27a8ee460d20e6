# SPDX-License-Identifier: Apache-2.0
"""What was predicted so far, image after image: a file of lines that an interruption leaves usable, until all is done
and it becomes one COCO panoptic JSON."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .data.coco import Category, ImageId
from .data.files import FormatError, open_file, replace

LISTING, LINES = "panoptic.json", ".panoptic.jsonl"
MARK = "deeperlab predict"
TOLD = ("description", "version")
"""Keys of `info` that may differ between the runs that fill one folder."""


class Journal:
    """The entries of a folder of results.

    Memory holds where each entry begins, not the entry. A line is `{"image", "annotation"}` of an image or a frame, or
    `{"video"}` of a video all of whose frames are there; frames of others are forgotten when the file is opened again.

    Args:
        out: the folder, which must exist.
        info: of the JSON: what made the results. Results of other makers are not mixed.
        overwrite: forget what is there.

    Raises:
        FileExistsError: the results in the folder are not of `deeperlab predict`, or of another model or setting.
        FormatError: they are damaged.
        OSError: a file cannot be read or written.
    """

    def __init__(self, out: Path, info: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._listing, self._lines = out / LISTING, out / LINES
        self._info = dict(info)
        self._place: dict[ImageId, int] = {}
        self._videos: dict[str, dict[str, Any]] = {}
        resumed = self.is_in(out)
        if resumed:
            self._check_maker(same=not overwrite)
        earlier = self._earlier() if resumed and not overwrite else iter(())
        replace(self._lines, lambda file: self._copy(file, earlier))
        if overwrite:
            self._listing.unlink(missing_ok=True)  # it would tell of files that are about to change
        self._file = self._lines.open("r+b")
        self._file.seek(0, 2)

    @staticmethod
    def is_in(out: Path) -> bool:
        """Whether a folder holds the JSON or the lines of an earlier run."""
        return (out / LINES).exists() or (out / LISTING).exists()

    def __contains__(self, image_id: ImageId) -> bool:
        return image_id in self._place

    def __len__(self) -> int:
        """Images and frames."""
        return len(self._place)

    def video(self, name: str) -> dict[str, Any] | None:
        """The entry of a video that is finished."""
        return self._videos.get(name)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Remember an entry; it survives the end of the process."""
        place = self._file.tell()
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        self._remember(entry, place)

    def forget_video(self, name: str) -> None:
        """Drop a video and its frames, which are about to be made anew."""
        self._videos.pop(name, None)
        self._place = {i: p for i, p in self._place.items() if not str(i).startswith(f"{name}/")}

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
        self._file.close()

    def _write(self, file: IO[bytes], categories: Any) -> None:
        file.write(b'{\n"info": ' + json.dumps(self._info).encode())
        for key, name in (("images", "image"), ("annotations", "annotation")):
            file.write(f',\n"{key}": ['.encode())
            for i, place in enumerate(self._place.values()):
                self._file.seek(place)
                entry = json.loads(self._file.readline())[name]
                file.write((b",\n" if i else b"\n") + json.dumps(entry).encode())
            file.write(b"]")
        if self._videos:
            file.write(b',\n"videos": ' + json.dumps(list(self._videos.values())).encode())
        file.write(b',\n"categories": ' + json.dumps(categories).encode() + b"\n}\n")

    def _remember(self, entry: Mapping[str, Any], place: int) -> None:
        if "video" in entry:
            self._videos[entry["video"]["id"]] = entry["video"]
            return
        image_id = entry["image"]["id"]
        self._place.pop(image_id, None)  # done again: to the end
        self._place[image_id] = place

    def _copy(self, file: IO[bytes], entries: Iterator[dict[str, Any]]) -> None:
        file.write(json.dumps({"info": self._info}).encode() + b"\n")
        for entry in entries:
            place = file.tell()
            file.write(json.dumps(entry).encode() + b"\n")
            self._remember(entry, place)

    @property
    def _source(self) -> Path:
        """Where the last run left its entries: in lines if it was interrupted."""
        return self._lines if self._lines.exists() else self._listing

    def _earlier(self) -> Iterator[dict[str, Any]]:
        path = self._source
        finished = {entry["video"]["id"] for entry in _entries(path) if "video" in entry}
        for entry in _entries(path):
            if "info" not in entry and entry.get("image", {}).get("video") in {None, *finished}:
                yield entry

    def _check_maker(self, *, same: bool) -> None:
        path = self._source
        try:
            info = next(_entries(path))["info"]
            ours = info["description"] == MARK
        except (FormatError, StopIteration, KeyError, TypeError):
            ours = False
        if not ours:
            raise FileExistsError(errno.EEXIST, f"is there already and not of {MARK}; choose another --out", str(path))
        earlier, now = _flat(info), _flat(self._info)
        for key in (k for k in (*now, *earlier) if same and k not in TOLD):
            if earlier.get(key) != now.get(key):
                raise FileExistsError(
                    errno.EEXIST,
                    f"has results of {key} {earlier.get(key)!r}, not {now.get(key)!r}; choose another --out, or "
                    "--overwrite",
                    str(path),
                )


def _flat(info: Mapping[str, Any]) -> dict[str, Any]:
    """With the model's options by themselves: a name says more than two long lists."""
    model = info.get("model")
    if not isinstance(model, Mapping):
        return dict(info)
    rest = {key: value for key, value in info.items() if key != "model"}
    return {f"model's {key}": value for key, value in model.items()} | rest


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """`{"info"}`, then the entries; a last line that was cut short is none."""
    try:
        with open_file(path) as file:
            if path.name == LISTING:
                yield from _entries_of_listing(json.load(file))
                return
            for line in file:
                if not line.endswith(b"\n"):
                    return
                entry = json.loads(line)
                if not isinstance(entry, dict) or not ({"info", "image", "video"} & entry.keys()):
                    raise ValueError("a line that is no entry")
                yield entry
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise FormatError(path, f"damaged: {fault}; --overwrite begins anew") from fault


def _entries_of_listing(root: Any) -> Iterator[dict[str, Any]]:
    yield {"info": root["info"]}
    annotations = {annotation["image_id"]: annotation for annotation in root["annotations"]}
    for image in root["images"]:
        yield {"image": image, "annotation": annotations[image["id"]]}
    for video in root.get("videos", ()):
        yield {"video": video}
