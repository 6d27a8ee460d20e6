# SPDX-License-Identifier: Apache-2.0
"""The plain C++ programs as functions: `Heads` of one image in, a `Panoptic` of arrays out."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeperlab import FuseParams, Heads, Panoptic
from deeperlab.heads import NAMES

from .build import load

_POINTERS = (*NAMES, "thing", "edges")
_SHAPE = ("is_half", "classes", "keypoints", "num_edges", "h", "w", "stride", "height", "width")
_COUNTS = (
    *("long_steps", "long_short_steps", "all_voters", "vote_cell"),
    *("max_candidates", "middle_steps", "oks_cell", "max_instances", "majority_all"),
)
_REALS = (
    *("short_weight", "long_weight", "radius", "peak_threshold", "kappa", "instance_threshold"),
    *("nms_radius", "nms_radius_min", "nms_relative", "box_iou", "max_distance", "fit_area"),
)
ANSWER = ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated")


class _Problem(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int32) for name in (*_SHAPE, *_COUNTS)),
        *((name, ctypes.c_double) for name in _REALS),
    )


class _Answer(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ANSWER)


def same_answer(
    heads: Heads, things: Sequence[int], params: FuseParams | None = None, seconds: NDArray[np.float64] | None = None
) -> Panoptic:
    """The definition without pruning: what `deeperlab.fuse` gives, bit for bit.

    What each stage took is written to `seconds`, [9], in the order of `pipeline.NAMES`.
    """
    clock = ctypes.c_void_p(None if seconds is None else seconds.ctypes.data)
    return _call("same_answer", heads, things, FuseParams() if params is None else params, clock)


def upsample_first(heads: Heads, things: Sequence[int]) -> Panoptic:
    """Everything at full resolution, the paper to the letter, votes collected pixel by pixel."""
    return _call("upsample_first", heads, things, replace(FuseParams.paper(), vote_cell=1))


def _call(program: str, heads: Heads, things: Sequence[int], params: FuseParams, *more: Any) -> Panoptic:
    arrays = [np.ascontiguousarray(getattr(heads, name)) for name in NAMES]
    kind = arrays[0].dtype
    if arrays[1].ndim != 4 or len(arrays[1]) != 1:
        raise ValueError(f"heads: expected one image with its batch dimension, got heatmap {arrays[1].shape}")
    if kind not in (np.float32, np.float16):
        raise TypeError(f"heads: expected float32 or float16 logits, got {kind}")
    if isinstance(params.kappa, tuple):
        raise ValueError(f"kappa: expected one value for all keypoints, got {params.kappa}")
    edges = np.array(heads.graph.edges, np.int32)
    thing = np.isin(np.arange(heads.classes), things).astype(np.uint8)
    (keypoints, h, w), (height, width) = arrays[1].shape[1:], heads.default_size
    numbers: dict[str, Any] = {name: getattr(params, name) for name in (*_COUNTS, *_REALS) if hasattr(params, name)}
    numbers |= {"all_voters": params.long_voters == "all", "majority_all": params.majority == "all"}
    numbers["max_distance"] = math.inf if params.max_distance is None else params.max_distance
    problem = _Problem(
        *(array.ctypes.data for array in (*arrays, thing, edges)),
        *(kind == np.float16, heads.classes, keypoints, len(edges), h, w, heads.stride, height, width),
        **numbers,
    )
    most = params.max_instances
    fields: dict[str, NDArray[Any]] = {
        "semantic": np.empty((1, height, width), np.int32),
        "instance": np.empty((1, height, width), np.int32),
        "keypoints": np.empty((1, most, keypoints, 2), np.float32),
        "score": np.empty((1, most), np.float32),
        "category": np.empty((1, most), np.int32),
        "area": np.empty((1, most), np.int32),
        "class_area": np.empty((1, heads.classes), np.int32),
        "count": np.empty(1, np.int32),
        "truncated": np.empty(1, np.bool_),
    }
    answer = _Answer(**{name: field.ctypes.data for name, field in fields.items()})
    getattr(load(program), program)(ctypes.byref(problem), ctypes.byref(answer), *more)
    return Panoptic(things=tuple(things), **fields)
