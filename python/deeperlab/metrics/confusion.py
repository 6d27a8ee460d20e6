# SPDX-License-Identifier: Apache-2.0
"""Which class's pixels are predicted as which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metric import Metric
from .pairs import Pairs, sum_rows


@dataclass(frozen=True, eq=False)
class ConfusionResult:
    """Pixels by annotated category (rows) and predicted category (columns, the last one void).

    Attributes:
        categories: the ids of rows and columns.
        pixels: int64 [C, C + 1].
    """

    categories: tuple[int, ...]
    pixels: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each row as shares of its sum; NaN where a category is not annotated."""
        total = self.pixels.sum(axis=1, keepdims=True)
        return np.asarray(self.pixels / np.where(total > 0, total, np.nan))

    def largest(self) -> list[tuple[int, int | None, int, float]]:
        """List (annotated, predicted or None for void, pixels, share of the annotated), wrong ones only, most first."""
        wrong, shares = self.pixels.copy(), self.shares
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        ids = (*self.categories, None)
        cells = zip(*(axis.tolist() for axis in np.unravel_index(order, wrong.shape)), strict=True)
        return [(self.categories[i], ids[j], int(wrong[i, j]), float(shares[i, j])) for i, j in cells]

    def to_dict(self) -> dict[str, Any]:
        """Return `{"unit", "rows", "columns", "pixels"}` for JSON; the last column is None, predicted void."""
        ids = list(self.categories)
        return {"unit": "pixels", "rows": ids, "columns": [*ids, None], "pixels": self.pixels.tolist()}


class ConfusionMatrix(Metric):
    """The confusion matrix of pixels over a stream of images: what mean IoU is computed from.

    As there, pixels whose ground truth is void or not listed are left out, and those of crowds stay.

    Args:
        categories: category id → is it a thing?
    """

    name = "confusion"

    def __init__(self, categories: Mapping[int, bool]) -> None:
        super().__init__(categories)
        self.sums = np.zeros((len(self.categories), len(self.categories) + 1))

    def add(self, pairs: Pairs) -> None:
        """Count one image, given what `intersect` returns."""
        self._check(pairs)
        labeled = pairs.target.category[pairs.target_row] >= 0
        g = pairs.target.category[pairs.target_row[labeled]]
        p = pairs.prediction.category[pairs.prediction_row[labeled]]  # -1, void, is the last column
        count, columns = self.sums.shape
        cells = sum_rows(g * columns + p % columns, pairs.overlap[labeled], count * columns)
        self.sums += cells.reshape(count, columns)

    def merge(self, other: Metric) -> None:
        """Add what another matrix counted; errors as of `Metric.merge`."""
        self._check_kind(other)
        place = {category: row for row, category in enumerate(other.categories)}
        rows = [place[category] for category in self.categories]
        self.sums += other.sums[np.ix_(rows, [*rows, len(rows)])]

    def compute(self) -> ConfusionResult:
        """Compute the result so far."""
        return ConfusionResult(tuple(self.categories), self.sums.astype(np.int64))
