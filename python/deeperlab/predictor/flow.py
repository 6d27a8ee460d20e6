# SPDX-License-Identifier: Apache-2.0
"""Decoding, network and writing side by side: threads, and so many pictures between them as memory has room for."""

from __future__ import annotations

import ctypes
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Picture = TypeVar("Picture")
Result = TypeVar("Result")

WORKERS = 2
"""Threads that decode, and as many that write, beside the one of the network."""
ROOM = 1 << 24
"""Pixels between decoding and disk; of larger pictures there are at most two."""
LEAST = ROOM >> 4
"""Pixels that a small picture counts as: sixteen are plenty."""
LARGE = ROOM >> 2
"""Pixels from which on one picture at a time is decoded, and one written: both take several bytes a pixel."""
PATIENCE = 1.0
"""Seconds that an end before its time waits for the network, which cannot be interrupted; the process ends after it."""


@dataclass(frozen=True)
class Task(Generic[Picture]):
    """What is to be decoded: a number of pixels, and how. `decode` returns None where there is nothing left."""

    pixels: int
    decode: Callable[[], Picture | Exception | None]


class Flow(Generic[Picture, Result]):
    """Passes pictures through a network, in order.

    Args:
        parse: takes an iterator of pictures, which it may collect to batches until that ends, and yields a picture and
            what is to be written of it, in order.
        write: does so, in one of several threads.

    Attributes:
        is_busy: whether the network still computes though the results were closed.
        is_closed: whether they were: what takes long may then end before its time.
    """

    def __init__(
        self,
        parse: Callable[[Iterator[Picture]], Iterable[tuple[Picture, Any]]],
        write: Callable[[tuple[Picture, Any]], Result],
    ) -> None:
        self._parse, self._write = parse, write
        self._network = threading.Thread()
        self.is_closed = False

    @property
    def is_busy(self) -> bool:
        """See above."""
        return self._network.is_alive()

    def run(
        self, tasks: Iterable[Task[Picture]], *, decoders: int = WORKERS
    ) -> Generator[Result | Exception, None, None]:
        """Yield what `write` returns, and exceptions that `decode` returned; what is raised anywhere ends it.

        Args:
            tasks: asked for by the thread of the network, when they are needed.
            decoders: threads; one decodes in order.
        """
        results: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        room, one_decodes, one_writes = _Room(), threading.Lock(), threading.Lock()
        upcoming, ahead, taken = deque[Task[Picture]](), deque[tuple[int, Future[Any]]](), deque[int]()
        self.is_closed = False
        with _pool(decoders) as readers, _pool(WORKERS, waits=True) as writers:
            more = iter(tasks)

            def group() -> Iterator[Picture]:
                """Pictures until there are none, or no room for one before those of this group are written."""
                given = False
                while not room.closed:
                    while upcoming and len(ahead) < 2 * WORKERS and room.fits(upcoming[0].pixels):
                        task = upcoming.popleft()
                        room.take(task.pixels)
                        ahead.append((task.pixels, readers.submit(_alone, one_decodes, task.pixels, task.decode)))
                        del task
                        upcoming.extend(_next(more))
                    if ahead:
                        pixels, future = ahead.popleft()
                        picture = [future.result()]  # it is let go of with the list: nothing here holds its pixels
                        del future
                        if picture[0] is None:
                            room.give(pixels)
                            upcoming.clear()
                        elif isinstance(picture[0], Exception):
                            results.put((pixels, picture.pop()))
                        else:
                            given = True
                            taken.append(pixels)
                            yield picture.pop()
                    elif given or not upcoming:
                        return
                    else:
                        room.wait(upcoming[0].pixels)

            def network() -> None:
                try:
                    upcoming.extend(_next(more))
                    while (ahead or upcoming) and not room.closed:
                        for parsed in self._parse(group()):
                            pixels = taken.popleft()
                            results.put((pixels, writers.submit(_alone, one_writes, pixels, self._write, parsed)))
                            del parsed
                    results.put((0, None))
                except BaseException as fault:  # told where the results are asked for
                    failed: Future[Any] = Future()
                    failed.set_exception(fault)
                    results.put((0, failed))

            self._network = threading.Thread(target=network, name="network")  # the process waits for it
            try:
                self._network.start()
                while (item := results.get())[1] is not None:
                    pixels, result = item
                    del item
                    found = [result.result() if isinstance(result, Future) else result]
                    del result
                    yield found.pop()
                    room.give(pixels)
            finally:
                self.is_closed = True
                room.close()
                if self._network.is_alive():  # else it was interrupted before it began
                    self._network.join(PATIENCE)


class _Room:
    """Counts the pixels of the pictures between decoding and disk."""

    def __init__(self) -> None:
        self.closed = False
        self._held = 0
        self._changed = threading.Condition()

    def fits(self, pixels: int) -> bool:
        """Whether there is room for one more."""
        return self._held == 0 or self._held + max(pixels, LEAST) <= max(ROOM, 2 * pixels)

    def take(self, pixels: int) -> None:
        with self._changed:
            self._held += max(pixels, LEAST)

    def give(self, pixels: int) -> None:
        with self._changed:
            self._held -= max(pixels, LEAST)
            self._changed.notify_all()

    def wait(self, pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self.fits(pixels))

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


def _alone(lock: threading.Lock, pixels: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; where the picture is large, one thread at a time."""
    if pixels < LARGE:
        return function(*arguments)
    with lock:
        try:
            return function(*arguments)
        finally:
            _trim()


def _trim() -> None:
    """Give memory back to the system that the C library keeps for each thread: up to four bytes a pixel of each."""
    with suppress(AttributeError, OSError):  # a library that has no such function, as musl
        ctypes.CDLL(None).malloc_trim(0)


def _next(tasks: Iterator[Any]) -> list[Any]:
    """The next of them, if there is one."""
    return [task for task in [next(tasks, None)] if task is not None]


@contextmanager
def _pool(threads: int, *, waits: bool = False) -> Iterator[ThreadPoolExecutor]:
    """Threads; what has not begun in the end is cancelled, and what has begun is waited for if wanted."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)
