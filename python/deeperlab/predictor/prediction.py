# SPDX-License-Identifier: Apache-2.0
"""Images and videos in, pictures and one COCO panoptic JSON out: the work of `deeperlab predict`."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._threads import in_order
from ..data.files import FormatError, replace
from .folder import Folder
from .item import NAME_ERRORS, Item, Saved, frames_of, read, reading, save
from .journal import Journal
from .parser import Parser
from .sources import Fault, Source, reason
from .video import Encoder, count, pyav

WORKERS = 2
"""Threads that read, and as many that write, beside the network."""


class Prediction:
    """Parses the sources one after another into a folder, which is locked as long as the `with` lasts.

    It holds `overlay/NAME.png` (`overlay/NAME.mp4` of a video), `panoptic/NAME.png` (`panoptic/NAME/000000.png` … of a
    video), `heads/NAME.npz` (`heads/NAME/000000.npz` …) where wanted, and at the end `panoptic.json`. Every file is
    whole or not there. What an earlier, perhaps interrupted run has finished of the same file with the same model and
    settings is kept; a video is finished as a whole. What is done anew is removed first; a
    file that no earlier run has listed never is. Memory holds some batches of
    images, whatever the number of images or frames.

    Args:
        parser: the network.
        sources: with distinct keys, see `sources.expand`.
        out: the folder, made if absent.
        info: of the JSON; tells the model and its settings, see `maker.info`.
        heads: also write raw heads.
        overwrite: do the sources again. Results of another model or other settings are removed, all of them.

    Attributes:
        faults: (file, what is wrong with it) of every source that was skipped.
        kept: images and videos that were finished already.
        images, videos, frames: written; frames of videos that could be read to the end.
        removed: images and videos of another model or other settings.

    Raises:
        FileExistsError: files there are not ours, or results of another model or setting.
        FormatError: `panoptic.json` there is damaged.
        OSError: a file cannot be written, or another run is writing there.
        ImportError: a video without PyAV.
    """

    def __init__(
        self,
        parser: Parser,
        sources: Sequence[Source],
        out: Path,
        *,
        info: dict[str, Any],
        heads: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._parser, self._sources, self._info, self._overwrite = parser, sources, info, overwrite
        self._folder = Folder(out, heads=heads)
        self.faults: list[Fault] = []
        self.kept = self.images = self.videos = self.frames = self.removed = 0

    def __enter__(self) -> Prediction:
        if any(source.video for source in self._sources):
            pyav()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._folder)
            if not self._folder.marked:
                for source in self._sources:
                    self._folder.require_free(source)
            journal = Journal(self._folder, self._info, overwrite=self._overwrite)
            self._journal = stack.enter_context(contextlib.closing(journal))
            self.removed = journal.removed
            self._todo = [source for source in self._sources if self._is_due(source)]
            journal.begin(self._todo)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def total(self) -> int:
        """Images and frames to be done, as far as the videos tell their number."""
        frames = 0
        for source in self._todo:
            with contextlib.suppress(OSError, FormatError):  # told when it is its turn
                frames += count(source.path) if source.video else 1
        return frames

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Do it; `progress` is called after every image and frame, broken ones too.

        Raises:
            OSError: a file cannot be written; what is finished stays so.
            ValueError, MemoryError, RuntimeError: of the network or the fusion.
        """
        images = self._images([source for source in self._todo if not source.video], progress)
        with contextlib.closing(self._results(images)) as results:  # no thread writes on after an interruption
            for result in results:
                if isinstance(result, Saved):
                    self._journal.add(result.entry)
                    self.images += 1
                else:
                    self.faults.append(result)
                progress()
        for source in self._todo:
            if source.video:
                self._video(source, progress)
        self._journal.finish(self._parser.labels.categories)

    def _is_due(self, source: Source) -> bool:
        """Whether it is to be done, and may take the place of what is there."""
        try:
            here = source.identity()
        except OSError as fault:
            self.faults.append((source.path, reason(source.path, fault)))
            return False
        for key in () if self._overwrite else self._journal.rivals(source):
            there = self._journal.identity(key)
            same = all(there.get(name) == here[name] for name in ("bytes", "modified"))
            if key == source.key and same and self._journal.is_whole(key):
                self.kept += 1
                return False
            path = str(there.get("path"))
            if not same and os.path.abspath(path) != os.path.abspath(source.path):  # noqa: PTH100
                text = f"its results would take the place of those of {path}; choose another --out, or --overwrite"
                self.faults.append((source.path, text))
                return False
        return True

    def _images(self, sources: Iterable[Source], progress: Callable[[], None]) -> Iterator[Item]:
        """Read ahead by threads; the broken ones are noted."""
        for found in in_order(read, sources, WORKERS):
            if isinstance(found, Item):
                yield found
            else:
                self.faults.append(found)
                progress()

    def _video(self, source: Source, progress: Callable[[], None]) -> None:
        """Every frame, then the MP4 gets its name, then the video counts as finished; or nothing stays of it."""
        target = self._folder.film(source.name)
        frames, size = 0, (0, 0)

        def encode(file: Any) -> None:
            nonlocal frames, size
            with (
                Encoder(file, target) as encoder,
                contextlib.closing(self._results(frames_of(source))) as results,
            ):
                for result in results:
                    if not isinstance(result, Saved):
                        raise FormatError(*result)
                    assert result.picture is not None
                    assert result.item.frame is not None
                    encoder.add(result.picture, result.item.frame)
                    self._journal.add(result.entry)
                    frames, size = frames + 1, result.item.pixels.shape[:2]
                    progress()

        try:
            with reading(source):
                identity = source.identity()
            target.parent.mkdir(parents=True, exist_ok=True)
            replace(target, encode)
        except (FormatError, OSError) as fault:
            self._give_up(source)
            if isinstance(fault, OSError) and fault.errno not in NAME_ERRORS:
                raise
            self.faults.append((source.path, reason(source.path, fault)))
        except BaseException:
            self._give_up(source)
            raise
        else:
            video = {"id": source.name, "file_name": source.file_name, "frames": frames}
            self._journal.add({"video": video | {"height": size[0], "width": size[1], "source": identity}})
            self.videos, self.frames = self.videos + 1, self.frames + frames

    def _give_up(self, video: Source) -> None:
        with contextlib.suppress(OSError):  # what stopped the video is told, and the next run cleans up
            self._journal.give_up(video)

    def _results(self, items: Iterator[Item]) -> Generator[Saved | Fault, None, None]:
        """Parse in batches and write by threads, in order."""
        waiting: deque[Item] = deque()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for item in items:
                waiting.append(item)
                yield item.pixels

        parsed = ((waiting.popleft(), parsed) for parsed in self._parser.stream(pixels()))
        yield from in_order(partial(save, self._folder, self._parser.labels), parsed, WORKERS)
