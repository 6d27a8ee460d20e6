# SPDX-License-Identifier: Apache-2.0
"""`deeperlab eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .._threads import thread_count
from .confusion import check_suffix, print_confusion, write_confusion
from .console import ROWS, counted, new_console, new_table, one_line, percent, progress_bar
from .files import FollowLinks, MaxPixels, pixel_limit
from .streams import complain, plain

if TYPE_CHECKING:
    from ..metrics import FolderEvaluation


def eval(
    annotations: Annotated[Path, typer.Argument(metavar="GT.json", help="Annotations in COCO's panoptic format.")],
    predictions: Annotated[Path, typer.Argument(metavar="PRED.json", help="Predictions in the same format.")],
    gt_dir: Annotated[Path, typer.Option(help="The folder of the PNGs of the annotations.")],
    pred_dir: Annotated[Path, typer.Option(help="The folder of the PNGs of the predictions.")],
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write all figures to a file.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads; by default as many as there are processors.")
    ] = None,
    categories: Annotated[
        Path | None,
        typer.Option(help="A JSON list of categories, for annotations that have none; 'images' may then lack too."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CLASS", help="A metric of your own beside these, see docs/metrics.md; may be repeated."
        ),
    ] = None,
    confusion: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="OUT",
            callback=check_suffix,
            help="Write which class's pixels were taken for which: OUT.csv, .json or .png, may be repeated; and print "
            "the largest confusions.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Draw ground truth, prediction and errors of every image into this folder; pictures.json lists the "
            "worst first.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The photographs, for --pictures; without, the maps are drawn.")
    ] = None,
    follow_links: FollowLinks = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Measure how good predictions are: panoptic quality (PQ), parsing covering (PC) and mean IoU.

    PQ is counted as panopticapi counts it, PC as the paper's authors do: normalized by the size of each image, and
    by pixel. Every image of the annotations needs a prediction; categories are those of the annotations, and the
    predictions may lack 'categories' and 'images'. Areas are counted from the PNGs. --json also has the names of the
    classes, and of every image figures and the ids of segments that are missed, spurious or of wrong class.
    """
    with one_line(ValueError, TypeError, OSError, smaller="data set, or fewer --workers"), pixel_limit(max_pixels):
        from ..data import coco
        from ..data.files import replace, require_writable
        from ..data.formats.coco import to_json
        from ..metrics import METRICS, ConfusionMatrix, FolderEvaluation, import_metric
        from .pictures import Pictures

        for option, path in (("--json", json_out), *(("--confusion", path) for path in confusion or ())):
            if path is not None:
                require_writable(path, option, annotations, predictions, categories)
        if images is not None and pictures is None:
            raise ValueError("--images: expected --pictures OUT beside it")
        given = None if categories is None else coco.read_categories(categories)
        target = coco.read(annotations, gt_dir, categories=given, follow_links=follow_links)
        prediction = coco.read(predictions, pred_dir, categories=target.categories, follow_links=follow_links)
        threads = thread_count(workers)
        extra = [import_metric(name) for name in metric or ()]
        metrics = (*METRICS, *extra, *([ConfusionMatrix] if confusion else ()))
        drawn = None if pictures is None else Pictures(target, pictures, images)
        visit = None if drawn is None else drawn.draw
        evaluation = FolderEvaluation(target, prediction, workers=threads, metrics=metrics, visit=visit)
        with progress_bar() as progress:
            each = [image.to_dict() for image in progress.track(evaluation, total=len(evaluation))]
        result = evaluation.total.compute()
        report = result.to_dict()
    iou = result.iou.to_dict()
    try:
        with one_line(OSError):
            if json_out is not None:
                about: dict[str, Any] = {"annotations": str(annotations), "predictions": str(predictions)}
                about["categories"] = [to_json(category) for category in target.categories]
                text = json.dumps({**report, "iou": iou, **about, "images": each}, indent=1, allow_nan=False).encode()
                replace(json_out, lambda file: file.write(text))
            for path in confusion or ():
                write_confusion(path, result["confusion"], target.categories)
            if drawn is not None:
                drawn.finish(each)
    finally:  # a full disk does not take the figures along
        _print(evaluation, report, iou["per_class"], [kind.name for kind in extra])
        if confusion:
            names = {str(category.id): category.name for category in target.categories}
            print_confusion(new_console(), result["confusion"], names)
    if pictures is not None:
        drawn_of = counted(len(each), "picture")
        new_console().print(f"{drawn_of}, and pictures.json with the worst first, in {plain(pictures)}", soft_wrap=True)


def _print(
    evaluation: FolderEvaluation, report: dict[str, Any], iou: dict[str, float | None], extra: list[str]
) -> None:
    for line in evaluation.warnings[:ROWS]:
        complain(f"warning: {line}")
    if len(evaluation.warnings) > ROWS:
        complain(f"warning: {len(evaluation.warnings)} warnings in all")
    console = new_console()
    for role, data in (("annotations", evaluation.target), ("predictions", evaluation.prediction)):
        console.print(f"{role}: {plain(data.path)}", soft_wrap=True)
    others = counted(evaluation.left_out, "prediction for another image", "predictions for other images")
    console.print(counted(len(evaluation), "image") + (f"; {others} left out" if evaluation.left_out else ""))
    _print_report(console, report, iou, {str(c.id): c.name for c in evaluation.target.categories}, extra)


def _print_report(
    console: Console, report: dict[str, Any], iou: dict[str, float | None], names: dict[str, str], extra: list[str]
) -> None:
    pq, normalized, pixel = report["pq"], report["pc"]["normalized"], report["pc"]["pixel"]
    table = new_table("%", "*PQ", "*SQ", "*RQ", "*classes", "*PC", "*PC px", "*classes", "*mIoU")
    for group in ("All", "Things", "Stuff"):
        q, c = pq[group], normalized[group]
        miou = percent(report["miou"]) if group == "All" else ""
        pcs = percent(c["pc"]), percent(pixel[group]["pc"]), str(c["n"])
        table.add_row(group, *map(percent, (q["pq"], q["sq"], q["rq"])), str(q["n"]), *pcs, miou)
    console.print(table)

    figures = [(f"{name} {key}", value) for name in extra for key, value in report[name].items()]
    if numbers := [(name, value) for name, value in figures if value is None or isinstance(value, (int, float))]:
        table = new_table("metric", "*value")
        for name, value in numbers:
            table.add_row(plain(name), _number(value))
        console.print(table)

    by_class = {name: report[name]["per_class"] for name in extra if isinstance(report[name].get("per_class"), dict)}
    table = new_table("class", "*PQ %", "*SQ", "*RQ", "*TP", "*FP", "*FN", "*PC", "*IoU", *(f"*{n}" for n in by_class))
    present = [c for c in names if pq["per_class"][c]["pq"] is not None or iou[c] is not None]
    for c in present:
        q = pq["per_class"][c]
        counts = (str(q["tp"]), str(q["fp"]), str(q["fn"]))
        values = (normalized["per_class"][c], iou[c])
        more = [_number(values_of.get(c)) for values_of in by_class.values()]
        row = (*map(percent, (q["pq"], q["sq"], q["rq"])), *counts, *map(percent, values), *more)
        table.add_row(plain(names[c]), *row)
    console.print(table)
    absent = len(names) - len(present)
    if absent:
        console.print(f"{counted(absent, 'class is', 'classes are')} neither annotated nor predicted; – is undefined")


def _number(value: object) -> str:
    """A figure of a user's metric as it is, undefined as a dash; what is no number stays in the JSON."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"
