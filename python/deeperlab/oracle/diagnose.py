# SPDX-License-Identifier: Apache-2.0
"""Which stage of the fusion lost an instance of a ground truth, told from perfect heads and their true keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._schema import PARAMETERS
from ..data.formats.coco import Category, SegmentInfo
from ..graph import STAR, Graph
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from ..stages import numpy_ops, pipeline
from ..targets import keypoints

Float = NDArray[np.float32]
Integer = NDArray[np.int32]
Bool = NDArray[np.bool_]
Maps = tuple[Integer, Integer]
"""semantic, instance [H, W]."""


@dataclass(frozen=True)
class Lost:
    """A thing segment of the ground truth that nothing matches.

    Attributes:
        area: px.
        stage: the stage of the fusion that lost it: `vote` (no peak near any of its keypoints), `trace` (no hypothesis
            near all of them), `rescore` (below `instance_threshold`), `select`, `assign` (found, but its pixels went
            elsewhere), `merge` (the majority voted for another class); `border` for an IoU of 0.3 to 0.5, which is
            sampling; `representation` where the true keypoints lose it as well.
        reason: in words.
        iou: with the instance that stands for it, whatever its class; 0 where there is none.
    """

    segment_id: int
    category_id: int
    category: str
    area: int
    stage: str
    reason: str
    iou: float


@dataclass(frozen=True)
class Truth:
    """A ground truth as the targets want it.

    Crowd and void pixels carry no label, as where networks are trained: a crowd has no keypoints, and were its pixels
    to keep their class, they would join the nearest instance and out-vote the class of a small one.

    Attributes:
        category: int32 [H, W], places in the list of categories, -1 for crowd and void.
        instance: int32 [H, W], 1 … N: the things that are no crowd, in the order of `segments`.
        keypoints: float32 [N, P, 2], (x, y) px.
        segments: the N instances.
        categories: all.
    """

    category: Integer
    instance: Integer
    keypoints: Float
    segments: tuple[SegmentInfo, ...]
    categories: tuple[Category, ...]

    @classmethod
    def of(
        cls,
        ids: NDArray[Any],
        segments: Sequence[SegmentInfo],
        categories: Sequence[Category],
        graph: Graph = STAR,
    ) -> Truth:
        """Make it from an id map [H, W] all of whose ids but 0 are among the segments."""
        place = {category.id: c for c, category in enumerate(categories)}
        values, index = np.unique(ids, return_inverse=True)
        rows = {value: row for row, value in enumerate(values.tolist())}
        category, instance = np.full(len(values), -1, np.int32), np.zeros(len(values), np.int32)
        things = []
        for segment in segments:
            if segment.iscrowd:
                continue
            row, c = rows[segment.id], place[segment.category_id]
            category[row] = c
            if categories[c].isthing:
                things.append(segment)
                instance[row] = len(things)
        index = index.reshape(ids.shape)
        instances = instance[index]
        points = keypoints(instances, graph)[1]
        return cls(category[index], instances, points, tuple(things), tuple(categories))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.category.shape[0], self.category.shape[1]

    @property
    def ignored(self) -> Bool:
        """Crowd and void pixels, bool [H, W]."""
        return np.asarray(self.category < 0)


@dataclass(frozen=True)
class Candidates:
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

    @classmethod
    def of(cls, heads: Heads, things: Sequence[int], size: tuple[int, int], params: FuseParams) -> Candidates:
        """Run the stages on the heads of one image (arrays without batch dimension), without a box NMS."""
        room = min(params.max_candidates, int(PARAMETERS["max_instances"].high))
        params = replace(params, box_iou=1.0, max_instances=room)  # nothing overlaps by more
        stages = pipeline.NAMES[: pipeline.NAMES.index("assign")]
        values = pipeline.run(numpy_ops, heads.map(lambda head: head[None]), things, size, params, stages=stages)
        candidates, accepted = int(values["candidates"][0]), int(values["count"][0])
        found = (values[name][0, :candidates] for name in ("candidate", "position", "hypothesis", "candidate_score"))
        candidate, position, hypotheses, score = found
        return cls(candidate[:, 0], position, hypotheses, score, values["keypoints"][0, :accepted])


class Diagnosis:
    """Explain the losses of one image.

    Args:
        heads: perfect heads, arrays without batch dimension.
        things: thing classes.
        found: what `fuse` made of the heads; best: what the true keypoints make of them.
    """

    def __init__(
        self, heads: Heads, things: Sequence[int], params: FuseParams, truth: Truth, found: Panoptic, best: Maps
    ) -> None:
        self.truth, self.params = truth, params
        self.found, self.best = (found.semantic, found.instance), best
        self.truncated = bool(found.truncated)
        self.kept: Float = found.keypoints[: int(found.count)]
        self.near = 2 * max(heads.stride, params.vote_cell)
        """px: two vote cells; the position of a peak is the centroid of 3 × 3 of them."""
        self._arguments = heads, things, truth.size, params

    @cached_property
    def candidates(self) -> Candidates:
        """Computed once, on the first loss that needs them."""
        return Candidates.of(*self._arguments)

    def explain(self, segment: SegmentInfo, lost_anyway: bool) -> Lost:
        """Explain why a thing segment is lost; `lost_anyway`: with the true keypoints too."""
        number = self.truth.segments.index(segment)
        mask = self.truth.instance == number + 1
        iou, stage, reason = self._after_select(number, mask, self.found, self._owner(self.kept))
        if lost_anyway:
            all_instances: Integer = np.arange(len(self.truth.segments), dtype=np.int32)
            iou, stage, reason = self._after_select(number, mask, self.best, all_instances)
            stage, reason = "representation", f"with its true keypoints, {stage}: {reason}"
        else:
            stage, reason = self._before_assign(number) or (stage, reason)
        name = self._category_name(segment)
        return Lost(segment.id, segment.category_id, name, int(mask.sum()), stage, reason, round(iou, 4))

    def _before_assign(self, number: int) -> tuple[str, str] | None:
        """The stage up to `select` that has no trace of the instance any more."""
        truth, s, p = self.truth.keypoints[number], self.candidates, self.params
        away = np.hypot(*(s.position - truth[s.kind]).T)
        if not (away <= self.near).any():
            nearest = f"the nearest is {away.min():.0f} px off" if len(away) else "there is none"
            return "vote", f"no peak within {self.near} px of its keypoints; {nearest}"
        close = self._stands_for(s.hypotheses, number)
        if not close.any():
            off = self._distance(s.hypotheses)[:, number]
            best = int(off.argmin())
            found = f"{int((away <= self.near).sum())} peaks, but the best hypothesis is {off[best]:.1f} px off"
            if off[best] <= self.near:
                found += f", nearer to {self._call(self._owner(s.hypotheses), best + 1)}"
            return "trace", found
        if s.score[close].max() < p.instance_threshold:
            return "rescore", f"score {s.score[close].max():.3f} is below instance_threshold {p.instance_threshold:g}"
        if self._stands_for(self.kept, number).any():
            return None
        owners = self._owner(self.kept)
        survived = self._stands_for(s.without_nms, number)
        if self.truncated and len(self.kept) == p.max_instances:
            return "select", f"no room among max_instances = {p.max_instances}"
        if survived.any():
            overlap = _box_iou(s.without_nms[survived][0], self.kept)
            rival = self._call(owners, int(overlap.argmax()) + 1)
            return "select", f"box NMS: box IoU {overlap.max():.2f} with {rival}, above box_iou {p.box_iou:g}"
        gap = np.hypot(*np.moveaxis(s.hypotheses[close][0] - s.without_nms, -1, 0)).min(axis=1)
        rival = self._call(self._owner(s.without_nms), int(gap.argmin()) + 1)
        return "select", f"rejected as near an accepted instance: a keypoint is {gap.min():.1f} px from that of {rival}"

    def _after_select(self, number: int, mask: Bool, maps: Maps, owners: Integer) -> tuple[float, str, str]:
        """IoU, stage and reason for an instance that `select` let pass."""
        semantic, instance = maps
        iou, winner = self._overlap(mask, instance, owners == number)
        if iou > 0.5:
            voted = self.truth.categories[int(semantic[instance == winner][0])].name
            return iou, "merge", f"IoU {iou:.2f}, but the majority voted {voted}"
        return iou, "border" if iou >= 0.3 else "assign", self._shares(mask, maps, owners, winner)

    def _overlap(self, mask: Bool, instance: Integer, preferred: Bool) -> tuple[float, int]:
        """Best IoU with a mask, crowd and void apart, and whose; among preferred instances [K], or any above 0.5."""
        counted = np.where(self.truth.ignored, 0, instance)
        numbers, inside = np.unique(counted[mask], return_counts=True)
        area = np.bincount(counted.ravel())[numbers]
        iou = inside / (mask.sum() + area - inside)
        eligible = (numbers > 0) & (np.append(False, preferred)[numbers] | (iou > 0.5))
        if not eligible.any():
            return 0.0, 0
        best = int(np.where(eligible, iou, 0).argmax())
        return float(iou[best]), int(numbers[best])

    def _shares(self, mask: Bool, maps: Maps, owners: Integer, winner: int) -> str:
        """Where the pixels of a mask went, and how many others its instance has."""
        semantic, instance = maps
        key, pixels = np.unique(np.stack((instance[mask], semantic[mask])), axis=1, return_counts=True)
        parts = []
        for i in np.argsort(-pixels, kind="stable")[:3]:
            number, c = (int(v) for v in key[:, i])
            if number == winner and winner:
                name = "its own instance"
            else:
                name = self._call(owners, number) if number else self.truth.categories[c].name
            parts.append(f"{100 * pixels[i] / mask.sum():.0f} % {name}")
        others = int(np.count_nonzero(~mask & ~self.truth.ignored & (instance == winner))) if winner else 0
        return f"its pixels: {', '.join(parts)}" + (f"; its instance has {others} px of others" if others else "")

    def _call(self, owners: Integer, number: int) -> str:
        """`person 4260062`: an instance by the ground-truth segment that it stands for."""
        segment = self.truth.segments[int(owners[number - 1])]
        return f"{self._category_name(segment)} {segment.id}"

    def _category_name(self, segment: SegmentInfo) -> str:
        return next(category.name for category in self.truth.categories if category.id == segment.category_id)

    def _distance(self, hypotheses: Float) -> Float:
        """Root-mean-square distance of the keypoints [K, P, 2] from those of every true instance: [K, N] px."""
        rms = [np.sqrt(((hypotheses - true) ** 2).sum(-1).mean(-1)) for true in self.truth.keypoints]
        return np.stack(rms, axis=1).astype(np.float32)

    def _owner(self, hypotheses: Float) -> Integer:
        """The true instance that is nearest to each hypothesis, [K]."""
        return np.asarray(self._distance(hypotheses).argmin(axis=1), np.int32)

    def _stands_for(self, hypotheses: Float, number: int) -> Bool:
        """Which hypotheses [K] stand for a true instance: near to it, and not nearer to another."""
        distance = self._distance(hypotheses)
        return np.asarray((distance[:, number] <= self.near) & (distance[:, number] <= distance.min(axis=1)))


def _box_iou(keypoints: Float, others: Float) -> NDArray[np.float64]:
    """IoU of the box of keypoints [P, 2] with those of [K, P, 2]."""
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    lows, highs = others.min(axis=1), others.max(axis=1)
    inter = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0).prod(axis=-1, dtype=np.float64)
    union = (high - low).prod() + (highs - lows).prod(axis=-1) - inter
    return np.asarray(inter / np.where(union > 0, union, 1), np.float64)
