# SPDX-License-Identifier: Apache-2.0
"""What a validation looks like on one image: truth, fused map and errors, then the input and the five heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..metrics import EvaluationResult
from ..predictor import Parsed
from ..visualize import comparison
from .head_views import views, wheel
from .tally import Maps, sides

Picture = NDArray[np.uint8]
WIDTH = 600
"""Of a panel, px, at most."""
LETTERS = 17
"""Height of a line of text, px."""
GROUND, INK, PALE = (24, 26, 32), (242, 242, 244), (170, 174, 184)


def draw(
    image: Picture, sample: Sample, parsed: Parsed, maps: Maps, result: EvaluationResult, labels: LabelSet
) -> Picture:
    """Draw three rows of three panels below a line with the image's PQ. Needs Pillow.

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
    gap, line = LETTERS // 2, 2 * LETTERS
    width = min(WIDTH, (compared.width - 2 * gap) // 3)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    total = 3 * width + 2 * gap
    compared = compared.resize((total, round(compared.height * total / compared.width)), Image.Resampling.LANCZOS)
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    panels = {"input": small, **views(small, parsed.heads, parsed.size, labels)}

    top = line + compared.height
    sheet: Any = Image.new("RGB", (total, top + 2 * (line + height)), GROUND)
    sheet.paste(compared, (0, line))
    _write(sheet, (gap, LETTERS // 2), f"image {sample.image_id}", caption(result))
    for i, (title, panel) in enumerate(panels.items()):
        x, y = i % 3 * (width + gap), top + i // 3 * (line + height)
        sheet.paste(Image.fromarray(panel), (x, y + line))
        _write(sheet, (x + gap, y + LETTERS // 2), title)
        if title.startswith("long-range"):
            colors, disk = wheel(3 * LETTERS)
            place = x + width - 3 * LETTERS - gap, y + line + height - 3 * LETTERS - gap
            sheet.paste(Image.fromarray(colors), place, Image.fromarray(disk))
    return np.asarray(sheet)


def caption(result: EvaluationResult) -> str:
    """Say how good one image is: `PQ 61.2 (things 58.0, stuff 64.4)`; what has nothing to count is left out."""
    pq = result.pq
    groups = (("things", pq.things.pq), ("stuff", pq.stuff.pq))
    parts = ", ".join(f"{name} {100 * value:.1f}" for name, value in groups if value == value)
    return f"PQ {100 * pq.all.pq:.1f} ({parts})" if parts else "nothing that counts"


def _write(sheet: Any, at: tuple[int, int], text: str, more: str = "") -> None:
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    pen.text(at, text, PALE if more else INK, font)
    if more:
        pen.text((at[0] + pen.textlength(text + "   ", font), at[1]), more, INK, font)
