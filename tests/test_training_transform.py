"""What happens to a sample: everything goes through one geometry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from annotated import DISK, GROUND, LABELS, disks, drawn, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeperlab.data.sample import Sample
from deeperlab.graph import RECTANGLE, STAR
from deeperlab.predictor.resize import scaled
from deeperlab.targets import keypoints
from deeperlab.training.batches import SOME_STUFF, VOID
from deeperlab.training.config import DataConfig
from deeperlab.training.transform import Axis, Colors, Example, resize, transform

FILL = (1, 2, 3)
UNIT = st.floats(0, 1, exclude_max=True)
DRAWS = st.lists(UNIT, min_size=8, max_size=8)
SIDE = st.integers(1, 64)


def ramp(height: int, width: int) -> Sample:
    """Red tells the column and green the row, in fourths of a pixel; so do the instances."""
    instance = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
    y, x = np.indices(instance.shape)
    pixels = np.stack([4 * x, 4 * y, 0 * x], -1).astype(np.uint8)
    return replace(drawn(np.zeros_like(instance), instance), pixels=pixels)


def run(sample: Sample, draws: list[float] | None = None, **options: Any) -> Example:
    config = DataConfig(**({"crop": (48, 56), "jitter": 0.0, "flip": 0.0} | options))
    return transform(sample, config, draws or [0.5] * 8, STAR, fill=FILL)


@settings(max_examples=200)
@given(height=SIDE, width=SIDE, crop=st.tuples(SIDE, SIDE), draws=DRAWS, longest=st.sampled_from([0, 40]))
def test_photograph_and_maps_stay_aligned_to_half_a_pixel(
    height: int, width: int, crop: tuple[int, int], draws: list[float], longest: int
) -> None:
    example = run(ramp(height, width), draws, crop=crop, flip=0.5, longest_side=longest)
    place = example.instance.astype(np.int64) - 1
    seen = place >= 0
    assert seen.any()
    assert not example.image[~seen].any(-1).all() or (example.image[~seen] == FILL).all()
    factor = (longest / max(height, width) if longest else 1) * 0.5 * 4 ** draws[1]
    for channel, size, index in ((0, width, place % width), (1, height, place // width)):
        # At its ends the filter sees the image on one side only; within them it keeps a ramp.
        reach = max(1.0, size / max(1, round(size * factor)))
        inner = seen & (index >= reach) & (index < size - 1 - reach)
        told = example.image[..., channel][inner] / 4
        assert np.abs(told - index[inner]).max(initial=0) <= 0.5 + 0.25 / 2 + 0.01


@given(height=SIDE, width=SIDE, crop=st.tuples(SIDE, SIDE), draws=DRAWS)
def test_what_is_resized_is_what_would_be_cut_from_the_whole(
    height: int, width: int, crop: tuple[int, int], draws: list[float]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    axes = []
    for size, side, factor, offset in zip((height, width), crop, draws[:2], draws[2:4], strict=True):
        new = max(1, round(size * 0.5 * 4**factor))
        axes.append(Axis(size, new, side, round((new - side) * offset)))
    y, x = axes
    whole = np.asarray(Image.fromarray(noise).resize((x.scaled, y.scaled), Image.Resampling.BILINEAR)).astype(int)
    rows, columns = (slice(a.shown.start + a.offset, a.shown.stop + a.offset) for a in axes)
    error = np.abs(np.asarray(resize(noise, y, x)) - whole[rows, columns])
    assert error.max() <= 2  # of noise, whose neighbors differ by 85 on average
    assert error.mean() <= (0.5 if error.size > 100 else 1)  # of a pixel or two a mean says little


@pytest.mark.parametrize("longest", [0, 57, 200])
def test_the_network_sees_in_training_what_parser_shows_it(longest: int) -> None:
    sample = scene(3, (90, 120))
    example = run(sample, crop=(200, 200), scale=(1.0, 1.0), longest_side=longest, draws=[0.5, 0.3, 0, 0, 0, 0, 0, 0])
    h, w = (round(side * longest / 120) for side in (90, 120)) if longest else (90, 120)
    seen = torch.empty((h, w, 3))
    scaled(torch.from_numpy(sample.image()), (h, w), torch.zeros(3), torch.ones(3), seen)
    assert np.abs(example.image[:h, :w] - seen.numpy()).max() <= 1
    assert (example.image[h:] == FILL).all()
    assert (example.image[:, w:] == FILL).all()


@given(draws=DRAWS, number=st.integers(0, 20), whole=st.booleans())
def test_a_mirrored_sample_is_the_sample_of_the_mirrored_image(draws: list[float], number: int, whole: bool) -> None:
    sample = scene(number)
    mirrored = drawn(sample.category[:, ::-1], sample.instance[:, ::-1])
    options = {"jitter": 0.4, "keypoints": "whole" if whole else "visible"}
    one, other = run(sample, draws, flip=1.0, **options), run(mirrored, draws, flip=0.0, **options)
    for name in ("image", "category", "instance", "ignore", "point_ids", "points"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_at_scale_1_a_sample_is_a_window_of_the_image() -> None:
    sample = scene(1)
    example = run(sample, [0.9, 0.3, 0.5, 0.25, 0, 0, 0, 0], crop=(31, 41), scale=(1.0, 1.0))
    window = slice(15, 46), slice(10, 51)  # of 30 and 40 px of room
    np.testing.assert_array_equal(example.image, sample.image()[window])
    np.testing.assert_array_equal(example.category, sample.category[window])
    np.testing.assert_array_equal(example.instance, sample.instance[window])
    assert not example.ignore.any()


def test_padding_lies_at_random_sides_and_has_neither_label_nor_heatmap() -> None:
    corners = set()
    for top in (0, 0.999):
        for left in (0, 0.999):
            example = run(scene(1), [0.9, 0.3, top, left, 0, 0, 0, 0], crop=(70, 100), scale=(1.0, 1.0))
            shown = example.category != VOID
            y, x = np.nonzero(shown)
            corners.add((y.min(), x.min()))
            assert shown.sum() == 60 * 80
            assert (example.image[~shown] == FILL).all()
            assert not example.instance[~shown].any()
            np.testing.assert_array_equal(example.ignore, ~shown)
    assert corners == {(0, 0), (0, 20), (10, 0), (10, 20)}


def test_every_place_of_a_window_is_as_likely_as_any_other() -> None:
    starts = [
        run(ramp(4, 4), [0.9, 0, u, 0, 0, 0, 0, 0], crop=2, scale=(1.0, 1.0)).instance[0, 0]
        for u in np.linspace(0, 0.9999, 300)
    ]
    assert [starts.count(first) for first in (1, 5, 9)] == [100, 100, 100]


def test_random_scales_are_uniform_in_their_logarithm() -> None:
    sides = []
    for u in (0, 0.25, 0.5, 0.75):
        example = run(scene(1, (40, 40)), [0.9, u, 0, 0, 0, 0, 0, 0], crop=200)
        sides.append(int((example.category != VOID).any(0).sum()))
    assert sides == [20, 28, 40, 57]


def test_crowd_void_and_some_stuff_are_told_apart() -> None:
    sample = scene(1, (40, 40))
    sample.category[:10] = -1
    sample.instance[:10] = 0
    sample.instance[10:20][sample.category[10:20] == 0] = 0
    sample.crowd[10:20][sample.category[10:20] == 0] = True
    stuff = sample.category == 1
    sample.category[30:][stuff[30:]] = -1
    sample = replace(sample, some_stuff=stuff & (np.arange(40) >= 30)[:, None])
    options: dict[str, Any] = {"crop": 40, "scale": (1.0, 1.0)}
    example = run(sample, **options)
    assert (example.category[:10] == VOID).all()
    assert (example.category[30:][stuff[30:]] == SOME_STUFF).all()
    assert sample.crowd.any()
    np.testing.assert_array_equal(example.ignore, sample.crowd)
    void = run(sample, void="ignore", **options)
    np.testing.assert_array_equal(void.ignore, sample.crowd | (example.category == VOID))


def test_instances_keep_their_numbers_and_vanish_with_their_last_pixel() -> None:
    sample = disks((60, 80), [(10, 10, 8), (60, 40, 9), (70, 10, 5)])
    example = run(sample, [0.9, 0.3, 0, 0.999, 0, 0, 0, 0], crop=(60, 40), scale=(1.0, 1.0))
    assert set(np.unique(example.instance)) == {0, 2, 3}


@given(draws=DRAWS, number=st.integers(0, 20))
def test_keypoints_of_whole_objects_go_where_their_pixels_go(draws: list[float], number: int) -> None:
    sample = scene(number)
    example = run(sample, draws, crop=(30, 40), keypoints="whole", flip=0.5)
    large = run(sample, [draws[0], draws[1], 0, 0, *draws[4:]], crop=(200, 200), keypoints="whole", flip=0.5)
    assert example.point_ids is not None
    assert large.points is not None
    assert set(example.point_ids.tolist()) == set(np.unique(example.instance).tolist()) - {0}
    factor = 0.5 * 4 ** draws[1]
    height, width = (max(1, round(side * factor)) for side in (60, 80))
    top, left = (
        int(u * (side - size + 1)) if side >= size else -int(u * (size - side + 1))
        for u, side, size in zip(draws[2:4], (height, width), (30, 40), strict=True)
    )
    kept = np.isin(large.point_ids, example.point_ids)
    np.testing.assert_array_equal(example.points, large.points[kept] - (left, top))


@pytest.mark.parametrize("factor", [0.5, 0.73, 1.0, 1.9])
def test_keypoints_of_whole_objects_are_those_of_the_scaled_map(factor: float) -> None:
    sample = disks((200, 300), [(80, 70, 31), (210, 110, 44)])
    config = DataConfig(crop=600, scale=(factor, factor), flip=0, jitter=0, keypoints="whole")
    example = transform(sample, config, [0.5, 0, 0, 0, 0, 0, 0, 0], RECTANGLE, fill=FILL)
    ids, points = keypoints(example.instance, RECTANGLE)
    np.testing.assert_array_equal(ids, example.point_ids)
    assert np.abs(points - example.points).max() <= max(1, factor)


def test_colors_that_are_not_to_change_do_not() -> None:
    example = run(disks((60, 80), [(40, 30, 20)]), crop=(60, 80), scale=(1.0, 1.0))
    assert set(map(tuple, example.image.reshape(-1, 3).tolist())) == {GROUND, DISK}


@given(colors=st.builds(Colors, *(st.floats(0.5, 1.5),) * 3, st.floats(-0.5, 0.5)))
def test_colors_are_changed_one_after_the_other_but_rounded_and_clipped_once(colors: Colors) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    x = colors.brightness * image.astype(float)
    x = colors.contrast * x + (1 - colors.contrast) * x.mean()
    gray = x.mean(-1, keepdims=True)
    x = colors.saturation * (x - gray)
    axis = np.ones(3) / np.sqrt(3)
    angle = 2 * np.pi * colors.hue
    x = gray + x * np.cos(angle) + np.cross(axis, x) * np.sin(angle)
    assert np.abs(np.asarray(colors.apply(Image.fromarray(image))) - np.clip(x, 0, 255)).max() <= 0.51


def test_a_third_of_a_turn_of_the_hue_makes_red_green() -> None:
    image = Image.fromarray(np.full((1, 1, 3), (200, 20, 10), np.uint8))
    assert np.asarray(Colors(hue=1 / 3).apply(image)).tolist() == [[[10, 200, 20]]]


def test_jitter_reaches_its_strength_and_the_hue_a_quarter_of_it() -> None:
    assert Colors.of([0, 0, 0, 0], 0.4) == Colors(0.6, 0.6, 0.6, -0.1)
    high = Colors.of([1, 1, 1, 1], 0.4)
    assert high == Colors(1.4, 1.4, 1.4, 0.1)
    assert Colors.of([0.5] * 4, 0.4) == Colors()


def test_padding_keeps_its_color_and_takes_no_part_in_the_contrast() -> None:
    sample = disks((20, 20), [(10, 10, 5)])
    config = DataConfig(crop=40, scale=(1.0, 1.0), flip=0, jitter=0.4)
    small = transform(sample, config, [0.5, 0, 0, 0, 0.1, 0.9, 0.3, 0.6], STAR, fill=FILL)
    exact = transform(sample, replace(config, crop=20), [0.5, 0, 0, 0, 0.1, 0.9, 0.3, 0.6], STAR, fill=FILL)
    np.testing.assert_array_equal(small.image[:20, :20], exact.image)
    assert (small.image[20:] == FILL).all()


def test_the_annotation_and_its_photograph_stay_as_they_are() -> None:
    sample = scene(2)
    before = [values.copy() for values in (sample.category, sample.instance, sample.crowd)]
    run(sample, [0.1] * 8, flip=1.0, jitter=0.4, keypoints="whole", void="ignore")
    for old, new in zip(before, (sample.category, sample.instance, sample.crowd), strict=True):
        np.testing.assert_array_equal(old, new)
    assert LABELS.things == (0,)
