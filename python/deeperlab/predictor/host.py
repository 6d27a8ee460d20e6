# SPDX-License-Identifier: Apache-2.0
"""What the network and the fusion give, on its way to the host: one wait for the device, while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._layout import is_finite
from ..heads import NAMES, Heads
from ..panoptic import Panoptic
from .parser import Parsed
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
        import torch

        def fetched(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to("cpu", non_blocking=True)  # from a GPU: into memory that it writes to by itself

        self._finite = fetched(torch.stack([is_finite(getattr(parsed.heads, name)) for name in NAMES]).all())
        self._seen = parsed.seen.to("cpu", non_blocking=True)
        self._heads = parsed.heads.map(fetched) if heads else None
        self._original = parsed.original
        self._copied = torch.Event("cuda") if parsed.heads.heatmap.is_cuda else None
        if self._copied is not None:
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
        import torch

        assert self._heads is not None, "heads: they were not wanted"

        def array(head: torch.Tensor) -> Any:  # NumPy has no bfloat16
            return (head.float() if head.dtype == torch.bfloat16 else head).numpy()

        return self._heads.map(array), self._seen.size
