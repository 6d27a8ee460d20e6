# SPDX-License-Identifier: Apache-2.0
"""The heads of an image as pictures, over the darkened image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.labels import LabelSet
from ..heads import Heads
from ..predictor import nearest_pixel
from ..visualize import overlay, palette
from .batches import SOME_STUFF

Picture = NDArray[np.uint8]
Float = NDArray[np.floating[Any]]
DIM = 0.3
"""Brightness of the image below what a head says."""
STRENGTH = 0.9
"""Weight of a color where a head is sure."""
GRAY = (128, 128, 128)


def views(
    image: Picture,
    heads: Heads,
    size: tuple[int, int],
    labels: LabelSet,
    wanted: NDArray[np.int32] | None = None,
) -> dict[str, Picture]:
    """Draw the heads of an image: what each says, and what follows it.

    * semantic: the best class of every node.
    * heatmap: the likeliest keypoint, a color for each, as strong as it is likely.
    * short_range: the offset to that keypoint, and middle_range: the offset along the first edge that leaves it, where
      it is likely; long_range: the offset to the center (or to the first keypoint), on nodes of thing classes. The hue
      is the direction, see `wheel`, and the light is the length, full at the longest 1 %.

    Without keypoints there is the first alone.

    Args:
        image: RGB [h, w, 3], at any size.
        heads: of one image, arrays or tensors.
        size: (H, W) px at which the network saw it.
        labels: of the classes.
        wanted: int32 of the nodes, what a sample asks for in place of the best class: `VOID`, nothing, which stays
            untinted, and `SOME_STUFF`, any class of stuff, which is `GRAY` and has that name.

    Returns:
        Title → RGB [h, w, 3], in the order of the heads.
    """
    at = _nodes(heads, size, image.shape[:2])
    dark = DIM * image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    classes = _host(heads.semantic).argmax(axis=0).astype(np.int32) if wanted is None else wanted
    shown = np.where(classes == SOME_STUFF, len(labels), classes)[at]
    names, colors = (*labels.names, "some stuff"), (*labels.colors, GRAY)
    drawn = {"semantic": overlay(image, (shown, np.zeros_like(shown)), names, colors=colors, opacity=1)}
    if not heads.graph.keypoints:
        return drawn
    heatmap, short, middle, long = (
        _host(head) for head in (heads.heatmap, heads.short_range, heads.middle_range, heads.long_range)
    )
    kind = heatmap.argmax(axis=0)
    share = 1 / (1 + np.exp(-np.clip(heatmap.max(axis=0), -30, 30)))
    likely = share > 0.5
    graph = heads.graph
    edge_from = np.array(
        [next((e for e, (a, _) in enumerate(graph.edges) if a == k), 0) for k in range(len(graph.keypoints))]
    )
    goal = graph.keypoints.index("center") if "center" in graph.keypoints else 0
    things = np.isin(classes, labels.things)

    def on_image(color: NDArray[Any], weight: NDArray[Any]) -> Picture:
        strength = STRENGTH * weight[at][..., None]
        return np.asarray(np.rint(dark + strength * (color[at] - dark)), np.uint8)

    return drawn | {
        "heatmap": on_image(palette(len(graph.keypoints))[kind], share),
        "short-range offsets": on_image(_colored(_pick(short, kind), likely), likely),
        "middle-range offsets": on_image(_colored(_pick(middle, edge_from[kind]), likely), likely),
        f"long-range offsets to {graph.keypoints[goal].replace('_', ' ')}": on_image(
            _colored(long[2 * goal : 2 * goal + 2], things), things
        ),
    }


def wheel(side: int) -> tuple[Picture, NDArray[np.bool_]]:
    """Draw the colors of directions as a disk: RGB [side, side, 3], and where it is. The offset leads outward."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(axis, axis)
    length = np.hypot(x, y)
    return np.rint(_of_direction(x, y, length)).astype(np.uint8), length <= 1


def _host(head: Any) -> Float:
    return np.asarray(head if isinstance(head, np.ndarray) else head.float().cpu().numpy(), np.float32)


def _nodes(heads: Heads, size: tuple[int, int], shape: tuple[int, ...]) -> Any:
    """Index of the nearest node of every pixel of a picture, for maps [h, w]."""
    grid = heads.heatmap.shape[-2:]
    y, x = (
        np.minimum((nearest_pixel(np.arange(new), old, new) + heads.stride // 2) // heads.stride, nodes - 1)
        for new, old, nodes in zip(shape, size, grid, strict=True)
    )
    return y[:, None], x


def _pick(offsets: Float, index: NDArray[np.integer[Any]]) -> Float:
    """The pair of channels that each node is to show, [2, h, w]."""
    pairs = offsets.reshape(-1, 2, *offsets.shape[1:])
    return np.asarray(np.take_along_axis(pairs, index[None, None], axis=0)[0])


def _colored(offset: Float, shown: NDArray[np.bool_]) -> Float:
    """Colors of offsets [2, h, w], by direction and length; the length counts against those that are shown."""
    length = np.hypot(offset[0], offset[1])
    longest = float(np.percentile(length[shown], 99)) if shown.any() else 1.0
    return _of_direction(offset[0], offset[1], length / max(longest, 1e-6))


def _of_direction(x: Float, y: Float, length: Float) -> Float:
    """A hue for each direction, light by length in 0 … 1."""
    angle = np.arctan2(y, x)[..., None] - np.array([0, 2, 4], np.float32) * (math.pi / 3)
    pure = 0.5 + 0.5 * np.cos(angle)
    light = 0.25 + 0.75 * np.sqrt(np.clip(length, 0, 1))[..., None]
    return np.asarray(255 * light * (0.12 + 0.88 * pure))
