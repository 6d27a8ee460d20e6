# SPDX-License-Identifier: Apache-2.0
"""Runs as tables in Markdown, and the tables of the documents, which are made of the newest kept run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .cases import PAPER_MS
from .machine import QUIET
from .runs import FUSION, ROOT, Figure, Run, scenes

LIBRARY = ("tensors", "arrays")
FLOOR = "floor"
"""What memory alone costs: inputs are read once, results written once."""
OTHERS = {
    "same_answer": "plain C++, same answer",
    "upsample_first": "plain C++, upsampling first",
    "expert": "an expert's PyTorch",
    "torch": "torch",
    "numpy": "NumPy",
    "panopticapi": "panopticapi",
    "torchmetrics": "torchmetrics",
    "hotcoco": "hotcoco",
}
"""Columns beside the library's, by contender."""
NOTE = (
    "Minima, ms; (× …) over the library on as many threads; PQ of things, the library's answer being the truth. The "
    "floor is what memory alone costs in the same run: inputs are read once, results written once."
)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head; columns that are empty below it are left out."""
    kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    rows = [[line[i] for i in kept] for line in lines]
    rows.insert(1, ["---"] * len(kept))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ms(ms: float) -> str:
    """Three digits: a timing bears no more."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 0.1 else f"{ms:.3f}"


def _of(figures: Iterable[Figure], *contenders: str) -> list[Figure]:
    return [figure for figure in figures if figure.contender in contenders]


def _times(figures: list[Figure], contender: str) -> str:
    return " / ".join(_ms(figure.ms) for figure in _of(figures, contender))


def _over_floor(figures: list[Figure]) -> str:
    """The times of the library over the floor, the least of as many threads or fewer; tensors' where there are both."""
    times = []
    for figure in _of(figures, "tensors") or _of(figures, "arrays"):
        floors = [floor.ms for floor in _of(figures, FLOOR) if floor.threads <= figure.threads]
        times += [f"{figure.ms / min(floors):.1f}"] if floors else []
    return " / ".join(times)


def _beside(figures: list[Figure], contender: str) -> str:
    """Another contender on the fewest threads, over the library's best on as many; PQ where its answer is another."""
    for figure in _of(figures, contender)[:1]:
        library = [mine.ms for mine in _of(figures, *LIBRARY) if mine.threads == figure.threads]
        ratio = figure.ms / min(library) if library else 0
        times = f" (× {ratio:,.0f})" if ratio >= 10 else f" (× {ratio:.1f})" if library else ""
        quality = figure.info.get("things pq")
        return _ms(figure.ms) + times + ("" if quality is None else f", PQ {quality:.2f}")
    return ""


def table(figures: Iterable[Figure]) -> str:
    """One row a scene: minima, ms."""
    figures = list(figures)
    columns = [f"{name}, {_threads(_of(figures, name))}" for name in LIBRARY]
    lines = [["scene", "found", "mixed cells", *columns, "floor", "over the floor", *OTHERS.values(), "the paper"]]
    for scene, alike in scenes(figures).items():
        facts = alike[0].info if scene.startswith(FUSION) else {}
        about = [str(facts["found"]), f"{100 * facts['mixed cells']:.1f} %"] if facts else ["", ""]
        about += [_times(alike, name) for name in (*LIBRARY, FLOOR)] + [_over_floor(alike)]
        beside = [_beside(alike, name) for name in OTHERS]
        paper = PAPER_MS.get(alike[0].shape) if facts else None
        lines.append([scene.removeprefix(FUSION), *about, *beside, "" if paper is None else str(paper)])
    return markdown(lines)


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
    parts = [str(run)]
    if run.fusion or run.kernels:
        parts.append(NOTE)
    if run.fusion:
        parts += [table(run.fusion), scaling(run)]
    if run.kernels:
        parts.append(table(run.kernels))
    if run.measured:
        rows = [
            [name, "; ".join(f"{what} {value:,.4g}" for what, value in of.items())] for name, of in run.measured.items()
        ]
        parts.append(markdown([["benchmark", "measured"], *rows]))
    return "\n\n".join(part for part in parts if part)


# The documents


def evident(run: Run) -> Run:
    """Without figures of several threads where other work had their processors."""
    if run.other_work <= QUIET:
        return run
    fusion, kernels = (tuple(f for f in figures if f.threads == 1) for figures in (run.fusion, run.kernels))
    return replace(run, fusion=fusion, kernels=kernels)


def _threads(figures: Iterable[Figure]) -> str:
    counts = sorted({figure.threads for figure in _of(figures, *LIBRARY)})
    return f"{' / '.join(map(str, counts))} thread{'s' * (counts != [1])}"


def _in_short(run: Run) -> str:
    """The README's: one size, few to many things."""
    shown = {"same_answer": "plain C++, same result", "expert": "PyTorch, by an expert"}
    library = f"this package, {_threads(run.fusion)}"
    lines = [["1441 × 1441 px, heads at stride 4", library, *shown.values(), "the paper"]]
    alike = scenes(run.fusion)
    for things in (5, 50, 500):
        figures = alike[f"{FUSION}1441 px, {things} things"]
        others = [f"{_ms(_of(figures, name)[0].ms)} ms" for name in shown]
        lines.append(
            [f"{things} things", f"**{_times(figures, 'tensors')} ms**", *others, f"{PAPER_MS[1441, 1441]} ms"]
        )
    return f"{markdown(lines)}\n\n{run}"


def _in_full(run: Run) -> str:
    return f"{run}\n\n{NOTE}\n\n{table(run.fusion)}\n\n{scaling(run)}"


EVALUATORS = "PQ of "
"""How the groups of the evaluators begin."""


def _kernels(run: Run) -> str:
    """Those that have a floor."""
    floors = {figure.scene for figure in _of(run.kernels, FLOOR)}
    return f"{run}\n\n{table(figure for figure in run.kernels if figure.scene in floors)}"


def _evaluators(run: Run) -> str:
    return f"{run}\n\n{table(figure for figure in run.kernels if figure.scene.startswith(EVALUATORS))}"


DOCUMENTS: dict[tuple[str, str], Callable[[Run], str]] = {
    ("README.md", "the fusion in short"): lambda run: _in_short(evident(run)),
    ("docs/performance.md", "the fusion"): lambda run: _in_full(evident(run)),
    ("docs/performance.md", "the kernels"): lambda run: _kernels(evident(run)),
    ("docs/metrics.md", "the evaluators"): _evaluators,
}
"""What stands on a page between `<!-- NAME: made by `make bench-docs` -->` and `<!-- end of NAME -->`."""


def documents(run: Run, root: Path = ROOT) -> dict[Path, str]:
    """The pages as they are to be.

    Raises:
        ValueError: a page lacks the place of its table.
    """
    pages: dict[Path, str] = {}
    for (page, name), made in DOCUMENTS.items():
        path = root / page
        begin, end = f"<!-- {name}: made by `make bench-docs` -->\n", f"\n<!-- end of {name} -->"
        text = pages.get(path) or path.read_text()
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page}: expected one place of the table, between {begin.strip()} and {end.strip()}")
        before, after = text.split(begin)
        pages[path] = before + begin + made(run) + end + after.split(end)[1]
    return pages
