# SPDX-License-Identifier: Apache-2.0
"""Decoding, network and writing side by side: in order, within the room there is, and with an end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deeperlab.predictor import flow
from deeperlab.predictor.flow import LARGE, ROOM, Flow, Task


def parse(pictures: Iterator[int]) -> Iterator[tuple[int, int]]:
    """In batches of three."""
    held: list[int] = []
    for picture in pictures:
        held.append(picture)
        if len(held) == 3:
            yield from ((one, -one) for one in held)
            held.clear()
    yield from ((one, -one) for one in held)


@pytest.mark.parametrize(("pixels", "most"), [(1, 16), (ROOM // 8, 8), (LARGE, 4), (ROOM, 2), (9 * ROOM, 2)])
def test_pictures_come_in_order_and_no_more_at_once_than_there_is_room_for(pixels: int, most: int) -> None:
    lock, there, highest = threading.Lock(), 0, 0

    def decode(number: int) -> int:
        nonlocal there, highest
        with lock:
            there += 1
            highest = max(highest, there)
        return number

    tasks = (Task(pixels, lambda number=i: decode(number)) for i in range(40))  # type: ignore[misc]
    found = []
    for result in Flow(parse, lambda pair: pair[1]).run(tasks):
        found.append(result)
        with lock:
            there -= 1
    assert found == [-i for i in range(40)]
    assert highest <= most


def test_what_cannot_be_decoded_comes_in_its_place_and_nothing_ends_it() -> None:
    tasks = [Task(1, lambda: 1), Task(0, lambda: ValueError("two")), Task(1, lambda: 3), Task(1, lambda: None)]
    found: list[Any] = list(Flow(parse, lambda pair: pair[1]).run(tasks))
    assert sorted(found, key=str)[:2] == [-1, -3]
    assert [str(one) for one in found if isinstance(one, Exception)] == ["two"]


@pytest.mark.parametrize("where", ["tasks", "decode", "parse", "write"])
def test_a_fault_anywhere_is_raised_where_the_results_are_asked_for(where: str) -> None:
    def fails(*_: Any) -> Any:
        raise KeyboardInterrupt(where)

    def tasks() -> Iterator[Task[int]]:
        yield Task(1, fails if where == "decode" else lambda: 1)
        if where == "tasks":
            fails()

    running = Flow(fails if where == "parse" else parse, fails if where == "write" else lambda pair: pair[1])
    with pytest.raises(KeyboardInterrupt, match=where):
        list(running.run(tasks()))
    assert not running.is_busy


def test_an_end_before_its_time_waits_for_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PATIENCE", 0.01)
    go = threading.Event()

    def slow(pictures: Iterator[int]) -> Iterator[tuple[int, int]]:
        for i, picture in enumerate(pictures):
            if i:
                go.wait(60)
            yield picture, picture

    running = Flow(slow, lambda pair: pair[1])
    results = running.run(Task(1, lambda: 1) for _ in range(9))
    assert next(results) == 1
    results.close()
    assert running.is_busy
    go.set()
    running._network.join(60)
    assert not running.is_busy


BUSY = """
import torch
from deeperlab.predictor import flow

flow.PATIENCE = 0.01

def parse(pictures):
    for i, picture in enumerate(pictures):
        if i:
            torch.rand(3000, 3000).mm(torch.rand(3000, 3000))
        yield picture, picture

def write(parsed):
    raise OSError(28, "no space left on device")

list(flow.Flow(parse, write).run(flow.Task(1, lambda: 1) for _ in range(9)))
"""


@pytest.mark.slow
def test_a_process_that_ends_while_the_network_computes_is_not_aborted() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("OSError: [Errno 28] no space left on device\n")
