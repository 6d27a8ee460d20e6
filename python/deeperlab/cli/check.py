# SPDX-License-Identifier: Apache-2.0
"""`deeperlab check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .console import new_console, new_table, one_line, percent, size_of
from .fuse import class_ids
from .layout import (
    Components,
    ComponentsOption,
    EdgesOption,
    Grid,
    GridOption,
    Heatmaps,
    HeatmapsOption,
    KeypointsOption,
    Units,
    UnitsOption,
    as_arguments,
    as_options,
    layout,
)
from .streams import plain

if TYPE_CHECKING:
    from ..predictor.heads_check import Report

OFFSETS = ("long_range", "short_range", "middle_range")
MOST = 4
"""Rows of the table of conventions."""


def check(
    heads: Annotated[Path, typer.Argument(metavar="HEADS.npz", help="Raw heads, as for deeperlab fuse.")],
    things: Annotated[
        str | None,
        typer.Option(help="The classes that have instances: ids and ranges, as in 0-36,40. By default all: less sure."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="A label set, for its things: coco, cityscapes, vistas, voc, ade20k, or a file.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of the image in px, HEIGHTxWIDTH, as for deeperlab fuse.")] = None,
    components: ComponentsOption = Components.xy,
    units: UnitsOption = Units.px,
    grid: GridOption = Grid.aligned,
    heatmaps: HeatmapsOption = Heatmaps.logits,
    keypoints: KeypointsOption = None,
    edges: EdgesOption = None,
) -> None:
    """Tell by which conventions raw heads were made, and which options deeperlab fuse needs for them.

    Heads of another order of channels, of offsets in nodes, of another grid or of probabilities fuse without an error
    into a map that is wrong. This command tries all conventions: where the offsets of one object lead must not drift
    from node to node, must be a peak of the heatmap, and must lie in the image. Exit code 0: the heads fit the options
    given; 1: they do not, or nothing can be told; 2: no heads.
    """
    console = new_console()
    with one_line(ValueError, TypeError, OSError, ImportError, smaller="batch in HEADS.npz"):
        from ..data.labels import find
        from ..predictor.heads_check import examine, unusual
        from ..predictor.heads_file import read_heads

        given = layout(components, units, grid, heatmaps, keypoints, edges)
        read_heads(heads, given, None if size is None else size_of(size))  # refuses what fuse would
        file = read_heads(heads, None, None if size is None else size_of(size))
        ids = class_ids(things) if things is not None else find(labels).things if labels is not None else None
        report = examine(file, range(file.heads.classes) if ids is None else ids, given)
    if not _print(console, report, unusual(given)):
        raise typer.Exit(1)


def _print(console: Console, report: Report, given: dict[str, object]) -> bool:
    """Print all, and return whether the heads fit what was given."""
    table = new_table("components", "units", "", "*long", "*short", "*middle", "*on peaks %", "*off image %")
    shown = report.rows[:MOST]
    if report.given is not None and report.given not in shown:
        shown.append(report.given)
    for row in shown:
        offsets = row.convention
        notes = ["negated"] * offsets.reversed + ["given"] * (row is report.given)
        drifts = [f"{row.drift[name]:.2f}" if name in row.drift else "–" for name in OFFSETS]
        figures = *drifts, percent(row.on_peaks), percent(row.outside)
        table.add_row(offsets.components, offsets.units, ", ".join(notes), *figures)
    if shown:
        console.print(table)
        console.print(
            "long, short, middle: px by which the place that offsets lead to moves from node to node, 0 if they are "
            f"meant so; {report.nodes} nodes"
        )
    table = new_table("head", "found")
    for name, text in report.findings:
        table.add_row(name, plain(text))
    console.print(table)
    for text in report.undecided:
        console.print(f"cannot be told: {plain(text)}", soft_wrap=True)
    for text in report.faults:
        console.print(f"wrong: {plain(text)}", soft_wrap=True)
    if report.advice != given:
        options = as_options(report.advice)
        console.print(
            f"The heads do not fit. Give deeperlab fuse {plain(options) or 'none of these options'}; in Python, "
            f"Heads.from_layout(..., {plain(as_arguments(report.advice))})",
            soft_wrap=True,
        )
    elif report.faults:
        console.print("The heads do not fit.")
    elif any(text.startswith("offsets") for text in report.undecided):
        console.print("Nothing can be told of these heads.")
        return False
    else:
        options = as_options(given)
        console.print(f"The heads fit: deeperlab fuse {f'with {plain(options)}' if options else 'as they are'}.")
    return report.advice == given and not report.faults
