# SPDX-License-Identifier: Apache-2.0
"""Which head costs how much: each is replaced by the truth in turn, and the others stay as the network has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..fuse import fuse
from ..graph import Graph
from ..heads import Heads, names_of
from ..metrics import EvaluationResult
from ..oracle import Truth
from ..params import FuseParams
from ..predictor import Parsed
from .merit import merit_of
from .tally import Gather, Tally, alone, maps_of
from .truth import heads_of, resized, truth_of

LABELS = "labels"
"""Stands for the class of every pixel in the place of the semantic head's logits at the nodes: what they lose of it is
lost by the truth's logits, too."""


class HeadCosts:
    """PQ, or by what else the network is judged, with the truth in the place of one head.

    Args:
        labels: of the samples.
        radius: of the keypoint disks, px as the network sees them.
        params: of the fusion.
        graph: the network's keypoints and edges.
    """

    def __init__(self, labels: LabelSet, radius: float, params: FuseParams, graph: Graph) -> None:
        self._labels, self._radius, self._params, self._graph = labels, radius, params, graph
        self._tallies = {name: Tally(labels) for name in (*names_of(graph), LABELS)}

    def add(self, number: int, parsed: Parsed, sample: Sample) -> None:
        """Fuse the heads of an image once for each that is replaced."""
        truth = truth_of(sample, self._labels, self._graph, parsed.size)
        for name, heads in self._replaced(parsed.heads, truth):
            found = fuse(heads, self._labels.things, size=parsed.size, params=self._params)
            self._tallies[name].add(number, resized(maps_of(found), parsed.original), sample)

    def compute(self, found: EvaluationResult, gather: Gather = alone) -> dict[str, float]:
        """Compute what each truth gains over the result of the network, NaN where nothing counts; most first."""
        merit = merit_of(self._graph)
        gained = {name: merit.of(tally.compute(gather)) - merit.of(found) for name, tally in self._tallies.items()}
        return dict(sorted(gained.items(), key=lambda item: -item[1]))

    def _replaced(self, heads: Heads, truth: Truth) -> Iterator[tuple[str, Heads]]:
        """The heads with the truth in the place of each."""
        like: torch.Tensor = heads.heatmap
        h, w = like.shape[-2:]
        stride = heads.stride
        size = (h - 1) * stride + 1, (w - 1) * stride + 1  # at least that of the truth
        true = heads_of(truth, size, radius=self._radius, stride=stride, graph=self._graph)
        for name in names_of(self._graph):
            head: Any = torch.from_numpy(getattr(true, name)).to(like)
            yield name, replace(heads, **{name: head})
        labels = torch.from_numpy(truth.category).to(like.device)
        yield LABELS, replace(heads, semantic=labels, num_classes=heads.classes)


def describe(gained: Mapping[str, float]) -> str:
    """Say it in a line: `semantic +12.3, heatmap +1.0, …`, in points of per cent."""
    return ", ".join(f"{name} {100 * points:+.1f}" for name, points in gained.items())
