# SPDX-License-Identifier: Apache-2.0
"""Maps as runs of equal pixels: the compiled form beside NumPy, for every integer type and layout of memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deeperlab import _numpy
from deeperlab._runs import Runs, find_runs, pixel_boxes, spread

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def slow_runs(*maps: NDArray[Any]) -> Runs:
    height, width = maps[0].shape
    begins = np.ones((height, width), np.bool_)
    inner = begins[:, 1:]
    np.not_equal(maps[0][:, 1:], maps[0][:, :-1], out=inner)
    for values in maps[1:]:
        inner |= values[:, 1:] != values[:, :-1]
    start = np.flatnonzero(begins)
    y, x = np.divmod(start, max(width, 1))
    return Runs(start, np.diff(start, append=height * width), y, x)


def slow_boxes(runs: Runs, label: NDArray[Any], count: int) -> NDArray[np.int64]:
    low = np.full((2, count), np.iinfo(np.int64).max)
    high = np.zeros((2, count), np.int64)
    for axis, first, end in ((0, runs.x, runs.x + runs.length), (1, runs.y, runs.y + 1)):
        np.minimum.at(low[axis], label, first)
        np.maximum.at(high[axis], label, end)
    low[:, high[0] == 0] = 0
    return np.concatenate((low, high)).T


def check(*maps: NDArray[Any]) -> None:
    found, expected = find_runs(*maps), slow_runs(*maps)
    for name in ("start", "length", "y", "x"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name, strict=True)
    label = np.abs(maps[0].reshape(-1)[found.start].astype(np.int64)) % 5
    np.testing.assert_array_equal(pixel_boxes(found, label, 7), slow_boxes(expected, label, 7), strict=True)
    ids = np.repeat(label, expected.length).astype(np.int32).reshape(maps[0].shape)
    np.testing.assert_array_equal(spread(found, label, maps[0].shape), ids, strict=True)


@settings(max_examples=150, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=21), st.integers(1, 4))
def test_runs_boxes_and_maps_are_those_of_numpy(data: st.DataObject, shape: tuple[int, int], count: int) -> None:
    def drawn() -> NDArray[Any]:
        dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
        values = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 3), fill=st.just(0)))
        turned = data.draw(st.sampled_from(("as it is", "turned", "mirrored")))
        return np.asfortranarray(values) if turned == "turned" else values[::-1] if turned == "mirrored" else values

    check(*(drawn() for _ in range(count)))


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 66, 127, 128, 129, 193, 1441])
def test_any_width_has_its_last_pixels(width: int) -> None:
    a = (np.arange(3 * width).reshape(3, width) // 2 % 120).astype(np.int16)
    b = np.zeros((3, width), np.int32)
    b[:, -1] = 1
    check(a, b)
    check(b)


def test_where_every_pixel_is_a_run_there_is_room_for_all() -> None:
    check(np.random.default_rng(0).permutation(101 * 103).reshape(101, 103))


def test_huge_maps_have_memory_for_their_runs_alone() -> None:
    """One value takes no memory, and has a run a row."""
    found = find_runs(np.broadcast_to(np.int32(7), (2000, 1 << 20)))
    assert found.length.tolist() == [1 << 20] * 2000


def test_numbers_beyond_any_map_overflow_nothing() -> None:
    for shape in ((0, 2**62), (2**62, 0)):
        assert [len(column) for column in _numpy.find_runs(np.zeros(shape, np.int8))] == [0] * 4
    with pytest.raises(ValueError, match=r"maps: expected at most 2\^48 pixels, got 1 x 4611686018427387904"):
        _numpy.find_runs(np.broadcast_to(np.zeros((1, 1), np.int8), (1, 2**62)))
    one, most = np.ones(1, np.int64), np.full(1, 2**63 - 1)
    for wrong in ((most, one, one), (one, most, one), (one, one, most), (one, one, -one)):
        with pytest.raises(ValueError, match="runs: expected lengths and places of 0 to"):
            _numpy.pixel_boxes(*wrong, np.zeros(1, np.int64), 1)


@pytest.mark.slow
def test_a_thread_that_writes_meanwhile_leads_nowhere() -> None:
    length, zeros = np.ones(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    label = zeros.copy()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            length[::3], label[::3] = 2**40, 2**40
            length[::3], label[::3] = 1, 0

    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.3
    try:
        while time.monotonic() < end:
            with contextlib.suppress(ValueError):
                _numpy.spread(length, zeros.astype(np.int32), 256, 256)
            with contextlib.suppress(ValueError):
                _numpy.pixel_boxes(zeros, zeros, zeros, label, 1)
    finally:
        done.set()
        writer.join()


def test_what_does_not_fit_is_refused() -> None:
    runs = find_runs(np.zeros((3, 4), np.int32))
    for label in ([0, 0, 2], [0, -1, 0]):
        with pytest.raises(ValueError, match="label: expected 0 to 1"):
            pixel_boxes(runs, np.array(label), 2)
    with pytest.raises(ValueError, match="expected four lists of one length"):
        pixel_boxes(runs, np.zeros(2, np.int64), 2)
    for shape in ((3, 5), (2, 4), (0, 0)):
        with pytest.raises(ValueError, match="length: expected runs that cover"):
            spread(runs, np.zeros(3, np.int32), shape)
    with pytest.raises(ValueError, match="length: expected runs that cover"):
        _numpy.spread(np.array([-1, 13]), np.zeros(2, np.int32), 3, 4)
    with pytest.raises(ValueError, match="value: expected one for each"):
        spread(runs, np.zeros(2, np.int32), (3, 4))
    with pytest.raises(TypeError, match=r"maps\[0\]: expected an integer map"):
        find_runs(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"maps\[1\]: expected shape"):
        find_runs(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_others_run_meanwhile(releases_gil: Callable[[Callable[[], Any]], bool]) -> None:
    maps = np.random.default_rng(0).integers(0, 2, (2000, 2000), np.int32)
    runs = find_runs(maps)
    assert releases_gil(lambda: find_runs(maps))
    assert releases_gil(lambda: spread(runs, runs.x, (2000, 2000)))
