# SPDX-License-Identifier: Apache-2.0
"""The fusion of one image stage by stage, and with given instances in place of found ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _numpy as engine
from ..heads import Heads
from ..params import FuseParams

Float = NDArray[np.float32]
Integer = NDArray[np.int32]
Maps = tuple[Integer, Integer]
"""semantic, instance [H, W]."""


@dataclass(frozen=True)
class Stages:
    """What the stages up to `select` make of one image's heads; K candidates, P keypoints.

    Attributes:
        kind: int32 [K], the keypoint kind of each peak; position: float32 [K, 2] px.
        hypotheses: float32 [K, P, 2] px; score: float32 [K].
        without_nms: float32 [A, P, 2] px, accepted before the box NMS.
    """

    kind: Integer
    position: Float
    hypotheses: Float
    score: Float
    without_nms: Float


def stages(heads: Heads, things: Sequence[int], size: tuple[int, int], params: FuseParams) -> Stages:
    """Run the stages one by one on the heads of one image (arrays without batch dimension)."""
    heatmap, short, stride = heads.heatmap[None], heads.short_range[None], heads.stride
    grid = heatmap.shape[2:]
    node_label, _ = _labels(heads, size)
    target = _targets(heads, params)
    votes = engine.vote(
        heatmap,
        short,
        target,
        node_label,
        things=things,
        stride=stride,
        size=size,
        vote_cell=params.vote_cell,
        short_weight=params.short_weight,
        long_weight=params.long_weight,
        all_voters=params.long_voters == "all",
    )
    candidate, position, count, _ = engine.peaks(
        votes,
        stride=stride,
        nodes=grid,
        vote_cell=params.vote_cell,
        radius=params.radius,
        threshold=params.peak_threshold,
        max_candidates=params.max_candidates,
    )
    traced = engine.trace(
        position,
        candidate,
        count,
        heads.middle_range[None],
        short,
        edges=[end for edge in heads.graph.edges for end in edge],
        stride=stride,
        size=size,
        middle_steps=params.middle_steps,
    )
    keypoint_score, score = engine.rescore(
        traced,
        count,
        votes,
        heatmap,
        stride=stride,
        vote_cell=params.vote_cell,
        radius=params.radius,
        kappa=params.kappas(heatmap.shape[1]),
        oks_cell=params.oks_cell,
    )
    accepted, _, kept, _ = engine.select(
        candidate,
        count,
        traced,
        keypoint_score,
        score,
        instance_threshold=params.instance_threshold,
        nms_radius=params.nms_radius,
        nms_radius_min=params.nms_radius_min,
        nms_relative=params.nms_relative,
        box_iou=1.0,  # nothing overlaps more than wholly
        max_instances=params.max_candidates,
    )
    k = int(count[0])
    return Stages(candidate[0, :k, 0], position[0, :k], traced[0, :k], score[0, :k], accepted[0, : int(kept[0])])


def true_keypoint_result(
    heads: Heads, truth: Float, things: Sequence[int], size: tuple[int, int], params: FuseParams
) -> Maps:
    """The maps that follow when the instances are given: keypoints float32 [N, P, 2] px in place of found ones."""
    node_label, label = _labels(heads, size)
    room = np.zeros((1, max(len(truth), 1), *truth.shape[1:]), np.float32)
    room[0, : len(truth)] = truth
    count = np.array([len(truth)], np.int32)
    node_instance, distance, instance = engine.assign(
        _targets(heads, params),
        node_label,
        label,
        room,
        count,
        things=things,
        stride=heads.stride,
        max_distance=math.inf if params.max_distance is None else params.max_distance,
    )
    semantic, *_ = engine.merge(
        label,
        instance,
        node_label,
        node_instance,
        distance,
        room,
        count,
        things=things,
        num_classes=heads.semantic.shape[0],
        radius=params.radius,
        fit_area=params.fit_area,
        majority_all=params.majority == "all",
    )
    return semantic[0], instance[0]


def _labels(heads: Heads, size: tuple[int, int]) -> tuple[Integer, Integer]:
    semantic, grid = heads.semantic[None], heads.heatmap.shape[1:]
    return engine.argmax(semantic, num_classes=semantic.shape[1], stride=heads.stride, nodes=grid, size=size)


def _targets(heads: Heads, params: FuseParams) -> Float:
    return engine.refine(
        heads.long_range[None],
        heads.short_range[None],
        stride=heads.stride,
        long_steps=params.long_steps,
        long_short_steps=params.long_short_steps,
    )
