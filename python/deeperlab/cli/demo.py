# SPDX-License-Identifier: Apache-2.0
"""`deeperlab demo`."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .. import shipped
from .console import new_console, new_table, one_line, percent, size_of
from .streams import plain

PHOTOS = "photo.jpg", "photo-overlay.jpg"


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
    oracle` reads). Where torch or ONNX Runtime is, also a photograph, photo.jpg, and what the network of the package
    sees on it, photo-overlay.jpg.
    """
    console = new_console()
    with one_line(ValueError, OSError, ImportError, smaller="--size"):
        from ..scenes import demo as scenes

        scenes.check(out, PHOTOS)
        result = scenes.run(out, seed=seed, size=size_of(size), things=things, stride=stride, noise=noise)
        runtime = next((name for name in ("torch", "onnxruntime") if find_spec(name)), None)
        photo = _parse_photograph(out, runtime) if runtime else None
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
    if photo:
        console.print(photo, soft_wrap=True)
    else:
        console.print("with torch or onnxruntime installed, a photograph is parsed, too", soft_wrap=True)
    files = (*result.files, *(PHOTOS if photo else ()))
    console.print(f"wrote {', '.join(files)} in {plain(out)}", soft_wrap=True)


def _parse_photograph(out: Path, runtime: str) -> str:
    """Write the photograph of the package and what the network of the package sees on it; tell that in a line."""
    from ..data.formats.photo import read_image, write_jpeg
    from ..predictor import OnnxParser, Parser
    from ..visualize import overlay

    network = shipped.find(shipped.DEFAULT)
    assert network is not None, "the package is whole"
    parser, image = (Parser if runtime == "torch" else OnnxParser)(network.folder), read_image(network.example)
    parsed = parser(image)
    for name, picture in zip(PHOTOS, (image, overlay(image, parsed, parser.labels)), strict=True):
        write_jpeg(out / name, picture)
    found = Counter(parser.labels.names[segment.category] for segment in parsed.segments)
    return f"on the photograph {network.name} sees {', '.join(f'{n} {name}' for name, n in found.items())}"
