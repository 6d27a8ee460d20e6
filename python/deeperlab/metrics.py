# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality as COCO's own evaluation counts it (panopticapi; Kirillov et al., arXiv 1801.00868).

One segmentation is a pair, in either of two forms:

* `(ids, segments)`: an integer map [H, W] and, for each segment, its `id`, `category_id` and (ground truth only)
  `iscrowd`, as mappings (COCO's `segments_info`) or as objects with these attributes. Id 0 is void unless a
  prediction lists it.
* `(category, instance)`: two integer maps [H, W]; each distinct pair is a segment, a negative category is void. In a
  ground truth, thing pixels of instance 0 are crowd; in a prediction they are a segment like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


@dataclass(frozen=True)
class Match:
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


class PanopticQuality:
    """Panoptic quality over a stream of images.

    The rules are panopticapi's: a match is IoU > 0.5, strictly, within one category; ground-truth void leaves the
    union, predicted void and crowd do not; a crowd region is never missed; an unmatched prediction is no false positive
    when more than half of it lies on void or on crowd of its own category (of several such regions the last one
    listed). Areas are counted from the maps, never taken from the JSON. Several segments of a stuff category count
    one by one.

    Args:
        categories: category id → is it a thing?
    """

    def __init__(self, categories: Mapping[int, bool]) -> None:
        self.categories = {int(c): bool(thing) for c, thing in categories.items()}
        self._row = {c: row for row, c in enumerate(self.categories)}
        self._iou = np.zeros(len(self._row), np.float64)
        self._count = np.zeros((len(self._row), 3), np.int64)  # tp, fp, fn

    def update(self, prediction: tuple[Any, Any], target: tuple[Any, Any]) -> Matching:
        """Count one image, and say which segments matched.

        Raises:
            ValueError: maps of different shape, a category that is not in `categories`, a predicted id that is not
                listed or a listed one that is not in the map; nothing is counted then.
            TypeError: maps that are not integers.
        """
        matching = match(prediction, target, self.categories)
        for pair in matching.matches:
            self._iou[self._row[pair.category]] += pair.iou
            self._count[self._row[pair.category], 0] += 1
        for column, segments in ((1, matching.spurious), (2, matching.missed)):
            for _, category in segments:
                self._count[self._row[category], column] += 1
        return matching

    def merge(self, other: PanopticQuality) -> None:
        """Add what another instance counted, e.g. in another process.

        Raises:
            ValueError: the categories differ.
        """
        if other.categories != self.categories:
            raise ValueError("other: expected the same categories")
        for category, row in other._row.items():
            self._iou[self._row[category]] += other._iou[row]
            self._count[self._row[category]] += other._count[row]

    def compute(self) -> QualityResult:
        """The result so far."""
        per_class = {c: _class_quality(float(self._iou[r]), *map(int, self._count[r])) for c, r in self._row.items()}
        things = {c: q for c, q in per_class.items() if self.categories[c]}
        stuff = {c: q for c, q in per_class.items() if not self.categories[c]}
        return QualityResult(_mean(per_class), _mean(things), _mean(stuff), per_class)


def match(prediction: tuple[Any, Any], target: tuple[Any, Any], categories: Mapping[int, bool]) -> Matching:
    """Match the segments of one image; the pair forms are those of this module, the rules `PanopticQuality`'s."""
    p = _side(prediction, categories, "prediction")
    g = _side(target, categories, "target")
    if p.shape != g.shape:
        raise ValueError(f"prediction: expected the target's shape {g.shape}, got {p.shape}")

    key, overlap = np.unique(g.index * len(p.area) + p.index, return_counts=True)
    gi, pi = np.divmod(key, max(len(p.area), 1))
    void_in_p = np.bincount(pi, weights=overlap * g.void[gi], minlength=len(p.area))
    union = g.area[gi] + p.area[pi] - overlap - void_in_p[pi]
    rivals = g.listed[gi] & ~g.crowd[gi] & p.listed[pi] & (g.category[gi] == p.category[pi])
    matched = rivals & (2 * overlap > union)

    excused = void_in_p.copy()
    last_crowd = {int(g.category[row]): int(row) for row in np.flatnonzero(g.crowd)}
    crowd_row = np.array([last_crowd.get(int(c), -1) for c in p.category], np.int64)
    np.add.at(excused, pi, overlap * (crowd_row[pi] == gi))

    hit_g, hit_p = np.zeros(len(g.area), bool), np.zeros(len(p.area), bool)
    hit_g[gi[matched]] = hit_p[pi[matched]] = True
    missed = np.flatnonzero(g.listed & ~g.crowd & ~hit_g)
    spurious = np.flatnonzero(p.listed & ~hit_p & ~(2 * excused > p.area))
    return Matching(
        tuple(
            Match(int(a), int(b), int(g.category[a]), float(v))
            for a, b, v in zip(gi[matched], pi[matched], overlap[matched] / union[matched], strict=True)
        ),
        tuple((int(row), int(g.category[row])) for row in missed),
        tuple((int(row), int(p.category[row])) for row in spurious),
    )


@dataclass(frozen=True)
class _Side:
    """A segmentation as a dense index map: the listed segments come first, in their order, then void and the rest."""

    shape: tuple[int, ...]
    index: NDArray[np.int64]  # [H·W] → row
    area: NDArray[np.int64]  # [rows], as all below
    category: NDArray[np.int64]
    listed: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    void: NDArray[np.bool_]


def _side(pair: tuple[Any, Any], categories: Mapping[int, bool], name: str) -> _Side:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"{name}: expected a pair (ids, segments) or (category, instance), got {type(pair).__name__}")
    first = _map(pair[0], name)
    if isinstance(pair[1], Sequence):
        return _from_segments(first, pair[1], categories, name)
    second = _map(pair[1], name)
    if second.shape != first.shape:
        raise ValueError(f"{name}: expected an instance map of shape {first.shape}, got {second.shape}")
    return _from_maps(first, second, categories, name)


def _from_segments(ids: NDArray[np.int64], segments: Sequence[Any], categories: Mapping[int, bool], name: str) -> _Side:
    target = name == "target"
    listed = [int(_field(s, "id")) for s in segments]
    if len(set(listed)) != len(listed):
        raise ValueError(f"{name}: expected distinct segment ids, got {sorted(listed)}")
    if target and 0 in listed:
        raise ValueError("target: expected segment ids >= 1, got 0, which is void")
    values, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    rest = [v for v in values.tolist() if v not in set(listed)]
    if not target:
        unknown, absent = [v for v in rest if v != 0], sorted(set(listed) - set(values.tolist()))
        if unknown:
            raise ValueError(f"prediction: expected every id of the map to be listed, got {unknown[0]}")
        if absent:
            raise ValueError(f"prediction: expected every listed id in the map, got {absent[0]}")
    row = {v: r for r, v in enumerate([*listed, *rest])}
    rows = np.array([row[v] for v in values.tolist()], np.int64)
    area = np.zeros(len(row), np.int64)
    area[rows] = counts
    category = np.full(len(row), -1, np.int64)
    crowd = np.zeros(len(row), bool)
    for r, segment in enumerate(segments):
        category[r] = _known(int(_field(segment, "category_id")), categories, name)
        crowd[r] = target and bool(_field(segment, "iscrowd", 0))
    void = np.array([v == 0 and r >= len(listed) for v, r in row.items()], bool)
    return _Side(ids.shape, rows[inverse.reshape(-1)], area, category, np.arange(len(row)) < len(listed), crowd, void)


def _from_maps(
    category: NDArray[np.int64], instance: NDArray[np.int64], categories: Mapping[int, bool], name: str
) -> _Side:
    void = category < 0
    if (category >= 1 << 31).any() or (instance[~void] < 0).any() or (instance[~void] >= 1 << 32).any():
        raise ValueError(f"{name}: expected categories below 2^31 and instances in [0, 2^32)")
    key = np.where(void, -1, (category << 32) + instance)
    keys, index, area = np.unique(key, return_inverse=True, return_counts=True)
    listed = keys >= 0
    keys, area = np.append(keys[listed], keys[~listed]), np.append(area[listed], area[~listed])
    index = (index.reshape(-1) - np.count_nonzero(~listed)) % max(len(keys), 1)  # the void row, first, goes last
    segment_category = keys >> 32  # -1 for void
    listed = keys >= 0
    thing = np.array([c >= 0 and categories[_known(c, categories, name)] for c in segment_category.tolist()], bool)
    crowd = thing & (keys & 0xFFFFFFFF == 0) & (name == "target")
    return _Side(category.shape, index, area, segment_category, listed, crowd, ~listed)


def _map(values: Any, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected a map [H, W], got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer map, got {array.dtype}")
    return array.astype(np.int64)


def _field(segment: Any, name: str, *default: Any) -> Any:
    return segment.get(name, *default) if isinstance(segment, Mapping) else getattr(segment, name, *default)


def _known(category: int, categories: Mapping[int, bool], name: str) -> int:
    if category not in categories:
        raise ValueError(f"{name}: expected a category of {sorted(categories)[:8]}…, got {category}")
    return category


def _class_quality(iou: float, tp: int, fp: int, fn: int) -> ClassQuality:
    if tp + fp + fn == 0:
        return ClassQuality(math.nan, math.nan, math.nan, iou, tp, fp, fn)
    weight = tp + fp / 2 + fn / 2
    return ClassQuality(iou / weight, iou / tp if tp else 0.0, tp / weight, iou, tp, fp, fn)


def _mean(per_class: Mapping[int, ClassQuality]) -> MeanQuality:
    counted = [q for q in per_class.values() if q.tp + q.fp + q.fn]
    n = len(counted)
    if not n:
        return MeanQuality(math.nan, math.nan, math.nan, 0)
    return MeanQuality(
        sum(q.pq for q in counted) / n, sum(q.sq for q in counted) / n, sum(q.rq for q in counted) / n, n
    )


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
