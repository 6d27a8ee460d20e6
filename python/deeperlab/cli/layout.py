# SPDX-License-Identifier: Apache-2.0
"""The options that tell by which conventions heads were made, for the commands that read them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer


class Components(str, Enum):
    """Orders of the channels of offsets."""

    xy = "xy"
    yx = "yx"
    planar_xy = "planar_xy"
    planar_yx = "planar_yx"


class Units(str, Enum):
    """Of offsets."""

    px = "px"
    nodes = "nodes"


class Grid(str, Enum):
    """Where nodes lie."""

    aligned = "aligned"
    half_pixel = "half_pixel"


class Heatmaps(str, Enum):
    """What heatmaps hold."""

    logits = "logits"
    probabilities = "probabilities"


_PANEL = "How the heads were made (deeperlab check tells)"


def _option(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_PANEL)


ComponentsOption = Annotated[
    Components,
    _option("Channels of offsets: xy is x0, y0, x1, y1, …; yx is y0, x0, …; planar_yx is y0, y1, …, x0, x1, …."),
]
UnitsOption = Annotated[Units, _option("Of offsets: px of the image, or nodes, stride px each.")]
GridOption = Annotated[
    Grid,
    _option("Node i lies at pixel stride·i (aligned), or stride/2 - 1/2 px further (half_pixel: align_corners=False)."),
]
HeatmapsOption = Annotated[Heatmaps, _option("Logits, or probabilities in [0, 1].")]
KeypointsOption = Annotated[
    str | None, _option("Names of the keypoints in the order of the channels: center,top_left,….")
]
EdgesOption = Annotated[str | None, _option("Edges in the order of the channels of middle_range: 4-0,4-1,….")]


def layout(
    components: Components, units: Units, grid: Grid, heatmaps: Heatmaps, keypoints: str | None, edges: str | None
) -> dict[str, Any]:
    """Make the options of `Heads.from_layout`."""
    made: dict[str, Any] = {"components": components.value, "units": units.value, "grid": grid.value}
    made["heatmaps"] = heatmaps.value
    if keypoints is not None:
        made["keypoints"] = [name.strip() for name in keypoints.split(",")]
    if edges is not None:
        try:
            made["edges"] = [tuple(int(end) for end in pair.split("-", 1)) for pair in edges.split(",")]
        except ValueError:
            raise typer.BadParameter(f"--edges: expected pairs as in 4-0,4-1, got {edges!r}") from None
    return made


def as_options(options: Mapping[str, Any]) -> str:
    """Write options of `Heads.from_layout` as those of a command."""
    words = []
    for name, value in options.items():
        text = ",".join(v if isinstance(v, str) else "-".join(map(str, v)) for v in value) if name in (
            "keypoints", "edges"
        ) else value  # fmt: skip
        words.append(f"--{name} {text}")
    return " ".join(words)


def as_arguments(options: Mapping[str, Any]) -> str:
    """Write them as arguments in Python."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
