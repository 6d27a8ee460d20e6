# SPDX-License-Identifier: Apache-2.0
"""The result of the fusion: maps, instances, and the forms in which others want them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ._layout import require_torch, summarize
from ._runs import Runs, find_runs, pixel_boxes, spread


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map: an instance, or all pixels of one class that belong to no instance.

    Boxes are (x0, y0, x1, y1) in px.

    Attributes:
        id: Its value in the maps of `to_coco` and `to_detectron2`: the instance number, then numbers that follow the
            last instance.
        category: The class, 0 … C − 1.
        isthing: Also True for orphans: pixels of a thing class that no instance claimed.
        score: Mean Expected-OKS of the keypoints; None for stuff and orphans.
        area: Pixels.
        box: Tight box of the pixels: columns x0 … x1 − 1, rows y0 … y1 − 1, so that COCO's [x, y, width, height] is
            [x0, y0, x1 − x0, y1 − y0].
        keypoint_box: Tight box of the keypoints, from coordinate to coordinate, which may leave the pixels and the
            image; None for stuff, orphans and instances without keypoints.
        keypoints: (x, y) in px, in the order of the graph; None where there are none, as for `keypoint_box`.
    """

    id: int
    category: int
    isthing: bool
    score: float | None
    area: int
    box: tuple[int, int, int, int]
    keypoint_box: tuple[float, float, float, float] | None
    keypoints: tuple[tuple[float, float], ...] | None


@dataclass(frozen=True, eq=False, repr=False)
class Panoptic:
    """A panoptic map, or a batch of N of them. M is `FuseParams.max_instances`.

    Fields are tensors on the device of the heads, or NumPy arrays; without the N where the heads had none. Nothing
    here waits for a GPU until `segments` or a method that says so is used.

    Attributes:
        semantic: int32 [N, H, W]: the final class of every pixel; −1 where the given labels were void.
        instance: int32 [N, H, W]: 1 … count, best first; 0 = none.
        keypoints: float32 [N, M, P, 2]: (x, y) in px; 0 past `count`, as `score` and `area`.
        score: float32 [N, M].
        category: int32 [N, M]: the class of each instance; −1 where it has no segment.
        area: int32 [N, M]: pixels of each instance.
        class_area: int32 [N, C]: pixels of each class that belong to no instance.
        count: int32 [N]: instances found.
        truncated: bool [N]: there were more peaks than `max_candidates` or more instances than `max_instances`.
        things: The thing classes, ascending.
    """

    semantic: Any
    instance: Any
    keypoints: Any
    score: Any
    category: Any
    area: Any
    class_area: Any
    count: Any
    truncated: Any
    things: tuple[int, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether there is a leading batch dimension."""
        return bool(self.semantic.ndim == 3)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.semantic.shape[-2]), int(self.semantic.shape[-1])

    def __repr__(self) -> str:
        return f"{summarize(self)[:-1]}, things={self.things})"

    def __bool__(self) -> bool:
        return True  # or `if panoptic:` would ask for len(), which a single image has none of

    def __len__(self) -> int:
        self._require_batch("len()")
        return int(self.semantic.shape[0])

    def __getitem__(self, index: int | slice) -> Panoptic:
        """Return one image, or a smaller batch (views)."""
        self._require_batch("indexing")
        if not isinstance(index, slice):
            index = range(len(self))[index]  # an IndexError beyond either end
        return self._map(lambda field: field[index, ...])

    def __iter__(self) -> Iterator[Panoptic]:
        return (self[i] for i in range(len(self)))

    def to(self, device: Any, *, non_blocking: bool = False) -> Panoptic:
        """Move the fields to a torch device, `non_blocking` as tensors do; an ImportError without torch."""
        require_torch("Panoptic.to")
        import torch

        return self._map(lambda field: torch.as_tensor(field).to(device, non_blocking=non_blocking))

    def numpy(self) -> Panoptic:
        """Convert the fields to NumPy arrays; waits for the device."""
        return self._map(lambda field: field if isinstance(field, np.ndarray) else np.asarray(field.cpu()))

    @cached_property
    def segments(self) -> list[Segment]:
        """The segments of one image: instances 1 … in order, with gaps where one won no pixel, then the classes that
        have pixels of no instance, ascending. Waits for the device.

        Raises:
            TypeError: a batch; it has `batch_segments`, and each of its images has `segments`.
        """
        if self.batched:
            remedy = "use batch_segments, or panoptic[i].segments"
            raise TypeError(f"segments: expected a single image, but this is a batch of {len(self)}; {remedy}")
        return _segments(self.numpy(), *self._segment_runs)

    @cached_property
    def batch_segments(self) -> list[list[Segment]]:
        """The `segments` of every image of a batch. Waits for the device.

        Raises:
            TypeError: a single image.
        """
        self._require_batch("batch_segments")
        return [image.segments for image in self.numpy()]

    def to_ids(self, divisor: int, *, void: int = -1) -> Any:
        """Return category · divisor + instance of every pixel, int32 [N, H, W], as Panoptic-DeepLab and DeepLab2 do.

        Instance 0 is none, so class 0 without instance is 0. The ids of COCO's format are those of `to_coco`.

        Args:
            divisor: more than the number of instances, e.g. 1000.
            void: the number of pixels without a class (labels that were void), e.g. ignore_label · divisor.

        Raises:
            ValueError: a divisor with room for too few instances or beyond 32 bits, or a void that is an id. Waits for
                the device.
            TypeError: no integers.
        """
        divisor, void = _integer("divisor", divisor), _integer("void", void)
        classes = self.class_area.shape[-1]
        most = int(self.count.max()) if self.count.shape == () or len(self.count) else 0
        if divisor < most + 1:
            raise ValueError(f"divisor: expected at least {most + 1} for {most} instances, got {divisor}")
        if divisor * classes > 2**31:
            raise ValueError(f"divisor: expected {classes} classes to fit 32 bits, got {divisor}")
        if 0 <= void < divisor * classes or not -(2**31) <= void < 2**31:
            ids = f"0 to {divisor * classes - 1}, the ids of {classes} classes"
            raise ValueError(f"void: expected an integer of 32 bits that is none of {ids}, got {void}")
        labeled = self.semantic >= 0
        ids = (self.semantic * divisor + self.instance) * labeled + void * ~labeled
        return _int32(ids)

    def to_coco(self, category_ids: Mapping[int, int] | None = None) -> Any:
        """Return (ids, segments_info) of COCO's panoptic format, or a list of pairs, one per image of a batch.

        `ids` is an int32 array [H, W], 0 = void. Each segment is a dictionary of id, category_id, isthing, iscrowd (0),
        area, bbox = [x, y, width, height] of its pixels in px, and score for instances. Waits for the device.

        Args:
            category_ids: class → id in the data set; by default the class itself.

        Raises:
            ValueError: a class that is present has no id.
            TypeError: other than a mapping.
        """
        if category_ids is not None and not isinstance(category_ids, Mapping):
            text = f"expected a mapping, got {type(category_ids).__name__}; of a label set: dict(enumerate(labels.ids))"
            raise TypeError(f"category_ids: {text}")
        if self.batched:
            return [image.to_coco(category_ids) for image in self.numpy()]
        if category_ids is not None and (missing := {s.category for s in self.segments} - set(category_ids)):
            raise ValueError(f"category_ids: expected an id for each class present, got none for {sorted(missing)}")
        infos = []
        for segment in self.segments:
            x0, y0, x1, y1 = segment.box
            info: dict[str, Any] = {
                "id": segment.id,
                "category_id": segment.category if category_ids is None else category_ids[segment.category],
                "isthing": int(segment.isthing),
                "iscrowd": 0,
                "area": segment.area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            if segment.score is not None:
                info["score"] = segment.score
            infos.append(info)
        runs, ids = self._segment_runs
        return spread(runs, ids, self.size), infos

    def to_detectron2(self) -> Any:
        """Return (ids, segments_info) as Detectron2's `panoptic_seg`, or a list of pairs, one per image of a batch.

        `ids` is an int32 tensor [H, W], 0 = void; each dictionary holds id, isthing, category_id (our class), area,
        and for instances instance_id (from 0) and score. Waits for the device.

        Raises:
            ImportError: torch is not installed.
        """
        require_torch("to_detectron2")
        import torch

        if self.batched:
            return [image.to_detectron2() for image in self]
        infos = []
        for segment in self.segments:
            info: dict[str, Any] = {
                "id": segment.id,
                "isthing": segment.isthing,
                "category_id": segment.category,
                "area": segment.area,
            }
            if segment.score is not None:
                info.update(instance_id=segment.id - 1, score=segment.score)
            infos.append(info)
        return torch.as_tensor(self._segment_ids()), infos

    @cached_property
    def _segment_runs(self) -> tuple[Runs, Any]:
        """The runs of one segment each, and the segment's id of every run, [R]."""
        image = self.numpy()
        classes = np.flatnonzero(image.class_area)
        id_of_class = np.zeros(len(image.class_area) + 1, np.int64)  # void, −1, is the last: 0
        id_of_class[classes] = int(image.count) + 1 + np.arange(len(classes))
        runs = find_runs(image.semantic, image.instance)
        instance, category = (np.ravel(values)[runs.start] for values in (image.instance, image.semantic))
        return runs, np.where(instance > 0, instance, id_of_class[category])

    def _segment_ids(self) -> Any:
        """The id of each pixel's segment, int32 [H, W], 0 = void, where the fields are; of a single image."""
        labeled = self.semantic >= 0
        class_id = self.count + (self.class_area > 0).cumsum(-1)  # past the instances, only for classes that need one
        return _int32(self.instance + (self.instance == 0) * labeled * class_id[self.semantic * labeled])

    def _map(self, function: Any) -> Panoptic:
        arrays = (field.name for field in fields(self) if field.name != "things")
        return replace(self, **{name: function(getattr(self, name)) for name in arrays})

    def _require_batch(self, what: str) -> None:
        if not self.batched:
            raise TypeError(f"{what}: expected a batch, but this is a single image")


def _segments(image: Panoptic, runs: Runs, ids: Any) -> list[Segment]:
    things, count = set(image.things), int(image.count)
    classes = np.flatnonzero(image.class_area).tolist()
    boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in pixel_boxes(runs, ids, count + 1 + len(classes)).tolist()]
    segments = []
    for j in range(count):
        if image.category[j] >= 0:
            points = [(x, y) for x, y in image.keypoints[j].tolist()]
            segments.append(
                Segment(
                    id=j + 1,
                    category=int(image.category[j]),
                    isthing=True,
                    score=float(image.score[j]),
                    area=int(image.area[j]),
                    box=boxes[j + 1],
                    keypoint_box=_box_of(points),
                    keypoints=tuple(points) or None,
                )
            )
    for segment_id, c in enumerate(classes, count + 1):
        segments.append(
            Segment(
                id=segment_id,
                category=c,
                isthing=c in things,
                score=None,
                area=int(image.class_area[c]),
                box=boxes[segment_id],
                keypoint_box=None,
                keypoints=None,
            )
        )
    return segments


def _box_of(points: list[tuple[float, float]]) -> tuple[float, float, float, float] | None:
    if not points:
        return None
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x), max(y)


def _integer(name: str, value: Any) -> int:
    value = value.tolist() if isinstance(value, np.integer) else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    return value


def _int32(ids: Any) -> Any:
    return ids.astype(np.int32) if isinstance(ids, np.ndarray) else ids.int()
