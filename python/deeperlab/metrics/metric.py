# SPDX-License-Identifier: Apache-2.0
"""What all metrics have in common: they are summed over a stream of images."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from .pairs import AreaWarning, Ignore, Pairs, RoleWarning, Segmentation, images_of, intersect


class Result(Protocol):
    """What a metric computes."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: no NaN, and strings as keys.

        `deeperlab eval` prints the numbers on the first level, and "per_class", numbers by category id, as a column of
        the table of classes.
        """


class Metric(ABC):
    """A quantity that is summed over a stream of images: the base of all metrics, a user's own included.

    A subclass names itself, says how many sums it keeps for each category, adds to them in `add` and computes its
    result from them. Whoever keeps more than these sums also overrides `merge`.

    Args:
        categories: category id → is it a thing? Or a `deeperlab.data.labels.LabelSet`.

    Attributes:
        name: the key of its result in `EvaluationResult` and in JSON.
        columns: how many sums it keeps for each category.
        categories: category id → is it a thing?
        sums: float64 [categories, columns], rows in the order of `categories`.
    """

    name: ClassVar[str]
    columns: ClassVar[int] = 0

    def __init__(self, categories: Mapping[int, bool]) -> None:
        if hasattr(categories, "categories"):  # a label set
            categories = {category.id: category.isthing for category in categories.categories}
        if not isinstance(categories, Mapping):
            listed = isinstance(categories, (list, tuple)) and categories and isinstance(categories[0], Mapping)
            remedy = '; of a list as in COCO\'s JSON: {c["id"]: c["isthing"] for c in categories}' if listed else ""
            raise TypeError(f"categories: expected a mapping of id to isthing, got {type(categories).__name__}{remedy}")
        self.categories = {int(category): bool(thing) for category, thing in categories.items()}
        self.sums: NDArray[np.float64] = np.zeros((len(self.categories), self.columns))

    def update(self, prediction: Segmentation, target: Segmentation, *, ignore: Ignore = None) -> Any:
        """Count one image or a batch; where there is a fault, nothing is counted.

        Args:
            prediction, target: in one of the forms of `deeperlab.metrics`; maps [H, W], or [N, H, W] of a batch.
            ignore: values that are void beside the usual, or one such value, see `Ignore`.

        Returns:
            What `add` returns; of a batch a tuple.

        Raises:
            ValueError, TypeError: as `intersect`.

        Warns:
            AreaWarning, RoleWarning: on behalf of the caller.
        """
        batch, pairs = self._intersect(prediction, target, ignore)
        counted = tuple(self.add(each) for each in pairs)
        return counted if batch else counted[0]

    @abstractmethod
    def add(self, pairs: Pairs) -> Any:
        """Count one image, given what `intersect` returns for the metric's categories."""

    @abstractmethod
    def compute(self) -> Result:
        """Compute the result so far."""

    def reset(self) -> None:
        """Forget all images. Whoever keeps more than `sums` overrides it."""
        self.sums[...] = 0

    def merge(self, other: Metric) -> None:
        """Add what another of the kind counted, e.g. in another process.

        Raises:
            ValueError: another kind, or the categories differ.
            NotImplementedError: the metric keeps no sums, so that it has to override this.
        """
        self._check_kind(other)
        if not self.columns:
            raise NotImplementedError(f"{type(self).__name__}: expected columns above 0, or a merge of its own")
        place = {category: row for row, category in enumerate(other.categories)}
        self.sums += other.sums[[place[category] for category in self.categories]]

    def _check_kind(self, other: Metric) -> None:
        if type(other) is not type(self) or other.categories != self.categories:
            raise ValueError(f"other: expected a {type(self).__name__} of the same categories")

    def _intersect(
        self, prediction: Segmentation, target: Segmentation, ignore: Ignore = None
    ) -> tuple[bool, list[Pairs]]:
        """Whether it is a batch, and the pairs of each image; warns on behalf of the caller of `update`."""
        sides = [images_of(pair, name) for pair, name in ((prediction, "prediction"), (target, "target"))]
        predictions, targets = sides
        if predictions is None or targets is None:
            if predictions is not targets:
                raise ValueError("prediction: expected a batch for a batch, and one image for one")
            found = [intersect(prediction, target, self.categories, ignore=ignore)]
        elif len(predictions) != len(targets):
            raise ValueError(f"prediction: expected {len(targets)} images as of the target, got {len(predictions)}")
        else:
            both = zip(predictions, targets, strict=True)
            found = [intersect(p, t, self.categories, ignore=ignore) for p, t in both]
        for pairs in found:
            for kind, texts in ((AreaWarning, pairs.area_warnings), (RoleWarning, pairs.role_warnings)):
                for text in texts:
                    warnings.warn(text, kind, stacklevel=3)
        return predictions is not None, found

    def _check(self, pairs: Pairs) -> None:
        if list(pairs.categories.items()) != list(self.categories.items()):
            raise ValueError("pairs: expected the categories of the metric, in their order")

    def _groups(self) -> tuple[list[int], list[int], list[int]]:
        """Rows of all categories, of things and of stuff."""
        things = list(self.categories.values())
        rows = range(len(things))
        return list(rows), [r for r in rows if things[r]], [r for r in rows if not things[r]]
