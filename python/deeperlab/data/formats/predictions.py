# SPDX-License-Identifier: Apache-2.0
"""Fused maps as entries of a file of predictions, for `coco.write`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..ids import ImageId
from ..labels import LabelSet
from .coco import Annotation, Category, SegmentInfo

if TYPE_CHECKING:
    from ...panoptic import Panoptic


def entry(
    panoptic: Panoptic, image_id: ImageId, file_name: str, *, labels: LabelSet | None = None
) -> tuple[Annotation, NDArray[np.int32]]:
    """Make one image of `coco.write`'s entries: its annotation and its segment ids [H, W].

    Args:
        panoptic: a single image.
        image_id: as in the annotations that the predictions will be held against.
        file_name: of the PNG, inside the folder of PNGs.
        labels: gives classes their ids in the data set; None: category id = class + 1.

    Raises:
        TypeError: a batch; write image after image.
        ValueError: other than as many classes as `labels` has.
    """
    if panoptic.batched:
        raise TypeError(f"panoptic: expected a single image, got a batch of {len(panoptic)}; use panoptic[i]")
    classes = panoptic.class_area.shape[-1]
    if labels is not None and len(labels) != classes:
        raise ValueError(f"labels: expected {classes} classes as the heads have, got {len(labels)} of {labels.name}")
    ids = range(1, classes + 1) if labels is None else labels.ids
    id_map, infos = panoptic.to_coco(dict(enumerate(ids)))
    segments = tuple(
        SegmentInfo(
            info["id"],
            info["category_id"],
            area=info["area"],
            bbox=tuple(info["bbox"]),
            score=round(info["score"], 6) if "score" in info else None,
        )
        for info in infos
    )
    return Annotation(image_id, file_name, segments), id_map


def categories(classes: int, things: tuple[int, ...], labels: LabelSet | None = None) -> tuple[Category, ...]:
    """Return the categories that `entry` refers to."""
    if labels is not None:
        return labels.categories
    return tuple(Category(c + 1, f"class {c}", c in set(things)) for c in range(classes))
