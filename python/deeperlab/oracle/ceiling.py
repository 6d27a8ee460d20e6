# SPDX-License-Identifier: Apache-2.0
"""The ceiling that the representation sets on a user's own annotations.

Ground truth is encoded as the heads of a perfect network, fused, and scored against itself. Beside it stands the
ceiling of the representation alone: the same heads assigned to the *true* keypoints, without any voting. Crowd and
void pixels are left out of the prediction. Each lost instance is named with the stage that lost it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..data.files import FaultyFilesError, FormatError, require_folder
from ..data.formats.coco import Annotation, Dataset
from ..data.ids import ImageId
from ..fuse import fuse
from ..graph import STAR, Graph
from ..heads import Heads
from ..metrics import Matching, PanopticQuality, QualityResult
from ..params import FuseParams
from ..stages import numpy_ops, pipeline
from ..targets import encode_heads
from .diagnose import Diagnosis, Float, Lost, Maps, Truth

NOTE = "Crowd and void pixels carry no label and are left out of the prediction."


@dataclass(frozen=True)
class ImageReport:
    """One image.

    Attributes:
        pq: of the fusion; `ceiling`: of the true keypoints.
        lost: thing segments that nothing matches.
        left_out: crowd and void pixels.
        truncated: peaks or instances were dropped for lack of room (`FuseParams.max_candidates`, `max_instances`).
    """

    image_id: ImageId
    pq: QualityResult
    ceiling: QualityResult
    lost: tuple[Lost, ...]
    left_out: int
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `pq` is that of All, None where the image counts nothing."""
        pq, ceiling = self.pq.to_dict(), self.ceiling.to_dict()
        return {
            "image_id": self.image_id,
            "pq": pq["All"]["pq"],
            "pq_things": pq["Things"]["pq"],
            "pq_stuff": pq["Stuff"]["pq"],
            "ceiling": ceiling["All"]["pq"],
            "left_out_px": self.left_out,
            "truncated": self.truncated,
            "lost": [asdict(lost) for lost in self.lost],
        }


class Oracle:
    """Score the images of a data set, adding to `pq` and `ceiling`.

    Args:
        data: the annotations; classes are numbered in the order of its categories.
        stride: of the heads, px.
        radius: of the keypoint disks, px.
        graph: the keypoints and edges of the heads; its names are among `deeperlab.targets.KEYPOINTS`.

    Raises:
        ValueError: a stride or a radius out of bounds, or a graph without keypoints.
    """

    def __init__(self, data: Dataset, *, stride: int = 4, radius: float = 25, graph: Graph = STAR) -> None:
        if stride < 1:
            raise ValueError(f"stride: expected at least 1, got {stride}")
        if not graph.keypoints:
            raise ValueError("graph: expected keypoints, by which instances are found and judged here, got none")
        self.data, self.stride, self.params = data, stride, FuseParams(radius=float(radius))
        self.graph = graph
        self._isthing = {category.id: category.isthing for category in data.categories}
        self._things = [c for c, category in enumerate(data.categories) if category.isthing]
        self.pq, self.ceiling = PanopticQuality(self._isthing), PanopticQuality(self._isthing)

    def __iter__(self) -> Iterator[ImageReport]:
        """Score every image, one after another. Before the first, the headers of all PNGs are looked at.

        Raises:
            FaultyFilesError: several of the errors of `image`, as far as headers tell.
            FormatError, OSError: as `image`.
        """
        require_folder(self.data.directory)  # or every PNG would be missed
        faults = list[Exception]()
        for annotation in self.data.annotations:
            try:
                self.data.size(annotation)
            except (FormatError, OSError) as fault:
                faults.append(fault)
        FaultyFilesError.require_none(faults)
        yield from map(self.image, self.data.annotations)

    def image(self, annotation: Annotation) -> ImageReport:
        """Score one image.

        Raises:
            FormatError: its PNG is not what it should be, or too large; it is named.
            OSError: its PNG cannot be read.
        """
        path = self.data.directory / annotation.file_name
        ids = self.data.ids(annotation)
        if any(segment.id == 0 for segment in annotation.segments):
            raise FormatError(path, f"id 0, which is void, is a segment in {self.data.path.name}")
        truth = Truth.of(ids, annotation.segments, self.data.categories, self.graph)
        try:
            heads = encode_heads(
                truth.category,
                truth.instance,
                len(self.data.categories),
                stride=self.stride,
                radius=self.params.radius,
                ignore=-1,
                graph=self.graph,
            )
            found = fuse(heads, self._things, size=truth.size, params=self.params)
        except ValueError as fault:  # more nodes than the fixed point can count
            raise FormatError(path, str(fault)) from fault
        except MemoryError as fault:
            raise FormatError(path, f"too large for the memory at stride {self.stride}") from fault
        best = assigned_to(truth.keypoints, heads, self._things, truth.size, self.params)

        target = ids, annotation.segments
        pq, matching = self._score(self.pq, (found.semantic, found.instance), truth, target)
        ceiling, best_matching = self._score(self.ceiling, best, truth, target)
        missed = [g for g, category in matching.missed if self._isthing[category]]
        lost: tuple[Lost, ...] = ()
        if missed:
            diagnosis = Diagnosis(heads, self._things, self.params, truth, found, best)
            lost_anyway = {g for g, _ in best_matching.missed}
            lost = tuple(diagnosis.explain(annotation.segments[g], g in lost_anyway) for g in missed)
        return ImageReport(annotation.image_id, pq, ceiling, lost, int(truth.ignored.sum()), bool(found.truncated))

    def summary(self, images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return all figures so far for JSON; `images`: the `to_dict()` of each report."""
        return {
            "pq": self.pq.compute().to_dict(),
            "ceiling": self.ceiling.compute().to_dict(),
            "images": list(images),
            "stride": self.stride,
            "radius": self.params.radius,
            "note": NOTE,
        }

    def _score(
        self, total: PanopticQuality, maps: tuple[Any, Any], truth: Truth, target: tuple[Any, Any]
    ) -> tuple[QualityResult, Matching]:
        """Add one image to a total, and score it alone."""
        category_id = np.array([category.id for category in self.data.categories], np.int64)
        prediction = np.where(truth.ignored, -1, category_id[maps[0]]), maps[1]
        alone = PanopticQuality(self._isthing)
        matching = alone.update(prediction, target)
        total.merge(alone)
        return alone.compute(), matching


def assigned_to(
    keypoints: Float, heads: Heads, things: Sequence[int], size: tuple[int, int], params: FuseParams
) -> Maps:
    """Return the maps that follow from given instances: keypoints float32 [N, P, 2] px in place of found ones.

    The heads are arrays of one image, without batch dimension. Without keypoints, P = 0, nothing is an instance.
    """
    keypoints = keypoints if keypoints.shape[1] else keypoints[:0]
    room = np.zeros((1, max(len(keypoints), 1), *keypoints.shape[1:]), np.float32)
    room[0, : len(keypoints)] = keypoints
    values = pipeline.run(
        numpy_ops,
        heads.map(lambda head: head[None]),
        things,
        size,
        params,
        stages=("argmax", "refine", "assign", "merge"),
        given={"keypoints": room, "count": np.array([len(keypoints)], np.int32)},
    )
    return values["semantic"][0], values["instance"][0]
