# SPDX-License-Identifier: Apache-2.0
"""Loads the compiled torch operators and tells torch the shapes of their results.

`torch.ops.deeperlab.fuse` and one op for each stage; their schemas are documented in src/ops.cpp.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..heads import Heads
from ..panoptic import Panoptic

Size = Sequence[int]


def _load() -> None:
    spec = importlib.util.find_spec("deeperlab._C")
    if spec is None or spec.origin is None:
        raise ImportError("deeperlab._C is missing: the package was not built; run `pip install .` in its checkout")
    try:
        torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise ImportError(
            f"deeperlab._C does not load with torch {torch.__version__} (torch >= 2.11 is needed): {error}"
        ) from error


def _register_dataclass(cls: type, constants: Sequence[str]) -> None:
    """Lets torch.compile and torch.export take and return instances; `constants` are no tensors."""
    names = [field.name for field in fields(cls) if field.name not in constants]

    def flatten(value: Any) -> tuple[list[Any], Any]:
        return [getattr(value, name) for name in names], tuple(getattr(value, name) for name in constants)

    def unflatten(leaves: Iterable[Any], context: Any) -> Any:
        value: Any = object.__new__(cls)  # unchecked: torch also puts other things than tensors in their places
        for name, leaf in zip((*names, *constants), (*leaves, *context), strict=True):
            object.__setattr__(value, name, leaf)
        return value

    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"deeperlab.{cls.__name__}")


_load()
HAS_CUDA = bool(torch._C._dispatch_has_kernel_for_dispatch_key("deeperlab::fuse", "CUDA"))  # was built with nvcc
_register_dataclass(Heads, ("stride", "graph", "num_classes"))
_register_dataclass(Panoptic, ("things",))


def _int(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.int32)


def _float(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _bool(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.bool)


def _register_fake(name: str) -> Any:
    """register_fake, but for tensors on two devices: torch asks the fake kernel about them, and nobody else."""

    def register(fake: Any) -> Any:
        @functools.wraps(fake)
        def checked(*args: Any, **options: Any) -> Any:
            devices = {str(a.device) for a in (*args, *options.values()) if isinstance(a, Tensor)}
            if len(devices) > 1:
                raise ValueError(f"{name}: expected tensors on one device, got {' and '.join(sorted(devices))}")
            return fake(*args, **options)

        return torch.library.register_fake(f"deeperlab::{name}", checked)

    return register


@_register_fake("fuse")
def _fuse(
    semantic: Tensor,
    heatmap: Tensor,
    short_range: Tensor,
    middle_range: Tensor,
    long_range: Tensor,
    things: Size,
    num_classes: int,
    edges: Size,
    stride: int,
    height: int,
    width: int,
    *params: Any,
) -> tuple[Tensor, ...]:
    n, p = heatmap.shape[:2]
    m = params[_MAX_INSTANCES]
    return (
        _int(heatmap, n, height, width),
        _int(heatmap, n, height, width),
        _float(heatmap, n, m, p, 2),
        _float(heatmap, n, m),
        _int(heatmap, n, m),
        _int(heatmap, n, m),
        _int(heatmap, n, num_classes),
        _int(heatmap, n),
        _bool(heatmap, n),
    )


_SCHEMA = torch.ops.deeperlab.fuse.default._schema
_MAX_INSTANCES = [a.name for a in _SCHEMA.arguments].index("max_instances") - 11


@_register_fake("argmax")
def _argmax(semantic: Tensor, *, num_classes: int, stride: int, nodes: Size, size: Size) -> tuple[Tensor, Tensor]:
    n = semantic.shape[0]
    return _int(semantic, n, *nodes), _int(semantic, n, *size)


@_register_fake("refine")
def _refine(long_range: Tensor, short_range: Tensor, *, stride: int, long_steps: int, long_short_steps: int) -> Tensor:
    n, channels, h, w = long_range.shape
    return _float(long_range, n, channels // 2, h, w, 2)


@_register_fake("vote")
def _vote(
    heatmap: Tensor,
    short_range: Tensor,
    target: Tensor,
    node_label: Tensor,
    *,
    things: Size,
    stride: int,
    size: Size,
    vote_cell: int,
    short_weight: float,
    long_weight: float,
    all_voters: bool,
) -> Tensor:
    cell = max(stride, vote_cell)
    rows, columns = ((side - 1) // cell + 2 for side in size)
    return heatmap.new_empty((*heatmap.shape[:2], rows, columns), dtype=torch.int64)


@_register_fake("peaks")
def _peaks(
    votes: Tensor, *, stride: int, nodes: Size, vote_cell: int, radius: float, threshold: float, max_candidates: int
) -> tuple[Tensor, ...]:
    n, k = votes.shape[0], max_candidates
    return _int(votes, n, k, 3), _float(votes, n, k, 2), _int(votes, n), _bool(votes, n)


@_register_fake("trace")
def _trace(
    position: Tensor,
    candidate: Tensor,
    count: Tensor,
    middle_range: Tensor,
    short_range: Tensor,
    *,
    edges: Size,
    stride: int,
    size: Size,
    middle_steps: int,
) -> Tensor:
    n, k = candidate.shape[:2]
    return _float(short_range, n, k, short_range.shape[1] // 2, 2)


@_register_fake("rescore")
def _rescore(
    keypoints: Tensor,
    count: Tensor,
    votes: Tensor,
    heatmap: Tensor,
    *,
    stride: int,
    vote_cell: int,
    radius: float,
    kappa: Sequence[float],
    oks_cell: bool,
) -> tuple[Tensor, Tensor]:
    n, k, p, _ = keypoints.shape
    return _float(heatmap, n, k, p), _float(heatmap, n, k)


@_register_fake("select")
def _select(
    candidate: Tensor,
    count: Tensor,
    keypoints: Tensor,
    keypoint_score: Tensor,
    score: Tensor,
    *,
    instance_threshold: float,
    nms_radius: float,
    nms_radius_min: float,
    nms_relative: float,
    box_iou: float,
    max_instances: int,
) -> tuple[Tensor, ...]:
    n, _, p, _ = keypoints.shape
    m = max_instances
    return _float(score, n, m, p, 2), _float(score, n, m), _int(score, n), _bool(score, n)


@_register_fake("assign")
def _assign(
    target: Tensor,
    node_label: Tensor,
    label: Tensor,
    keypoints: Tensor,
    count: Tensor,
    *,
    things: Size,
    stride: int,
    max_distance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _int(target, *node_label.shape), _float(target, *node_label.shape), _int(target, *label.shape)


@_register_fake("merge")
def _merge(
    label: Tensor,
    instance: Tensor,
    node_label: Tensor,
    node_instance: Tensor,
    node_distance: Tensor,
    keypoints: Tensor,
    count: Tensor,
    *,
    things: Size,
    num_classes: int,
    radius: float,
    fit_area: float,
    majority_all: bool,
) -> tuple[Tensor, ...]:
    n, m = keypoints.shape[:2]
    return _int(label, *label.shape), _int(label, n, m), _int(label, n, m), _int(label, n, num_classes)


fuse = torch.ops.deeperlab.fuse.default
argmax = torch.ops.deeperlab.argmax.default
refine = torch.ops.deeperlab.refine.default
vote = torch.ops.deeperlab.vote.default
peaks = torch.ops.deeperlab.peaks.default
trace = torch.ops.deeperlab.trace.default
rescore = torch.ops.deeperlab.rescore.default
select = torch.ops.deeperlab.select.default
assign = torch.ops.deeperlab.assign.default
merge = torch.ops.deeperlab.merge.default

STAGES = ("argmax", "refine", "vote", "peaks", "trace", "rescore", "select", "assign", "merge")
