# SPDX-License-Identifier: Apache-2.0
"""`deeperlab tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import new_console, new_table, one_line, percent, progress_bar, warnings_in_lines
from .network import load_network
from .streams import plain

EPILOG = "Example: deeperlab tune runs/mine/best --data /data/mine --split train --images 200"
SHOWN = 6


def tune(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of save_pretrained, such as RUN/best.")],
    data: Annotated[str, typer.Option(help="As of deeperlab train: scenes, a folder, or a TOML file.")],
    split: Annotated[str, typer.Option(help="train or val; figures of the same images flatter afterwards.")] = "train",
    images: Annotated[int, typer.Option(min=1, help="At most so many, spread evenly.")] = 100,
    size: Annotated[int | None, typer.Option(min=1, help="px of the longer side; by default the model's own.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only print what would be kept.")] = False,
) -> None:
    """Find the parameters of the fusion that suit a network, and keep them in its config.json.

    The defaults are for heads that are nearly right. A network that has seen little finds many instances of low scores:
    there the least score of an instance and the overlap of two boxes decide much of the PQ of things, and the least
    share of an image that stuff must have much of that of stuff. A few values of each are tried on images; deeperlab
    predict and Parser then take the best.
    """
    console = new_console()
    with one_line(ValueError, TypeError, OSError, ImportError, smaller="--size"), warnings_in_lines():
        network, _ = load_network(str(model), None, 0, False)
        from ..predictor import Parser
        from ..training.tune import keep, samples_of
        from ..training.tune import tune as try_all

        parser = Parser(network.fold_batch_norm(), size=size)
        samples = samples_of(data, model / "labels.json", split, images)
        with progress_bar() as progress:
            task = progress.add_task("", total=len(samples))
            found = try_all(parser, samples, progress=lambda: progress.update(task, advance=1))
        for tried in found:
            table = new_table(*(f"*{name}" for name in tried[0].options), "*PQ", "*things", "*stuff", "*PC")
            for each in tried[:SHOWN]:
                pq = each.result.pq
                figures = map(percent, (pq.all.pq, pq.things.pq, pq.stuff.pq, each.result.pc.pc))
                table.add_row(*(f"{value:g}" for value in each.options.values()), *figures)
            console.print(table)
        best, area = (tried[0].options for tried in found)
        if not dry:
            keep(model, best, area["stuff_area"])
    words = ", ".join(f"{name} {value:g}" for name, value in (best | area).items())
    console.print(f"{'best' if dry else f'kept in {plain(model)}/config.json'}: {words}", soft_wrap=True)
