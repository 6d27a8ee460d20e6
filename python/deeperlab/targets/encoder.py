# SPDX-License-Identifier: Apache-2.0
"""Instance maps to target maps (section 3.3), for arrays and tensors."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..graph import STAR, Graph
from . import reference
from .placement import locate
from .target_maps import MAPS, Float, Integer, Points, Targets, check_positive, integer_map

FARTHEST_POINT = 2**24
"""px. Positions are integers that a float32 holds, along each axis on both sides of the first pixel."""


def keypoints(instance: ArrayLike, graph: Graph = STAR) -> tuple[Integer, Float]:
    """Find the keypoints of every instance of a map, where `KEYPOINTS` says that they lie.

    Args:
        instance: integer [H, W], 0 = none; ids need not be consecutive.
        graph: its keypoint names are among `KEYPOINTS`.

    Returns:
        ids int64 [N] in ascending order, keypoints float32 [N, P, 2] as (x, y) in pixels.

    Raises:
        ValueError: not a map, an empty map, a negative id, or a keypoint name that `KEYPOINTS` lacks.
        TypeError: not integer.
    """
    ids, points, _ = locate(integer_map("instance", instance), graph)
    return ids, points.astype(np.float32)


def encode(
    instance: Any,
    *,
    ignore: Any = None,
    points: Points | None = None,
    radius: float = 25,
    stride: int = 1,
    graph: Graph = STAR,
) -> Targets:
    """Encode instance maps as target maps (section 3.3): disks, short-, middle- and long-range offsets.

    A disk holds the pixels at a distance <= radius from its keypoint. A pixel in several disks of one kind
    belongs to the nearest keypoint, ties to the lower instance id. Crowd and void are no instances: they have no
    offsets, and are background of the heatmap unless `ignore` says otherwise.

    An object that a crop has cut has the keypoints of its visible pixels, unless `points` has those of the whole
    object, which may lie outside the map. An object without a visible pixel has no targets either way.

    Args:
        instance: integer [H, W], or a batch [N, H, W], 0 = none (stuff, crowd, void); ids need not be consecutive.
            An array (NumPy), what becomes one, or a tensor (torch).
        ignore: bool, of the shape of `instance`: pixels at which the heatmap is not trained; None: none.
        points: keypoints of whole objects: ids, integers [(N,) K], and positions, integers [(N,) K, P, 2] px, (x, y),
            within ±2^24. Rows of id 0 are padding, ids that the map lacks are passed over, and of two rows of one id
            the first counts. Instances without a row keep the keypoints of their visible pixels.
        radius: R in pixels, >= 0.
        stride: every `stride`-th pixel of both axes of the full-resolution targets is kept.
        graph: its keypoint names are among `KEYPOINTS`.

    Returns:
        `Targets` of arrays, or of tensors on the device of `instance`; of a batch with its leading dimension.

    Raises:
        ValueError, TypeError: as `keypoints`, an `ignore` or `points` that does not fit, or a radius or stride out of
            bounds.
    """
    _check_radius(radius)
    check_positive("stride", stride)
    maps = _integers("instance", instance)
    if maps.ndim not in (2, 3) or 0 in maps.shape[-2:]:
        raise ValueError(
            f"instance: expected a map [H, W] or maps [N, H, W] of at least one pixel, got shape {tuple(maps.shape)}"
        )
    ignored = None if ignore is None else _ignored(ignore, maps)
    ids, positions = (None, None) if points is None else _whole_objects(points, maps, len(graph.keypoints))
    batched = maps.ndim == 3
    if not batched:
        maps, ignored, ids, positions = (
            value if value is None else value[None] for value in (maps, ignored, ids, positions)
        )
    result = _encode(maps, ignored, ids, positions, radius=radius, stride=stride, graph=graph)
    if not batched:
        result = tuple(value[0] for value in result)
    return Targets(*result, stride, graph)  # type: ignore[call-arg]


def _encode(
    maps: Any, ignored: Any, ids: Any, positions: Any, *, radius: float, stride: int, graph: Graph
) -> tuple[Any, ...]:
    """The fields of `Targets`, image by image."""
    tensors = _is_tensor(maps)
    arrays = [
        value if value is None or not tensors else value.cpu().numpy() for value in (maps, ignored, ids, positions)
    ]
    made = [
        reference.encode(
            arrays[0][n],
            None if ignored is None else arrays[1][n],
            None if ids is None else (arrays[2][n], arrays[3][n]),
            radius=radius,
            stride=stride,
            graph=graph,
        )
        for n in range(len(maps))
    ]
    fields = [np.stack([getattr(targets, name) for targets in made]) for name in MAPS]
    fullest = max(targets.ids.size for targets in made)
    fields.append(np.stack([np.pad(t.ids, (0, fullest - t.ids.size)) for t in made]))
    fields.append(np.stack([np.pad(t.keypoints, ((0, fullest - t.ids.size), (0, 0), (0, 0))) for t in made]))
    if not tensors:
        return tuple(fields)
    import torch

    return tuple(torch.from_numpy(field).to(maps.device) for field in fields)


def _is_tensor(values: Any) -> bool:
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(values, tensor)


def _integers(name: str, values: Any) -> Any:
    """Return an array or a tensor of one of the types that the engine reads."""
    dtype = str(values.dtype).removeprefix("torch.") if _is_tensor(values) else None
    array: Any = values if dtype else np.asarray(values)
    dtype = dtype or str(array.dtype)
    if not dtype.lstrip("<>=").startswith(("int", "uint", "i", "u")):
        raise TypeError(f"{name}: expected an integer array, got dtype {dtype}")
    if _is_tensor(array):
        return array if dtype in ("uint8", "int16", "int32", "int64") else array.long()
    if dtype == "uint64" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected values below 2^63, got {array.max()}")
    return np.require(array, dtype if dtype in ("uint8", "int16", "int32", "int64") else np.int64, "A")


def _alike(name: str, values: Any, maps: Any) -> Any:
    """Return an array where the maps are arrays, a tensor of their device where they are tensors."""
    if not _is_tensor(maps):
        return np.asarray(values)
    if not _is_tensor(values):
        raise TypeError(f"{name}: expected a tensor, as instance is, got {type(values).__name__}")
    if values.device != maps.device:
        raise ValueError(f"{name}: expected device {maps.device}, as instance has, got {values.device}")
    return values


def _ignored(ignore: Any, maps: Any) -> Any:
    ignored = _alike("ignore", ignore, maps)
    dtype = str(ignored.dtype).removeprefix("torch.")
    if dtype != "bool":
        raise TypeError(f"ignore: expected dtype bool, got {dtype}")
    if ignored.shape != maps.shape:
        raise ValueError(f"ignore: expected the shape of instance, {tuple(maps.shape)}, got {tuple(ignored.shape)}")
    return ignored


def _whole_objects(points: Points, maps: Any, keypoint_count: int) -> tuple[Any, Any]:
    try:
        ids, positions = points
    except (TypeError, ValueError):
        raise TypeError(f"points: expected a pair of ids and positions, got {type(points).__name__}") from None
    ids = _integers("points[0]", _alike("points[0]", ids, maps))
    positions = _integers("points[1]", _alike("points[1]", positions, maps))
    images = tuple(maps.shape[:-2])
    if ids.ndim != len(images) + 1 or tuple(ids.shape[:-1]) != images:
        raise ValueError(f"points[0]: expected ids {[*images, 'K']}, got shape {tuple(ids.shape)}")
    expected = (*ids.shape, keypoint_count, 2)
    if tuple(positions.shape) != expected:
        raise ValueError(f"points[1]: expected shape {expected}, got {tuple(positions.shape)}")
    if ids.min(initial=0) < 0 if not _is_tensor(ids) else ids.numel() and ids.min() < 0:
        raise ValueError(f"points[0]: expected ids >= 0, got {int(ids.min())}")
    far = abs(positions[positions != 0])
    if far.shape[0] and far.max() > FARTHEST_POINT:
        raise ValueError(f"points[1]: expected positions within ±2^24 px, got {int(far.max())}")
    return ids, positions


def _check_radius(radius: float) -> None:
    if isinstance(radius, bool) or not isinstance(radius, (int, float)):
        raise TypeError(f"radius: expected a number, got {radius!r}")
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius: expected a finite number >= 0, got {radius}")
