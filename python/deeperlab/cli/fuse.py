# SPDX-License-Identifier: Apache-2.0
"""`deeperlab fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import new_console, new_table, one_line, size_of, warnings_in_lines
from .files import MaxPixels, pixel_limit
from .fusion import MaxCandidates, MaxInstances, Paper, fusion
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
    layout,
)
from .streams import plain

EPILOG = """Examples:

deeperlab fuse heads.npz --things 0-36 --out results

deeperlab fuse heads.npz --labels cityscapes --image street.jpg --grid half_pixel --components yx --out results"""


def class_ids(text: str) -> list[int]:
    """Parse ids and ranges, both ends included: "0-36,40"."""
    ids: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        try:
            first, last = int(low), int(high) if dash else int(low)
        except ValueError:
            raise typer.BadParameter(f"expected class ids and ranges as in 0-36,40, got {text!r}") from None
        if not 0 <= first <= last < 2**15:
            raise typer.BadParameter(f"expected ranges within 0 to {2**15 - 1}, got {part!r}")
        ids.extend(range(first, last + 1))
    return ids


def fuse(
    heads: Annotated[Path, typer.Argument(metavar="HEADS.npz", help="Raw heads; the keys are the fields of Heads.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; made if absent.")],
    things: Annotated[
        str | None, typer.Option(help="The classes that have instances: ids and ranges, as in 0-36,40.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Names, category ids and things: coco, cityscapes, vistas, voc, ade20k, or a file (docs/data.md)."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Of the image in px, HEIGHTxWIDTH; by default as the file says, else the PHOTO's, else where the last "
            "nodes lie."
        ),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PHOTO", help="Of the one image: draw the map over it, overlay.png.")
    ] = None,
    components: ComponentsOption = Components.xy,
    units: UnitsOption = Units.px,
    grid: GridOption = Grid.aligned,
    heatmaps: HeatmapsOption = Heatmaps.logits,
    keypoints: KeypointsOption = None,
    edges: EdgesOption = None,
    max_pixels: MaxPixels = None,
    max_candidates: MaxCandidates = None,
    max_instances: MaxInstances = None,
    paper: Paper = False,
) -> None:
    """Turn raw heads, saved by any framework with numpy.savez, into panoptic maps.

    HEADS.npz holds semantic [N, C, h, w], heatmap, short_range, middle_range and long_range (float32 or float16; N is
    optional), or semantic alone for maps without instances. It may hold stride (4), num_classes (for integer labels),
    keypoints and edges, size and original (height and width for the fusion and of the maps), image_ids [N], by which
    `deeperlab eval` finds the images, and, as `deeperlab predict --heads` writes them, params and stuff_area of the
    fusion. The folder then holds N PNGs with panoptic.json, in COCO's panoptic format (without --labels: category id =
    class + 1), and panoptic.npz: semantic, instance, keypoints, score, category, area, class_area, count and truncated.
    """
    console = new_console()
    with one_line(ValueError, TypeError, OSError, ImportError, smaller="batch in HEADS.npz, or --size"):
        from ..data import archive
        from ..data.labels import find
        from ..predictor.heads_file import fuse_file

        with warnings_in_lines(heads), pixel_limit(max_pixels):
            images = fuse_file(
                heads,
                None if things is None else class_ids(things),
                out,
                size=None if size is None else size_of(size),
                params=fusion(max_candidates, max_instances, paper, archive.fusion(heads)[0]),
                labels=None if labels is None else find(labels),
                layout=layout(components, units, grid, heatmaps, keypoints, edges),
                photo=image,
            )
    table = new_table("image", "*instances", "*classes", "*ms", "")
    for result in images:
        note = "truncated: raise --max-candidates or --max-instances" if result.truncated else ""
        instances = "–" if result.instances is None else str(result.instances)
        counts = instances, str(result.classes), f"{result.milliseconds:.1f}"
        table.add_row(plain(result.name), *counts, note)
    console.print(table)
    if images and all(result.instances == 0 for result in images):
        console.print(f"no instances: deeperlab check {plain(heads)} tells how the heads were made", soft_wrap=True)
    files = "1 PNG" if len(images) == 1 else f"{len(images)} PNGs"
    drawn = ", overlay.png" if image is not None else ""
    console.print(f"wrote {files}{drawn}, panoptic.json and panoptic.npz in {plain(out)}", soft_wrap=True)
