# SPDX-License-Identifier: Apache-2.0
"""How good a panoptic map is: panoptic quality, parsing covering, mean IoU and the confusion of classes.

Each metric takes images one by one (`update`), adds up with others of its kind (`merge`) and gives a frozen result
(`compute`); `Evaluation` has several, those of a user's own among them, for the price of one count; `FolderEvaluation`
counts whole folders. One segmentation is a pair, in either of two forms:

* `(ids, segments)`: an integer map [H, W] and, for each segment, its `id`, `category_id` and (ground truth only)
  `iscrowd`, as mappings (COCO's `segments_info`) or as objects with these attributes (`Panoptic.segments` too). Id 0
  is void unless a prediction lists it. Areas are counted from the map: an `area` that disagrees is an `AreaWarning`.
* `(category, instance)`: two integer maps [H, W]; each distinct pair is a segment, a negative category is void. In a
  ground truth, thing pixels of instance 0 are crowd; in a prediction they are a segment like any other.

What is undefined because nothing was counted is NaN, and None in `to_dict()`; it is never 0.
"""

from .confusion import ConfusionMatrix, ConfusionResult
from .covering import Covering, CoveringResult, MeanCovering, ParsingCovering, parsing_covering
from .evaluation import METRICS, Evaluation, EvaluationResult, import_metric
from .folders import FolderEvaluation, ImageEvaluation
from .iou import IoUResult, MeanIoU
from .metric import Metric, Result
from .pairs import AreaWarning, Pairs, RoleWarning, Segments, intersect
from .quality import (
    ClassQuality,
    Match,
    Matching,
    MeanQuality,
    PanopticQuality,
    QualityResult,
    WrongClass,
    match,
    panoptic_quality,
)

__all__ = [
    "METRICS",
    "AreaWarning",
    "ClassQuality",
    "ConfusionMatrix",
    "ConfusionResult",
    "Covering",
    "CoveringResult",
    "Evaluation",
    "EvaluationResult",
    "FolderEvaluation",
    "ImageEvaluation",
    "IoUResult",
    "Match",
    "Matching",
    "MeanCovering",
    "MeanIoU",
    "MeanQuality",
    "Metric",
    "Pairs",
    "PanopticQuality",
    "ParsingCovering",
    "QualityResult",
    "Result",
    "RoleWarning",
    "Segments",
    "WrongClass",
    "import_metric",
    "intersect",
    "match",
    "panoptic_quality",
    "parsing_covering",
]
