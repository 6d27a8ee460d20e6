# SPDX-License-Identifier: Apache-2.0
"""The top-down merge in plain NumPy: read it beside section 7 of Panoptic Segmentation (Kirillov et al., 2019), and
beside panopticapi and Detectron2, which publish its details; the compiled forms must give its bits.

N images of H × W px, K detections in each, C classes, M = max_instances. Boxes are (x0, y0, x1, y1) in px, where pixel
x reaches from x to x + 1. As in `reference`, arithmetic is float32 unless it is said to be double.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reference import argmax

Array = NDArray[Any]
Axis = tuple[int, int, Array, Array]
HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)


def paste_axis(low: Any, high: Any, side: int, length: int, paste: str) -> Axis:
    """Lay the m = `side` samples of a mask over [low, high] px of an axis of `length` pixels.

    Returns:
        The pixels [begin, end) that the mask may reach, and for each the sample before it (0 … m; 0 and m + 1 are a
        frame of zeros, the mask's own count from 1) and how far it is past that.
    """
    samples = np.float32(side)
    if paste == "detectron2":  # the box as it is; m samples across it, at (i + 1/2) / m
        width = high - low
        if not width > 0:
            return 0, 0, np.empty(0, np.int64), np.empty(0, np.float32)
        margin = width * HALF / samples
        begin, end = (int(np.clip(edge, 0, length)) for edge in (low - margin - ONE, high + margin + ONE))
        origin, scale, shift = low, samples / width, HALF
    else:  # a sample more on each side, then whole pixels from first to last, both inclusive
        center, half = (high + low) * HALF, (high - low) * HALF * ((samples + TWO) / samples)
        first, last = int(center - half), int(center + half)
        begin, end = min(max(first, 0), length), min(max(last + 1, 0), length)
        origin, scale, shift = np.float32(first), (samples + TWO) / np.float32(max(last - first + 1, 1)), -HALF
    pixel = np.arange(begin, max(begin, end)).astype(np.float32)
    at = np.clip((pixel + HALF - origin) * scale + shift, np.float32(0), np.float32(side + 1))
    before = np.minimum(at.astype(np.int64), side)
    return begin, max(begin, end), before, at - before.astype(np.float32)


@np.errstate(over="ignore", invalid="ignore")
def _blend(a: Array, b: Array, f: Array) -> Array:
    return np.where(f == 0, a, a * (ONE - f) + b * f)


def paste_mask(mask: Array, box: Array, size: tuple[int, int], *, paste: str, least: np.float32) -> Array:
    """Whether each pixel of an image is in a mask of m × m probabilities: bool [H, W].

    Bilinear, along y first; between two samples of a row that both reach `least`, or both do not, pixels do as they do.
    """
    side = len(mask)
    framed = np.pad(mask.astype(np.float32), ((1, 2), (1, 2)))
    y0, y1, row, past_y = paste_axis(box[1], box[3], side, size[0], paste)
    x0, x1, column, past_x = paste_axis(box[0], box[2], side, size[1], paste)
    rows = _blend(framed[row], framed[row + 1], past_y[:, None])
    left, right = rows[:, column], rows[:, column + 1]
    reaches = left >= least
    inside = np.where(reaches == (right >= least), reaches, _blend(left, right, past_x) >= least)
    out = np.zeros(size, bool)
    out[y0:y1, x0:x1] = inside
    return out


def least_probability(mask_threshold: float, paste: str) -> np.float32:
    """The least probability of a pixel in a mask: Detectron2 takes the threshold and more, torchvision what is more."""
    least = np.maximum(np.float32(mask_threshold), np.finfo(np.float32).tiny)
    return np.float32(np.nextafter(least, np.float32(np.inf)) if paste == "torchvision" else least)


def top_down(
    semantic: Array,
    masks: Array,
    boxes: Array,
    scores: Array,
    labels: Array,
    *,
    things: Sequence[int],
    stuff: Sequence[int],
    num_classes: int,
    stride: int,
    size: tuple[int, int],
    paste: str,
    mask_threshold: float,
    score_threshold: float,
    overlap_threshold: float,
    stuff_area: int,
    max_instances: int,
) -> tuple[Array, ...]:
    """Detections and a semantic map become panoptic maps.

    Args:
        semantic: logits [N, C, h, w], or labels [N, H, W].
        masks: probabilities float [N, K, m, m], pasted into their boxes; or uint8 [N, K, H, W], not 0 in the mask.
        boxes: float32 [N, K, 4].
        scores: float32 [N, K].
        labels: int32 [N, K], of `things`.
        things: the classes of detections.
        stuff: the classes of `semantic` that fill what no detection takes.
        num_classes, stride, size, paste, mask_threshold, score_threshold, overlap_threshold, stuff_area,
            max_instances: see `deeperlab.merge_top_down`.

    Returns:
        semantic, instance int32 [N, H, W]; score float32 [N, M]; category, area int32 [N, M]; class_area int32 [N, C];
        count int32 [N]; truncated bool [N].
    """
    n, detections = scores.shape
    nodes = semantic.shape[2:] if semantic.ndim == 4 else (1, 1)
    label = argmax(semantic, num_classes=num_classes, stride=stride, nodes=nodes, size=size)[1]
    instance = np.zeros((n, *size), np.int32)
    score, count = np.zeros((n, max_instances), np.float32), np.zeros(n, np.int32)
    category, area = np.full((n, max_instances), -1, np.int32), np.zeros((n, max_instances), np.int32)
    class_area, truncated = np.zeros((n, num_classes), np.int32), np.zeros(n, bool)
    least = least_probability(mask_threshold, paste)
    for i in range(n):
        candidates = [k for k in range(detections) if float(scores[i, k]) >= score_threshold]
        for k in sorted(candidates, key=lambda k: (-scores[i, k], k)):
            if masks.dtype == np.uint8:
                mask = masks[i, k] != 0
            else:
                mask = paste_mask(masks[i, k], boxes[i, k], size, paste=paste, least=least)
            taken = instance[i] > 0
            pixels, overlap = int(mask.sum()), int((mask & taken).sum())
            if pixels == 0 or overlap / pixels > overlap_threshold:  # double
                continue
            if count[i] == max_instances:
                truncated[i] = True
                break
            place = count[i]
            count[i] += 1
            instance[i][mask & ~taken] = count[i]
            score[i, place], area[i, place] = scores[i, k], pixels - overlap
            category[i, place] = labels[i, k] if pixels > overlap else -1
        free = instance[i] == 0
        for c in stuff:
            pixels = int((free & (label[i] == c)).sum())
            class_area[i, c] = pixels if pixels >= stuff_area else 0
        kept = np.append(class_area[i] > 0, False)  # void, −1, is the last
        label[i] = np.where(free, np.where(kept[label[i]], label[i], -1), category[i][instance[i] - 1])
    return label, instance, score, category, area, class_area, count, truncated
