# SPDX-License-Identifier: Apache-2.0
"""The nine stages of the fusion (section 3.4), each by itself.

`pipeline` runs them one after another and hands back everything that lies between them, on any backend: `reference`
(NumPy, to be read beside the paper), `numpy_ops` (the compiled stages for arrays) or `torch_ops` (for tensors).
`top_down` is the reference of `merge_top_down`.
`crf_reference` and `crf_ops` are the same for `deeperlab.crf`, which may come before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import crf_ops, crf_reference, numpy_ops, pipeline, reference, top_down, torch_ops

__all__ = ["crf_ops", "crf_reference", "numpy_ops", "pipeline", "reference", "top_down", "torch_ops"]


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        if name in __all__:  # on first use: torch, and the compiled code
            import importlib

            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
