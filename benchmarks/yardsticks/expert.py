# SPDX-License-Identifier: Apache-2.0
"""Section 3.4 as someone writes it who knows PyTorch well: vectorized, at the stride of the heads, on any device.

The definition is followed as far as plain operators reach. What differs: sums of votes are floats, distances come from
a matrix product, and ties fall as they may; so the answer agrees nearly everywhere, not in every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor

from deeperlab import FuseParams, Heads
from deeperlab.heads import NAMES

CHUNK = 1 << 16
"""Pixels or nodes at a time, where an intermediate result has a row of classes or of instances for each."""


class Result(NamedTuple):
    """Maps int64 [H, W]; instances, best first: keypoints [M, P, 2] px, score and category [M]."""

    semantic: Tensor
    instance: Tensor
    keypoints: Tensor
    score: Tensor
    category: Tensor


@torch.inference_mode()
def fuse(heads: Heads, things: Sequence[int], params: FuseParams | None = None) -> Result:
    """One image, with its batch dimension; heads float32 or float16."""
    p = FuseParams() if params is None else params
    semantic, heatmap, short, middle, long = (getattr(heads, name)[0].float() for name in NAMES)
    size, s = heads.default_size, heads.stride
    thing = torch.zeros(heads.classes, dtype=torch.bool, device=semantic.device)
    thing[list(things)] = True

    node_label, label = argmax(semantic, s, size)
    kinds, h, w = heatmap.shape
    node = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy"), -1).to(short) * s
    short, middle, long = (head.unflatten(0, (-1, 2)) for head in (short, middle, long))  # [P or E, 2, h, w]
    target = follow(long, node + long.movedim(1, -1), s, p.long_steps)  # [P, h, w, 2]
    target = follow(short, target, s, p.long_short_steps)
    probability = heatmap.sigmoid()
    cell = max(s, p.vote_cell)
    voters = (thing[node_label] if p.long_voters == "thing" else torch.ones_like(node_label)).to(short)
    votes = p.short_weight * splat(node + short.movedim(1, -1), probability, cell, size)
    votes += p.long_weight * splat(target, voters.expand_as(probability), cell, size)
    kind, position = peaks(votes, cell, p.peak_threshold * torch.pi * (p.radius / s) ** 2, p.max_candidates)
    traced = trace(kind, position, middle, short, heads, size, p.middle_steps)
    keypoint_score = rescore(traced, votes, probability, cell, s, p)
    keypoints, score = select(kind, traced, keypoint_score, p)
    if not len(keypoints):
        nobody = torch.zeros_like(label)
        return Result(label, nobody, keypoints, score, nobody.new_zeros(0))
    node_instance, distance = nearest(target, keypoints, p.max_distance)
    instance = assign(node_instance, distance, node_label, label, thing, s)

    count = len(keypoints)
    disk = (p.fit_area * area(keypoints)).clamp(min=p.radius**2) * kinds
    fits = thing[node_label] & (node_instance > 0) & (distance <= disk[node_instance - 1])
    by_node = ballots(node_instance[fits], node_label[fits], count, heads.classes)
    taken = instance > 0
    by_pixel = ballots(instance[taken], label[taken], count, heads.classes)
    use_nodes = by_node.any(1, keepdim=True) & (p.majority == "fit")
    category = torch.where(use_nodes, by_node, by_pixel).argmax(1)
    category[~by_pixel.any(1)] = -1
    return Result(torch.where(taken, category[instance - 1], label), instance, keypoints, score, category)


def argmax(semantic: Tensor, stride: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Labels of nodes [h, w] and of pixels [H, W]; logits are interpolated only where the corners disagree."""
    w = semantic.shape[2]
    node_label = semantic.argmax(0)
    (y0, y1, fy), (x0, x1, fx) = (between(n, stride, semantic.device) for n in size)
    corners = [node_label[y][:, x] for y in (y0, y1) for x in (x0, x1)]
    label = corners[0].clone()
    mixed = (corners[1] != label) | (corners[2] != label) | (corners[3] != label)
    logits = semantic.flatten(1).t().contiguous()  # a row per node
    for y, x in zip(*(torch.split(part, CHUNK) for part in mixed.nonzero(as_tuple=True)), strict=True):
        top = torch.lerp(logits[y0[y] * w + x0[x]], logits[y0[y] * w + x1[x]], fx[x, None])
        bottom = torch.lerp(logits[y1[y] * w + x0[x]], logits[y1[y] * w + x1[x]], fx[x, None])
        label[y, x] = torch.lerp(top, bottom, fy[y, None]).argmax(1)
    return node_label, label


def between(length: int, stride: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For the pixels of an axis the nodes before and after, and the weight of the latter."""
    pixel = torch.arange(length, device=device)
    before, past = pixel // stride, pixel % stride
    return before, before + (past > 0), past / stride


def sample(fields: Tensor, point: Tensor, stride: int) -> Tensor:
    """Fields [K, C, h, w] at points [K, ..., 2] px -> [K, ..., C]."""
    h, w = fields.shape[2:]
    scale = point.new_tensor((2 / max(w - 1, 1) / stride, 2 / max(h - 1, 1) / stride))
    grid = (point * scale - 1).flatten(1, -2)[:, None]
    found = F.grid_sample(fields, grid, padding_mode="border", align_corners=True)[:, :, 0]
    return found.transpose(1, 2).reshape(*point.shape[:-1], fields.shape[1])


def follow(fields: Tensor, point: Tensor, stride: int, steps: int) -> Tensor:
    """Move points [K, ..., 2] px by the offsets [K, 2, h, w] of where they stand."""
    for _ in range(steps):
        point = point + sample(fields, point, stride)
    return point


def splat(point: Tensor, weight: Tensor, cell: int, size: tuple[int, int]) -> Tensor:
    """Weights [P, h, w] summed bilinearly at points [P, h, w, 2] px: [P, vh, vw]; outside the image nothing counts."""
    (height, width), kinds = size, len(point)
    vh, vw = (height - 1) // cell + 2, (width - 1) // cell + 2
    x, y = point.unbind(-1)
    weight = weight * ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))
    x, y = (x / cell).clamp(0, vw - 2), (y / cell).clamp(0, vh - 2)
    x0, y0 = x.long(), y.long()
    fx, fy = x - x0, y - y0
    index = (torch.arange(kinds, device=x.device)[:, None, None] * vh + y0) * vw + x0
    votes = weight.new_zeros(kinds * vh * vw)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            votes.index_add_(0, (index + dy * vw + dx).flatten(), (weight * wy * wx).flatten())
    return votes.view(kinds, vh, vw)


def peaks(votes: Tensor, cell: int, limit: float, most: int) -> tuple[Tensor, Tensor]:
    """Local maxima of [P, vh, vw], best first: their kind [K], and the centroid of 3 × 3 [K, 2] px."""
    k, y, x = ((votes == F.max_pool2d(votes, 3, 1, 1)) & (votes >= limit)).nonzero(as_tuple=True)
    best = votes[k, y, x].topk(min(len(k), most)).indices
    k, y, x = k[best], y[best], x[best]
    around = torch.arange(-1, 2, device=k.device)
    near = F.pad(votes, (1, 1, 1, 1))[
        k[:, None, None], y[:, None, None] + around[:, None] + 1, x[:, None, None] + around + 1
    ]
    total = near.sum((1, 2))
    shift = torch.stack(((near.sum(1) * around).sum(1), (near.sum(2) * around).sum(1)), -1) / total[:, None]
    return k, (torch.stack((x, y), -1) + shift) * cell


def trace(kind: Tensor, position: Tensor, middle: Tensor, short: Tensor, heads: Heads, size: tuple[int, int],
          steps: int) -> Tensor:  # fmt: skip
    """The keypoints [K, P, 2] px that lead on from each seed along the graph."""
    keypoints = position.new_zeros(len(kind), len(heads.graph.keypoints), 2)
    for seed in range(keypoints.shape[1]):
        rows = (kind == seed).nonzero()[:, 0]
        point = {seed: position[rows][None]}
        for e in heads.graph.path(seed):
            a, b = heads.graph.edges[e]
            arrival = follow(middle[e : e + 1], point[a], heads.stride, 1)
            point[b] = follow(short[b : b + 1], arrival, heads.stride, steps)
        for k, found in point.items():
            keypoints[rows, k] = found[0]
    return torch.minimum(keypoints.clamp(min=0), keypoints.new_tensor((size[1] - 1, size[0] - 1)))


def area(keypoints: Tensor) -> Tensor:
    """Of the tight boxes of keypoints [..., P, 2]."""
    return (keypoints.amax(-2) - keypoints.amin(-2)).prod(-1)


def rescore(keypoints: Tensor, votes: Tensor, probability: Tensor, cell: int, stride: int, p: FuseParams) -> Tensor:
    """Expected-OKS [K, P] of keypoints [K, P, 2] px."""
    kinds, reach = len(votes), int(p.radius / cell) + 1
    window = torch.arange(-reach, reach + 1, device=votes.device)
    near = (keypoints / cell).round().long()
    x, y = near[..., 0, None, None] + window, near[..., 1, None, None] + window[:, None]
    framed = F.pad(votes, (reach + 1,) * 4)
    f = framed[torch.arange(kinds, device=votes.device)[:, None, None], y + reach + 1, x + reach + 1]
    d2 = (x * cell - keypoints[..., 0, None, None]) ** 2 + (y * cell - keypoints[..., 1, None, None]) ** 2
    kappa2 = keypoints.new_tensor(p.kappas(kinds)) ** 2
    spread = 2 * area(keypoints).clamp(min=cell**2)[:, None] * kappa2 + p.oks_cell * cell**2
    f = f * (d2 <= p.radius**2)
    likeness = (f * torch.exp(-d2 / spread[..., None, None])).sum((-1, -2)) / f.sum((-1, -2)).clamp(min=1e-6)
    return likeness * sample(probability[:, None], keypoints.transpose(0, 1), stride)[..., 0].t()


def select(kind: Tensor, keypoints: Tensor, keypoint_score: Tensor, p: FuseParams) -> tuple[Tensor, Tensor]:
    """Greedy grouping, then box NMS. All conflicts at once; the queue itself, a loop, runs on the host."""
    score = keypoint_score.mean(1)
    own = keypoint_score.gather(1, kind[:, None])[:, 0]
    order = own.sort(descending=True, stable=True).indices
    order = order[score[order] >= p.instance_threshold]
    kind, keypoints, score = kind[order], keypoints[order], score[order]
    seed = keypoints[torch.arange(len(kind), device=kind.device), kind]
    box = area(keypoints)
    near2 = p.nms_relative**2 * torch.minimum(box[:, None], box)
    near2 = near2.clamp(min=p.nms_radius_min**2, max=p.nms_radius**2)
    apart = seed[:, None] - keypoints[:, kind].transpose(0, 1)  # [candidate, accepted, 2]
    kept = greedy(apart.square().sum(-1) <= near2)
    kept = kept[score[kept].sort(descending=True, stable=True).indices]
    keypoints, score, box = keypoints[kept], score[kept], box[kept]
    low, high = keypoints.amin(1), keypoints.amax(1)
    inter = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(-1)
    kept = greedy(inter > p.box_iou * (box[:, None] + box - inter))[: p.max_instances]
    return keypoints[kept], score[kept]


def greedy(conflict: Tensor) -> Tensor:
    """Rows of [K, K], in order, that conflict with none taken before."""
    table = conflict.cpu()
    alive, kept = torch.ones(len(table), dtype=torch.bool), []
    for i in range(len(table)):
        if alive[i]:
            kept.append(i)
            alive &= ~table[:, i]
    return torch.tensor(kept, dtype=torch.long, device=conflict.device)


def nearest(target: Tensor, keypoints: Tensor, max_distance: float | None) -> tuple[Tensor, Tensor]:
    """Instance of each node and the square of its distance, [h, w]; 0 is none."""
    kinds, h, w, _ = target.shape
    center = keypoints.mean((0, 1))  # keeps the squares small
    rows = (target - center).permute(1, 2, 0, 3).reshape(h * w, 2 * kinds)
    points = (keypoints - center).flatten(1)
    found = [torch.cdist(part, points).min(1) for part in torch.split(rows, CHUNK)]
    distance, instance = torch.cat([f.values for f in found]).square(), torch.cat([f.indices for f in found]) + 1
    if max_distance is not None:
        instance[distance > kinds * max_distance**2] = 0
    return instance.view(h, w), distance.view(h, w)


def assign(node_instance: Tensor, distance: Tensor, node_label: Tensor, label: Tensor, thing: Tensor,
           stride: int) -> Tensor:  # fmt: skip
    """Instance of each thing pixel from the corners of its cell [H, W]."""
    (y0, y1, fy), (x0, x1, fx) = (between(n, stride, label.device) for n in label.shape)
    instance = torch.zeros_like(label)
    for y, x in zip(*(torch.split(part, 1 << 18) for part in thing[label].nonzero(as_tuple=True)), strict=True):
        rows, cols = torch.stack((y0[y], y0[y], y1[y], y1[y])), torch.stack((x0[x], x1[x], x0[x], x1[x]))
        v, u = fy[y], fx[x]
        weight = torch.stack(((1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u))  # exact at strides 2ⁿ
        number, carried = node_instance[rows, cols], node_label[rows, cols]
        valid = (weight > 0) & (number > 0)
        fit, own = valid & thing[carried], valid & (carried == label[y, x])
        eligible = torch.where(own.any(0), own, torch.where(fit.any(0), fit, valid))
        weight = weight * eligible
        total = torch.stack([(weight * (number == rival)).sum(0) for rival in number]) * eligible
        away = torch.where(eligible & (total == total.amax(0)), distance[rows, cols], torch.inf)
        instance[y, x] = number.gather(0, away.argmin(0, keepdim=True))[0] * eligible.any(0)
    return instance


def ballots(instance: Tensor, label: Tensor, count: int, classes: int) -> Tensor:
    """How often each instance 1 … M goes with each class, int64 [M, C]."""
    return torch.bincount((instance - 1) * classes + label, minlength=count * classes).view(count, classes)
