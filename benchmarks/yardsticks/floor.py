# SPDX-License-Identifier: Apache-2.0
"""The least that a function of arrays can take: each is read once, and its results, fresh ones, are written once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeperlab import Heads
from deeperlab.heads import NAMES

from .build import load

Shaped = tuple[tuple[int, ...], Any]
"""The shape and the type of a result."""


def heads_of(heads: Heads) -> list[NDArray[Any]]:
    """Those that there are, as contiguous arrays."""
    arrays = (np.asarray(getattr(heads, name)) for name in NAMES)
    return [np.ascontiguousarray(array) for array in arrays if array.size]


def total(arrays: Sequence[NDArray[Any]]) -> int:
    """What `read_and_write` sums: the words of 8 bytes of all arrays, modulo 2⁶⁴."""
    found = 0
    for array in arrays:
        flat = array.reshape(-1).view(np.uint8)
        found += int(np.pad(flat, (0, -flat.size % 8)).view(np.uint64).sum())
    return found % 2**64


def like(*arrays: Any) -> list[Shaped]:
    """Results of the shapes and types of some arrays or tensors."""
    return [(array.shape, array.dtype) for array in map(np.asarray, arrays)]


def read_and_write(
    read: Sequence[NDArray[Any]], written: Sequence[Shaped], threads: int
) -> tuple[int, list[NDArray[Any]]]:
    """Sum the words of contiguous arrays, and write fresh ones with ones in every bit: the sum, what was written."""
    fresh = [np.empty(shape, dtype) for shape, dtype in written]
    groups: list[Any] = []
    for arrays in (read, fresh):
        assert all(array.flags.c_contiguous for array in arrays)
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        groups += [len(arrays), pointers, (ctypes.c_int64 * len(arrays))(*(array.nbytes for array in arrays))]
    program = load("floor").memory_floor
    program.restype = ctypes.c_uint64
    return program(*groups, 255, threads), fresh
