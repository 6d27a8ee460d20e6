# SPDX-License-Identifier: Apache-2.0
"""Registers Heads and Panoptic with torch, so that torch.compile and torch.export take and return them.

torch.export with strict=True looks for it before it traces. So it is done when the package is imported, where torch is
loaded already, and else when the package first uses torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from torch.utils import _pytree as pytree

from .heads import Heads
from .panoptic import Panoptic


def _register(cls: type, constants: Sequence[str]) -> None:
    """Make a dataclass a node whose leaves are its fields, but for the constants, which are no tensors."""
    names = [field.name for field in fields(cls) if field.name not in constants]

    def flatten(value: Any) -> tuple[list[Any], Any]:
        return [getattr(value, name) for name in names], tuple(getattr(value, name) for name in constants)

    def flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
        leaves, context = flatten(value)
        return [(pytree.GetAttrKey(name), leaf) for name, leaf in zip(names, leaves, strict=True)], context

    def unflatten(leaves: Iterable[Any], context: Any) -> Any:
        value: Any = object.__new__(cls)  # unchecked: torch also puts other things than tensors in their places
        for name, leaf in zip((*names, *constants), (*leaves, *context), strict=True):
            object.__setattr__(value, name, leaf)
        return value

    name = f"deeperlab.{cls.__name__}"
    pytree.register_pytree_node(
        cls, flatten, unflatten, serialized_type_name=name, flatten_with_keys_fn=flatten_with_keys
    )


_register(Heads, ("stride", "graph", "num_classes"))
_register(Panoptic, ("things",))
