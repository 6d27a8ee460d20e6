# SPDX-License-Identifier: Apache-2.0
"""The arguments that all networks take, and checks of arguments: what cannot be is refused before anything is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeperlab.graph import Graph
from deeperlab.params import FuseParams

MAX_IMAGE_SIZE = 4096
"""px, of what a network asks `Parser` to resize to: a small file could ask for any memory."""


def require_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise a ValueError unless a value is one of those allowed, and no float that equals one."""
    if value not in allowed or isinstance(value, (float, bool)):
        raise ValueError(f"{name}: expected {' or '.join(map(str, allowed))}, got {value!r}")


def require_switch(name: str, value: Any) -> None:
    """Raise a TypeError unless a value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def require_count(name: str, value: Any, *, least: int = 1, most: int | None = None, odd: bool = False) -> None:
    """Raise a TypeError or ValueError unless a value is an int from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    if most is not None and value > most:
        raise ValueError(f"{name}: expected at most {most}, got {value}")
    if odd and value % 2 == 0:
        raise ValueError(f"{name}: expected an odd number, got {value}")


def require_between(name: str, value: Any, *, none: bool = False) -> None:
    """Raise a TypeError or ValueError unless a value is a float between 0 and 1, or None where that may be."""
    if none and value is None:
        return
    if not isinstance(value, float):
        raise TypeError(f"{name}: expected {'None or ' if none else ''}a float, got {value!r}")
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value}")


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of a network that all networks have, and return all in the form in which they are saved.

    They are `num_classes`, `in_channels`, `graph`, `bn_momentum`, `image_size`, `radius`, `fusion` and `stuff_area`.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
    """
    config = dict(config)
    if isinstance(config["num_classes"], np.integer):  # as the largest of an annotation is
        config["num_classes"] = int(config["num_classes"])
    require_count("num_classes", config["num_classes"])
    require_count("in_channels", config["in_channels"])
    require_count("image_size", config["image_size"], most=MAX_IMAGE_SIZE)
    require_between("bn_momentum", config["bn_momentum"])
    radius, stuff_area = config["radius"], config["stuff_area"]
    if not isinstance(radius, float):
        raise TypeError(f"radius: expected a float, got {radius!r}")
    if not 0 < radius < math.inf:
        raise ValueError(f"radius: expected a finite number above 0, got {radius}")
    _check_fusion(config["fusion"])
    if not isinstance(stuff_area, float):
        raise TypeError(f"stuff_area: expected a float, got {stuff_area!r}")
    if not 0 <= stuff_area < 1:
        raise ValueError(f"stuff_area: expected a share from 0 to below 1, got {stuff_area}")
    return config | {"graph": Graph.from_config(config["graph"]).to_config(), "fusion": dict(config["fusion"])}


def _check_fusion(fusion: Any) -> None:
    if not isinstance(fusion, Mapping):
        raise TypeError(f"fusion: expected parameters by their names, got {fusion!r}")
    known = [field.name for field in dataclasses.fields(FuseParams) if field.name != "radius"]
    for name in fusion:
        if name not in known:
            raise ValueError(f"fusion: expected some of {', '.join(known)}, got {name!r}")
    try:
        FuseParams(**fusion)
    except (ValueError, TypeError) as fault:
        raise type(fault)(f"fusion: {fault}") from fault
