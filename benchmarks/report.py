# SPDX-License-Identifier: Apache-2.0
"""What pytest-benchmark cannot report: the library's time over that of a plain program in the same run.

    python -m benchmarks.report table   [RUN.json]      tables in the manner of the paper
    python -m benchmarks.report plots   [RUN.json]      time over pixels and over things, in docs/
    python -m benchmarks.report compare [RUN.json ...]  ratios of now against those stored for this machine
    python -m benchmarks.report store   [RUN.json ...]  ratios of now, to be compared with later

RUN.json is what pytest-benchmark saved, by default the newest kept run for `table` and `plots`; `compare` and `store`
run the quick benchmarks instead. Absolute times move by up to 2× with other work on a machine, a ratio within one run
far less; and other work only ever adds time, so of several runs the quickest of each figure counts.

Exit status: 0; 1 where `compare` finds the library slower than stored by more than 10 %; 2 where there is nothing to
compare with, or a file is no run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cases import PAPER_MS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RATIOS = RESULTS / "ratios.json"
TOLERANCE = 0.10
ATTEMPTS = 3
QUIET = 0.1
"""Processors that other work may have: two threads wait for the slower of them, the yardstick has only one."""

LIBRARY = ("tensors", "arrays")
YARDSTICK = "same_answer"
FLOOR = "floor"
"""What memory alone costs: every head read once, both maps written once."""
OTHERS = {
    YARDSTICK: "plain C++, same answer",
    "upsample_first": "plain C++, upsampling first",
    "expert": "an expert's PyTorch",
    "numpy": "NumPy twin",
}
"""Columns beside the library's, by contender."""
Ratios = dict[str, dict[str, float]]
Points = list[tuple[int, float]]
"""(pixels or things, ms)."""


@dataclass(frozen=True)
class Figure:
    """The quickest call of one contender in one scene; `info` is pytest-benchmark's extra_info."""

    scene: str
    contender: str
    threads: int
    ms: float
    info: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) px."""
        size = self.info["size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True)
class Run:
    """The benchmarks of one process, of one machine and commit.

    Attributes:
        machine: as `pytest_benchmark_generate_machine_info` of conftest.py describes it.
        other_work: processors that other processes had meanwhile, on average.
        figures: of the fusion.
        measured: of other benchmarks, what they found beside their time, by name.
    """

    machine: dict[str, Any]
    commit: str
    date: str
    other_work: float
    figures: tuple[Figure, ...]
    measured: dict[str, dict[str, Any]]

    @property
    def machine_key(self) -> str:
        """Ratios are comparable where this agrees: wider vectors speed up the engine, not a yardstick of -O2."""
        return ", ".join((self.machine["cpu"], f"{self.machine['cores']} cores", self.machine["simd"]))

    def scenes(self) -> dict[str, list[Figure]]:
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            found.setdefault(figure.scene, []).append(figure)
        return found

    def ratios(self) -> Ratios:
        """How often the library's time goes into the yardstick's, by scene and contender.

        Raises:
            LookupError: no scene has both.
        """
        found: Ratios = {}
        for scene, figures in self.scenes().items():
            yardstick = [figure.ms for figure in figures if figure.contender == YARDSTICK]
            for figure in figures:
                if yardstick and figure.contender in LIBRARY:
                    name = f"{figure.contender}, {figure.threads} thread{'s' if figure.threads != 1 else ''}"
                    found.setdefault(scene, {})[name] = yardstick[0] / figure.ms
        if not found:
            raise LookupError("runs: expected the library and its yardstick in one scene, got none")
        return found

    def curve(self, contender: str, threads: int, *, over_things: bool) -> Points:
        """Time over the pixels of scenes of 50 things, or over the things of scenes of 1441² px; heads at stride 4."""
        points = []
        for figure in self.figures:
            (height, width), things = figure.shape, figure.info["instances"]
            alike = (height, width) == (1441, 1441) if over_things else things == 50
            plain = (figure.info["stride"], figure.info["dtype"]) == (4, "float32")
            if alike and plain and (figure.contender, figure.threads) == (contender, threads):
                points.append((things if over_things else height * width, figure.ms))
        return sorted(points)


def read(path: Path) -> Run:
    """Read the JSON that pytest-benchmark wrote of these benchmarks.

    Raises:
        ValueError: the file holds something else.
    """
    data = json.loads(path.read_text())
    if "simd" not in data.get("machine_info", {}):
        raise ValueError(f"{path}: expected a run of these benchmarks, got the keys {sorted(data)}")
    figures, measured = [], {}
    for benchmark in data["benchmarks"]:
        info, group = benchmark["extra_info"], str(benchmark["group"])
        if group.startswith("fuse: "):
            figures.append(Figure(group, info["contender"], info["threads"], 1e3 * benchmark["stats"]["min"], info))
        if "measured" in info:
            measured[benchmark["name"].removeprefix("bench_")] = info["measured"]
    return Run(
        machine=data["machine_info"],
        commit=data["commit_info"]["id"][:7] + "-dirty" * data["commit_info"]["dirty"],
        date=data["datetime"],
        other_work=data["other_work"],
        figures=tuple(figures),
        measured=measured,
    )


def newest(folder: Path = RESULTS) -> Path:
    """Find the kept run of the last date."""
    kept = list(folder.glob("**/[0-9]*.json"))
    if not kept:
        raise FileNotFoundError(f"{folder}: expected a kept run, got none; `make bench` makes one")
    return max(kept, key=lambda path: read(path).date)


def merged(runs: Iterable[Run]) -> Run:
    """Of several runs of one machine and commit the quickest of every figure."""
    runs = list(runs)
    if len({(run.machine_key, run.commit) for run in runs}) != 1:
        kinds = " and ".join(f"{run.machine_key} at {run.commit}" for run in runs)
        raise ValueError(f"runs: expected one machine and commit, got {kinds}")
    best: dict[tuple[str, str, int], Figure] = {}
    for figure in (figure for run in runs for figure in run.figures):
        key = (figure.scene, figure.contender, figure.threads)
        if key not in best or figure.ms < best[key].ms:
            best[key] = figure
    run, other_work = runs[0], max(run.other_work for run in runs)
    return Run(run.machine, run.commit, run.date, other_work, tuple(best.values()), run.measured)


# Tables


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head; columns that are empty below it are left out."""
    kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    rows = [[line[i] for i in kept] for line in lines]
    rows.insert(1, ["---"] * len(kept))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ms(ms: float) -> str:
    """Three digits: a timing bears no more."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _over_floor(figures: list[Figure], contender: str) -> str:
    """The times of a contender over the floor, the least of as many threads or fewer."""
    times = []
    for figure in sorted((f for f in figures if f.contender == contender), key=lambda f: f.threads):
        floors = [f.ms for f in figures if f.contender == FLOOR and f.threads <= figure.threads]
        times += [f"{figure.ms / min(floors):.1f}"] if floors else []
    return " / ".join(times)


def _beside(figures: list[Figure], contender: str) -> str:
    """The time of another contender, over the library's of one thread; PQ where it gives another answer."""
    library = [f.ms for f in figures if f.contender in LIBRARY and f.threads == 1]
    for figure in sorted((f for f in figures if f.contender == contender), key=lambda f: f.threads):
        ratio = figure.ms / library[0] if library else 0
        times = f" (× {ratio:,.0f})" if ratio >= 10 else f" (× {ratio:.1f})" if library else ""
        quality = figure.info.get("things pq")
        return _ms(figure.ms) + times + ("" if quality is None else f", PQ {quality:.2f}")
    return ""


def table(run: Run) -> str:
    """The fusion, one row a scene: minima, ms."""
    threads = sorted({f.threads for f in run.figures if f.contender in LIBRARY})
    columns = [f"{name}, {' / '.join(map(str, threads))} threads" for name in LIBRARY]
    lines = [["scene", "found", "mixed cells", *columns, "tensors over the floor", *OTHERS.values(), "the paper"]]
    for scene, figures in run.scenes().items():
        info, ordered = figures[0].info, sorted(figures, key=lambda f: f.threads)
        times = [" / ".join(_ms(f.ms) for f in ordered if f.contender == name) for name in LIBRARY]
        beside = [_beside(figures, name) for name in OTHERS]
        paper = PAPER_MS.get(figures[0].shape)
        line = [scene.removeprefix("fuse: "), str(info["found"]), f"{100 * info['mixed cells']:.1f} %"]
        floor = _over_floor(figures, "tensors")
        lines.append([*line, *times, floor, *beside, "" if paper is None else str(paper)])
    return _markdown(lines)


def scaling(run: Run) -> str:
    """How the time of one thread grows with pixels and with things."""
    lines = []
    for noun, low, high in (("pixels", 1441**2, 2881**2), ("things", 5, 500)):
        curve = dict(run.curve("tensors", 1, over_things=noun == "things"))
        if low in curve and high in curve:
            grown = curve[high] / curve[low]
            lines.append(f"{low:,} → {high:,} {noun} (× {high / low:.3g}) take × {grown:.3g} the time")
    return "  \n".join(lines)


def report(run: Run) -> str:
    """Everything that is known of a run, as Markdown."""
    m = run.machine
    parts = [
        f"{run.date[:10]}, commit {run.commit}: {run.machine_key}; {m['compiler']}, torch {m['torch']}, "
        f"numpy {m['numpy']}, python {m['python']}; other work had {run.other_work:.1f} processors meanwhile."
    ]
    if run.figures:
        note = (
            "Minima, ms; (× …) over the library on one thread; PQ of things, the library's answer being the truth. The "
            "floor is what memory alone costs: every head read once, both maps written once."
        )
        parts += [note, table(run), scaling(run)]
    if run.measured:
        rows = [
            [name, "; ".join(f"{what} {value:,.4g}" for what, value in of.items())] for name, of in run.measured.items()
        ]
        parts.append(_markdown([["benchmark", "measured"], *rows]))
    return "\n\n".join(part for part in parts if part)


# Comparison


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

    @property
    def fails(self) -> bool:
        """A stored ratio that was not measured fails too, or a renamed benchmark would end the tracking."""
        return self.stored is not None and (self.slower is None or self.slower > TOLERANCE)


def compared(stored: Ratios, now: Ratios) -> list[Row]:
    """Everything that is stored or measured, scene by scene."""
    return [
        Row(scene, contender, stored.get(scene, {}).get(contender), now.get(scene, {}).get(contender))
        for scene in dict.fromkeys((*stored, *now))
        for contender in dict.fromkeys((*stored.get(scene, {}), *now.get(scene, {})))
    ]


def comparison(rows: list[Row]) -> str:
    """Markdown."""
    lines = [["scene", "contender", "× yardstick, stored", "now", "time", "verdict"]]
    for row in rows:
        stored = "not stored" if row.stored is None else f"{row.stored:.1f}"
        now = "not measured" if row.now is None else f"{row.now:.1f}"
        change = "" if row.slower is None else f"{100 * row.slower:+.1f} %"
        lines.append([row.scene, row.contender, stored, now, change, "FAILS" if row.fails else "ok"])
    return _markdown(lines)


def run_quick(attempt: int) -> Run:
    """The benchmarks that are marked quick, timed in a process of their own."""
    path = RESULTS / f"latest-quick-{attempt}.json"
    options = ["-q", "-m", "quick", "--benchmark-enable", "--benchmark-only", "--benchmark-quiet"]
    command = [sys.executable, "-m", "pytest", "benchmarks", *options, f"--benchmark-json={path}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return read(path)


def store(run: Run, path: Path = RATIOS) -> None:
    """Keep the ratios of the run for its machine; those of other machines stay."""
    ratios = {scene: {name: float(f"{r:.4g}") for name, r in of.items()} for scene, of in run.ratios().items()}
    entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    entries[run.machine_key] = {"commit": run.commit, "date": run.date[:10], "machine": run.machine, "ratios": ratios}
    path.write_text(json.dumps(dict(sorted(entries.items())), indent=1, ensure_ascii=False) + "\n")


def compare(paths: Sequence[Path], ratios: Path = RATIOS) -> int:
    """Compare finished runs, or quick ones that are repeated while they look slower; the exit status.

    Raises:
        LookupError: nothing is stored for this machine, or there is nothing to compare.
    """
    run = merged(map(read, paths)) if paths else run_quick(1)
    entries: dict[str, Any] = json.loads(ratios.read_text()) if ratios.exists() else {}
    if run.machine_key not in entries:
        raise LookupError(
            f"{ratios.name}: expected ratios of this machine ({run.machine_key}), got {'; '.join(entries) or 'none'}; "
            "`make bench-save` on a commit to compare with stores them"
        )
    stored: Ratios = entries[run.machine_key]["ratios"]
    rows = compared(stored, run.ratios())
    for attempt in () if paths else range(2, ATTEMPTS + 1):
        if not any(row.fails for row in rows):
            break
        print(f"slower than stored; attempt {attempt} of {ATTEMPTS}", file=sys.stderr)
        run = merged((run, run_quick(attempt)))
        rows = compared(stored, run.ratios())
    failed = any(row.fails for row in rows)
    print(f"{run.machine_key}; at most {100 * TOLERANCE:g} % slower than stored\n\n{comparison(rows)}")
    if failed and run.other_work > QUIET:
        print(f"\nOther work had {run.other_work:.1f} of the processors meanwhile; repeat on a quiet machine.")
    return int(failed)


# Plots: legible on a light page and on a dark one. The ground is transparent, and every color keeps a contrast of at
# least 3 to white and to the near-black of dark pages.

INK = "#7d8590"


@dataclass(frozen=True)
class Style:
    """How a contender looks; its label stands at the end of its line."""

    label: str
    color: str
    marker: str
    line: str = "-"
    width: float = 1.3


STYLES = {
    ("upsample_first", 1): Style("plain C++, upsampling first", "#b07d12", "s"),
    ("expert", 1): Style("an expert's PyTorch", "#a371c8", "D"),
    ("numpy", 1): Style("NumPy twin", "#7d8590", "v"),
    (YARDSTICK, 1): Style("plain C++, same answer", "#d1603d", "^"),
    ("tensors", 1): Style("deeperlab, 1 thread", "#2f81f7", "o", width=2.2),
    ("tensors", 2): Style("deeperlab, 2 threads", "#2f81f7", "o", "--", 2.2),
}
PAPER = Style("the paper's merge", "#2e9e4f", "*", "none")


def _axes(title: str, across: str, ticks: Sequence[tuple[int, str]]) -> Axes:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(7.2, 4.4), layout="constrained").add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.set_xlabel(across, color=INK)
    axes.set_xticks([value for value, _ in ticks], [label for _, label in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(lambda ms, _: f"{ms:,.0f} ms" if ms >= 1 else f"{ms:g} ms")
    axes.grid(True, which="major", color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(which="both", colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    return axes


def _lines(axes: Axes, curves: Sequence[tuple[Style, Points]]) -> None:
    """Labels stand to the right of all lines, level with their ends, pushed apart where they would touch."""
    for style, points in curves:
        axes.plot(
            *zip(*points, strict=True),
            linestyle=style.line,
            linewidth=style.width,
            marker=style.marker,
            markersize=8 if style.marker == "*" else 4,
            color=style.color,
        )
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(left, right * (right / left) ** 0.42)
    below = 0.0
    for ms, style in sorted(((points[-1][1], style) for style, points in curves), key=lambda end: end[0]):
        below = max(ms, below * (high / low) ** 0.052)
        axes.text(right, below, style.label, color=style.color, fontsize=9, va="center")


def _save(axes: Axes, path: Path) -> list[Path]:
    """SVG with text as text, and without a date, so that equal figures are equal files; PNG at twice the size."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    figure.savefig(written[0], transparent=True, metadata={"Date": None})
    figure.savefig(written[1], transparent=True, dpi=144, metadata={"Software": None})
    return written


def plots(run: Run, folder: Path) -> list[Path]:
    """Draw time over pixels, with the paper's figures beside, and time over things, each as SVG and PNG.

    Raises:
        ValueError: the run has too few scenes.
    """
    from matplotlib import rc_context

    over_pixels = [(style, run.curve(*key, over_things=False)) for key, style in STYLES.items()]
    over_things = [(style, run.curve(*key, over_things=True)) for key, style in STYLES.items()]
    for style, points in (*over_pixels, *over_things):
        if style in (STYLES["tensors", 1], STYLES[YARDSTICK, 1]) and len(points) < 2:
            raise ValueError(
                f"run: expected {style.label} at two sizes and with two numbers of things, got fewer; "
                "plots need a full run, as of `make bench`"
            )
    counts = sorted({count for _, points in over_things for count, _ in points})
    over_pixels.append((PAPER, sorted((height * width, float(ms)) for (height, width), ms in PAPER_MS.items())))
    sides = [(side * side, f"{side}²") for side in (257, 513, 721, 1441, 2881)]
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "deeperlab", "font.family": "sans-serif"}):
        pixels = _axes("The fusion of one image with 50 things", "pixels", sides)
        _lines(pixels, [curve for curve in over_pixels if curve[1]])
        things = _axes("The fusion of one image of 1441 × 1441 px", "things", [(n, str(n)) for n in counts])
        _lines(things, [curve for curve in over_things if curve[1]])
        return [*_save(pixels, folder / "time-over-pixels"), *_save(things, folder / "time-over-things")]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("table", "plots", "compare", "store"))
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN.json")
    options = parser.parse_args(arguments)
    try:
        if options.command == "compare":
            return compare(options.runs)
        if options.command == "store":
            run = merged(map(read, options.runs) if options.runs else map(run_quick, range(1, ATTEMPTS + 1)))
            store(run)
            print(comparison(compared({}, run.ratios())))
        elif options.command == "table":
            print(report(merged(map(read, options.runs or [newest()]))))
        else:
            print(*plots(merged(map(read, options.runs or [newest()])), ROOT / "docs"), sep="\n")
    except (LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
