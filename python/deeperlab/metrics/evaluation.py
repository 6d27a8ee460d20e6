# SPDX-License-Identifier: Apache-2.0
"""All metrics from one count of the maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .covering import CoveringResult, ParsingCovering
from .iou import IoUResult, MeanIoU
from .pairs import Metric, Pairs, Segmentation
from .quality import Matching, PanopticQuality, QualityResult


@dataclass(frozen=True)
class EvaluationResult:
    """Panoptic quality, parsing covering and IoU."""

    pq: QualityResult
    pc: CoveringResult
    iou: IoUResult

    def to_dict(self) -> dict[str, Any]:
        """`{"pq", "pc": {"normalized", "pixel"}, "miou"}` for JSON: fractions, None where undefined."""
        return {"pq": self.pq.to_dict(), "pc": self.pc.to_dict(), "miou": self.iou.to_dict()["miou"]}


class Evaluation(Metric):
    """`PanopticQuality`, `ParsingCovering` and `MeanIoU` over a stream of images, which are counted once.

    Args:
        categories: category id → is it a thing?
    """

    _columns = 0

    def __init__(self, categories: Mapping[int, bool]) -> None:
        super().__init__(categories)
        self.quality, self.covering = PanopticQuality(self.categories), ParsingCovering(self.categories)
        self.iou = MeanIoU(self.categories)

    def update(self, prediction: Segmentation, target: Segmentation) -> Matching:
        """Count one image, and say which segments matched; errors as of `PanopticQuality.update`."""
        return self.add(self._lay_over(prediction, target))

    def add(self, pairs: Pairs) -> Matching:
        """`update` with the answer of `lay_over`."""
        self.covering.add(pairs)
        self.iou.add(pairs)
        return self.quality.add(pairs)

    def merge(self, other: Metric) -> None:
        """Add what another evaluation counted; errors as of `Metric.merge`."""
        super().merge(other)
        assert isinstance(other, Evaluation)
        self.quality.merge(other.quality)
        self.covering.merge(other.covering)
        self.iou.merge(other.iou)

    def compute(self) -> EvaluationResult:
        """The results so far."""
        return EvaluationResult(self.quality.compute(), self.covering.compute(), self.iou.compute())
