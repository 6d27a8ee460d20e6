# SPDX-License-Identifier: Apache-2.0
"""`deeperlab oracle`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .console import ROWS, counted, new_console, new_table, one_line, percent, print_rest, progress_bar
from .files import FollowLinks, MaxPixels, pixel_limit
from .streams import plain


def oracle(
    annotations: Annotated[Path, typer.Argument(metavar="GT.json", help="Annotations in COCO's panoptic format.")],
    gt_dir: Annotated[Path, typer.Option(help="The folder of their PNGs.")],
    stride: Annotated[int, typer.Option(min=1, max=64, help="Pixels between the nodes of the heads.")] = 4,
    radius: Annotated[float, typer.Option(min=1, max=4096, help="Of the keypoint disks, in pixels.")] = 25.0,
    categories: Annotated[
        Path | None,
        typer.Option(help="A JSON list of categories, for annotations that have none; 'images' may then lack too."),
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write all figures to a file.")] = None,
    follow_links: FollowLinks = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Measure how good DeeperLab could be on your data: the ceiling that its representation sets, and what is lost.

    Encodes the ground truth as the heads of a perfect network, fuses them, and measures the panoptic quality (PQ).
    Beside it stands the ceiling of the representation alone, where the true keypoints are given instead of found.
    Every thing that is lost is named with the stage that lost it. Crowd and void pixels are left out.
    """
    with one_line(ValueError, OSError, smaller="data set"), pixel_limit(max_pixels):
        from ..data import coco
        from ..data.files import replace, require_writable
        from ..oracle import Oracle

        if json_out is not None:
            require_writable(json_out, "--json", annotations, categories)
        given = None if categories is None else coco.read_categories(categories)
        data = coco.read(annotations, gt_dir, categories=given, follow_links=follow_links)
        judge = Oracle(data, stride=stride, radius=radius)
        with progress_bar() as progress:
            images = [report.to_dict() for report in progress.track(judge, total=len(judge.data.annotations))]
        report = judge.summary(images)
    try:
        if json_out is not None:
            text = json.dumps(report, indent=1, allow_nan=False).encode()
            with one_line(OSError):
                replace(json_out, lambda file: file.write(text))
    finally:  # a full disk does not take the figures along
        _print_oracle(new_console(), report, {str(c.id): c.name for c in judge.data.categories})


def _print_oracle(console: Console, report: dict[str, Any], names: dict[str, str]) -> None:
    pq, ceiling = report["pq"], report["ceiling"]
    console.print(
        f"{counted(len(report['images']), 'image')}; heads of stride {report['stride']}, "
        f"disks of radius {report['radius']:g} px"
    )
    table = new_table("PQ %", "*perfect heads", "*true keypoints", "*SQ", "*RQ", "*classes")
    for group in ("All", "Things", "Stuff"):
        q = pq[group]
        values = (q["pq"], ceiling[group]["pq"], q["sq"], q["rq"])
        table.add_row(group, *map(percent, values), str(q["n"]))
    console.print(table)

    table = new_table("class", "*PQ %", "*ceiling", "*SQ", "*RQ", "*TP", "*FP", "*FN")
    for c, q in pq["per_class"].items():
        if q["pq"] is not None:
            values = (q["pq"], ceiling["per_class"][c]["pq"], q["sq"], q["rq"])
            table.add_row(plain(names[c]), *map(percent, values), str(q["tp"]), str(q["fp"]), str(q["fn"]))
    console.print(table)

    table = new_table("image", "*PQ %", "*ceiling", "*things", "*stuff", "*left out px", "*lost")
    worst = sorted(report["images"], key=lambda image: 2.0 if image["pq"] is None else image["pq"])
    for image in worst[:ROWS]:
        values = (image["pq"], image["ceiling"], image["pq_things"], image["pq_stuff"])
        count = f"{len(image['lost'])}{' (truncated)' if image['truncated'] else ''}"
        table.add_row(plain(image["image_id"]), *map(percent, values), f"{image['left_out_px']:,}", count)
    console.print(table)
    print_rest(console, len(worst), "images, the worst are shown")

    lost = [(image["image_id"], item) for image in report["images"] for item in image["lost"]]
    if lost:
        table = new_table("lost in", "segment", "class", "*px", "stage", "reason")
        for image_id, item in sorted(lost, key=lambda pair: -pair[1]["area"])[:ROWS]:
            row = (image_id, item["segment_id"], item["category"], f"{item['area']:,}", item["stage"], item["reason"])
            table.add_row(*map(plain, row))
        console.print(table)
        print_rest(console, len(lost), "lost, the largest are shown")
    console.print(f"{counted(len(lost), 'thing')} lost. {report['note']}")
    console.print(
        "The ceiling assigns the same heads to the true keypoints, without voting; found keypoints may by chance fit a "
        "border better."
    )
