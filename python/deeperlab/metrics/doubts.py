# SPDX-License-Identifier: Apache-2.0
"""What suggests that two files are not what an evaluation takes them for: figures would be wrong without a word."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.formats.coco import Dataset, FormatError
from .quality import QualityResult

ORDER = "the annotations come first, then the predictions"


def doubt_files(target: Dataset, prediction: Dataset) -> list[str]:
    """Compare what both files say of categories, and which of them looks like what: a line for each doubt.

    Raises:
        FormatError: an id of the predictions has the name that another id of the annotations has.
    """
    doubts = []
    ids = {category.name: category.id for category in target.categories}
    for category in target.categories:
        name, isthing = prediction.stated_categories.get(category.id, (None, None))
        if name is not None and name != category.name:
            said = f"category {category.id} is {name!r}, but {category.name!r} in {target.path.name}"
            if name in ids:
                raise FormatError(prediction.path, f"{said}, where {name!r} is {ids[name]}; map the ids, or the names")
            doubts.append(f"{prediction.path}: {said}; the id counts")
        if isthing in (0, 1, False, True) and bool(isthing) != category.isthing:
            kinds = ("stuff", "a thing") if category.isthing else ("a thing", "stuff")
            said = f"category {category.id} is {kinds[0]}, but {kinds[1]} in {target.path.name}, which counts"
            doubts.append(f"{prediction.path}: {said}")
    if target.has_scores and not prediction.has_scores:
        doubts.append(f"{target.path}: segments have scores, those of {prediction.path.name} none; {ORDER}")
    if _has_crowd(prediction) and not _has_crowd(target):
        doubts.append(f"{prediction.path}: segments are crowd, those of {target.path.name} never; {ORDER}")
    return doubts


def doubt_result(target: Dataset, prediction: Dataset, result: QualityResult) -> list[str]:
    """Say what to check where nothing matches."""
    if result.all.pq != 0:
        return []
    annotated = [c for c, q in result.per_class.items() if q.tp + q.fn]
    predicted = [c for c, q in result.per_class.items() if q.tp + q.fp]
    if not predicted:
        return [f"{prediction.path}: no segment is predicted where something is annotated: PQ is 0"]
    if not set(annotated) & set(predicted):
        said = f"annotated are {_some(annotated)}, predicted {_some(predicted)}"
        return [f"no category is both annotated and predicted: {said}; do ids mean the same in both files? {ORDER}"]
    check = f"same images? same category ids? PNGs at their place and size? {ORDER}: {target.path}, {prediction.path}"
    return [f"no segment matches: PQ is 0; {check}"]


def _has_crowd(data: Dataset) -> bool:
    return any(segment.iscrowd for annotation in data.annotations for segment in annotation.segments)


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
