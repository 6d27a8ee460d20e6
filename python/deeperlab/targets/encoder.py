# SPDX-License-Identifier: Apache-2.0
"""Instance maps to target maps (section 3.3), for arrays and tensors."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._threads import thread_count
from ..graph import STAR, Graph
from .inputs import (
    Points,
    as_operator_takes,
    check_positive,
    ignored_pixels,
    integer_map,
    integers,
    is_tensor,
    whole_objects,
)
from .placement import has_own_places, locate
from .target_maps import Float, Integer, Targets

FIRST_ROOM = 256
"""Instances of an image for which there is room at first."""

TOO_MANY, NEGATIVE_ID, BAD_POINTS = -3, -2, -1
"""What the operator says instead of a count, `Fault` of csrc/include/deeperlab/encode.h."""


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
    max_instances: int | None = None,
    num_threads: int | None = None,
) -> Targets:
    """Encode instance maps as target maps (section 3.3): disks, short-, middle- and long-range offsets.

    A disk holds the pixels at a distance <= radius from its keypoint. A pixel in several disks of one kind
    belongs to the nearest keypoint, ties to the lower instance id. Crowd and void are no instances: they have no
    offsets, and are background of the heatmap unless `ignore` says otherwise.

    An object that a crop has cut has the keypoints of its visible pixels, unless `points` has those of the whole
    object, which may lie outside the map. An object without a visible pixel has no targets either way.

    The bits are the same for arrays and tensors, for any number of threads and for any position in a batch; the CUDA
    kernels give them on emulated threads. No thread holds the GIL meanwhile.

    Args:
        instance: integer [H, W], or a batch [N, H, W], 0 = none (stuff, crowd, void); ids need not be consecutive.
            An array (NumPy), what becomes one, or a tensor (torch). uint8, int16, int32 and int64 are read in place,
            fastest int32; other types are copied.
        ignore: bool, of the shape of `instance`: pixels at which the heatmap is not trained; None: none.
        points: keypoints of whole objects: ids, integers [(N,) K], and positions, integers [(N,) K, P, 2] px, (x, y),
            within ±2^24. Rows of id 0 are padding, ids that the map lacks are passed over, and of two rows of one id
            the first counts. Instances without a row keep the keypoints of their visible pixels.
        radius: R in pixels, >= 0.
        stride: every `stride`-th pixel of both axes of the full-resolution targets is kept.
        graph: its keypoint names are among `KEYPOINTS`.
        max_instances: rows of `Targets.ids` and `keypoints`. None: as many as the fullest map has instances, for which
            a call on CUDA tensors waits for the device. A number lets torch.compile know all shapes, and nothing waits;
            then nobody tells what is wrong with the values of a CUDA tensor (more instances than that, negative ids,
            points too far away): such an image has no targets, and no mask of it is true.
        num_threads: for NumPy arrays only (default: all processors that the process may use; one where other
            processes encode too); tensors follow `torch.set_num_threads`.

    Returns:
        `Targets` of arrays, or of tensors on the device of `instance`; of a batch with its leading dimension.

    Raises:
        ValueError, TypeError: as `keypoints`, an `ignore` or `points` that does not fit, more instances than
            `max_instances`, or a radius or stride out of bounds.
        MemoryError, RuntimeError: there is not enough memory, for arrays and for tensors.
    """
    options = {
        "disk_radius": _check_radius(radius),
        "stride": check_positive("stride", stride),
        "edges": [end for edge in graph.edges for end in edge],
    }
    maps = integers("instance", instance)
    if maps.ndim not in (2, 3) or 0 in maps.shape[-2:]:
        raise ValueError(
            f"instance: expected a map [H, W] or maps [N, H, W] of at least one pixel, got shape {tuple(maps.shape)}"
        )
    ignored = None if ignore is None else ignored_pixels(ignore, maps)
    rows = None if points is None else whole_objects(points, maps, len(graph.keypoints))
    batched = maps.ndim == 3
    if not batched:
        maps = maps[None]
        ignored = None if ignored is None else ignored[None]
        rows = None if rows is None else (rows[0][None], rows[1][None])
    if has_own_places(graph):
        rows = _with_located(maps, rows, graph)
        options["keypoints"] = ",".join("given" for _ in graph.keypoints)
    else:
        options["keypoints"] = ",".join(graph.keypoints)
    arrays = as_operator_takes(maps, ignored, rows, len(graph.keypoints))
    result = _encode(arrays, max_instances, num_threads, options)
    if not batched:
        result = tuple(value[0] for value in result)
    return Targets(*result, stride, graph)  # type: ignore[call-arg]


def _encode(
    arrays: tuple[Any, ...], max_instances: int | None, num_threads: int | None, options: dict[str, Any]
) -> tuple[Any, ...]:
    """The fields of `Targets`."""
    tensors = is_tensor(arrays[0])
    if not tensors:
        from ..stages.numpy_ops import encode as operator

        options["num_threads"] = thread_count(num_threads)
        run: Any = operator
    else:
        if num_threads is not None:
            raise ValueError(f"num_threads: expected None for tensors, got {num_threads}; use torch.set_num_threads")
        from .._torch_library import call, require_kernels
        from ..stages.torch_ops import encode as operator

        require_kernels("instance", arrays[0])
        run = partial(call, operator)
    if max_instances is not None:
        check_positive("max_instances", max_instances)
        *fields, count = run(*arrays, max_instances=max_instances, **options)
        if not tensors or _can_be_read(count):
            _refuse(count, arrays, max_instances)
        return tuple(fields)
    room = FIRST_ROOM
    while True:
        *fields, count = run(*arrays, max_instances=room, **options)
        least, most = (int(count.min()), int(count.max())) if len(count) else (0, 0)
        if least != TOO_MANY:
            break
        room *= 16  # few images have so many
    if least < 0:
        _refuse(count, arrays, room)
    return (*fields[:-2], *(field[:, :most] for field in fields[-2:]))


def _can_be_read(count: Any) -> bool:
    """Whether a tensor has values that can be looked at without waiting for a device, and outside of a traced graph."""
    import torch

    return type(count) is torch.Tensor and count.is_cpu and not torch.compiler.is_compiling()


def _refuse(count: Any, arrays: tuple[Any, ...], max_instances: int) -> None:
    """Raise a ValueError for the first image with a fault."""
    for n, fault in enumerate(count.tolist()):
        instance, ids, positions = (arrays[i][n] for i in (0, 2, 3))
        if fault == TOO_MANY:
            raise ValueError(f"max_instances: expected at least the instances of image {n}, got {max_instances}")
        if fault == NEGATIVE_ID:
            raise ValueError(f"instance: expected ids >= 0, got {int(instance.min())}")
        if fault == BAD_POINTS and ids.min() < 0:
            raise ValueError(f"points[0]: expected ids >= 0, got {int(ids.min())}")
        if fault == BAD_POINTS:
            raise ValueError(
                f"points[1]: expected positions within ±2^24 px, got {int(positions.min())} to {int(positions.max())}"
            )


def _with_located(maps: Any, rows: Any, graph: Graph) -> tuple[Any, Any]:
    """Add the keypoints of all visible instances, placed by the functions of `KEYPOINTS`, after the given rows."""
    arrays = maps.cpu().numpy() if is_tensor(maps) else maps
    located = [locate(np.ascontiguousarray(image), graph)[:2] for image in arrays]
    most = max((ids.size for ids, _ in located), default=0)
    ids = np.zeros((len(arrays), most), np.int64)
    positions = np.zeros((len(arrays), most, len(graph.keypoints), 2), np.int64)
    for n, (found, places) in enumerate(located):
        ids[n, : found.size], positions[n, : found.size] = found, places
    join: Any = np.concatenate
    added: Any = ids, positions
    if is_tensor(maps):
        import torch

        join, added = torch.cat, [torch.from_numpy(part).to(maps.device) for part in added]
    if rows is not None:
        added = [join(pair, 1) for pair in zip(rows, added, strict=True)]
    return added[0], added[1]


def _check_radius(radius: float) -> float:
    if isinstance(radius, bool) or not isinstance(radius, (int, float)):
        raise TypeError(f"radius: expected a number, got {radius!r}")
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius: expected a finite number >= 0, got {radius}")
    return float(radius)
