# SPDX-License-Identifier: Apache-2.0
"""A few images learned by heart: the quickest sign that data, targets, losses, fusion and metrics fit together."""

from __future__ import annotations

from typing import Any

import numpy as np

from .chosen import Chosen
from .sources import Source, Sources

SIDE, RADIUS = 193, 10.0
"""px: the longer side of the images, of which four take half a second a step on two cores; that of their disks."""


def settings(count: int) -> dict[str, Any]:
    """Return options, by their full names, under which so many images are learned by heart in minutes.

    Small and whole images without augmentation, no average, batch norms that follow the weights quickly, and a high
    learning rate. The hardest pixels count, as `loss.top_k` has it: without them, the last small things take long.
    Offsets in photographs are hundreds of px, and a step changes an output by about the learning rate times the
    channels before it; hence wide heads for them. Options that are given go before these.
    """
    return {
        "data.overfit": count,
        "data.longest_side": SIDE,
        "data.crop": SIDE,
        "data.radius": RADIUS,
        "data.sampling": "image",
        "data.scale": (1.0, 1.0),
        "data.flip": 0.0,
        "data.jitter": 0.0,
        "data.elastic": 0.0,
        "model.options.bn_momentum": 0.1,
        "model.options.image_size": SIDE,
        "model.options.instance_channels": 128,
        "train.batch": count,
        "train.steps": 600,
        "train.lr": 0.02,
        "train.warmup": 10,
        "train.schedule": "cosine",
        "train.ema": 0.0,
        "train.log_every": 10,
        "loss.top_k_steps": 0,
        "loss.weights.short_range": 1 / RADIUS,
        "loss.weights.middle_range": 0.25 / RADIUS,
        "loss.weights.long_range": 0.125 / RADIUS,
        "validate.every": 100,
        "validate.images": 0,
        "validate.size": SIDE,
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
