# SPDX-License-Identifier: Apache-2.0
"""Every stage of the fusion (section 3.4) in plain NumPy: read it beside the paper; the kernels must give its bits.

N images of H × W px (`size`), C classes, P keypoints, E edges. Node (i, j) of h × w is pixel (y, x) = (s·i, s·j), s the
stride; vote cell (i, j) of vh × vw is pixel (c·i, c·j), c = max(s, vote_cell). K = max_candidates, M = max_instances.
Points and offsets are (x, y) in px; `things` are class ids; instances count from 1; rows past `count` are padding, 0.

Arithmetic is float32, rounded once per operation as written: all constants are float32 scalars, for NumPy 1 may widen a
Python float; only `float(...)` and `math` are double. Arguments are valid (the public `fuse` checks); heads may hold
NaN, ±inf and anything that overflows.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeperlab.graph import Graph

Array = NDArray[Any]
Size = tuple[int, int]
ZERO, ONE, TWO, OKS_UNIT = np.float32(0), np.float32(1), np.float32(2), np.float32(2**15)
INF, NAN = np.float32(np.inf), np.float32(np.nan)


def exp(x: Array) -> Array:
    """eˣ of float32 [...], within 0.95 ulp, never subnormal. x = n·ln 2 + r, eʳ = 1 + r + r²·p(r), eˣ = 2ⁿ·eʳ."""
    high, low = np.float32(88.72283), np.float32(-87.33654)  # ln of the greatest and the least normal float32
    inside = (x >= low) & (x <= high)  # False for NaN
    z = np.where(inside, x, ZERO)
    n = np.rint(z * np.float32(1.44269504))
    r = (z - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)  # ln 2 in two parts, the first exact
    p = np.full_like(r, np.float32(1.97902984e-4))
    for coefficient in (1.39447036e-3, 8.33349734e-3, 4.16662944e-2, 1.66666659e-1, 0.5):
        p = p * r + np.float32(coefficient)
    e = ((r * r) * p + r) + ONE
    whole = n.astype(np.int32)
    half = whole // np.int32(2)
    for power in (half, whole - half):  # in two steps, since 2¹²⁸ is no float32
        e = e * ((power + np.int32(127)) << np.int32(23)).view(np.float32)  # 2^power, from its bits
    return np.where(inside, e, np.where(x > high, INF, np.where(x < low, ZERO, NAN)))


def sigmoid(v: Array) -> Array:
    """1 / (1 + e⁻ᵛ) of float32 [...]; 0 for NaN."""
    return np.where(np.isnan(v), ZERO, ONE / (ONE + exp(-v)))


@np.errstate(over="ignore", invalid="ignore")
def _blend(a: Array, b: Array, f: Array) -> Array:
    """a·(1 − f) + b·f; where f = 0 it is a whatever b holds: a neighbor of weight zero is not read."""
    return np.where(f == 0, a, a * (ONE - f) + b * f)


def _clamp(x: Array, high: int) -> Array:
    """Clamp x to [0, high]; the order of comparison sends NaN and -0 to 0."""
    x = np.where(x > ZERO, x, ZERO)
    return np.where(x < np.float32(high), x, np.float32(high))


def sample(field: Array, x: Array, y: Array) -> Array:
    """Bilinear sample of float32 [h, w] at grid coordinates x, y [...], clamped to the grid; along x, then along y."""
    x, y = _clamp(x, field.shape[1] - 1), _clamp(y, field.shape[0] - 1)
    x0, y0 = x.astype(np.intp), y.astype(np.intp)
    fx, fy = x - x0.astype(np.float32), y - y0.astype(np.float32)
    x1, y1 = x0 + (fx > 0), y0 + (fy > 0)
    return _blend(_blend(field[y0, x0], field[y0, x1], fx), _blend(field[y1, x0], field[y1, x1], fx), fy)


@np.errstate(over="ignore", invalid="ignore")
def resample(head: Array, *, stride: int, offsets: bool) -> Array:
    """A head [N, channels, h, w] with node i at pixel s·i + (s − 1)/2 -> float32 [N, channels, h + 1, w + 1] at s·i.

    Ours lie (s − 1)/2 px before the given nodes of the same number; the first and the last take the only one beside
    them. `offsets`: channels are x, y, x, y, …, keypoint − node in px, and grow by as much as that node moves ahead.
    """
    out, ahead = head.astype(np.float32), np.float32((stride - 1) / 2)
    for axis in (3, 2):
        n = out.shape[axis]
        framed = np.pad(out, [(int(a == axis),) * 2 for a in range(4)], mode="edge")
        before, node = framed.take(np.arange(n + 1), axis), framed.take(np.arange(1, n + 2), axis)
        part = np.full(n + 1, ahead / np.float32(stride))
        part[[0, -1]] = ZERO
        out = _blend(node, before, part.reshape(-1, *(1,) * (3 - axis)))
    if offsets:
        moved = [np.array([ahead, *[ZERO] * (n - 2), ahead - np.float32(stride)]) for n in out.shape[2:]]
        out[:, 0::2] += moved[1]
        out[:, 1::2] += moved[0][:, None]
    return out


@np.errstate(over="ignore", invalid="ignore")
def _follow(fields: Array, k: int, point: Array, stride: int, steps: int) -> Array:
    """Move points [..., 2] px `steps` times by what offset k of fields [2P or 2E, h, w] is where they stand."""
    for _ in range(steps):
        x, y = point[..., 0] / np.float32(stride), point[..., 1] / np.float32(stride)
        point = point + np.stack((sample(fields[2 * k], x, y), sample(fields[2 * k + 1], x, y)), axis=-1)
    return point


@np.errstate(over="ignore", invalid="ignore")
def _node_targets(fields: Array, k: int, stride: int) -> Array:
    """Where offset k of fields [2P, h, w] leads from each node: float32 [h, w, 2] px."""
    y, x = np.indices(fields.shape[1:]) * stride
    return np.stack((x, y), axis=-1).astype(np.float32) + np.moveaxis(fields[2 * k : 2 * k + 2], 0, -1)


def _cell(length: int, nodes: int, stride: int) -> tuple[Array, Array, Array]:
    """For each pixel of an axis the node before it, the node after it and the px past the former, 0 from the last on.

    A node after of weight zero is the node before again: who reads both reads nothing of weight zero.
    """
    before = np.minimum(np.arange(length) // stride, nodes - 1)
    past = np.where(before < nodes - 1, np.arange(length) % stride, 0)
    return before, before + (past > 0), past


def _is_thing(label: Array, things: Sequence[int]) -> Array:
    return np.isin(label, np.array(things, np.int32))


def _box(keypoints: Array) -> tuple[Array, Array, Array]:
    """Tight box of keypoints [..., P, 2]: upper left and lower right corner [..., 2] px, area [...] px²; of none, 0."""
    keypoints = keypoints if keypoints.shape[-2] else np.zeros((*keypoints.shape[:-2], 1, 2), np.float32)
    low, high = keypoints.min(axis=-2), keypoints.max(axis=-2)
    return low, high, (high[..., 0] - low[..., 0]) * (high[..., 1] - low[..., 1])


def _fraction_bits(h: int, w: int) -> int:
    """Q, the binary places of a fixed-point vote, such that one vote of every node sums to 2^30 at most."""
    return min(max(30 - (h * w - 1).bit_length(), 4), 16)


def argmax(semantic: Array, *, num_classes: int, stride: int, nodes: Size, size: Size) -> tuple[Array, Array]:
    """Logits float [N, C, h, w], or labels int [N, H, W] -> labels of nodes [N, h, w] and of pixels [N, H, W], int32.

    A node takes its greatest logit. A pixel whose corners agree takes their label by definition, any other the greatest
    bilinearly interpolated logit. NaN counts as −inf; ties go to the lower class. Given labels stay, −1 (void) where
    they name no class; a node takes the label at its pixel, clamped to the image.
    """
    if semantic.dtype.kind in "iu":
        known = (semantic >= 0) & (semantic < num_classes)
        label = np.where(known, semantic.astype(np.int32), np.int32(-1))
        row, col = (np.minimum(stride * np.arange(n), length - 1) for n, length in zip(nodes, size, strict=True))
        return label[:, row[:, None], col], label
    logits = semantic.astype(np.float32)
    node_label = np.where(np.isnan(logits), -INF, logits).argmax(axis=1).astype(np.int32)
    label = np.empty((len(logits), *size), np.int32)
    (y0, y1, ry), (x0, x1, rx) = _cell(size[0], nodes[0], stride), _cell(size[1], nodes[1], stride)
    fy, fx = ry.astype(np.float32) / np.float32(stride), rx.astype(np.float32) / np.float32(stride)
    for n in range(len(logits)):
        corners = np.array([node_label[n][row[:, None], col] for row in (y0, y1) for col in (x0, x1)])
        label[n] = corners[0]
        y, x = np.nonzero((corners != corners[0]).any(axis=0))
        best, winner = np.full(len(y), -INF), np.zeros(len(y), np.int32)
        for c, v in enumerate(logits[n]):
            top = _blend(v[y0[y], x0[x]], v[y0[y], x1[x]], fx[x])
            bottom = _blend(v[y1[y], x0[x]], v[y1[y], x1[x]], fx[x])
            value = _blend(top, bottom, fy[y])
            better = value > best  # False for NaN
            best[better], winner[better] = value[better], c
        label[n, y, x] = winner
    return node_label, label


def refine(long_range: Array, short_range: Array, *, stride: int, long_steps: int, long_short_steps: int) -> Array:
    """Recursive offset refinement (3.4): two heads [N, 2P, h, w] -> keypoints as nodes see them, [N, P, h, w, 2] px.

    From its long-range target a node walks on by the offsets of the places it reaches: `long_steps` times the
    long-range ones, then `long_short_steps` times the short-range ones.
    """
    long_range, short_range = long_range.astype(np.float32), short_range.astype(np.float32)
    images, channels, h, w = long_range.shape
    target = np.empty((images, channels // 2, h, w, 2), np.float32)
    for n, k in np.ndindex(target.shape[:2]):
        point = _follow(long_range[n], k, _node_targets(long_range[n], k, stride), stride, long_steps)
        target[n, k] = _follow(short_range[n], k, point, stride, long_short_steps)
    return target


def _splat(votes: Array, point: Array, weight: Array, unit: int, cell: int, size: Size) -> None:
    """Add weight [...] · unit at points [..., 2] px to the cells int64 [vh, vw]; outside the image nothing counts."""
    x, y = point[..., 0], point[..., 1]
    inside = (x >= 0) & (x <= np.float32(size[1] - 1)) & (y >= 0) & (y <= np.float32(size[0] - 1))  # False for NaN
    x, y, weight = x[inside] / np.float32(cell), y[inside] / np.float32(cell), weight[inside]
    x0, y0 = x.astype(np.intp), y.astype(np.intp)
    fx, fy = x - x0.astype(np.float32), y - y0.astype(np.float32)
    for row, wy in ((y0, ONE - fy), (y0 + 1, fy)):
        for col, wx in ((x0, ONE - fx), (x0 + 1, fx)):  # rint: halves to even
            np.add.at(votes, (row, col), np.rint(((weight * wy) * wx) * np.float32(unit)).astype(np.int64))


def vote(heatmap: Array, short_range: Array, target: Array, node_label: Array, *, things: Sequence[int], stride: int,
         size: Size, vote_cell: int, short_weight: float, long_weight: float, long_voters: str) -> Array:  # fmt: skip
    """Hough voting (3.4): heatmap [N, P, h, w], short_range [N, 2P, h, w], target [N, P, h, w, 2] px, node_label
    [N, h, w] -> score maps int64 [N, P, vh, vw], one vote being 2^(Q + 8).

    Every node votes by its short-range offset with the probability of its heatmap; thing nodes (or all) vote by their
    refined long-range target with weight 1. Sums of integers do not depend on the order of the votes.
    """
    heatmap, short_range = heatmap.astype(np.float32), short_range.astype(np.float32)
    cell, unit = max(stride, vote_cell), 2 ** _fraction_bits(*heatmap.shape[2:])
    short = np.zeros((*heatmap.shape[:2], (size[0] - 1) // cell + 2, (size[1] - 1) // cell + 2), np.int64)
    long = np.zeros_like(short)
    for n, k in np.ndindex(short.shape[:2]):
        _splat(short[n, k], _node_targets(short_range[n], k, stride), sigmoid(heatmap[n, k]), unit, cell, size)
        voters = _is_thing(node_label[n], things) | (long_voters == "all")  # a weight of 0 adds nothing
        _splat(long[n, k], target[n, k], voters.astype(np.float32), unit, cell, size)
    short *= int(short_weight * 256)
    long *= int(long_weight * 256)
    return short + long


def peaks(votes: Array, *, stride: int, nodes: Size, vote_cell: int, radius: float, peak_threshold: float,
          max_candidates: int) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Local maxima (3.4) of the score maps [N, P, vh, vw] -> candidates (k, y, x) int32 [N, K, 3], padding −1;
    positions float32 [N, K, 2] px; count int32 [N]; truncated bool [N].

    A peak holds at least `peak_threshold` of the votes of an ideal disk, π(R/s)² nodes, and beats its 3 × 3 neighbors,
    ties to the lower raster index; its position is their centroid. Order: score descending, then (k, y, x).
    """
    (images, _, vh, vw), cell = votes.shape, max(stride, vote_cell)
    ideal = peak_threshold * 256.0 * 2 ** _fraction_bits(*nodes) * math.pi * (radius / stride) * (radius / stride)
    limit = min(max(1, math.ceil(ideal)), 2**62)
    candidate = np.full((images, max_candidates, 3), -1, np.int32)
    position = np.zeros((images, max_candidates, 2), np.float32)
    count, truncated = np.zeros(images, np.int32), np.zeros(images, np.bool_)
    for n, score in enumerate(votes):
        framed = np.pad(score, ((0, 0), (1, 1), (1, 1)), constant_values=-1)  # below every score
        peak = score >= limit
        for dy, dx in np.ndindex(3, 3):
            neighbor = framed[:, dy : dy + vh, dx : dx + vw]
            peak &= (score > neighbor) | ((score == neighbor) & ((dy, dx) >= (1, 1)))  # (1, 1) is the cell itself
        found = np.argwhere(peak)
        found = found[np.argsort(-score[peak], kind="stable")][:max_candidates]
        count[n], truncated[n] = len(found), peak.sum() > max_candidates
        candidate[n, : len(found)] = found
        for i, (k, y, x) in enumerate(found):
            row, col = np.arange(max(y - 1, 0), min(y + 2, vh)), np.arange(max(x - 1, 0), min(x + 2, vw))
            f = score[k][row[:, None], col]
            moments = int((f * col).sum()), int((f * row[:, None]).sum())
            position[n, i] = [float(cell * moment) / float(f.sum()) for moment in moments]
    return candidate, position, count, truncated


def trace(position: Array, candidate: Array, count: Array, middle_range: Array, short_range: Array, *,
          edges: Sequence[int], stride: int, size: Size, middle_steps: int) -> Array:  # fmt: skip
    """The instance each candidate would seed (3.4): position [N, K, 2] px, candidate [N, K, 3], count [N], middle_range
    [N, 2E, h, w], short_range [N, 2P, h, w] -> keypoints float32 [N, K, P, 2] px.

    `edges` are source, target, source, target, …. Breadth-first from the seed: where an edge's source was found its
    middle-range offset leads on, corrected `middle_steps` times by the target's short-range offset. All are clamped to
    the image once, at the end: a source outside must still read its own offsets.
    """
    middle_range, short_range = middle_range.astype(np.float32), short_range.astype(np.float32)
    kinds = short_range.shape[1] // 2
    graph = Graph(tuple(str(k) for k in range(kinds)), tuple(zip(edges[::2], edges[1::2], strict=True)))
    keypoints = np.zeros((*candidate.shape[:2], kinds, 2), np.float32)
    for n, seed in np.ndindex(len(candidate), kinds):
        rows = np.nonzero(candidate[n, : count[n], 0] == seed)[0]
        point = {seed: position[n, rows]}
        for e in graph.path(seed):
            a, b = graph.edges[e]
            arrival = _follow(middle_range[n], e, point[a], stride, 1)
            point[b] = _follow(short_range[n], b, arrival, stride, middle_steps)
        for k, found in point.items():
            x, y = _clamp(found[:, 0], size[1] - 1), _clamp(found[:, 1], size[0] - 1)
            keypoints[n, rows, k] = np.stack((x, y), axis=-1)
    return keypoints


def rescore(keypoints: Array, count: Array, votes: Array, heatmap: Array, *, stride: int, vote_cell: int, radius: float,
            kappa: Sequence[float], oks_cell: bool) -> tuple[Array, Array]:  # fmt: skip
    """Expected-OKS (3.4): keypoints [N, K, P, 2] px, count [N], votes [N, P, vh, vw], heatmap [N, P, h, w] -> scores
    float32 of keypoints [N, K, P] and of instances, their mean, [N, K].

    A keypoint scores its probability times the mean similarity exp(−d²/(2λ²κ² + c²)) of the votes in its disk d <= R;
    λ² is the box area, at least a cell's. Similarities are rounded to 2⁻¹⁵, so that their sums are exact.
    """
    probability, c = sigmoid(heatmap.astype(np.float32)), np.float32(max(stride, vote_cell))
    cell_y, cell_x = (np.arange(length).astype(np.float32) * c for length in votes.shape[2:])
    kappas, radius2 = np.array(kappa, np.float32), np.float32(radius) * np.float32(radius)
    lambda2 = np.maximum(_box(keypoints)[2], c * c)
    scores = np.zeros(keypoints.shape[:3], np.float32)
    for n, k in np.ndindex(votes.shape[:2]):
        x, y = keypoints[n, :, k, 0], keypoints[n, :, k, 1]
        p = sample(probability[n, k], x / np.float32(stride), y / np.float32(stride))
        width = (TWO * lambda2[n]) * (kappas[k] * kappas[k]) + (c * c if oks_cell else ZERO)
        for i in range(count[n]):
            dx, dy = cell_x - x[i], cell_y - y[i]
            d2 = (dx * dx) + (dy * dy)[:, None]
            disk = d2 <= radius2
            f, g = votes[n, k][disk], np.rint(OKS_UNIT * exp(-(d2[disk] / width[i]))).astype(np.int64)
            if f.any():
                scores[n, i, k] = p[i] * np.float32(float((f * g).sum()) / float(f.sum()) / float(OKS_UNIT))
    total = np.zeros(scores.shape[:2], np.float32)
    for k in range(len(kappas)):
        total = total + scores[..., k]
    return scores, total / np.float32(max(len(kappas), 1))


def select(candidate: Array, count: Array, keypoints: Array, keypoint_score: Array, score: Array, *,
           instance_threshold: float, nms_radius: float, nms_radius_min: float, nms_relative: float, box_iou: float,
           max_instances: int) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Priority queue and box NMS (3.4): candidate [N, K, 3], count [N], keypoints [N, K, P, 2] px, keypoint_score
    [N, K, P], score [N, K] -> keypoints float32 [N, M, P, 2] px, score float32 [N, M], count int32 [N], truncated [N].

    Hypotheses come by their seed's score, ties by (k, y, x); one whose keypoint k, its seed's kind, lies near that of
    an accepted one (nms_relative·√(smaller box area), from nms_radius_min to nms_radius) is rejected.
    Of the accepted, by instance score, ties in the order of acceptance, one whose box overlaps a kept box by more than
    `box_iou` is suppressed; instances are numbered in that order.
    """
    images, _, kinds, _ = keypoints.shape
    out = np.zeros((images, max_instances, kinds, 2), np.float32)
    out_score = np.zeros((images, max_instances), np.float32)
    out_count, truncated = np.zeros(images, np.int32), np.zeros(images, np.bool_)
    for n in range(images):
        low, high, area = _box(keypoints[n])
        rows = [i for i in range(count[n]) if score[n, i] >= np.float32(instance_threshold)]
        queue = [(-float(keypoint_score[n, i, candidate[n, i, 0]]), *candidate[n, i].tolist(), i) for i in rows]
        heapq.heapify(queue)
        accepted: list[int] = []
        while queue:
            _, k, _, _, i = heapq.heappop(queue)
            dx, dy = (keypoints[n, i, k] - keypoints[n, accepted, k]).T
            near2 = np.float32(nms_relative**2) * np.minimum(area[i], area[accepted])
            near2 = np.minimum(np.float32(nms_radius**2), np.maximum(np.float32(nms_radius_min**2), near2))
            if not (dx * dx + dy * dy <= near2).any():
                accepted.append(i)
        kept: list[int] = []
        for i in sorted(accepted, key=lambda i: -float(score[n, i])):  # stable
            side = np.maximum(ZERO, np.minimum(high[i], high[kept]) - np.maximum(low[i], low[kept]))
            inter = side[:, 0] * side[:, 1]
            if not (inter > np.float32(box_iou) * ((area[i] + area[kept]) - inter)).any():
                kept.append(i)
        m = out_count[n] = min(len(kept), max_instances)
        out[n, :m], out_score[n, :m], truncated[n] = keypoints[n, kept[:m]], score[n, kept[:m]], len(kept) > m
    return out, out_score, out_count, truncated


@np.errstate(over="ignore", invalid="ignore")
def assign(target: Array, node_label: Array, label: Array, keypoints: Array, count: Array, *, things: Sequence[int],
           stride: int, max_distance: float | None) -> tuple[Array, Array, Array]:  # fmt: skip
    """Nodes and pixels to instances (3.4): target [N, P, h, w, 2] px, node_label [N, h, w], label [N, H, W], keypoints
    [N, M, P, 2] px, count [N] -> instance of nodes int32 [N, h, w], their D float32 [N, h, w] px² (+inf: none),
    instance of pixels int32 [N, H, W]; 0 is none.

    A node takes the instance of least D = Σ |target − keypoint|², the first of equals; beyond `max_distance`, RMS px,
    none. A thing pixel looks at the corners of its cell that have weight and an instance: at those of its own class; if
    there is none, at the things; if there is none, at all. There the greatest sum of bilinear weights wins, ties to the
    instance of least D at such a corner, then to the lower number.
    """
    (images, height, width), (h, w), kinds = label.shape, node_label.shape[1:], target.shape[1]
    node_instance, node_distance = np.zeros(node_label.shape, np.int32), np.full(node_label.shape, INF)
    instance = np.zeros(label.shape, np.int32)
    (y0, y1, ry), (x0, x1, rx) = _cell(height, h, stride), _cell(width, w, stride)
    for n in range(images):
        for j in range(count[n]):
            distance = np.zeros((h, w), np.float32)
            for k in range(kinds):
                dx, dy = (target[n, k, :, :, axis] - keypoints[n, j, k, axis] for axis in (0, 1))
                distance = distance + (dx * dx + dy * dy)
            nearer = distance < node_distance[n]  # False for NaN
            node_distance[n][nearer], node_instance[n][nearer] = distance[nearer], j + 1
        if max_distance is not None:
            far = node_distance[n] > np.float32(kinds * max_distance**2)
            node_distance[n][far], node_instance[n][far] = INF, 0

        y, x = np.nonzero(_is_thing(label[n], things))
        rows, cols = np.array((y0, y0, y1, y1))[:, y], np.array((x0, x1, x0, x1))[:, x]  # the corners, [4, pixels]
        wy, wx = np.array((stride - ry, stride - ry, ry, ry))[:, y], np.array((stride - rx, rx, stride - rx, rx))[:, x]
        number, distance, carried = (a[n][rows, cols] for a in (node_instance, node_distance, node_label))
        weight = wy * wx
        valid = (weight > 0) & (number > 0)
        thing, own = valid & _is_thing(carried, things), valid & (carried == label[n, y, x])
        eligible = np.where(own.any(axis=0), own, np.where(thing.any(axis=0), thing, valid))
        winner, most, least = np.zeros(len(y), np.int32), np.zeros(len(y), np.int64), np.full(len(y), INF)
        for rival in number:  # every corner puts its instance forward
            for_it = eligible & (number == rival)
            total, nearest = np.where(for_it, weight, 0).sum(axis=0), np.where(for_it, distance, INF).min(axis=0)
            closer = (nearest < least) | ((nearest == least) & (rival < winner))
            better = (total > most) | ((total == most) & closer)
            winner[better], most[better], least[better] = rival[better], total[better], nearest[better]
        instance[n, y, x] = winner
    return node_instance, node_distance, instance


def merge(label: Array, instance: Array, node_label: Array, node_instance: Array, node_distance: Array,
          keypoints: Array, count: Array, *, things: Sequence[int], num_classes: int, radius: float, majority: str,
          fit_area: float) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Panoptic map (3.4): label, instance [N, H, W], node_label, node_instance, node_distance [N, h, w], keypoints
    [N, M, P, 2] px, count [N] -> class of pixels int32 [N, H, W]; class (−1: it won no pixel) and pixels of instances
    int32 [N, M]; pixels of no instance by class int32 [N, C].

    An instance has the class of most of its thing nodes that fit it, D <= P·max(R², fit_area·box area), or if none fits
    (or where `majority` is "all") of most of its pixels; ties to the lower class. All other pixels keep their label.
    """
    images, instances, kinds, _ = keypoints.shape
    category, area = np.full((images, instances), -1, np.int32), np.zeros((images, instances), np.int32)
    semantic, class_area = label.copy(), np.zeros((images, num_classes), np.int32)
    disk = np.float32(radius) * np.float32(radius)
    reach = np.float32(kinds) * np.maximum(disk, np.float32(fit_area) * _box(keypoints)[2])
    for n in range(images):
        fit = (node_instance[n] > 0) & _is_thing(node_label[n], things)
        fit &= node_distance[n] <= reach[n, node_instance[n] - 1]
        taken = instance[n] > 0
        voting = taken & _is_thing(label[n], things)
        by_node, by_pixel = np.zeros((2, instances, num_classes), np.int64)
        np.add.at(by_node, (node_instance[n][fit] - 1, node_label[n][fit]), 1)
        np.add.at(by_pixel, (instance[n][voting] - 1, label[n][voting]), 1)
        ballots = np.where(by_node.any(axis=1, keepdims=True) & (majority != "all"), by_node, by_pixel)
        area[n] = np.bincount(instance[n][taken] - 1, minlength=instances)
        category[n] = np.where((area[n] > 0) & ballots.any(axis=1), ballots.argmax(axis=1), -1)
        semantic[n][taken] = category[n, instance[n][taken] - 1]
        rest = label[n][~taken & (label[n] >= 0)]
        class_area[n] = np.bincount(rest, minlength=num_classes)
    return semantic, category, area, class_area
