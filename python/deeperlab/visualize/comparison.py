# SPDX-License-Identifier: Apache-2.0
"""The view of an evaluation: ground truth, prediction, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._layout import as_array
from .._runs import find_runs, spread
from ..metrics import Matching
from ..metrics import match as match_segments
from . import inputs
from .colors import RGB, Picture, hue_of, palette_of
from .lettering import WHITE, Box, lay, letter_size, text_line, write_names, write_tag
from .segments import paint
from .strokes import gray

MISSED: RGB = (232, 56, 48)
SPURIOUS: RGB = (255, 196, 40)
WRONG_CLASS: RGB = (150, 84, 255)
BOTH: RGB = (246, 126, 44)
"""Where a missed and a spurious segment lie over each other."""
GROUND: RGB = (24, 26, 32)
UNLIKE, TRIES = 0.17, 24
"""How far apart hues look unlike, in turns, and how many colors more than needed are at hand."""
LEAST_WIDTH = 360
"""Of a panel, px: smaller maps are enlarged, so that names and the legend can be read."""


class Side(NamedTuple):
    """One segmentation: the segment of every pixel, int32 [H, W] (-1: none), and the category id of each segment."""

    row: inputs.Map
    category: list[int]


def comparison(
    image: Any,
    prediction: tuple[Any, Any],
    target: tuple[Any, Any],
    categories: Mapping[int, bool],
    labels: Any = None,
    *,
    ignore: int | None = None,
    text: bool = True,
    num_threads: int | None = None,
) -> Picture:
    """Draw a ground truth, a prediction, and what is missed, spurious or of wrong class, side by side.

    Every object has a color of its own, and a prediction has that of the object that it matches, or that it takes for
    another class: what has one color on both sides is one object. On the right the image is gray where both agree. The
    rules are those of `deeperlab.metrics.match`. Needs Pillow.

    Args:
        image: RGB of 8 bits, [H, W, 3] array or tensor, or Pillow image; None draws on gray.
        prediction, target: in one of the forms of `deeperlab.metrics`.
        categories: category id → is it a thing?
        labels: names of categories as of `overlay`.
        ignore: as of `deeperlab.metrics.intersect`.
        text: write names of categories.
        num_threads: by default as many as there are processors that the process may use.

    Returns:
        RGB [h, w, 3]: three panels below a line of text; maps narrower than LEAST_WIDTH are enlarged.

    Raises:
        ValueError, TypeError: as of `deeperlab.metrics.intersect`, or an image of another size.
        ImportError: without Pillow.
    """
    matching = match_segments(prediction, target, categories, ignore=ignore)
    true, found = _side(target, ignore), _side(prediction, ignore)
    base = inputs.picture(image, true.row.shape)
    if not base.size:
        return base
    times = -(-LEAST_WIDTH // base.shape[1])
    base, true, found = _larger(base, times), *(side._replace(row=_larger(side.row, times)) for side in (true, found))
    known = inputs.Labels(labels)
    names = [[known.name(c) if text else "" for c in side.category] for side in (true, found)]
    colors = _colors_of_predictions(matching, true, found)
    panels = [
        _draw(base, side, color, [categories[c] for c in side.category], words, num_threads)
        for side, color, words in zip((true, found), (np.arange(len(true.category)), colors), names, strict=True)
    ]
    panels.append(_draw_errors(base, true, found, matching, names, num_threads))
    return _beside(panels, matching)


def _side(side: tuple[Any, Any], ignore: int | None) -> Side:
    """Number the segments as `match` does: those of a list in its order, others by (category, instance)."""
    first = as_array(side[0])
    if isinstance(side[1], (list, tuple)):
        place = {_of(segment, "id"): row for row, segment in enumerate(side[1])}
        values, rank = _ranked(first)
        rows = np.array([place.get(value, -1) for value in values.tolist()], np.int32)
        return Side(rows[rank], [_of(segment, "category_id") for segment in side[1]])
    category, instance = first.astype(np.int64), as_array(side[1]).astype(np.int64)
    void = (category < 0) | (category == ignore if ignore is not None else False)
    keys, rank = _ranked(np.where(void, -1, (category << 32) + instance))
    first_row = int(keys[0] == -1) if keys.size else 0
    return Side(rank - first_row, [int(key >> 32) for key in keys[first_row:]])


def _ranked(numbers: NDArray[Any]) -> tuple[NDArray[Any], inputs.Map]:
    """The distinct values of a map, ascending, and the rank of each pixel's; only runs of pixels are sorted."""
    runs = find_runs(numbers)
    values, rank = np.unique(numbers.reshape(-1)[runs.start], return_inverse=True)
    return values, spread(runs, rank, numbers.shape)


def _of(segment: Any, name: str) -> int:
    """A field of a segment in any of its forms; `Segment` has `category`."""
    if isinstance(segment, Mapping):
        return int(segment[name])
    return int(getattr(segment, name) if hasattr(segment, name) else segment.category)


def _larger(array: NDArray[Any], times: int) -> NDArray[Any]:
    return array if times == 1 else np.ascontiguousarray(array.repeat(times, 0).repeat(times, 1))


def _colors_of_predictions(matching: Matching, true: Side, found: Side) -> NDArray[np.int64]:
    """The place in the palette of each prediction: that of its object, or one unlike all objects that it lies on."""
    colors = np.full(len(found.category), -1)
    for match in matching.matches:
        colors[match.prediction] = match.target
    for wrong in matching.wrong_class:
        colors[wrong.prediction] = wrong.target
    start = find_runs(found.row, true.row).start
    pairs = np.stack((found.row.reshape(-1)[start], true.row.reshape(-1)[start]))
    below = np.unique(pairs[:, (pairs >= 0).all(axis=0)], axis=1)
    places = len(true.category) + np.arange(len(colors) + TRIES)  # more than are needed, so that there is a choice
    free = np.ones(len(places), bool)
    for row in np.flatnonzero(colors < 0):
        away = np.abs(hue_of(places)[:, None] - hue_of(below[1, below[0] == row])) % 1
        least = np.minimum(away, 1 - away).min(axis=1, initial=0.5)
        choice = int(np.where(free, np.minimum(least, UNLIKE), -1).argmax())  # the first that is unlike enough
        colors[row], free[choice] = places[choice], False
    return colors


def _draw(
    base: Picture, side: Side, colors: NDArray[np.int64], things: list[bool], names: list[str], num_threads: int | None
) -> Picture:
    """Objects in their colors, bordered where they are things."""
    table = np.repeat(palette_of(colors)[:, None], 2, axis=1)
    is_thing = np.append(np.array(things, np.int32), 0)[side.row].astype(np.int32)  # the last one: none
    drawn = paint(base, side.row, is_thing, table, stuff=120, thing=170, num_threads=num_threads)
    write_names(drawn, side.row, is_thing, names)
    return drawn


def _draw_errors(
    base: Picture, true: Side, found: Side, matching: Matching, names: list[list[str]], num_threads: int | None
) -> Picture:
    """What is missed, spurious or of wrong class, each with its name; predictions are numbered after the truth."""
    offset = len(true.category)
    pairs = {wrong.target: wrong.prediction for wrong in matching.wrong_class}
    missed = [row for row, _ in matching.missed if row not in pairs]
    spurious = [row for row, _ in matching.spurious if row not in pairs.values()]
    in_missed, in_spurious = _marked(true.row, missed), _marked(found.row, spurious)
    in_true, in_found = _marked(true.row, list(pairs)), _marked(found.row, list(pairs.values()))
    kind = np.full(true.row.shape, -1, np.int32)
    kind[in_missed], kind[in_spurious], kind[in_missed & in_spurious], kind[in_true | in_found] = 0, 1, 2, 3
    partner = np.array([-1, *(-1 for _ in found.category)])
    partner[list(pairs.values())] = list(pairs)  # the prediction of wrong class has the number of its object
    number = np.where(in_true | in_missed, true.row, np.where(in_found, partner[found.row], offset + found.row))
    number = np.where(kind >= 0, number + 1, 0).astype(np.int32)
    table = np.repeat(np.array([MISSED, SPURIOUS, BOTH, WRONG_CLASS], np.uint8)[:, None], 2, axis=1)
    drawn = paint(gray(base) // 2, kind, number, table, stuff=0, thing=170, num_threads=num_threads)
    boxes = inputs.boxes(number, offset + len(found.category))
    occupied: list[Box] = []
    for color, rows, words in (
        (WRONG_CLASS, list(pairs), [f"{names[0][g]} as {names[1][p]}" for g, p in pairs.items()]),
        (MISSED, missed, [names[0][row] for row in missed]),
        (SPURIOUS, [offset + row for row in spurious], [names[1][row] for row in spurious]),
    ):
        for row, name in zip(rows, words, strict=True) if any(names[0] + names[1]) else ():
            write_tag(drawn, name, boxes[row], _light(color), occupied)
    return drawn


def _marked(row: inputs.Map, rows: list[int]) -> NDArray[np.bool_]:
    """The pixels of some segments."""
    mark = np.zeros(max(int(row.max(initial=0)), *rows, 0) + 2, bool)
    mark[rows] = True  # the last one, -1, stays
    return np.asarray(mark[row])


def _light(color: RGB) -> RGB:
    """Under black letters."""
    red, green, blue = (round(c + 0.35 * (255 - c)) for c in color)
    return red, green, blue


def _beside(panels: list[Picture], matching: Matching) -> Picture:
    """The panels, and above each what it is."""
    height, width = panels[0].shape[:2]
    size = max(14, letter_size(panels[0].shape))
    wrong = len(matching.wrong_class)
    legend = (
        (MISSED, f"missed {len(matching.missed) - wrong}"),
        (SPURIOUS, f"spurious {len(matching.spurious) - wrong}"),
        (WRONG_CLASS, f"wrong class {wrong}"),
        (BOTH, "missed and spurious"),
    )
    gap = max(4, size // 2)
    sheet = np.full((height + 2 * size, 3 * width + 2 * gap, 3), GROUND, np.uint8)
    for i, (panel, title) in enumerate(zip(panels, ("ground truth", "prediction", ""), strict=True)):
        x = i * (width + gap)
        sheet[2 * size :, x : x + width] = panel
        strip = sheet[: 2 * size, x : x + width]
        if title:
            lay(strip, gap, size // 2, text_line(title, size, 1, WHITE))
        else:
            _write_legend(strip, legend, size)
    return sheet


def _write_legend(strip: Picture, legend: tuple[tuple[RGB, str], ...], size: int) -> None:
    """Colors with words; smaller letters where the width does not suffice."""
    while True:
        lines = [text_line(words, size, 1, WHITE) for _, words in legend]
        total = sum(line[0].shape[1] + 2 * size + size // 2 for line in lines)
        if total <= strip.shape[1] or size <= 9:
            break
        size -= 1
    x, middle = size // 2, strip.shape[0] // 2
    for (color, _), line in zip(legend, lines, strict=True):
        strip[middle - size // 2 : middle + size // 2, x : x + size] = color
        lay(strip, x + size + size // 3, middle - line[0].shape[0] // 2, line)
        x += line[0].shape[1] + 2 * size + size // 2
