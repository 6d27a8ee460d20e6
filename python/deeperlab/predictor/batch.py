# SPDX-License-Identifier: Apache-2.0
"""Images and videos in, pictures and one COCO panoptic JSON out: the work of `deeperlab predict`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import archive
from ..data.files import FormatError, replace
from ..data.formats import coco, predictions
from ..data.formats.photo import JPEG_SIDE, write_jpeg
from ..data.formats.png import write_ids, write_rgb
from ..data.labels import LabelSet
from ..params import FuseParams
from . import video
from .base import BaseParser
from .flow import Flow
from .host import Host
from .pictures import Frames, Picture, UnreadError, photo_task
from .results import HEADS, IDS, KINDS, OVERLAY, OVERLAYS, SUFFIX, Results, encode, locked
from .sources import Fault, Source, clash, reason

STAMP = "RANDOM WEIGHTS"
"""Written over the pictures of a network that nobody trained."""
OVERFLOW = "the network gave NaN or infinity; with --half, try without"


@dataclass(frozen=True)
class _Result:
    """What is left of a picture: its `entry` of the JSON, or None and the fault; of a frame, also the overlay."""

    source: Source
    identity: Mapping[str, Any]
    entry: dict[str, Any] | None
    fault: str = ""
    frame: Any = None
    overlay: Any = None


class BatchJob:
    """Parses sources into a folder, and with them what an earlier, perhaps interrupted, run has not finished.

    The folder holds `overlay/NAME.jpg` (or `.png`; `.mp4` of a video), `panoptic/NAME.png` (`panoptic/NAME/000000.png`
    … of a video), `heads/NAME.npz` (`heads/NAME/000000.npz` …) where wanted, and at the end `panoptic.json`. Every file
    is whole or not there. What is done again is removed first; a file that no run has recorded is never touched. Memory
    holds some batches of images, whatever the number of images or frames.

    Args:
        parser: the network; None where only `is_finished` is asked.
        sources: see `find_sources`.
        out: the folder, made if absent.
        settings: of the parser, see `settings.describe`.
        labels: of the parser.
        request: see `describe_request`; kept, if given.
        heads: also write raw heads.
        overwrite: do the sources again. Results of other settings are removed, all of them.

    Attributes:
        faults: (file, what is wrong with it) of every source that was skipped.
        kept: images and videos that were finished already.
        images, videos, frames: written; frames of videos that could be read to the end.
        removed: images and videos of other settings.
        total: images and frames to be done, as far as the videos tell their number.
    """

    def __init__(
        self,
        parser: BaseParser | None,
        sources: Sequence[Source],
        out: Path,
        settings: Mapping[str, Any],
        *,
        labels: LabelSet,
        request: Mapping[str, Any] | None = None,
        heads: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._parser, self._sources, self._out, self._settings = parser, sources, out, settings
        self._labels, self._request = labels, request
        self._flow = Flow(self._parse, self._write)
        self._suffix = SUFFIX | {OVERLAY: OVERLAYS[settings["overlay"]]}
        self._kinds = [kind for kind in KINDS if self._suffix[kind] and (heads or kind != HEADS)]
        self._overwrite = overwrite
        self.faults: list[Fault] = []
        self.kept = self.images = self.videos = self.frames = self.removed = self.total = 0

    @property
    def is_busy(self) -> bool:
        """Whether the network still computes, after an interruption: it writes nothing any more."""
        return self._flow.is_busy

    def run(
        self,
        progress: Callable[[], None] = lambda: None,
        on_tiles: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Do it.

        Args:
            progress: called after every image and frame, broken ones too.
            on_tiles: called, in another thread, with the tiles that are done of an image, and how many it has.

        Raises:
            FileExistsError: files there are not ours, or results of other settings.
            FormatError: a record there is damaged.
            OSError: a file cannot be written, or another run is writing there; what is finished stays so.
            ImportError: a video without PyAV.
            ValueError, MemoryError, RuntimeError: of the network or the fusion.
        """
        if any(source.is_video for source in self._sources):
            video.pyav()
        self._on_tiles = on_tiles
        with locked(self._out):
            self._results = Results(self._out, self._settings, self._kinds, overwrite=self._overwrite)
            self.removed = self._results.removed
            due = [source for source in self._sources if self._is_due(source)]
            self._results.announce(due)
            for source in due:
                with contextlib.suppress(OSError, FormatError):  # told when it is its turn
                    self.total += video.count(source.path) if source.is_video else 1
            self._parse_images([source for source in due if not source.is_video], progress)
            for source in due:
                if source.is_video:
                    self._parse_video(source, progress)
            self._results.finish(self._labels.categories)
            if self._request is not None:
                self._results.remember(self._request)

    def is_finished(self) -> bool:
        """Tell whether nothing is left to do, without the network; then also write the JSON."""
        with locked(self._out):
            self._results = Results(self._out, self._settings, self._kinds, overwrite=False)
            due = [source for source in self._sources if self._overwrite or self._is_due(source)]
            if not due:
                self._results.announce([])
                self._results.finish(self._labels.categories)
                return True
        self.faults, self.kept = [], 0
        return False

    def _is_due(self, source: Source) -> bool:
        """Whether it is to be done, and may take the place of what is there."""
        try:
            identity = source.identity()
        except OSError as fault:
            self._skip(source, fault)
            return False
        for record in () if self._overwrite else self._results.rivals(source):
            same = all(record.identity[name] == identity[name] for name in ("bytes", "modified"))
            if same and record.source.key == source.key and self._results.is_complete(record):
                self.kept += 1
                return False
            if not same and os.path.abspath(record.source.path) != os.path.abspath(source.path):  # noqa: PTH100
                self.faults.append((source.path, f"{clash(record.source.path)}, or --overwrite"))
                return False
        return True

    def _skip(self, source: Source, fault: BaseException) -> None:
        self.faults.append((source.path, reason(source.path, fault)))

    def _parse_images(self, sources: Sequence[Source], progress: Callable[[], None]) -> None:
        tasks = map(partial(photo_task, exif=bool(self._settings.get("exif", True))), sources)
        with contextlib.closing(self._flow.run(tasks)) as results:  # no thread writes on after an interruption
            for result in results:
                if isinstance(result, UnreadError):
                    self._skip(result.source, result.fault)
                elif isinstance(result, Exception):
                    raise result
                elif result.entry is None:
                    self.faults.append((result.source.path, result.fault))
                else:
                    self._results.add(result.source, result.entry)
                    self.images += 1
                progress()

    def _parse_video(self, source: Source, progress: Callable[[], None]) -> None:
        """Write every frame, then the MP4, then the record; or nothing."""
        about: dict[str, Any] = {"id": source.name, "file_name": source.file_name, "frames": 0}

        def parse(draw: Callable[[_Result], None] = lambda result: None) -> None:
            with Frames(source) as frames, contextlib.closing(self._flow.run(frames.tasks(), decoders=1)) as results:
                for result in results:
                    if isinstance(result, Exception):
                        raise result
                    if result.entry is None:
                        raise FormatError(source.path, result.fault)
                    draw(result)
                    lines.write(encode(result.entry))
                    about["frames"] += 1
                    about.update((side, result.entry["image"][side]) for side in ("height", "width"))
                    about["source"] = result.identity
                    progress()

        def parse_and_draw(file: Any) -> None:
            with video.Encoder(file, target) as encoder:
                parse(lambda result: encoder.add(result.overlay, result.frame))

        try:
            with tempfile.TemporaryFile(dir=self._results.state) as lines:
                if OVERLAY in self._kinds:
                    target = self._results.path / OVERLAY / f"{source.name}.mp4"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    replace(target, parse_and_draw)
                else:
                    parse()
                lines.seek(0)
                self._results.add(source, {"video": about}, lines)
        except BaseException as fault:
            with contextlib.suppress(OSError):  # what stopped the video is told, and the next run cleans up
                self._results.give_up(source)
            if not isinstance(fault, FormatError):
                raise
            self._skip(source, fault)
        else:
            self.videos, self.frames = self.videos + 1, self.frames + about["frames"]

    def _parse(self, pictures: Iterator[Picture]) -> Iterator[tuple[Picture, Host]]:
        """Parse in batches, and let the results come to the host while the next are parsed."""
        waiting = deque[Picture]()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for picture in pictures:
                waiting.append(picture)
                yield picture.pixels

        def on_tiles(done: int, total: int) -> None:
            if self._flow.is_closed:
                raise InterruptedError("between the tiles of an image")  # of which nobody is left to hear
            self._on_tiles(done, total)

        assert self._parser is not None
        for parsed in self._parser.stream(pixels(), on_tiles):
            yield waiting.popleft(), Host(parsed, heads=HEADS in self._kinds)

    def _write(self, parsed: tuple[Picture, Host]) -> _Result:
        """Write the files of a picture, but the overlay of a frame; what is large goes as soon as it is not needed."""
        from ..visualize import overlay, stamp

        picture, host = parsed
        source, is_frame, labels = picture.source, picture.frame is not None, self._labels
        if not host.wait():  # the fusion would make a map of anything
            return _Result(source, picture.identity, None, OVERFLOW)
        if not is_frame and self._suffix[OVERLAY] == ".jpg" and max(picture.pixels.shape) > JPEG_SIDE:
            return _Result(source, picture.identity, None, f"more than {JPEG_SIDE} px a side: --overlay png takes it")
        panoptic, image_id = host.panoptic(), picture.name if is_frame else source.image_id
        annotation, ids = predictions.entry(panoptic, image_id, f"{picture.name}.png", labels=labels)
        (height, width), shown = ids.shape, None
        write_ids(self._path(IDS, picture), ids)
        del ids
        if HEADS in self._kinds:
            arrays, size = host.heads()
            told: dict[str, Any] = {"size": size, "original": panoptic.size, "image_ids": [image_id]}
            told |= {"params": FuseParams(**self._settings["fusion"])}
            told |= {"stuff_area": self._settings.get("stuff_area")}
            archive.save(self._path(HEADS, picture), arrays, **told)
        if OVERLAY in self._kinds:
            shown = overlay(picture.pixels, panoptic, labels, num_threads=1)
            del panoptic
            if not self._settings["trained"]:
                stamp(shown, STAMP)
            if not is_frame:
                write_overlay = write_jpeg if self._suffix[OVERLAY] == ".jpg" else write_rgb
                write_overlay(self._path(OVERLAY, picture), shown)
                shown = None
        image: dict[str, Any] = {"id": image_id, "file_name": annotation.file_name if is_frame else source.file_name}
        image |= {"height": height, "width": width}
        image |= {"video": source.name} if is_frame else {"source": picture.identity}
        segments = [coco.to_json(segment) for segment in annotation.segments]
        of_json = {"image_id": image_id, "file_name": annotation.file_name, "segments_info": segments}
        return _Result(source, picture.identity, {"image": image, "annotation": of_json}, "", picture.frame, shown)

    def _path(self, kind: str, picture: Picture) -> Path:
        """Of a file, in a folder that is made if need be."""
        path = self._results.path / kind / f"{picture.name}{self._suffix[kind]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
