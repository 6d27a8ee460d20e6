# SPDX-License-Identifier: Apache-2.0
"""Has the library become slower? Its time over that of the yardstick in the same run, against what was stored.

    python -m benchmarks.compare [RUN.json ...] [--store]

Absolute times move by up to 2× with other work on a machine; a ratio within one run moves far less. Without RUN.json
the quick benchmarks are run, and run again, up to `--attempts` times, while a ratio is too low: other work only ever
adds time, so the quickest of all attempts is the better figure. Ratios are kept by machine, for they depend on it.
Exit status 0: as fast as stored; 1: slower by more than `--tolerance`; 2: nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runs import RESULTS, Run, merged, read

STORE = RESULTS / "ratios.json"
TOLERANCE = 0.10
QUIET = 0.1
"""Processors that other work may have: two threads wait for the slower of them, the yardstick has only one."""
Ratios = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """One contender of one scene; ratios are yardstick / library, so more is faster; None: absent."""

    scene: str
    contender: str
    stored: float | None
    now: float | None

    @property
    def slower(self) -> float | None:
        """By what share the library's time grew, measured in yardsticks."""
        return None if self.stored is None or self.now is None else self.stored / self.now - 1

    def fails(self, tolerance: float) -> bool:
        """A stored ratio that was not measured fails too, or a renamed benchmark would end the tracking."""
        slower = self.slower
        return self.stored is not None and (slower is None or slower > tolerance)


def rows(stored: Ratios, now: Ratios) -> list[Row]:
    """Everything that is stored or measured, scene by scene."""
    return [
        Row(scene, contender, stored.get(scene, {}).get(contender), now.get(scene, {}).get(contender))
        for scene in dict.fromkeys((*stored, *now))
        for contender in dict.fromkeys((*stored.get(scene, {}), *now.get(scene, {})))
    ]


def table(compared: list[Row], tolerance: float) -> str:
    """Markdown."""
    lines = ["| scene | contender | × yardstick, stored | now | time | |", "|---|---|---|---|---|---|"]
    for row in compared:
        ratios = (
            "not stored" if row.stored is None else f"{row.stored:.1f}",
            "not measured" if row.now is None else f"{row.now:.1f}",
        )
        change = "" if row.slower is None else f"{100 * row.slower:+.1f} %"
        verdict = "FAILS" if row.fails(tolerance) else ""
        lines.append(f"| {row.scene} | {row.contender} | {' | '.join(ratios)} | {change} | {verdict} |")
    return "\n".join(lines)


def run_quick(attempt: int) -> Run:
    """The benchmarks that are marked quick, timed in a process of their own."""
    path = RESULTS / f"latest-quick-{attempt}.json"
    command = [sys.executable, "-m", "pytest", "benchmarks", "-p", "benchmarks.machine", "-m", "quick", "-q"]
    command += ["--benchmark-enable", "--benchmark-only", "--benchmark-quiet", f"--benchmark-json={path}"]
    subprocess.run(command, cwd=RESULTS.parents[1], check=True, stdout=subprocess.DEVNULL)
    return read(path)


def store(run: Run, path: Path) -> None:
    """Keeps the ratios of the run for its machine; those of other machines stay."""
    entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    ratios = {scene: {name: float(f"{r:.4g}") for name, r in of.items()} for scene, of in run.ratios().items()}
    entries[run.machine_key] = {"commit": run.commit, "date": run.date[:10], "machine": run.machine, "ratios": ratios}
    path.write_text(json.dumps(dict(sorted(entries.items())), indent=1, ensure_ascii=False) + "\n")


def stored_ratios(run: Run, path: Path) -> Ratios:
    """What was stored for the machine of the run."""
    entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if run.machine_key not in entries:
        known = "; ".join(entries) or "none"
        raise LookupError(
            f"{path.name}: expected ratios of this machine ({run.machine_key}), got {known}; "
            "`make bench-save` on a commit to compare with stores them"
        )
    ratios: Ratios = entries[run.machine_key]["ratios"]
    return ratios


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN.json", help="finished runs, to be taken together")
    parser.add_argument("--store", action="store_true", help="keep the ratios instead, for this machine")
    parser.add_argument("--ratios", type=Path, default=STORE, help="where ratios are kept (%(default)s)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share of time (%(default)s)")
    parser.add_argument("--attempts", type=int, default=3, help="quick runs at most (%(default)s)")
    options = parser.parse_args(arguments)
    if options.attempts < 1:
        parser.error(f"--attempts: expected at least 1, got {options.attempts}")

    run = merged(read(path) for path in options.runs) if options.runs else run_quick(1)
    left = () if options.runs else range(2, options.attempts + 1)
    if not run.ratios():
        print("runs: expected the library and its yardstick in one scene, got none", file=sys.stderr)
        return 2
    if options.store:
        run = merged((run, *(run_quick(attempt) for attempt in left)))
        store(run, options.ratios)
        print(table(rows({}, run.ratios()), options.tolerance))
        return 0
    try:
        expected = stored_ratios(run, options.ratios)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    for attempt in left:
        if not any(row.fails(options.tolerance) for row in rows(expected, run.ratios())):
            break
        print(f"slower than stored; attempt {attempt} of {options.attempts}", file=sys.stderr)
        run = merged((run, run_quick(attempt)))
    compared = rows(expected, run.ratios())
    failed = any(row.fails(options.tolerance) for row in compared)
    print(f"{run.machine_key}; at most {100 * options.tolerance:g} % slower than stored\n")
    print(table(compared, options.tolerance))
    if failed and run.other_work > QUIET:
        print(f"\nOther work had {run.other_work:.1f} of the processors meanwhile; repeat on a quiet machine.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
