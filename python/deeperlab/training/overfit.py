# SPDX-License-Identifier: Apache-2.0
"""A few images learned by heart: the quickest sign that data, targets, losses, fusion and metrics fit together."""

from __future__ import annotations

from typing import Any

import numpy as np

from .index import Chosen
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
    numbers = np.arange(count, dtype=np.int32)
    only = Source(first.name, Chosen([first.samples], np.stack([0 * numbers, numbers], 1)))
    return Sources(sources.labels, (only,), only)
