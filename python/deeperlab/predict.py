# SPDX-License-Identifier: Apache-2.0
"""Images and videos in, pictures and one COCO panoptic JSON out: the work of `deeperlab predict`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _video
from ._journal import MARK, Journal
from ._sources import HEADS, IDS, OVERLAY, Source
from ._threads import in_order
from .data import archive, predictions
from .data.files import FormatError, replace
from .data.labels import LabelSet
from .data.png import read_image, write_ids, write_rgb
from .heads import Heads
from .parser import Parsed, Parser

WORKERS = 2
"""Threads that read, and as many that write, beside the network."""


@dataclass(frozen=True)
class Item:
    """An image, or a frame of a video, on its way; `name` is that of its files, without suffix."""

    source: Source
    name: str
    pixels: NDArray[np.uint8]
    frame: _video.Frame | None = None


@dataclass(frozen=True)
class Saved:
    """What was written of an item, and its entry of the JSON; `picture`: the overlay of a frame, to be encoded."""

    item: Item
    entry: dict[str, Any]
    picture: NDArray[np.uint8] | None


class Prediction:
    """Parses the sources one after another into a folder.

    It holds `overlay/NAME.png` (`overlay/NAME.mp4` of a video), `panoptic/NAME.png` (`panoptic/NAME/000000.png` … of a
    video), `heads/NAME.npz` where wanted, and at the end `panoptic.json`. Every file is whole or not there. What an
    earlier, perhaps interrupted run has finished with the same model and settings is kept; a video is finished as a
    whole. Memory holds some batches of images, whatever the number of images or frames.

    Args:
        parser: the network.
        sources: with distinct names, see `_sources.expand`.
        out: the folder, made if absent.
        info: of the JSON, without `description`; tells the model and its settings.
        heads: also write raw heads.
        overwrite: do again what is finished, and drop what is not among the sources from the JSON.

    Attributes:
        faults: (file, what is wrong with it) of every source that could not be read.
        kept: images and videos that were finished already.
        written: images and frames.

    Raises:
        FileExistsError: results there are not ours, or of another model or setting.
        FormatError: `panoptic.json` there is damaged.
        OSError: a file cannot be written.
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
        self._parser, self._out, self._heads = parser, out, heads
        self.faults: list[tuple[Path, str]] = []
        self.written = 0
        if any(source.video for source in sources):
            _video._av()
        out.mkdir(parents=True, exist_ok=True)
        if not Journal.is_in(out):
            self._require_free(sources)
        self._journal = Journal(out, {"description": MARK} | info, overwrite=overwrite)
        self._todo = [source for source in sources if not self._is_finished(source)]
        self.kept = len(sources) - len(self._todo)

    def total(self) -> int:
        """Images and frames still to be done, as far as the videos tell their number."""
        frames = 0
        for source in self._todo:
            with contextlib.suppress(OSError, FormatError):  # told when it is its turn
                frames += _video.count(source.path) if source.video else 1
        return frames

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Do it; `progress` is called after every image and frame, broken ones too.

        Raises:
            OSError: a file cannot be written; what is finished stays so.
            ValueError, MemoryError, RuntimeError: of the network or the fusion.
        """
        try:
            for folder in (OVERLAY, IDS, *([HEADS] if self._heads else [])):
                (self._out / folder).mkdir(exist_ok=True)
            images = [source for source in self._todo if not source.video]
            for saved in self._results(self._images(images, progress)):
                self._keep(saved, progress)
            for source in self._todo:
                if source.video:
                    self._video(source, progress)
            self._journal.finish(self._parser.labels.categories)
        finally:
            self._journal.close()

    def _images(self, sources: Iterable[Source], progress: Callable[[], None]) -> Iterator[Item]:
        """Read ahead by threads; the broken ones are noted."""
        for read in in_order(_read, sources, WORKERS):
            if isinstance(read, Item):
                yield read
            else:
                self.faults.append(read)
                progress()

    def _video(self, source: Source, progress: Callable[[], None]) -> None:
        """Every frame, then the MP4 gets its name, then the video counts as finished."""
        self._journal.forget_video(source.name)
        target = self._out / OVERLAY / f"{source.name}.mp4"
        for folder in (IDS, *([HEADS] if self._heads else [])):
            (self._out / folder / source.name).mkdir(exist_ok=True)
        frames = 0
        size = (0, 0)

        def encode(file: Any) -> None:
            nonlocal frames, size
            encoder = _video.Encoder(file, target)
            with encoder:
                for saved in self._results(_frames(source)):
                    assert saved.picture is not None
                    assert saved.item.frame is not None
                    encoder.add(saved.picture, saved.item.frame)
                    self._keep(saved, progress)
                    frames, size = frames + 1, saved.item.pixels.shape[:2]

        try:
            replace(target, encode)
        except FormatError as fault:
            self._journal.forget_video(source.name)
            self.faults.append((source.path, _without_path(source.path, fault)))
            return
        video = {"id": source.name, "file_name": source.path.name, "frames": frames}
        self._journal.add({"video": video | {"height": size[0], "width": size[1]}})

    def _results(self, items: Iterator[Item]) -> Iterator[Saved]:
        """Parse in batches and write by threads, in order."""
        waiting: deque[Item] = deque()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            for item in items:
                waiting.append(item)
                yield item.pixels

        parsed = ((waiting.popleft(), parsed) for parsed in self._parser.stream(pixels()))
        return in_order(partial(_save, self._out, self._parser.labels, self._heads), parsed, WORKERS)

    def _keep(self, saved: Saved, progress: Callable[[], None]) -> None:
        self._journal.add(saved.entry)
        self.written += 1
        progress()

    def _is_finished(self, source: Source) -> bool:
        if not source.video:
            return source.image_id in self._journal and all(path.exists() for path in self._files(source.name))
        video = self._journal.video(source.name)
        names = (f"{source.name}/{i:06d}" for i in range(video["frames"] if video else 0))
        files = chain.from_iterable(self._files(name, frame=True) for name in names)
        return video is not None and all(path.exists() for path in (self._out / OVERLAY / f"{source.name}.mp4", *files))

    def _files(self, name: str, *, frame: bool = False) -> list[Path]:
        """Of an image or of a frame."""
        wanted = {OVERLAY: ".png"} if not frame else {}
        wanted |= {IDS: ".png"} | ({HEADS: ".npz"} if self._heads else {})
        return [self._out / folder / (name + suffix) for folder, suffix in wanted.items()]

    def _require_free(self, sources: Iterable[Source]) -> None:
        """In a folder that no earlier run has marked as ours, nothing is overwritten."""
        for source in sources:
            names = (f"{source.name}.mp4", source.name) if source.video else (f"{source.name}.png",) * 2
            paths = [self._out / OVERLAY / names[0], self._out / IDS / names[1]]
            for path in (*paths, self._out / HEADS / f"{source.name}.npz"):
                if path.exists():
                    fault = f"is there already and not of {MARK}; choose another --out"
                    raise FileExistsError(errno.EEXIST, fault, str(path))


def digest(model: Any) -> str:
    """SHA-256 of all parameters and buffers of a network, with their names: which weights it has."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _read(source: Source) -> Item | tuple[Path, str]:
    try:
        return Item(source, source.name, read_image(source.path))
    except FormatError as fault:
        return source.path, _without_path(source.path, fault)
    except OSError as fault:
        return source.path, (fault.strerror or type(fault).__name__).lower()


def _frames(source: Source) -> Iterator[Item]:
    try:
        for i, frame in enumerate(_video.frames(source.path)):
            yield Item(source, f"{source.name}/{i:06d}", frame.pixels, frame)
    except OSError as fault:
        raise FormatError(source.path, (fault.strerror or type(fault).__name__).lower()) from fault


def _save(out: Path, labels: LabelSet, heads: bool, parsed: tuple[Item, Parsed]) -> Saved:
    from .visualize import overlay

    item, result = parsed
    panoptic = result.panoptic.numpy()
    image_id = item.source.image_id if item.frame is None else item.name
    annotation, ids = predictions.entry(panoptic, image_id, f"{item.name}.png", labels=labels)
    picture = overlay(item.pixels, panoptic, labels, num_threads=1)
    write_ids(out / IDS / annotation.file_name, ids)
    if item.frame is None:
        write_rgb(out / OVERLAY / f"{item.name}.png", picture)
    if heads:
        archive.save(out / HEADS / f"{item.name}.npz", _arrays(result.heads))
    video = {} if item.frame is None else {"video": item.source.name}
    file_name = item.source.path.name if item.frame is None else annotation.file_name
    image = {"id": image_id, "file_name": file_name, "height": ids.shape[0], "width": ids.shape[1]} | video
    segments = [
        {"id": s.id, "category_id": s.category_id, "iscrowd": 0, "area": s.area, "bbox": s.bbox}
        for s in annotation.segments
    ]
    entry = {"image_id": image_id, "file_name": annotation.file_name, "segments_info": segments}
    return Saved(item, {"image": image, "annotation": entry}, None if item.frame is None else picture)


def _arrays(heads: Heads) -> Heads:
    """As NumPy has them: float16 stays, bfloat16, which it has not, becomes float32."""
    import torch

    def convert(head: torch.Tensor) -> NDArray[Any]:
        array: NDArray[Any] = (head.float() if head.dtype == torch.bfloat16 else head).cpu().contiguous().numpy()
        return array

    return heads.map(convert)


def _without_path(path: Path, fault: FormatError) -> str:
    return str(fault).removeprefix(f"{path}: ")
