# SPDX-License-Identifier: Apache-2.0
"""Parts of the training data that are left out of it to validate on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from ..data.ids import ImageId
from .index import Chosen, id_of
from .sources import Source, Sources


def fold_of(image_id: ImageId, folds: int) -> int:
    """Return the part 1 … folds that an image is in: a hash of its id, whatever other images there are."""
    return 1 + int.from_bytes(hashlib.sha256(str(image_id).encode()).digest()[:8], "big") % folds


def leave_out(sources: Sources, fold: str) -> Sources:
    """Return sources that are trained on without a part of their images, and validated on it alone.

    Args:
        sources: of `open_sources`. What they are validated on themselves is not used.
        fold: part i of k, `i/k`, as `config.data.fold`; empty: the sources as they are.

    Raises:
        ValueError: no image is in the part, or all those of a source are.
    """
    if not fold:
        return sources
    part, folds = map(int, fold.split("/"))
    train, held = [], []
    for i, source in enumerate(sources.train):
        is_held = np.array([fold_of(id_of(source.samples, n), folds) == part for n in range(len(source.samples))], bool)
        kept = np.flatnonzero(~is_held).astype(np.int32)
        if not kept.size:
            raise ValueError(f"data.fold: expected images of {source.name} outside of part {fold}, got none")
        train.append(replace(source, samples=Chosen([source.samples], np.stack([0 * kept, kept], 1))))
        numbers = np.flatnonzero(is_held).astype(np.int32)
        held.append(np.stack([np.full_like(numbers, i), numbers], 1))
    places = np.concatenate(held)
    if not len(places):
        raise ValueError(f"data.fold: expected images in part {fold}, got none")
    val = Source(f"fold {fold}", Chosen([source.samples for source in sources.train], places))
    return replace(sources, train=tuple(train), val=val)
