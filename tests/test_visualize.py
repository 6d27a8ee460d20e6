# SPDX-License-Identifier: Apache-2.0
"""The overlay: what it tints, where it draws edges and names, and what it refuses."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.visualize import overlay, palette


def maps() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Stuff 0, void above it, two instances of class 1 side by side."""
    category, instance = np.zeros((40, 60), np.int32), np.zeros((40, 60), np.int32)
    category[:5] = -1
    category[10:30, 10:50] = 1
    instance[10:30, 10:30] = 1
    instance[10:30, 30:50] = 2
    return category, instance


def grey(shape: tuple[int, int] = (40, 60)) -> NDArray[np.uint8]:
    return np.full((*shape, 3), 90, np.uint8)


def test_palette_colours_are_distinct_and_of_like_lightness() -> None:
    colors = palette(64).astype(int)
    assert len(np.unique(colors, axis=0)) == 64
    luma = colors @ (0.299, 0.587, 0.114)
    assert (np.abs(luma - 145) < 55).all()
    assert palette(0).shape == (0, 3)


def test_void_keeps_the_image_and_all_else_is_tinted() -> None:
    picture = overlay(grey(), maps(), labels=False)
    assert picture.dtype == np.uint8
    assert (picture[:5] == 90).all()
    assert (picture[5:] != 90).any(axis=-1).all()


def test_instances_of_one_category_differ_and_stuff_is_of_one_colour() -> None:
    picture = overlay(grey(), maps(), labels=False)
    assert len(np.unique(picture[33:].reshape(-1, 3), axis=0)) == 1
    assert np.abs(picture[20, 20].astype(int) - picture[20, 40]).max() > 20


def test_instances_are_bordered_by_bright_lines() -> None:
    picture = overlay(grey(), maps(), labels=False).astype(int).sum(axis=-1)
    border = picture[20] > 600
    assert np.flatnonzero(border).tolist() == [10, 29, 49]


def test_given_colours_are_used_at_the_given_opacity() -> None:
    category, instance = np.zeros((4, 4), int), np.zeros((4, 4), int)
    picture = overlay(grey((4, 4)), (category, instance), colors={0: (255, 0, 30)}, opacity=0.6, labels=False)
    np.testing.assert_array_equal(picture[0, 0], [156, 54, 66])  # stuff has two thirds of the opacity
    np.testing.assert_array_equal(overlay(grey((4, 4)), (category, instance), opacity=0, labels=False), 90)


def test_names_stand_inside_their_segment_and_only_where_they_fit() -> None:
    category, instance = (np.kron(m, np.ones((8, 8), int)) for m in maps())
    shape = category.shape
    bare = overlay(grey(shape), (category, instance), labels=False)
    named = overlay(grey(shape), (category, instance), names=["grass", "cow"])
    y, x = np.nonzero((bare != named).any(axis=-1))
    cows = (y >= 80) & (y < 240)
    assert set(np.unique(instance[y[cows], x[cows]]).tolist()) == {1, 2}
    assert (~cows).any()
    tiny = overlay(grey((8, 8)), (np.zeros((8, 8), int), np.zeros((8, 8), int)), names=["a very long name"])
    np.testing.assert_array_equal(
        tiny, overlay(grey((8, 8)), (np.zeros((8, 8), int), np.zeros((8, 8), int)), labels=False)
    )


def test_a_result_and_a_pillow_image_do_and_the_input_stays_as_it_was() -> None:
    category, instance = maps()
    image = grey()
    result = SimpleNamespace(semantic=category, instance=instance)
    expected = overlay(image, (category, instance), names={1: "cow"})
    np.testing.assert_array_equal(overlay(Image.fromarray(image), result, names={1: "cow"}), expected)
    assert (image == 90).all()


def test_it_is_the_same_every_time_and_without_an_image() -> None:
    first, second = (overlay(None, maps(), names={1: "cow"}) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (0, 0), (0, 5), (3, 1)])
def test_small_and_empty_maps_do(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, int)
    for category in (empty, empty - 1):
        assert overlay(grey(shape), (category, empty)).shape == (*shape, 3)
    assert overlay(None, (empty, empty + 1)).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"image": np.zeros((40, 60), np.uint8)}, ValueError, "image: expected shape"),
        ({"image": np.zeros((40, 60, 3))}, TypeError, "image: expected uint8"),
        ({"panoptic": (np.zeros((2, 2), int), np.zeros((2, 3), int))}, ValueError, "two maps"),
        ({"panoptic": (np.zeros((2, 2)), np.zeros((2, 2), int))}, TypeError, "integer maps"),
        ({"opacity": 1.5}, ValueError, "opacity: expected 0 to 1, got 1.5"),
        ({"colors": {0: (1, 2, 3)}}, ValueError, "colors: .* none for 1"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        overlay(**{"image": grey(), "panoptic": maps(), "labels": False, **arguments})


def test_names_without_pillow_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert overlay(grey(), maps(), labels=False).shape == (40, 60, 3)
    with pytest.raises(ImportError, match=r"deeperlab\[cli\]"):
        overlay(grey(), maps())
