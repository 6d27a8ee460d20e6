# SPDX-License-Identifier: Apache-2.0
"""The view of segments: tints, borders, names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._threads import thread_count
from . import inputs
from .colors import Colors, Picture, colors_of, shades
from .lettering import write_names

BORDER = 192
"""Weight of the white lines, in 256ths."""


def overlay(
    image: Any,
    panoptic: Any,
    labels: Any = None,
    *,
    colors: Colors | None = None,
    opacity: float = 0.65,
    text: bool = True,
    num_threads: int | None = None,
) -> Picture:
    """Draw a panoptic map over its image.

    Every category has a color, every instance a shade of it; instances are bordered and tinted more strongly than
    stuff. Names stand where a segment is widest, and only where they fit.

    Args:
        image: RGB of 8 bits, [H, W, 3] array or tensor, or Pillow image; None draws on gray.
        panoptic: a `Panoptic` of one image, or (category, instance) maps [H, W]; a negative category is void, which
            stays untinted, and instance 0 is none.
        labels: names of categories, a sequence or a mapping; or an object that has `names`, and optionally `colors`,
            as the label sets of `deeperlab.data`. By default their numbers.
        colors: RGB of categories, a sequence or a mapping, in place of those of `labels`; by default `palette`.
        opacity: of the tint of instances, 0 to 1, in steps of 1/256; stuff has two thirds of it.
        text: write names; needs Pillow.
        num_threads: by default as many as there are processors that the process may use.

    Returns:
        RGB [H, W, 3]. The same bits on every machine where `text` is False, and for any number of threads.

    Raises:
        ValueError: shapes that differ, an opacity out of range, a category without color.
        TypeError: maps that are not integers, an image that is not of 8 bits.
        ImportError: text without Pillow.
    """
    known = inputs.Labels(labels, colors)
    category, instance = inputs.maps(panoptic)
    base = inputs.picture(image, category.shape)
    kinds, places = inputs.dense(category)
    drawn = paint(
        base,
        places,
        instance,
        shades(_colors(kinds, places, known)),
        thing=inputs.weight(opacity),
        stuff=inputs.weight(opacity * 2 / 3),
        num_threads=num_threads,
    )
    if text and drawn.size:
        write_names(drawn, places, instance, [known.name(kind) for kind in kinds.tolist()])
    return drawn


def paint(
    image: Picture,
    category: inputs.Map,
    instance: inputs.Map,
    table: Picture,
    *,
    stuff: int,
    thing: int,
    num_threads: int | None = None,
) -> Picture:
    """Return the tinted and bordered image, a new array; weights in 256ths."""
    from .._numpy import draw

    drawn: Picture = draw(
        image,
        category,
        instance,
        table,
        stuff=stuff,
        thing=thing,
        border=BORDER,
        line=(255, 255, 255),
        width=line_width(category.shape),
        num_threads=thread_count(num_threads),
    )
    return drawn


def line_width(shape: tuple[int, ...]) -> int:
    """Return the width of the borders, px: one, and one more for each 800 px of a large image's mean side."""
    return 1 + int(math.sqrt(shape[0] * shape[1]) / 800)


def _colors(kinds: NDArray[np.int32], places: inputs.Map, labels: inputs.Labels) -> Picture:
    """Of each kind [S, 3].

    Raises:
        ValueError: one that is in the map has none.
    """
    colors, given = colors_of(kinds, labels.colors)
    if not given.all():
        present = np.intersect1d(kinds[~given], kinds[np.unique(places[places >= 0])])
        if present.size:
            hint = "a label set has those of its classes 0, 1, …, not of the ids of a data set"
            raise ValueError(f"colors: expected one for each category, none for {present[0]}; {hint}")
    return colors
