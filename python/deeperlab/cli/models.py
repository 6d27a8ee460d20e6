# SPDX-License-Identifier: Apache-2.0
"""`deeperlab models`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import shipped
from .console import new_console, new_table, one_line
from .streams import plain

SIZE = 513
"""px of the side of the image for which multiply-adds are counted, as many papers do."""


def models(
    table: Annotated[
        bool, typer.Option("--table", help="All networks that can be made: what train --model takes, counted here.")
    ] = False,
) -> None:
    """List the networks that come with the package: what they know, how good they are, and where their files lie.

    Their names are what predict --model and train --from take, and deeperlab.Parser and models.from_pretrained in
    Python. Figures are per cent, of photographs on which the network was neither trained nor tuned.

    With --table, all networks that deeperlab train can make instead, from FCN to the paper's: parameters, multiply-adds
    for an image of 513 x 513 px, the stride of their heads, their idea, and the figure that their authors published.
    """
    console = new_console()
    with one_line(ValueError, OSError, ImportError):
        if table:
            _print_systems(console)
        else:
            _print_shipped(console)


def _print_shipped(console: Console) -> None:
    found = [network for name in shipped.NAMES if (network := shipped.find(name))]
    table = new_table("name", "*MB", "*classes", "*things", "*PQ", "*PQ things", "*PQ stuff", "*PC", "*photographs")
    for each in found:
        figures = each.figures
        quality = (f"{100 * figures[name]:.1f}" for name in ("pq", "pq_things", "pq_stuff", "pc"))
        counts = str(len(each.labels)), str(len(each.labels.things))
        table.add_row(each.name, f"{each.bytes / 1e6:.1f}", *counts, *quality, f"{figures['images']:.0f}")
    console.print(table)
    for each in found:
        console.print(f"{plain(each.describe())}\nits card: {plain(each.folder / 'README.md')}", soft_wrap=True)


def _print_systems(console: Console) -> None:
    from .._layout import require_torch

    require_torch("deeperlab models --table")
    import torch

    from ..models import FACTS, create, list_models, multiply_adds, parameters

    table = new_table(
        "name", "*year", "*parameters, M", f"*multiply-adds at {SIZE}², G", "*stride", "idea", "published"
    )
    for name in list_models():
        with torch.device("meta"):
            network = create(name, 21)
        fact, work = FACTS[name], multiply_adds(network, SIZE)
        counts = f"{parameters(network) / 1e6:.1f}", f"{work / 1e9:.1f}", str(network.stride)
        table.add_row(name, str(fact.year), *counts, fact.idea, fact.published)
    console.print(table)
    console.print("21 classes. deeperlab train --model NAME trains any of them; docs/systems.md compares them.")
