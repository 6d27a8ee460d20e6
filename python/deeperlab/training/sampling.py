# SPDX-License-Identifier: Apache-2.0
"""Which image a slot of a step shows: a pure function of seed, step and slot, so that a run resumes at any step.

Random numbers are the raw bits of Philox, whose streams NumPy keeps over its versions; those of its distributions it
does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDER, SLOTS, CHANGES = range(3)
"""What random bits are for: the order of an epoch, the sources of a step's slots, what happens to a sample."""


def bits(seed: int, purpose: int, *where: int, count: int) -> NDArray[np.uint64]:
    """Return random bits, uint64 [count], that are a function of the other arguments, all of them >= 0."""
    raw: NDArray[np.uint64] = np.random.Philox(np.random.SeedSequence((seed, purpose, *where))).random_raw(count)
    return raw


def uniform(seed: int, step: int, slot: int, count: int) -> list[float]:
    """Return the numbers in [0, 1) that decide what happens to a sample, multiples of 2⁻⁵³."""
    values: list[float] = ((bits(seed, CHANGES, step, slot, count=count) >> np.uint64(11)) * 2.0**-53).tolist()
    return values


def shuffled(seed: int, purpose: int, *where: int, count: int) -> NDArray[np.int64]:
    """Return 0 … count − 1 in random order."""
    return np.argsort(bits(seed, purpose, *where, count=count), kind="stable")


@lru_cache(maxsize=16)
def _order(seed: int, source: int, epoch: int, length: int) -> NDArray[np.int32]:
    """Return the order of an epoch; there are seldom more than two epochs of a source in use."""
    return shuffled(seed, ORDER, source, epoch, count=length).astype(np.int32)


@dataclass(frozen=True)
class Place:
    """Image `position` of an epoch of a source, in the epoch's own order."""

    source: int
    epoch: int
    position: int


class Plan:
    """Deals the images of several sources to the slots of all steps.

    Shares are exact: of the first n samples, a source has its share of n, to less than one sample for each source that
    there is. Which slots of a step are whose is random, so that no process gets one source alone. Every epoch of a
    source is a random order of all its images.

    Args:
        lengths: images of every source.
        weights: how often each is drawn from, relative to the others.
        seed: of the run.
        batch: slots of a step.

    Raises:
        ValueError: no images, weights below 0 or all 0, a batch below 1, a seed below 0.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], *, seed: int, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, got {batch}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self._lengths, self._seed, self._batch = tuple(lengths), seed, batch
        self._shares = _integers(weights)
        for i, (length, share) in enumerate(zip(lengths, self._shares, strict=True)):
            if share and not length:
                raise ValueError(f"sources: expected images in each, got none in number {i}")

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Of the samples, by source."""
        return tuple(Fraction(share, sum(self._shares)) for share in self._shares)

    def place(self, step: int, slot: int) -> Place:
        """Return what slot 0 … batch − 1 of a step shows."""
        slots = shuffled(self._seed, SLOTS, step, count=self._batch)
        source, drawn = deal(step * self._batch + int(slots[slot]), self._shares)
        return Place(source, *divmod(drawn, self._lengths[source]))

    def image(self, place: Place, after: int = 0) -> int:
        """Return the number of the image in its source, or of the one that comes `after` it in the epoch's order."""
        length = self._lengths[place.source]
        order = _order(self._seed, place.source, place.epoch, length)
        return int(order[(place.position + after) % length])


def deal(n: int, shares: Sequence[int]) -> tuple[int, int]:
    """Return whose the n-th sample is, and how many that source had before.

    The first source has ⌊(n · share) / sum⌋ of the first n samples; the others deal what it leaves among them.
    """
    total = sum(shares)
    for source, share in enumerate(shares):
        before = n * share // total
        if (n + 1) * share // total > before:
            return source, before
        n, total = n - before, total - share
    raise AssertionError("the last source takes all that is left")


def _integers(weights: Sequence[float]) -> tuple[int, ...]:
    """Return weights as integers of the same ratios; 0.1 is a tenth."""
    exact = [_fraction(weight) for weight in weights]
    if not any(exact):
        raise ValueError(f"weights: expected at least one above 0, got {list(weights)}")
    scale = lcm(*(value.denominator for value in exact))
    return tuple(int(value * scale) for value in exact)


def _fraction(weight: Any) -> Fraction:
    try:
        value = Fraction(str(weight))
    except ValueError:
        raise ValueError(f"weights: expected numbers, got {weight!r}") from None
    if value < 0:
        raise ValueError(f"weights: expected at least 0, got {weight}")
    return value
