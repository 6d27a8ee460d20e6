# SPDX-License-Identifier: Apache-2.0
"""The least that a fusion can take: every head is read once, and both maps of the result, fresh ones, are written."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeperlab import Heads
from deeperlab.heads import NAMES

from .build import load

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]


def heads_of(heads: Heads) -> list[NDArray[Any]]:
    """Those that there are, as contiguous arrays."""
    arrays = (np.asarray(getattr(heads, name)) for name in NAMES)
    return [np.ascontiguousarray(array) for array in arrays if array.size]


def total(heads: Heads) -> int:
    """What `read_and_write` sums: the words of 8 bytes of all heads, modulo 2⁶⁴."""
    found = 0
    for array in heads_of(heads):
        flat = array.reshape(-1).view(np.uint8)
        found += int(np.pad(flat, (0, -flat.size % 8)).view(np.uint64).sum())
    return found % 2**64


def read_and_write(heads: list[NDArray[Any]], size: tuple[int, int], threads: int) -> tuple[int, Maps]:
    """Sum the words of all heads, and write two int32 maps [H, W] of ones in every bit: the sum, the maps."""
    maps = np.empty(size, np.int32), np.empty(size, np.int32)
    groups = []
    for arrays in (heads, list(maps)):
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        groups += [len(arrays), pointers, (ctypes.c_int64 * len(arrays))(*(array.nbytes for array in arrays))]
    program = load("floor").memory_floor
    program.restype = ctypes.c_uint64
    return program(*groups, 255, threads), maps
