# SPDX-License-Identifier: Apache-2.0
"""Several metrics from one count of the maps."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .covering import CoveringResult, ParsingCovering
from .iou import IoUResult, MeanIoU
from .metric import Metric, Result
from .pairs import Pairs
from .quality import Matching, PanopticQuality, QualityResult

MetricFactory = Callable[[Mapping[int, bool]], Metric]
"""A metric class, or what else makes a metric of the categories."""
METRICS: tuple[MetricFactory, ...] = (PanopticQuality, ParsingCovering, MeanIoU)
"""What an `Evaluation` counts unless it is told otherwise."""


@dataclass(frozen=True)
class EvaluationResult:
    """The results of an evaluation by the names of its metrics; `pq`, `pc` and `iou` are those of the usual three."""

    results: Mapping[str, Result]

    def __getitem__(self, name: str) -> Any:
        return self.results[name]

    @property
    def pq(self) -> QualityResult:
        """Panoptic quality."""
        return cast(QualityResult, self._result(PanopticQuality))

    @property
    def pc(self) -> CoveringResult:
        """Parsing covering."""
        return cast(CoveringResult, self._result(ParsingCovering))

    @property
    def iou(self) -> IoUResult:
        """IoU per category, and its mean."""
        return cast(IoUResult, self._result(MeanIoU))

    def to_dict(self) -> dict[str, Any]:
        """Return `{"pq", "pc": {"normalized", "pixel"}, "miou", …}` for JSON: fractions, None where undefined.

        `miou` is one number, the others are the dictionaries of their results.

        Raises:
            ValueError: what a metric gives is not JSON; it is named.
        """
        report = {}
        for name, result in self.results.items():
            values = result.to_dict()
            try:
                json.dumps(values, allow_nan=False)
            except (TypeError, ValueError) as fault:
                raise ValueError(f"{name}: expected to_dict() to return what JSON can hold, got: {fault}") from fault
            report[name] = values["miou"] if isinstance(result, IoUResult) else values
        return report

    def _result(self, metric: type[Metric]) -> Result:
        if metric.name not in self.results:
            known = ", ".join(self.results)
            raise AttributeError(f"{metric.name}: expected an evaluation with {metric.__name__}, got {known}")
        return self.results[metric.name]


class Evaluation(Metric):
    """Several metrics over a stream of images, which are counted once.

    Args:
        categories: category id → is it a thing? Or a `deeperlab.data.labels.LabelSet`.
        metrics: classes of metrics, those of your own among them.

    Attributes:
        metrics: the metrics by their names.

    Raises:
        TypeError: something else than classes of metrics.
        ValueError: none, or two of one name.
    """

    name = "evaluation"

    def __init__(self, categories: Mapping[int, bool], metrics: Iterable[MetricFactory] = METRICS) -> None:
        super().__init__(categories)
        self.metrics: dict[str, Metric] = {}
        for factory in metrics:
            metric = factory(self.categories) if callable(factory) else None
            if not isinstance(metric, Metric):
                raise TypeError(f"metrics: expected subclasses of deeperlab.metrics.Metric, got {factory!r}")
            name = getattr(metric, "name", None)
            if not isinstance(name, str) or getattr(metric, "categories", None) != self.categories:
                fault = "a name, and super().__init__(categories)"
                raise TypeError(f"metrics: expected of {type(metric).__name__} {fault}, got the name {name!r}")
            if name in self.metrics:
                raise ValueError(f"metrics: expected distinct names, got {name!r} twice")
            self.metrics[name] = metric
        if not self.metrics:
            raise ValueError("metrics: expected at least one, got none")

    def add(self, pairs: Pairs) -> Matching | None:
        """Count one image, given what `intersect` returns.

        Returns:
            Which segments match, if `PanopticQuality` is among the metrics.
        """
        self._check(pairs)
        returned = {name: metric.add(pairs) for name, metric in self.metrics.items()}
        return returned.get(PanopticQuality.name)

    def reset(self) -> None:
        """Forget all images."""
        for metric in self.metrics.values():
            metric.reset()

    def merge(self, other: Metric) -> None:
        """Add what another evaluation counted, metric by metric; errors as of `Metric.merge`."""
        self._check_kind(other)
        theirs = cast(Evaluation, other).metrics
        if theirs.keys() != self.metrics.keys():
            raise ValueError(f"other: expected the metrics {', '.join(self.metrics)}, got {', '.join(theirs)}")
        for name, metric in self.metrics.items():
            metric.merge(theirs[name])

    def compute(self) -> EvaluationResult:
        """Compute the results so far.

        Raises:
            TypeError: a metric's result has no `to_dict`; it is named.
        """
        results = {name: metric.compute() for name, metric in self.metrics.items()}
        for name, result in results.items():
            if not callable(getattr(result, "to_dict", None)):
                raise TypeError(f"{name}: expected compute() to return a result with to_dict(), got {result!r}")
        return EvaluationResult(results)


def import_metric(name: str) -> type[Metric]:
    """Import a metric class from `package.module:Class`; modules in the working directory are found too.

    Raises:
        ValueError: another form, no such module or class, or no subclass of `Metric`.
    """
    module_name, colon, class_name = name.partition(":")
    if not (colon and class_name and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(f"metric: expected package.module:Class, got {name!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as fault:
        raise ValueError(f"metric: expected a module that can be imported, got {name}: {fault}") from fault
    metric = getattr(module, class_name, None)
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        raise ValueError(f"metric: expected a subclass of deeperlab.metrics.Metric, got {name}, {metric!r}")
    return metric
