# SPDX-License-Identifier: Apache-2.0
"""DeconvNet's samples: around one object, or around a proposal of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from annotated import CATEGORIES, disks, drawn, scene
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deeperlab.data import labels as label_sets
from deeperlab.data.sample import Sample
from deeperlab.graph import NO_KEYPOINTS, STAR
from deeperlab.models import of_proposals
from deeperlab.training.batches import SOME_STUFF, VOID
from deeperlab.training.boxes import DRAWS, iou, proposal, window_of
from deeperlab.training.config import Config, DataConfig, TrainConfig
from deeperlab.training.slots import Slots
from deeperlab.training.sources import Source, Sources
from deeperlab.training.transform import DRAWS as OF_SAMPLE
from deeperlab.training.transform import Example, transform

UNIT = st.floats(0, 1, exclude_max=True)
SIDES = st.lists(st.floats(0, 50), min_size=2, max_size=2, unique=True).map(sorted)


def run(sample: Sample, draws: list[float], **options: object) -> Example:
    config = DataConfig(**({"crop": 48, "jitter": 0.0, "scale": (1.0, 1.0), "sampling": "objects"} | options))  # type: ignore[arg-type]
    return transform(sample, config, draws, STAR, fill=(1, 2, 3), name="one")


def draws_of(chosen: float, flip: float = 0.9, place: float = 0.5) -> list[float]:
    return [flip, 0.0, place, place, *[0.5] * (OF_SAMPLE - 4 - DRAWS), chosen, *[0.5] * (DRAWS - 1)]


@given(rows=SIDES, columns=SIDES, draws=st.lists(UNIT, min_size=4, max_size=4))
def test_a_proposal_overlaps_its_object_by_half(rows: list[float], columns: list[float], draws: list[float]) -> None:
    box = (rows[0], columns[0], rows[1], columns[1])
    assume(min(rows[1] - rows[0], columns[1] - columns[0]) > 1e-3)
    found = proposal(box, draws)
    shared = [max(0.0, min(box[2 + i], found[2 + i]) - max(box[i], found[i])) for i in (0, 1)]
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, found))
    assert shared[0] * shared[1] / (areas - shared[0] * shared[1]) >= 0.5 - 1e-9
    assert iou(box, found) == iou(found, box)
    assert box[0] <= (found[0] + found[2]) / 2 <= box[2]  # so that the window shows it


def test_proposals_differ_and_the_middle_draws_are_the_box_itself() -> None:
    rng = np.random.default_rng(0)
    overlaps = [iou((0, 0, 10, 20), proposal((0, 0, 10, 20), list(rng.random(4)))) for _ in range(300)]
    assert min(overlaps) < 0.55
    assert max(overlaps) > 0.75
    assert proposal((0, 0, 10, 20), [0.5] * 4) == (0, 0, 10, 20)


def test_a_window_is_a_square_around_an_object_and_each_is_as_likely() -> None:
    instance = np.zeros((40, 60), np.int32)
    instance[3:13, 10:30] = 4  # 10 × 20
    instance[20:36, 50:54] = 9  # 16 × 4
    first, second = (window_of(instance, [u, *[0.5] * 4], proposed=False) for u in (0.49, 0.51))
    assert first is not None
    assert second is not None
    assert (first.instance, first.y, first.x, first.side) == (4, 8, 20, pytest.approx(24))
    assert (second.instance, second.y, second.x, second.side) == (9, 28, 52, pytest.approx(19.2))
    assert window_of(instance * 0, [0.5] * 5, proposed=False) is None


class Seen:
    """Stands for a network, and keeps the squares that it is shown."""

    graph, stride, in_channels, num_classes = NO_KEYPOINTS, 1, 2, 2

    def raw(self, squares: torch.Tensor) -> tuple[torch.Tensor]:
        self.squares = squares
        return (squares,)


def test_inference_shows_the_square_of_a_box_that_training_does() -> None:
    instance = np.zeros((90, 120), np.int32)
    instance[33:47, 40:63] = 1
    window = window_of(instance, [0.5] * DRAWS, proposed=False)
    assert window is not None
    image = torch.stack(torch.meshgrid(torch.arange(90.0), torch.arange(120.0), indexing="ij")) + 0.5
    network, size = Seen(), 16
    of_proposals(network, image, torch.tensor([[40.0, 33.0, 63.0, 47.0]]), size=size)  # type: ignore[arg-type]
    for rows, center in ((network.squares[0, 0, :, 0], window.y), (network.squares[0, 1, 0], window.x)):
        expected = center + window.side * ((torch.arange(size) + 0.5) / size - 0.5)
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("flip", [0.9, 0.1])
def test_the_object_is_in_the_middle_as_large_as_the_sample_over_a_window_s_margin(flip: float) -> None:
    sample = disks((200, 300), [(60, 50, 20), (220, 120, 40), (150, 20, 10)])
    for chosen, number in ((0.1, 1), (0.5, 2), (0.9, 3)):
        example = run(sample, draws_of(chosen, flip))
        rows, columns = (example.instance == number).nonzero()
        for index in (rows, columns):
            assert abs(index.mean() - 23.5) <= 0.6
            assert np.ptp(index) + 1 == pytest.approx(48 / 1.2, abs=1.5)


def test_other_objects_are_some_stuff_around_an_object_but_not_around_a_proposal() -> None:
    category, instance = np.ones((60, 60), np.int32), np.zeros((60, 60), np.int32)
    instance[20:40, 20:40], instance[20:40, 40:60] = 1, 2
    category[instance > 0] = 0
    category[10:15, 20:40] = VOID
    category[45:50, 20:40] = 0  # things that nobody told apart: crowd
    sample = drawn(category, instance)
    assert sample.crowd[46, 30]
    example = run(sample, draws_of(0.2), crop=24)  # the window is 24 px, from (18, 18)
    one = np.full((24, 24), 1)
    one[2:22, 2:22], one[2:22, 22:] = 0, SOME_STUFF
    np.testing.assert_array_equal(example.category, one)
    np.testing.assert_array_equal(example.instance, np.where(one == 0, 1, 0))
    large = run(sample, draws_of(0.2), crop=96, scale=(0.25, 0.25))  # 6 px of 24: all of the image, and padding
    assert set(np.unique(large.category)) == {VOID, SOME_STUFF, 0, 1}
    assert (large.category[large.ignore] != 0).all()
    proposed = run(sample, draws_of(0.2), crop=24, sampling="proposals")
    np.testing.assert_array_equal(proposed.category, np.where(one == SOME_STUFF, 0, one))
    np.testing.assert_array_equal(np.unique(proposed.instance), [0, 1, 2])


@settings(max_examples=150)
@given(
    number=st.integers(0, 20),
    draws=st.lists(UNIT, min_size=OF_SAMPLE, max_size=OF_SAMPLE),
    sampling=st.sampled_from(["objects", "proposals"]),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (1.116, 1.116), (3.0, 9.0)]),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    elastic=st.sampled_from([0.0, 4.0]),
)
def test_there_is_always_a_part_of_the_image(
    number: int,
    draws: list[float],
    sampling: str,
    scale: tuple[float, float],
    crop: tuple[int, int],
    elastic: float,
) -> None:
    example = run(scene(number), draws, sampling=sampling, scale=scale, crop=crop, elastic=elastic)
    assert example.image.shape == (*crop, 3)
    assert (example.category != VOID).any()
    assert set(np.unique(example.category)) <= {VOID, SOME_STUFF, 0, 1}


def test_a_larger_scale_shows_a_part_of_the_window_at_random() -> None:
    sample = disks((200, 300), [(150, 100, 40)])
    low, high = (run(sample, draws_of(0.5, place=place), scale=(1.1, 1.1)) for place in (0.0, 0.999))
    rows = [(each.instance == 1).nonzero()[0] for each in (low, high)]
    assert rows[0].mean() - rows[1].mean() == pytest.approx(4.8, abs=1)  # a tenth of 48 px


def test_an_image_without_objects_is_cut_anywhere() -> None:
    sample = drawn(np.ones((60, 80), np.int32), np.zeros((60, 80), np.int32))
    draws = list(np.random.default_rng(0).random(OF_SAMPLE))
    example, plain = (run(sample, draws, sampling=each) for each in ("objects", "image"))
    np.testing.assert_array_equal(example.image, plain.image)
    np.testing.assert_array_equal(example.category, plain.category)


def test_objects_are_cut_out_where_there_is_stuff_for_the_rest() -> None:
    config = Config(data=DataConfig(sampling="objects"), train=TrainConfig(batch=1))
    for categories, fits in ((CATEGORIES, True), (CATEGORIES[:1], False)):
        labels = label_sets.from_categories("shapes", categories)
        sources = Sources(labels, (Source("one", [scene(0)]),), None)
        if fits:
            assert (Slots(sources, config, STAR, (0.5,) * 3, 0).sample(0, 0)[0].category == SOME_STUFF).sum() >= 0
        else:
            with pytest.raises(ValueError, match=r"data\.sampling: expected classes of stuff beside 'objects'"):
                Slots(sources, config, STAR, (0.5,) * 3, 0)
