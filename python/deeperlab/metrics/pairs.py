# SPDX-License-Identifier: Apache-2.0
"""A prediction and a ground truth intersected: their segments and the pixels that each two of them share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layout import as_array
from ..data.formats.mistaken import INTERPOLATED, LABEL_ID, is_interpolated

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Segmentation = tuple[Any, Any]
"""`(ids, segments)` or `(category, instance)`, see `deeperlab.metrics`."""
Ignore = int | Collection[int] | None
"""Values that are void in the maps of ids or of categories, beside the usual: 255 for many data sets."""


class AreaWarning(UserWarning):
    """An area that a list of segments gives is not that of the map; the map counts."""


class RoleWarning(UserWarning):
    """What was given is allowed, and looks like something else: a prediction as ground truth, another void."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of one map as rows: the listed ones in their order, then void and ids that nothing lists.

    Attributes:
        id: in the map; of a (category, instance) pair the instance. All fields are [rows].
        area: px.
        category: its place in the mapping of categories, -1 for void and for what is not listed.
        crowd: of a ground truth; always False in a prediction.
    """

    id: Integers
    area: Integers
    category: Integers
    listed: Booleans
    crowd: Booleans
    void: Booleans


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of a ground-truth row and a predicted row that share pixels.

    Attributes:
        categories: category id → is it a thing?
        target_row, prediction_row: [pairs], rows of `target` and of `prediction`; pairs of listed segments are
            distinct.
        overlap: [pairs] px.
        pixels: of the whole image.
        area_warnings: texts about listed areas that disagree with their map.
        role_warnings: texts about what looks like something else, see `RoleWarning`.
    """

    categories: Mapping[int, bool]
    target: Segments
    prediction: Segments
    target_row: Integers
    prediction_row: Integers
    overlap: Integers
    pixels: int
    area_warnings: tuple[str, ...]
    role_warnings: tuple[str, ...] = ()


def intersect(
    prediction: Segmentation, target: Segmentation, categories: Mapping[int, bool], *, ignore: Ignore = None
) -> Pairs:
    """Count the pixels that segments of the two share; every metric takes the result in place of the two (`add`).

    Args:
        prediction, target: of one image, in one of the forms of `deeperlab.metrics`.
        categories: category id → is it a thing?
        ignore: values that are void beside the usual, or one such value, see `Ignore`.

    Raises:
        ValueError: maps of different shape, a category that is not in `categories`, a predicted id that is not listed
            or a listed one that is not in the map, a ground truth that lists id 0, an id listed twice, a negative id;
            `ignore` has a category or the id of a segment.
        TypeError: maps, or values of `ignore`, that are not integers.
    """
    from .._numpy import overlap

    ignored = _ignored(ignore, categories)
    predicted, predicted_list = _parts(prediction, "prediction")
    true, true_list = _parts(target, "target")
    if predicted[0].shape != true[0].shape:
        raise ValueError(f"prediction: expected the target's shape {true[0].shape}, got {predicted[0].shape}")
    *columns, pixels = overlap(*predicted, *true)
    place = {category: row for row, category in enumerate(categories)}
    area_warnings: list[str] = []
    role_warnings: list[str] = []
    sides = []
    for name, parts, listing in (
        ("prediction", columns[: len(predicted)], predicted_list),
        ("target", columns[len(predicted) :], true_list),
    ):
        if listing is not None:
            said = area_warnings, role_warnings
            sides.append(_from_segments(_int64(parts[0], name), pixels, listing, place, name, ignored, *said))
        else:
            things = np.array(list(categories.values()), bool)
            category, instance = (_int64(part, name) for part in parts)
            sides.append(_from_maps(category, instance, pixels, place, things, name, ignored))
    (p, predicted_segments), (g, true_segments) = sides
    for name, other, sign, one, rival in (
        ("prediction", "ground truth", "iscrowd", predicted_list, true_list),
        ("target", "prediction", "score", true_list, predicted_list),
    ):
        if rival is not None and has_sign(one, sign) and not has_sign(rival, sign):
            text = f"{name}: segments have {sign}, as those of a {other}; the order is update(prediction, target)"
            role_warnings.append(text)
    warnings = tuple(area_warnings), tuple(role_warnings)
    return Pairs(categories, true_segments, predicted_segments, g, p, pixels, int(true[0].size), *warnings)


def has_sign(segments: Sequence[Any] | None, sign: str) -> bool:
    """Tell whether segments have what one side of an evaluation has only: `iscrowd` or `score`."""
    values = (s.get(sign) if isinstance(s, Mapping) else getattr(s, sign, None) for s in segments or ())
    return any(value is not None and value is not False and value != 0 for value in values)


def images_of(pair: Segmentation, name: str) -> list[Segmentation] | None:
    """Return the images of a batch: maps [N, H, W], and where there are segments, a list for each; None: one image."""
    _require_pair(pair, name)
    first = as_array(pair[0])
    if first.ndim != 3:
        return None
    listed = isinstance(pair[1], Sequence)
    second = pair[1] if listed else as_array(pair[1])
    if len(second) != len(first) or (listed and not all(isinstance(one, Sequence) for one in second)):
        rgb = ", or R + 256 G + 65536 B of a PNG's RGB [H, W, 3]" if first.shape[2] == 3 else ""
        raise ValueError(f"{name}: expected a map or a list of segments for each of {len(first)} images{rgb}")
    return list(zip(first, second, strict=True))


def sum_rows(rows: Integers | list[int], weights: Any, count: int) -> NDArray[np.float64]:
    """Sum weights (None: 1 each) in each of `count` rows; exact for pixels, of which no image has 2^53."""
    return np.asarray(np.bincount(np.asarray(rows, np.int64), weights, count), np.float64)


def or_none(value: float) -> float | None:
    """Return the value, or None for NaN, which JSON cannot hold."""
    return None if value != value else value


def _ignored(ignore: Ignore, categories: Mapping[int, bool]) -> frozenset[int]:
    several = isinstance(ignore, Collection) and getattr(ignore, "ndim", 1) > 0
    values: Any = () if ignore is None else ignore if several else (ignore,)
    try:
        ignored = frozenset(map(index, values))
    except TypeError as fault:
        raise TypeError(f"ignore: expected an integer or several, got {ignore!r}") from fault
    if both := ignored & categories.keys():
        raise ValueError(f"ignore: expected values that are no category, got {min(both)}")
    return ignored


def _parts(pair: Segmentation, name: str) -> tuple[list[NDArray[Any]], Sequence[Any] | None]:
    """The maps, and the list of segments where there is one."""
    _require_pair(pair, name)
    if pair[1] is None:
        text = (
            "expected segments or an instance map, got None; of ids category · divisor + instance: divmod(ids, divisor)"
        )
        raise TypeError(f"{name}: {text}")
    first = _map(pair[0], name)
    if isinstance(pair[1], Sequence):
        return [first], pair[1]
    second = _map(pair[1], name)
    if second.shape != first.shape:
        raise ValueError(f"{name}: expected an instance map of shape {first.shape}, got {second.shape}")
    return [first, second], None


def _require_pair(pair: Segmentation, name: str) -> None:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"{name}: expected a pair (ids, segments) or (category, instance), got {type(pair).__name__}")


def _map(values: Any, name: str) -> NDArray[Any]:
    array = as_array(values)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected a map [H, W], got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer map, got {array.dtype}")
    return array


def _int64(ids: NDArray[Any], name: str) -> Integers:
    if ids.dtype != np.int64 and ids.size and int(ids.max()) >= 1 << 63:  # only uint64 can
        raise ValueError(f"{name}: expected ids below 2^63, got {int(ids.max())}")
    return ids.astype(np.int64, copy=False)


def _from_segments(
    ids: Integers,
    pixels: Integers,
    segments: Sequence[Any],
    place: Mapping[int, int],
    name: str,
    ignored: frozenset[int],
    area_warnings: list[str],
    role_warnings: list[str],
) -> tuple[Integers, Segments]:
    """The row of each id, and the rows; `segments` come first."""
    target = name == "target"
    voids = {0, *ignored}
    fields = [_fields(segment, i, name) for i, segment in enumerate(segments)]
    row = {segment[0]: r for r, segment in enumerate(fields)}
    if len(row) != len(fields):
        raise ValueError(f"{name}: expected distinct segment ids, got {sorted(segment[0] for segment in fields)}")
    if target and 0 in row:
        raise ValueError("target: expected segment ids >= 1, got 0, which is void")
    if both := row.keys() & ignored:
        raise ValueError(f"ignore: expected an id of no segment of the {name}, got {min(both)}")
    values, inverse = np.unique(ids, return_inverse=True)
    present = values.tolist()
    rest = [value for value in present if value not in row]
    unknown = [value for value in rest if value not in voids]
    if unknown and unknown[0] < 0:
        raise ValueError(f"{name}: expected ids of at least 0, got {unknown[0]}; {_VOID_ID}")
    counted = np.bincount(inverse.reshape(-1), pixels).tolist() if unknown else []
    blurred = is_interpolated({v: n for v, n in zip(present, counted, strict=False) if v not in voids}, row)
    if unknown and not target:
        hint = INTERPOLATED if blurred else ""
        raise ValueError(f"prediction: expected every id of the map to be listed, got {unknown[0]}; {_VOID_ID}{hint}")
    if blurred:
        role_warnings.append(f"target: {len(unknown)} ids are not listed, and count as segments'{INTERPOLATED}")
    for value in set(unknown) & {255, 65535}:
        role_warnings.append(f"target: id {value} is not listed, and counts as a segment's; {_VOID_ID}")
    if not target and len(row) + len(rest) > len(present):
        absent = min(set(row) - set(present))
        raise ValueError(f"prediction: expected every listed id in the map, got {absent}")
    row.update((value, len(fields) + r) for r, value in enumerate(rest))
    rows = np.array([row[value] for value in present], np.int64)[inverse.reshape(-1)]
    area = sum_rows(rows, pixels, len(row)).astype(np.int64)
    category, listed = np.full(len(row), -1, np.int64), np.arange(len(row)) < len(fields)
    category[: len(fields)] = [_place(segment[1], place, name) for segment in fields]
    crowd, void = np.zeros(len(row), bool), np.zeros(len(row), bool)
    crowd[: len(fields)] = [target and bool(segment[2]) for segment in fields]
    void[len(fields) :] = [value in voids for value in rest]
    wrong = [(s[0], s[3], a) for s, a in zip(fields, area.tolist(), strict=False) if s[3] is not None and s[3] != a]
    if wrong:
        more = f" (and of {len(wrong) - 1} more segment{'s' if len(wrong) > 2 else ''})" if len(wrong) > 1 else ""
        first, said, counted = wrong[0]
        area_warnings.append(f"{name}: the area of id {first} is {counted} px, not {said} as listed{more}")
    return rows, Segments(np.array(list(row), np.int64), area, category, listed, crowd, void)


_VOID_ID = "void is id 0, or what ignore= says"


def _fields(segment: Any, number: int, name: str) -> tuple[int, int, Any, Any]:
    """id, category id, iscrowd, area."""
    try:
        if type(segment) is dict or isinstance(segment, Mapping):  # the first is the rule, and quick
            get = segment.get
            return index(segment["id"]), index(segment["category_id"]), get("iscrowd", False), get("area")
        category = segment.category_id if hasattr(segment, "category_id") else segment.category
        return index(segment.id), index(category), getattr(segment, "iscrowd", False), getattr(segment, "area", None)
    except (KeyError, AttributeError, TypeError) as fault:
        what = f"an integer id and category_id of segment {number}"
        labeled = isinstance(segment, Mapping) and "label_id" in segment and "category_id" not in segment
        raise ValueError(f"{name}: expected {what}, got {segment!r}{LABEL_ID if labeled else ''}") from fault


def _from_maps(
    category: Integers,
    instance: Integers,
    pixels: Integers,
    place: Mapping[int, int],
    things: Booleans,
    name: str,
    ignored: frozenset[int],
) -> tuple[Integers, Segments]:
    """The row of each (category, instance), and the rows, ascending; void comes last."""
    void = (category < 0) | np.isin(category, [*ignored]) if ignored else category < 0
    if (instance[~void] < 0).any():
        raise ValueError(f"{name}: expected instances of at least 0, got {int(instance[~void].min())}")
    category, instance = np.where(void, -1, category), np.where(void, 0, instance)
    order = np.lexsort((instance, category, void))
    category, instance = category[order], instance[order]
    new = np.ones(len(order), bool)
    new[1:] = (category[1:] != category[:-1]) | (instance[1:] != instance[:-1])
    rows = np.empty(len(order), np.int64)
    rows[order] = np.cumsum(new) - 1
    category, instance = category[new], instance[new]
    listed = category >= 0
    where = np.array([_place(c, place, name) if c >= 0 else -1 for c in category.tolist()], np.int64)
    crowd = listed & (instance == 0) & (name == "target")
    crowd[crowd] = things[where[crowd]]
    area = sum_rows(rows, pixels, len(where)).astype(np.int64)
    return rows, Segments(instance, area, where, listed, crowd, ~listed)


def _place(category: int, place: Mapping[int, int], name: str) -> int:
    if category not in place:
        known = ", ".join(map(str, sorted(place)[:8])) + (", …" if len(place) > 8 else "")
        void = "void is negative, or what ignore= says"
        raise ValueError(f"{name}: expected a category of {known}, got {category}; {void}")
    return place[category]
