# SPDX-License-Identifier: Apache-2.0
"""Panoptic segmentation by DeeperLab: the raw heads of a network in, a panoptic map out.

`import deeperlab` is light: torch, the compiled code and the submodules are loaded when they are first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .conventions import HeadsWarning
from .crf import CRFParams, crf
from .fuse import fuse
from .graph import NO_KEYPOINTS, RECTANGLE, STAR, Graph
from .heads import Heads
from .merge_top_down import merge_top_down
from .panoptic import Panoptic, Segment
from .params import FuseParams

if TYPE_CHECKING:
    from . import data, metrics, models, oracle, predictor, scenes, stages, targets, training, visualize  # noqa: F401
    from .predictor import Parser

    __version__: str

__all__ = [
    "NO_KEYPOINTS",
    "RECTANGLE",
    "STAR",
    "CRFParams",
    "FuseParams",
    "Graph",
    "Heads",
    "HeadsWarning",
    "Panoptic",
    "Parser",
    "Segment",
    "__version__",
    "crf",
    "fuse",
    "merge_top_down",
]

_SUBMODULES = (
    *("data", "metrics", "models", "oracle", "predictor", "scenes", "stages", "targets", "training", "visualize"),
)

if sys.modules.get("torch"):
    from contextlib import suppress

    with suppress(ImportError, AttributeError, TypeError):  # one before 2.11: whoever uses it is told
        from . import _pytree  # noqa: F401

if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        import importlib

        if name == "__version__":
            import importlib.metadata

            return importlib.metadata.version("deeperlab")
        if name == "Parser":
            return importlib.import_module(".predictor", __name__).Parser
        if name in _SUBMODULES:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
