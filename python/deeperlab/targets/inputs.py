# SPDX-License-Identifier: Apache-2.0
"""What is asked of the arguments of `encode` and `encode_heads`, and the form in which the operator takes them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = tuple[Any, Any]
"""Instance ids, integers [(N,) K], and the positions of their keypoints, integers [(N,) K, P, 2] px, (x, y)."""

FARTHEST_POINT = 2**24
"""px. Positions are integers that a float32 holds, along each axis on both sides of the first pixel."""

_READ_IN_PLACE = ("uint8", "int16", "int32", "int64")


def is_tensor(values: Any) -> bool:
    """Tell a torch.Tensor from what is or becomes an array; torch is not imported to find out."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(values, tensor)


def integers(name: str, values: Any) -> Any:
    """Return an array or a tensor of one of the types that the engine reads."""
    dtype = str(values.dtype).removeprefix("torch.") if is_tensor(values) else None
    array: Any = values if dtype else np.asarray(values)
    dtype = dtype or str(array.dtype)
    if not dtype.lstrip("<>=").startswith(("int", "uint", "i", "u")):
        raise TypeError(f"{name}: expected an integer array, got dtype {dtype}")
    if is_tensor(array):
        return array if dtype in _READ_IN_PLACE else array.long()
    if dtype == "uint64" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected values below 2^63, got {array.max()}")
    return np.require(array, dtype if dtype in _READ_IN_PLACE else np.int64, "A")


def _alike(name: str, values: Any, maps: Any) -> Any:
    """Return an array where the maps are arrays, a tensor of their device where they are tensors."""
    if not is_tensor(maps):
        return np.asarray(values)
    if not is_tensor(values):
        raise TypeError(f"{name}: expected a tensor, as instance is, got {type(values).__name__}")
    if values.device != maps.device:
        raise ValueError(f"{name}: expected device {maps.device}, as instance has, got {values.device}")
    return values


def ignored_pixels(ignore: Any, maps: Any) -> Any:
    """Return `ignore` of `encode`, bool as the maps are shaped."""
    ignored = _alike("ignore", ignore, maps)
    dtype = str(ignored.dtype).removeprefix("torch.")
    if dtype != "bool":
        raise TypeError(f"ignore: expected dtype bool, got {dtype}")
    if ignored.shape != maps.shape:
        raise ValueError(f"ignore: expected the shape of instance, {tuple(maps.shape)}, got {tuple(ignored.shape)}")
    return ignored


def whole_objects(points: Points, maps: Any, keypoint_count: int) -> tuple[Any, Any]:
    """Return the ids and positions of `points` of `encode`."""
    try:
        ids, positions = points
    except (TypeError, ValueError):
        raise TypeError(f"points: expected a pair of ids and positions, got {type(points).__name__}") from None
    ids = integers("points[0]", _alike("points[0]", ids, maps))
    positions = integers("points[1]", _alike("points[1]", positions, maps))
    images = tuple(maps.shape[:-2])
    if ids.ndim != len(images) + 1 or tuple(ids.shape[:-1]) != images:
        raise ValueError(f"points[0]: expected ids {[*images, 'K']}, got shape {tuple(ids.shape)}")
    expected = (*ids.shape, keypoint_count, 2)
    if tuple(positions.shape) != expected:
        raise ValueError(f"points[1]: expected shape {expected}, got {tuple(positions.shape)}")
    return ids, positions


def as_operator_takes(maps: Any, ignored: Any, rows: Points | None, keypoint_count: int) -> tuple[Any, Any, Any, Any]:
    """Return what is checked as the four arrays of the operator `encode`; absent ones are empty."""
    beyond = FARTHEST_POINT + 1  # what is farther is refused all the same
    if is_tensor(maps):
        import torch

        if rows is None:
            ids = maps.new_empty((len(maps), 0), dtype=torch.int64)
            positions = maps.new_empty((len(maps), 0, keypoint_count, 2), dtype=torch.int32)
        else:
            ids = rows[0].to(torch.int64).contiguous()
            positions = rows[1].long().clamp(-beyond, beyond).to(torch.int32).contiguous()
        none = maps.new_empty((0, 0, 0), dtype=torch.uint8) if ignored is None else ignored.view(torch.uint8)
        return maps, none, ids, positions
    if rows is None:
        ids, positions = np.empty((len(maps), 0), np.int64), np.empty((len(maps), 0, keypoint_count, 2), np.int32)
    else:
        ids = np.ascontiguousarray(rows[0], np.int64)
        positions = np.ascontiguousarray(np.clip(rows[1], -beyond, beyond), np.int32)
    return maps, np.empty((0, 0, 0), np.uint8) if ignored is None else ignored.view(np.uint8), ids, positions


def integer_map(name: str, values: ArrayLike) -> NDArray[np.integer[Any]]:
    """Return a contiguous integer map [H, W] of at least one pixel.

    Raises:
        TypeError, ValueError: other values.
    """
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer array, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected a map [H, W] of at least one pixel, got shape {array.shape}")
    if array.dtype == np.uint64:
        if array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: expected values below 2^63, got {array.max()}")
        array = array.view(np.int64)
    return array


def check_positive(name: str, value: int) -> int:
    """Return an int of at least 1; TypeError or ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value
