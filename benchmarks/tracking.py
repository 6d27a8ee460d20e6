# SPDX-License-Identifier: Apache-2.0
"""Has the library become slower, and what in it?

    python -m benchmarks.tracking store                  ratios of now, kept for this machine in results/ratios.json
    python -m benchmarks.tracking compare                ratios of now against those
    python -m benchmarks.tracking compare --base FOLDER  against the library that another checkout has built

Absolute times move by up to 2× with other work on a machine. So a process runs the library and a yardstick in turns, a
program that no change of the library makes faster or slower, and takes the quickest call of each: other work only ever
adds time. What counts is the yardstick's time over the library's. Processes of one build differ in it, by how they
happen to lie in memory and by what else the machine does: several are measured, and what they differ by is the noise
of a row. With `--base`, processes of both builds run in turns.

A row looks slower where the median of its processes is slower by more than 10 % **and** none of them reaches any of
those that it is compared with, the most extreme one of each left out. It fails where it looks so again, in as many
processes more; that second look shows it alone.

Exit status: 0; 1 where a row fails; 2 where there is nothing to compare with, or a build cannot be measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from pytest_benchmark.utils import get_commit_info

import deeperlab
from deeperlab.stages import pipeline

from .bench_stages import calls_of
from .cases import THINGS, Spec, noisy_heads
from .kernels import KERNELS
from .machine import QUIET, ProcessorTime, describe, key_of
from .runs import RESULTS, ROOT
from .tables import markdown
from .yardsticks import plain

SCENES = (Spec(257, 50), Spec(1441, 50))
RATIOS = RESULTS / "ratios.json"
TOLERANCE = 0.10
PROCESSES = 5
TURNS, REPEATS, LONG = 8, 5, 0.03
"""Calls of less than `LONG` seconds are repeated."""
TWO_THREADS = "fuse, 2 threads"

Ratios = dict[str, dict[str, float]]
"""Of one process, by scene and row: more is faster."""
Samples = dict[str, dict[str, list[float]]]
"""Of several."""


# One process


def in_turns(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The quickest call of each, in seconds; a result is kept until the next has come.

    Short calls are repeated within a turn: the fewer milliseconds, the more of them a disturbance takes.
    """
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(TURNS):
        for name, call in calls.items():
            for _ in range(1 if best[name] > LONG else REPEATS):
                begin = perf_counter()
                kept = call()
                best[name] = min(best[name], perf_counter() - begin)
    del kept
    return best


def fusion(spec: Spec) -> dict[str, float]:
    """The whole of it over the plain program, and every stage over the plain one."""
    heads = noisy_heads(spec)
    arrays = heads.map(torch.Tensor.numpy)
    best = np.full(len(pipeline.NAMES), np.inf)
    seconds = best.copy()

    def yardstick() -> None:
        plain.same_answer(arrays, THINGS, seconds=seconds)
        np.minimum(best, seconds, out=best)

    def whole() -> Any:
        return deeperlab.fuse(heads, THINGS)

    stages = {name: call.of_op(name) for name, call in calls_of(heads).items()}
    took = in_turns({"": yardstick, "fuse, 1 thread": whole} | stages)
    ratios = {"fuse, 1 thread": took[""] / took["fuse, 1 thread"]}
    ratios |= {name: plain_stage / took[name] for name, plain_stage in zip(pipeline.NAMES, best.tolist(), strict=True)}
    if describe()["cores"] > 1:
        torch.set_num_threads(2)  # for all turns: a pool of threads that changes its size is slow
        took = in_turns({"": yardstick, TWO_THREADS: whole})
        ratios[TWO_THREADS] = took[""] / took[TWO_THREADS]
        torch.set_num_threads(1)
    return ratios


def measure() -> Ratios:
    torch.set_num_threads(1)
    found = {f"fuse: {spec}": fusion(spec) for spec in SCENES}
    for name, kernel in KERNELS.items():
        library, twin = kernel()
        took = in_turns({"library": library, "twin": twin})
        found.setdefault("beside the fusion", {})[name] = took["twin"] / took["library"]
    return found


# Several


def run_process(python: str = sys.executable) -> Ratios:
    """The library that belongs to a Python, measured by the programs beside this file.

    Raises:
        LookupError: it cannot be measured.
    """
    done = subprocess.run(
        [python, "-m", "benchmarks.tracking", "measure"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise LookupError(f"{python}: its library could not be measured, see above")
    ratios: Ratios = json.loads(done.stdout)
    return ratios


def gathered(processes: Sequence[Ratios]) -> Samples:
    samples: Samples = {}
    for ratios in processes:
        for scene, rows in ratios.items():
            for name, ratio in rows.items():
                samples.setdefault(scene, {}).setdefault(name, []).append(float(f"{ratio:.4g}"))
    return samples


@dataclass(frozen=True)
class Row:
    """Ratios of the processes before and now; empty: not measured."""

    scene: str
    name: str
    before: list[float]
    now: list[float]
    judged: bool = True

    @property
    def slower(self) -> float | None:
        """By what share the library's time grew, measured in yardsticks."""
        return median(self.before) / median(self.now) - 1 if self.before and self.now else None

    @property
    def noise(self) -> float:
        """Half of what the processes of one build differ by, at most, as a share."""
        return max((max(of) - min(of)) / 2 / median(of) for of in (self.before, self.now) if of)

    @property
    def fails(self) -> bool:
        """What was measured before and is not now fails too, or a renamed row would end the tracking."""
        if self.slower is None:
            return self.judged and not self.now
        quickest, slowest = sorted(self.now)[-2:][0], sorted(self.before)[:2][-1]
        return self.judged and self.slower > TOLERANCE and quickest < slowest

    def __str__(self) -> str:
        change = "not measured" if self.slower is None else f"{100 * self.slower:+.0f} %"
        return f"{self.name} {change} ({self.scene}, noise ±{100 * self.noise:.0f} %)"


def compared(before: Samples, now: Samples, *, quiet: bool = True) -> list[Row]:
    """Everything that was measured, scene by scene; two threads are judged where it was quiet."""
    return [
        Row(
            scene,
            name,
            before.get(scene, {}).get(name, []),
            now.get(scene, {}).get(name, []),
            judged=quiet or name != TWO_THREADS,
        )
        for scene in dict.fromkeys((*before, *now))
        for name in dict.fromkeys((*before.get(scene, {}), *now.get(scene, {})))
    ]


def comparison(rows: Sequence[Row]) -> str:
    """Markdown; the last paragraph names what moved."""
    lines = [["scene", "row", "× yardstick, before", "now", "time", "noise", "verdict"]]
    for row in rows:
        ratios = [f"{median(of):.3g}" if of else "not measured" for of in (row.before, row.now)]
        change = "" if row.slower is None else f"{100 * row.slower:+.1f} %"
        verdict = "SLOWER" if row.fails else "ok" if row.judged else "not judged"
        lines.append([row.scene, row.name, *ratios, change, f"±{100 * row.noise:.1f} %", verdict])
    failing = [str(row) for row in rows if row.fails]
    return f"{markdown(lines)}\n\n" + ("Slower: " + "; ".join(failing) if failing else "Nothing is slower.")


def store(ratios: Path) -> int:
    """Keep the ratios of now for this machine; those of other machines stay."""
    begin, machine, commit = ProcessorTime.now(), describe(), get_commit_info()  # type: ignore[no-untyped-call]
    samples = gathered([run_process() for _ in range(PROCESSES)])
    entries: dict[str, Any] = json.loads(ratios.read_text()) if ratios.exists() else {}
    entries[key_of(machine)] = {
        "commit": commit["id"][:7] + "-dirty" * commit["dirty"],
        "date": str(np.datetime64("today")),
        "machine": machine,
        "other_work": round(ProcessorTime.now().others_since(begin), 2),
        "ratios": samples,
    }
    ratios.write_text(json.dumps(dict(sorted(entries.items())), indent=1, ensure_ascii=False) + "\n")
    print(comparison(compared(samples, samples)))
    return 0


def stored(ratios: Path, key: str) -> tuple[Samples, float]:
    """What is kept for a machine, and the processors that other work had then.

    Raises:
        LookupError: nothing is.
    """
    entries: dict[str, Any] = json.loads(ratios.read_text()) if ratios.exists() else {}
    if key not in entries:
        raise LookupError(
            f"{ratios.name}: expected ratios of this machine ({key}), got {'; '.join(entries) or 'none'}; "
            "`make bench-save` on a commit to compare with stores them"
        )
    return entries[key]["ratios"], entries[key]["other_work"]


def compare(ratios: Path, base: Path | None) -> int:
    """Measure and judge; the exit status."""
    begin, key = ProcessorTime.now(), key_of(describe())
    before, other_work = ({}, 0.0) if base else stored(ratios, key)
    failing: set[tuple[str, str]] | None = None
    for look in ("first", "second"):
        theirs, mine = list[Ratios](), list[Ratios]()
        for _ in range(PROCESSES):
            if base:
                theirs.append(run_process(str(base / ".venv/bin/python")))
            mine.append(run_process())
        other_work = max(other_work, ProcessorTime.now().others_since(begin))
        rows = compared(gathered(theirs) if base else before, gathered(mine), quiet=other_work <= QUIET)
        rows = [row for row in rows if failing is None or (row.scene, row.name) in failing]
        failing = {(row.scene, row.name) for row in rows if row.fails}
        if not failing:
            break
        print(f"{look} look: " + "; ".join(str(row) for row in rows if row.fails), file=sys.stderr)
    print(f"{key}; slower is what takes {100 * TOLERANCE:g} % more time, beyond the noise and twice\n")
    print(comparison(rows))
    print(f"\nOther work had {other_work:.1f} processors meanwhile.")
    return int(any(row.fails for row in rows))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("compare", "store", "measure"))
    parser.add_argument("--base", type=Path, metavar="FOLDER")
    parser.add_argument("--ratios", type=Path, default=RATIOS, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        if options.command == "measure":
            print(json.dumps(measure()))
            return 0
        return store(options.ratios) if options.command == "store" else compare(options.ratios, options.base)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
