# SPDX-License-Identifier: Apache-2.0
"""The CRF's CUDA kernels without a GPU: their text runs on emulated threads, forwards and in reverse, and gives the
bits of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from crf_cases import Array, random_case, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from deeperlab import _numpy

FORWARDS, REVERSED = 1, 2
KERNELS: dict[str, Any] = {
    **{"w1": 2.0, "sigma_alpha": 6.0, "sigma_beta": 20.0, "w2": 1.5, "sigma_gamma": 2.0, "after": False}
}
ONCE: dict[str, Any] = {"stride": 4, "iterations": 1, "probabilities": False}
ODD = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0], np.float32)
pytestmark = pytest.mark.slow  # the emulator has to be built first


def compare(emulated: Any, name: str, arrays: tuple[Array, Array], options: dict[str, Any]) -> Array:
    """The result, having seen that all ways to it agree."""
    want: Array = getattr(_numpy, name)(*arrays, **options, num_threads=2)
    for order in (FORWARDS, REVERSED):
        got = getattr(emulated, name)(*arrays, **options, num_threads=order)
        np.testing.assert_array_equal(got, want, err_msg=f"order {order}", strict=True)
    return want


def planes(rng: np.random.Generator, shape: tuple[int, ...], odd: float, last: bool) -> Array:
    """Values of which some are not finite; channels last in memory or not."""
    made = rng.normal(0, 3, shape).astype(np.float32)
    made = np.where(rng.random(shape) < odd, rng.choice(ODD, shape), made)
    return np.ascontiguousarray(made.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else made


def images(rng: np.random.Generator, n: int, size: tuple[int, int], planar: bool) -> Array:
    patch = rng.integers(0, 256, (n, size[0] // 5 + 1, size[1] // 5 + 1, 3)).repeat(5, 1).repeat(5, 2)
    made = np.clip(patch[:, : size[0], : size[1]] + rng.integers(-5, 6, (n, *size, 3)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1) if planar else made


KINDS = {
    "n": st.integers(1, 2),
    "classes": st.integers(1, 40),
    "w1": st.sampled_from([0.0, 1.5, 500.0]),
    "sigma_alpha": st.floats(1, 60),
    "sigma_beta": st.floats(3, 60),
    "w2": st.sampled_from([0.0, 3.0, 500.0]),
    "sigma_gamma": st.floats(0.3, 6),
    "after": st.booleans(),
    "odd": st.sampled_from([0.0, 0.1]),
    "last": st.booleans(),
    "seed": st.integers(0, 1 << 20),
}


@settings(max_examples=30)
@given(
    stride=st.integers(1, 5),
    nodes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    short=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    iterations=st.sampled_from([0, 1, 3]),
    probabilities=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float16]),
    call=st.fixed_dictionaries(KINDS),
)
def test_heads_of_any_kind(
    emulated: Any,
    stride: int,
    nodes: tuple[int, int],
    short: tuple[int, int],
    iterations: int,
    probabilities: bool,
    dtype: Any,
    call: dict[str, Any],
) -> None:
    rng = np.random.default_rng(call.pop("seed"))
    n, classes, odd, last = (call.pop(name) for name in ("n", "classes", "odd", "last"))
    size = max(1, stride * nodes[0] - short[0]), max(1, stride * nodes[1] - short[1])
    head = planes(rng, (n, classes, *nodes), odd, last)
    with np.errstate(over="ignore"):
        head = (np.abs(head) / 8 if probabilities else head).astype(dtype)
    options = {**call, "stride": stride, "iterations": iterations, "probabilities": probabilities}
    compare(emulated, "crf", (head, images(rng, n, size, last)), options)


@settings(max_examples=20)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    transposed=st.booleans(),
    call=st.fixed_dictionaries(KINDS),
)
def test_filters_of_any_kind(emulated: Any, size: tuple[int, int], transposed: bool, call: dict[str, Any]) -> None:
    rng = np.random.default_rng(call.pop("seed"))
    n, classes, odd, last = (call.pop(name) for name in ("n", "classes", "odd", "last"))
    arrays = planes(rng, (n, classes, *size), odd, last), images(rng, n, size, last)
    compare(emulated, "crf_filter", arrays, {**call, "transposed": transposed})


@pytest.mark.parametrize("seed", range(6))
def test_random_cases(emulated: Any, seed: int) -> None:
    semantic, image, options = random_case(seed)
    compare(emulated, "crf", (semantic, image), options)


def test_an_image_of_many_tiles_and_a_vertex_of_many_pieces(emulated: Any) -> None:
    """A block sorts 2,048 entries, and a vertex is summed by parts of 16 × 64 px; of one color, all share theirs."""
    semantic, image, _ = scene(1)
    compare(emulated, "crf", (semantic[None], image[None]), KERNELS | ONCE)
    gray = np.full_like(image[None], 128)
    compare(emulated, "crf", (semantic[None], gray), KERNELS | ONCE | {"sigma_alpha": 1000.0})


def test_an_image_of_several_parts_beside_each_other(emulated: Any) -> None:
    rng = np.random.default_rng(3)
    head = planes(rng, (1, 3, 10, 34), 0.0, False)
    compare(emulated, "crf", (head, images(rng, 1, (35, 131), False)), KERNELS | ONCE)


def test_more_classes_than_a_warp_has_lanes(emulated: Any) -> None:
    rng = np.random.default_rng(0)
    for classes in (33, 64, 70, 150):
        head = planes(rng, (1, classes, 3, 4), 0.05, False)
        compare(emulated, "crf", (head, images(rng, 1, (9, 14), False)), KERNELS | ONCE)


def test_an_empty_batch(emulated: Any) -> None:
    arrays = np.zeros((0, 3, 4, 4), np.float32), np.zeros((0, 9, 9, 3), np.uint8)
    assert compare(emulated, "crf", arrays, KERNELS | ONCE).shape == (0, 3, 9, 9)


def test_what_waits_for_the_device_is_not_captured_in_a_graph(emulated: Any) -> None:
    semantic, image = (array[None] for array in scene(0)[:2])
    emulated.capture(True)
    try:
        with pytest.raises(ValueError, match="a graph is being captured, and the host has to wait"):
            emulated.crf(semantic, image, **KERNELS | ONCE, num_threads=FORWARDS)
        compare(emulated, "crf", (semantic, image), KERNELS | ONCE | {"w1": 0.0})
    finally:
        emulated.capture(False)


@pytest.mark.parametrize("w1", [0.0, 1.0])
def test_faults_of_the_device_are_told_in_words(emulated: Any, w1: float) -> None:
    semantic, image = (array[None] for array in scene(0)[:2])
    emulated.fail(3)
    try:
        with pytest.raises(ValueError, match="the words of CUDA"):
            emulated.crf(semantic, image, **KERNELS | ONCE | {"w1": w1}, num_threads=FORWARDS)
    finally:
        emulated.fail(0)
