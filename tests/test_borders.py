# SPDX-License-Identifier: Apache-2.0
"""U-Net's weights of pixels, beside distances from every pixel to every other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from deeperlab.data import labels as label_sets
from deeperlab.training import losses
from deeperlab.training.batches import SOME_STUFF, VOID, Batch
from deeperlab.training.borders import border_weight, class_weight, distances
from deeperlab.training.config import Config, LossConfig
from deeperlab.training.step import Step

SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))
IDS = st.sampled_from([0, 0, 0, 1, 2, 7, 2**31 - 1])
MAPS = arrays.arrays(np.int32, SIDES, elements=IDS)


def all_distances(instance: NDArray[np.int32]) -> NDArray[np.float64]:
    """The distances to the nearest two instances, [2, H, W], by looking at every pair of pixels."""
    places = np.argwhere(instance >= 0).reshape(*instance.shape, 2)
    found = [np.full(instance.shape, np.inf)] * 2
    for number in set(instance.flat) - {0}:
        gone = places[:, :, None] - np.argwhere(instance == number)
        found.append(np.sqrt((gone.astype(float) ** 2).sum(-1)).min(-1))
    return np.sort(np.stack(found), 0)[:2]


@settings(max_examples=300)
@given(instance=MAPS, reach=st.integers(0, 14))
@example(instance=np.array([[5], [0], [5], [0], [9]], np.int32), reach=9)
@example(instance=np.array([[1, 0, 2, 0, 1, 0, 0, 3]], np.int32), reach=9)
def test_the_nearest_two_instances_are_as_far_as_all_pairs_of_pixels_say(
    instance: NDArray[np.int32], reach: int
) -> None:
    expected = all_distances(instance)
    expected[expected > reach] = np.inf
    found = distances(torch.from_numpy(instance), reach)
    np.testing.assert_array_equal(torch.stack(found), expected.astype(np.float32))


@settings(max_examples=100)
@given(instances=st.integers(1, 3), data=st.data(), weight=st.sampled_from([1e-9, 0.5, 10.0]), sigma=st.floats(0.5, 8))
def test_the_weight_of_a_border_is_that_of_the_paper(
    instances: int, data: st.DataObject, weight: float, sigma: float
) -> None:
    shape = data.draw(SIDES)
    batch = data.draw(arrays.arrays(np.int32, (instances, *shape), elements=IDS))
    found = border_weight(torch.from_numpy(batch), weight=weight, sigma=sigma)
    assert found.dtype == torch.float32
    for instance, weights in zip(batch, found.numpy(), strict=True):
        near, second = all_distances(instance)
        expected = weight * np.exp(-((near + second) ** 2) / (2 * sigma**2))
        assert np.abs(weights - expected).max() <= 1e-5 * weight + 2.0**-23


def test_an_instance_between_two_whole_pixels_is_still_in_reach() -> None:
    instance = torch.tensor([[[1, 2, 2], [2, 2, 2]]], dtype=torch.int32)
    found = border_weight(instance, weight=0.5, sigma=0.5)
    assert found[0, 1, 2].item() == pytest.approx(0.5 * np.exp(-5 / 0.5), rel=1e-5)  # the second is √5 px away


def test_the_border_of_touching_instances_weighs_most_and_lone_ones_have_none() -> None:
    instance = torch.zeros(2, 40, 120, dtype=torch.int32)
    instance[:, 10:30, 10:30] = 1
    instance[0, 10:30, 30:50] = 2  # touches the first
    instance[0, 10:30, 54:74] = 3  # four pixels further on
    weight = border_weight(instance)
    assert weight[0, 20, 29].item() == weight[0, 20, 30].item() == pytest.approx(10 * np.exp(-1 / 50))
    assert weight[0, 20, 51].item() == pytest.approx(10 * np.exp(-(5**2) / 50))  # 2 px and 3 px away
    assert weight.argmax() in torch.stack([instance[0].flatten() == i for i in (1, 2)]).any(0).nonzero()
    assert not weight[1].any()
    assert not weight[0, :, 110:].any()


@given(
    labels=arrays.arrays(np.int32, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
                         elements=st.sampled_from([VOID, SOME_STUFF, 0, 1, 5])),
    power=st.floats(0, 1),
)  # fmt: skip
def test_a_class_weighs_by_its_inverse_frequency_and_void_nothing(labels: NDArray[np.int32], power: float) -> None:
    found = class_weight(torch.from_numpy(labels), power=power).numpy()
    assert found.dtype == np.float32
    for image, weights in zip(labels, found, strict=True):
        counts = Counter(image[image != VOID].tolist())
        assert not weights[image == VOID].any()
        if not counts:
            continue
        total = sum(n * n**-power for n in counts.values())
        for label, n in counts.items():
            expected = n**-power * counts.total() / total
            np.testing.assert_allclose(weights[image == label], expected, rtol=1e-6)
        assert weights[image != VOID].mean() == pytest.approx(1, rel=1e-5)


def test_a_step_weighs_by_size_class_and_border() -> None:
    category = torch.zeros(1, 24, 24, dtype=torch.int32)
    category[0, 4:12, 4:20] = 1
    category[0, 20:] = VOID
    instance = torch.where(category == 1, torch.arange(24, dtype=torch.int32) // 12 + 1, 0).int()
    ignore = torch.zeros(1, 24, 24, dtype=torch.bool)
    batch = Batch(torch.zeros(1, 3, 24, 24, dtype=torch.uint8), category, instance, ignore, None, None, ("one",))
    labels = label_sets.preset("cityscapes")
    options = LossConfig(small_area=65, small_weight=2.0)

    def weight(**changed: float) -> torch.Tensor:
        config = Config(loss=replace(options, **changed))
        return Step(config, labels, torch.device("cpu")).pixel_weight(batch)

    small = losses.instance_weight(instance, area=65, weight=2.0)
    assert torch.equal(weight(), small)
    both = weight(class_balance=0.5, border_weight=10.0, border_sigma=3.0)
    border = border_weight(instance, weight=10.0, sigma=3.0)
    torch.testing.assert_close(both, small * class_weight(category, power=0.5) + border)
