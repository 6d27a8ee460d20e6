# SPDX-License-Identifier: Apache-2.0
"""Parsing covering (section 3.5, Eq. 3-5 of the paper), as the authors' code counts it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metric import Metric
from .pairs import Ignore, Pairs, Segmentation, or_none, sum_rows


@dataclass(frozen=True)
class MeanCovering:
    """Unweighted mean over the `n` categories that the ground truth holds; NaN where n = 0."""

    pc: float
    n: int


@dataclass(frozen=True)
class Covering:
    """Parsing covering over all categories, over things, over stuff, and per category id (NaN: not in the truth)."""

    all: MeanCovering
    things: MeanCovering
    stuff: MeanCovering
    per_class: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return `{"All", "Things", "Stuff", "per_class"}` for JSON: NaN becomes None, category ids become strings."""
        groups = {"All": self.all, "Things": self.things, "Stuff": self.stuff}
        return {
            **{name: {"pc": or_none(group.pc), "n": group.n} for name, group in groups.items()},
            "per_class": {str(category): or_none(value) for category, value in self.per_class.items()},
        }


@dataclass(frozen=True)
class CoveringResult:
    """Both ways to weigh the regions of a stream of images.

    Attributes:
        normalized: by their share of their image, the default of the authors' code; the paper does not say which of
            the two its tables hold.
        pixel: by their pixels, so that larger images count for more.
    """

    normalized: Covering
    pixel: Covering

    @property
    def pc(self) -> float:
        """Over all categories, normalized."""
        return self.normalized.all.pc

    def to_dict(self) -> dict[str, Any]:
        """Return `{"normalized", "pixel"}`, each as `Covering.to_dict`."""
        return {"normalized": self.normalized.to_dict(), "pixel": self.pixel.to_dict()}


class ParsingCovering(Metric):
    """Parsing covering over a stream of images.

    Pixels whose ground truth is void, crowd or not listed are dropped first, from predicted areas too. What remains of
    each ground-truth region is covered by the best IoU among predicted regions of its category, 0 without any; there
    is no threshold, and one prediction may cover several regions. The covering of a category is the mean over its
    regions, weighted by their size; a category that is only predicted has none.

    Args:
        categories: category id → is it a thing?
    """

    name = "pc"
    columns = 4  # weighted covering and weight: normalized, by pixel

    def add(self, pairs: Pairs) -> None:
        """Count one image, given what `intersect` returns."""
        self._check(pairs)
        g, p, target, prediction = pairs.target_row, pairs.prediction_row, pairs.target, pairs.prediction
        regions = target.listed & ~target.crowd & (target.area > 0)
        kept = regions[g]
        g, p, overlap = g[kept], p[kept], pairs.overlap[kept]
        area = sum_rows(p, overlap, len(prediction.area))
        same = target.category[g] == prediction.category[p]
        g, p, overlap = g[same], p[same], overlap[same]
        best = np.zeros(len(target.area))
        np.maximum.at(best, g, overlap / (target.area[g] + area[p] - overlap))
        weight, category, count = target.area[regions], target.category[regions], len(self.categories)
        covered = sum_rows(category, weight * best[regions], count)
        total = sum_rows(category, weight, count)
        pixels = max(pairs.pixels, 1)
        self.sums += np.stack((covered / pixels, total / pixels, covered, total), axis=1)

    def compute(self) -> CoveringResult:
        """Compute the result so far."""
        return CoveringResult(self._covering(self.sums[:, :2]), self._covering(self.sums[:, 2:]))

    def _covering(self, sums: NDArray[np.float64]) -> Covering:
        covering = [covered / total if total else math.nan for covered, total in sums.tolist()]
        every, things, stuff = (_mean([covering[r] for r in rows]) for rows in self._groups())
        return Covering(every, things, stuff, dict(zip(self.categories, covering, strict=True)))


def parsing_covering(
    prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool], *, ignore: Ignore = None
) -> CoveringResult:
    """Compute the parsing covering of one image; rules and errors as of `ParsingCovering`."""
    metric = ParsingCovering(categories)
    for pairs in metric._intersect(prediction, target, ignore)[1]:
        metric.add(pairs)
    return metric.compute()


def _mean(covering: list[float]) -> MeanCovering:
    counted = [value for value in covering if value == value]
    return MeanCovering(sum(counted) / len(counted) if counted else math.nan, len(counted))
