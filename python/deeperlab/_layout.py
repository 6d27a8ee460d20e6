# SPDX-License-Identifier: Apache-2.0
"""What is asked of a tensor or an array before anything is known of it, and heads by another convention."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array")

COMPONENTS = ("xy", "yx", "planar_xy", "planar_yx")
UNITS = ("px", "nodes")
GRIDS = ("aligned", "half_pixel")
HEATMAPS = ("logits", "probabilities")

LEAST_PROBABILITY = 2.0**-24
"""Probabilities are clamped to what lies as far from 0 and 1: the logits of these are finite."""


def kind_of(name: str, head: Any) -> type:
    """Return torch.Tensor or numpy.ndarray, whichever a head is; torch is not imported to find out."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is not None and isinstance(head, tensor):
        return tensor  # type: ignore[no-any-return]
    if isinstance(head, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got {type(head).__name__}; use .filled()")
    if isinstance(head, np.ndarray):
        return np.ndarray
    raise TypeError(f"{name}: expected a torch.Tensor or a numpy.ndarray, got {type(head).__name__}")


def require_torch(name: str, instead: str = "") -> None:
    """Tell what to install where something of this name is used without torch.

    Args:
        name: of what is used.
        instead: what else would do.

    Raises:
        ImportError: torch is not installed, or too old.
    """
    try:
        import torch
    except ModuleNotFoundError as fault:
        if fault.name != "torch":  # it is there, and lacks something itself
            raise
        raise ImportError(f"{name} needs torch >= 2.11: pip install 'deeperlab[torch]'{instead}") from fault
    if [int(number) for number in re.findall(r"\d+", str(torch.__version__))[:2]] < [2, 11]:
        raise ImportError(
            f"{name} needs torch >= 2.11, got {torch.__version__}: pip install 'deeperlab[torch]'{instead}"
        )


def find_device(name: str, device: Any) -> torch.device:
    """Return one of torch's devices on which a network can run here.

    Raises:
        ValueError: there is none of this name; `name` is the argument that asks for it.
    """
    import torch

    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as fault:
        raise ValueError(f"{name}: expected one of torch's, got {device!r}") from fault
    if found.type == "meta":
        raise ValueError(f"{name}: expected one with memory, got meta")
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as fault:
        told = str(fault).strip().partition("\n")[0].partition(". ")[0]  # torch goes on with a list of all it has
        raise ValueError(f"{name}: expected one that is there, got {found} ({told})") from fault
    return found


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Convert a tensor on any device, a Pillow image, or what else makes one, to a NumPy array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def dtype_of(array: Any) -> str:
    """Name a dtype by the same word for torch.float32 and numpy.float32."""
    return str(array.dtype).removeprefix("torch.")


def shape_of(array: Any) -> list[int]:
    """Return the shape as a list, which reads the same for torch and NumPy."""
    return list(array.shape)


def summarize(instance: Any) -> str:
    """Write a dataclass of arrays in one line: dtypes and shapes instead of numbers."""
    parts = []
    for field in fields(instance):
        value = getattr(instance, field.name)
        parts.append(f"{field.name}={dtype_of(value)}{shape_of(value)}" if hasattr(value, "dtype") else "")
    return f"{type(instance).__name__}({', '.join(part for part in parts if part)})"


def sequence(name: str, values: Any) -> Iterable[Any]:
    """Return the values if they can be iterated over; else raise a TypeError."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a sequence, got {type(values).__name__} {values!r}")
    return values


def positions(name: str, expected: Sequence[Any], given: Sequence[Any] | None) -> list[int]:
    """Return where each expected keypoint or edge stands in the given order; None: the same order."""
    if given is None:
        return list(range(len(expected)))
    given = [item if isinstance(item, str) else _tuple(item) for item in sequence(name, given)]
    if len(given) != len(expected) or set(given) != set(expected):
        raise ValueError(f"{name}: expected each of {list(expected)} once, got {given}")
    return [given.index(item) for item in expected]


def _tuple(item: Any) -> Any:
    """A pair of integers as a tuple, whatever held it."""
    return tuple(item.tolist() if hasattr(item, "tolist") else item) if isinstance(item, Iterable) else item


def offset_channels(order: list[int], components: str) -> list[int]:
    """Return which given channels hold x and y of each offset."""
    y_first = components.endswith("yx")
    if components.startswith("planar"):
        return [c for i in order for c in (len(order) * y_first + i, len(order) * (not y_first) + i)]
    return [c for i in order for c in (2 * i + y_first, 2 * i + 1 - y_first)]


def reorder(name: str, head: Array, channels: list[int]) -> Array:
    """Return the channels of [..., channels, h, w] in a new order; the head itself where nothing moves."""
    kind_of(name, head)
    shape = shape_of(head)
    if len(shape) not in (3, 4) or shape[-3] != len(channels):
        raise ValueError(f"{name}: expected {len(channels)} channels [..., {len(channels)}, h, w], got shape {shape}")
    if channels == list(range(len(channels))):
        return head
    return head[..., channels, :, :]  # type: ignore[index, no-any-return]


def widen(head: Any) -> Any:
    """Return float32; integers, and what is float32 already, as they are."""
    if "float" not in dtype_of(head) or dtype_of(head) == "float32":
        return head
    return head.astype(np.float32) if isinstance(head, np.ndarray) else head.float()


def to_logits(probability: Any) -> Any:
    """Return the logits of probabilities, computed in float64: float32 [...]."""
    low, high = LEAST_PROBABILITY, 1 - LEAST_PROBABILITY
    if isinstance(probability, np.ndarray):
        p = probability.astype(np.float64).clip(low, high)
        return np.log(p / (1 - p)).astype(np.float32)
    return probability.double().clamp(low, high).logit().float()


def to_nodes(name: str, head: Any, stride: int, *, offsets: bool) -> Any:
    """Resample [..., channels, h, w] from half-pixel centers onto our nodes: float32 [..., channels, h + 1, w + 1]."""
    batch = head if head.ndim == 4 else head[None]
    if isinstance(head, np.ndarray):
        from ._numpy import resample
        from ._threads import thread_count

        made = resample(batch, stride=stride, offsets=offsets, num_threads=thread_count(None))
    else:
        from ._torch_library import require_kernels
        from ._torch_library import resample as resample_tensor

        require_kernels(name, head)
        made = resample_tensor(batch, stride=stride, offsets=offsets)
    return made if head.ndim == 4 else made[0]


def is_finite(array: Any) -> Any:
    """Tell whether a tensor or an array holds neither NaN nor infinity: a scalar where it lies, not waited for."""
    if isinstance(array, np.ndarray):
        return np.isfinite(array).all()
    import torch

    if not array.numel():
        return array.new_ones((), dtype=torch.bool)
    return torch.stack((array.amin(), array.amax())).isfinite().all()  # NaN is both; aminmax would copy what is cut
