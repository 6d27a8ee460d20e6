# SPDX-License-Identifier: Apache-2.0
"""The kinds of stuff that drawn scenes hold: how regions divide the image, and their textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .brush import Color, Float, smooth_noise

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Band:
    """The pixels that a texture is asked for: rows y [h] and columns x [w] of an image [H, W], in pixels."""

    rng: np.random.Generator
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    shape: tuple[int, int]
    horizon: int

    def noise(self, hills_y: float, hills_x: float) -> Float:
        """Draw smooth noise [h, w] with so many hills along each side of a square image."""
        side = max(self.shape)
        return smooth_noise(self.rng, self.y * (hills_y / side), self.x * (hills_x / side))

    def receding(self, hills_y: float, hills_x: float) -> Float:
        """Draw noise whose hills grow flatter towards the horizon, as on level ground."""
        return smooth_noise(self.rng, hills_y * np.sqrt(self.depth()), self.x * (hills_x / max(self.shape)))

    def depth(self) -> Float:
        """Return 0 at the horizon to 1 at the lower border, float32 [h]."""
        ground = max(1, self.shape[0] - self.horizon)
        return (np.maximum(self.y - self.horizon, 0) / ground).astype(np.float32)

    def grain(self) -> Float:
        """Draw white noise in 0..1 [h, w]."""
        return self.rng.random((self.y.size, self.x.size), dtype=np.float32)


@dataclass(frozen=True)
class Stuff:
    """How stuff of one kind looks.

    Attributes:
        name: of the class.
        role: "far" above the horizon, "back" rises from the horizon, "ground" below it.
        dark, bright: the ends of its ramp of colors.
        texture: the place on the ramp, [h, w] for a band.
        ridge: for role "back": height above the horizon, as a share of the image's height, at the columns [w].
        distance: for role "back": the farther ones are hidden by the nearer ones.
        patch: for role "ground" over other ground: "road" runs to the horizon, "shore" lies along it, "blot" anywhere.
    """

    name: str
    role: str
    dark: Color
    bright: Color
    texture: Callable[[Band], Float]
    ridge: Callable[[np.random.Generator, NDArray[np.int64]], Float] = lambda rng, x: np.zeros(x.size, np.float32)
    distance: int = 0
    patch: str = "blot"

    def variant(self, number: int) -> Stuff:
        """Return the same texture as another class, its color channels mixed differently; 0 is the kind itself."""
        if number == 0:
            return self

        def mixed(color: Color) -> Color:
            red, green, blue = color
            rotations = (green, blue, red), (blue, red, green), (red, blue, green), (green, red, blue)
            other = rotations[(number - 1) % 4]
            return 0.15 * red + 0.85 * other[0], 0.15 * green + 0.85 * other[1], 0.15 * blue + 0.85 * other[2]

        return replace(self, name=f"{self.name}_{number + 1}", dark=mixed(self.dark), bright=mixed(self.bright))

    @property
    def color(self) -> Color:
        """The middle of the ramp."""
        red, green, blue = (0.5 * (a + b) for a, b in zip(self.dark, self.bright, strict=True))
        return red, green, blue


def _layers(base: float, *layers: tuple[float, Float]) -> Float:
    """Weighted sum of layers [h, w] or [h, 1], the first of them full."""
    total = np.full(layers[0][1].shape, base, np.float32)
    for weight, layer in layers:
        total += np.float32(weight) * layer
    return total


def _grass(band: Band) -> Float:
    return _layers(0.25, (0.3, band.receding(9, 5)), (0.25, band.receding(60, 45)), (0.3, band.grain()))


def _sky(band: Band) -> Float:
    clouds = _layers(-0.52, (0.65, band.noise(9, 4)), (0.35, band.noise(24, 11)))
    fade = (band.y / max(1, band.horizon)).astype(np.float32)[:, None]
    return _layers(0.1, (1.0, np.clip(clouds * np.float32(3), 0, np.float32(0.75))), (0.5, np.minimum(fade, 1)))


def _road(band: Band) -> Float:
    return _layers(0.3, (0.2, band.receding(6, 3)), (0.22, band.grain()))


def _building(band: Band) -> Float:
    """Blocks of different shade with rows of windows, a few of them lit."""
    unit = max(2, max(band.shape) // 60)
    column, row = band.x // unit, (band.y + unit // 3) // unit
    tone = band.rng.random(int(column.max()) // 3 + 2, dtype=np.float32) * np.float32(0.4) + np.float32(0.5)
    glow = band.rng.random((int(row.max()) + 1, int(column.max()) + 1), dtype=np.float32)
    glow = np.where(glow > np.float32(0.85), np.float32(1.15), glow * np.float32(0.25))
    panes = (band.x % unit * 3 >= unit)[None, :] & ((band.y + unit // 3) % unit * 5 >= 2 * unit)[:, None]
    front = np.where(panes, glow[row[:, None], column[None, :]], tone[column // 3][None, :])
    return _layers(0.0, (1.0, front), (0.06, band.grain()))


def _water(band: Band) -> Float:
    waves = band.receding(70, 14)
    near = band.depth()[:, None]
    return _layers(0.45, (0.4, waves * waves), (0.35, band.receding(12, 3)), (-0.3, near))


def _forest(band: Band) -> Float:
    crowns = band.noise(70, 60) * band.noise(18, 22)
    return _layers(0.0, (0.7, crowns), (0.35, band.noise(120, 120)), (0.1, band.grain()))


def _sand(band: Band) -> Float:
    return _layers(0.4, (0.25, band.receding(50, 7)), (0.15, band.receding(8, 4)), (0.2, band.grain()))


def _mountain(band: Band) -> Float:
    rock = _layers(0.0, (0.55, band.noise(26, 20)), (0.3, band.noise(60, 50)))
    height = ((band.horizon - band.y) / max(1, band.horizon)).astype(np.float32)[:, None]
    snow = np.clip(_layers(-0.62, (0.35, rock), (1.0, height)) * np.float32(5), 0, np.float32(0.6))
    return _layers(0.1, (0.45, rock), (1.0, snow))


def _hills(rng: np.random.Generator, x: NDArray[np.int64], counts: tuple[int, ...]) -> Float:
    """A profile in 0..1 over the columns: hills, half as high and finer with each count."""
    width = max(1, int(x[-1]))
    profile = np.zeros(x.size, np.float32)
    weight, total = 1.0, 0.0
    for count in counts:
        profile += np.float32(weight) * smooth_noise(rng, np.zeros(1), x * (count / width))[0]
        weight, total = weight / 2, total + weight
    return profile / np.float32(total)


def _peaks(rng: np.random.Generator, x: NDArray[np.int64]) -> Float:
    peaks: Float = np.maximum(_hills(rng, x, (4, 9, 23, 60)) - np.float32(0.15), 0)
    return peaks * np.float32(0.3)


def _treetops(rng: np.random.Generator, x: NDArray[np.int64]) -> Float:
    return np.float32(0.03) + np.float32(0.11) * _hills(rng, x, (5, 30, 90))


def _skyline(rng: np.random.Generator, x: NDArray[np.int64]) -> Float:
    blocks = int(rng.integers(7, 16))
    edges = np.sort(rng.random(blocks, dtype=np.float32))
    heights = 0.06 + 0.22 * rng.random(blocks + 1, dtype=np.float32)
    heights[rng.random(blocks + 1) < 0.15] = 0
    return heights[np.searchsorted(edges, x.astype(np.float32) / np.float32(max(1, int(x[-1]))))]


KINDS = (
    Stuff("grass", "ground", (38, 78, 28), (150, 182, 84), _grass),
    Stuff("sky", "far", (74, 134, 206), (246, 249, 252), _sky),
    Stuff("road", "ground", (44, 44, 50), (168, 168, 172), _road, patch="road"),
    Stuff("building", "back", (44, 50, 70), (222, 204, 178), _building, ridge=_skyline),
    Stuff("water", "ground", (22, 70, 112), (168, 212, 232), _water, patch="shore"),
    Stuff("forest", "back", (16, 44, 26), (104, 142, 72), _forest, ridge=_treetops, distance=1),
    Stuff("sand", "ground", (176, 142, 94), (248, 228, 184), _sand),
    Stuff("mountain", "back", (58, 64, 84), (244, 247, 252), _mountain, ridge=_peaks, distance=2),
)
"""The kinds in the order in which classes use them; stuff class c is variant c // 8 of kind c % 8."""


def stuff_of(index: int) -> Stuff:
    """Return the kind that stuff class `index` (counted from 0 after the things) draws."""
    number, place = divmod(index, len(KINDS))
    return KINDS[place].variant(number)


def lay_out(rng: np.random.Generator, shape: tuple[int, int], horizon: int, kinds: list[Stuff]) -> NDArray[np.int32]:
    """Divide an image into regions: index into `kinds` of every pixel, int32 [H, W]."""
    height, width = shape
    x, y = np.arange(width), np.arange(height)

    def shuffled(role: str) -> list[int]:
        found = [i for i, kind in enumerate(kinds) if kind.role == role]
        return [found[i] for i in rng.permutation(len(found)).tolist()]

    far, back, ground = shuffled("far"), shuffled("back"), shuffled("ground")
    base = (ground or back or far)[0]
    label = np.full(shape, base, np.int32)
    label[:horizon] = (far or [base])[0]
    for i in sorted(back[: int(rng.integers(1, 4))], key=lambda i: -kinds[i].distance):
        top = horizon - (kinds[i].ridge(rng, x) * np.float32(height)).astype(np.int64)
        first = max(0, int(top.min()))
        label[first:horizon][y[first:horizon, None] >= top] = i
    for i in ground[1 : 1 + int(rng.integers(0, 4))]:
        below = label[horizon:]
        if below.size:
            below[_patch(rng, kinds[i].patch, below.shape)] = i
    return label


def _patch(rng: np.random.Generator, patch: str, shape: tuple[int, int]) -> Bool:
    """Where a second kind of ground lies on the first, bool [h, w] of the rows below the horizon."""
    height, width = shape
    x = np.arange(width)
    depth = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
    if patch == "road":
        vanish, foot, half = (np.float32(v) for v in rng.random(3))
        center = np.float32(width) * (np.float32(0.3) + np.float32(0.4) * vanish + (foot - np.float32(0.5)) * depth)
        wobble = np.float32(width) * np.float32(0.02) * smooth_noise(rng, depth[:, 0] * 6, np.zeros(1))
        spread = np.float32(width) * (np.float32(0.01) + (np.float32(0.12) + np.float32(0.2) * half) * depth)
        off = np.abs(x[None, :].astype(np.float32) - center - wobble)
        return np.asarray(off <= spread)
    if patch == "shore":
        reach = np.float32(0.12 + 0.4 * rng.random()) + np.float32(0.3) * (
            _hills(rng, x, (3, 12, 40)) - np.float32(0.5)
        )
        return depth <= reach
    hills = smooth_noise(rng, 3.5 * np.sqrt(depth[:, 0]), x * (3.0 / width))
    fine = smooth_noise(rng, 22 * np.sqrt(depth[:, 0]), x * (18.0 / width))
    return hills + np.float32(0.25) * fine > np.float32(0.66 + 0.1 * rng.random())
