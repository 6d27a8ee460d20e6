# SPDX-License-Identifier: Apache-2.0
"""Files without a list of segments: the two-channel PNG, and label maps of class · divisor + instance."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import deeperlab
from deeperlab.data.files import FormatError
from deeperlab.data.formats import label_map, segments, two_channel
from deeperlab.data.labels import LabelSet, preset
from deeperlab.data.sample import Entry, Sample, Samples, from_maps

COCO = preset("coco")
SMALL = LabelSet("small", ("road", "car", "person"), (False, True, True), ((0, 0, 0),) * 3, (7, 26, 24), (0,))


def drawn(seed: int, labels: LabelSet = SMALL, size: tuple[int, int] = (5, 7)) -> Sample:
    """A random sample."""
    rng = np.random.default_rng(seed)
    return from_maps(rng.integers(-1, len(labels), size), rng.integers(0, 5, size), labels)


def assert_equal(a: Sample, b: Sample) -> None:
    for field in ("category", "instance", "crowd", "categories"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
        assert getattr(a, field).dtype == getattr(b, field).dtype


@pytest.mark.parametrize("seed", range(5))
def test_two_channels_are_read_back(tmp_path: Path, seed: int) -> None:
    sample = drawn(seed)
    two_channel.write(tmp_path / "x.png", sample, SMALL)
    samples = pickle.loads(pickle.dumps(two_channel.samples(tmp_path, SMALL)))
    assert samples[0].image_id == "x"
    assert_equal(samples[0], sample)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_red_is_the_category_and_green_the_instance_from_zero(tmp_path: Path) -> None:
    sample = from_maps(np.array([[0, 1, 1, 1, 1, 2, -1]]), np.array([[9, 5, 8, 8, 0, 2, 3]]), SMALL)
    two_channel.write(tmp_path / "x.png", sample, SMALL)
    picture = np.asarray(Image.open(tmp_path / "x.png"))[0].tolist()
    assert picture == [[7, 0, 0], [26, 0, 0], [26, 1, 0], [26, 1, 0], [26, 255, 0], [24, 0, 0], [0, 0, 0]]


def test_the_samples_of_panopticapi_agree_in_both_forms(realdata: Path) -> None:
    folder = realdata / "panopticapi_sample"
    two = two_channel.samples(folder / "panoptic_examples_2ch_format", COCO, images=folder / "input_images")
    one = segments.samples(
        folder / "panoptic_examples.json", folder / "panoptic_examples", images=folder / "input_images", labels=COCO
    )
    assert len(two) == len(one) == 2
    for a, b in zip(two, one, strict=True):
        np.testing.assert_array_equal(a.category, b.category)
        np.testing.assert_array_equal(a.crowd, b.crowd)
        pairs = np.unique(np.stack([a.instance, b.instance]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1]))  # the same partition
        np.testing.assert_array_equal(a.image(), b.image())


def test_what_two_channels_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    wide = np.arange(1, 257)[None]
    for labels, category, words in (
        (SMALL, np.ones((1, 256), np.int32), "car: expected at most 255 instances, got 256"),
        (preset("voc"), np.zeros((1, 256), np.int32), "background: expected a category id of 1 to 255, got 0"),
        (LabelSet("x", ("a",), (True,), ((0, 0, 0),), (256,)), np.zeros((1, 256), np.int32), "to 255, got 256"),
    ):
        sample = from_maps(category, wide, labels)
        with pytest.raises(ValueError, match=words):
            two_channel.write(path, sample, labels)
    assert not path.exists()


def test_other_pictures_are_no_two_channels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (3, 2), (7, 0, 9)).save(path)
    with pytest.raises(FormatError, match="expected two channels, but blue goes up to 9"):
        two_channel.samples(tmp_path, SMALL)[0]
    Image.new("RGB", (3, 2), (8, 0, 0)).save(path)
    with pytest.raises(FormatError, match=r"x\.png: expected category ids of small, got 8"):
        two_channel.samples(tmp_path, SMALL)[0]
    Image.new("RGB", (3, 2)).save(path)
    everything_void = two_channel.samples(tmp_path, preset("vistas"))[0]  # which has no id 0
    assert (everything_void.category == -1).all()


@pytest.mark.parametrize("seed", range(3))
def test_label_maps_are_read_back(tmp_path: Path, seed: int) -> None:
    sample = drawn(seed)
    label_map.write(tmp_path / "x.npy", sample, SMALL, divisor=256)
    samples = label_map.samples(tmp_path, SMALL, divisor=256)
    assert_equal(pickle.loads(pickle.dumps(samples))[0], sample)
    assert np.load(tmp_path / "x.npy").dtype == np.int32


@given(st.integers(0, 1 << 30), st.integers(5, 1 << 31))
def test_encoding_is_undone_by_decoding(seed: int, divisor: int) -> None:
    sample = drawn(seed)
    values = label_map.encode(sample, SMALL, divisor=divisor)
    regions = label_map.decode(values, SMALL, divisor=divisor)
    assert_equal(Samples(SMALL, (Entry("x", None, Path("x"), lambda: regions),))[0], sample)


def test_void_is_negative_or_a_class_and_class_zero_instance_zero_is_zero() -> None:
    regions = label_map.decode(np.array([[0, 1, 256, 257, 65280, -1]]), SMALL, divisor=256)
    assert regions.category[regions.index].tolist() == [[0, 0, 1, 1, -1, -1]]
    assert regions.identity[regions.index][0, 2:4].tolist() == [-1, 0]
    sample = from_maps(np.array([[-1, 0]]), np.zeros((1, 2), int), SMALL)
    assert label_map.encode(sample, SMALL, divisor=256).tolist() == [[255 * 256, 0]]
    assert label_map.encode(sample, replace(SMALL, ignore=-1), divisor=256).tolist() == [[-1, 0]]


def test_a_fused_map_is_a_label_map(make_heads: Callable[..., deeperlab.Heads]) -> None:
    (image,) = deeperlab.fuse(make_heads(0, classes=3), (1, 2))
    regions = label_map.decode(image.to_ids(1000), SMALL, divisor=1000)
    np.testing.assert_array_equal(regions.category[regions.index], image.semantic)
    np.testing.assert_array_equal(regions.identity[regions.index] + 1, image.instance)


def test_label_maps_that_cannot_be_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"

    def error() -> str:
        with pytest.raises(FormatError) as fault:
            label_map.samples(tmp_path, SMALL, divisor=256)[0]
        return str(fault.value).removeprefix(f"{path}: ")

    np.save(path, np.zeros((2, 3)))
    assert error() == "expected integers [H, W], got float64 of shape (2, 3)"
    np.save(path, np.zeros((2, 3, 4), int))
    assert error() == "expected integers [H, W], got int64 of shape (2, 3, 4)"
    np.save(path, np.full((2, 3), 3 * 256))
    assert error() == "expected classes 0 to 2 or 255 of small, got 3"
    np.save(path, np.full((2, 3), np.iinfo(np.uint64).max))
    assert "below 2^62" in error()
    np.save(path, np.array([[{}]]), allow_pickle=True)
    assert error() == "expected integers [H, W], got object of shape (1, 1)"
    np.save(path, np.zeros((2, 3), int))
    whole = path.read_bytes()
    for length in (0, 5, 60, 127, 128, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert error().startswith("not a whole NumPy array")
    path.write_bytes(whole.replace(b"(2, 3)", b"(999999999, 999999999)"[:6].ljust(6)))
    assert error().startswith("not a whole NumPy array")
    np.lib.format.open_memmap(path, "w+", np.int8, (100_000, 1_000)).flush()
    assert error().startswith("too many pixels: 1000 × 100000, the most is 89478485; --max-pixels")


@pytest.mark.parametrize("name", ["divisor", "first"])
def test_arguments_out_of_bounds_are_named(tmp_path: Path, name: str) -> None:
    good = {"divisor": 256, "first": 1}
    for value in (-1, 1 << 40, True, 0.5):
        with pytest.raises(ValueError, match=f"{name}: expected an integer"):
            label_map.samples(tmp_path, SMALL, **(good | {name: value}))  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=r"no file \*\.npy"):
        label_map.samples(tmp_path, SMALL, divisor=256)
    with pytest.raises(ValueError, match="divisor: expected more than the 4 instances of car"):
        label_map.encode(_four_cars(), SMALL, divisor=4)


def _four_cars() -> Sample:
    return from_maps(np.ones((1, 4), int), np.arange(1, 5)[None], SMALL)
