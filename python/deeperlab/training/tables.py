# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper beside the runs that train their rows.

Yang et al. 2019, arXiv 1902.05093. A figure stands here only where the paper's abstract or works that cite it could
confirm it; others are left out. Where that holds for the rows or the number of a table, its title says so.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .config import Config
from .config_file import changes, of_recipe, read

METRICS = ("pq", "pq_things", "pq_stuff", "pc")
"""Names in metrics.jsonl of what is compared; fractions there, per cent in the paper and here."""
INCIDENTAL = ("recipe", "data.source", "data.format", "data.workers", "data.max_broken", "model.weights", "train.seed",
              "train.device", "train.save_every", "train.log_every", "train.trackers", "train.sync_bn", "train.compile",
              "train.channels_last", "train.recompute", "train.accumulate", "train.deterministic", "validate.every",
              "validate.pictures", "validate.heads", "validate.ceiling")  # fmt: skip
"""Options in which a run may differ from a row and still be one of it."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: What it changes.
        recipe: That trains it.
        paper: Figures of the paper, in per cent, by the names of `METRICS`.
    """

    name: str
    recipe: str
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the paper, or several that belong together."""

    title: str
    rows: tuple[Row, ...]


_UNKNOWN = "which rows the paper has could not be verified"
TABLES = (
    Table(
        "Table 1: Mapillary Vistas, validation",
        (
            Row("Xception-71, 1441 px", "mapillary-xception71", {"pq": 31.95, "pc": 55.26}),
            Row("Wider MobileNetV2, 1441 px", "mapillary-wider"),
            Row("Light Wider MobileNetV2, 1441 px", "mapillary-light"),
            Row("Light Wider MobileNetV2, 721 px", "mapillary-light-721"),
        ),
    ),
    Table(
        f"Table 3: the encoder ({_UNKNOWN})",
        (
            Row("3 × 3 kernels, ASPP", "mapillary-mobilenet-3x3"),
            Row("5 × 5 kernels, ASPP", "mapillary-mobilenet-5x5"),
            Row("7 × 7 kernels, ASPP", "mapillary-mobilenet-7x7"),
            Row("3 × 3 kernels", "mapillary-mobilenet-3x3-no-aspp"),
            Row("5 × 5 kernels", "mapillary-mobilenet-5x5-no-aspp"),
            Row("7 × 7 kernels", "mapillary-mobilenet-7x7-no-aspp"),
        ),
    ),
    Table(
        f"Table 4: decoder and heads ({_UNKNOWN})",
        (
            Row("bilinear, shallow heads", "mapillary-bilinear-shallow-heads"),
            Row("bilinear, deep heads", "mapillary-bilinear"),
            Row("space to depth, shallow heads", "mapillary-shallow-heads"),
            Row("space to depth, deep heads", "mapillary-wider-200k"),
        ),
    ),
    Table(
        f"Tables 5 and 7: the semantic loss (by elimination; {_UNKNOWN})",
        (
            Row("all pixels, equal weights", "mapillary-plain-loss"),
            Row("hardest 15 %, equal weights", "mapillary-equal-pixels"),
            Row("all pixels, small instances × 3", "mapillary-all-pixels"),
            Row("hardest 15 %, small instances × 3", "mapillary-wider-200k"),
        ),
    ),
    Table(
        "Table 6: the graph of the keypoints",
        (Row("rectangle", "mapillary-rectangle"), Row("star", "mapillary-star")),
    ),
    Table(
        "Tables 8 to 11: Cityscapes, validation",
        (
            Row("Xception-71", "cityscapes-xception71", {"pq": 56.5, "pc": 75.6}),
            Row("Wider MobileNetV2", "cityscapes-wider"),
            Row("Light Wider MobileNetV2", "cityscapes-light"),
        ),
    ),
    Table(
        "Tables 8 to 11: PASCAL VOC 2012, validation",
        (
            Row("Xception-71", "voc-xception71"),
            Row("Wider MobileNetV2", "voc-wider"),
            Row("Light Wider MobileNetV2", "voc-light"),
        ),
    ),
    Table(
        "Tables 8 to 11: COCO, validation",
        (
            Row("Xception-71", "coco-xception71", {"pq": 33.8, "pc": 56.82}),
            Row("Wider MobileNetV2", "coco-wider"),
            Row("Light Wider MobileNetV2", "coco-light"),
        ),
    ),
)


@dataclass(frozen=True)
class FoundRun:
    """A run in a folder.

    Attributes:
        folder: Of the run.
        config: Its options.
        step: Steps of its last validation; 0: there is none.
        figures: Of that, in per cent, by the names of `METRICS`.
    """

    folder: Path
    config: Config
    step: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Filled:
    """A row with its runs.

    Attributes:
        row: The row.
        runs: That train it, whatever their seed.
        differences: Of the first run to the recipe: `train.steps 200000 → 600`.
    """

    row: Row
    runs: tuple[FoundRun, ...]
    differences: tuple[str, ...]

    def figure(self, metric: str) -> tuple[float, float] | None:
        """Mean and standard deviation (NaN for a single run) over the runs, in per cent; None: no run has it."""
        values = [run.figures[metric] for run in self.runs if metric in run.figures]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def find_runs(folder: str | os.PathLike[str]) -> list[FoundRun]:
    """Find the runs below a folder, or the one that it is: folders with config.toml and metrics.jsonl.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        FormatError, ValueError: a damaged config.toml.
    """
    root = Path(folder)
    next(root.iterdir(), None)  # raises where os.walk would find nothing
    found = []
    for place, folders, files in os.walk(root):
        folders.sort()
        if "config.toml" in files:
            folders.clear()  # what lies in a run is its own
            if "metrics.jsonl" in files:
                found.append(_read_run(Path(place)))
    return found


def fill(runs: Iterable[FoundRun]) -> list[tuple[Table, list[Filled]]]:
    """Give every row its runs: those of its recipe, and those whose options are the same.

    Of several groups of a recipe with other options the one nearest to the recipe counts.
    """
    all_runs = list(runs)
    return [(table, [_fill(row, all_runs) for row in table.rows]) for table in TABLES]


def _fill(row: Row, runs: list[FoundRun]) -> Filled:
    wanted = of_recipe(row.recipe)
    groups: dict[tuple[str, ...], list[FoundRun]] = {}
    for run in runs:
        changed = tuple(differences(wanted, run.config))
        if run.config.recipe == row.recipe or not changed:
            groups.setdefault(changed, []).append(run)
    if not groups:
        return Filled(row, (), ())
    changed = min(groups, key=len)
    return Filled(row, tuple(groups[changed]), changed)


def differences(recipe: Config, run: Config) -> Iterator[str]:
    """Name the options in which a run is not what the recipe says: `train.steps 200000 → 600`."""
    return (told for option, told in changes(recipe, run).items() if option not in INCIDENTAL)


def _read_run(folder: Path) -> FoundRun:
    return FoundRun(folder, read(folder / "config.toml"), *figures_of(folder))


def figures_of(run: Path) -> tuple[int, dict[str, float]]:
    """Read the step of a run's last validation (0: none), and its figures, in per cent, by the names of `METRICS`."""
    step, figures = 0, dict[str, float]()
    for line in (run / "metrics.jsonl").read_bytes().splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # a line that is being written
            continue
        if isinstance(values, dict) and isinstance(values.get("pq"), (int, float)):
            step = int(values.get("step", 0))
            figures = {name: 100 * values[name] for name in METRICS if isinstance(values.get(name), (int, float))}
    return step, figures
