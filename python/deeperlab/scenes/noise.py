# SPDX-License-Identifier: Apache-2.0
"""Seeded errors for perfect heads, so that the fusion can be tried at the quality of a trained network, or worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..heads import Heads

Float = NDArray[np.float32]


LEVELS = (0.0, 1.0, 2.0, 3.0)
"""Levels with figures of their own; between them the sigmas are interpolated."""
NEAR_SIGMA = (0.0, 1.0, 2.0, 3.5)
"""Sigma in pixels of an offset of length 0, per level."""
FAR_SIGMA = (0.0, 3.0, 6.0, 10.5)
"""Sigma in pixels of an offset of length `FAR` or more."""
HEATMAP_SIGMA = (0.0, 1.0, 1.25, 1.5)
"""Sigma of heatmap logits."""

FAR = 200.0
"""Length in pixels from which an offset has the greatest sigma."""

GARBAGE = 30.0
"""Sigma in pixels of offsets outside the area where a network is trained."""

HILL = 8.0
"""Width in pixels of the smooth part of the noise."""

SMOOTH = 0.6
"""Share of the smooth part in the variance of offset errors; the rest is white."""

INSIDE, OUTSIDE = 3.0, -4.0
"""Mean heatmap logits inside and outside a disk: less sure than perfect heads."""

SEMANTIC = 0.125
"""Sigma of the semantic logits, as a share of the distance between a class that fills a node and an absent one."""


def perturb(heads: Heads, seed: int, *, instance: ArrayLike, level: float = 2) -> Heads:
    """Give perfect heads the errors of a good (1), fair (2) or bad (3) network; level 0 changes nothing.

    Offsets get normal errors of 1–3, 2–6 or 3.5–10.5 px, growing with the offset's length up to 200 px; 60 % of
    their variance is smooth over 8 px, 40 % white. Where a network is not trained (short and middle range off the
    disks, long range off the instances) the error is 30 px at every level. Heatmap logits become +3 or −4 with a
    sigma of 1, 1.25 or 1.5; semantic logits get white noise of 1/8 of their range; integer labels stay.

    Args:
        heads: float32 arrays without a batch dimension, as from `targets.encode_heads`.
        seed: any integer >= 0.
        instance: integer [H, W], the map that was encoded.
        level: 0 to 3, fractions too.

    Raises:
        ValueError, TypeError: heads that are batched, or an argument out of bounds.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected an int, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    if isinstance(level, bool) or not isinstance(level, (int, float)):
        raise TypeError(f"level: expected a number, got {level!r}")
    if not 0 <= level <= LEVELS[-1]:
        raise ValueError(f"level: expected 0 to {LEVELS[-1]:g}, got {level}")
    shape = np.shape(heads.heatmap)
    if len(shape) != 3:
        raise ValueError(f"heads: expected no batch dimension, heatmap [P, h, w], got shape {shape}")
    member = np.asarray(instance)[:: heads.stride, :: heads.stride] > 0
    if member.shape != shape[1:]:
        raise ValueError(f"instance: expected a map of {shape[1:]} nodes at stride {heads.stride}, got {member.shape}")
    if level == 0:
        return heads

    rng = np.random.Generator(np.random.PCG64(seed))
    near, far, spread = (float(np.interp(level, LEVELS, table)) for table in (NEAR_SIGMA, FAR_SIGMA, HEATMAP_SIGMA))
    disk = np.asarray(heads.heatmap) > 0
    heatmap = np.where(disk, np.float32(INSIDE), np.float32(OUTSIDE))
    heatmap += np.float32(spread) * rng.standard_normal(shape, dtype=np.float32)
    semantic = np.asarray(heads.semantic)
    if semantic.dtype.kind == "f":
        sigma = np.float32(SEMANTIC * float(semantic.max() - semantic.min()))
        semantic = semantic + sigma * rng.standard_normal(semantic.shape, dtype=np.float32)

    def disturbed(offsets: Float, trained: NDArray[np.bool_]) -> Float:
        result = np.array(offsets, np.float32)
        for n, valid in enumerate(trained):
            pair = result[2 * n : 2 * n + 2]
            length = np.sqrt(pair[0] * pair[0] + pair[1] * pair[1])
            sigma = np.float32(near) + np.float32((far - near) / FAR) * np.minimum(length, np.float32(FAR))
            np.copyto(sigma, np.float32(GARBAGE), where=~valid)
            for plane in pair:
                plane += sigma * _noise(rng, valid.shape, heads.stride)
        return result

    return replace(
        heads,
        semantic=semantic,
        heatmap=heatmap,
        short_range=disturbed(heads.short_range, disk),
        middle_range=disturbed(heads.middle_range, disk[[source for source, _ in heads.graph.edges]]),
        long_range=disturbed(heads.long_range, np.broadcast_to(member, shape)),
    )


def _noise(rng: np.random.Generator, shape: tuple[int, ...], stride: int) -> Float:
    """Normal noise [h, w] of variance 1, partly white, partly smooth."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= np.float32((1 - SMOOTH) ** 0.5)
    smooth = _smooth(rng, shape, HILL / stride)
    smooth *= np.float32(SMOOTH**0.5)
    noise += smooth
    return noise


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], pitch: float) -> Float:
    """Normal noise [h, w] of variance 1 everywhere: cubic B-splines on a lattice `pitch` nodes wide."""
    place = [np.arange(size) / pitch for size in shape]
    first = [p.astype(np.int64) for p in place]
    lattice = rng.standard_normal([int(f[-1]) + 4 for f in first], dtype=np.float32)
    for axis in (1, 0):
        weights = _spline(place[axis] - first[axis])
        taps = [lattice.take(first[axis] + tap, axis=axis) for tap in range(4)]
        lattice = np.zeros_like(taps[0])
        for tap, weight in zip(taps, weights, strict=True):
            tap *= weight if axis else weight[:, None]
            lattice += tap
    return lattice


def _spline(t: NDArray[np.float64]) -> NDArray[np.float32]:
    """The four cubic B-spline weights at fractions t, float32 [4, size], scaled so that their squares sum to 1."""
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    weights /= np.sqrt((weights * weights).sum(axis=0))
    return weights.astype(np.float32)
