# SPDX-License-Identifier: Apache-2.0
"""The figure that a network is judged by: which weights are the best, and what the ceiling is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..graph import Graph

if TYPE_CHECKING:
    from ..metrics import EvaluationResult


@dataclass(frozen=True)
class Merit:
    """A figure of a validation.

    Attributes:
        key: in metrics.jsonl.
        name: as readers know it.
    """

    key: Literal["pq", "miou"]
    name: str

    def of(self, result: EvaluationResult) -> float:
        """Return it as a fraction, NaN where nothing counts."""
        return result.pq.all.pq if self.key == "pq" else result.iou.miou


PQ, MIOU = Merit("pq", "PQ"), Merit("miou", "mIoU")


def merit_of(graph: Graph) -> Merit:
    """Return PQ; without keypoints mIoU, for a network that finds no instance has one segment for all things of a class
    and is right about it where one of them is alone: its PQ says little of what it has learnt."""
    return PQ if graph.keypoints else MIOU


def merit_of_line(line: Mapping[str, Any]) -> Merit:
    """Return the figure that a validation was judged by, of its line in metrics.jsonl."""
    return MIOU if line.get("judged_by") == MIOU.key else PQ
