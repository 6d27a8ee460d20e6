# SPDX-License-Identifier: Apache-2.0
"""Mean IoU of the semantic maps that panoptic maps contain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pairs import Metric, Pairs, Segmentation, or_none, sum_rows


@dataclass(frozen=True)
class IoUResult:
    """IoU per category id (NaN: neither in the truth nor predicted), and its unweighted mean over the other `n`."""

    miou: float
    n: int
    per_class: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes None, category ids become strings."""
        per_class = {str(category): or_none(value) for category, value in self.per_class.items()}
        return {"miou": or_none(self.miou), "n": self.n, "per_class": per_class}


class MeanIoU(Metric):
    """Mean IoU over the pixels of a stream of images.

    Pixels whose ground truth is void or not listed are left out; those of crowds have a category and stay. Predicted
    void is wrong wherever there is a category. A category that is only predicted counts with 0, as in Cityscapes.

    Args:
        categories: category id → is it a thing?
    """

    _columns = 3  # px: in common, in the truth, predicted

    def update(self, prediction: Segmentation, target: Segmentation) -> None:
        """Count one image; errors as of `PanopticQuality.update`."""
        self.add(self._lay_over(prediction, target))

    def add(self, pairs: Pairs) -> None:
        """`update` with the answer of `lay_over`."""
        self._check(pairs)
        labeled = pairs.target.category[pairs.g] >= 0
        g, p = pairs.target.category[pairs.g[labeled]], pairs.prediction.category[pairs.p[labeled]]
        overlap, count = pairs.overlap[labeled], len(self.categories)
        given = p >= 0
        columns = (
            sum_rows(g, overlap * (g == p), count),
            sum_rows(g, overlap, count),
            sum_rows(p[given], overlap[given], count),
        )
        self._sums += np.stack(columns, axis=1)

    def compute(self) -> IoUResult:
        """The result so far."""
        unions = [(both, true + predicted - both) for both, true, predicted in self._sums.tolist()]
        per_class = [both / union if union else math.nan for both, union in unions]
        counted = [value for value in per_class if not math.isnan(value)]
        mean = sum(counted) / len(counted) if counted else math.nan
        return IoUResult(mean, len(counted), dict(zip(self.categories, per_class, strict=True)))
