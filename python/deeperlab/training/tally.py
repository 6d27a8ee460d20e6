# SPDX-License-Identifier: Apache-2.0
"""What images count, kept image by image, so that any number of processes gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..metrics import Evaluation, EvaluationResult, Matching, intersect
from ..panoptic import Panoptic

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Class, −1 = void, and instance, 0 = none, of every pixel [H, W]."""
Listed = tuple[NDArray[np.int32], Sequence[Any]]
"""Ids of segments [H, W], 0 = void, and the list of segments."""
Gather = Callable[[Any], list[Any]]
"""Gives the list of what every process hands over, in the order of their ranks, to each of them."""
Counts = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Of one image: metric → the rows of its sums that are not 0, and these."""


def alone(value: Any) -> list[Any]:
    """Gather from the only process."""
    return [value]


def maps_of(panoptic: Panoptic) -> Maps:
    """Return the maps of a single image as arrays."""
    return panoptic.semantic.cpu().numpy(), panoptic.instance.cpu().numpy()


class Tally:
    """The usual three metrics over numbered samples: what `deeperlab eval` counts of the same maps, to the last bit.

    Sums are made at the end, in the order of the numbers: floats added in another order differ in their last bits. An
    image takes a few kilobytes, whatever its size.

    Where some pixels of a truth are of some stuff, nobody says which, they are void, and stuff classes that it does not
    have are left out of the prediction: they can be neither right nor wrong.
    """

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._categories = {category.id: category.isthing for category in labels.categories}
        self._counts: dict[int, Counts] = {}

    def add(self, number: int, maps: Maps, sample: Sample) -> tuple[EvaluationResult, Matching]:
        """Count the maps of an image against its truth; return its own result, and which of its segments match."""
        one = Evaluation(self._categories)
        prediction, target = sides(maps, sample, self._labels)
        matching = one.add(intersect(prediction, target, one.categories))
        assert matching is not None
        self._counts[number] = {name: _rows(metric.sums) for name, metric in one.metrics.items()}
        return one.compute(), matching

    def compute(self, gather: Gather = alone) -> EvaluationResult:
        """Compute the result over the images of all processes."""
        counts: dict[int, Counts] = {}
        for share in gather(self._counts):
            counts |= share
        total = Evaluation(self._categories)
        for number in sorted(counts):
            for name, (rows, sums) in counts[number].items():
                total.metrics[name].sums[rows] += sums
        return total.compute()


def sides(maps: Maps, sample: Sample, labels: LabelSet) -> tuple[Listed, Listed]:
    """Return the prediction and the target that are compared, as ids and segments of the categories of `labels`."""
    return _segments(_known_stuff(maps, sample, labels), labels), sample.to_coco(labels)


def _known_stuff(maps: Maps, sample: Sample, labels: LabelSet) -> Maps:
    if sample.some_stuff is None:
        return maps
    category, instance = maps
    counted = np.array([*labels.isthing, False])
    counted[np.unique(sample.category[sample.category >= 0])] = True
    return np.where(counted[category], category, -1), instance


def _segments(maps: Maps, labels: LabelSet) -> Listed:
    """The segments of maps, in the order of `Panoptic.to_coco`."""
    category, instance = maps
    loose = np.flatnonzero(np.bincount(category[(instance == 0) & (category >= 0)], minlength=len(labels)))
    last = int(instance.max(initial=0))
    id_of_class = np.zeros(len(labels) + 1, np.int32)  # void, −1, is the last: 0
    id_of_class[loose] = last + 1 + np.arange(len(loose))
    ids = np.where((instance > 0) & (category >= 0), instance, id_of_class[category])
    class_of = np.full(last + 1 + len(loose), -1, np.int64)
    class_of[ids] = category
    class_of[0] = -1
    listed = [{"id": i, "category_id": labels.ids[c]} for i, c in enumerate(class_of.tolist()) if c >= 0]
    return ids.astype(np.int32, copy=False), listed


def _rows(sums: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = np.flatnonzero(sums.any(axis=1))
    return rows, sums[rows]
