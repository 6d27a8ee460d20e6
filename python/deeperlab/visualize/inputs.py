# SPDX-License-Identifier: Apache-2.0
"""What the views take: images, maps and labels in their many forms, checked and brought into one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layout import as_array
from .._runs import find_runs, pixel_boxes
from .colors import Colors, Picture

Map = NDArray[np.int32]
Names = Mapping[int, str] | Sequence[str]
LONGEST = 40
_DENSE = 1024  # categories; with larger numbers the tables hold the present ones only


def maps(panoptic: Any) -> tuple[Map, Map]:
    """Return contiguous (category, instance) [H, W] of a `Panoptic` or of a pair."""
    if isinstance(panoptic, (tuple, list)):
        pair: Any = panoptic
    elif hasattr(panoptic, "semantic") and hasattr(panoptic, "instance"):
        pair = panoptic.semantic, panoptic.instance
    else:
        raise TypeError(f"panoptic: expected a Panoptic or (category, instance), got {type(panoptic).__name__}")
    if len(pair) != 2:
        raise ValueError(f"panoptic: expected a Panoptic or (category, instance), got {len(pair)} values")
    category, instance = (as_array(m) for m in pair)
    if category.ndim == 3 and category.shape == instance.shape:
        raise ValueError(f"panoptic: expected one image, got a batch of {len(category)}; give one, as panoptic[0]")
    if category.ndim != 2 or category.shape != instance.shape:
        raise ValueError(f"panoptic: expected two maps [H, W], got {category.shape} and {instance.shape}")
    return _int32(category), _int32(instance)


def _int32(values: NDArray[Any]) -> Map:
    if values.dtype.kind not in "iu":
        raise TypeError(f"panoptic: expected integer maps, got {values.dtype}")
    if values.size and not np.can_cast(values.dtype, np.int32):
        low, high = values.min(), values.max()
        if low < -(2**31) or high >= 2**31:
            raise ValueError(f"panoptic: expected ids of 32 bits, got {low} to {high}")
    return np.require(values, np.int32, ("C", "A"))


def dense(category: Map) -> tuple[NDArray[np.int32], Map]:
    """Return the categories that the tables hold, ascending, and the map of their places; negative ones become -1."""
    most = int(category.max(initial=-1))
    if most < _DENSE:
        return np.arange(most + 1, dtype=np.int32), category
    kinds = np.unique(category[category >= 0])
    return kinds, np.where(category >= 0, np.searchsorted(kinds, category), -1).astype(np.int32)


def picture(image: Any, shape: tuple[int, ...]) -> Picture:
    """Return contiguous RGB [H, W, 3] of 8 bits; None is gray."""
    if image is None:
        return np.full((*shape, 3), 128, np.uint8)
    base = as_array(image)
    if base.dtype != np.uint8:
        raise TypeError(f"image: expected uint8, got {base.dtype}")
    if base.shape != (*shape, 3):
        raise ValueError(f"image: expected shape {(*shape, 3)}, got {base.shape}")
    return np.ascontiguousarray(base)


def boxes(number: Map, count: int) -> NDArray[np.float64]:
    """Return the first and the last pixel of the segments 1 … count of a map, [count, 2, 2] as (x, y)."""
    runs = find_runs(number)
    numbers = number.reshape(-1)[runs.start]
    found = pixel_boxes(runs, np.where((numbers < 0) | (numbers > count), 0, numbers), count + 1)[1:]
    return (found - (0, 0, 1, 1)).reshape(count, 2, 2).astype(np.float64)


def weight(opacity: float) -> int:
    """Convert an opacity to 256ths."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected 0 to 1, got {opacity}")
    return round(256 * opacity)


def pillow(module: str) -> Any:
    """Import a module of Pillow."""
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as fault:
        raise ImportError("this picture needs Pillow: pip install 'deeperlab[cli]'") from fault


class Labels:
    """Names and colors of categories, from names or from an object that has both, such as a label set."""

    def __init__(self, labels: Any, colors: Colors | None = None) -> None:
        plain = labels is None or (isinstance(labels, (Mapping, Sequence)) and not isinstance(labels, str))
        if not plain and not hasattr(labels, "names"):
            raise TypeError(f"labels: expected names, or an object that has names, got {type(labels).__name__}")
        self.names: Names | None = labels if plain else labels.names
        self.colors: Colors | None = getattr(labels, "colors", None) if colors is None and not plain else colors

    def name(self, category: int) -> str:
        """Return the name of a category, else its number: one line of at most LONGEST letters."""
        names, name = self.names, str(category)
        if isinstance(names, Mapping):
            name = str(names.get(category, category))
        elif names is not None and 0 <= category < len(names):
            name = str(names[category])
        line = " ".join("".join(c if c.isprintable() else " " for c in name[: 2 * LONGEST]).split())
        return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
