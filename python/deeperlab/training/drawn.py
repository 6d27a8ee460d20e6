# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes as samples, each drawn when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ..data.labels import LabelSet
from ..data.sample import Sample
from ..scenes import draw
from .listing import name_nearest

COUNT, COUNT_VAL = 10_000, 200
"""Scenes to train and to validate on, where the options do not say."""
FIRST_VAL = 1 << 40
"""Seed of the first scene of the validation; those of the training count from 0."""


@dataclass(frozen=True)
class DrawnSamples(Sequence[Sample]):
    """Scenes of the seeds `first`, `first` + 1, …; `image_id` is the seed.

    Attributes:
        labels: The classes.
        first: The seed of the first.
        length: How many.
        options: Arguments of `deeperlab.scenes.draw`.
        table: The class of `labels` for each of the scenes' classes.
    """

    labels: LabelSet
    first: int
    length: int
    options: Mapping[str, Any]
    table: tuple[int, ...]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        seed = self.first + range(self.length)[index]
        scene, table = draw(seed, **self.options), np.array(self.table, np.int32)
        return Sample(
            seed,
            None,
            table[scene.category],
            scene.instance,
            np.zeros(scene.instance.shape, bool),
            table[scene.categories],
            pixels=scene.image,
        )


def drawn_scenes(options: Mapping[str, Any]) -> tuple[DrawnSamples, DrawnSamples | None]:
    """Return scenes to train on and, of other seeds, to validate on (None where `count_val` is 0).

    Args:
        options: arguments of `deeperlab.scenes.draw` but the seed, and `count` and `count_val`.

    Raises:
        ValueError: an unknown option, or one out of bounds.
    """
    known = ("count", "count_val", *(name for name in inspect.signature(draw).parameters if name != "seed"))
    for name in options:
        if name not in known:
            raise ValueError(f"data.scenes.{name}: unknown{name_nearest(name, known)}")
    counts = []
    for name, default, least in (("count", COUNT, 1), ("count_val", COUNT_VAL, 0)):
        count = options.get(name, default)
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= FIRST_VAL:
            raise ValueError(f"data.scenes.{name}: expected an integer of {least} to {FIRST_VAL}, got {count!r}")
        counts.append(count)
    given = {name: _plain(value) for name, value in options.items() if name not in ("count", "count_val")}
    try:
        scene = draw(0, **given)  # checks the options
    except (ValueError, TypeError) as fault:
        raise ValueError(f"data.scenes.{fault}") from fault
    labels = LabelSet(
        "scenes",
        scene.names,
        tuple(c in scene.things for c in range(scene.num_classes)),
        tuple((r, g, b) for r, g, b in scene.colors.tolist()),
        tuple(range(1, scene.num_classes + 1)),
        ignore=255 if scene.num_classes < 256 else -1,
    )
    train, val = (
        DrawnSamples(labels, first, n, given, tuple(range(len(labels))))
        for first, n in zip((0, FIRST_VAL), counts, strict=True)
    )
    return train, val if val.length else None


def _plain(value: Any) -> Any:
    """Turn a list of TOML into the pair that `draw` takes."""
    return tuple(value) if isinstance(value, list) else value
