# SPDX-License-Identifier: Apache-2.0
"""A run as tables in the manner of the paper, as a short JSON to keep, and as plots.

    python -m benchmarks.report [RUN.json] [--process FILE] [--save] [--plots FOLDER]

RUN.json is what `--benchmark-json` wrote, or a kept run; by default the newest of these.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from . import process
from .runs import LIBRARY, RESULTS, YARDSTICK, Figure, Run, read

OTHERS = {
    YARDSTICK: "plain C++, same answer",
    "upsample_first": "plain C++, upsampling first",
    "expert": "an expert's PyTorch",
    "numpy": "NumPy twin",
}
"""Columns beside the library's, by contender."""


def _ms(ms: float) -> str:
    """Three digits: a timing bears no more."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _of(figures: Iterable[Figure], contender: str) -> list[Figure]:
    """By the number of threads."""
    return sorted((f for f in figures if f.contender == contender), key=lambda f: f.threads)


def _other(figures: list[Figure], contender: str) -> str:
    """Its time, over the library's of one thread, and how far it agrees where it gives another answer."""
    found, ours = _of(figures, contender), _of(figures, "tensors") or _of(figures, "arrays")
    if not found:
        return ""
    ratio = found[0].min / ours[0].min if ours else None
    times = "" if ratio is None else f" (× {ratio:,.0f})" if ratio >= 10 else f" (× {ratio:.1f})"
    quality = found[0].info.get("things pq")
    return _ms(found[0].min) + times + ("" if quality is None else f", PQ {quality:.2f}")


def table(run: Run) -> str:
    """The fusion, one row a scene: minima, ms. Columns of contenders that did not run are left out."""
    scenes = run.scenes("fuse")
    threads = sorted({f.threads for figures in scenes.values() for f in figures if f.contender in LIBRARY})
    ours = [f"{name}, {' / '.join(map(str, threads))} threads" for name in LIBRARY]
    lines = [["scene", "found", "mixed cells", *ours, *OTHERS.values(), "the paper"]]
    for scene, figures in scenes.items():
        info = figures[0].info
        lines.append(
            [
                scene.removeprefix("fuse: "),
                str(info["found"]),
                f"{100 * info['mixed cells']:.1f} %",
                *(" / ".join(_ms(figure.min) for figure in _of(figures, name)) for name in LIBRARY),
                *(_other(figures, name) for name in OTHERS),
                "" if info["paper ms"] is None else str(info["paper ms"]),
            ]
        )
    held = [any(cells[1:]) for cells in zip(*lines, strict=True)]
    lines = [[cell for cell, keep in zip(line, held, strict=True) if keep] for line in lines]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scaling(run: Run) -> str:
    """Linear in pixels, nearly free in things: how the time of one thread grows."""
    lines = []
    pixels, things = dict(run.by_pixels("tensors")), dict(run.by_things("tensors"))
    for curve, low, high, noun in ((pixels, 1441**2, 2881**2, "pixels"), (things, 5, 500, "things")):
        if low in curve and high in curve:
            grown = curve[high] / curve[low]
            lines.append(f"{low:,} → {high:,} {noun} (× {high / low:.3g}) take × {grown:.3g} the time")
    return "  \n".join(lines)


def heading(run: Run) -> str:
    """The machine and the versions, on which every figure depends."""
    m = run.machine
    return (
        f"{run.date[:10]}, commit {run.commit}: {run.machine_key}; {m['compiler']}, torch {m['torch']}, "
        f"numpy {m['numpy']}, python {m['python']}; other work had "
        f"{run.other_work:.1f} processors meanwhile. Minima, ms; (× …) over tensors on "
        "one thread; PQ of things, the library's answer being the truth."
    )


def newest(folder: Path) -> Path:
    """The kept run of the last date."""
    kept = [path for path in folder.glob("20*.json") if "figures" in json.loads(path.read_text())]
    if not kept:
        raise FileNotFoundError(f"{folder}: expected a kept run, got none; `make bench` makes one")
    return max(kept, key=lambda path: read(path).date)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN.json")
    parser.add_argument(
        "--process", type=Path, metavar="FILE", help="what benchmarks.process wrote, to go with the run"
    )
    parser.add_argument("--save", action="store_true", help="keep the run")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where runs are kept (%(default)s)")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw time over pixels and over things")
    options = parser.parse_args(arguments)
    run = read(options.run or newest(options.folder))
    if options.process:
        run = replace(run, process=json.loads(options.process.read_text()))
    parts = [heading(run), table(run), scaling(run), process.table(run.process) if run.process else ""]
    print("\n\n".join(part for part in parts if part))
    written = [run.save(options.folder)] if options.save else []
    if options.plots:
        from .plots import draw  # matplotlib, which a table can do without

        written += draw(run, options.plots)
    for path in written:
        print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
