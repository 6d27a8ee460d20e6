# SPDX-License-Identifier: Apache-2.0
"""The public function of the engine: from raw heads to a panoptic map."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from ._threads import thread_count
from .conventions import HeadsWarning, contradiction
from .heads import NAMES, Heads
from .panoptic import Panoptic
from .params import FuseParams

_fusions = count()
"""Numbers the fusions of the process."""


def fuse(
    heads: Heads | Mapping[str, Any] | Sequence[Any],
    things: Iterable[int] | Any,
    *,
    size: tuple[int, int] | None = None,
    params: FuseParams | None = None,
    num_threads: int | None = None,
) -> Panoptic:
    """Turn raw heads into a panoptic map (the whole of section 3.4 of the paper).

    On the CPU the result has the same bits for tensors and arrays, for any number of threads and for any position in a
    batch; the CUDA kernels give them on emulated threads. It is not differentiable.

    Args:
        heads: `Heads`; or a mapping with their names as keys (which may hold `stride`, `graph` and `num_classes`
            too); or the five tensors in the order of `Heads`. A batch dimension is optional.
        things: the classes that have instances: ids in [0, C), or a boolean mask [C].
        size: (H, W) of the image in pixels, at most (stride·h, stride·w). By default that of the labels, or
            ((h − 1)·stride + 1, (w − 1)·stride + 1).
        params: the parameters; by default `FuseParams()`.
        num_threads: for NumPy arrays only (default: all processors that the process may use); tensors follow
            `torch.set_num_threads`.

    Returns:
        A `Panoptic` of tensors, or of arrays, as the heads are; without batch dimension where the heads have none.
        CUDA tensors are fused on their device and its current stream, and nothing waits for it, if the package was
        built with nvcc; tensors on other devices are refused.

    Warns:
        HeadsWarning: a glance at the first image shows that its heads cannot be meant so: offsets in nodes, y before x
            and the like, heatmaps of probabilities, labels that are ids. The first eight fusions of a process are
            looked at, then every sixteenth; `deeperlab check` looks closer. Tensors on a GPU, and inside torch.compile
            and torch.func, are not looked at.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
        MemoryError, RuntimeError: there is not enough memory, for arrays and for tensors.
    """
    heads = as_heads(heads)
    params = FuseParams() if params is None else params
    if not isinstance(params, FuseParams):
        raise TypeError(f"params: expected deeperlab.FuseParams, got {type(params).__name__}")
    thing_ids = class_ids(things, heads.classes)
    height, width = image_size(heads, size)
    tensors = tuple(getattr(heads, name) for name in NAMES)
    if not heads.batched:
        tensors = tuple(head[None] for head in tensors)
    options: dict[str, Any] = {
        "things": list(thing_ids),
        "num_classes": heads.classes,
        "edges": [end for edge in heads.graph.edges for end in edge],
        "stride": heads.stride,
        "size": (height, width),
        **params.options(len(heads.graph.keypoints)),
    }
    result: tuple[Any, ...]
    if isinstance(heads.heatmap, np.ndarray):
        from ._numpy import fuse as fuse_arrays

        result = fuse_arrays(*tensors, **options, num_threads=thread_count(num_threads))
    else:
        if num_threads is not None:
            raise ValueError(f"num_threads: expected None for tensors, got {num_threads}; use torch.set_num_threads")
        from ._torch_library import call, require_kernels
        from .stages.torch_ops import fuse as fuse_tensors

        require_kernels("heatmap", heads.heatmap)
        result = call(fuse_tensors, *(head.detach() for head in tensors), **options)
    # Now that the memory of the heads is known to be there.
    if _can_be_read(heads.heatmap) and _is_looked_at() and (fault := contradiction(heads, thing_ids, found=result[0])):
        warnings.warn(fault, HeadsWarning, stacklevel=2)
    if not heads.batched:
        result = tuple(field[0, ...] for field in result)  # [0, ...] keeps count an array in NumPy
    return Panoptic(*result, things=thing_ids)  # type: ignore[misc]


def _is_looked_at() -> bool:
    """Whether this fusion of the process is one of those whose heads are looked at, which takes .2 ms.

    Who makes heads by another convention does so from the first on, and Python tells a warning once.
    """
    number = next(_fusions)
    return number < 8 or number % 16 == 0


def _can_be_read(head: Any) -> bool:
    """Whether a head has values that can be looked at without waiting for a device, and outside of a traced graph."""
    if isinstance(head, np.ndarray):
        return True
    import torch

    if type(head) not in (torch.Tensor, torch.nn.Parameter) or not head.is_cpu or torch.compiler.is_compiling():
        return False
    try:
        head.untyped_storage()
    except NotImplementedError:  # of torch.vmap and torch.func, whose tensors stand for others
        return False
    return True


def as_heads(heads: Heads | Mapping[str, Any] | Sequence[Any]) -> Heads:
    """`Heads` from any of the forms that `fuse` takes."""
    if isinstance(heads, Heads):
        return heads
    if isinstance(heads, Mapping):
        missing = [name for name in NAMES if name not in heads]
        unknown = [name for name in heads if name not in (*NAMES, "stride", "graph", "num_classes")]
        if missing or unknown:
            raise ValueError(f"heads: expected the keys {', '.join(NAMES)}; missing {missing}, unknown {unknown}")
        return Heads(**heads)
    if isinstance(heads, (tuple, list)):
        if len(heads) != 5:
            raise ValueError(f"heads: expected five tensors, got {len(heads)}")
        return Heads(*heads)
    raise TypeError(f"heads: expected deeperlab.Heads, a mapping or five tensors, got {type(heads).__name__}")


def class_ids(things: Iterable[int] | Any, classes: int) -> tuple[int, ...]:
    """The thing classes, ascending, from ids or from a boolean mask [C]."""
    values = things.tolist() if hasattr(things, "tolist") else things
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise TypeError(f"things: expected class ids or a boolean mask [C], got {type(things).__name__}")
    values = list(values)
    mask = "bool" in str(getattr(things, "dtype", ""))
    if (values or mask) and all(isinstance(value, (bool, np.bool_)) for value in values):
        if len(values) != classes:
            raise ValueError(f"things: expected a mask of {classes} classes, got {len(values)}")
        return tuple(c for c, thing in enumerate(values) if thing)
    ids = []
    for value in values:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError("things: expected class ids or a boolean mask, got a mixture of both")
        try:
            ids.append(operator.index(value))
        except TypeError:
            raise TypeError(f"things: expected integer class ids, got {value!r}") from None
        if not 0 <= ids[-1] < classes:
            raise ValueError(f"things: expected class ids in [0, {classes}), got {ids[-1]}")
    return tuple(sorted(set(ids)))


def image_size(heads: Heads, size: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) in pixels, checked against the heads."""
    name = "size" if size is not None else "semantic" if heads.has_labels else "stride"
    if size is None:
        height, width = heads.default_size
    else:
        height, width = _two_integers(size)
        if heads.has_labels and (height, width) != heads.default_size:
            raise ValueError(f"size: expected {heads.default_size}, that of the labels, got {(height, width)}")
    h, w = heads.heatmap.shape[-2:]
    if height < 1 or width < 1 or height > heads.stride * h or width > heads.stride * w:
        raise ValueError(
            f"{name}: expected 1 to {heads.stride * h} by 1 to {heads.stride * w} pixels for {h} x {w} nodes at "
            f"stride {heads.stride}, got {height} x {width}"
        )
    return height, width


def _two_integers(size: Any) -> tuple[int, int]:
    size = size.tolist() if isinstance(size, np.ndarray) else size
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size: expected (H, W), got {size!r}")
    if not all(isinstance(side, int) or hasattr(side, "__index__") for side in size):  # no int(): symbols of torch
        raise TypeError(f"size: expected two integers, got {size!r}")
    height, width = (int(side) if isinstance(side, np.integer) else side for side in size)
    return height, width
