# SPDX-License-Identifier: Apache-2.0
"""Where the keypoints of an instance map are: extreme pixels and mass centers, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import STAR, Graph

Integer = NDArray[np.int64]


def locate(instance: NDArray[np.integer[Any]], graph: Graph) -> tuple[Integer, Integer, NDArray[np.int32]]:
    """Find the keypoints of every instance; corners are the extreme pixels, inclusive.

    Works on the horizontal runs of equal id, of which there are far fewer than pixels.

    Returns:
        ids [N] ascending, keypoints int64 [N, P, 2] as (x, y) in pixels, and each pixel's 1-based place in `ids`,
        int32 [H, W], 0 = none.

    Raises:
        ValueError: a negative id, or a keypoint name that has no definition here.
    """
    unknown = [name for name in graph.keypoints if name not in STAR.keypoints]
    if unknown:
        raise ValueError(f"graph: expected keypoints among {STAR.keypoints}, got {unknown}")
    height, width = instance.shape
    begins = np.ones((height, width), np.bool_)
    np.not_equal(instance[:, 1:], instance[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    length = np.diff(start, append=height * width)
    label = instance.reshape(-1)[start]
    if label.min() < 0:
        raise ValueError(f"instance: expected ids >= 0, got {label.min()}")

    thing = label > 0
    ids, inverse = np.unique(label[thing], return_inverse=True)
    place = np.zeros(start.size, np.int32)
    place[thing] = inverse + 1
    index = np.repeat(place, length).reshape(height, width)

    order = np.argsort(inverse, kind="stable")
    n = length[thing][order]
    y, x0 = np.divmod(start[thing][order], width)
    first = np.searchsorted(inverse[order], np.arange(ids.size))
    x1 = x0 + n - 1
    left, right = np.minimum.reduceat(x0, first), np.maximum.reduceat(x1, first)
    top, bottom = np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)
    area = np.add.reduceat(n, first)
    # floor(mean + 1/2) in integers; (x0 + x1)·n is twice the sum of x over a run
    center_x = (np.add.reduceat((x0 + x1) * n, first) + area) // (2 * area)
    center_y = (2 * np.add.reduceat(y * n, first) + area) // (2 * area)
    where = {
        "top_left": (left, top),
        "top_right": (right, top),
        "bottom_right": (right, bottom),
        "bottom_left": (left, bottom),
        "center": (center_x, center_y),
    }
    points = np.stack([np.stack(where[name], axis=-1) for name in graph.keypoints], axis=1)
    return ids.astype(np.int64), points, index
