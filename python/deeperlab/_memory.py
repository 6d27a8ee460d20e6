# SPDX-License-Identifier: Apache-2.0
"""Memory that is kept though it is free, and errors that say that there is none left."""

from __future__ import annotations

import ctypes
import errno
import re
from contextlib import suppress

OUT_OF_MEMORY = re.compile(
    "not allocate memory|can't allocate memory|not enough memory|out of memory|bad_alloc|ALLOC_FAILED"
    "|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
"""In the errors of torch, oneDNN, C++, CUDA's libraries, threads and libraries that are loaded."""


def is_out_of_memory(fault: Exception) -> bool:
    """Tell whether Python, NumPy, torch, C++, CUDA, the loader of libraries or the system gave no more memory: each
    says it anew."""
    if isinstance(fault, OSError):  # as of mmap
        return fault.errno == errno.ENOMEM
    told = isinstance(fault, (RuntimeError, ImportError)) and OUT_OF_MEMORY.search(str(fault)) is not None
    return told or isinstance(fault, MemoryError)


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Let the C library keep what this process frees for what it allocates next, where it is glibc.

    By default it gives large tensors back to the system at once, which clears their pages anew for every operator: a
    quarter of the time of a training on two cores.
    """
    with suppress(AttributeError, OSError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 26)):
            mallopt(parameter, value)
