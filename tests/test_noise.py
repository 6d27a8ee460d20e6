# SPDX-License-Identifier: Apache-2.0
"""Seeded errors for perfect heads: their size where it is promised, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from deeperlab import RECTANGLE, Heads, scenes
from deeperlab.scenes import noise
from deeperlab.scenes.noise import perturb
from deeperlab.targets import encode, encode_heads

SCENE = scenes.draw(0, (241, 321), instances=12)
HEADS = encode_heads(SCENE.category, SCENE.instance, SCENE.num_classes, stride=2)
TARGETS = encode(SCENE.instance, stride=2)


def arrays(heads: Heads) -> dict[str, Any]:
    return {f.name: getattr(heads, f.name) for f in fields(heads) if isinstance(getattr(heads, f.name), np.ndarray)}


def test_a_seed_gives_the_same_noise_and_level_zero_none() -> None:
    before = {name: array.copy() for name, array in arrays(HEADS).items()}
    one, same, other = (perturb(HEADS, seed, instance=SCENE.instance) for seed in (1, 1, 2))
    for name, array in arrays(one).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays(same)[name])
        assert (array != arrays(other)[name]).mean() > 0.9
        np.testing.assert_array_equal(arrays(HEADS)[name], before[name])
        np.testing.assert_array_equal(arrays(perturb(HEADS, 1, instance=SCENE.instance, level=0))[name], before[name])


@pytest.mark.parametrize(("level", "near", "far"), [(1, 1, 3), (2, 2, 6), (2.5, 2.75, 8.25), (3, 3.5, 10.5)])
def test_offset_errors_grow_with_length_and_are_garbage_off_the_trained_area(
    level: float, near: float, far: float
) -> None:
    noisy = perturb(HEADS, 0, instance=SCENE.instance, level=level)
    cases = (
        (noisy.short_range, HEADS.short_range, TARGETS.short_valid),
        (noisy.middle_range, HEADS.middle_range, TARGETS.middle_valid),
        (noisy.long_range, HEADS.long_range, np.broadcast_to(TARGETS.long_valid, (5, *TARGETS.long_valid.shape[1:]))),
    )
    for got, perfect, valid in cases:
        error = got - perfect
        length = np.repeat(np.hypot(perfect[::2], perfect[1::2]), 2, axis=0)
        sigma = near + (far - near) * np.minimum(length / noise.FAR, 1)
        trained = np.repeat(valid, 2, axis=0)
        assert (error / sigma)[trained].std() == pytest.approx(1, abs=0.06)
        assert error[~trained].std() == pytest.approx(noise.GARBAGE, rel=0.05)
        assert abs(error[~trained].mean()) < 1


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_noise_has_variance_one_everywhere_and_is_partly_smooth(stride: int) -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([noise._noise(rng, (40, 50), stride) for _ in range(300)])
    assert np.abs(draws.std(axis=0) - 1).max() < 0.25  # no pattern of the lattice
    large = np.stack([noise._noise(rng, (300, 400), stride) for _ in range(10)])
    assert large.std() == pytest.approx(1, abs=0.02)
    neighbors = (large[..., 1:] * large[..., :-1]).mean()
    assert neighbors == pytest.approx({1: 0.592, 2: 0.574, 4: 0.503, 8: 0.268, 16: 0.034}[stride], abs=0.03)


def test_heatmap_logits_are_less_sure_than_perfect_ones() -> None:
    for level, sigma in ((1, 1), (2, 1.25), (3, 1.5)):
        heatmap = perturb(HEADS, 0, instance=SCENE.instance, level=level).heatmap
        disk = TARGETS.short_valid
        assert heatmap[disk].mean() == pytest.approx(noise.INSIDE, abs=0.05)
        assert heatmap[~disk].mean() == pytest.approx(noise.OUTSIDE, abs=0.05)
        assert heatmap[disk].std() == pytest.approx(sigma, rel=0.05)


def test_semantic_logits_get_noise_and_integer_labels_stay() -> None:
    noisy = perturb(HEADS, 0, instance=SCENE.instance)
    spread = HEADS.semantic.max() - HEADS.semantic.min()
    assert (noisy.semantic - HEADS.semantic).std() == pytest.approx(noise.SEMANTIC * spread, rel=0.02)
    labeled = replace(HEADS, semantic=SCENE.category, num_classes=SCENE.num_classes)
    assert perturb(labeled, 0, instance=SCENE.instance).semantic is SCENE.category


def test_other_graphs_and_bare_nodes_are_disturbed_too() -> None:
    heads = encode_heads(SCENE.category, SCENE.instance, SCENE.num_classes, graph=RECTANGLE)
    assert perturb(heads, 0, instance=SCENE.instance).middle_range.shape == heads.middle_range.shape
    tiny = encode_heads(np.zeros((1, 1), int), np.ones((1, 1), int), 1)
    assert perturb(tiny, 0, instance=np.ones((1, 1), int)).long_range.shape == (10, 1, 1)


@pytest.mark.parametrize(
    ("heads", "seed", "kwargs", "error", "names"),
    [
        (HEADS, -1, {}, ValueError, "seed.*-1"),
        (HEADS, 0.5, {}, TypeError, "seed.*0.5"),
        (HEADS, 0, {"level": 3.1}, ValueError, "level: expected 0 to 3, got 3.1"),
        (HEADS, 0, {"level": "2"}, TypeError, "level.*'2'"),
        (HEADS, 0, {"instance": np.zeros((3, 3), int)}, ValueError, r"instance.*\(121, 161\).*\(2, 2\)"),
    ],
)
def test_bad_input_is_named(
    heads: Heads, seed: Any, kwargs: dict[str, Any], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        perturb(heads, seed, **{"instance": SCENE.instance, **kwargs})


def test_batched_heads_are_refused() -> None:
    batched = replace(HEADS, **{name: array[None] for name, array in arrays(HEADS).items()})
    with pytest.raises(ValueError, match="no batch dimension"):
        perturb(batched, 0, instance=SCENE.instance)
