# SPDX-License-Identifier: Apache-2.0
"""A few images learned by heart: the quickest sign that data, targets, losses, fusion and metrics fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from ..data.sample import Sample
from .sources import Source, Sources


def settings(count: int) -> dict[str, Any]:
    """Return options, by their full names, under which so many images can be learned by heart in minutes.

    No augmentation, no average, and batch norms that follow the weights quickly. Other options go before them.
    """
    return {
        "data.overfit": count,
        "data.scale": (1.0, 1.0),
        "data.flip": 0.0,
        "data.jitter": 0.0,
        "model.options.bn_momentum": 0.1,
        "train.batch": count,
        "train.warmup": 10,
        "train.ema": 0.0,
        "train.schedule": "cosine",
        "loss.top_k": 1.0,
        "validate.images": 0,
    }


def first_samples(sources: Sources, count: int) -> Sources:
    """Return the first so many samples of the first source, to train and to validate on; 0: the sources as they are.

    Raises:
        ValueError: there are not so many.
    """
    if not count:
        return sources
    first = sources.train[0]
    if len(first.samples) < count:
        raise ValueError(f"data.overfit: expected at most {len(first.samples)} images of {first.name}, got {count}")
    only = Source(first.name, _First(first.samples, count))
    return Sources(sources.labels, (only,), only)


@dataclass(frozen=True)
class _First(Sequence[Sample]):
    samples: Sequence[Sample]
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        return self.samples[range(self.length)[index]]
