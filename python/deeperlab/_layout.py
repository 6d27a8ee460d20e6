# SPDX-License-Identifier: Apache-2.0
"""What is asked of a tensor or an array before anything is known of it, and channels in another order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array")

COMPONENTS = ("xy", "yx", "planar_yx")


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


def require_torch(name: str) -> None:
    """Tell what to install where something of this name is used without torch.

    Raises:
        ImportError: torch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as fault:
        if fault.name != "torch":  # it is there, and lacks something itself
            raise
        raise ImportError(f"{name} needs torch >= 2.11: pip install torch") from fault


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
    if components == "planar_yx":
        return [c for i in order for c in (len(order) + i, i)]
    x = components == "yx"
    return [c for i in order for c in (2 * i + x, 2 * i + 1 - x)]


def reorder(name: str, head: Array, channels: list[int]) -> Array:
    """Return the channels of [..., channels, h, w] in a new order; the head itself where nothing moves."""
    kind_of(name, head)
    shape = shape_of(head)
    if len(shape) not in (3, 4) or shape[-3] != len(channels):
        raise ValueError(f"{name}: expected {len(channels)} channels [..., {len(channels)}, h, w], got shape {shape}")
    if channels == list(range(len(channels))):
        return head
    return head[..., channels, :, :]  # type: ignore[index, no-any-return]
