# SPDX-License-Identifier: Apache-2.0
"""The result of the fusion: maps, instances, and the forms in which others want them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layout import described


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map: an instance, or all pixels of one class that belong to no instance.

    Attributes:
        id: Its value in `Panoptic.to_ids()`: the instance number, then numbers that follow the last instance.
        category: The class, 0 … C − 1.
        isthing: Also True for orphans: pixels of a thing class that no instance claimed.
        score: Mean Expected-OKS of the keypoints; None for stuff and orphans.
        area: Pixels.
        box: Tight box of the keypoints (x0, y0, x1, y1) in px; None for stuff and orphans.
        keypoints: (x, y) in px, in the order of the graph; None for stuff and orphans.
    """

    id: int
    category: int
    isthing: bool
    score: float | None
    area: int
    box: tuple[float, float, float, float] | None
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
        return f"{described(self)[:-1]}, things={self.things})"

    def __bool__(self) -> bool:
        return True  # or `if panoptic:` would ask for len(), which a single image has none of

    def __len__(self) -> int:
        self._require_batch("len()")
        return int(self.semantic.shape[0])

    def __getitem__(self, index: int | slice) -> Panoptic:
        """One image, or a smaller batch (views)."""
        self._require_batch("indexing")
        if not isinstance(index, slice):
            index = range(len(self))[index]  # an IndexError beyond either end
        return self._map(lambda field: field[index, ...])

    def __iter__(self) -> Iterator[Panoptic]:
        return (self[i] for i in range(len(self)))

    def to(self, device: Any) -> Panoptic:
        """The same on another torch device."""
        import torch

        return self._map(lambda field: torch.as_tensor(field).to(device))

    def numpy(self) -> Panoptic:
        """The same as NumPy arrays; waits for the device."""
        return self._map(lambda field: field if isinstance(field, np.ndarray) else np.asarray(field.cpu()))

    @cached_property
    def segments(self) -> list[Any]:
        """`list[Segment]`, or one such list per image of a batch: instances 1 … in order, with gaps where one won no
        pixel, then the classes that have pixels of no instance, ascending. Waits for the device."""
        host = self.numpy()
        return [_segments(image) for image in host] if self.batched else _segments(host)

    def to_ids(self, divisor: int | None = None) -> Any:
        """One id per pixel, int32 [N, H, W], 0 = void (labels that were void).

        Args:
            divisor: None for the ids of `segments`; else category·divisor + instance + 1, as label divisors are used
                by Panoptic-DeepLab and others, but never 0, which every format takes for void.

        Raises:
            ValueError: an instance or class too large for the divisor, or for 32 bits. Waits for the device.
        """
        void = self.semantic < 0
        if divisor is not None:
            divisor = divisor.tolist() if isinstance(divisor, np.integer) else divisor
            if isinstance(divisor, bool) or not isinstance(divisor, int):
                raise TypeError(f"divisor: expected an int or None, got {divisor!r}")
            most = int(self.count.max()) if self.count.shape == () or len(self.count) else 0
            if divisor < most + 2:
                raise ValueError(f"divisor: expected at least {most + 2} for {most} instances, got {divisor}")
            if divisor * self.class_area.shape[-1] >= 2**31:
                raise ValueError(f"divisor: expected {self.class_area.shape[-1]} classes to fit 32 bits, got {divisor}")
            ids = self.semantic * divisor + self.instance + 1
        else:
            present = (self.class_area > 0).cumsum(-1)  # rank of each class among those that need an id
            if self.batched:
                table = present + self.count[:, None]
                flat = (self.semantic * ~void).reshape(len(self), self.size[0] * self.size[1])
                rank = _gather(table, flat).reshape(self.semantic.shape)
            else:
                rank = (present + self.count)[self.semantic * ~void]
            ids = self.instance + (self.instance == 0) * rank
        ids = ids * ~void
        return ids.astype(np.int32) if isinstance(ids, np.ndarray) else ids.int()

    def to_coco(self, category_ids: Mapping[int, int] | None = None) -> list[Any]:
        """The `segments_info` of the COCO panoptic format for the ids of `to_ids()`; one list per image of a batch.

        Each holds id, category_id, isthing, iscrowd (0), area, bbox = [x, y, width, height] of the mask in px, and
        score for instances. Waits for the device.

        Args:
            category_ids: class → id in the data set; by default the class itself.
        """
        if self.batched:
            return [image.to_coco(category_ids) for image in self.numpy()]
        host = self.numpy()
        if category_ids is not None and (missing := {s.category for s in host.segments} - set(category_ids)):
            raise ValueError(f"category_ids: expected an id for each class present, got none for {sorted(missing)}")
        boxes = _mask_boxes(host.to_ids())
        out = []
        for segment in host.segments:
            info: dict[str, Any] = {
                "id": segment.id,
                "category_id": segment.category if category_ids is None else category_ids[segment.category],
                "isthing": int(segment.isthing),
                "iscrowd": 0,
                "area": segment.area,
                "bbox": boxes[segment.id],
            }
            if segment.score is not None:
                info["score"] = segment.score
            out.append(info)
        return out

    def to_detectron2(self) -> Any:
        """(ids, segments_info) as Detectron2's `panoptic_seg`, one such pair per image of a batch.

        `ids` is an int32 tensor [H, W], 0 = void; each dictionary holds id, isthing, category_id (our class), area,
        and for instances instance_id (from 0) and score. Waits for the device.
        """
        import torch

        if self.batched:
            return [image.to_detectron2() for image in self]
        infos = []
        for segment in self.segments:
            info = {
                "id": segment.id,
                "isthing": segment.isthing,
                "category_id": segment.category,
                "area": segment.area,
            }
            if segment.score is not None:
                info.update(instance_id=segment.id - 1, score=segment.score)
            infos.append(info)
        return torch.as_tensor(self.to_ids()), infos

    def _map(self, function: Any) -> Panoptic:
        arrays = (field.name for field in fields(self) if field.name != "things")
        return replace(self, **{name: function(getattr(self, name)) for name in arrays})

    def _require_batch(self, what: str) -> None:
        if not self.batched:
            raise TypeError(f"{what}: expected a batch, but this is a single image")


def _segments(image: Panoptic) -> list[Segment]:
    things = set(image.things)
    out = []
    for j in range(int(image.count)):
        if image.category[j] >= 0:
            points = image.keypoints[j]
            (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            out.append(
                Segment(
                    id=j + 1,
                    category=int(image.category[j]),
                    isthing=True,
                    score=float(image.score[j]),
                    area=int(image.area[j]),
                    box=(x0, y0, x1, y1),
                    keypoints=tuple((x, y) for x, y in points.tolist()),
                )
            )
    for rank, c in enumerate(np.flatnonzero(image.class_area).tolist(), start=1):
        out.append(
            Segment(
                id=int(image.count) + rank,
                category=c,
                isthing=c in things,
                score=None,
                area=int(image.class_area[c]),
                box=None,
                keypoints=None,
            )
        )
    return out


def _gather(table: Any, index: Any) -> Any:
    """table[n, index[n, i]] for tensors and arrays."""
    if isinstance(table, np.ndarray):
        return np.take_along_axis(table, index, axis=1)
    return table.gather(1, index.long())


def _mask_boxes(ids: NDArray[np.int32]) -> dict[int, list[int]]:
    """[x, y, width, height] of every id's pixels."""
    height, width = ids.shape
    most = int(ids.max()) + 1
    in_row = np.zeros((height, most), dtype=bool)
    in_column = np.zeros((width, most), dtype=bool)
    in_row[np.arange(height)[:, None], ids] = True
    in_column[np.arange(width)[None, :], ids] = True
    top, left = in_row.argmax(axis=0), in_column.argmax(axis=0)
    bottom, right = height - in_row[::-1].argmax(axis=0), width - in_column[::-1].argmax(axis=0)
    return {
        i: [int(left[i]), int(top[i]), int(right[i] - left[i]), int(bottom[i] - top[i])]
        for i in range(most)
        if in_row[:, i].any()
    }
