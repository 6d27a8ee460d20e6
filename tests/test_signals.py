# SPDX-License-Identifier: Apache-2.0
"""Signals that come while the engine runs: Python's handlers are called, and what they raise ends the call. SIGALRM
stands for Ctrl-C, which is another number and the same way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import FuseParams, Heads, _numpy
from deeperlab.stages import numpy_ops, pipeline, torch_ops

HERE = Path(__file__).parent
FACES = pytest.mark.parametrize("face", ["tensors", "arrays"])
WORK = FuseParams(
    vote_cell=1, radius=4096.0, peak_threshold=0.0, instance_threshold=0.0, max_candidates=2**16, kappa=1e4
)
"""Every peak of noise is looked at, each in a disk that is larger than the image: minutes."""


class AlarmError(Exception):
    """What the handler raises."""


@pytest.fixture
def set_alarm() -> Iterator[Callable[[float, Callable[[], None]], None]]:
    """Calls a function in a signal's handler, after some seconds and every tenth of one from then on."""
    before = signal.getsignal(signal.SIGALRM)

    def start(seconds: float, call: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def fail() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise AlarmError


def repeat(call: Callable[[], Any]) -> None:
    for _ in range(100):
        call()


def noise(size: int, face: str, images: int = 1) -> Heads:
    rng = np.random.default_rng(0)
    channels = {"semantic": 3, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}
    heads = Heads(**{n: rng.normal(0, 3, (images, c, size, size)).astype("f4") for n, c in channels.items()}, stride=1)
    return heads.map(torch.from_numpy) if face == "tensors" else heads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@FACES
@pytest.mark.parametrize("idle", [None, 0, 1], ids=["one image", "the first idle", "the second idle"])
def test_a_handler_that_raises_ends_a_long_call(
    face: str, idle: int | None, set_alarm: Any, two_threads: None, assert_same: Any
) -> None:
    """Whether the main thread works itself or waits for another: of two images, one has nothing to do."""
    heads = noise(257, face, 1 if idle is None else 2)
    if idle is not None:
        heads.heatmap[idle] = heads.short_range[idle] = -1e30
    threads = {"num_threads": 2} if face == "arrays" else {}
    set_alarm(0.2, fail)
    with pytest.raises(AlarmError) as raised:
        deeperlab.fuse(heads, [1], params=WORK, **threads)
    assert raised.value.__cause__ is None
    small = heads.map(lambda head: head[:, :, :9, :9])
    assert_same(deeperlab.fuse(small, [1]), deeperlab.fuse(small, [1]))  # the next call works


@FACES
def test_a_handler_that_returns_changes_nothing(face: str, set_alarm: Any, two_threads: None, assert_same: Any) -> None:
    heads, params = noise(65, face), replace(WORK, max_candidates=600)
    undisturbed = deeperlab.fuse(heads, [1], params=params)
    calls = []
    for _ in range(20):
        set_alarm(0.01, lambda: calls.append(1))
        assert_same(deeperlab.fuse(heads, [1], params=params), undisturbed)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if calls:
            return
    raise AssertionError("no handler was called")


@FACES
def test_stages_alone_end_too(face: str, set_alarm: Any, two_threads: None) -> None:
    """As operators do: an error of torch has the exception as its cause."""
    heads = noise(257, face)
    backend = torch_ops if face == "tensors" else numpy_ops
    before = ("argmax", "refine", "vote", "peaks", "trace")
    problem = pipeline.Problem.of(heads, [1], (257, 257), WORK)
    values = pipeline.run(backend, heads, [1], (257, 257), WORK, stages=before)
    set_alarm(0.2, fail)
    with pytest.raises(AlarmError if face == "arrays" else RuntimeError) as raised:
        pipeline.run_stage(backend, "rescore", values, problem)
    if face == "tensors":
        assert str(raised.value).startswith("interrupted: ")
        assert isinstance(raised.value.__cause__, AlarmError)


@pytest.mark.slow
@FACES
@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_a_call_may_end_in_any_stage(face: str, delay: float, set_alarm: Any, two_threads: None) -> None:
    """Results of no account are read by no later stage: this file also runs under sanitizers."""
    heads = noise(513, face, images=2)
    set_alarm(delay, fail)
    with pytest.raises(AlarmError):
        repeat(lambda: deeperlab.fuse(heads, [1, 2], params=replace(WORK, radius=4.0)))


@FACES
def test_a_thread_of_python_is_not_disturbed(face: str, set_alarm: Any, assert_same: Any) -> None:
    """Only the main thread runs handlers."""
    heads, params = noise(65, face), replace(WORK, max_candidates=300)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(deeperlab.fuse(heads, [1], params=params)))
    calls: list[int] = []
    set_alarm(0.01, lambda: calls.append(1))
    thread.start()
    thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert_same(results[0], deeperlab.fuse(heads, [1], params=params))


@pytest.mark.slow
@FACES
def test_ctrl_c_ends_a_process(face: str) -> None:
    """A process that a script has begun in the background ignores it otherwise."""
    code = (
        "import conftest, os, signal, test_signals as t; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"heads = t.noise(257, {face!r}); "
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT)); "
        "signal.setitimer(signal.ITIMER_REAL, 0.2); t.deeperlab.fuse(heads, [1], params=t.WORK)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.strip().endswith("KeyboardInterrupt")


def fail_at_third() -> Callable[[], None]:
    """A handler that raises when it is called for the third time: not in a call that waits for its end with it."""
    calls = iter(range(3))
    return lambda: fail() if next(calls) == 2 else None


@pytest.mark.parametrize("count", [_numpy.overlap, _numpy.find_runs])
def test_counts_end_too(count: Callable[..., Any], set_alarm: Any) -> None:
    """Of seconds of work that take no memory."""
    set_alarm(0.05, fail_at_third())
    with pytest.raises(AlarmError):
        count(np.broadcast_to(np.int32(0), (2**15, 2**16)))


@pytest.mark.slow
def test_drawing_ends_too() -> None:
    """Of seconds of work: wide borders by the plain form."""
    code = """
import signal, numpy as np, test_signals as t
maps = np.arange(2000 * 2000, dtype=np.int32).reshape(2000, 2000) % 7
handler = t.fail_at_third()
signal.signal(signal.SIGALRM, lambda *_: handler())
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.1)
shades, options = np.full((7, 2, 3), 200, np.uint8), {"stuff": 128, "thing": 128, "border": 255, "width": 64}
t._numpy.draw(np.zeros((2000, 2000, 3), np.uint8), maps, maps, shades, line=(0, 0, 0), **options)
"""
    run = {"cwd": HERE, "env": {**os.environ, "DEEPERLAB_SIMD": "plain"}, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **run)
    assert done.stderr.strip().endswith("test_signals.AlarmError"), done.stderr
