# SPDX-License-Identifier: Apache-2.0
"""Many threads at once, on arrays of their own and on the same ones: each gets what one thread alone gets.

Under an interpreter without the GIL, nothing orders the calls, and importing the engine leaves the GIL switched off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_same, make_heads

import deeperlab
from deeperlab import FuseParams, _numpy, scenes, targets
from deeperlab.metrics import PanopticQuality
from deeperlab.stages import numpy_ops, pipeline

Calls = dict[str, Callable[[], Any]]
PARAMS = FuseParams(peak_threshold=0.0, instance_threshold=0.0, max_candidates=200)
THREADS, ROUNDS = 8, 3


def calls_on(seed: int, num_threads: int) -> Calls:
    """Each function of _numpy on arrays that the seed makes."""
    rng = np.random.default_rng(seed)
    heads = make_heads(seed, n=2, h=13, w=15, classes=6)
    scene = scenes.draw(seed, (65, 97), instances=5)
    instance = scene.instance.astype(np.int32)
    maps = scene.category.astype(np.int32), instance
    shades = rng.integers(0, 256, (scene.num_classes, 4, 3), np.uint8)
    how = {"stuff": 100, "thing": 160, "border": 192, "line": [255, 250, 3], "width": 1}
    rows = np.concatenate([rng.integers(0, 5, (40, 1), np.uint8), rng.integers(0, 256, (40, 90), np.uint8)], axis=1)
    runs = _numpy.find_runs(*maps)
    label = instance.ravel()[runs[0]].astype(np.int64)
    losses = rng.normal(size=(1, 6, 13, 15)).astype(np.float32), rng.integers(-1, 6, (1, 49, 57), np.int32)
    weight, options = np.ones((1, 49, 57), np.float32), {"stride": 4, "stuff": []}

    def loss() -> Any:
        found = _numpy.semantic_loss(*losses, weight, top_k=0.3, **options, num_threads=num_threads)
        gradient = np.ones(1, np.float32)
        return *found, _numpy.semantic_loss_backward(*losses, weight, *found[1:], gradient, **options)

    def quality() -> Any:
        metric = PanopticQuality(dict.fromkeys(range(scene.num_classes), True))
        metric.update((maps[0], np.zeros_like(instance)), maps)
        return metric.sums

    return {
        "fuse": lambda: deeperlab.fuse(heads, [1, 3], params=PARAMS, num_threads=num_threads),
        "stages": lambda: tuple(
            pipeline.run(numpy_ops, heads, [1, 3], heads.default_size, PARAMS, num_threads=num_threads).values()
        ),
        "encode": lambda: targets.encode(instance, stride=4, num_threads=num_threads).heatmap,
        "resample": lambda: _numpy.resample(heads.short_range, stride=4, offsets=True, num_threads=num_threads),
        "loss": loss,
        "quality": quality,
        "overlap": lambda: _numpy.overlap(*maps),
        "runs": lambda: _numpy.find_runs(*maps),
        "boxes": lambda: _numpy.pixel_boxes(*runs[1:], label, int(label.max()) + 1),
        "spread": lambda: _numpy.spread(runs[1], label.astype(np.int32), *instance.shape),
        "draw": lambda: _numpy.draw(scene.image, *maps, shades, **how, num_threads=num_threads),
        "png": lambda: _numpy.unfilter(rows.tobytes(), 40, 30, 3),
    }


@pytest.mark.parametrize("arrays", ["their own", "the same"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_many_threads_at_once_get_what_one_gets(arrays: str, num_threads: int) -> None:
    calls = [calls_on(seed, num_threads) for seed in range(THREADS if arrays == "their own" else 1)]
    alone = [{name: call() for name, call in some.items()} for some in calls]
    ready = threading.Barrier(THREADS)

    def work(thread: int) -> list[tuple[str, Any]]:
        ready.wait()
        some = list(calls[thread % len(calls)].items())
        first = thread % len(some)  # so that different functions meet as well
        return [(name, call()) for _ in range(ROUNDS) for name, call in some[first:] + some[:first]]

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    for thread, found in enumerate(results):
        for name, result in found:
            assert_same(result, alone[thread % len(alone)][name], name)


def test_who_writes_to_arrays_that_are_read_breaks_no_more_than_the_result() -> None:
    """Numbers that were checked, and then become others, would lead out of memory."""
    heads = make_heads(3, n=1)
    problem = heads, [1, 3], heads.default_size, PARAMS
    values = pipeline.run(numpy_ops, *problem)
    written = [value for value in values.values() if isinstance(value, np.ndarray)]
    written += [np.array(getattr(heads, name)) for name in ("semantic", "heatmap", "short_range", "long_range")]
    known = [value.copy() for value in written]
    done = threading.Event()

    def scribble() -> None:
        rng = np.random.default_rng(0)
        while not done.is_set():
            for value, right in zip(written, known, strict=True):
                place = rng.integers(0, value.size, 9)
                value.reshape(-1)[place] = rng.choice([-(2**31) + 1, -1, 10**6], 9).astype(value.dtype)
                value[...] = right

    def work() -> int:
        refused = 0
        for _ in range(20):
            for stage, (reads, _makes) in pipeline.STAGES.items():
                given = [values[name] if name in values else getattr(heads, name) for name in reads]
                try:
                    getattr(numpy_ops, stage)(*given, **pipeline.Problem.of(*problem).options(stage))
                except ValueError:
                    refused += 1
        return refused

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(work) for _ in range(4)]:
                future.result()
    finally:
        done.set()
        writer.join()


@pytest.mark.slow
def test_the_first_calls_may_come_at_once_and_leave_the_gil_as_it_is() -> None:
    """In a new process: the tables and the form of the stages are made at the first call."""
    code = """
import sys, threading, warnings
warnings.simplefilter("error")
import numpy as np
import conftest
before = getattr(sys, "_is_gil_enabled", lambda: True)()
ready, found = threading.Barrier(8), []

def work(seed):
    ready.wait()
    import deeperlab
    found.append(deeperlab.fuse(conftest.make_heads(0), [1, 3]).semantic)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 8 and all(np.array_equal(one, found[0]) for one in found)
assert "deeperlab._numpy" in sys.modules
print(before, getattr(sys, "_is_gil_enabled", lambda: True)())
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    gil = not sysconfig.get_config_var("Py_GIL_DISABLED")
    assert done.stdout == f"{gil} {gil}\n"
