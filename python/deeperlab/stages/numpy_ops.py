# SPDX-License-Identifier: Apache-2.0
"""The compiled stages for NumPy arrays, by the names and with the options of `reference`, on `num_threads` threads."""

from __future__ import annotations

from .._numpy import argmax, assign, encode, merge, peaks, refine, resample, rescore, select, top_down, trace, vote

__all__ = [
    "argmax",
    "assign",
    "encode",
    "merge",
    "peaks",
    "refine",
    "resample",
    "rescore",
    "select",
    "top_down",
    "trace",
    "vote",
]
