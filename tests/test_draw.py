# SPDX-License-Identifier: Apache-2.0
"""The compiled drawing: bit-equal to its NumPy twin on any map, and safe on any argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeperlab import _numpy, scenes
from deeperlab.visualize import reference

EXTREME = (-(2**31), -1, 2**31 - 1)


def options(**changes: Any) -> dict[str, Any]:
    return {"stuff": 100, "thing": 160, "border": 192, "line": [255, 250, 3], "width": 1, **changes}


def arguments(
    rng: np.random.Generator, shape: tuple[int, int], coarse: int = 1, ids: int = 4
) -> tuple[NDArray[Any], ...]:
    """An image, maps of blocks `coarse` px long with void and foreign categories, and shades."""
    height, width = shape
    blocks = height // coarse + 1, width // coarse + 1
    category = rng.integers(-1, ids + 1, blocks)
    instance = rng.integers(0, ids, blocks) * rng.integers(0, 2, blocks)
    for values in (category, instance):
        values[rng.random(blocks) < 0.02] = rng.choice(EXTREME)
    maps = (
        m.astype(np.int32).repeat(coarse, 0).repeat(coarse, 1)[:height, :width].copy() for m in (category, instance)
    )
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return image, *maps, rng.integers(0, 256, (ids, 1 + ids // 2, 3), np.uint8)


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 40),
    width=st.integers(1, 90) | st.sampled_from([127, 128, 129, 200]),
    coarse=st.sampled_from([1, 2, 7, 33, 90]),
    weights=st.tuples(*[st.integers(0, 256)] * 3),
    line=st.integers(0, 9) | st.sampled_from([63, 64]),
    num_threads=st.integers(1, 4),
)
def test_any_map_is_drawn_as_the_twin_draws_it(
    seed: int, height: int, width: int, coarse: int, weights: tuple[int, int, int], line: int, num_threads: int
) -> None:
    given = arguments(np.random.default_rng(seed), (height, width), coarse)
    how = options(**dict(zip(("stuff", "thing", "border"), weights, strict=True)), width=line)
    drawn = _numpy.draw(*given, **how, num_threads=num_threads)
    np.testing.assert_array_equal(drawn, reference.draw(*given, **how), strict=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (361, 481)])
@pytest.mark.parametrize("width", [0, 1, 3])
def test_scenes_are_drawn_as_the_twin_draws_them_on_any_number_of_threads(size: tuple[int, int], width: int) -> None:
    scene = scenes.draw(2, size, instances=min(30, size[0] * size[1] // 400))
    shades = np.random.default_rng(0).integers(0, 256, (scene.num_classes, 90, 3), np.uint8)
    given = scene.image, scene.category, scene.instance, shades
    expected = reference.draw(*given, **options(width=width))
    for num_threads in (1, 2, 3, 8):
        np.testing.assert_array_equal(
            _numpy.draw(*given, **options(width=width), num_threads=num_threads), expected, strict=True
        )


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_empty_images_do(shape: tuple[int, int]) -> None:
    given = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    assert _numpy.draw(*given, np.zeros((0, 2, 3), np.uint8), **options()).shape == (*shape, 3)


def test_weights_of_0_and_256_are_exact() -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.broadcast_to(values[:, None, None], (256, 256, 3)).copy()
    zeros = np.zeros((256, 256), np.int32)
    for weight, expected in ((0, image), (256, np.full_like(image, 77)), (128, (image.astype(int) + 78) // 2)):
        drawn = _numpy.draw(image, zeros, zeros, np.full((1, 2, 3), 77, np.uint8), **options(stuff=weight))
        np.testing.assert_array_equal(drawn, expected)


def test_shades_go_round_the_instances() -> None:
    instance = np.array([[1, 2, 3, 4, 5, -1, 0]], np.int32)
    shades = np.array([[10, 20, 30, 40]], np.uint8)[..., None].repeat(3, 2)
    given = np.zeros((1, 7, 3), np.uint8), np.zeros_like(instance), instance, shades
    drawn = _numpy.draw(*given, **options(stuff=256, thing=256, width=0))
    assert drawn[0, :, 0].tolist() == [20, 30, 40, 20, 30, 20 + 10 * ((2**32 - 2) % 3), 10]


def test_between_two_things_there_is_one_line_and_around_them_another() -> None:
    instance = np.zeros((6, 9), np.int32)
    instance[1:5, 1:4], instance[1:5, 4:8] = 1, 2
    image = np.zeros((6, 9, 3), np.uint8)
    paint = options(stuff=0, thing=0, border=256, line=[1, 1, 1])
    drawn = _numpy.draw(image, np.zeros_like(instance), instance, np.zeros((1, 2, 3), np.uint8), **paint)[..., 0]
    assert ["".join(".#"[v] for v in row) for row in drawn] == [
        ".........",
        ".#######.",
        ".#.#...#.",
        ".#.#...#.",
        ".#######.",
        ".........",
    ]


def test_the_input_stays_as_it_was() -> None:
    given = arguments(np.random.default_rng(0), (20, 30), 3)
    copies = [array.copy() for array in given]
    _numpy.draw(*given, **options())
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("place", "value", "error", "words"),
    [
        (0, np.zeros((6, 8), np.uint8), ValueError, "image: expected shape"),
        (0, np.zeros((6, 8, 4), np.uint8), ValueError, "image: expected shape"),
        (0, np.zeros((6, 8, 3), np.int8), TypeError, "image: expected uint8, got int8"),
        (0, np.zeros((6, 16, 3), np.uint8)[:, ::2], ValueError, "image: expected contiguous"),
        (1, np.zeros((6, 8, 1), np.int32), ValueError, "category: expected shape"),
        (1, np.zeros((6, 8), np.int64), TypeError, "category: expected int32, got int64"),
        (1, np.zeros((6, 8), ">i4"), TypeError, "category: expected int32"),
        (1, np.zeros((8, 6), np.int32).T, ValueError, "category: expected contiguous"),
        (1, np.zeros(6 * 8 * 4 + 1, np.int8)[1:].view(np.int32).reshape(6, 8), ValueError, "aligned"),
        (2, np.zeros((8, 6), np.int32), ValueError, "instance: expected shape"),
        (3, np.zeros((2, 1, 3), np.uint8), ValueError, "shades of each category"),
        (3, np.zeros((2, 3), np.uint8), ValueError, "shades: expected shape"),
        (3, np.zeros((2, 3, 4), np.uint8), ValueError, "shades: expected shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(place: int, value: Any, error: type[Exception], words: str) -> None:
    given: list[Any] = [np.zeros((6, 8, 3), np.uint8), *np.zeros((2, 6, 8), np.int32), np.zeros((2, 3, 3), np.uint8)]
    given[place] = value
    with pytest.raises(error, match=words):
        _numpy.draw(*given, **options())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("stuff", "thing", "border") for value in (-1, 257)],
        *[("line", value) for value in ([1, 2], [1, 2, 256], [1, -1, 2])],
        *[("width", value) for value in (-1, 65, 2**40)],
        *[("num_threads", value) for value in (0, 1025)],
    ],
)
def test_numbers_out_of_range_are_named(name: str, value: Any) -> None:
    given = arguments(np.random.default_rng(0), (4, 5))
    with pytest.raises(ValueError, match=f"{name}: expected"):
        _numpy.draw(*given, **options(**{name: value}))


def test_the_gil_is_released(releases_gil: Any) -> None:
    given = arguments(np.random.default_rng(0), (4001, 4001), 400)
    assert releases_gil(lambda: _numpy.draw(*given, **options()))
