# SPDX-License-Identifier: Apache-2.0
"""Lines and dots with smooth edges, by Pillow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colors import RGB, Picture
from .inputs import pillow

_CASING = (10, 12, 18, 150)  # under every stroke, so that it stands out on any ground


def stroke_unit(shape: tuple[int, ...]) -> float:
    """Return the unit of widths and radii on an image of this shape, px."""
    return max(1.0, math.sqrt(shape[0] * shape[1]) / 600)


def gray(picture: Picture) -> Picture:
    """Remove the colors of a picture; a new array."""
    return np.array(pillow("Image").fromarray(picture).convert("L").convert("RGB")) if picture.size else picture.copy()


class Layer:
    """An enlarged copy of the part [y0, y1) × [x0, x1) of a picture, to draw on; coordinates are the picture's."""

    def __init__(self, picture: Picture, x0: float, y0: float, x1: float, y1: float) -> None:
        height, width = picture.shape[:2]
        self.fine = 3 if stroke_unit(picture.shape) < 2 else 2  # so many times larger, and averaged in the end
        self.x, self.y = (min(max(int(v), 0), n - 1) for v, n in ((x0, width), (y0, height)))
        right, bottom = max(int(x1) + 2, self.x + 1), max(int(y1) + 2, self.y + 1)
        self.part = picture[self.y : bottom, self.x : right]  # one pixel at least
        size = self.part.shape[1] * self.fine, self.part.shape[0] * self.fine
        self.sheet: Any = pillow("Image").fromarray(self.part).resize(size, 0)  # 0: the nearest pixel
        self.pen: Any = pillow("ImageDraw").Draw(self.sheet, "RGBA")

    def _at(self, point: Any) -> tuple[float, float]:
        return (float(point[0]) - self.x + 0.5) * self.fine, (float(point[1]) - self.y + 0.5) * self.fine

    def line(self, points: Any, ink: tuple[int, ...], width: float) -> None:
        """Draw a line through points, with round ends."""
        at = [self._at(point) for point in points]
        self.pen.line(at, ink, max(1, round(width * self.fine)), joint="curve")
        for x, y in (at[0], at[-1]):
            self._dot(x, y, ink, width / 2)

    def dot(self, point: Any, ink: tuple[int, ...], radius: float) -> None:
        """Draw a disk."""
        self._dot(*self._at(point), ink, radius)

    def _dot(self, x: float, y: float, ink: tuple[int, ...], radius: float) -> None:
        r = radius * self.fine
        self.pen.ellipse((x - r, y - r, x + r, y + r), ink)

    def plate(self, x0: float, y0: float, x1: float, y1: float, ink: tuple[int, ...], radius: float) -> None:
        """Fill a rectangle with round corners, from pixel to pixel, the last ones left out."""
        box = (
            (x0 - self.x) * self.fine,
            (y0 - self.y) * self.fine,
            (x1 - self.x) * self.fine - 1,
            (y1 - self.y) * self.fine - 1,
        )
        self.pen.rounded_rectangle(box, radius * self.fine, ink)

    def paste(self) -> None:
        """Reduce it and put it back into the picture; where nothing was drawn, no bit changes."""
        self.part[...] = np.asarray(self.sheet.reduce(self.fine))


def strokes(
    picture: Picture,
    keypoints: NDArray[np.float64],
    box: NDArray[np.float64],
    edges: tuple[tuple[int, int], ...],
    center: int | None,
    color: RGB,
) -> None:
    """Draw the keypoints [P, 2] of one instance, (x, y) in px, their edges and the corners of its box.

    Args:
        picture: is drawn on.
        keypoints: finite, and not far outside.
        box: the first and the last pixel, [2, 2] as (x, y).
        edges: pairs of keypoints.
        center: the keypoint that is drawn as a ring.
        color: of all strokes.
    """
    (x0, y0), (x1, y1) = box
    unit = stroke_unit(picture.shape)
    scale = float(np.clip(np.hypot(x1 - x0, y1 - y0) / 60, 0.6 * min(unit, 1.5), unit))  # finer on what is small
    margin = 6 * scale
    drawn = np.concatenate((keypoints, box))
    layer = Layer(picture, *(drawn.min(axis=0) - margin), *(drawn.max(axis=0) + margin))
    ink = (*(round(c + 0.25 * (255 - c)) for c in color), 255)  # lighter than the tint around it
    brackets = _brackets(x0, y0, x1, y1)
    for line in brackets:
        layer.line(line, _CASING, 3.4 * scale)
    for a, b in edges:
        layer.line(keypoints[[a, b]], _CASING, 2.6 * scale)
    for point in keypoints:
        layer.dot(point, _CASING, 3.6 * scale)
    for a, b in edges:
        layer.line(keypoints[[a, b]], ink, 1.2 * scale)
    for line in brackets:
        layer.line(line, ink, 2.0 * scale)
    for k, point in enumerate(keypoints):
        layer.dot(point, (255, 255, 255, 255), (3.8 if k == center else 2.9) * scale)
        layer.dot(point, ink, (2.3 if k == center else 1.8) * scale)
    layer.paste()


def _brackets(x0: float, y0: float, x1: float, y1: float) -> list[list[tuple[float, float]]]:
    """The four corners of a box, each an angle."""
    dx, dy = 0.22 * (x1 - x0), 0.22 * (y1 - y0)
    length = min(max(dx, dy), 0.5 * min(x1 - x0, y1 - y0))
    return [
        [(x + sx * length, y), (x, y), (x, y + sy * length)]
        for x, sx in ((x0, 1), (x1, -1))
        for y, sy in ((y0, 1), (y1, -1))
    ]
