# SPDX-License-Identifier: Apache-2.0
"""`deeperlab demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import new_console, new_table, one_line, percent, size_of
from .streams import plain


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures and the JSON; made if absent, nothing foreign is overwritten.")
    ] = Path("deeperlab-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which scene and which noise; a seed gives the same bits.")] = 0,
    size: Annotated[
        str, typer.Option(help="Of the scene in pixels: a side, or HEIGHTxWIDTH. The paper's are 721 and 1441.")
    ] = "721",
    things: Annotated[int, typer.Option(min=0, max=1000, help="Things to draw, besides the stuff.")] = 20,
    stride: Annotated[
        int, typer.Option(min=1, max=64, help="Pixels between the nodes of the heads; the paper's network emits 4.")
    ] = 4,
    noise: Annotated[
        int,
        typer.Option(min=0, max=3, help="How wrong the heads are: 0 perfect, 1 as of a good network, 2 fair, 3 bad."),
    ] = 2,
) -> None:
    """Draw a scene, make noisy heads of it as a network would emit, fuse them, and show what came out.

    Nothing is downloaded. The folder then holds image.png, overlay.png (the result over the image), instances.png (its
    keypoints and boxes), and panoptic.png with panoptic.json (the result in COCO's panoptic format, which `deeperlab
    oracle` reads).
    """
    console = new_console()
    with one_line(ValueError, OSError, smaller="--size"):
        from ..scenes.demo import run

        result = run(out, seed=seed, size=size_of(size), things=things, stride=stride, noise=noise)
    table = new_table("segment", "class", "*score", "*px", "*x", "*y", "*width", "*height")
    for row in result.segments:
        score = "" if row.score is None else f"{row.score:.3f}"
        x0, y0, x1, y1 = row.box
        table.add_row(str(row.id), row.name, score, f"{row.area:,}", *map(str, (x0, y0, x1 - x0, y1 - y0)))
    console.print(table)
    console.print(
        f"{result.found} instances found of {result.drawn} drawn; {percent(result.pixel_accuracy)} % of the pixels "
        f"right (class, and instance on things); PQ {percent(result.pq)} %"
    )
    height, width = result.size
    console.print(f"fuse: {result.milliseconds:.2f} ms for {height} x {width} px, median of {result.calls} calls")
    console.print(f"wrote {', '.join(result.files)} in {plain(out)}", soft_wrap=True)
