# SPDX-License-Identifier: Apache-2.0
"""What the network and the fusion give, on its way to the host: one wait for the device, while it goes on."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np

from .._layout import as_array, dtype_of, is_finite
from ..heads import NAMES, Heads
from ..panoptic import Panoptic
from .base import Parsed
from .resize import resized

if TYPE_CHECKING:
    import torch


class Host:
    """Starts to copy a result to the host, behind the work of the device that is asked for already.

    Args:
        parsed: the result, whose tensors may still be computed.
        heads: whether the heads are wanted, too.
    """

    def __init__(self, parsed: Parsed, *, heads: bool) -> None:
        is_array = isinstance(parsed.heads.heatmap, np.ndarray)  # on the host already

        def fetched(values: Any) -> Any:  # from a GPU: into memory that it writes to by itself
            return values if is_array else values.to("cpu", non_blocking=True)

        finite = [is_finite(getattr(parsed.heads, name)) for name in NAMES]
        self._finite = fetched(reduce(and_, finite, parsed.finite))
        self._seen = parsed.seen if is_array else parsed.seen.to("cpu", non_blocking=True)
        self._heads = parsed.heads.map(fetched) if heads else None
        self._original = parsed.original
        self._copied: torch.Event | None = None
        if not is_array and parsed.heads.heatmap.is_cuda:
            import torch

            self._copied = torch.Event("cuda")
            self._copied.record()

    def wait(self) -> bool:
        """Wait for the device, and tell whether all heads are finite."""
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._finite)

    def panoptic(self) -> Panoptic:
        """Make the map at the size of the image, of arrays, anew."""
        return resized(self._seen, self._original).numpy()

    def heads(self) -> tuple[Heads, tuple[int, int]]:
        """Give the heads as arrays, and (H, W) px of the image as the network saw it."""
        assert self._heads is not None, "heads: they were not wanted"

        def array(head: Any) -> Any:  # NumPy has no bfloat16
            return as_array(head.float() if dtype_of(head) == "bfloat16" else head)

        return self._heads.map(array), self._seen.size
