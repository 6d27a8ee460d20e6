# SPDX-License-Identifier: Apache-2.0
"""The nine stages of the fusion (section 3.4), each by itself: the readable `reference`, and torch's operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import reference, torch_ops  # noqa: F401 - torch is loaded on first use

NAMES = ("argmax", "refine", "vote", "peaks", "trace", "rescore", "select", "assign", "merge")
"""The stages in the order in which `fuse` runs them."""


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        if name in ("reference", "torch_ops"):
            import importlib

            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
