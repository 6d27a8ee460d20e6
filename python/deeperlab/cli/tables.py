# SPDX-License-Identifier: Apache-2.0
"""`deeperlab tables`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import new_console, new_table, one_line
from .streams import plain

if TYPE_CHECKING:
    from ..training.tables import Filled

EPILOG = "Example: deeperlab tables --runs runs"
COLUMNS = {"pq": "PQ", "pq_things": "things", "pq_stuff": "stuff", "pc": "PC"}


def tables(
    runs: Annotated[Path, typer.Option(metavar="DIR", help="A folder with runs of deeperlab train, at any depth.")],
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write all figures to a file.")] = None,
) -> None:
    """Print Tables 1 and 3 to 11 of the paper, its figures beside those of your runs.

    A run counts for a row if its recipe is that of the row, or its options are the same; what else differs is named.
    Runs of several seeds give mean and standard deviation. Figures are those of a run's last validation. Figures of the
    paper that could not be verified are left out.
    """
    console = new_console()
    with one_line(ValueError, OSError, ImportError):
        from ..data.files import replace, require_writable
        from ..training.tables import METRICS, fill, find_runs

        if json_out is not None:
            require_writable(json_out, "--json")
        found = find_runs(runs)
        filled = fill(found)
        if json_out is not None:
            report = {table.title: [_report(row, METRICS) for row in rows] for table, rows in filled}
            text = json.dumps(report, indent=1, allow_nan=False).encode()
            replace(json_out, lambda file: file.write(text))
    console.print(
        "Tables of Yang et al. 2019, in per cent. A figure of the paper stands here only where its abstract or works "
        "that cite it confirm it; – is all others, and what no run has.",
        soft_wrap=True,
    )
    for table, rows in filled:
        console.print(f"\n{table.title}", soft_wrap=True)
        grid = new_table("row", "recipe", "*paper PQ", *(f"*{COLUMNS[name]}" for name in METRICS), "*paper PC", "*runs")
        for each in rows:
            paper = [f"{each.row.paper[name]:g}" if name in each.row.paper else "–" for name in ("pq", "pc")]
            own = [_figure(each, name) for name in METRICS]
            grid.add_row(each.row.name, each.row.recipe, paper[0], *own, paper[1], str(len(each.runs) or "–"))
        console.print(grid)
        for each in rows:
            if each.differences:
                console.print(f"{each.row.recipe}: {plain('; '.join(each.differences))}", soft_wrap=True)
            for run in each.runs:
                if run.step < run.config.train.steps:
                    end = f"validated after {run.step} of {run.config.train.steps} steps"
                    console.print(f"{plain(run.folder)}: {end}", soft_wrap=True)
    used = {run.folder for _, rows in filled for each in rows for run in each.runs}
    for run in found:
        if run.folder not in used:
            name = run.config.recipe or "no recipe"
            reached = f"PQ {run.figures['pq']:.2f} after {run.step} steps" if run.step else "not validated"
            console.print(f"{plain(run.folder)}: of {plain(name)}, which is no row; {reached}", soft_wrap=True)
    if not found:
        console.print(f"no runs in {plain(runs)}", soft_wrap=True)


def _figure(row: Filled, metric: str) -> str:
    values = row.figure(metric)
    if values is None:
        return "–"
    return f"{values[0]:.2f}" if math.isnan(values[1]) else f"{values[0]:.2f} ± {values[1]:.2f}"


def _report(row: Filled, metrics: tuple[str, ...]) -> dict[str, Any]:
    figures = {name: row.figure(name) for name in metrics}
    return {
        "row": row.row.name,
        "recipe": row.row.recipe,
        "paper": dict(row.row.paper),
        "runs": [str(run.folder) for run in row.runs],
        "mean": {name: value[0] for name, value in figures.items() if value},
        "sd": {name: value[1] for name, value in figures.items() if value and not math.isnan(value[1])},
        "differences": list(row.differences),
    }
