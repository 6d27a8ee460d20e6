# SPDX-License-Identifier: Apache-2.0
"""The few things that tensors and arrays do alike under two names, so that what is made of them is written once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np


def module_of(values: Any) -> Any:
    """Return numpy or torch, for what has one name in both."""
    return np if isinstance(values, np.ndarray) else sys.modules["torch"]


def arange(count: int, like: Any) -> Any:
    """Return int64 0 … count − 1, of the kind of another and where that is."""
    return np.arange(count) if isinstance(like, np.ndarray) else module_of(like).arange(count, device=like.device)


def array(values: Sequence[Any], like: Any) -> Any:
    """Return numbers as an array or tensor of the kind and dtype of another."""
    return np.array(values, like.dtype) if isinstance(like, np.ndarray) else like.new_tensor(values)


def take(values: Any, index: Any, axis: int) -> Any:
    """Return the slices along an axis that an index names."""
    return values.take(index, axis) if isinstance(values, np.ndarray) else values.index_select(axis, index)


def take_along(values: Any, index: Any) -> Any:
    """Return those along the last axis, of every row its own."""
    return np.take_along_axis(values, index, -1) if isinstance(values, np.ndarray) else values.gather(-1, index.long())


def sums(index: Any, weights: Any, count: int) -> Any:
    """Return int32 [count]: the sums of the integer weights that have the same index."""
    if isinstance(index, np.ndarray):
        return np.bincount(index, weights, count).astype(np.int32)  # by float64, which holds any number of pixels
    return weights.new_zeros(count).index_add_(0, index, weights).int()
