# SPDX-License-Identifier: Apache-2.0
"""The view of instances: keypoints, the graph's edges between them, boxes, scores and names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layout import as_array
from ..graph import STAR, Graph
from ..targets import locate
from . import inputs
from .colors import RGB, SHADES, Picture, palette
from .lettering import Box, write_tag
from .segments import paint
from .strokes import gray, strokes

DIM = 115
"""Weight of the night that falls on all but instances, in 256ths."""
NIGHT: RGB = (18, 22, 34)


@dataclass(frozen=True, eq=False)
class Instance:
    """One instance: its number in the map from 1, and keypoints [P, 2] as (x, y) in px; a ground truth has no score.

    `box` holds the first and the last pixel, [2, 2] as (x, y).
    """

    number: int
    category: int
    score: float | None
    keypoints: NDArray[np.float64]
    box: NDArray[np.float64]


def instances(
    image: Any,
    panoptic: Any,
    labels: Any = None,
    *,
    graph: Graph = STAR,
    opacity: float = 0.45,
    text: bool = True,
    num_threads: int | None = None,
) -> Picture:
    """Draw the instances of a panoptic map: what the heads of keypoints and offsets have found.

    Each has a color of its own, in which its pixels are tinted and its keypoints, the graph's edges between them and
    the corners of the box of its pixels are drawn; above it stand its name and score. All else is darkened. Needs
    Pillow.

    Args:
        image: RGB of 8 bits, [H, W, 3] array or tensor, or Pillow image; None draws on gray.
        panoptic: a `Panoptic` of one image; or (category, instance) maps [H, W], whose keypoints are those of a
            ground truth, see `deeperlab.targets.keypoints`.
        labels: names of categories as of `overlay`.
        graph: the keypoints and edges of the heads.
        opacity: of the tint, 0 to 1, in steps of 1/256.
        text: write names and scores.
        num_threads: by default as many as there are processors that the process may use.

    Returns:
        RGB [H, W, 3].

    Raises:
        ValueError: shapes that differ, an opacity out of range, a graph of other keypoints.
        TypeError: maps that are not integers, an image that is not of 8 bits.
        ImportError: without Pillow.
    """
    known = inputs.Labels(labels)
    category, instance = inputs.maps(panoptic)
    base = inputs.picture(image, category.shape)
    if hasattr(panoptic, "keypoints"):
        found, numbers = _of_result(panoptic, instance, graph), instance
    else:
        found, numbers = _of_maps(category, instance, graph)
    colors = palette(SHADES)
    drawn = paint(
        gray(base),
        np.zeros_like(numbers),
        numbers,
        np.concatenate((np.array([NIGHT], np.uint8), colors))[None],
        stuff=DIM,
        thing=inputs.weight(opacity),
        num_threads=num_threads,
    )
    if not drawn.size:
        return drawn
    edges = tuple(sorted({(min(edge), max(edge)) for edge in graph.edges}))
    center = graph.keypoints.index("center") if "center" in graph.keypoints else None
    inks: list[RGB] = [tuple(color) for color in colors.tolist()]
    for one in reversed(found):  # the first are drawn last, over the others
        strokes(drawn, one.keypoints, one.box, edges, center, inks[(one.number - 1) % SHADES])
    occupied: list[Box] = []
    for one in found if text else ():
        score = "" if one.score is None else f" {one.score:.2f}"
        write_tag(drawn, known.name(one.category) + score, one.box, inks[(one.number - 1) % SHADES], occupied)
    return drawn


def _of_result(panoptic: Any, instance: inputs.Map, graph: Graph) -> list[Instance]:
    """Those that have pixels, best first."""
    count = int(panoptic.count)
    keypoints, score, category = (as_array(getattr(panoptic, n)) for n in ("keypoints", "score", "category"))
    if keypoints.shape[-2] != len(graph.keypoints):
        raise ValueError(f"graph: expected {keypoints.shape[-2]} keypoints, as the result has, got {graph.keypoints}")
    height, width = panoptic.semantic.shape
    points = np.nan_to_num(keypoints.astype(np.float64)).clip((-width, -height), (2 * width, 2 * height))
    boxes = inputs.boxes(instance, count)
    return [
        Instance(j + 1, int(category[j]), float(score[j]), points[j], boxes[j])
        for j in range(count)
        if category[j] >= 0
    ]


def _of_maps(category: inputs.Map, instance: inputs.Map, graph: Graph) -> tuple[list[Instance], inputs.Map]:
    """Smallest boxes first, and the map of their numbers."""
    if not category.size:
        return [], instance
    thing = (category >= 0) & (instance != 0)
    keys = np.where(thing, (category.astype(np.int64) << 32) + (instance.astype(np.int64) & 0xFFFFFFFF), 0)
    ids, points, numbers = locate(keys, graph)
    boxes = inputs.boxes(numbers, ids.size)
    found = [Instance(j + 1, int(key >> 32), None, points[j].astype(np.float64), boxes[j]) for j, key in enumerate(ids)]
    return sorted(found, key=lambda one: np.prod(np.ptp(one.box, axis=0))), numbers
