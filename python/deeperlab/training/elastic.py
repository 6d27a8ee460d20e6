# SPDX-License-Identifier: Apache-2.0
"""U-Net's elastic deformation: a coarse grid of random displacements, and smooth ones between (section 3.1 there)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NODES = 3
"""Of the grid, along each side of the sample: on its corners, the middles of its sides, and its center."""
DRAWS = 2 * NODES * NODES
"""Random numbers that a deformation takes."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Where each pixel of a sample comes from, in a sample that is larger by a margin at all sides.

    Attributes:
        rows, columns: float32 [H, W], px of the larger sample.
        margin: px, wide enough that nothing comes from outside.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    margin: int

    @classmethod
    def of(cls, size: tuple[int, int], sigma: float, draws: Sequence[float]) -> Warp:
        """Displace the nodes by normal deviates, and the pixels by what bicubic interpolation makes of these.

        Args:
            size: H, W of the sample.
            sigma: px, the standard deviation along each axis.
            draws: `DRAWS` numbers in [0, 1).
        """
        import torch
        from torch.nn.functional import interpolate

        pairs = zip(draws[0::2], draws[1::2], strict=True)
        polar = [(sigma * math.sqrt(-2 * math.log(1 - u)), 2 * math.pi * v) for u, v in pairs]  # Box and Muller's
        nodes = torch.tensor([[r * math.sin(a) for r, a in polar], [r * math.cos(a) for r, a in polar]])
        field = interpolate(nodes.view(1, 2, NODES, NODES), size, mode="bicubic", align_corners=True)[0].numpy()
        margin = math.ceil(np.abs(field).max()) + 1
        height, width = size
        rows = field[0] + np.arange(margin, margin + height, dtype=np.float32)[:, None]
        columns = field[1] + np.arange(margin, margin + width, dtype=np.float32)
        return cls(rows, columns, margin)

    def photograph(self, larger: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Interpolate colors [H + 2 margin, W + 2 margin, 3] bilinearly: [H, W, 3]."""
        top, left = np.floor(self.rows), np.floor(self.columns)
        down, right = (self.rows - top)[..., None], (self.columns - left)[..., None]
        flat, width = larger.reshape(-1, 3), larger.shape[1]
        first = top.astype(np.intp) * width + left.astype(np.intp)
        above, below = (
            flat.take(index, 0) * (1 - right) + flat.take(index + 1, 0) * right for index in (first, first + width)
        )
        made: NDArray[np.uint8] = np.rint(above * (1 - down) + below * down).astype(np.uint8)
        return made

    def labels(self, larger: NDArray[Any]) -> NDArray[Any]:
        """Take the value of the nearest pixel of a map [H + 2 margin, W + 2 margin]: [H, W]."""
        return larger[np.rint(self.rows).astype(np.intp), np.rint(self.columns).astype(np.intp)]
