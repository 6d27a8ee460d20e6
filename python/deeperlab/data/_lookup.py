# SPDX-License-Identifier: Apache-2.0
"""Values of a map replaced by a table, and numbered without gaps; no sorting where the values are below 2²⁴."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runs import find_runs, spread

DENSE = 1 << 24
"""Up to this many different values a table is indexed; its pages are touched only where there are values."""


class UnknownValueError(ValueError):
    """A map holds a value that the table lacks."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(str(value))


def look_up(values: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.int32]:
    """Return `table[v]` for every value of an integer map; the table's values are >= −1.

    Raises:
        UnknownValueError: the first value in ascending order that has no entry.
    """
    if not values.size:
        return np.zeros(values.shape, np.int32)
    low, high = int(values.min()), int(values.max())
    if high - low >= DENSE:
        keys, index = np.unique(values, return_inverse=True)
        return look_up_few(keys, table)[index.reshape(values.shape)]
    dense = np.zeros(high - low + 1, np.int32)  # entry + 2; 0 = unknown
    for key, value in table.items():
        if low <= key <= high:
            dense[key - low] = value + 2
    found: NDArray[np.int32] = dense.take(values if low == 0 else values.astype(np.int64) - low)
    if not found.all():
        raise UnknownValueError(int(values[found == 0].min()))
    found -= 2
    return found


def look_up_few(keys: NDArray[Any], table: Mapping[int, int]) -> NDArray[np.int32]:
    """Return `table[v]` for a short list of values in ascending order; errors as of `look_up`."""
    for key in keys.tolist():
        if key not in table:
            raise UnknownValueError(key)
    return np.array([table[key] for key in keys.tolist()], np.int32)


def relabel(values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Replace each value of an integer array by its rank 0 … N − 1 among those present.

    Returns:
        the ranks, int32 of the shape of `values`, and the N values, int64, ascending.
    """
    shape = values.shape if values.ndim == 2 else (1, values.size)
    if not values.size:
        return np.zeros(values.shape, np.int32), np.zeros(0, np.int64)
    runs = find_runs(values.reshape(shape))  # far fewer than pixels are sorted then
    present, index = np.unique(values.reshape(-1)[runs.start], return_inverse=True)
    return spread(runs, index, shape).reshape(values.shape), present.astype(np.int64)
