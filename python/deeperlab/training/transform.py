# SPDX-License-Identifier: Apache-2.0
"""From an annotated photograph to a sample: mirrored, scaled, cut out or padded, deformed, and its colors changed.

The photograph and all maps go through one geometry. Pixels have their centers at half a pixel, as where `Parser`
scales: the photograph is resized with Pillow's antialiased bilinear filter, which is torch's of the same name, and a
pixel of a map is that in which its center falls. Only what the sample shows is resized, to the same pixels as if all
were resized and then cut. Single values differ by 1 or 2: Pillow rounds twice, and has the borders as float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.sample import Sample
from ..graph import Graph
from ..targets import keypoints
from .batches import SOME_STUFF, VOID
from .boxes import DRAWS as OF_WINDOW
from .boxes import Window, window_of
from .config import DataConfig
from .elastic import DRAWS as OF_ELASTIC
from .elastic import Warp

if TYPE_CHECKING:
    from PIL.Image import Image

OF_COLORS = 4
DRAWS = 4 + OF_COLORS + OF_ELASTIC + OF_WINDOW
"""Random numbers that a sample takes: for its mirroring, scale and place, then these."""


@dataclass(frozen=True, eq=False)
class Example:
    """One sample, as `Batch` has N of them.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        category: int32 [H, W]: class 0 … C − 1, `VOID`, or `SOME_STUFF`.
        instance: int32 [H, W]: the numbers of the annotation, 0 = none.
        ignore: bool [H, W]: where the heatmap is not trained: crowd, padding, and void if asked for.
        point_ids: int64 [K], and
        points: int64 [K, P, 2] px (x, y): keypoints of the whole objects that the sample shows; None: not wanted.
        name: of the source and of the image.
    """

    image: NDArray[np.uint8]
    category: NDArray[np.int32]
    instance: NDArray[np.int32]
    ignore: NDArray[np.bool_]
    point_ids: NDArray[np.int64] | None
    points: NDArray[np.int64] | None
    name: str


@dataclass(frozen=True)
class Axis:
    """How one axis of an image becomes that of a sample; positions are pixels, which integers say exactly.

    Attributes:
        source: px of the image.
        scaled: px of the image as it is scaled.
        size: px of the sample.
        offset: Place of the sample's first pixel in the scaled image; below 0 there is padding before the image.
        mirrored: Whether the image is mirrored, before all else.
    """

    source: int
    scaled: int
    size: int
    offset: int
    mirrored: bool = False

    @property
    def shown(self) -> slice:
        """The pixels of the sample that show the image; the others are padding."""
        return slice(max(0, -self.offset), min(self.size, self.scaled - self.offset))

    @property
    def window(self) -> tuple[float, float]:
        """What is shown, in px of the (mirrored) image."""
        ends = self.shown.start, self.shown.stop
        low, high = ((end + self.offset) * self.source / self.scaled for end in ends)
        return low, high

    def wider(self, margin: int) -> Axis:
        """Return that of a sample with a margin of so many px at both ends."""
        return replace(self, size=self.size + 2 * margin, offset=self.offset - margin)

    def pixels(self) -> NDArray[np.int64]:
        """Return the image's pixel in which the center of each pixel that shows it lies."""
        place = np.arange(self.shown.start, self.shown.stop) + self.offset
        found = (2 * place + 1) * self.source // (2 * self.scaled)
        return self.source - 1 - found if self.mirrored else found

    def moved(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample's pixel, perhaps beyond it, in which the center of a (mirrored) image's pixel lies."""
        return (2 * position + 1) * self.scaled // (2 * self.source) - self.offset


@dataclass(frozen=True)
class Colors:
    """Factors of the photometric jitter.

    Brightness, contrast (about the mean of what is shown), saturation and hue (a turn about the axis of grays) are all
    linear in red, green and blue. So they are one matrix, which Pillow applies in one pass, rounded and clipped once.

    Attributes:
        brightness, contrast, saturation: Factors; 1 changes nothing.
        hue: In turns; 0 changes nothing.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    @classmethod
    def of(cls, draws: Sequence[float], strength: float) -> Colors:
        """Draw them from four numbers in [0, 1)."""
        b, c, s, h = (strength * (2 * u - 1) for u in draws)
        return cls(max(0.0, 1 + b), max(0.0, 1 + c), max(0.0, 1 + s), h / 4)

    def matrix(self, mean: float) -> tuple[float, ...]:
        """Return the rows of [3, 4] that are applied to (red, green, blue, 1) of 0 … 255.

        Args:
            mean: of all values, about which the contrast changes.
        """
        cos, sin = math.cos(2 * math.pi * self.hue), math.sin(2 * math.pi * self.hue) / math.sqrt(3)
        own, before, after = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin, (1 - cos) / 3 + sin
        turned = ((own, before, after), (after, own, before), (before, after, own))
        gain, lift = self.brightness * self.contrast, self.brightness * (1 - self.contrast) * mean
        gray = (1 - self.saturation) / 3
        rows = [[gain * (self.saturation * value + gray) for value in row] + [lift] for row in turned]
        return tuple(value for row in rows for value in row)

    def apply(self, image: Image) -> Image:
        """Return an RGB image in these colors."""
        if self == Colors():
            return image
        from PIL import ImageStat

        return image.convert("RGB", self.matrix(sum(ImageStat.Stat(image).mean) / 3))


def transform(
    sample: Sample,
    config: DataConfig,
    draws: Sequence[float],
    graph: Graph,
    *,
    fill: tuple[int, int, int],
    name: str = "",
) -> Example:
    """Make a sample of an annotated photograph.

    Padding is of the color `fill`, has no label, and the heatmap is not trained there, as the fusion never sees what
    `Parser` pads. It lies at random sides, so that the network does not learn to expect it at some.

    Args:
        sample: the annotation; it reads its photograph.
        config: what is done.
        draws: `DRAWS` numbers in [0, 1), which alone decide what is random; those at the end may be missing where
            nothing needs them.
        graph: of the keypoints, where those of whole objects are wanted.
        fill: RGB of the padding: the mean of the network, which its normalization turns to 0.
        name: for messages.

    Raises:
        FormatError, OSError: the photograph cannot be read.
    """
    colors, others = draws[4 : 4 + OF_COLORS], draws[4 + OF_COLORS :]
    crop_h, crop_w = (config.crop, config.crop) if isinstance(config.crop, int) else config.crop
    window = None
    if config.sampling != "image":
        window = window_of(sample.instance, others[OF_ELASTIC:], proposed=config.sampling == "proposals")
    y, x = _axes(sample.category.shape, config, (crop_h, crop_w), window, draws)
    warp = Warp.of((crop_h, crop_w), config.elastic, others[:OF_ELASTIC]) if config.elastic else None
    if warp:
        y, x = y.wider(warp.margin), x.wider(warp.margin)
    image = np.empty((y.size, x.size, 3), np.uint8)
    if (y.shown.stop - y.shown.start, x.shown.stop - x.shown.start) != image.shape[:2]:
        image[:] = fill  # a tenth of the time of a sample, if it were not needed
    resized = Colors.of(colors, config.jitter).apply(resize(sample.image(), y, x))
    image[y.shown, x.shown] = np.asarray(resized)
    category = cut(sample.category, y, x, VOID)
    ignore = cut(sample.crowd, y, x, True)
    if sample.some_stuff is not None:
        category[cut(sample.some_stuff, y, x, False)] = SOME_STUFF
    if config.void == "ignore":
        ignore |= category == VOID
    instance = cut(sample.instance, y, x, 0)
    if window and config.sampling == "objects":
        other = ((instance > 0) & (instance != window.instance)) | (cut(sample.crowd, y, x, False) & (category >= 0))
        category[other], instance[other] = SOME_STUFF, 0
    if warp:
        image, category, instance, ignore = warp.photograph(image), *map(warp.labels, (category, instance, ignore))
    ids, points = _whole(sample, instance, y, x, graph) if config.keypoints == "whole" else (None, None)
    return Example(image, category, instance, ignore, ids, points, name)


def _axes(
    size: tuple[int, ...], config: DataConfig, crop: tuple[int, int], window: Window | None, draws: Sequence[float]
) -> tuple[Axis, Axis]:
    """Place a sample in an image of (H, W) px: anywhere, or within a window, whose center it shows."""
    flip, scale, *places = draws[:4]
    mirrored = flip < config.flip
    if window is None:
        factor = scale_of(config, size[0], size[1], scale)
        y, x = (_axis(*each) for each in zip(size, (factor, factor), crop, places, strict=True))
        return y, replace(x, mirrored=mirrored)
    low, high = config.scale
    larger = low * math.pow(high / low, scale)
    factor = larger * min(crop) / window.side
    centers = window.y, size[1] - window.x if mirrored else window.x
    axes, room = list[Axis](), min(larger - 1, 0.5)
    for source, side, center, place in zip(size, crop, centers, places, strict=True):
        scaled = max(1, round(source * factor))
        offset = center * scaled / source - side / 2 + (place - 0.5) * side * room
        axes.append(Axis(source, scaled, side, math.floor(offset + 0.5)))
    return axes[0], replace(axes[1], mirrored=mirrored)


def scale_of(config: DataConfig, height: int, width: int, draw: float) -> float:
    """Return the factor that an image is scaled by: its longer side first, then at random."""
    low, high = config.scale
    base = config.longest_side / max(height, width) if config.longest_side else 1.0
    return base * low * math.pow(high / low, draw)


def resize(photo: NDArray[np.uint8], y: Axis, x: Axis) -> Image:
    """Resize what a sample shows of a photograph [H, W, 3]."""
    from PIL.Image import Resampling, Transpose, fromarray

    parts = [_around(axis) for axis in (y, x)]
    (top, bottom), (left, right) = parts
    columns = slice(x.source - right, x.source - left) if x.mirrored else slice(left, right)
    region = fromarray(np.ascontiguousarray(photo[top:bottom, columns]))
    if x.mirrored:
        region = region.transpose(Transpose.FLIP_LEFT_RIGHT)
    (y0, y1), (x0, x1) = y.window, x.window
    size = x.shown.stop - x.shown.start, y.shown.stop - y.shown.start
    return region.resize(size, Resampling.BILINEAR, (x0 - left, y0 - top, x1 - left, y1 - top))


def cut(values: NDArray[Any], y: Axis, x: Axis, fill: int | bool) -> NDArray[Any]:
    """Return what a sample shows of a map [H, W]; `fill` is the padding."""
    found = np.full((y.size, x.size), fill, values.dtype)
    found[y.shown, x.shown] = values.take(y.pixels(), 0).take(x.pixels(), 1)
    return found


def _axis(source: int, factor: float, size: int, draw: float) -> Axis:
    """Place a sample: within the image where that is larger, or the image within the sample."""
    scaled = max(1, round(source * factor))
    room = scaled - size
    offset = int(draw * (abs(room) + 1))
    return Axis(source, scaled, size, offset if room >= 0 else -offset)


def _around(axis: Axis) -> tuple[int, int]:
    """Return the image's pixels that the filter sees: its support is a pixel of the coarser of both grids."""
    margin = math.ceil(max(1.0, axis.source / axis.scaled)) + 1
    low, high = axis.window
    return max(0, math.floor(low) - margin), min(axis.source, math.ceil(high) + margin)


def _whole(
    sample: Sample, shown: NDArray[np.int32], y: Axis, x: Axis, graph: Graph
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the keypoints of the whole objects of which a pixel is shown."""
    source = sample.instance[:, ::-1] if x.mirrored else sample.instance
    ids, points = keypoints(source, graph)
    visible = np.isin(ids, shown)
    whole = points[visible].astype(np.int64)
    return ids[visible], np.stack([x.moved(whole[..., 0]), y.moved(whole[..., 1])], -1)
