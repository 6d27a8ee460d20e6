# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import shipped
from ..crf import PRESETS
from .console import ROWS, counted, new_console, one_line, progress_bar, warnings_in_lines
from .detector import Detector, DetectorClasses, add_detector, check_detector
from .files import MaxPixels, pixel_limit
from .fusion import MaxCandidates, MaxInstances, Paper, fusion
from .interruption import at_once, terminable
from .network import Runtime, check_onnx, labels_of, load_network, load_onnx_network, network_files
from .streams import complain, plain

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..predictor import BaseParser, BatchJob

EPILOG = """Examples:

deeperlab predict street.jpg

deeperlab predict street.jpg --model runs/mine/best --out results

deeperlab predict leftImg8bit/val --model xception71 --weights best.safetensors --labels cityscapes --out results \
--size 2049 --device cuda --half --batch 4

deeperlab predict photos --model runs/mine/best --runtime onnx --out results

deeperlab predict survey.tif --model runs/mine/best --tile 2049 --max-pixels 250000000

deeperlab predict photos --model runs/mine/best --detector maskrcnn.pth --detector-classes names.txt --out results

deeperlab predict drive.mp4 'more/*.png' --model OWNER/NAME --labels my-labels.json --out results

Afterwards: deeperlab eval GT.json results/panoptic.json --gt-dir GT --pred-dir results/panoptic"""


class Overlay(str, Enum):
    """How pictures are written."""

    jpeg = "jpeg"
    png = "png"
    none = "none"


CRF = Enum("CRF", {name: name for name in PRESETS}, type=str)  # type: ignore[misc]


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Photographs (PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF) or videos; folders; quoted patterns; .txt lists "
            "with a file or folder a line.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="DIR|NAME",
            help="photo16, which comes with the package; a folder of save_pretrained; OWNER/NAME on the Hugging Face "
            "hub; or a network's name with --weights.",
        ),
    ] = shipped.DEFAULT,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if absent.")] = Path("deeperlab-results"),
    labels: Annotated[
        str | None,
        typer.Option(
            help="Names, ids and things: coco, cityscapes, vistas, voc, ade20k, or a file (docs/data.md); by default "
            "labels.json in the folder of the model."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of the whole network: .safetensors, .pth, .pt or .ckpt.")
    ] = None,
    detector: Detector = None,
    detector_classes: DetectorClasses = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=32768,
            help="Resize to this longer side in px first; by default the model's own (image_size), 0: the image's. "
            "Results keep the image's size.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=65,
            max=32769,
            metavar="PX",
            help="For photographs of many megapixels: the network sees images that are larger than this in tiles of "
            "PX × PX (16 m + 1, as 1025 or 2049), and one fusion all of them, so that no object is cut. Images keep "
            "their size unless --size is given; --batch counts tiles. Smaller tiles take less memory, larger ones less "
            "time. See also --max-pixels.",
        ),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="With --tile: what a tile also sees on every side of what is kept of it. By default what the network "
            "looks around a pixel, at most an eighth of the tile. More lets fewer borders of tiles be seen, and takes "
            "more time.",
        ),
    ] = None,
    runtime: Annotated[
        Runtime,
        typer.Option(
            help="torch; or onnx: ONNX Runtime on the CPU, which needs no torch but model.onnx in the folder of the "
            "model. Where torch and onnxscript are, the first use makes that file."
        ),
    ] = Runtime.torch,
    device: Annotated[
        str,
        typer.Option(help="cpu, cuda, cuda:1, mps, xpu, or another of torch's; auto: a GPU of CUDA if there is one."),
    ] = "auto",
    half: Annotated[bool, typer.Option("--half", help="float16 on a GPU, bfloat16 on a CPU.")] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Through torch.compile: worth its minute for a video, or images of one size."),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images at once, of those that have one size.")] = 1,
    heads: Annotated[
        bool, typer.Option("--heads", help="Also write the raw heads, which `deeperlab fuse` takes.")
    ] = False,
    overlay: Annotated[
        Overlay,
        typer.Option(
            help="Pictures to look at: JPEG; PNG, which loses nothing and takes 15 × as long to write; or none."
        ),
    ] = Overlay.jpeg,
    crf: Annotated[
        CRF | None,
        typer.Option(
            help="Settings of a fully connected CRF that makes classes follow the image's edges; default: none."
        ),
    ] = None,
    max_candidates: MaxCandidates = None,
    max_instances: MaxInstances = None,
    paper: Paper = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Do the sources again. Results of another model or other settings are removed first, all of them.",
        ),
    ] = False,
    max_pixels: MaxPixels = None,
    exif: Annotated[
        bool,
        typer.Option(
            "--exif/--no-exif", help="Turn photographs as EXIF says, or leave them as stored: some are labeled so."
        ),
    ] = True,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Try the machinery without training; the results mean nothing.")
    ] = False,
) -> None:
    """Parse images and videos with a network: pictures to look at, and COCO panoptic files to go on with.

    The folder then holds overlay/NAME.jpg (overlay/NAME.mp4 of a video), panoptic/NAME.png (panoptic/NAME/000000.png …
    of a video), with --heads heads/NAME.npz, and panoptic.json. Every file is whole or not there: run an interrupted
    command again and it goes on where it was. What cannot be read is named and skipped, and the exit code is 1.
    """
    console = new_console()
    if speaks := shipped.find(model):
        console.print(f"{speaks.describe()} --model takes another; deeperlab models lists them.", soft_wrap=True)
    start = time.perf_counter()
    job: BatchJob | None = None
    kinds = ValueError, TypeError, OSError, ImportError
    with (
        at_once(lambda: job is not None and job.is_busy),
        one_line(*kinds, smaller="--batch, --tile or --size"),
        warnings_in_lines(),
        pixel_limit(max_pixels),
    ):
        try:
            with terminable():
                from ..predictor import BatchJob, describe_request, find_sources, list_suffixes, recall_settings

                if runtime is Runtime.onnx:
                    check_onnx(device=device, half=half, compiled=compiled, weights=weights)
                check_detector(detector, detector_classes, runtime=runtime, heads=heads)
                label_set = labels_of(model, labels)
                found = find_sources(sources, out)
                faults = found.faults
                params = fusion(max_candidates, max_instances, paper)
                look: dict[str, Any] = {"exif": exif, "overlay": overlay.value}
                asked = {"model": model, "size": size, "labels": asdict(label_set), "fusion": asdict(params), **look}
                asked |= {"crf": crf.value} if crf else {}
                asked |= {
                    "tile": tile,
                    "halo": halo,
                    "half": half and device,
                    "random_weights": random_weights,
                    "runtime": runtime.value,
                }
                files = None if half and device == "auto" else network_files(model, weights, random_weights)
                files = files and [*files, *(file for file in (detector, detector_classes) if file)]
                request = describe_request(files, asked, runtime=runtime.package)
                options: dict[str, Any] = {"labels": label_set, "request": request, "heads": heads}
                options["overwrite"] = overwrite
                where = device
                if settings := recall_settings(out, request):
                    job = BatchJob(None, found.sources, out, settings, **options)
                begin = time.perf_counter()
                if not (settings and job and job.is_finished()):
                    from ..predictor import OnnxParser, Parser, describe_settings, params_of

                    if runtime is Runtime.onnx:
                        network, trained = load_onnx_network(model, random_weights)
                        where = "the CPU by ONNX Runtime"
                    else:
                        network, trained = load_network(model, weights, len(label_set), random_weights)
                        where = _device(device)
                    params = fusion(max_candidates, max_instances, paper, params_of(network))
                    how: dict[str, Any] = {"size": size, "params": params, "batch": batch, "tile": tile, "halo": halo}
                    how["crf"] = crf.value if crf else None
                    parser: BaseParser
                    if runtime is Runtime.onnx:
                        parser = OnnxParser(network, label_set, **how)
                    else:
                        how |= {"device": where, "half": half, "compile": compiled}
                        parser = Parser(network.fold_batch_norm(), label_set, **how)
                    if detector is not None:
                        parser, told = add_detector(parser, detector, detector_classes, where, max_instances)
                        console.print(told, soft_wrap=True)
                    settings = describe_settings(network, parser, trained=trained, **look)
                    job = BatchJob(parser, found.sources, out, settings, **options)
                    begin = time.perf_counter()
                    with progress_bar() as progress:
                        task = progress.add_task("")
                        job.run(*_steps(progress, task, job))
        except KeyboardInterrupt as stop:
            again = "without --overwrite " if overwrite and job is not None else ""
            done = "before the first image" if job is None else f"after {_done(job)}"
            complain(f"stopped {done}; the same command {again}goes on")
            code = stop.args[0] if stop.args else 130
            raise typer.Exit(code) from None
    seconds = time.perf_counter() - begin
    if "warning" in settings:
        complain(f"warning: {settings['warning']}")
    faults += job.faults
    for path, text in faults[:ROWS]:
        complain(f"{path}: {text}")
    if len(faults) > ROWS:
        complain(f"{len(faults)} sources were skipped in all")
    if job.removed:
        console.print(f"removed {counted(job.removed, 'result')} of another model or other settings")
    parts = [f"{_done(job)} written"]
    if number := job.images + job.frames:
        parts[0] += f", {number / seconds:.1f} a second on {where}"
    if job.kept:
        parts.append(f"{job.kept} finished already")
    if faults:
        parts.append(f"{len(faults)} skipped")
    if not found.left_out and not all(Path(source).is_file() for source in sources):
        parts.append("no file left out")
    if "tile" in settings:
        parts.append("tiles of {tile} px with a halo of {halo} px".format_map(settings))
    console.print("; ".join(parts) + f"; {begin - start:.1f} s to set up")
    if found.left_out:
        number = sum(found.left_out.values())
        console.print(
            plain(f"left out {counted(number, 'file')} of other types: {list_suffixes(found.left_out)}"), soft_wrap=True
        )
    console.print(f"results, and panoptic.json of all, in {plain(out)}", soft_wrap=True)
    if faults:
        raise typer.Exit(1)


def _done(job: BatchJob) -> str:
    """12 images, 86 frames of 2 videos."""
    images, frames, videos = counted(job.images, "image"), counted(job.frames, "frame"), counted(job.videos, "video")
    film = f"{frames} of {videos}"
    return f"{images}, {film}" if job.images and job.videos else film if job.videos else images


def _steps(progress: Progress, task: TaskID, job: BatchJob) -> tuple[Callable[[], None], Callable[[int, int], None]]:
    """What the bar does after an image, and after a tile of one, which is a part of a step."""
    done = 0

    def image() -> None:
        nonlocal done
        done += 1
        progress.update(task, completed=done, total=job.total)

    def tile(tiles: int, of: int) -> None:
        if job.total:
            progress.update(task, completed=min(job.total, done + tiles / of), total=job.total)

    return image, tile


def _device(name: str) -> str:
    """Where the network runs."""
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
