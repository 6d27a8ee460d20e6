# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - who lacks torch is told before it is imported
"""The compiled torch operators, and for torch the shapes of their results.

`torch.ops.deeperlab.fuse` and one operator for each stage; `deeperlab._schema` tells what they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._layout import require_torch

require_torch("deeperlab.stages.torch_ops")

import torch
from torch import Tensor

from .. import _pytree  # noqa: F401 - torch.compile takes and returns our dataclasses
from .._torch_library import HAS_CUDA, register_fake, resample

__all__ = [
    "HAS_CUDA",
    "argmax",
    "assign",
    "encode",
    "fuse",
    "merge",
    "peaks",
    "refine",
    "resample",
    "rescore",
    "select",
    "top_down",
    "trace",
    "vote",
]

Size = Sequence[int]


def _int(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.int32)


def _float(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _bool(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.bool)


@register_fake("fuse")
def _fuse(
    semantic: Tensor,
    heatmap: Tensor,
    short_range: Tensor,
    middle_range: Tensor,
    long_range: Tensor,
    *,
    num_classes: int,
    size: Size,
    max_instances: int,
    **_: Any,
) -> tuple[Tensor, ...]:
    (n, p), m = heatmap.shape[:2], max_instances
    return (
        _int(heatmap, n, *size),
        _int(heatmap, n, *size),
        _float(heatmap, n, m, p, 2),
        _float(heatmap, n, m),
        _int(heatmap, n, m),
        _int(heatmap, n, m),
        _int(heatmap, n, num_classes),
        _int(heatmap, n),
        _bool(heatmap, n),
    )


@register_fake("argmax")
def _argmax(semantic: Tensor, *, nodes: Size, size: Size, **_: Any) -> tuple[Tensor, Tensor]:
    n = semantic.shape[0]
    return _int(semantic, n, *nodes), _int(semantic, n, *size)


@register_fake("refine")
def _refine(long_range: Tensor, short_range: Tensor, **_: Any) -> Tensor:
    n, channels, h, w = long_range.shape
    return _float(long_range, n, channels // 2, h, w, 2)


@register_fake("vote")
def _vote(heatmap: Tensor, *_: Tensor, stride: int, size: Size, vote_cell: int, **__: Any) -> Tensor:
    cell = max(stride, vote_cell)
    rows, columns = ((side - 1) // cell + 2 for side in size)
    return heatmap.new_empty((*heatmap.shape[:2], rows, columns), dtype=torch.int64)


@register_fake("peaks")
def _peaks(votes: Tensor, *, max_candidates: int, **_: Any) -> tuple[Tensor, ...]:
    n, k = votes.shape[0], max_candidates
    return _int(votes, n, k, 3), _float(votes, n, k, 2), _int(votes, n), _bool(votes, n)


@register_fake("trace")
def _trace(
    position: Tensor, candidate: Tensor, count: Tensor, middle_range: Tensor, short_range: Tensor, **_: Any
) -> Tensor:
    n, k = candidate.shape[:2]
    return _float(short_range, n, k, short_range.shape[1] // 2, 2)


@register_fake("rescore")
def _rescore(keypoints: Tensor, count: Tensor, votes: Tensor, heatmap: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    n, k, p, _xy = keypoints.shape
    return _float(heatmap, n, k, p), _float(heatmap, n, k)


@register_fake("select")
def _select(
    candidate: Tensor,
    count: Tensor,
    keypoints: Tensor,
    keypoint_score: Tensor,
    score: Tensor,
    *,
    max_instances: int,
    **_: Any,
) -> tuple[Tensor, ...]:
    (n, _k, p, _xy), m = keypoints.shape, max_instances
    return _float(score, n, m, p, 2), _float(score, n, m), _int(score, n), _bool(score, n)


@register_fake("assign")
def _assign(target: Tensor, node_label: Tensor, label: Tensor, *_: Tensor, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _int(target, *node_label.shape), _float(target, *node_label.shape), _int(target, *label.shape)


@register_fake("merge")
def _merge(
    label: Tensor,
    instance: Tensor,
    node_label: Tensor,
    node_instance: Tensor,
    node_distance: Tensor,
    keypoints: Tensor,
    count: Tensor,
    *,
    num_classes: int,
    **_: Any,
) -> tuple[Tensor, ...]:
    n, m = keypoints.shape[:2]
    return _int(label, *label.shape), _int(label, n, m), _int(label, n, m), _int(label, n, num_classes)


@register_fake("encode")
def _encode(
    instance: Tensor,
    ignore: Tensor,
    ids: Tensor,
    points: Tensor,
    *,
    edges: Size,
    stride: int,
    max_instances: int,
    **_: Any,
) -> tuple[Tensor, ...]:
    n, *size = instance.shape
    h, w = ((side - 1) // stride + 1 for side in size)
    p, e = points.shape[2], len(edges) // 2
    return (
        *(_float(instance, n, channels, h, w) for channels in (p, 2 * p, 2 * e, 2 * p)),
        *(_bool(instance, n, channels, h, w) for channels in (1, p, e, 1)),
        instance.new_empty((n, max_instances), dtype=torch.int64),
        _float(instance, n, max_instances, p, 2),
        _int(instance, n),
    )


@register_fake("top_down")
def _top_down(
    semantic: Tensor,
    masks: Tensor,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    size: Size,
    max_instances: int,
    **_: Any,
) -> tuple[Tensor, ...]:
    n, m = scores.shape[0], max_instances
    return (
        _int(scores, n, *size),
        _int(scores, n, *size),
        _float(scores, n, m),
        _int(scores, n, m),
        _int(scores, n, m),
        _int(scores, n, num_classes),
        _int(scores, n),
        _bool(scores, n),
    )


fuse = torch.ops.deeperlab.fuse.default
encode = torch.ops.deeperlab.encode.default
argmax = torch.ops.deeperlab.argmax.default
refine = torch.ops.deeperlab.refine.default
vote = torch.ops.deeperlab.vote.default
peaks = torch.ops.deeperlab.peaks.default
trace = torch.ops.deeperlab.trace.default
rescore = torch.ops.deeperlab.rescore.default
select = torch.ops.deeperlab.select.default
assign = torch.ops.deeperlab.assign.default
merge = torch.ops.deeperlab.merge.default
top_down = torch.ops.deeperlab.top_down.default
