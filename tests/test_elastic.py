# SPDX-License-Identifier: Apache-2.0
"""The elastic deformation: photograph and labels move together, as the draws say."""

from __future__ import annotations

from dataclasses import replace
from math import cos, log, pi, sin, sqrt

import numpy as np
import pytest
from annotated import drawn, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from deeperlab.graph import STAR
from deeperlab.training.config import Config, DataConfig
from deeperlab.training.config_file import assignment, load
from deeperlab.training.elastic import DRAWS, Warp
from deeperlab.training.sampling import uniform
from deeperlab.training.transform import DRAWS as OF_SAMPLE
from deeperlab.training.transform import Example, transform

UNIT = st.floats(0, 1, exclude_max=True)
SIZES = st.tuples(st.integers(16, 40), st.integers(16, 40))


def keys(t: float) -> list[float]:
    """Keys' cubic kernel with a = −3/4 at −1 − t, −t, 1 − t, 2 − t."""
    a = -0.75

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    return [kernel(x - t) for x in (-1, 0, 1, 2)]


def between(nodes: np.ndarray, y: float, x: float) -> float:
    """A grid [3, 3] at a place in its own units, its border repeated."""
    found = 0.0
    for j, wy in enumerate(keys(y - int(y)), int(y) - 1):
        for i, wx in enumerate(keys(x - int(x)), int(x) - 1):
            found += wy * wx * nodes[min(max(j, 0), 2), min(max(i, 0), 2)]
    return found


@settings(max_examples=25)
@given(size=SIZES, sigma=st.floats(0, 20), draws=st.lists(UNIT, min_size=DRAWS, max_size=DRAWS))
def test_displacements_are_normal_on_the_nodes_and_bicubic_between(
    size: tuple[int, int], sigma: float, draws: list[float]
) -> None:
    warp = Warp.of(size, sigma, draws)
    (height, width), margin = size, warp.margin
    pairs = list(zip(draws[::2], draws[1::2], strict=True))
    down, right = (
        np.array([sigma * sqrt(-2 * log(1 - u)) * of(2 * pi * v) for u, v in pairs]).reshape(3, 3) for of in (sin, cos)
    )
    for y, x in ((0, 0), (height - 1, width - 1), (height // 2, width // 3), (3, width - 2), (height - 5, 4)):
        place = 2 * y / (height - 1), 2 * x / (width - 1)
        assert warp.rows[y, x] - y - margin == pytest.approx(between(down, *place), abs=1e-4 * (1 + sigma))
        assert warp.columns[y, x] - x - margin == pytest.approx(between(right, *place), abs=1e-4 * (1 + sigma))
    for places, side in ((warp.rows, height), (warp.columns, width)):
        assert places.min() >= 0
        assert places.max() < side + 2 * margin - 1


def test_their_deviation_is_that_of_the_option() -> None:
    moved = []
    for slot in range(400):
        warp = Warp.of((21, 31), 10.0, uniform(0, 0, slot, DRAWS))
        for places, index in ((warp.rows, np.indices((21, 31))[0]), (warp.columns, np.indices((21, 31))[1])):
            moved.append((places - index - warp.margin)[::10, ::15])  # the nine nodes
    values = np.stack(moved)
    assert values.std() == pytest.approx(10, rel=0.03)
    assert abs(values.mean()) < 0.5
    assert abs(np.corrcoef(values.reshape(2, -1, 9)[0].T) - np.eye(9)).max() < 0.2
    down, right = values[::2].ravel(), values[1::2].ravel()
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.05


def test_no_displacement_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    warp = Warp.of((20, 30), 0.0, list(rng.random(DRAWS)))
    m = warp.margin
    image = rng.integers(0, 256, (20 + 2 * m, 30 + 2 * m, 3)).astype(np.uint8)
    np.testing.assert_array_equal(warp.photograph(image), image[m:-m, m:-m])
    np.testing.assert_array_equal(warp.labels(image[..., 0]), image[m:-m, m:-m, 0])


def run(sample: object, draws: list[float], **options: object) -> Example:
    config = DataConfig(**({"crop": (28, 30), "jitter": 0.0, "scale": (1.0, 1.0)} | options))  # type: ignore[arg-type]
    return transform(sample, config, draws, STAR, fill=(1, 2, 3), name="one")  # type: ignore[arg-type]


@settings(max_examples=60)
@given(draws=st.lists(UNIT, min_size=OF_SAMPLE, max_size=OF_SAMPLE), sigma=st.floats(0.1, 6), crop=SIZES)
def test_photograph_and_labels_move_together(draws: list[float], sigma: float, crop: tuple[int, int]) -> None:
    """Red tells the column and green the row, in fourths of a pixel; so do the instances."""
    place = np.arange(1, 60 * 62 + 1, dtype=np.int32).reshape(60, 62)
    y, x = np.indices(place.shape)
    pixels = np.stack([4 * x, 4 * y, 0 * x], -1).astype(np.uint8)
    sample = replace(drawn(np.zeros_like(place), place), pixels=pixels)
    example = run(sample, draws, elastic=sigma, crop=crop)
    found = example.instance.astype(np.int64) - 1
    rows, columns = found // 62, found % 62
    inner = (found >= 0) & (rows % 59 > 0) & (columns % 61 > 0)  # the color of padding comes no nearer
    for channel, index in ((0, columns), (1, rows)):
        told = example.image[..., channel][inner] / 4
        assert np.abs(told - index[inner]).max(initial=0) <= 0.5 + 0.25 / 2 + 0.01
    np.testing.assert_array_equal(example.category == 0, found >= 0)  # of padding there is no label,
    np.testing.assert_array_equal(example.ignore, found < 0)  # and no heatmap


@given(number=st.integers(0, 20), draws=st.lists(UNIT, min_size=OF_SAMPLE, max_size=OF_SAMPLE))
def test_ids_and_classes_are_those_of_the_image(number: int, draws: list[float]) -> None:
    sample = scene(number)
    example = run(sample, draws, elastic=8.0)
    assert set(np.unique(example.instance)) <= set(np.unique(sample.instance))
    assert set(np.unique(example.category)) <= {*np.unique(sample.category).tolist(), -1}
    assert ((example.instance > 0) == (example.category == 0)).all()  # disks are things and stay so
    again = run(sample, draws, elastic=8.0)
    np.testing.assert_array_equal(example.image, again.image)
    np.testing.assert_array_equal(example.instance, again.instance)


def test_the_draws_of_what_a_sample_had_before_stay_as_they_were() -> None:
    assert uniform(3, 5, 7, OF_SAMPLE)[:8] == uniform(3, 5, 7, 8)


def test_it_is_refused_beside_keypoints_that_it_cannot_move() -> None:
    assert Config().data.elastic == 0
    changes = map(assignment, ("data.elastic=10", "data.keypoints=whole"))
    with pytest.raises(ValueError, match=r"--set: data\.elastic: expected 0 beside data\.keypoints = 'whole'"):
        load(overrides=changes)
