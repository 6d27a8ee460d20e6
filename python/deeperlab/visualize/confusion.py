# SPDX-License-Identifier: Apache-2.0
"""The view of a confusion matrix: shares as colors, and as numbers where there is room."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import ConfusionResult
from . import inputs
from .colors import RGB, Picture
from .lettering import lay, text_line

RIGHT: RGB = (24, 96, 168)
WRONG: RGB = (196, 40, 32)
INK: RGB = (24, 26, 32)
PAPER: RGB = (255, 255, 255)
EMPTY: RGB = (238, 239, 242)
LEAST_SHARE = 0.005
"""The smallest share that is written as a number, in per cent."""


def confusion(result: ConfusionResult, labels: Any = None) -> Picture:
    """Draw a confusion matrix: a row for each annotated class, a column for each predicted one, the last one void.

    Cells hold the share of the row in per cent, blue where it is right and red where it is wrong; the stronger, the
    more, by its square root, so that small shares are seen. Classes without a pixel are left out. Needs Pillow.

    Args:
        result: what `deeperlab.metrics.ConfusionMatrix` computes.
        labels: names of categories as of `overlay`.

    Returns:
        RGB [h, w, 3].

    Raises:
        ImportError: without Pillow.
    """
    known = inputs.Labels(labels)
    kept = np.flatnonzero(result.pixels.sum(axis=1) + result.pixels[:, :-1].sum(axis=0))
    columns = np.append(kept, len(result.categories))
    shares = np.nan_to_num(result.shares[np.ix_(kept, columns)])
    annotated = result.pixels[kept].sum(axis=1) > 0
    names = [known.name(result.categories[row]) for row in kept]
    cell = 40 if len(kept) <= 24 else 26 if len(kept) <= 60 else 16
    size = max(10, min(14, cell - 6))
    rows = [text_line(name, size, 0, INK) for name in names]
    heads = [text_line(name, size, 0, INK) for name in (*names, "void")]
    caption = text_line("rows: annotated, columns: predicted, % of the annotated pixels", size, 0, INK)
    left = max((line[0].shape[1] for line in rows), default=0) + 16
    top = max(line[0].shape[1] for line in heads) + 16
    bottom, grid_w = caption[0].shape[0] + 16, cell * len(columns)
    width = max(left + grid_w + 12, caption[0].shape[1] + 16)
    sheet = np.full((top + cell * len(kept) + bottom, width, 3), PAPER, np.uint8)
    for i, line in enumerate(rows):
        height, wide = line[0].shape[:2]
        lay(sheet, left - 8 - wide, top + i * cell + (cell - height) // 2, line)
        for j in range(len(columns)):
            share, right = float(shares[i, j]), j == i
            box = sheet[top + i * cell : top + (i + 1) * cell - 1, left + j * cell : left + (j + 1) * cell - 1]
            color = np.array(RIGHT if right else WRONG)
            strength = share**0.5
            box[...] = np.rint(np.array(EMPTY) + strength * (color - EMPTY)) if annotated[i] else PAPER
            if share >= LEAST_SHARE and cell >= 26:
                number = f"{100 * share:.0f}"
                line = text_line(number, 10 if cell < 40 else 12, 0, PAPER if strength > 0.45 else INK)
                lay(box, (cell - line[0].shape[1]) // 2, (cell - line[0].shape[0]) // 2, line)
    for j, (color_of, clear) in enumerate(heads):
        turned = tuple(np.ascontiguousarray(np.rot90(part)) for part in (color_of, clear))
        height, wide = turned[0].shape[:2]
        lay(sheet, left + j * cell + (cell - wide) // 2, top - 8 - height, (turned[0], turned[1]))
    lay(sheet, 8, top + cell * len(kept) + 8, caption)
    return sheet
