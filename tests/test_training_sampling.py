"""Which image a slot of a step shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeperlab.training.sampling import CHANGES, ORDER, Plan, bits, deal, uniform

SHARES = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


@given(shares=SHARES, n=st.integers(0, 400))
def test_of_any_first_samples_every_source_has_its_share_to_less_than_one_for_each_source(
    shares: list[int], n: int
) -> None:
    count = Counter(deal(i, shares)[0] for i in range(n))
    for source, share in enumerate(shares):
        assert abs(count[source] - n * share / sum(shares)) < len(shares)


@given(shares=SHARES, rounds=st.integers(1, 3))
def test_shares_are_exact_after_every_round(shares: list[int], rounds: int) -> None:
    count = Counter(deal(i, shares)[0] for i in range(rounds * sum(shares)))
    assert [count[source] for source in range(len(shares))] == [rounds * share for share in shares]


@given(shares=SHARES, n=st.integers(1, 300))
def test_a_source_deals_its_images_without_gap(shares: list[int], n: int) -> None:
    dealt = [deal(i, shares) for i in range(n)]
    for source in range(len(shares)):
        assert [before for s, before in dealt if s == source] == list(range(sum(s == source for s, _ in dealt)))


def test_weights_are_ratios_that_are_taken_as_they_are_written() -> None:
    plan = Plan([10, 10, 10], [0.1, 0.2, 0.7], seed=0, batch=5)
    assert [str(share) for share in plan.shares] == ["1/10", "1/5", "7/10"]
    places = [plan.place(step, slot) for step in range(20) for slot in range(5)]
    assert Counter(p.source for p in places) == {0: 10, 1: 20, 2: 70}


def test_every_epoch_shows_every_image_once_each_time_in_another_order() -> None:
    plan = Plan([12], [1.0], seed=3, batch=4)
    epochs = []
    for epoch in range(4):
        places = [plan.place(step, slot) for step in range(3 * epoch, 3 * epoch + 3) for slot in range(4)]
        epochs.append([plan.image(place) for place in places])
        assert sorted(epochs[-1]) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_no_slot_is_always_of_one_source() -> None:
    plan = Plan([100, 100], [1.0, 1.0], seed=0, batch=2)
    assert {plan.place(step, 0).source for step in range(20)} == {0, 1}
    for step in range(20):
        assert {plan.place(step, slot).source for slot in range(2)} == {0, 1}


def test_places_are_functions_of_seed_step_and_slot() -> None:
    def places(plan: Plan, steps: list[int]) -> dict[tuple[int, int], int]:
        return {(t, s): plan.image(plan.place(t, s)) for t in steps for s in range(6)}

    forward = places(Plan([50], [1], seed=5, batch=6), list(range(30)))
    backward = places(Plan([50], [1], seed=5, batch=6), list(range(29, -1, -1)))
    assert forward == backward
    assert forward != places(Plan([50], [1], seed=6, batch=6), list(range(30)))


def test_the_image_after_one_is_the_next_of_the_epoch_and_after_the_last_the_first() -> None:
    plan = Plan([7], [1], seed=0, batch=1)
    places = [plan.place(step, 0) for step in range(7)]
    images = [plan.image(place) for place in places]
    assert [plan.image(place, 1) for place in places] == [*images[1:], images[0]]


def test_random_numbers_are_those_that_philox_has_always_given() -> None:
    assert bits(1, ORDER, 2, 3, count=2).tolist() == [14985604870765247672, 7803656794876774948]
    assert uniform(1, 2, 3, 2) == [value / 2**53 for value in (bits(1, CHANGES, 2, 3, count=2) >> 11).tolist()]


def test_random_numbers_of_neighbors_are_independent() -> None:
    values = np.array([uniform(0, step, slot, 8) for step in range(50) for slot in range(8)])
    assert ((values >= 0) & (values < 1)).all()
    assert np.abs(values.mean(0) - 0.5).max() < 0.06  # four standard deviations
    assert np.abs(np.corrcoef(values[:-1].T, values[1:].T) - np.eye(16)).max() < 0.2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"lengths": [3, 0]}, "sources: expected images in each, got none in number 1"),
        ({"weights": [0, 0]}, r"weights: expected at least one above 0, got \[0, 0\]"),
        ({"weights": [1, -1]}, "weights: expected at least 0, got -1"),
        ({"weights": [1, float("nan")]}, "weights: expected numbers, got nan"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Plan(**({"lengths": [3, 3], "weights": [1, 1], "seed": 0, "batch": 2} | arguments))
