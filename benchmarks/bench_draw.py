# SPDX-License-Identifier: Apache-2.0
"""Pictures: the pixel work beside its NumPy twin, and whole views with their text as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from deeperlab import _numpy, scenes, visualize
from deeperlab.visualize import colors as colors
from deeperlab.visualize import reference, segments

from .cases import CLASSES, THINGS
from .conftest import time_calls, time_floor


@lru_cache(maxsize=1)
def _scene(size: int, instances: int) -> scenes.Scene:
    return scenes.draw(1, size, instances=instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)


@lru_cache(maxsize=1)
def _drawn(size: int, instances: int) -> np.ndarray:
    arrays, how = arguments(_scene(size, instances))
    return reference.draw(*arrays, **how)


def arguments(scene: scenes.Scene) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
    """What `overlay` hands to the compiled code."""
    table = colors.shades(visualize.palette(scene.num_classes))
    width = segments.line_width(scene.category.shape)
    how = {"stuff": 111, "thing": 166, "border": segments.BORDER, "line": (255, 255, 255), "width": width}
    return (scene.image, scene.category, scene.instance, table), how


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Scenes as of the other benchmarks: the paper's sizes when timed, a small one otherwise."""
    timed = metafunc.config.getoption("benchmark_enable", False)
    drawn = [(size, n) for size in (721, 1441) for n in (5, 50, 200)] if timed else [(161, 5)]
    metafunc.parametrize("drawn", drawn, ids=[f"{size} px, {n} things" for size, n in drawn])


def _timed(
    benchmark: Any, function: Callable[[], Any], view: str, drawn: tuple[int, int], rounds: int, **facts: Any
) -> Any:
    facts |= {"size": drawn[0], "instances": drawn[1]}
    return time_calls(benchmark, function, _group(view, drawn), rounds, **facts)


def _group(view: str, drawn: tuple[int, int]) -> str:
    return f"{view}: {drawn[0]} px, {drawn[1]} things"


@pytest.mark.parametrize("threads", [1, 2])
def bench_draw(benchmark: Any, drawn: tuple[int, int], threads: int) -> None:
    arrays, how = arguments(_scene(*drawn))
    facts = {"contender": "arrays", "threads": threads}
    picture = _timed(benchmark, lambda: _numpy.draw(*arrays, **how, num_threads=threads), "draw", drawn, 20, **facts)
    np.testing.assert_array_equal(picture, _drawn(*drawn))


def bench_draw_baseline_numpy(benchmark: Any, drawn: tuple[int, int]) -> None:
    """The baseline of each group: the twin."""
    arrays, how = arguments(_scene(*drawn))
    facts = {"contender": "numpy", "threads": 1}
    picture = _timed(benchmark, lambda: reference.draw(*arrays, **how), "draw", drawn, 1, **facts)
    np.testing.assert_array_equal(picture, _drawn(*drawn))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("view", ["draw", "overlay"])
def bench_draw_floor(benchmark: Any, drawn: tuple[int, int], view: str, threads: int) -> None:
    """The photograph and both maps are read; the picture is written."""
    arrays, _ = arguments(_scene(*drawn))
    time_floor(benchmark, _group(view, drawn), threads, arrays[:3], arrays[:1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("text", [False, True], ids=["bare", "text"])
def bench_overlay(benchmark: Any, drawn: tuple[int, int], text: bool, threads: int) -> None:
    scene = _scene(*drawn)
    maps = scene.category, scene.instance

    def view() -> np.ndarray:
        return visualize.overlay(scene.image, maps, scene.names, text=text, num_threads=threads)

    facts = {"contender": "arrays", "threads": threads}
    picture = _timed(benchmark, view, "overlay with names" if text else "overlay", drawn, 10, **facts)
    written = (picture != _drawn(*drawn)).any(axis=-1).mean()
    assert 0 < written < 0.2 if text else written == 0


def bench_instances(benchmark: Any, drawn: tuple[int, int]) -> None:
    scene = _scene(*drawn)
    maps = scene.category, scene.instance
    picture = _timed(
        benchmark, lambda: visualize.instances(scene.image, maps, scene.names, num_threads=2), "instances", drawn, 5
    )
    assert picture.shape == scene.image.shape
    stuff = scene.instance == 0
    assert picture[stuff].mean() < 0.8 * scene.image[stuff].mean()  # the night around them
