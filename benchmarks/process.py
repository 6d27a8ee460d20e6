# SPDX-License-Identifier: Apache-2.0
"""Measures that need a process without a past: imports, the first call, peak memory, two Python threads.

    python -m benchmarks.process MEASURE [ARGUMENT ...]     prints one measure as JSON; bench_process.py runs it

Modules stay imported, the first call happens once, and freed memory is taken again without a page fault.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the import of numpy and torch is itself measured
    from deeperlab import Heads, Panoptic

HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
Numbers = dict[str, float]


def _import_ms(module: str) -> float:
    start = time.perf_counter()
    __import__(module)
    return 1e3 * (time.perf_counter() - start)


def imports() -> Numbers:
    """What a user of tensors pays beyond torch: the package, then what its first call loads, ms."""
    return {name: _import_ms(name) for name in ("numpy", "torch", "deeperlab", "deeperlab.stages.torch_ops")}


def imports_without_torch() -> Numbers:
    """The same for arrays, ms."""
    numbers = {name: _import_ms(name) for name in ("numpy", "deeperlab", "deeperlab._numpy")}
    if "torch" in sys.modules:
        raise RuntimeError("deeperlab: expected an import without torch, got torch")
    return numbers


def _load(kind: str, path: str) -> tuple[Heads, list[int]]:
    import numpy as np

    import deeperlab

    file = np.load(path)
    heads = [file[name] for name in HEADS]
    if kind == "tensors":
        import torch

        heads = [torch.from_numpy(head) for head in heads]
    return deeperlab.Heads(*heads), file["things"].tolist()


def call(kind: str, path: str, threads: int | None = None) -> Callable[[], Panoptic]:
    """A call of the fusion on `threads` threads, by default on all processors, that may be made from any thread."""
    import deeperlab

    heads, things = _load(kind, path)
    if kind == "tensors" and threads is not None:
        import torch

        torch.set_num_threads(threads)
        return lambda: deeperlab.fuse(heads, things)
    return lambda: deeperlab.fuse(heads, things, num_threads=threads)


def first_call(kind: str, path: str) -> Numbers:
    """The first call of a process and the quickest of the next, ms; the heads are loaded and touched before."""
    fuse = call(kind, path)
    times: list[float] = []
    kept: list[Panoptic] = []  # until the next has returned: the page faults of fresh maps are part of the cost
    for _ in range(8):
        start = time.perf_counter()
        kept[:] = [fuse()]
        times.append(1e3 * (time.perf_counter() - start))
    return {"first ms": times[0], "later ms": min(times[1:])}


def _status(field: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def with_peak(function: Callable[[], Any]) -> tuple[Any, int]:
    """Its result, and the peak of resident memory while it ran beyond what was there before, bytes."""
    ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back, or it would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _status("VmRSS")
    result = function()
    return result, _status("VmHWM") - before


def memory(kind: str, path: str, other: str) -> Numbers:
    """What a call takes beyond its inputs and its results, bytes.

    Huge pages are off, for they would round every buffer up to 2 MiB. A call on other heads comes first, so that no
    library or thread pool is counted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(41, 1, 0, 0, 0) != 0:  # PR_SET_THP_DISABLE
        raise OSError(ctypes.get_errno(), "prctl: huge pages cannot be switched off")
    call(kind, other)()
    result, peak = with_peak(call(kind, path))
    fields = (getattr(result, name) for name in result.__dataclass_fields__ if name != "things")
    outputs = sum(field.nbytes for field in fields)
    return {"outputs": outputs, "scratch": peak - outputs}


def two_threads(kind: str, path: str) -> Numbers:
    """Calls a second of two Python threads over those of one, each call on one thread of the engine."""
    fuse = call(kind, path, threads=1)

    def seconds(workers: int, calls: int) -> float:
        barrier = threading.Barrier(workers + 1)

        def work() -> None:
            barrier.wait()
            for _ in range(calls):
                fuse()

        pool = [threading.Thread(target=work) for _ in range(workers)]
        for thread in pool:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        for thread in pool:
            thread.join()
        return time.perf_counter() - start

    calls = max(4, round(0.3 / seconds(1, 1)))
    one, two = zip(*((seconds(1, calls), seconds(2, calls)) for _ in range(5)), strict=True)
    return {"one, calls/s": calls / min(one), "two, calls/s": 2 * calls / min(two), "ratio": 2 * min(one) / min(two)}


MEASURES = {f.__name__: f for f in (imports, imports_without_torch, first_call, memory, two_threads)}


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](*sys.argv[2:])))
