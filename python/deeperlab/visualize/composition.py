# SPDX-License-Identifier: Apache-2.0
"""A network as a profile: every convolution a bar, as high as its channels are many, as low as its grid is coarse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

COLORS = {"backbone": "#4477aa", "context": "#ee6677", "decoder": "#228833", "heads": "#aa8800"}
"""Of the parts, told apart by color-blind eyes too."""
WIDTH, HEIGHT, BAR = 640, 190, 26
LEFT, TOP, BOTTOM = 44, 28, 20
"""px."""
COARSEST = 5
"""log2 of the coarsest stride, 32 px."""


def draw_composition(title: str, layers: Sequence[Any]) -> str:
    """Draw a network as SVG: from left to right what is computed, from top to bottom the stride of its grid.

    Args:
        title: above the picture.
        layers: each with `part`, `channels` and `stride`, as of `deeperlab.models.convolutions`.

    Raises:
        ValueError: no layers.
    """
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    step = (WIDTH - LEFT - 10) / len(layers)
    row = (HEIGHT - TOP - BOTTOM - BAR) / COARSEST
    widest = math.log2(max(layer.channels for layer in layers) + 1)
    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for level in range(COARSEST + 1):
        y = TOP + BAR / 2 + level * row
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - 6}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        place = f'x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end" fill="#555555"'
        marks.append(f"<text {place}>1/{1 << level}</text>")
    for i, layer in enumerate(layers):
        depth = min(max(math.log2(max(layer.stride, 1)), 0), COARSEST)
        height = max(2.0, BAR * math.log2(layer.channels + 1) / widest)
        x, y = LEFT + 4 + i * step, TOP + BAR / 2 + depth * row - height / 2
        marks.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.2, 0.8 * step):.1f}" height="{height:.1f}" '
            f'fill="{COLORS[layer.part]}"/>'
        )
    marks.append(f'<text x="{LEFT}" y="16" font-size="13" font-weight="bold" fill="#222222">{escape(title)}</text>')
    x = WIDTH - 8
    for part in reversed([part for part in COLORS if any(layer.part == part for layer in layers)]):
        marks.append(f'<text x="{x}" y="16" font-size="12" text-anchor="end" fill="{COLORS[part]}">{part}</text>')
        x -= 8 * len(part) + 10
    marks.append("</svg>")
    return "\n".join(marks) + "\n"
