# SPDX-License-Identifier: Apache-2.0
"""Which head costs how much PQ: each is replaced by the truth in turn, and the others stay as the network has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..fuse import fuse
from ..heads import NAMES, Heads
from ..oracle import Truth
from ..params import FuseParams
from ..predictor import Parsed
from .tally import Gather, Tally, alone, maps_of
from .truth import heads_of, resized, truth_of

LABELS = "labels"
"""Stands for the class of every pixel in the place of the semantic head's logits at the nodes: what they lose of it is
lost by the truth's logits, too."""


class HeadCosts:
    """PQ with the truth in the place of one head.

    Args:
        labels: of the samples.
        radius: of the keypoint disks, px as the network sees them.
        params: of the fusion.
    """

    def __init__(self, labels: LabelSet, radius: float, params: FuseParams) -> None:
        self._labels, self._radius, self._params = labels, radius, params
        self._tallies = {name: Tally(labels) for name in (*NAMES, LABELS)}

    def add(self, number: int, parsed: Parsed, sample: Sample) -> None:
        """Fuse the heads of an image once for each that is replaced."""
        truth = truth_of(sample, self._labels, parsed.heads.graph, parsed.size)
        for name, heads in self._replaced(parsed.heads, truth):
            found = fuse(heads, self._labels.things, size=parsed.size, params=self._params)
            self._tallies[name].add(number, resized(maps_of(found), parsed.original), sample)

    def compute(self, pq: float, gather: Gather = alone) -> dict[str, float]:
        """Compute the PQ that each truth gains over that of the network, NaN where nothing counts; most first."""
        gained = {name: tally.compute(gather).pq.all.pq - pq for name, tally in self._tallies.items()}
        return dict(sorted(gained.items(), key=lambda item: -item[1]))

    def _replaced(self, heads: Heads, truth: Truth) -> Iterator[tuple[str, Heads]]:
        """The heads with the truth in the place of each."""
        like: torch.Tensor = heads.heatmap
        h, w = like.shape[-2:]
        stride = heads.stride
        size = (h - 1) * stride + 1, (w - 1) * stride + 1  # at least that of the truth
        true = heads_of(truth, size, radius=self._radius, stride=stride, graph=heads.graph)
        for name in NAMES:
            head: Any = torch.from_numpy(getattr(true, name)).to(like)
            yield name, replace(heads, **{name: head})
        labels = torch.from_numpy(truth.category).to(like.device)
        yield LABELS, replace(heads, semantic=labels, num_classes=heads.classes)


def describe(gained: Mapping[str, float]) -> str:
    """Say it in a line: `semantic +12.3, heatmap +1.0, …`, in points of PQ."""
    return ", ".join(f"{name} {100 * points:+.1f}" for name, points in gained.items())
