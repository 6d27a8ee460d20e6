# SPDX-License-Identifier: Apache-2.0
"""`deeperlab models`."""

from __future__ import annotations

from .. import shipped
from .console import new_console, new_table, one_line
from .streams import plain


def models() -> None:
    """List the networks that come with the package: what they know, how good they are, and where their files lie.

    Their names are what predict --model and train --from take, and deeperlab.Parser and from_pretrained in Python.
    Figures are per cent, of photographs on which the network was neither trained nor tuned.
    """
    console = new_console()
    with one_line(ValueError, OSError):
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
