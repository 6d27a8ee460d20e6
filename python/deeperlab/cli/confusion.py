# SPDX-License-Identifier: Apache-2.0
"""Confusion matrices as files, and as a table of the largest confusions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from .console import new_table, percent
from .streams import plain

if TYPE_CHECKING:
    from ..data.formats.coco import Category
    from ..metrics import ConfusionResult

LARGEST = 20
"""Confusions that are printed."""


def check_suffix(paths: list[Path] | None) -> list[Path]:
    """Refuse what is no table, JSON or picture by its name."""
    for path in paths or ():
        if path.suffix.lower() not in (".csv", ".json", ".png"):
            raise typer.BadParameter(f"expected a name that ends in .csv, .json or .png, got {str(path)!r}")
    return list(paths or ())


def write_confusion(path: Path, result: ConfusionResult, categories: Sequence[Category]) -> None:
    """Write it as the name's ending says; OSError where that fails."""
    from ..data.files import replace
    from ..data.formats.coco import to_json
    from ..data.formats.png import write_rgb
    from ..visualize import confusion

    names = [category.name for category in categories]
    if path.suffix.lower() == ".png":
        write_rgb(path, confusion(result, {category.id: category.name for category in categories}))
        return
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        rows = [[name, *row] for name, row in zip(names, result.pixels.tolist(), strict=True)]
        csv.writer(text).writerows([["annotated \\ predicted, px", *names, "void"], *rows])
        content = text.getvalue()
    else:
        report = {**result.to_dict(), "categories": [to_json(category) for category in categories]}
        content = json.dumps(report, allow_nan=False)
    replace(path, lambda file: file.write(content.encode()))


def print_confusion(console: Console, result: ConfusionResult, names: Mapping[str, str]) -> None:
    """Print the largest confusions."""
    largest = result.largest()
    table = new_table("annotated", "predicted as", "*% of its px", "*px")
    for true, predicted, pixels, share in largest[:LARGEST]:
        name = "void" if predicted is None else names[str(predicted)]
        table.add_row(plain(names[str(true)]), plain(name), percent(share), f"{pixels:,}")
    console.print(table)
    if len(largest) > LARGEST:
        console.print(f"{len(largest)} pairs of classes are confused, the largest are shown; --confusion has them all")
