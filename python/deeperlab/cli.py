# SPDX-License-Identifier: Apache-2.0
"""The command line: `deeperlab demo` and `deeperlab oracle`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import PIL  # noqa: F401 - every command reads or writes pictures
    import rich.box
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as missing:
    name = (missing.name or "more").partition(".")[0]
    raise SystemExit(f"deeperlab: the command line needs {name}: pip install 'deeperlab[cli]'") from None

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="DeeperLab's fusion: five raw heads of a network in, a panoptic map out.",
)
ROWS = 40
"""Rows of a table that may be as long as the data set; --json has them all."""


def main() -> None:
    """The console script."""
    app(prog_name="deeperlab")


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(f"deeperlab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """The options of `deeperlab` itself."""


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise typer.BadParameter(f"expected a side in pixels or HEIGHTxWIDTH, got {text!r}") from None


@app.command(epilog="Example: deeperlab demo --size 1441 --things 50 --noise 3")
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

    Nothing is downloaded. The folder then holds image.png, overlay.png (the result over the image) and panoptic.png
    with panoptic.json (the result in COCO's panoptic format, which `deeperlab oracle` reads).
    """
    from .demo import run

    console = _console()
    with _one_line(ValueError, OSError):
        result = run(out, seed=seed, size=_size(size), things=things, stride=stride, noise=noise)
    table = _table("segment", "class", "*score", "*px", "*x", "*y", "*width", "*height")
    for row in result.segments:
        score = "" if row.score is None else f"{row.score:.3f}"
        table.add_row(str(row.id), row.name, score, f"{row.area:,}", *map(str, row.bbox))
    console.print(table)
    console.print(
        f"{result.found} instances found of {result.drawn} drawn; {100 * result.right:.2f} % of the pixels right "
        f"(class, and instance on things); PQ {_percent(result.pq)} %"
    )
    height, width = result.size
    console.print(f"fuse: {result.milliseconds:.2f} ms for {width} x {height} px, median of {result.calls} calls")
    console.print(f"wrote {', '.join(result.files)} in {out}", soft_wrap=True)


@app.command(epilog="Example: deeperlab oracle panoptic_val2017.json --gt-dir panoptic_val2017 --json ceiling.json")
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
) -> None:
    """How good could DeeperLab be on your data? The ceiling that its representation sets, and what is lost to it.

    Encodes the ground truth as the heads of a perfect network, fuses them, and measures the panoptic quality (PQ).
    Beside it stands the ceiling of the representation alone, where the true keypoints are given instead of found.
    Every thing that is lost is named with the stage that lost it. Crowd and void pixels are left out.
    """
    from .data import coco
    from .oracle import Oracle

    with _one_line(ValueError, OSError):
        if json_out is not None and not json_out.absolute().parent.is_dir():
            raise FileNotFoundError(2, "no such folder", str(json_out.parent))
        given = None if categories is None else coco.read_categories(categories)
        judge = Oracle(coco.read(annotations, gt_dir, categories=given), stride=stride, radius=radius)
        with _progress() as progress:
            images = [report.to_dict() for report in progress.track(judge, total=len(judge.data.annotations))]
        report = judge.summary(images)
        if json_out is not None:
            text = json.dumps(report, indent=1, allow_nan=False).encode()
            coco.replace(json_out, lambda file: file.write(text))
    _print_oracle(_console(), report, {str(c.id): c.name for c in judge.data.categories})


def _print_oracle(console: Console, report: dict[str, Any], names: dict[str, str]) -> None:
    pq, ceiling = report["pq"], report["ceiling"]
    console.print(
        f"{len(report['images'])} images; heads of stride {report['stride']}, disks of radius {report['radius']:g} px"
    )
    table = _table("PQ %", "*perfect heads", "*ceiling", "*SQ", "*RQ", "*classes")
    for group in ("All", "Things", "Stuff"):
        q = pq[group]
        values = (q["pq"], ceiling[group]["pq"], q["sq"], q["rq"])
        table.add_row(group, *map(_percent, values), str(q["n"]))
    console.print(table)

    table = _table("class", "*PQ %", "*ceiling", "*SQ", "*RQ", "*TP", "*FP", "*FN")
    for c, q in pq["per_class"].items():
        if q["pq"] is not None:
            values = (q["pq"], ceiling["per_class"][c]["pq"], q["sq"], q["rq"])
            table.add_row(_plain(names[c]), *map(_percent, values), str(q["tp"]), str(q["fp"]), str(q["fn"]))
    console.print(table)

    table = _table("image", "*PQ %", "*ceiling", "*things", "*stuff", "*left out px", "*lost")
    worst = sorted(report["images"], key=lambda image: 2.0 if image["pq"] is None else image["pq"])
    for image in worst[:ROWS]:
        values = (image["pq"], image["ceiling"], image["pq_things"], image["pq_stuff"])
        count = f"{len(image['lost'])}{' (truncated)' if image['truncated'] else ''}"
        table.add_row(_plain(image["image_id"]), *map(_percent, values), f"{image['left_out_px']:,}", count)
    console.print(table)
    _print_rest(console, len(worst), "images, the worst are shown")

    lost = [(image["image_id"], item) for image in report["images"] for item in image["lost"]]
    if lost:
        table = _table("lost in", "segment", "class", "*px", "stage", "reason")
        for image_id, item in sorted(lost, key=lambda pair: -pair[1]["area"])[:ROWS]:
            row = (image_id, item["segment_id"], item["category"], f"{item['area']:,}", item["stage"], item["reason"])
            table.add_row(*map(_plain, row))
        console.print(table)
        _print_rest(console, len(lost), "lost, the largest are shown")
    console.print(f"{len(lost)} things lost. {report['note']}")


def _print_rest(console: Console, count: int, what: str) -> None:
    if count > ROWS:
        console.print(f"{count} {what}; --json has them all")


def _console() -> Console:
    """Names from files are not read as markup."""
    return Console(markup=False, emoji=False, highlight=False)


def _table(*columns: str) -> Table:
    """Columns whose name begins with * hold numbers."""
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip("*"), justify="right" if column.startswith("*") else "left", overflow="fold")
    return table


def _progress() -> Progress:
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _plain(text: object) -> str:
    """What a file says, without the control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


@contextmanager
def _one_line(*kinds: type[Exception]) -> Iterator[None]:
    """Faults of the input end with code 2 and one line that names the file and the fault."""
    try:
        yield
    except kinds as fault:
        if isinstance(fault, OSError) and fault.filename is not None:
            message = f"{fault.filename}: {(fault.strerror or type(fault).__name__).lower()}"
        else:
            message = " ".join(str(fault).split())
        typer.echo(f"deeperlab: {_plain(message)}", err=True)
        raise typer.Exit(2) from None
