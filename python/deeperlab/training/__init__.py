# SPDX-License-Identifier: Apache-2.0
"""Training: from annotations to a network, exactly resumable.

Two levels. `train` runs what a `Config` says, as `deeperlab train` does. Beneath it are the pure parts, for a loop of
one's own: `losses` (plain functions), batches that are a pure function of seed, step and slot, and the validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import Config

if TYPE_CHECKING:
    from .faults import replay
    from .loop import train

__all__ = ["Config", "replay", "train"]


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        import importlib

        homes = {"replay": "faults", "train": "loop"}
        if name in homes:
            from .._layout import require_torch

            require_torch(f"deeperlab.training.{name}")
            return getattr(importlib.import_module(f".{homes[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
