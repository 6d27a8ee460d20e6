# SPDX-License-Identifier: Apache-2.0
"""Several data sets, or a part of them, as one sequence of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..data.sample import Sample


class Chosen(Sequence[Sample]):
    """Some samples of several sequences.

    Args:
        parts: the sequences.
        places: int32 [N, 2]: part of each sample, and its number there.
    """

    def __init__(self, parts: Sequence[Sequence[Sample]], places: NDArray[np.int32]) -> None:
        self.parts, self.places = tuple(parts), places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> Sample | Chosen:
        if isinstance(index, slice):
            return Chosen(self.parts, self.places[index])
        part, number = self.places[index].tolist()
        sample: Sample = self.parts[part][number]
        return sample


def chained(parts: Sequence[Sequence[Sample]]) -> Chosen:
    """Return all samples of several sequences, one after another."""
    places = [np.stack([np.full(len(part), i), np.arange(len(part))], 1) for i, part in enumerate(parts)]
    return Chosen(parts, np.concatenate(places).astype(np.int32))
