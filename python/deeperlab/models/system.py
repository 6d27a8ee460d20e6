# SPDX-License-Identifier: Apache-2.0
"""A network of one of the other systems, which is saved by the system's name and options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deeperlab.graph import Graph

from .network import Network
from .settings import checked
from .systems import SYSTEMS


class System(Network):
    """A network of `SYSTEMS`.

    Args:
        system: its name.
        num_classes: C, the channels of the semantic head.
        in_channels: of the images.
        graph: none: a semantic head alone; else heads for that graph too, as of `DeeperLab`.
        options: arguments of what makes its parts, such as `stride` of `fcn`.
        bn_momentum, image_size, radius, fusion, stuff_area: as of `DeeperLab`.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
    """

    def __init__(
        self,
        system: str,
        num_classes: int,
        *,
        in_channels: int = 3,
        graph: Graph | str | Mapping[str, Any] = "none",
        options: Mapping[str, Any] = MappingProxyType({}),
        bn_momentum: float = 0.01,
        image_size: int = 1441,
        radius: float = 25.0,
        fusion: Mapping[str, Any] = MappingProxyType({}),
        stuff_area: float = 0.0,
    ) -> None:
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if system not in SYSTEMS:
            raise ValueError(f"system: expected one of {', '.join(SYSTEMS)}, got {system!r}")
        if not isinstance(options, Mapping):
            raise TypeError(f"options: expected arguments by their names, got {options!r}")
        make, own = SYSTEMS[system]
        known = options_of(system)
        for option in options.keys() - known:
            raise ValueError(f"options: expected some of {', '.join(known) or 'none'}, got {option!r}")
        config = checked(config) | {"options": dict(options)}
        parts = make(in_channels, **own | dict(options))
        if parts.scales and config["graph"] != "none":
            raise ValueError("scales: expected none beside a graph, whose offsets have no greatest")
        super().__init__(config, parts)


def options_of(system: str) -> list[str]:
    """Return the names of the options of a system."""
    make, own = SYSTEMS[system]
    return [name for name in list(inspect.signature(make).parameters)[1:] if name not in own or name == "units"]
