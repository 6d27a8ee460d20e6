# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the semantic maps that panoptic maps contain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metric import Metric
from .pairs import Pairs, or_none, sum_rows


@dataclass(frozen=True)
class IoUResult:
    """IoU per category id (NaN: neither in the truth nor predicted), and its unweighted mean over the other `n`."""

    miou: float
    n: int
    per_class: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return `{"miou", "n", "per_class"}` for JSON: NaN becomes None, category ids become strings."""
        per_class = {str(category): or_none(value) for category, value in self.per_class.items()}
        return {"miou": or_none(self.miou), "n": self.n, "per_class": per_class}


class MeanIoU(Metric):
    """Mean IoU over the pixels of a stream of images.

    Pixels whose ground truth is void or not listed are left out; those of crowds have a category and stay. Predicted
    void is wrong wherever there is a category. A category that is only predicted counts with 0, as in Cityscapes.

    Args:
        categories: category id → is it a thing?
    """

    name = "miou"
    columns = 3  # px: in common, in the truth, predicted

    def add(self, pairs: Pairs) -> None:
        """Count one image, given what `intersect` returns."""
        self._check(pairs)
        labeled = pairs.target.category[pairs.target_row] >= 0
        g = pairs.target.category[pairs.target_row[labeled]]
        p = pairs.prediction.category[pairs.prediction_row[labeled]]
        overlap, count = pairs.overlap[labeled], len(self.categories)
        given = p >= 0
        columns = (
            sum_rows(g, overlap * (g == p), count),
            sum_rows(g, overlap, count),
            sum_rows(p[given], overlap[given], count),
        )
        self.sums += np.stack(columns, axis=1)

    def compute(self) -> IoUResult:
        """Compute the result so far."""
        unions = [(both, true + predicted - both) for both, true, predicted in self.sums.tolist()]
        per_class = [both / union if union else math.nan for both, union in unions]
        counted = [value for value in per_class if not math.isnan(value)]
        mean = sum(counted) / len(counted) if counted else math.nan
        return IoUResult(mean, len(counted), dict(zip(self.categories, per_class, strict=True)))
