# SPDX-License-Identifier: Apache-2.0
"""The one exponential of all back ends, against double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp import rows_of
from numpy.typing import NDArray

from deeperlab.stages.reference import exp, sigmoid

HIGH, LOW = np.float32(88.72283), np.float32(-87.33654)
INF = np.float32(np.inf)


def sweep() -> NDArray[np.float32]:
    """Every 509th float32 of the range (about 4 million, both signs), an even grid, and random values."""
    positive = np.arange(0, int(HIGH.view(np.int32)), 509, dtype=np.int32).view(np.float32)
    negative = -np.arange(0, int((-LOW).view(np.int32)), 509, dtype=np.int32).view(np.float32)
    generator = np.random.default_rng(0)
    drawn = generator.uniform(float(LOW), float(HIGH), 1_000_000).astype(np.float32)
    near_zero = generator.normal(0, 1, 500_000).astype(np.float32)
    even = np.linspace(float(LOW), float(HIGH), 1_000_001, dtype=np.float32)
    x = np.concatenate((positive, negative, drawn, near_zero, even, np.array([LOW, HIGH])))
    return x[(x >= LOW) & (x <= HIGH)]


def ulps(value: NDArray[Any], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(value.astype(np.float64) - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)


def test_exp_errs_by_less_than_one_ulp() -> None:
    x = sweep()
    value = exp(x)
    assert value.dtype == np.float32
    error = ulps(value, np.exp(x.astype(np.float64)))
    assert error.max() < 0.95


def test_exp_is_exactly_one_at_zero() -> None:
    assert (exp(np.array([0.0, -0.0], np.float32)) == 1).all()


def test_exp_has_limits_beyond_which_it_is_zero_or_infinite() -> None:
    beyond = np.array([np.nextafter(HIGH, INF), 100, 3e38, INF], np.float32)
    assert (exp(beyond) == INF).all()
    assert (exp(np.array([np.nextafter(LOW, -INF), -100, -3e38, -INF], np.float32)) == 0).all()
    least, greatest = exp(np.array([LOW, HIGH]))
    assert least >= np.finfo(np.float32).tiny  # no subnormal, which a GPU might flush
    assert 3.402e38 < greatest < INF


def test_exp_of_nan_is_nan() -> None:
    assert np.isnan(exp(np.array([np.nan, -np.nan], np.float32))).all()


def test_exp_never_falls_by_more_than_one_ulp() -> None:
    for start in (-87.3, -20.0, -1.0, -0.35, 0.3, 1.0, 10.0, 88.7):
        first = int(np.float32(abs(start)).view(np.int32))
        x = np.sort(np.sign(start) * np.arange(first, first + 20_000, dtype=np.int32).view(np.float32))
        x = x[(x >= LOW) & (x <= HIGH)].astype(np.float32)
        value = exp(x)
        assert (value[1:] >= np.nextafter(value[:-1], np.float32(0))).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 0, 3)])
def test_exp_and_sigmoid_keep_shape_and_type(shape: tuple[int, ...]) -> None:
    for function, expected in ((exp, 1.0), (sigmoid, 0.5)):
        value = function(np.zeros(shape, np.float32))
        assert value.shape == shape
        assert value.dtype == np.float32
        assert (value == expected).all()


def test_exp_works_on_a_float32_scalar() -> None:
    x = np.float32(3.25)
    assert exp(np.asarray(x)) == exp(np.array([x]))[0]  # NumPy 1 turns 0-d arrays into scalars on the way


def test_sigmoid_is_zero_for_nan_and_saturates_at_the_infinities() -> None:
    v = np.array([np.nan, -np.inf, np.inf, -1e38, 1e38, -89, 89], np.float32)
    assert sigmoid(v).tolist() == [0, 0, 1, 0, 1, 0, 1]


def test_sigmoid_errs_by_less_than_three_ulps() -> None:
    x = sweep()
    x = x[x > -87]  # below, the true value is subnormal or nearly so
    assert ulps(sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 3.0


def test_sigmoid_lies_within_zero_and_one() -> None:
    value = sigmoid(sweep())
    assert value.min() >= 0
    assert value.max() <= 1


@pytest.mark.slow
def test_log_and_the_exp_of_what_is_below_zero_err_by_less_than_one_ulp(tmp_path: Path) -> None:
    found = {name: float(value) for name, value in rows_of("ulps", tmp_path)}
    assert found["log"] < 0.82
    assert found["exp_below_zero"] < 0.95
    assert (found["log(1)"], found["exp_below_zero(0)"]) == (0, 1)
    assert 1e-38 < found["exp_below_zero(-inf)"] < 2e-38
    assert np.isnan([found["log(nan)"], found["exp_below_zero(nan)"]]).all()
