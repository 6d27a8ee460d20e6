# SPDX-License-Identifier: Apache-2.0
"""What a whole process sees: imports, the first call, peak memory, two Python threads.

    python -m benchmarks.process [--json FILE]

Every figure is taken in fresh processes, for each of them is spoilt by what a process did before: modules stay
imported, the first call happens once, and freed memory is taken again without a page fault.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .machine import Work

if TYPE_CHECKING:  # the import of numpy and torch is itself measured
    from deeperlab import Heads, Panoptic

ROOT = Path(__file__).resolve().parents[1]
HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
KINDS = ("tensors", "arrays")
CHILDREN = 5
"""Processes per figure; their median is shown."""
SMALL, LARGE, SOME = 161, 1441, 50
MANY = 500
Numbers = dict[str, float]


def _import_ms(module: str) -> float:
    start = time.perf_counter()
    __import__(module)
    return 1e3 * (time.perf_counter() - start)


def imports(_: list[str]) -> Numbers:
    """What a user of tensors pays beyond torch: the package, then what its first call loads, ms."""
    names = ("numpy", "torch", "deeperlab", "deeperlab.ops")
    return {name: _import_ms(name) for name in names}


def imports_without_torch(_: list[str]) -> Numbers:
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


def first_call(arguments: list[str]) -> Numbers:
    """The first call of a process and the quickest of the next, ms; the heads are loaded and touched before."""
    kind, path = arguments
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


def memory(arguments: list[str]) -> Numbers:
    """What a call takes beyond its inputs and its results, bytes.

    Huge pages are off, for they would round every buffer up to 2 MiB. A call on other heads comes first, so that no
    library or thread pool is counted.
    """
    kind, path, other = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(41, 1, 0, 0, 0) != 0:  # PR_SET_THP_DISABLE
        raise OSError(ctypes.get_errno(), "prctl: huge pages cannot be switched off")
    call(kind, other)()
    result, peak = with_peak(call(kind, path))
    fields = (getattr(result, name) for name in result.__dataclass_fields__ if name != "things")
    outputs = sum(field.nbytes for field in fields)
    return {
        "pixels": result.semantic.shape[-1] * result.semantic.shape[-2],
        "outputs": outputs,
        "scratch": peak - outputs,
    }


def two_threads(arguments: list[str]) -> Numbers:
    """Calls a second of two Python threads over those of one, each call on one thread of the engine."""
    kind, path = arguments
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


def measure(name: str, *arguments: str, children: int = CHILDREN) -> Numbers:
    """The medians over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.process", "--measure", name, *arguments]
    runs = [
        json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(children)
    ]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def draw(folder: Path, size: int, instances: int) -> str:
    """Noisy heads of a drawn scene, saved for the processes to come."""
    import numpy as np

    from deeperlab import scenes, targets
    from deeperlab.scenes import noise

    from .cases import CLASSES, THINGS

    scene = scenes.draw(1, size, instances=instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    perfect = targets.encode_heads(scene.category, scene.instance, CLASSES, stride=4)
    heads = noise.perturb(perfect, seed=1, instance=scene.instance, level=1)
    arrays: dict[str, Any] = {name: np.asarray(getattr(heads, name))[None] for name in HEADS}
    path = folder / f"{size}-{instances}.npz"
    np.savez(path, things=np.array(THINGS), **arrays)
    return str(path)


def measure_all(children: int = CHILDREN, large: int = LARGE) -> dict[str, Any]:
    """Every figure, by kind of input and scene."""
    start = Work.so_far()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, big, crowd = (draw(folder, *scene) for scene in ((SMALL, 5), (large, SOME), (large, MANY)))
        figures = {
            "imports": measure("imports", children=children),
            "imports without torch": measure("imports_without_torch", children=children),
            "first call": [
                {"input": kind, "size": size, **measure("first_call", kind, path, children=children)}
                for kind in KINDS
                for size, path in ((SMALL, small), (large, big))
            ],
            "memory": [
                {"input": kind, "size": large, "instances": n} | measure("memory", kind, path, small, children=1)
                for kind in KINDS
                for n, path in ((SOME, big), (MANY, crowd))
            ],
            "two threads": [
                {"input": kind, "size": large, "instances": SOME, **measure("two_threads", kind, big, children=1)}
                for kind in KINDS
            ],
        }
    return figures | {"other work": round(Work.so_far().of_others(start), 2)}


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    over, alone = figures["imports"], figures["imports without torch"]
    rows = [
        ("import torch (numpy before it)", f"{over['torch']:.0f} ms"),
        ("import deeperlab after torch", f"{over['deeperlab']:.1f} ms"),
        ("… and what its first call on tensors loads", f"{over['deeperlab.ops']:.1f} ms"),
        ("import deeperlab without torch (numpy before it)", f"{alone['deeperlab']:.1f} ms"),
        ("… and what its first call on arrays loads", f"{alone['deeperlab._numpy']:.1f} ms"),
    ]
    for f in figures["first call"]:
        rows.append((f"first call, {f['input']}, {f['size']} px", f"{f['first ms']:.1f} ms, later {f['later ms']:.1f}"))
    for f in figures["memory"]:
        rows.append(
            (
                f"peak memory beyond input and output, {f['input']}, {f['size']} px, {f['instances']} things",
                f"{f['scratch'] / 2**20:.1f} MiB, {f['scratch'] / f['pixels']:.1f} B/px",
            )
        )
    for f in figures["two threads"]:
        rate = f"{f['one, calls/s']:.1f} → {f['two, calls/s']:.1f} calls/s"
        rows.append((f"two Python threads, {f['input']}, {f['size']} px", f"{f['ratio']:.2f} × one ({rate})"))
    rows.append(("processors that other work had meanwhile", f"{figures['other work']:.1f}"))
    return "\n".join(("| the whole process | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--measure", nargs="+", metavar=("NAME", "ARGUMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *arguments = options.measure
        print(json.dumps(MEASURES[name](arguments)))
        return
    figures = measure_all()
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
