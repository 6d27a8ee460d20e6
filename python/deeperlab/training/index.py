# SPDX-License-Identifier: Apache-2.0
"""The entries of a data set as bytes in one block of memory, which all processes share.

A hundred thousand Python objects cost every worker that touches them its own copy, since counting references writes to
them. An array of bytes is only read: however many workers there are and however they are started, it is there once.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import context, reduction
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..data.ids import ImageId
from ..data.sample import Entry, Sample, Samples
from .chosen import Chosen
from .sources import Sources

PLAIN = (str, bytes, int, float, bool, type(None), Path)
"""Arguments that every entry keeps for itself, since a number in their place would save nothing."""


def packed(sources: Sources) -> Sources:
    """Return sources whose entries are packed, those of the validation too; what is packed already stays."""
    train, val = ([replace(s, samples=pack(s.samples)) for s in group] for group in (sources.train, _some(sources.val)))
    return replace(sources, train=tuple(train), val=val[0] if val else None)


def pack(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Pack the entries of `Samples`; other sequences, such as drawn scenes, have none and stay."""
    if isinstance(samples, Chosen):
        return Chosen(tuple(pack(part) for part in samples.parts), samples.places)
    if isinstance(samples, Samples) and not isinstance(samples.entries, Packed):
        return replace(samples, entries=Packed.of(samples.entries))
    return samples


def id_of(samples: Sequence[Sample], number: int) -> ImageId:
    """Return the id of an image without reading its annotation; the number where there are no entries."""
    if isinstance(samples, Chosen):
        part, place = samples.places[number].tolist()
        return id_of(samples.parts[part], place)
    return samples.entries[number].image_id if isinstance(samples, Samples) else number


class Packed(Sequence[Entry]):
    """Entries that become objects when they are asked for. Arguments of `load` that several share are kept once.

    Args:
        memory: N + 1 offsets, int64, then the entries, pickled.
        count: N.
        shared: the arguments.
    """

    def __init__(self, memory: _Memory, count: int, shared: tuple[Any, ...]) -> None:
        self._memory, self._shared = memory, shared
        self._offsets = np.frombuffer(memory.map, np.int64, count + 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, (self._memory, len(self), self._shared)

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Packed:
        """Pack entries."""
        counted = Counter(id(argument) for entry in entries for argument in _arguments(entry))
        several = {id(a): a for entry in entries for a in _arguments(entry) if counted[id(a)] > 1}
        places = {key: place for place, key in enumerate(several)}
        file = io.BytesIO()
        offsets = np.zeros(len(entries) + 1, np.int64)
        for i, entry in enumerate(entries):
            _Pickler(file, places).dump(entry)
            offsets[i + 1] = file.tell()
        offsets += offsets.nbytes
        return cls(_Memory.of(offsets.tobytes(), file.getbuffer()), len(entries), tuple(several.values()))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]
        begin, end = self._offsets[place : place + 2].tolist()
        entry: Entry = _Unpickler(io.BytesIO(self._memory.map[begin:end]), self._shared).load()
        return entry


def _some(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _arguments(entry: Entry) -> list[Any]:
    """Return what `load` is called with and others may share."""
    if not isinstance(entry.load, partial):
        return []
    return [a for a in (*entry.load.args, *entry.load.keywords.values()) if not isinstance(a, PLAIN)]


class _Pickler(pickle.Pickler):
    """Writes a number in place of what is shared."""

    def __init__(self, file: io.BytesIO, places: dict[int, int]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = places

    def persistent_id(self, value: Any) -> int | None:
        return self._places.get(id(value))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: tuple[Any, ...]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, place: int) -> Any:
        return self._shared[place]


class _Memory:
    """Bytes of a file that has no name and lives in memory: forked processes inherit it, others are handed it.

    Not POSIX shared memory, which containers often limit to 64 MB.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def of(cls, *parts: bytes | memoryview) -> _Memory:
        descriptor = os.memfd_create("deeperlab index")
        with os.fdopen(os.dup(descriptor), "wb") as file:
            for part in parts:
                file.write(part)
        return cls(descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is None:  # pickled for another purpose than a child process
            return _Memory.of, (self.map[:],)
        return _attach, (reduction.DupFd(self._descriptor),)


def _attach(duplicate: Any) -> _Memory:
    return _Memory(duplicate.detach())
