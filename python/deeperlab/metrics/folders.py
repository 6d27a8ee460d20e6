# SPDX-License-Identifier: Apache-2.0
"""Predictions in COCO's panoptic format against a ground truth, both on disk: `deeperlab eval`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from .._threads import in_order
from ..data.files import FaultyFilesError, FormatError
from ..data.formats.coco import Annotation, Dataset
from ..data.ids import image_id_of
from .evaluation import METRICS, Evaluation, MetricFactory
from .pairs import Pairs, intersect


class FolderEvaluation:
    """Count the images of a data set one after another, adding to `total`.

    Threads read and count; what they find is added up in the order of the ground truth, so that the result does not
    depend on their number.

    Args:
        target: the ground truth; its categories are those that count.
        prediction: of each of its images; what it predicts for others is left out (`left_out` images).
        workers: threads.
        metrics: classes of metrics, as of `Evaluation`.

    Raises:
        FormatError: an image without a prediction, or a ground truth that lists id 0, which is void.
        ValueError, TypeError: fewer workers than one, or metrics as of `Evaluation`.
    """

    def __init__(
        self,
        target: Dataset,
        prediction: Dataset,
        *,
        workers: int = 1,
        metrics: Iterable[MetricFactory] = METRICS,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self._target, self._prediction, self._workers = target, prediction, workers
        self.categories = target.categories
        predicted = {image_id_of(annotation.image_id): annotation for annotation in prediction.annotations}
        missing = [a.image_id for a in target.annotations if image_id_of(a.image_id) not in predicted]
        if missing:
            more = f" and {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise FormatError(prediction.path, f"no prediction for image {missing[0]!r}{more}")
        for annotation in target.annotations:
            if any(segment.id == 0 for segment in annotation.segments):
                raise FormatError(target.path, f"id 0, which is void, is a segment of image {annotation.image_id!r}")
        self._pairs = [(predicted[image_id_of(annotation.image_id)], annotation) for annotation in target.annotations]
        self.total = Evaluation({category.id: category.isthing for category in target.categories}, metrics)
        self.left_out = len(predicted) - len(self._pairs)
        self.warnings: list[str] = []
        """One line per PNG whose areas are not those that its JSON gives."""

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Annotation]:
        """Yield every image of the ground truth, once it is counted. Before the first, all headers are looked at.

        Raises:
            FormatError: a PNG is not what it should be, too large, or not of its JSON; it is named.
            OSError: a PNG cannot be read.
            FaultyFilesError: several of these, as far as headers tell.
        """
        for data in (self._target, self._prediction):
            data.directory.stat()  # or every PNG would be missed
        faults = [fault for found in in_order(self._check, self._pairs, self._workers) for fault in found]
        FaultyFilesError.require_none(faults)
        for (predicted, true), pairs in zip(
            self._pairs, in_order(self._count, self._pairs, self._workers), strict=True
        ):
            self.total.add(pairs)
            for text in pairs.area_warnings:
                name, _, fault = text.partition(": ")
                data, annotation = (self._target, true) if name == "target" else (self._prediction, predicted)
                self.warnings.append(f"{data.directory / annotation.file_name}: {fault} in {data.path.name}")
            yield true

    def _check(self, images: tuple[Annotation, Annotation]) -> list[Exception]:
        """Find what is wrong with a pair of PNGs without reading their pixels."""
        predicted, true = images
        sizes, faults = list[tuple[int, int]](), list[Exception]()
        for data, annotation in ((self._prediction, predicted), (self._target, true)):
            try:
                sizes.append(data.size(annotation))
            except (FormatError, OSError) as fault:
                faults.append(fault)
        if not faults and sizes[0] != sizes[1]:
            path = self._prediction.directory / predicted.file_name
            here, there = (f"{width} × {height} px" for height, width in sizes)
            turned = "; of a photograph turned as EXIF says? deeperlab predict --no-exif leaves it as it is stored"
            hint = turned if sizes[0] == sizes[1][::-1] else ""
            faults.append(FormatError(path, f"is {here}, but its ground truth {true.file_name} {there}{hint}"))
        return faults

    def _count(self, images: tuple[Annotation, Annotation]) -> Pairs:
        predicted, true = images
        path = self._prediction.directory / predicted.file_name
        try:
            ids, target = self._prediction.ids(predicted), self._target.ids(true)
            return intersect((ids, _listing(predicted)), (target, _listing(true)), self.total.categories)
        except MemoryError as fault:
            raise FormatError(path, "too large for the memory, it or its ground truth") from fault


def _listing(annotation: Annotation) -> list[dict[str, Any]]:
    """List the segments with the areas that the file gives, so that those which disagree are found."""
    return [
        {"id": segment.id, "category_id": segment.category_id, "iscrowd": segment.iscrowd, "area": area}
        for segment, area in zip_longest(annotation.segments, annotation.stated_areas)
    ]
