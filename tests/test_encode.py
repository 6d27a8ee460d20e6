# SPDX-License-Identifier: Apache-2.0
"""`targets.encode` of batches, tensors, ignored pixels and objects that a crop has cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import STAR
from deeperlab.targets import Targets, encode, reference
from deeperlab.targets.target_maps import MAPS


def boxes(seed: int, shape: tuple[int, int], count: int) -> np.ndarray:
    """Overlapping boxes with ids 1, 4, 7, …."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int32)
    for i in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        image[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = 3 * i + 1
    return image


def assert_image(got: Targets, n: int, want: Targets) -> None:
    """Image n of a batch is what it is alone."""
    for name in MAPS:
        np.testing.assert_array_equal(np.asarray(getattr(got, name)[n]), getattr(want, name), name, strict=True)
    count = want.ids.size
    np.testing.assert_array_equal(np.asarray(got.ids[n, :count]), want.ids, strict=True)
    np.testing.assert_array_equal(np.asarray(got.keypoints[n, :count]), want.keypoints, strict=True)
    assert not got.ids[n, count:].any()
    assert not got.keypoints[n, count:].any()


@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_a_batch_is_each_of_its_images_alone(face: str) -> None:
    maps = np.stack([boxes(seed, (41, 53), count) for seed, count in ((0, 5), (1, 0), (2, 19))])
    ignore = np.random.default_rng(0).random(maps.shape) < 0.3
    ids = np.zeros((3, 2), np.int64)
    ids[2] = 4, 16
    points = np.random.default_rng(1).integers(-60, 90, (3, 2, 5, 2))
    given: Any = (maps, ignore, ids, points)
    if face == "tensors":
        given = tuple(torch.from_numpy(value) for value in given)
    got = encode(given[0], ignore=given[1], points=given[2:], radius=7, stride=3)
    assert isinstance(got.heatmap, torch.Tensor if face == "tensors" else np.ndarray)
    for n in range(3):
        rows = ids[n], points[n]
        assert_image(got, n, reference.encode(maps[n], ignore[n], rows, radius=7, stride=3, graph=STAR))


def test_a_cut_object_has_the_keypoints_that_are_given() -> None:
    whole = np.zeros((60, 60), np.int32)
    whole[5:40, 8:50], whole[45:58, 30:55] = 7, 9
    crop = whole[:30, 20:]
    cut = encode(crop, radius=4)
    assert cut.keypoints[0].tolist() == [[0, 5], [29, 5], [29, 29], [0, 29], [15, 17]]
    full = encode(whole, radius=4)
    shifted = full.keypoints.astype(np.int64) - [20, 0]
    got = encode(crop, points=(full.ids, shifted), radius=4)
    assert got.ids.tolist() == [7]  # 9 is not in the crop
    for name in ("short_range", "middle_range", "long_range", "heatmap", "long_valid"):
        own = getattr(full, name)[:, :30, 20:].copy()
        np.testing.assert_array_equal(getattr(got, name), own, err_msg=name)


def test_ignored_pixels_do_not_train_the_heatmap_alone() -> None:
    image = boxes(3, (20, 30), 4)
    ignore = np.zeros(image.shape, bool)
    ignore[4, 8] = ignore[5, 9] = True
    got, plain = encode(image, ignore=ignore, stride=4), encode(image, stride=4)
    assert np.argwhere(~got.heatmap_valid).tolist() == [[0, 1, 2]]
    assert plain.heatmap_valid.all()
    for name in MAPS:
        if name != "heatmap_valid":
            np.testing.assert_array_equal(getattr(got, name), getattr(plain, name))


IMAGE = np.ones((2, 4, 6), np.int32)
NO_POINTS = np.zeros((2, 1, 5, 2), np.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ignore": IMAGE}, TypeError, "ignore: expected dtype bool, got int32"),
        ({"ignore": IMAGE[0] > 0}, ValueError, r"ignore: expected the shape of instance, \(2, 4, 6\), got \(4, 6\)"),
        ({"points": 3}, TypeError, "points: expected a pair of ids and positions, got int"),
        ({"points": (np.ones(2, int), NO_POINTS)}, ValueError,
         r"points\[0\]: expected ids \[2, 'K'\], got shape \(2,\)"),
        ({"points": (np.ones((2, 2), int), NO_POINTS)}, ValueError,
         r"points\[1\]: expected shape \(2, 2, 5, 2\), got \(2, 1, 5, 2\)"),
        ({"points": (np.ones((2, 1)), NO_POINTS)}, TypeError,
         r"points\[0\]: expected an integer array, got dtype float64"),
        ({"points": (np.ones((2, 1), int), NO_POINTS * 0.5)}, TypeError, r"points\[1\]: expected an integer array"),
        ({"points": (-np.ones((2, 1), int), NO_POINTS)}, ValueError, r"points\[0\]: expected ids >= 0, got -1"),
        ({"points": (np.ones((2, 1), int), NO_POINTS - 2**24 - 1)}, ValueError,
         r"points\[1\]: expected positions within ±2\^24 px, got -?16777217"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_what_does_not_fit_is_named(face: str, arguments: Any, error: type[Exception], message: str) -> None:
    def as_face(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(as_face, value))
        return torch.from_numpy(value) if face == "tensors" and isinstance(value, np.ndarray) else value

    with pytest.raises(error, match=message):
        encode(as_face(IMAGE), **{name: as_face(value) for name, value in arguments.items()})
