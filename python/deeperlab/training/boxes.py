# SPDX-License-Identifier: Apache-2.0
"""Windows around one object, on which DeconvNet is trained (Noh et al. 2015, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models import ENLARGED

LEAST_IOU = 0.5
"""Of a proposal and the box of its object."""
DRAWS = 5
"""Random numbers that a window takes: which object, and where the sides of its proposal are."""

Box = tuple[float, float, float, float]
"""top, left, bottom, right; px, whose corners integers are."""


@dataclass(frozen=True)
class Window:
    """A square of an image.

    Attributes:
        instance: The object that it is of.
        y, x: Its center, px, of whose corners integers are.
        side: px.
    """

    instance: int
    y: float
    x: float
    side: float


def window_of(instance: NDArray[np.int32], draws: Sequence[float], *, proposed: bool) -> Window | None:
    """Choose an instance, each alike, and return the square around its box, or around a proposal of it.

    Args:
        instance: [H, W], 0 = none.
        draws: `DRAWS` numbers in [0, 1).
        proposed: whether the box is one that a detector might have proposed: `proposal`.

    Returns:
        None: there is no instance.
    """
    ids = np.unique(instance)
    ids = ids[ids > 0]
    if not len(ids):
        return None
    chosen = int(ids[int(draws[0] * len(ids))])
    rows, columns = ((instance == chosen).any(axis).nonzero()[0] for axis in (1, 0))
    box: Box = (float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))
    top, left, bottom, right = proposal(box, draws[1:]) if proposed else box
    return Window(chosen, (top + bottom) / 2, (left + right) / 2, ENLARGED * max(bottom - top, right - left))


def proposal(box: Box, draws: Sequence[float]) -> Box:
    """Move the sides of a box by up to half its height or width, and halve that until the IoU is `LEAST_IOU`."""
    height, width = box[2] - box[0], box[3] - box[1]
    shifts = [(u - 0.5) * side for u, side in zip(draws, (height, width) * 2, strict=True)]
    while True:
        top, left, bottom, right = (side + shift for side, shift in zip(box, shifts, strict=True))
        if iou(box, (top, left, bottom, right)) >= LEAST_IOU:
            return top, left, bottom, right
        shifts = [shift / 2 for shift in shifts]


def iou(one: Box, other: Box) -> float:
    """Compute the intersection of two boxes over their union; 0 for a box whose sides are the wrong way round."""
    height, width = (min(one[2 + i], other[2 + i]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(0.0, height) * max(0.0, width)
    return shared / (sum((b - t) * (r - left) for t, left, b, r in (one, other)) - shared)
