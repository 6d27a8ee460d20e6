# SPDX-License-Identifier: Apache-2.0
"""Images and videos in, pictures and one COCO panoptic JSON out: the work of `deeperlab predict`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._threads import in_order
from ..data import archive
from ..data.files import FormatError, replace
from ..data.formats import coco, predictions
from ..data.formats.photo import read_image
from ..data.formats.png import write_ids, write_rgb
from ..heads import NAMES
from . import video
from .parser import Parsed, Parser
from .results import IDS, KINDS, OVERLAY, SUFFIX, Results, encode, files_of, locked
from .sources import Fault, Source, clash, reason

WORKERS = 2
"""Threads that read, and as many that write, beside the network."""
OVERFLOW = "the network gave NaN or infinity; with --half, try without"


@dataclass(frozen=True)
class _Picture:
    """An image, or a frame of a video with its number; `identity`: of the file, see `Source.identity`."""

    source: Source
    pixels: NDArray[np.uint8]
    identity: Mapping[str, Any]
    frame: video.Frame | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """Of its files, without suffix."""
        return self.source.name if self.frame is None else f"{self.source.name}/{self.number:06d}"


_Result = tuple[_Picture, dict[str, Any] | None, NDArray[np.uint8]]
"""A picture, its entries of the JSON (None: the network overflowed), and its overlay."""


class BatchJob:
    """Parses sources into a folder, and with them what an earlier, perhaps interrupted, run has not finished.

    The folder holds `overlay/NAME.png` (`overlay/NAME.mp4` of a video), `panoptic/NAME.png` (`panoptic/NAME/000000.png`
    … of a video), `heads/NAME.npz` (`heads/NAME/000000.npz` …) where wanted, and at the end `panoptic.json`. Every file
    is whole or not there. What is done again is removed first; a file that no run has recorded is never touched. Memory
    holds some batches of images, whatever the number of images or frames.

    Args:
        parser: the network.
        sources: see `find_sources`.
        out: the folder, made if absent.
        settings: of the parser, see `settings.describe`.
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
        parser: Parser,
        sources: Sequence[Source],
        out: Path,
        settings: Mapping[str, Any],
        *,
        heads: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._parser, self._sources, self._out, self._settings = parser, sources, out, settings
        self._kinds, self._overwrite = KINDS if heads else (OVERLAY, IDS), overwrite
        self.faults: list[Fault] = []
        self.kept = self.images = self.videos = self.frames = self.removed = self.total = 0

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Do it; `progress` is called after every image and frame, broken ones too.

        Raises:
            FileExistsError: files there are not ours, or results of other settings.
            FormatError: a record there is damaged.
            OSError: a file cannot be written, or another run is writing there; what is finished stays so.
            ImportError: a video without PyAV.
            ValueError, MemoryError, RuntimeError: of the network or the fusion.
        """
        if any(source.is_video for source in self._sources):
            video.pyav()
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
            self._results.finish(self._parser.labels.categories)

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
        exif = bool(self._settings.get("exif", True))

        def pictures() -> Iterator[_Picture]:
            for source, read in in_order(partial(_read, exif=exif), sources, WORKERS):
                if isinstance(read, _Picture):
                    yield read
                else:
                    self._skip(source, read)
                    progress()

        with contextlib.closing(self._parse(pictures())) as results:  # no thread writes on after an interruption
            for picture, entry, _ in results:
                if entry is None:
                    self.faults.append((picture.source.path, OVERFLOW))
                else:
                    self._results.add(picture.source, entry)
                    self.images += 1
                progress()

    def _parse_video(self, source: Source, progress: Callable[[], None]) -> None:
        """Write every frame, then the MP4, then the record; or nothing."""
        target = self._results.path / next(files_of(source, [OVERLAY]))
        about: dict[str, Any] = {"id": source.name, "file_name": source.file_name, "frames": 0}

        def encode_overlays(file: Any) -> None:
            with video.Encoder(file, target) as encoder, contextlib.closing(self._parse(_frames(source))) as results:
                for picture, entry, overlay in results:
                    if entry is None:
                        raise FormatError(source.path, OVERFLOW)
                    assert picture.frame is not None
                    encoder.add(overlay, picture.frame)
                    lines.write(encode(entry))
                    about["frames"] += 1
                    about["height"], about["width"] = overlay.shape[:2]
                    about["source"] = picture.identity
                    progress()

        try:
            with tempfile.TemporaryFile(dir=self._results.state) as lines:
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(target, encode_overlays)
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

    def _parse(self, pictures: Iterator[_Picture]) -> Generator[_Result, None, None]:
        """Parse in batches and write by threads, in order."""
        waiting: deque[_Picture] = deque()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for picture in pictures:
                waiting.append(picture)
                yield picture.pixels

        parsed = ((waiting.popleft(), parsed) for parsed in self._parser.stream(pixels()))
        yield from in_order(self._write, parsed, WORKERS)

    def _write(self, parsed: tuple[_Picture, Parsed]) -> _Result:
        """Write the files of a picture, but the overlay of a frame."""
        import torch

        from ..visualize import overlay

        picture, result = parsed
        source, is_frame, heads = picture.source, picture.frame is not None, result.heads
        if not all(getattr(heads, name).isfinite().all() for name in NAMES):  # the fusion would make a map of anything
            return picture, None, picture.pixels
        panoptic, labels = result.panoptic.numpy(), self._parser.labels
        image_id = picture.name if is_frame else source.image_id
        annotation, ids = predictions.entry(panoptic, image_id, f"{picture.name}.png", labels=labels)
        shown = overlay(picture.pixels, panoptic, labels, num_threads=1)
        for kind in self._kinds[is_frame:]:  # without the overlay of a frame, which goes into the video
            path = self._results.path / kind / f"{picture.name}{SUFFIX[kind]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == IDS:
                write_ids(path, ids)
            elif kind == OVERLAY:
                write_rgb(path, shown)
            else:  # NumPy has no bfloat16
                arrays = heads.map(lambda head: (head.float() if head.dtype == torch.bfloat16 else head).cpu().numpy())
                archive.save(path, arrays, size=result.size, original=panoptic.size, image_ids=[image_id])
        image: dict[str, Any] = {"id": image_id, "file_name": annotation.file_name if is_frame else source.file_name}
        image |= {"height": ids.shape[0], "width": ids.shape[1]}
        image |= {"video": source.name} if is_frame else {"source": picture.identity}
        segments = [coco.to_json(segment) for segment in annotation.segments]
        told = {"image_id": image_id, "file_name": annotation.file_name, "segments_info": segments}
        return picture, {"image": image, "annotation": told}, shown


def _read(source: Source, exif: bool) -> tuple[Source, _Picture | Exception]:
    """A photograph, turned as EXIF says or as it is stored, or what is wrong with it."""
    try:
        identity = source.identity()  # before the pixels: a change in between is noticed by the next run
        return source, _Picture(source, read_image(source.path, exif=exif), identity)
    except (FormatError, OSError) as fault:
        return source, fault


def _frames(source: Source) -> Iterator[_Picture]:
    """The frames of a video, upright; an OSError is a fault of the source, not of the disk that is written to."""
    try:
        identity = source.identity()
        for number, frame in enumerate(video.frames(source.path)):
            yield _Picture(source, frame.pixels, identity, frame, number)
    except OSError as fault:
        raise FormatError(source.path, reason(source.path, fault)) from fault
