# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality as COCO's own evaluation counts it (panopticapi; Kirillov et al., arXiv 1801.00868)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metric import Metric
from .pairs import Ignore, Integers, Pairs, Segmentation, intersect, or_none, sum_rows


class ClassQuality(NamedTuple):
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
        """Return `{"All", "Things", "Stuff", "per_class"}` for JSON: NaN becomes None, category ids become strings."""
        groups = {"All": asdict(self.all), "Things": asdict(self.things), "Stuff": asdict(self.stuff)}
        per_class = {str(c): _without_nan(q._asdict()) for c, q in self.per_class.items()}
        return {**{name: _without_nan(group) for name, group in groups.items()}, "per_class": per_class}


class Match(NamedTuple):
    """A prediction and a ground-truth segment of one category with IoU > 0.5."""

    target: int
    prediction: int
    category: int
    iou: float


class WrongClass(NamedTuple):
    """A prediction and a ground-truth segment of other category with IoU > 0.5: one is spurious, the other missed."""

    target: int
    prediction: int
    iou: float


@dataclass(frozen=True)
class Matching:
    """The answer of `match`; segments are named by position in `segments` (or in order of (category, instance)).

    `target_ids` and `prediction_ids` hold the id of each position; of (category, instance) maps the instance.
    """

    matches: tuple[Match, ...]
    missed: tuple[tuple[int, int], ...]
    """(target position, category) of every false negative."""
    spurious: tuple[tuple[int, int], ...]
    """(prediction position, category) of every false positive."""
    wrong_class: tuple[WrongClass, ...]
    """Those of the missed and the spurious that are one object under two names."""
    target_ids: tuple[int, ...]
    prediction_ids: tuple[int, ...]

    @property
    def missed_ids(self) -> tuple[int, ...]:
        """The ids of the false negatives."""
        return tuple(self.target_ids[row] for row, _ in self.missed)

    @property
    def spurious_ids(self) -> tuple[int, ...]:
        """The ids of the false positives."""
        return tuple(self.prediction_ids[row] for row, _ in self.spurious)


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

    name = "pq"
    columns = 4  # iou, tp, fp, fn

    def add(self, pairs: Pairs) -> Matching:
        """Count one image, given what `intersect` returns, and say which segments matched."""
        self._check(pairs)
        found = _match(pairs)
        true, count = pairs.target.category, len(self.categories)
        hits = true[found.g]
        columns = (
            sum_rows(hits, found.iou, count),
            sum_rows(hits, None, count),
            sum_rows(pairs.prediction.category[found.spurious], None, count),
            sum_rows(true[found.missed], None, count),
        )
        self.sums += np.stack(columns, axis=1)
        return _named(found, pairs)

    def compute(self) -> QualityResult:
        """Compute the result so far."""
        per_class = [_class_quality(*counts) for counts in self.sums.tolist()]
        every, things, stuff = (_mean([per_class[r] for r in rows]) for rows in self._groups())
        return QualityResult(every, things, stuff, dict(zip(self.categories, per_class, strict=True)))


def panoptic_quality(
    prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool], *, ignore: Ignore = None
) -> QualityResult:
    """Compute the panoptic quality of one image; rules and errors as of `PanopticQuality`."""
    metric = PanopticQuality(categories)
    for pairs in metric._intersect(prediction, target, ignore)[1]:
        metric.add(pairs)
    return metric.compute()


def match(
    prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool], *, ignore: Ignore = None
) -> Matching:
    """Match the segments of one image; the rules are `PanopticQuality`'s, arguments and errors those of `intersect`."""
    pairs = intersect(prediction, target, categories, ignore=ignore)
    return _named(_match(pairs), pairs)


class _Found(NamedTuple):
    """Rows of `pairs.target` and `pairs.prediction`: matched ones with their IoU, and those that are left; `wrong`:
    (target row, prediction row, IoU) of two that lie in one place and have two categories."""

    g: Integers
    p: Integers
    iou: NDArray[np.float64]
    missed: Integers
    spurious: Integers
    wrong: list[tuple[int, int, float]]


def _match(pairs: Pairs) -> _Found:
    target, prediction = pairs.target, pairs.prediction
    g, p, overlap = pairs.target_row, pairs.prediction_row, pairs.overlap
    void_in_p = sum_rows(p, overlap * target.void[g], len(prediction.area))
    union = target.area[g] + prediction.area[p] - overlap - void_in_p[p]
    in_place = target.listed[g] & ~target.crowd[g] & prediction.listed[p] & (2 * overlap > union)
    same = target.category[g] == prediction.category[p]
    matched, wrong = in_place & same, in_place & ~same

    excused = void_in_p
    if target.crowd.any():
        last_crowd = np.full(len(pairs.categories), -1)
        for row in np.flatnonzero(target.crowd):
            last_crowd[target.category[row]] = row
        on_crowd = prediction.listed[p] & (last_crowd[prediction.category[p]] == g)
        excused = excused + sum_rows(p, overlap * on_crowd, len(prediction.area))

    missed, spurious = target.listed & ~target.crowd, prediction.listed & ~(2 * excused > prediction.area)
    missed[g[matched]] = spurious[p[matched]] = False
    iou = overlap[matched] / union[matched]
    wrong &= spurious[p]
    confused = zip(g[wrong].tolist(), p[wrong].tolist(), (overlap[wrong] / union[wrong]).tolist(), strict=True)
    return _Found(g[matched], p[matched], iou, np.flatnonzero(missed), np.flatnonzero(spurious), list(confused))


def _named(found: _Found, pairs: Pairs) -> Matching:
    """With the ids of categories."""
    ids = list(pairs.categories)
    true, predicted = pairs.target.category.tolist(), pairs.prediction.category.tolist()
    hits = zip(found.g.tolist(), found.p.tolist(), found.iou.tolist(), strict=True)
    return Matching(
        tuple(Match(g, p, ids[true[g]], iou) for g, p, iou in hits),
        tuple((row, ids[true[row]]) for row in found.missed.tolist()),
        tuple((row, ids[predicted[row]]) for row in found.spurious.tolist()),
        tuple(WrongClass(*wrong) for wrong in found.wrong),
        tuple(pairs.target.id[pairs.target.listed].tolist()),
        tuple(pairs.prediction.id[pairs.prediction.listed].tolist()),
    )


_UNCOUNTED = ClassQuality(math.nan, math.nan, math.nan, 0.0, 0, 0, 0)


def _class_quality(iou: float, tp: float, fp: float, fn: float) -> ClassQuality:
    weight = tp + fp / 2 + fn / 2
    if weight == 0:
        return _UNCOUNTED
    return ClassQuality(iou / weight, iou / tp if tp else 0.0, tp / weight, iou, int(tp), int(fp), int(fn))


def _mean(per_class: Sequence[ClassQuality]) -> MeanQuality:
    counted = [q for q in per_class if q is not _UNCOUNTED]
    if not counted:
        return MeanQuality(math.nan, math.nan, math.nan, 0)
    n = len(counted)
    pq, sq, rq, *_ = zip(*counted, strict=True)
    return MeanQuality(sum(pq) / n, sum(sq) / n, sum(rq) / n, n)


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {key: or_none(value) for key, value in values.items()}
