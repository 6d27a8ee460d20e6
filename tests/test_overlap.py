# SPDX-License-Identifier: Apache-2.0
"""Counting the combinations of ids in maps: every integer type, any layout of memory, any number of ids."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deeperlab._numpy import overlap

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
LAYOUTS = ("plain", "turned", "mirrored", "every second", "one value", "one row", "swapped bytes", "not aligned")


def slow(*maps: NDArray[Any]) -> dict[tuple[int, ...], int]:
    """In the order of first pixels, as dictionaries are."""
    counts: dict[tuple[int, ...], int] = {}
    for ids in zip(*(m.ravel().tolist() for m in maps), strict=True):
        counts[ids] = counts.get(ids, 0) + 1
    return counts


def fast(*maps: NDArray[Any]) -> dict[tuple[int, ...], int]:
    *ids, pixels = overlap(*maps)
    assert len(ids) == len(maps)
    for column, m in zip(ids, maps, strict=True):
        assert column.dtype == (np.uint64 if m.dtype.newbyteorder("=") == np.uint64 else np.int64)
    assert pixels.dtype == np.int64
    keys = list(zip(*(column.tolist() for column in ids), strict=True))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, pixels.tolist(), strict=True))


def laid_out(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """A view of the same shape and type whose memory is another."""
    if layout == "turned":
        return np.asfortranarray(values)
    if layout == "mirrored":
        return values[::-1, ::-1]
    if layout == "every second":
        return np.repeat(np.repeat(values, 2, 0), 3, 1)[::2, 1::3]
    if layout in ("one value", "one row"):
        row = values[:1, :1] if layout == "one value" else values[:1]
        return np.broadcast_to(row, values.shape) if values.size else values
    if layout == "swapped bytes":
        return values.astype(values.dtype.newbyteorder())
    if layout == "not aligned":
        block = np.zeros(values.nbytes + 1, np.uint8)
        view = block[1:].view(values.dtype).reshape(values.shape)
        view[...] = values
        return view
    return values


@st.composite
def runs(draw: st.DrawFn, shape: tuple[int, int]) -> NDArray[Any]:
    """A map of any type in which neighbors are often equal, with the extremes of its type among the ids."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    limits = np.iinfo(dtype)
    few = st.sampled_from([0, 1, 2, limits.max, limits.min, limits.max - 1])
    ids = draw(hnp.arrays(dtype, shape, elements=few | st.integers(int(limits.min), int(limits.max)), fill=few))
    return laid_out(ids, draw(st.sampled_from(LAYOUTS)))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=21), st.integers(1, 4))
def test_counts_are_those_of_a_slow_count_in_the_order_of_first_pixels(
    data: st.DataObject, shape: tuple[int, int], count: int
) -> None:
    maps = [data.draw(runs(shape)) for _ in range(count)]
    counts = fast(*maps)
    assert counts == slow(*maps)
    assert list(counts) == list(slow(*maps))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_type_and_layout_counts_alike(dtype: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    a = laid_out(rng.integers(0, 5, (9, 70)).repeat(3, 1).astype(dtype), layout)
    b = rng.integers(0, 3, (9, 210)).astype(np.int32)
    assert list(fast(a, b).items()) == list(slow(a, b).items())
    assert list(fast(b, a, b).items()) == list(slow(b, a, b).items())


@pytest.mark.parametrize("dtype", TYPES[::2])
@pytest.mark.parametrize("width", [*range(1, 18), *range(62, 68), *range(126, 132), 193, 1441])
def test_any_width_counts_its_last_pixels(width: int, dtype: str) -> None:
    """Words of 64 pixels begin at the second; the last overlaps the one before."""
    a = (np.arange(3 * width).reshape(3, width) // 2 % 120).astype(dtype)
    b = np.zeros((3, width), np.int32)
    b[:, -1] = 1
    assert fast(a, b) == slow(a, b)
    assert fast(b) == slow(b)


def test_negative_and_huge_ids_keep_their_value() -> None:
    assert fast(np.array([[-1, -1, 3]], np.int8)) == {(-1,): 2, (3,): 1}
    assert fast(np.array([[2**64 - 1, 0]], np.uint64)) == {(2**64 - 1,): 1, (0,): 1}
    assert fast(np.array([[-(2**63), 2**63 - 1]])) == {(-(2**63),): 1, (2**63 - 1,): 1}


def test_as_many_ids_as_pixels_are_counted() -> None:
    ids = np.random.default_rng(0).permutation(401 * 403).reshape(401, 403)
    first, second, pixels = overlap(ids, ids.astype(np.int32))
    np.testing.assert_array_equal(first, ids.ravel())
    np.testing.assert_array_equal(second, ids.ravel())
    assert (pixels == 1).all()


@pytest.mark.parametrize("number", [4095, 4096, 4097, 8 * 4096, 8 * 4096 + 1])
def test_the_room_for_ids_grows_at_its_limits(number: int) -> None:
    ids = np.minimum(np.arange(300 * 300).reshape(300, 300), number - 1)
    found, pixels = overlap(ids)
    np.testing.assert_array_equal(found, np.arange(number))
    assert pixels[-1] == 300 * 300 - number + 1


@pytest.mark.parametrize("step", [1, 2**24, 2**32, 2**48, 2**56])
def test_ids_far_apart_do_not_collide(step: int) -> None:
    """A bad hash would make this quadratic: some 10^9 comparisons."""
    number = min(1 << 16, 2**64 // step)
    ids = (np.arange(1 << 16, dtype=np.uint64) % np.uint64(number) * np.uint64(step)).reshape(256, 256)
    found, pixels = overlap(ids, ids)[1:]
    assert len(found) == number
    assert pixels.sum() == ids.size


def test_no_ids_collide_more_often_than_random_ones(tmp_path: Path) -> None:
    """slots.cpp knows the hash and chooses ids that collide, whatever its random numbers are: if it could, one look-up
    would go through thousands of slots. In a table that is half full, random ones go through 1.5."""
    rows = rows_of("slots", tmp_path)
    assert {kind for kind, *_ in rows} >= {"small", "random", "high2", "high4", "squares", "grid"}
    assert {kind: mean for kind, mean, _ in rows if not 1.4 < float(mean) < 1.6} == {}
    assert {kind: worst for kind, _, worst in rows if float(worst) > 2} == {}


def test_ids_that_differ_in_few_bits_are_told_apart() -> None:
    """As slots.cpp chooses them, counted."""
    i = np.arange(1 << 16, dtype=np.uint64).reshape(256, 256)
    maps = [i >> np.uint64(4 * m) << np.uint64(60) for m in range(4)]
    *_, pixels = overlap(*maps)
    np.testing.assert_array_equal(pixels, np.ones(1 << 16))


def test_empty_maps_have_nothing_to_count() -> None:
    for shape in ((0, 0), (0, 5), (5, 0), *((0, 2**n - 1) for n in (58, 60, 61, 62, 63)), (2**61, 0), (2**63 - 1, 0)):
        assert fast(np.zeros(shape, np.int8), np.zeros(shape, np.uint8)) == {}


def test_maps_without_end_are_refused() -> None:
    """Broadcasting makes them of one byte."""
    for shape in ((1, 2**62), (2**62, 1), (2**31, 2**31), (2**24 + 1, 2**24)):
        with pytest.raises(ValueError, match=r"maps: expected at most 2\^48 pixels, got \d+ x \d+"):
            overlap(np.broadcast_to(np.zeros((1, 1), np.int8), shape))


@pytest.mark.parametrize("first", [False, True])
def test_code_that_runs_while_arguments_are_read_changes_nothing_that_was_checked(first: bool) -> None:
    """An argument that reshapes another one, which came before it or comes after it."""
    a, b = np.zeros((300, 300), np.int64), np.zeros((300, 300), np.int64)

    class Meddler:
        def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.int64]:
            b.resize((1, 300 * 300), refcheck=False)
            return a.copy()

    given = (a, Meddler(), b) if first else (a, b, Meddler())
    with pytest.raises(ValueError, match=r"maps\[\d\]: expected shape \[300, 300\], got \[1, 90000\]"):
        overlap(*given)


def test_a_repeated_call_gives_the_same() -> None:
    ids = np.random.default_rng(3).integers(0, 90, (50, 60))
    first = overlap(ids, ids.T.copy().reshape(50, 60))
    for _ in range(5):
        again = overlap(ids, ids.T.copy().reshape(50, 60))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_bad_maps_are_refused_by_name() -> None:
    good = np.zeros((2, 3), np.int32)
    with pytest.raises(TypeError, match=r"maps\[1\]: expected an integer map, got float64"):
        overlap(good, np.zeros((2, 3)))
    with pytest.raises(TypeError, match=r"maps\[0\]: expected an integer map, got bool"):
        overlap(np.zeros((2, 3), bool))
    with pytest.raises(TypeError, match=r"maps\[0\]: expected an integer map"):
        overlap("no map")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"maps\[1\]: expected shape \[2, 3\], got \[3, 2\]"):
        overlap(good, good.T)
    with pytest.raises(ValueError, match=r"maps\[0\]: expected a map \[H, W\], got 3 dimensions"):
        overlap(good[None])
    with pytest.raises(ValueError, match="expected 1 to 4, got 0"):
        overlap()
    with pytest.raises(ValueError, match="expected 1 to 4, got 5"):
        overlap(*[good] * 5)


@pytest.mark.slow
@pytest.mark.parametrize("simd", ["plain", "baseline", "avx2", "avx512"])
def test_every_form_counts_and_draws_the_truth(simd: str) -> None:
    """Each form in a process of its own, for the files that have fast forms and compare with a slow truth."""
    call = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "slow_count or layout or width or twin or numpy",
    ]
    files = [str(Path(__file__).with_name(name)) for name in ("test_overlap.py", "test_runs.py", "test_draw.py")]
    run = subprocess.run([*call, *files], env={**os.environ, "DEEPERLAB_SIMD": simd}, capture_output=True, text=True)
    if "the best this machine has" in run.stdout:
        pytest.skip(f"this machine has no {simd}")
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


def test_the_gil_is_released(releases_gil: Any) -> None:
    ids = np.random.default_rng(0).permutation(1000 * 1000).reshape(1000, 1000)
    assert releases_gil(lambda: overlap(ids, ids))
