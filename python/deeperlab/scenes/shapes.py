# SPDX-License-Identifier: Apache-2.0
"""Painters of things, one function a kind.

Coordinates are in units of a thing's height, y downwards, x from 0 to its aspect (width/height).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .brush import Brush, Float, Style, turn


def person(brush: Brush, style: Style) -> None:
    """Paint head, trunk, arms and legs in some pose."""
    cx, stride, lean = brush.aspect / 2, style.uniform(0.02, 0.12), style.uniform(-0.02, 0.02)
    for side in (-1, 1):
        foot = cx + side * stride
        brush.polygon([(cx - 0.1, 0.5), (cx + 0.1, 0.5), (foot + 0.04, 0.97), (foot - 0.045, 0.97)], style.second)
        brush.ellipse(foot + 0.015, 0.972, 0.07, 0.028, style.black)
        hand, drop = cx + side * style.uniform(0.13, 0.19), style.uniform(0.36, 0.5)
        brush.line(cx + side * 0.1, 0.22, hand, drop, 0.065, style.main, 0.35)
        brush.ellipse(hand, drop + 0.015, 0.033, 0.033, style.skin)
    top = cx + lean
    brush.polygon([(top - 0.12, 0.2), (top + 0.12, 0.2), (cx + 0.105, 0.55), (cx - 0.105, 0.55)], style.main)
    brush.ellipse(top, 0.205, 0.12, 0.035, style.main)
    brush.box(top - 0.03, 0.14, top + 0.03, 0.19, style.skin)
    brush.ellipse(top, 0.082, 0.078, 0.082, style.wood, 0.1)
    brush.ellipse(top + lean, 0.1, 0.062, 0.07, style.skin, 0.9)


def _wheel(brush: Brush, style: Style, x: float, radius: float) -> None:
    brush.ellipse(x, 1 - radius, radius, radius, style.black, 0.15)
    brush.ellipse(x, 1 - radius, radius * 0.52, radius * 0.52, style.steel)


def car(brush: Brush, style: Style) -> None:
    """Paint body, cabin, windows, wheels."""
    a = brush.aspect
    front, back = style.uniform(0.24, 0.3) * a, style.uniform(0.78, 0.88) * a
    brush.polygon([(0.1 * a, 0.46), (front, 0.04), (0.68 * a, 0.04), (back, 0.46)], style.main)
    brush.polygon([(0.18 * a, 0.42), (front + 0.04, 0.11), (0.46 * a, 0.11), (0.46 * a, 0.42)], style.glass)
    brush.polygon([(0.5 * a, 0.42), (0.5 * a, 0.11), (0.665 * a, 0.11), (back - 0.1, 0.42)], style.glass)
    brush.box(0.0, 0.5, a, 0.82, style.main)
    brush.polygon([(0.04, 0.42), (a - 0.04, 0.42), (a, 0.52), (0, 0.52)], style.main, 0.95)
    brush.box(0.0, 0.76, a, 0.84, style.black, 0.3)
    brush.box(0.0, 0.54, 0.08, 0.64, style.white, 1.0)
    brush.box(a - 0.08, 0.54, a, 0.64, style.second, 0.9)
    for x in (0.2, 0.79):
        _wheel(brush, style, x * a, 0.215)


def bus(brush: Brush, style: Style) -> None:
    """Paint a long box with a row of windows."""
    a, panes = brush.aspect, style.count(4, 7)
    brush.box(0, 0.03, a, 0.86, style.main)
    brush.box(0, 0, a - 0.06, 0.05, style.main, 1.0)
    brush.box(0, 0.6, a, 0.68, style.white)
    step = (a - 0.1) / panes
    for pane in range(panes):
        left = 0.06 + pane * step
        brush.box(left, 0.14, left + step * 0.82, 0.5, style.glass)
    brush.box(0, 0.8, a, 0.88, style.black, 0.3)
    for x in (0.18, 0.8):
        _wheel(brush, style, x * a, 0.15)


def bicycle(brush: Brush, style: Style) -> None:
    """Paint two thin rings and a frame."""
    a = brush.aspect
    left, right, r = 0.31, a - 0.31, 0.3
    for x in (left, right):
        brush.ellipse(x, 1 - r, r, r, style.black, 0.2, hole=0.8)
        brush.line(x - r * 0.7, 1 - r * 1.7, x + r * 0.7, 1 - r * 0.3, 0.012, style.steel)
        brush.line(x - r * 0.7, 1 - r * 0.3, x + r * 0.7, 1 - r * 1.7, 0.012, style.steel)
    crank, seat, bar = (0.46 * a, 0.72), (0.36 * a, 0.26), (0.68 * a, 0.24)
    for start, end in (((left, 0.7), crank), ((left, 0.7), seat), (crank, seat), (crank, bar), (seat, bar)):
        brush.line(*start, *end, 0.05, style.main, 0.7)
    brush.line(right, 0.7, 0.66 * a, 0.08, 0.05, style.main, 0.7)
    brush.line(0.58 * a, 0.06, 0.72 * a, 0.06, 0.05, style.black, 0.4)
    brush.line(seat[0] - 0.02, 0.3, seat[0] - 0.03, 0.16, 0.04, style.steel)
    brush.ellipse(seat[0] - 0.03, 0.15, 0.13, 0.045, style.black, 0.4)


def dog(brush: Brush, style: Style) -> None:
    """Paint four legs, trunk, head, tail; spotted."""
    a = brush.aspect
    for x in (0.24, 0.33, 0.63, 0.72):
        brush.line(x * a, 0.6, (x + style.uniform(-0.05, 0.05)) * a, 1.0, 0.11, style.main, 0.25)
    brush.line(0.14 * a, 0.45, 0.03 * a, style.uniform(0.05, 0.3), 0.07, style.main, 0.5)
    brush.ellipse(0.46 * a, 0.53, 0.34 * a, 0.2, style.main)
    for _ in range(3):
        spot = style.uniform(0.25, 0.65) * a, style.uniform(0.45, 0.6)
        brush.ellipse(*spot, style.uniform(0.05, 0.11), style.uniform(0.04, 0.08), style.white, 0.8)
    brush.line(0.7 * a, 0.5, 0.82 * a, 0.25, 0.2, style.main, 0.6)
    brush.ellipse(0.83 * a, 0.22, 0.15, 0.14, style.main)
    brush.ellipse(0.93 * a, 0.28, 0.07 * a, 0.07, style.main, 0.7)
    brush.ellipse(0.985 * a, 0.26, 0.03, 0.03, style.black, 0.0)
    brush.polygon([(0.74 * a, 0.02), (0.8 * a, 0.1), (0.75 * a, 0.3)], style.main, 0.1)


def tree(brush: Brush, style: Style) -> None:
    """Paint a crown of balls on a trunk."""
    a = brush.aspect
    brush.polygon([(a * 0.46, 0.5), (a * 0.54, 0.5), (a * 0.58, 1.0), (a * 0.42, 1.0)], style.wood)
    for _ in range(style.count(6, 9)):
        x, y, r = style.uniform(0.3, 0.7) * a, style.uniform(0.22, 0.52), style.uniform(0.16, 0.22)
        brush.ellipse(x, y, r * min(1.0, a * 1.3), r, style.main, _ball(x, y, r))


def _ball(cx: float, cy: float, radius: float) -> Callable[[Float, Float], Float]:
    """Light from the upper left on a ball."""
    scale = np.float32(0.42 / radius)

    def mix(x: Float, y: Float) -> Float:
        return np.float32(0.5) - scale * ((x - np.float32(cx)) * np.float32(0.6) + (y - np.float32(cy)))

    return mix


def _stripes(period: float, slope: float, low: float, high: float) -> Callable[[Float, Float], Float]:
    """Stripes at right angles to (1, slope)."""

    def mix(x: Float, y: Float) -> Float:
        phase = (x + np.float32(slope) * y) / np.float32(period)
        return np.where(phase - np.floor(phase) < np.float32(0.5), np.float32(low), np.float32(high))

    return mix


def _courses(period: float, low: float, high: float) -> Callable[[Float, Float], Float]:
    """Level courses: tiles, boards, wickerwork."""

    def mix(x: Float, y: Float) -> Float:
        phase = y / np.float32(period)
        return np.where(phase - np.floor(phase) < np.float32(0.5), np.float32(low), np.float32(high))

    return mix


def lamp(brush: Brush, style: Style) -> None:
    """Paint a thin pole with an arm."""
    a = brush.aspect
    foot = 0.25 * a
    brush.line(foot, 0.06, foot, 1.0, 0.022, style.steel, 0.35)
    brush.line(foot, 0.06, 0.8 * a, 0.02, 0.02, style.steel, 0.45)
    brush.box(foot - 0.03, 0.93, foot + 0.03, 1.0, style.steel, 0.2)
    brush.ellipse(0.78 * a, 0.035, 0.24 * a, 0.03, style.main, 0.95)


def sign(brush: Brush, style: Style) -> None:
    """Paint a disk, triangle or diamond on a pole."""
    cx = brush.aspect / 2
    r = cx * 0.98
    brush.line(cx, 2 * r, cx, 1.0, 0.045, style.steel, 0.6)
    triangle, diamond = [(0.0, -1.0), (0.92, 0.8), (-0.92, 0.8)], [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
    shape = (None, triangle, diamond)[style.count(0, 2)]
    for size, material, mix in ((1.0, style.white, 0.95), (0.84, style.main, 0.9)):
        if shape:
            brush.polygon([(cx + x * r * size, r + y * r * size) for x, y in shape], material, mix)
        else:
            brush.ellipse(cx, r, r * size, r * size, material, mix)
    brush.box(cx - 0.55 * r, 0.9 * r, cx + 0.55 * r, 1.15 * r, style.white, 0.95)


def house(brush: Brush, style: Style) -> None:
    """Paint walls, roof, chimney, door, windows."""
    a = brush.aspect
    brush.box(0.7 * a, 0.06, 0.79 * a, 0.4, style.second, 0.3)
    brush.box(0.06 * a, 0.4, 0.94 * a, 1.0, style.white, _courses(0.07, 0.7, 0.78))
    brush.polygon([(0.0, 0.43), (0.5 * a, 0.0), (a, 0.43)], style.main, _courses(0.07, 0.6, 0.88))
    door = style.uniform(0.38, 0.56) * a
    brush.box(door, 0.66, door + 0.15, 1.0, style.wood)
    for x in (0.14, 0.72):
        brush.box(x * a, 0.55, x * a + 0.15, 0.74, style.second, 0.2)
        brush.box(x * a + 0.015, 0.565, x * a + 0.135, 0.725, style.glass)


def boat(brush: Brush, style: Style) -> None:
    """Paint hull, mast and two sails."""
    a, mast = brush.aspect, style.uniform(0.44, 0.54) * brush.aspect
    brush.line(mast, 0.0, mast, 0.84, 0.025, style.wood, 0.7)
    brush.polygon([(mast + 0.03, 0.03), (0.96 * a, 0.72), (mast + 0.03, 0.72)], style.white)
    brush.polygon([(mast - 0.03, 0.1), (0.1 * a, 0.72), (mast - 0.03, 0.72)], style.second, 0.9)
    brush.polygon([(0.0, 0.78), (a, 0.78), (0.84 * a, 1.0), (0.14 * a, 1.0)], style.main)
    brush.box(0.02 * a, 0.78, 0.98 * a, 0.82, style.white, 0.9)


def balloon(brush: Brush, style: Style) -> None:
    """Paint a striped envelope with a basket."""
    a = brush.aspect
    cx, r = a / 2, a / 2

    def gores(x: Float, y: Float) -> Float:
        # lines of longitude: x over the half-width of the envelope at this height
        up = (y - np.float32(0.39)) / np.float32(0.39)
        half = np.float32(r) * np.sqrt(np.maximum(np.float32(1.06) - up * up, np.float32(0.06)))
        across = (x - np.float32(cx)) / half
        phase = across * np.abs(across) * np.float32(2.4) + np.float32(8.0)
        dark = phase - np.floor(phase / np.float32(2)) * np.float32(2) >= 1
        shade: Float = np.float32(0.25) * (across + up * np.float32(0.6))
        return np.where(dark, np.float32(0.45), np.float32(0.95)) - shade

    for x in (-0.6, 0.6):
        brush.line(cx + x * r, 0.62, cx + 0.16 * x, 0.9, 0.012, style.wood)
    brush.polygon(
        [(cx - 0.9 * r, 0.55), (cx + 0.9 * r, 0.55), (cx + 0.24 * r, 0.82), (cx - 0.24 * r, 0.82)], style.main, gores
    )
    brush.ellipse(cx, 0.39, r, 0.39, style.main, gores)
    brush.box(cx - 0.09, 0.88, cx + 0.09, 1.0, style.wood, _courses(0.04, 0.4, 0.8))


def chair(brush: Brush, style: Style) -> None:
    """Paint an L on legs."""
    a = brush.aspect
    brush.box(0.04, 0.0, 0.16, 1.0, style.wood)
    brush.box(a - 0.16, 0.6, a - 0.05, 1.0, style.wood)
    brush.polygon([(0.02, 0.02), (0.2, 0.02), (0.24, 0.6), (0.02, 0.6)], style.main)
    brush.box(0.02, 0.5, a, 0.66, style.main, 0.85)


def crate(brush: Brush, style: Style) -> None:
    """Paint a turned square of planks."""
    a, angle = brush.aspect, style.uniform(-0.2, 0.2)
    half = 0.5 * (1 + angle * angle) / (1 + abs(2 * angle))  # inscribed: the corners touch the box
    planks = _stripes(2 * half / style.count(3, 5), style.uniform(-0.3, 0.3), 0.55, 0.85)

    def square(size: float) -> list[tuple[float, float]]:
        corners = turn(angle, [(-size, -size), (size, -size), (size, size), (-size, size)])
        return [(a * (0.5 + x), 0.5 + y) for x, y in corners]

    brush.polygon(square(half), style.main, 0.35)
    brush.polygon(square(half * 0.8), style.main, planks)
    ends = square(half * 0.76)
    brush.line(*ends[0], *ends[2], 0.09, style.main, 0.3)


def kite(brush: Brush, style: Style) -> None:
    """Paint a two-colored diamond with a zigzag tail."""
    a, sway = brush.aspect, style.uniform(-0.1, 0.1)
    top, right, tip, left = (a / 2 + sway, 0.0), (a, 0.24), (a / 2, 0.68), (0.0, 0.24)
    tail = [tip, (0.62 * a, 0.76), (0.42 * a, 0.84), (0.6 * a, 0.92), (0.45 * a, 1.0)]
    for start, end in pairwise(tail):
        brush.line(*start, *end, 0.022, style.second, 0.8)
    brush.polygon([top, right, tip, left], style.main, 0.9)
    brush.polygon([top, right, (a / 2, 0.24)], style.second, 0.9)
    brush.polygon([left, (a / 2, 0.24), tip], style.second, 0.6)


def ring(brush: Brush, style: Style) -> None:
    """Paint a lifebuoy: an annulus in eight sectors."""
    cx, cy = brush.aspect / 2, 0.5

    def sectors(x: Float, y: Float) -> Float:
        ex, ey = (x - np.float32(cx)) / np.float32(cx), (y - np.float32(cy)) / np.float32(cy)
        eighth = ex * ey * (ex * ex - ey * ey) > 0
        shade: Float = np.float32(0.2) * ey
        return np.where(eighth, np.float32(0.95), np.float32(0.4)) - shade

    brush.ellipse(cx, cy, cx, cy, style.main, sectors, hole=style.uniform(0.45, 0.65))


_STAR_POINTS = [
    (0.0, -1.0), (0.2245, -0.309), (0.9511, -0.309), (0.3633, 0.118), (0.5878, 0.809),
    (0.0, 0.382), (-0.5878, 0.809), (-0.3633, 0.118), (-0.9511, -0.309), (-0.2245, -0.309),
]  # fmt: skip


def star(brush: Brush, style: Style) -> None:
    """Paint a turned star within a star."""
    points = turn(style.uniform(-0.32, 0.32), _STAR_POINTS)
    cx = brush.aspect / 2
    brush.polygon([(cx + x * cx, 0.5 + y * 0.5) for x, y in points], style.main)
    brush.polygon([(cx + x * cx * 0.6, 0.5 + y * 0.3) for x, y in points], style.main, 1.0)
