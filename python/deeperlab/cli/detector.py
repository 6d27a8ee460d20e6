# SPDX-License-Identifier: Apache-2.0
"""The detector that `deeperlab predict` may put beside its network: torchvision's Mask R-CNN, and what it calls its
classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..data.files import FormatError
from ..data.labels import LabelSet
from ..data.text import read_text
from .network import Runtime

if TYPE_CHECKING:
    from ..predictor import BaseParser

BACKGROUND = "__background__"
"""What torchvision calls label 0, with which its lists of names begin."""
MAX_BYTES = 1 << 20

Detector = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Top-down: instances are those of torchvision's Mask R-CNN with these weights (.pth, .safetensors), and "
        "what is around them that of --model (docs/top_down.md). Needs deeperlab[maskrcnn].",
    ),
]
DetectorClasses = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --detector: the names of its classes 1, 2, …, one a line; those that are no things of the labels "
        "are left out. By default its numbers are ids of the labels, as COCO's weights have them.",
    ),
]


def check_detector(detector: Path | None, names: Path | None, *, runtime: Runtime, heads: bool) -> None:
    """Raise before the work what does not go with a detector, or not without one.

    Raises:
        ValueError: an option that does not fit.
    """
    if detector is None:
        if names is not None:
            raise ValueError(f"--detector-classes: expected none without --detector, got {names}")
        return
    if runtime is Runtime.onnx:
        raise ValueError("--detector: expected none with --runtime onnx, which runs what a folder holds")
    if heads:
        raise ValueError("--heads: expected none with --detector, whose instances come of no heads")


def add_detector(
    parser: BaseParser, file: Path, names: Path | None, device: str, max_instances: int | None
) -> tuple[BaseParser, str]:
    """Put a detector beside a parser, and say which of its classes count.

    Raises:
        ValueError: none of its classes is a thing of the labels.
        FormatError, OSError, ImportError: as `load_mask_rcnn`, or of the names.
    """
    from ..models import load_mask_rcnn
    from ..predictor import MaskRCNNParser

    model: Any = load_mask_rcnn(file)
    count = model.roi_heads.box_predictor.cls_score.out_features
    classes = _classes(parser.labels, names, count)
    options: Mapping[str, Any] = {} if max_instances is None else {"max_instances": max_instances}
    made = MaskRCNNParser(
        model.to(device), parser, parser.labels, classes=classes, batch=parser.batch, **options
    )  # fmt: skip
    things = len(set(classes.values()))
    return made, f"detector of {count - 1} classes, {len(classes)} of which are {things} things of {parser.labels.name}"


def _classes(labels: LabelSet, names: Path | None, count: int) -> dict[int, int]:
    """Label of a detector → class."""
    if names is None:
        classes = {labels.ids[c]: c for c in labels.things if 0 < labels.ids[c] < count}
        if not classes:
            raise ValueError(
                f"--detector: expected ids of things of {labels.name} among its classes 1 to {count - 1}, got none; "
                "give --detector-classes"
            )
        return classes
    listed = _read(names)
    if len(listed) == count and listed[0] == BACKGROUND:
        del listed[0]
    if len(listed) != count - 1:
        raise FormatError(names, f"expected {count - 1} names, as the detector has classes, got {len(listed)}")
    things = {labels.names[c]: c for c in labels.things}
    classes = {label: things[name] for label, name in enumerate(listed, 1) if name in things}
    if not classes:
        raise FormatError(
            names, f"expected names of things of {labels.name}, such as {next(iter(things), '-')}, got none"
        )
    return classes


def _read(names: Path) -> list[str]:
    return [name for line in read_text(names, max_bytes=MAX_BYTES).splitlines() if (name := line.strip())]
