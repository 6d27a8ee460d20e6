# SPDX-License-Identifier: Apache-2.0
"""The view of an evaluation and that of a confusion matrix: what stands where, in which color."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeperlab.metrics import ConfusionMatrix
from deeperlab.visualize import comparison, confusion

CATEGORIES = {1: True, 2: True, 3: False}
NAMES = {1: "cat", 2: "dog", 3: "grass"}
SIDE = 400


def segment(id: int, category: int) -> dict[str, int]:
    return {"id": id, "category_id": category}


def scene() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Prediction and truth: a cat that is found, a cat taken for a dog, one missed, and a dog out of nowhere."""
    true, found = np.full((SIDE, SIDE), 9), np.full((SIDE, SIDE), 9)
    true[20:120, 20:120], found[22:120, 20:120] = 1, 4
    true[20:120, 200:300], found[20:118, 200:300] = 2, 5
    true[200:300, 20:120] = 3
    found[200:300, 200:300] = 6
    target = true, [segment(9, 3), segment(1, 1), segment(2, 1), segment(3, 1)]
    return (found, [segment(6, 2), segment(5, 2), segment(4, 1), segment(9, 3)]), target


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """Truth, prediction, errors, without the line above them."""
    gap = (picture.shape[1] - 3 * SIDE) // 2
    return [picture[-SIDE:, i * (SIDE + gap) : i * (SIDE + gap) + SIDE] for i in range(3)]


def test_an_object_has_one_color_on_both_sides_and_others_another() -> None:
    truth, found, _ = panels(comparison(None, *scene(), CATEGORIES, text=False))
    for y, x in ((60, 60), (60, 250), (350, 350)):  # matched, of wrong class, stuff
        np.testing.assert_array_equal(truth[y, x], found[y, x])
    colors = {tuple(panel[y, x]) for panel, y, x in ((truth, 60, 60), (truth, 60, 250), (truth, 250, 60))}
    colors |= {tuple(found[250, 250]), tuple(truth[350, 350])}
    assert len(colors) == 5


def test_errors_have_their_color_and_what_is_right_is_gray() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    *_, errors = panels(comparison(image, *scene(), CATEGORIES, text=False))
    right = errors[350, 350].astype(int)
    assert np.ptp(right) == 0
    red, green, blue = errors[205:295, 25:115].mean((0, 1))  # missed
    assert red > 1.8 * max(green, blue)
    red, green, blue = errors[205:295, 205:295].mean((0, 1))  # spurious
    assert min(red, green) > 1.4 * blue
    red, green, blue = errors[25:115, 205:295].mean((0, 1))  # of wrong class
    assert blue > 1.4 * max(red, green)


def test_the_forms_of_a_segmentation_are_drawn_alike() -> None:
    prediction, target = scene()
    maps = []
    for ids, segments in (prediction, target):
        category = np.vectorize({s["id"]: s["category_id"] for s in segments}.get)(ids)
        maps.append((category, np.where(category == 3, 0, ids)))
    same = comparison(None, *maps, CATEGORIES, text=False), comparison(None, *scene(), CATEGORIES, text=False)
    np.testing.assert_array_equal(panels(same[0])[2], panels(same[1])[2])
    void = np.where(maps[1][0] == 3, 255, maps[1][0]), maps[1][1]
    ignored = comparison(None, maps[0], void, {1: True, 2: True, 3: False}, text=False, ignore=255)
    assert tuple(panels(ignored)[0][350, 350]) == (128, 128, 128)


def test_names_are_written_and_small_maps_enlarged() -> None:
    assert (comparison(None, *scene(), CATEGORIES, NAMES) != comparison(None, *scene(), CATEGORIES, text=False)).any()
    prediction, target = scene()
    small = tuple((ids[::40, ::40], segments) for ids, segments in (prediction, target))
    drawn = comparison(None, small[0], small[1], CATEGORIES)
    assert drawn.shape[1] > 3 * 360
    empty = np.zeros((0, 5), int), []
    assert comparison(None, empty, empty, CATEGORIES).size == 0
    with pytest.raises(ValueError, match="image: expected shape"):
        comparison(Image.new("RGB", (9, 9)), prediction, target, CATEGORIES)


def test_nothing_is_an_error_where_all_is_right() -> None:
    _, target = scene()
    _, found, errors = panels(comparison(None, target, target, CATEGORIES))
    assert (errors == 64).all()
    assert (found != 128).any()


def test_a_confusion_matrix_shows_classes_with_pixels_and_their_shares() -> None:
    metric = ConfusionMatrix({1: True, 2: True, 3: False, 7: True})
    ones = np.ones((4, 8), int)
    prediction, target = (np.repeat([row], 4, 0) for row in ([1, 1, 1, 2, 3, 3, 3, -1], [1, 1, 1, 1, 3, 3, 3, 3]))
    metric.update((prediction, ones), (target, ones))
    result = metric.compute()
    assert result.pixels[0].tolist() == [12, 4, 0, 0, 0]
    assert result.pixels[2].tolist() == [0, 0, 12, 0, 4]
    np.testing.assert_array_equal(result.shares[1], np.full(5, np.nan))
    assert result.largest() == [(1, 2, 4, 0.25), (3, None, 4, 0.25)]
    drawn = confusion(result, NAMES)
    assert 3 * 40 < drawn.shape[0] < 5 * 40 + 60
    blue = (drawn[..., 2].astype(int) - drawn[..., 0] > 60).sum()
    red = (drawn[..., 0].astype(int) - drawn[..., 2] > 40).sum()
    assert blue > 1.5 * 39 * 39  # two cells on the diagonal
    assert red > 1.5 * 39 * 39  # and two beside it
    assert confusion(ConfusionMatrix({1: True}).compute()).ndim == 3
