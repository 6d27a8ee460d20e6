# SPDX-License-Identifier: Apache-2.0
"""Names on a picture: where they fit, and drawn so that they can be read on any ground. Needs Pillow."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .colors import RGB, Picture
from .inputs import Map, pillow
from .strokes import Layer

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (20, 20, 20)
LEAST = 9
"""The smallest letters, px."""


class Box(NamedTuple):
    """Whole pixels, x1 and y1 past the end."""

    x0: int
    y0: int
    x1: int
    y1: int

    def meets(self, other: Box) -> bool:
        """Tell whether they overlap."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def within(self, width: int, height: int, margin: int = 2) -> Box:
        """Move it into an image as far as it fits."""
        dx = max(0, margin - self.x0) + min(0, width - margin - self.x1)
        dy = max(0, margin - self.y0) + min(0, height - margin - self.y1)
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    """Pillow's own, letters of `size` px."""
    return pillow("ImageFont").load_default(size)


@lru_cache(maxsize=256)  # most names stand in a picture more than once, and in the next picture again
def text_line(text: str, size: int, stroke: int, ink: RGB) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A line of text with a dark rim `stroke` px wide: RGB [h, w, 3], already weighed, and transparency [h, w, 1]."""
    font = _font(size)
    above, below = font.getmetrics()
    left, _, right, _ = font.getbbox(text, stroke_width=stroke, anchor="ls")
    sheet = pillow("Image").new("RGBA", (max(1, math.ceil(right - left)), above + below + 2 * stroke), (0, 0, 0, 0))
    pen = pillow("ImageDraw").Draw(sheet)
    pen.text(
        (-left, above + stroke), text, ink, font, anchor="ls", stroke_width=stroke, stroke_fill=BLACK if stroke else ink
    )
    drawn = np.asarray(sheet)
    weighed = (drawn[..., :3].astype(np.uint16) * drawn[..., 3:] + 127) // 255
    return weighed.astype(np.uint8), 255 - drawn[..., 3:]


def letter_size(shape: tuple[int, ...]) -> int:
    """Return the size of names on an image of this shape, px."""
    return max(10, round(math.sqrt(shape[0] * shape[1]) / 40))


def lay(picture: Picture, x: int, y: int, line: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    """Lay a line with its upper left corner on pixel (x, y), which may be outside, as parts of the line."""
    top, left = max(0, -y), max(0, -x)
    bottom, right = max(top, picture.shape[0] - y), max(left, picture.shape[1] - x)
    color, clear = (array[top:bottom, left:right] for array in line)
    part = picture[y + top :, x + left :][: color.shape[0], : color.shape[1]]
    part[...] = color + (part.astype(np.uint16) * clear + 127) // 255


def write_names(picture: Picture, category: Map, instance: Map, names: list[str]) -> None:
    """Write names of categories at the widest places of segments, into the picture itself.

    Large segments come first; a name is left out where it would leave its segment far, or meet another.
    """
    height, width = category.shape
    size = letter_size(category.shape)
    stroke = 1 + size // 24
    occupied: list[Box] = []
    for kind, thing, depth, x, y in _segments(category, instance):
        largest = min(size, int(2 * depth / 1.2))
        if largest < LEAST or not names[kind]:
            continue
        line = text_line(names[kind], largest if thing else size, stroke, WHITE)
        h, w = line[0].shape[:2]
        box = Box(x - w // 2, y - h // 2, x - w // 2 + w, y - h // 2 + h).within(width, height)
        if w <= 5 * depth and not any(box.meets(other) for other in occupied):
            occupied.append(box)
            lay(picture, box.x0, box.y0, line)


def _segments(category: Map, instance: Map) -> list[tuple[int, bool, float, int, int]]:
    """Of each segment: category, whether a thing, how far its innermost pixel is from its edge (px), and where that is
    (x, y); widest first. Looks at a grid of at most 200 nodes a side."""
    step = -(-max(category.shape) // 200)
    nodes = np.s_[step // 2 :: step, step // 2 :: step]
    kind, number = category[nodes].astype(np.int64), instance[nodes].astype(np.int64)
    keys, index = np.unique(np.where(kind < 0, -1, (kind << 32) + (number & 0xFFFFFFFF)), return_inverse=True)
    index = index.reshape(category[nodes].shape)
    if keys.size == 0:
        return []
    level = depths(index)
    flat = index.ravel()
    deepest = np.zeros(keys.size, np.int64)
    np.maximum.at(deepest, flat, level.ravel())

    inner = np.flatnonzero(level.ravel() == deepest[flat])
    segment = flat[inner]
    y, x = np.divmod(inner, kind.shape[1])
    count = np.bincount(segment)
    away = (y - (np.bincount(segment, y) / count)[segment]) ** 2 + (x - (np.bincount(segment, x) / count)[segment]) ** 2
    order = np.lexsort((away, segment))
    central = order[np.searchsorted(segment[order], np.arange(keys.size))]
    out = [
        (int(key >> 32), bool(key & 0xFFFFFFFF), step * (float(deep) - 0.5), int(at[0]), int(at[1]))
        for key, deep, at in zip(keys, deepest, np.stack((x, y), 1)[central] * step + step // 2, strict=True)
        if key >= 0
    ]
    return sorted(out, key=lambda s: -s[2])


def depths(index: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Count the steps along the axes from every node to one of another segment, or to the outside."""
    away = np.full(index.shape, sum(index.shape), np.int64)
    for axis in (0, 1):
        edge = np.ones_like(np.take(index, [0], axis), np.bool_)
        differ = np.concatenate((edge, np.diff(index, axis=axis) != 0, edge), axis)
        away[np.delete(differ, -1, axis) | np.delete(differ, 0, axis)] = 1
    for axis in (0, 1):  # the nearest edge node of all; what lies beyond an edge is never nearer than the edge
        ramp = np.arange(index.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        forth = np.minimum.accumulate(away - ramp, axis) + ramp
        back = np.flip(np.minimum.accumulate(np.flip(away + ramp, axis), axis), axis) - ramp
        away = np.minimum(forth, back)
    return away


def stamp(picture: Picture, text: str) -> None:
    """Write a line across the middle of a picture [H, W, 3], as large as fits, into the picture itself."""
    height, width = picture.shape[:2]
    size = max(LEAST, min(round(1.2 * width / max(1, len(text))), height // 4))
    line = text_line(text, size, 1 + size // 16, WHITE)
    h, w = line[0].shape[:2]
    lay(picture, (width - w) // 2, (height - h) // 2, line)


def write_tag(picture: Picture, text: str, box: NDArray[np.float64], color: RGB, occupied: list[Box]) -> None:
    """Write a line of text on a plate of a light color beside a box: the first and the last pixel, [2, 2] as (x, y).

    It is left out where all places are `occupied`; the place that it takes is added to them.
    """
    height, width = picture.shape[:2]
    line = text_line(text, max(LEAST, round(0.75 * letter_size(picture.shape))), 0, BLACK)
    h, w = line[0].shape[:2]
    pad = max(2, h // 4)
    h, w = h + 2, w + 2 * pad
    (x0, y0), (x1, y1) = box
    middle, above, below = (x0 + x1 - w) / 2, y0 - h - 3, y1 + 3
    places = ((x0, above), (x1 - w, above), (x0, below), (x1 - w, below), (middle, y0 + 3), (middle, y1 - h))
    for x, y in places:
        plate = Box(round(x), round(y), round(x) + w, round(y) + h).within(width, height)
        if not any(plate.meets(other) for other in occupied):
            occupied.append(plate)
            layer = Layer(picture, *plate)
            layer.plate(*plate, (*color, 235), pad)
            layer.paste()
            lay(picture, plate.x0 + pad, plate.y0 + 1, line)
            return
