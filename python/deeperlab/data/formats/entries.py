# SPDX-License-Identifier: Apache-2.0
"""The entries of a file in COCO's panoptic format: categories, segments, and images with their segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._runs import find_runs, pixel_boxes
from .._lookup import relabel
from ..ids import ImageId


@dataclass(frozen=True)
class Category:
    """One entry of `categories`."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] | None = None
    """RGB, 0 to 255."""


@dataclass(frozen=True)
class SegmentInfo:
    """One entry of `segments_info`; `area` and `bbox` (x, y, width, height) come from `describe`, never from a file.
    `score` is of an instance that was predicted; it is written, and ignored by `read`."""

    id: int
    category_id: int
    iscrowd: bool = False
    area: int | None = None
    bbox: tuple[int, int, int, int] | None = None
    score: float | None = None


@dataclass(frozen=True)
class Annotation:
    """One image: its id, the name of its PNG, its segments, and what `images` tells (None where there is none)."""

    image_id: ImageId
    file_name: str
    segments: tuple[SegmentInfo, ...]
    image_file_name: str | None = None
    height: int | None = None
    width: int | None = None
    stated_areas: tuple[float | None, ...] = field(default=(), compare=False)
    """What the file gives as the area of each segment: to be compared with the PNG, never to be relied on."""


def describe(ids: NDArray[Any], category: Mapping[int, int]) -> tuple[SegmentInfo, ...]:
    """Measure every segment of an id map [H, W], ids ascending, 0 left out; `category`: id → category id."""
    runs = find_runs(ids)
    index, values = relabel(ids.reshape(-1)[runs.start])
    area = np.bincount(index, runs.length, len(values)).astype(np.int64)
    boxes = pixel_boxes(runs, index, len(values))
    return tuple(
        SegmentInfo(value, category[value], area=pixels, bbox=(x0, y0, x1 - x0, y1 - y0))
        for value, pixels, (x0, y0, x1, y1) in zip(values.tolist(), area.tolist(), boxes.tolist(), strict=True)
        if value != 0
    )


def to_json(entry: Category | SegmentInfo) -> dict[str, Any]:
    """Turn an entry of `categories` or `segments_info` into JSON: flags are 0 or 1, what is None is left out."""
    return {k: int(v) if isinstance(v, bool) else v for k, v in asdict(entry).items() if v is not None}
