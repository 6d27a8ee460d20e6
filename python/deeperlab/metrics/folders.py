# SPDX-License-Identifier: Apache-2.0
"""Predictions in COCO's panoptic format against a ground truth, both on disk: `deeperlab eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from .._threads import in_order
from ..data.files import FaultyFilesError, FormatError, require_folder
from ..data.formats.coco import Annotation, Dataset
from ..data.ids import image_id_of
from .doubts import doubt_files, doubt_result
from .evaluation import METRICS, Evaluation, EvaluationResult, MetricFactory
from .pairs import Pairs, Segmentation, intersect
from .quality import Matching


@dataclass(frozen=True)
class ImageEvaluation:
    """One image by itself.

    Attributes:
        target, prediction: its entries in the two files.
        result: the usual three metrics.
        matching: of its segments.
    """

    target: Annotation
    prediction: Annotation
    result: EvaluationResult
    matching: Matching

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: figures of all categories (None: nothing to count), ids of segments that err."""
        pq, matching = self.result.pq.to_dict(), self.matching
        counts = {name: sum(q[name] for q in pq["per_class"].values()) for name in ("tp", "fp", "fn")}
        wrong = [
            {"target": matching.target_ids[g], "prediction": matching.prediction_ids[p], "iou": round(iou, 4)}
            for g, p, iou in matching.wrong_class
        ]
        return {
            "image_id": self.target.image_id,
            "file_name": self.target.file_name,
            **{name: pq["All"][name] for name in ("pq", "sq", "rq")},
            "pq_things": pq["Things"]["pq"],
            "pq_stuff": pq["Stuff"]["pq"],
            **counts,
            "pc": self.result.pc.to_dict()["normalized"]["All"]["pc"],
            "miou": self.result.iou.to_dict()["miou"],
            "missed": list(matching.missed_ids),
            "spurious": list(matching.spurious_ids),
            "wrong_class": wrong,
        }


Visit = Callable[[ImageEvaluation, Segmentation, Segmentation], Any]
"""Called with every image, its prediction and its ground truth, by several threads at once."""


class FolderEvaluation:
    """Count the images of a data set one after another, adding to `total`.

    Threads read and count; what they find is added up in the order of the ground truth, so that the result does not
    depend on their number.

    Args:
        target: the ground truth; its categories are those that count.
        prediction: of each of its images; what it predicts for others is left out (`left_out` images).
        workers: threads.
        metrics: classes of metrics, as of `Evaluation`.
        visit: what else is to be done with the maps of an image, such as pictures.

    Attributes:
        total: the evaluation of all images so far.
        warnings: what suggests that the files are not what they are taken for; and, once a PNG is counted, that its
            areas are not those that its JSON gives.

    Raises:
        FormatError: an image without a prediction, a ground truth that lists id 0, which is void, or predictions that
            give an id the name of another one.
        ValueError, TypeError: fewer workers than one, or metrics as of `Evaluation`.
    """

    def __init__(
        self,
        target: Dataset,
        prediction: Dataset,
        *,
        workers: int = 1,
        metrics: Iterable[MetricFactory] = METRICS,
        visit: Visit | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self.target, self.prediction, self._workers, self._visit = target, prediction, workers, visit
        predicted = {image_id_of(annotation.image_id): annotation for annotation in prediction.annotations}
        missing = [a.image_id for a in target.annotations if image_id_of(a.image_id) not in predicted]
        if missing:
            more = f" and {len(missing) - 1} more image{'s' if len(missing) > 2 else ''}" if len(missing) > 1 else ""
            if predicted and len(missing) == len(target.annotations):
                more += f": no image is in both files; those here are such as {prediction.annotations[0].image_id!r}"
            raise FormatError(prediction.path, f"no prediction for image {missing[0]!r}{more}")
        for annotation in target.annotations:
            if any(segment.id == 0 for segment in annotation.segments):
                raise FormatError(target.path, f"id 0, which is void, is a segment of image {annotation.image_id!r}")
        self._pairs = [(predicted[image_id_of(annotation.image_id)], annotation) for annotation in target.annotations]
        self.total = Evaluation({category.id: category.isthing for category in target.categories}, metrics)
        self.left_out = len(predicted) - len(self._pairs)
        self.warnings = doubt_files(target, prediction)

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[ImageEvaluation]:
        """Yield every image of the ground truth, once it is counted. Before the first, all headers are looked at.

        Raises:
            FormatError: a PNG is not what it should be, too large, or not of its JSON; it is named.
            OSError: a PNG cannot be read.
            FaultyFilesError: several of these, as far as headers tell.
            Whatever `visit` raises.
        """
        for data in (self.target, self.prediction):
            require_folder(data.directory)  # or every PNG would be missed
        faults = [fault for found in in_order(self._check, self._pairs, self._workers) for fault in found]
        FaultyFilesError.require_none(faults)
        for image, pairs in in_order(self._count, self._pairs, self._workers):
            self.total.add(pairs)
            for text in pairs.area_warnings:
                name, _, fault = text.partition(": ")
                data, annotation = (
                    (self.target, image.target) if name == "target" else (self.prediction, image.prediction)
                )
                self.warnings.append(f"{data.directory / annotation.file_name}: {fault} in {data.path.name}")
            yield image
        if "pq" in self.total.metrics:
            self.warnings += doubt_result(self.target, self.prediction, self.total.compute().pq)

    def _check(self, images: tuple[Annotation, Annotation]) -> list[Exception]:
        """Find what is wrong with a pair of PNGs without reading their pixels."""
        predicted, true = images
        sizes, faults = list[tuple[int, int]](), list[Exception]()
        for data, annotation in ((self.prediction, predicted), (self.target, true)):
            try:
                sizes.append(data.size(annotation))
            except (FormatError, OSError) as fault:
                faults.append(fault)
        if not faults and sizes[0] != sizes[1]:
            path = self.prediction.directory / predicted.file_name
            here, there = (f"{width} × {height} px" for height, width in sizes)
            turned = "; of a photograph turned as EXIF says? deeperlab predict --no-exif leaves it as it is stored"
            hint = turned if sizes[0] == sizes[1][::-1] else ""
            faults.append(FormatError(path, f"is {here}, but its ground truth {true.file_name} {there}{hint}"))
        return faults

    def _count(self, images: tuple[Annotation, Annotation]) -> tuple[ImageEvaluation, Pairs]:
        predicted, true = images
        path = self.prediction.directory / predicted.file_name
        try:
            ids, target = self.prediction.ids(predicted), self.target.ids(true)
            sides = (ids, _listing(predicted)), (target, _listing(true))
            pairs = intersect(*sides, self.total.categories)
            alone = Evaluation(self.total.categories)
            matching = alone.add(pairs)
            assert matching is not None
            image = ImageEvaluation(true, predicted, alone.compute(), matching)
            if self._visit is not None:
                self._visit(image, *sides)
            return image, pairs
        except MemoryError as fault:
            raise FormatError(path, "too large for the memory, it or its ground truth") from fault


def _listing(annotation: Annotation) -> list[dict[str, Any]]:
    """List the segments with the areas that the file gives, so that those which disagree are found."""
    return [
        {"id": segment.id, "category_id": segment.category_id, "iscrowd": segment.iscrowd, "area": area}
        for segment, area in zip_longest(annotation.segments, annotation.stated_areas)
    ]
