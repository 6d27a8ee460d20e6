# SPDX-License-Identifier: Apache-2.0
"""The five losses, each a plain function; float32 inside, whatever the heads are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossWeights:
    """Weights of the five terms: PersonLab's, whose offset errors are in radii, R = 25 px; the paper states none."""

    semantic: float = 1.0
    heatmap: float = 4.0
    short_range: float = 1 / 25
    middle_range: float = 0.25 / 25
    long_range: float = 0.125 / 25
