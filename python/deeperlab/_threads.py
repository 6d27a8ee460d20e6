# SPDX-License-Identifier: Apache-2.0
"""How many threads work, and `map` in threads, in order and not far ahead."""

from __future__ import annotations

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_count(num_threads: int | None) -> int:
    """Return the number of threads that a call on arrays has: by default one for each processor it may use.

    Raises:
        TypeError: no integer.
    """
    if num_threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1  # macOS lets every process use them all
    try:
        return operator.index(num_threads)
    except TypeError as wrong:
        raise TypeError(f"num_threads: expected an int, got {num_threads!r}") from wrong


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield results in order, as soon as they are there; at most twice as many items ahead as workers.

    The first fault ends it.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while waiting and (waiting[0].done() or len(waiting) > 2 * workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
