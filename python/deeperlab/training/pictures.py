# SPDX-License-Identifier: Apache-2.0
"""What a validation or a sample looks like: the input and the heads, below truth, fused map and errors if any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..heads import Heads
from ..metrics import EvaluationResult
from ..predictor import Parsed
from ..visualize import comparison
from .head_views import views, wheel
from .tally import Maps, sides

Picture = NDArray[np.uint8]
LEAST_WIDTH, WIDTH = 300, 600
"""Of a panel, px."""
GAP = 8
"""Between panels, px."""
LETTERS = 17
"""Height of a line of text, px."""
GROUND, INK, PALE = (24, 26, 32), (242, 242, 244), (170, 174, 184)


def draw(
    image: Picture, sample: Sample, parsed: Parsed, maps: Maps, result: EvaluationResult, labels: LabelSet
) -> Picture:
    """Draw rows of three panels below a line with the image's PQ and mIoU. Needs Pillow.

    Truth, fused map and errors are those of `deeperlab.visualize.comparison`; the rest is the input and `views`.

    Args:
        image: RGB [H, W, 3].
        sample: its annotation.
        parsed: what the network and the fusion made of it.
        maps: class and instance of the fused map [H, W].
        result: of this image alone.
        labels: of the classes.

    Returns:
        RGB.
    """
    from PIL import Image

    names = dict(zip(labels.ids, labels.names, strict=True))
    isthing = {category.id: category.isthing for category in labels.categories}
    compared = Image.fromarray(comparison(image, *sides(maps, sample, labels), isthing, names))
    width = min(WIDTH, (compared.width - 2 * GAP) // 3)
    heads = draw_heads(image, parsed.heads, parsed.size, labels, width)
    total, line = heads.shape[1], 2 * LETTERS
    compared = compared.resize((total, round(compared.height * total / compared.width)), Image.Resampling.LANCZOS)
    sheet: Any = Image.new("RGB", (total, line + compared.height + len(heads)), GROUND)
    sheet.paste(compared, (0, line))
    sheet.paste(Image.fromarray(heads), (0, line + compared.height))
    _write(sheet, (GAP, LETTERS // 2), f"image {sample.image_id}", caption(result))
    return np.asarray(sheet)


def draw_heads(
    image: Picture,
    heads: Heads,
    size: tuple[int, int],
    labels: LabelSet,
    width: int | None = None,
    wanted: NDArray[np.int32] | None = None,
) -> Picture:
    """Draw the input and `views` of its heads: rows of three panels, each below its title. Needs Pillow.

    Args:
        image: RGB [H, W, 3].
        heads: of it.
        size: (H, W) px at which the network sees it.
        labels: of the classes.
        width: of a panel, px; None: that of the image, from `LEAST_WIDTH` to `WIDTH`.
        wanted: as of `views`.

    Returns:
        RGB.
    """
    from PIL import Image

    width = width or min(WIDTH, max(LEAST_WIDTH, image.shape[1]))
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    scaled = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    panels: Mapping[str, Picture] = {"input": scaled, **views(scaled, heads, size, labels, wanted)}
    line = 2 * LETTERS
    rows = -(-len(panels) // 3)
    sheet: Any = Image.new("RGB", (3 * width + 2 * GAP, rows * (line + height)), GROUND)
    for i, (title, panel) in enumerate(panels.items()):
        x, y = i % 3 * (width + GAP), i // 3 * (line + height)
        sheet.paste(Image.fromarray(panel), (x, y + line))
        _write(sheet, (x + GAP, y + LETTERS // 2), title)
        if title.startswith("long-range"):
            colors, disk = wheel(3 * LETTERS)
            place = x + width - 3 * LETTERS - GAP, y + line + height - 3 * LETTERS - GAP
            sheet.paste(Image.fromarray(colors), place, Image.fromarray(disk))
    return np.asarray(sheet)


def caption(result: EvaluationResult) -> str:
    """Say how good one image is: `PQ 61.2 (things 58.0, stuff 64.4), mIoU 70.1`, but for what has nothing to count."""
    pq = result.pq
    groups = (("things", pq.things.pq), ("stuff", pq.stuff.pq))
    parts = ", ".join(f"{name} {100 * value:.1f}" for name, value in groups if value == value)
    return f"PQ {100 * pq.all.pq:.1f} ({parts}), mIoU {100 * result.iou.miou:.1f}" if parts else "nothing that counts"


def _write(sheet: Any, at: tuple[int, int], text: str, more: str = "") -> None:
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    pen.text(at, text, PALE if more else INK, font)
    if more:
        pen.text((at[0] + pen.textlength(text + "   ", font), at[1]), more, INK, font)
