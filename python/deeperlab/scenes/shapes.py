# SPDX-License-Identifier: Apache-2.0
"""Painters of things, one function a kind.

Coordinates are in units of a thing's height, y downwards, x from 0 to its aspect (width/height).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .brush import Brush, Float, Look, turn


def person(brush: Brush, look: Look) -> None:
    """Head, trunk, arms and legs in some pose."""
    cx, stride, lean = brush.aspect / 2, look.uniform(0.02, 0.12), look.uniform(-0.02, 0.02)
    for side in (-1, 1):
        foot = cx + side * stride
        brush.polygon([(cx - 0.1, 0.5), (cx + 0.1, 0.5), (foot + 0.04, 0.97), (foot - 0.045, 0.97)], look.second)
        brush.ellipse(foot + 0.015, 0.972, 0.07, 0.028, look.black)
        hand, drop = cx + side * look.uniform(0.13, 0.19), look.uniform(0.36, 0.5)
        brush.line(cx + side * 0.1, 0.22, hand, drop, 0.065, look.main, 0.35)
        brush.ellipse(hand, drop + 0.015, 0.033, 0.033, look.skin)
    top = cx + lean
    brush.polygon([(top - 0.12, 0.2), (top + 0.12, 0.2), (cx + 0.105, 0.55), (cx - 0.105, 0.55)], look.main)
    brush.ellipse(top, 0.205, 0.12, 0.035, look.main)
    brush.box(top - 0.03, 0.14, top + 0.03, 0.19, look.skin)
    brush.ellipse(top, 0.082, 0.078, 0.082, look.wood, 0.1)
    brush.ellipse(top + lean, 0.1, 0.062, 0.07, look.skin, 0.9)


def _wheel(brush: Brush, look: Look, x: float, radius: float) -> None:
    brush.ellipse(x, 1 - radius, radius, radius, look.black, 0.15)
    brush.ellipse(x, 1 - radius, radius * 0.52, radius * 0.52, look.steel)


def car(brush: Brush, look: Look) -> None:
    """Body, cabin, windows, wheels."""
    a = brush.aspect
    front, back = look.uniform(0.24, 0.3) * a, look.uniform(0.78, 0.88) * a
    brush.polygon([(0.1 * a, 0.46), (front, 0.04), (0.68 * a, 0.04), (back, 0.46)], look.main)
    brush.polygon([(0.18 * a, 0.42), (front + 0.04, 0.11), (0.46 * a, 0.11), (0.46 * a, 0.42)], look.glass)
    brush.polygon([(0.5 * a, 0.42), (0.5 * a, 0.11), (0.665 * a, 0.11), (back - 0.1, 0.42)], look.glass)
    brush.box(0.0, 0.5, a, 0.82, look.main)
    brush.polygon([(0.04, 0.42), (a - 0.04, 0.42), (a, 0.52), (0, 0.52)], look.main, 0.95)
    brush.box(0.0, 0.76, a, 0.84, look.black, 0.3)
    brush.box(0.0, 0.54, 0.08, 0.64, look.white, 1.0)
    brush.box(a - 0.08, 0.54, a, 0.64, look.second, 0.9)
    for x in (0.2, 0.79):
        _wheel(brush, look, x * a, 0.215)


def bus(brush: Brush, look: Look) -> None:
    """A long box with a row of windows."""
    a, panes = brush.aspect, look.count(4, 7)
    brush.box(0, 0.03, a, 0.86, look.main)
    brush.box(0, 0, a - 0.06, 0.05, look.main, 1.0)
    brush.box(0, 0.6, a, 0.68, look.white)
    step = (a - 0.1) / panes
    for pane in range(panes):
        left = 0.06 + pane * step
        brush.box(left, 0.14, left + step * 0.82, 0.5, look.glass)
    brush.box(0, 0.8, a, 0.88, look.black, 0.3)
    for x in (0.18, 0.8):
        _wheel(brush, look, x * a, 0.15)


def bicycle(brush: Brush, look: Look) -> None:
    """Two thin rings and a frame."""
    a = brush.aspect
    left, right, r = 0.31, a - 0.31, 0.3
    for x in (left, right):
        brush.ellipse(x, 1 - r, r, r, look.black, 0.2, hole=0.8)
        brush.line(x - r * 0.7, 1 - r * 1.7, x + r * 0.7, 1 - r * 0.3, 0.012, look.steel)
        brush.line(x - r * 0.7, 1 - r * 0.3, x + r * 0.7, 1 - r * 1.7, 0.012, look.steel)
    crank, seat, bar = (0.46 * a, 0.72), (0.36 * a, 0.26), (0.68 * a, 0.24)
    for start, end in (((left, 0.7), crank), ((left, 0.7), seat), (crank, seat), (crank, bar), (seat, bar)):
        brush.line(*start, *end, 0.05, look.main, 0.7)
    brush.line(right, 0.7, 0.66 * a, 0.08, 0.05, look.main, 0.7)
    brush.line(0.58 * a, 0.06, 0.72 * a, 0.06, 0.05, look.black, 0.4)
    brush.line(seat[0] - 0.02, 0.3, seat[0] - 0.03, 0.16, 0.04, look.steel)
    brush.ellipse(seat[0] - 0.03, 0.15, 0.13, 0.045, look.black, 0.4)


def dog(brush: Brush, look: Look) -> None:
    """Four legs, trunk, head, tail; spotted."""
    a = brush.aspect
    for x in (0.24, 0.33, 0.63, 0.72):
        brush.line(x * a, 0.6, (x + look.uniform(-0.05, 0.05)) * a, 1.0, 0.11, look.main, 0.25)
    brush.line(0.14 * a, 0.45, 0.03 * a, look.uniform(0.05, 0.3), 0.07, look.main, 0.5)
    brush.ellipse(0.46 * a, 0.53, 0.34 * a, 0.2, look.main)
    for _ in range(3):
        spot = look.uniform(0.25, 0.65) * a, look.uniform(0.45, 0.6)
        brush.ellipse(*spot, look.uniform(0.05, 0.11), look.uniform(0.04, 0.08), look.white, 0.8)
    brush.line(0.7 * a, 0.5, 0.82 * a, 0.25, 0.2, look.main, 0.6)
    brush.ellipse(0.83 * a, 0.22, 0.15, 0.14, look.main)
    brush.ellipse(0.93 * a, 0.28, 0.07 * a, 0.07, look.main, 0.7)
    brush.ellipse(0.985 * a, 0.26, 0.03, 0.03, look.black, 0.0)
    brush.polygon([(0.74 * a, 0.02), (0.8 * a, 0.1), (0.75 * a, 0.3)], look.main, 0.1)


def tree(brush: Brush, look: Look) -> None:
    """A crown of balls on a trunk."""
    a = brush.aspect
    brush.polygon([(a * 0.46, 0.5), (a * 0.54, 0.5), (a * 0.58, 1.0), (a * 0.42, 1.0)], look.wood)
    for _ in range(look.count(6, 9)):
        x, y, r = look.uniform(0.3, 0.7) * a, look.uniform(0.22, 0.52), look.uniform(0.16, 0.22)
        brush.ellipse(x, y, r * min(1.0, a * 1.3), r, look.main, _ball(x, y, r))


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


def lamp(brush: Brush, look: Look) -> None:
    """A thin pole with an arm."""
    a = brush.aspect
    foot = 0.25 * a
    brush.line(foot, 0.06, foot, 1.0, 0.022, look.steel, 0.35)
    brush.line(foot, 0.06, 0.8 * a, 0.02, 0.02, look.steel, 0.45)
    brush.box(foot - 0.03, 0.93, foot + 0.03, 1.0, look.steel, 0.2)
    brush.ellipse(0.78 * a, 0.035, 0.24 * a, 0.03, look.main, 0.95)


def sign(brush: Brush, look: Look) -> None:
    """A disk, triangle or diamond on a pole."""
    cx = brush.aspect / 2
    r = cx * 0.98
    brush.line(cx, 2 * r, cx, 1.0, 0.045, look.steel, 0.6)
    triangle, diamond = [(0.0, -1.0), (0.92, 0.8), (-0.92, 0.8)], [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
    shape = (None, triangle, diamond)[look.count(0, 2)]
    for size, material, mix in ((1.0, look.white, 0.95), (0.84, look.main, 0.9)):
        if shape:
            brush.polygon([(cx + x * r * size, r + y * r * size) for x, y in shape], material, mix)
        else:
            brush.ellipse(cx, r, r * size, r * size, material, mix)
    brush.box(cx - 0.55 * r, 0.9 * r, cx + 0.55 * r, 1.15 * r, look.white, 0.95)


def house(brush: Brush, look: Look) -> None:
    """Walls, roof, chimney, door, windows."""
    a = brush.aspect
    brush.box(0.7 * a, 0.06, 0.79 * a, 0.4, look.second, 0.3)
    brush.box(0.06 * a, 0.4, 0.94 * a, 1.0, look.white, _courses(0.07, 0.7, 0.78))
    brush.polygon([(0.0, 0.43), (0.5 * a, 0.0), (a, 0.43)], look.main, _courses(0.07, 0.6, 0.88))
    door = look.uniform(0.38, 0.56) * a
    brush.box(door, 0.66, door + 0.15, 1.0, look.wood)
    for x in (0.14, 0.72):
        brush.box(x * a, 0.55, x * a + 0.15, 0.74, look.second, 0.2)
        brush.box(x * a + 0.015, 0.565, x * a + 0.135, 0.725, look.glass)


def boat(brush: Brush, look: Look) -> None:
    """Hull, mast and two sails."""
    a, mast = brush.aspect, look.uniform(0.44, 0.54) * brush.aspect
    brush.line(mast, 0.0, mast, 0.84, 0.025, look.wood, 0.7)
    brush.polygon([(mast + 0.03, 0.03), (0.96 * a, 0.72), (mast + 0.03, 0.72)], look.white)
    brush.polygon([(mast - 0.03, 0.1), (0.1 * a, 0.72), (mast - 0.03, 0.72)], look.second, 0.9)
    brush.polygon([(0.0, 0.78), (a, 0.78), (0.84 * a, 1.0), (0.14 * a, 1.0)], look.main)
    brush.box(0.02 * a, 0.78, 0.98 * a, 0.82, look.white, 0.9)


def balloon(brush: Brush, look: Look) -> None:
    """A striped envelope with a basket."""
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
        brush.line(cx + x * r, 0.62, cx + 0.16 * x, 0.9, 0.012, look.wood)
    brush.polygon(
        [(cx - 0.9 * r, 0.55), (cx + 0.9 * r, 0.55), (cx + 0.24 * r, 0.82), (cx - 0.24 * r, 0.82)], look.main, gores
    )
    brush.ellipse(cx, 0.39, r, 0.39, look.main, gores)
    brush.box(cx - 0.09, 0.88, cx + 0.09, 1.0, look.wood, _courses(0.04, 0.4, 0.8))


def chair(brush: Brush, look: Look) -> None:
    """An L on legs."""
    a = brush.aspect
    brush.box(0.04, 0.0, 0.16, 1.0, look.wood)
    brush.box(a - 0.16, 0.6, a - 0.05, 1.0, look.wood)
    brush.polygon([(0.02, 0.02), (0.2, 0.02), (0.24, 0.6), (0.02, 0.6)], look.main)
    brush.box(0.02, 0.5, a, 0.66, look.main, 0.85)


def crate(brush: Brush, look: Look) -> None:
    """A turned square of planks."""
    a, angle = brush.aspect, look.uniform(-0.2, 0.2)
    half = 0.5 * (1 + angle * angle) / (1 + abs(2 * angle))  # inscribed: the corners touch the box
    planks = _stripes(2 * half / look.count(3, 5), look.uniform(-0.3, 0.3), 0.55, 0.85)

    def square(size: float) -> list[tuple[float, float]]:
        corners = turn(angle, [(-size, -size), (size, -size), (size, size), (-size, size)])
        return [(a * (0.5 + x), 0.5 + y) for x, y in corners]

    brush.polygon(square(half), look.main, 0.35)
    brush.polygon(square(half * 0.8), look.main, planks)
    ends = square(half * 0.76)
    brush.line(*ends[0], *ends[2], 0.09, look.main, 0.3)


def kite(brush: Brush, look: Look) -> None:
    """A two-colored diamond with a zigzag tail."""
    a, sway = brush.aspect, look.uniform(-0.1, 0.1)
    top, right, tip, left = (a / 2 + sway, 0.0), (a, 0.24), (a / 2, 0.68), (0.0, 0.24)
    tail = [tip, (0.62 * a, 0.76), (0.42 * a, 0.84), (0.6 * a, 0.92), (0.45 * a, 1.0)]
    for start, end in pairwise(tail):
        brush.line(*start, *end, 0.022, look.second, 0.8)
    brush.polygon([top, right, tip, left], look.main, 0.9)
    brush.polygon([top, right, (a / 2, 0.24)], look.second, 0.9)
    brush.polygon([left, (a / 2, 0.24), tip], look.second, 0.6)


def ring(brush: Brush, look: Look) -> None:
    """A lifebuoy: an annulus in eight sectors."""
    cx, cy = brush.aspect / 2, 0.5

    def sectors(x: Float, y: Float) -> Float:
        ex, ey = (x - np.float32(cx)) / np.float32(cx), (y - np.float32(cy)) / np.float32(cy)
        eighth = ex * ey * (ex * ex - ey * ey) > 0
        shade: Float = np.float32(0.2) * ey
        return np.where(eighth, np.float32(0.95), np.float32(0.4)) - shade

    brush.ellipse(cx, cy, cx, cy, look.main, sectors, hole=look.uniform(0.45, 0.65))


_STAR_POINTS = [
    (0.0, -1.0), (0.2245, -0.309), (0.9511, -0.309), (0.3633, 0.118), (0.5878, 0.809),
    (0.0, 0.382), (-0.5878, 0.809), (-0.3633, 0.118), (-0.9511, -0.309), (-0.2245, -0.309),
]  # fmt: skip


def star(brush: Brush, look: Look) -> None:
    """A turned star within a star."""
    points = turn(look.uniform(-0.32, 0.32), _STAR_POINTS)
    cx = brush.aspect / 2
    brush.polygon([(cx + x * cx, 0.5 + y * 0.5) for x, y in points], look.main)
    brush.polygon([(cx + x * cx * 0.6, 0.5 + y * 0.3) for x, y in points], look.main, 1.0)
