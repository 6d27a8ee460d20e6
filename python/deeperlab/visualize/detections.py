# SPDX-License-Identifier: Apache-2.0
"""The instances of a result in the form of another package."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..panoptic import Panoptic
from .inputs import Labels


def to_supervision(panoptic: Panoptic, labels: Any = None) -> Any:
    """Return the instances as `supervision.Detections`, best first; one such object per image of a batch.

    `xyxy` is the tight box of the pixels (`Segment.box`, x1 and y1 past the last ones), `mask` [D, H, W] the pixels,
    one byte each for every instance. Waits for the device.

    Args:
        panoptic: the result.
        labels: names of categories as of `overlay`; they become `data["class_name"]`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        supervision: Any = importlib.import_module("supervision")
    except ImportError as fault:
        raise ImportError("to_supervision needs supervision: pip install supervision") from fault
    host = panoptic.numpy()
    if host.batched:
        return [to_supervision(image, labels) for image in host]
    found = [segment for segment in host.segments if segment.score is not None]
    ids = np.array([segment.id for segment in found], np.int32)
    names = Labels(labels)
    return supervision.Detections(
        xyxy=np.array([segment.box for segment in found], np.float32).reshape(-1, 4),
        mask=host.instance == ids[:, None, None],
        confidence=np.array([segment.score for segment in found], np.float32),
        class_id=np.array([segment.category for segment in found], np.int64),
        data={"class_name": np.array([names.name(segment.category) for segment in found], np.str_)},
    )
