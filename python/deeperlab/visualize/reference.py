# SPDX-License-Identifier: Apache-2.0
"""`draw` in plain NumPy, bit-equal to the compiled one: a panoptic map over its image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Map = NDArray[np.int32]


def draw(
    image: Picture,
    category: Map,
    instance: Map,
    shades: Picture,
    *,
    stuff: int,
    thing: int,
    border: int,
    line: tuple[int, int, int],
    width: int,
) -> Picture:
    """Tint every segment of an image and draw the borders of its things.

    A pixel is of a thing where its category is not negative and its instance not 0. It is on a border where, at most
    `width` px away, the pixel to the right or below is of another segment, or the one to the left or above is of no
    thing: between two things that touch there is one line.

    Args:
        image: RGB [H, W, 3].
        category: [H, W]; negative ones and those without a color, >= C, stay as they are.
        instance: [H, W]; 0 = none.
        shades: RGB [C, S >= 2, 3]: shade 0 is the stuff's, the others go round the instances.
        stuff: weight of the colors of stuff, in 256ths, as the next two.
        thing: weight of those of instances.
        border: weight of the lines.
        line: their color.
        width: their width, px.

    Returns:
        RGB [H, W, 3].
    """
    isthing = (category >= 0) & (instance != 0)
    colored = (category >= 0) & (category < shades.shape[0])
    number = (instance.astype(np.uint32) - np.uint32(1)) % np.uint32(shades.shape[1] - 1)
    shade = np.where(isthing, 1 + number.astype(np.int64), 0)
    picture = image.copy()
    weight = np.where(isthing, thing, stuff)[colored]
    picture[colored] = _blend(image[colored], shades[category[colored], shade[colored]], weight[:, None])
    edge = _borders(category, instance, isthing, width)
    picture[edge] = _blend(picture[edge], np.array(line), border)
    return picture


def _blend(base: Picture, color: NDArray[Any], weight: Any) -> Picture:
    mixed: Picture = ((base.astype(np.int64) * (256 - weight) + color.astype(np.int64) * weight + 128) >> 8).astype(
        np.uint8
    )
    return mixed


def _borders(category: Map, instance: Map, isthing: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    edge = np.zeros(category.shape, np.bool_)
    for axis, length in enumerate(category.shape):
        for distance in range(1, min(width, length - 1) + 1):
            before = tuple(slice(0, length - distance) if a == axis else slice(None) for a in (0, 1))
            after = tuple(slice(distance, length) if a == axis else slice(None) for a in (0, 1))
            edge[before] |= (category[before] != category[after]) | (instance[before] != instance[after])
            edge[after] |= ~isthing[before]
    return edge & isthing
