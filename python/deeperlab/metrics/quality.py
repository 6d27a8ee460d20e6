# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality as COCO's own evaluation counts it (panopticapi; Kirillov et al., arXiv 1801.00868)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from .pairs import Metric, Pairs, Segmentation, lay_over, or_none, sum_rows


@dataclass(frozen=True)
class ClassQuality:
    """One category: its counts, and what follows from them; NaN where nothing was counted.

    `iou` is the sum over matches; sq = iou / tp (0 without a match), rq = tp / (tp + fp / 2 + fn / 2), pq = sq · rq.
    """

    pq: float
    sq: float
    rq: float
    iou: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class MeanQuality:
    """Unweighted mean over the `n` categories with counts; NaN where n = 0."""

    pq: float
    sq: float
    rq: float
    n: int


@dataclass(frozen=True)
class QualityResult:
    """Panoptic quality over all categories, over things, over stuff, and per category id."""

    all: MeanQuality
    things: MeanQuality
    stuff: MeanQuality
    per_class: dict[int, ClassQuality]

    def to_dict(self) -> dict[str, Any]:
        """`{"All", "Things", "Stuff", "per_class"}` for JSON: NaN becomes None, category ids become strings."""
        groups = {"All": asdict(self.all), "Things": asdict(self.things), "Stuff": asdict(self.stuff)}
        per_class = {str(c): _without_nan(asdict(q)) for c, q in self.per_class.items()}
        return {**{name: _without_nan(group) for name, group in groups.items()}, "per_class": per_class}


class Match(NamedTuple):
    """A prediction and a ground-truth segment of one category with IoU > 0.5."""

    target: int
    prediction: int
    category: int
    iou: float


@dataclass(frozen=True)
class Matching:
    """The answer of `match`; segments are named by position in `segments` (or in order of (category, instance))."""

    matches: tuple[Match, ...]
    missed: tuple[tuple[int, int], ...]
    """(target position, category) of every false negative."""
    spurious: tuple[tuple[int, int], ...]
    """(prediction position, category) of every false positive."""


class PanopticQuality(Metric):
    """Panoptic quality over a stream of images.

    The rules are panopticapi's: a match is IoU > 0.5, strictly, within one category; ground-truth void leaves the
    union, predicted void and crowd do not; a crowd region is never missed; an unmatched prediction is no false positive
    when more than half of it lies on void or on crowd of its own category (of several such regions the last one
    listed). Areas are counted from the maps, never taken from the JSON. Several segments of a stuff category count
    one by one. No IoU exceeds 1, so neither does PQ: what could lead there is a ValueError.

    Args:
        categories: category id → is it a thing?
    """

    _columns = 4  # iou, tp, fp, fn

    def update(self, prediction: Segmentation, target: Segmentation) -> Matching:
        """Count one image, and say which segments matched.

        Raises:
            ValueError: maps of different shape, a category that is not in `categories`, a predicted id that is not
                listed or a listed one that is not in the map; nothing is counted then.
            TypeError: maps that are not integers.
        """
        return self.add(self._lay_over(prediction, target))

    def add(self, pairs: Pairs) -> Matching:
        """`update` with the answer of `lay_over`."""
        self._check(pairs)
        matching = _match(pairs)
        place = {category: row for row, category in enumerate(self.categories)}
        iou, hits = [m.iou for m in matching.matches], [place[m.category] for m in matching.matches]
        columns = (
            sum_rows(hits, iou, len(place)),
            sum_rows(hits, None, len(place)),
            sum_rows([place[category] for _, category in matching.spurious], None, len(place)),
            sum_rows([place[category] for _, category in matching.missed], None, len(place)),
        )
        self._sums += np.stack(columns, axis=1)
        return matching

    def compute(self) -> QualityResult:
        """The result so far."""
        per_class = [_class_quality(iou, int(tp), int(fp), int(fn)) for iou, tp, fp, fn in self._sums.tolist()]
        every, things, stuff = (_mean([per_class[r] for r in rows]) for rows in self._groups())
        return QualityResult(every, things, stuff, dict(zip(self.categories, per_class, strict=True)))


def panoptic_quality(prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool]) -> QualityResult:
    """The panoptic quality of one image; rules and errors as of `PanopticQuality`."""
    metric = PanopticQuality(categories)
    metric.add(metric._lay_over(prediction, target))
    return metric.compute()


def match(prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool]) -> Matching:
    """Match the segments of one image; the rules are `PanopticQuality`'s."""
    return _match(lay_over(prediction, target, categories))


def _match(pairs: Pairs) -> Matching:
    g, p, overlap, target, prediction = pairs.g, pairs.p, pairs.overlap, pairs.target, pairs.prediction
    void_in_p = sum_rows(p, overlap * target.void[g], len(prediction.area))
    union = target.area[g] + prediction.area[p] - overlap - void_in_p[p]
    rivals = target.listed[g] & ~target.crowd[g] & (target.category[g] == prediction.category[p])
    matched = rivals & (2 * overlap > union)

    excused = void_in_p
    if target.crowd.any():
        last_crowd = np.full(len(pairs.categories), -1)
        for row in np.flatnonzero(target.crowd):
            last_crowd[target.category[row]] = row
        own = prediction.listed[p] & (last_crowd[prediction.category[p]] == g)
        excused = excused + sum_rows(p, overlap * own, len(prediction.area))

    missed, spurious = target.listed & ~target.crowd, prediction.listed & ~(2 * excused > prediction.area)
    missed[g[matched]] = spurious[p[matched]] = False
    ids = list(pairs.categories)
    hits = zip(g[matched].tolist(), p[matched].tolist(), (overlap[matched] / union[matched]).tolist(), strict=True)
    true, predicted = target.category.tolist(), prediction.category.tolist()
    return Matching(
        tuple(Match(a, b, ids[true[a]], iou) for a, b, iou in hits),
        tuple((row, ids[true[row]]) for row in np.flatnonzero(missed).tolist()),
        tuple((row, ids[predicted[row]]) for row in np.flatnonzero(spurious).tolist()),
    )


def _class_quality(iou: float, tp: int, fp: int, fn: int) -> ClassQuality:
    if tp + fp + fn == 0:
        return ClassQuality(math.nan, math.nan, math.nan, iou, tp, fp, fn)
    weight = tp + fp / 2 + fn / 2
    return ClassQuality(iou / weight, iou / tp if tp else 0.0, tp / weight, iou, tp, fp, fn)


def _mean(per_class: Sequence[ClassQuality]) -> MeanQuality:
    counted = [q for q in per_class if q.tp + q.fp + q.fn]
    n = len(counted)
    if not n:
        return MeanQuality(math.nan, math.nan, math.nan, 0)
    return MeanQuality(
        sum(q.pq for q in counted) / n, sum(q.sq for q in counted) / n, sum(q.rq for q in counted) / n, n
    )


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {key: or_none(value) for key, value in values.items()}
