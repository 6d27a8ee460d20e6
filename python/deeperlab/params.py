# SPDX-License-Identifier: Apache-2.0
"""Every number of the fusion that is a choice: the only home of defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class FuseParams:
    """Parameters of the fusion, in the order of its stages; lengths are in image pixels.

    [P] marks the DeeperLab paper's word, [PL] PersonLab's, all others are ours, chosen by measurement
    (docs/tuning.md). `FuseParams.paper()` is the literal reading of the papers.

    Attributes:
        long_steps: Steps of the long-range offsets by themselves. 0: a box corner often lies off its object, where
            they are untrained ([PL] 2).
        long_short_steps: Steps of the long-range target by the short-range offsets [PL].
        long_voters: Nodes that cast long-range votes: those labeled with a thing class, or all.
        vote_cell: Least width of a vote cell; the width is max(stride, vote_cell).
        short_weight: Weight of the short-range score map, a multiple of 1/256.
        long_weight: Weight of the long-range score map, a multiple of 1/256.
        radius: R, the radius of the keypoint disks [P].
        peak_threshold: Least score of a peak, as a share of the votes of one ideal disk, π(R/stride)².
        max_candidates: Peaks kept per image, best first; more set `truncated`.
        middle_steps: Steps of the middle-range target by the short-range offsets [PL].
        kappa: Keypoint fall-off as a share of the instance size; one value, or one per keypoint.
        oks_cell: Widen the fall-off by the width of a vote cell, without which small instances score 0.
        instance_threshold: Least instance score of a hypothesis.
        nms_radius: Greatest distance at which a keypoint is taken for one of an accepted instance [PL].
        nms_radius_min: Least such distance, for small instances.
        nms_relative: Between the two the distance is this share of √(smaller box area).
        box_iou: Boxes that overlap more than this are one instance.
        max_instances: M, the instances that the result has room for; more set `truncated`.
        max_distance: Greatest root-mean-square distance of a node's keypoints to its instance's; None: no cut-off
            [P].
        majority: Who votes on an instance's class: its thing nodes that fit it, or all its thing pixels [P].
        fit_area: A node fits when its mean squared keypoint distance is at most max(R², fit_area·box area).

    Raises:
        ValueError, TypeError: a value out of bounds, named with what was expected.
    """

    # refine: recursive offset refinement [P]
    long_steps: int = 0
    long_short_steps: int = 2

    # vote: Hough voting [P]
    long_voters: Literal["thing", "all"] = "thing"
    vote_cell: int = 4
    short_weight: float = 1.0
    long_weight: float = 1.0

    # peaks
    radius: float = 25.0
    peak_threshold: float = 0.05
    max_candidates: int = 4096

    # trace
    middle_steps: int = 2

    # rescore: Expected-OKS [P, PL]
    kappa: float | tuple[float, ...] = 0.1
    oks_cell: bool = True
    instance_threshold: float = 0.05

    # select: greedy grouping, then box NMS [P]
    nms_radius: float = 10.0
    nms_radius_min: float = 2.0
    nms_relative: float = 0.35
    box_iou: float = 0.7
    max_instances: int = 1024

    # assign
    max_distance: float | None = None

    # merge: majority vote [P]
    majority: Literal["fit", "all"] = "fit"
    fit_area: float = 0.25

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:  # no vars(self): torch.compile of torch 2.11 cannot follow it
            value = getattr(self, name)  # NumPy's numbers, and lists of them, as Python's
            if type(value).__module__ == "numpy":
                object.__setattr__(self, name, value.tolist())
        if isinstance(self.kappa, list):
            object.__setattr__(self, "kappa", tuple(self.kappa))
        from ._schema import PARAMETERS  # what the engine takes is the engine's to say

        for name, parameter in PARAMETERS.items():
            value = getattr(self, name)
            for one in value if parameter.type == "float[]" and isinstance(value, tuple) else (value,):
                parameter.check(one)
        if self.kappa == ():
            raise ValueError("kappa: expected a number, or one for each keypoint, got ()")
        if self.nms_radius_min > self.nms_radius:
            raise ValueError(
                f"nms_radius_min: expected at most nms_radius = {self.nms_radius}, got {self.nms_radius_min}"
            )

    def options(self, keypoints: int) -> dict[str, Any]:
        """Return the parameters as the operators take them, for a graph of P keypoints.

        Raises:
            ValueError: as `kappas`.
        """
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "kappa": list(self.kappas(keypoints)),
        }

    def kappas(self, keypoints: int) -> tuple[float, ...]:
        """Return one κ for each of P keypoints.

        Raises:
            ValueError: there are some, but not as many.
        """
        values = self.kappa if isinstance(self.kappa, tuple) else (self.kappa,) * keypoints
        if len(values) != keypoints:
            raise ValueError(f"kappa: expected one value or one for each of {keypoints} keypoints, got {len(values)}")
        return tuple(float(value) for value in values)

    @classmethod
    def paper(cls) -> FuseParams:
        """The literal reading of the papers: 2/2/2 refinement steps, all voters, a fixed radius of 10 px,
        no cell term in the OKS, the majority over all pixels."""
        return cls(
            long_steps=2,
            long_voters="all",
            oks_cell=False,
            nms_radius_min=10.0,
            majority="all",
        )
