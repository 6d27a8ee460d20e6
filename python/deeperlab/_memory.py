# SPDX-License-Identifier: Apache-2.0
"""Which errors say that there is no more memory."""

from __future__ import annotations

import re

OUT_OF_MEMORY = re.compile(
    "not allocate memory|can't allocate memory|not enough memory|out of memory|bad_alloc|ALLOC_FAILED"
    "|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
"""In the errors of torch, oneDNN, C++, CUDA's libraries, threads and libraries that are loaded."""


def is_out_of_memory(fault: Exception) -> bool:
    """Tell whether Python, NumPy, torch, C++, CUDA or the loader of libraries got no more memory: each says it anew."""
    return isinstance(fault, MemoryError) or (
        isinstance(fault, (RuntimeError, ImportError)) and OUT_OF_MEMORY.search(str(fault)) is not None
    )
