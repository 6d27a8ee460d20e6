# SPDX-License-Identifier: Apache-2.0
"""One prediction against its ground truth, on one thread: panoptic quality and parsing covering."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deeperlab import scenes
from deeperlab._numpy import overlap
from deeperlab.metrics import CoveringResult, PanopticQuality, ParsingCovering, QualityResult, intersect

from .cases import CLASSES, THINGS
from .conftest import Case, time_floor

ISTHING = {c: c in THINGS for c in range(CLASSES)}
Map = NDArray[np.int32]
Maps = tuple[Map, Map]


@lru_cache(maxsize=1)
def _maps(size: int, instances: int, answer: Any) -> tuple[Maps, Maps]:
    """Category and instance of the fused noisy heads, and of the scene."""
    scene = scenes.draw(1, size, instances=instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    prediction = (np.asarray(answer.semantic)[0].copy(), np.asarray(answer.instance)[0].copy())
    return prediction, (scene.category, scene.instance)


@pytest.fixture
def maps(case: Case) -> tuple[Maps, Maps]:
    return _maps(case.info["size"], case.info["instances"], case.answer)


def ids_of(maps: Maps) -> Map:
    """One id per segment, as the PNGs of COCO have."""
    return np.asarray((maps[0] + 1) * 1000 + maps[1], np.int32)


def listing(ids: Map) -> tuple[Map, list[dict[str, int]]]:
    return ids, [{"id": i, "category_id": i // 1000 - 1, "iscrowd": 0} for i in np.unique(ids).tolist()]


def both(prediction: tuple[Any, Any], target: tuple[Any, Any]) -> tuple[QualityResult, CoveringResult]:
    """What a user calls for one image."""
    quality, covering = PanopticQuality(ISTHING), ParsingCovering(ISTHING)
    pairs = intersect(prediction, target, ISTHING)
    quality.add(pairs)
    covering.add(pairs)
    return quality.compute(), covering.compute()


def numpy_counts(prediction: Map, target: Map) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The baseline: pairs as 64-bit keys, sorted."""
    keys, pixels = np.unique(target.astype(np.int64) << 32 | prediction, return_counts=True)
    return keys, pixels


def numpy_both(prediction: Map, target: Map) -> tuple[float, float]:
    """PQ and normalized PC over all classes, where there is neither void nor crowd."""
    keys, pixels = numpy_counts(prediction, target)
    g, p = np.divmod(keys, 1 << 32)
    (true, g_row), (predicted, p_row) = np.unique(g, return_inverse=True), np.unique(p, return_inverse=True)
    g_area, p_area = np.bincount(g_row, pixels), np.bincount(p_row, pixels)
    same = g // 1000 == p // 1000
    iou = np.where(same, pixels / (g_area[g_row] + p_area[p_row] - pixels), 0)
    best = np.zeros(len(true))
    np.maximum.at(best, g_row, iou)
    hit = iou > 0.5
    category = true // 1000
    sums = np.bincount(g[hit] // 1000, iou[hit], CLASSES + 1)
    segments = np.bincount(category, minlength=CLASSES + 1) + np.bincount(predicted // 1000, minlength=CLASSES + 1)
    weight, total = np.bincount(category, g_area, CLASSES + 1), np.bincount(category, g_area * best, CLASSES + 1)
    counted, held = segments > 0, weight > 0
    return float((2 * sums[counted] / segments[counted]).mean()), float((total[held] / weight[held]).mean())


def assert_agrees(result: tuple[QualityResult, CoveringResult], expected: tuple[float, float]) -> None:
    quality, covering = result
    np.testing.assert_allclose((quality.all.pq, covering.pc), expected, rtol=1e-12)


def bench_pq_and_pc_of_ids(timed: Callable[..., Any], maps: tuple[Maps, Maps]) -> None:
    prediction, target = (ids_of(m) for m in maps)
    pairs = listing(prediction), listing(target)
    assert_agrees(timed(lambda: both(*pairs), "PQ and PC", rounds=50), numpy_both(prediction, target))


def bench_pq_and_pc_of_maps(timed: Callable[..., Any], maps: tuple[Maps, Maps]) -> None:
    """Four maps instead of two; in a target instance 0 of a thing would be crowd, which the scenes have not."""
    expected = numpy_both(*(ids_of(m) for m in maps))
    result = timed(lambda: both(*maps), "PQ and PC", rounds=50)
    assert_agrees(result, expected)


def bench_pq_and_pc_baseline_numpy(timed: Callable[..., Any], maps: tuple[Maps, Maps]) -> None:
    prediction, target = (ids_of(m) for m in maps)
    expected = timed(lambda: numpy_both(prediction, target), "PQ and PC", rounds=5)
    assert_agrees(both(listing(prediction), listing(target)), expected)


def bench_overlap(timed: Callable[..., Any], maps: tuple[Maps, Maps]) -> None:
    prediction, target = (ids_of(m) for m in maps)
    p, g, pixels = timed(lambda: overlap(prediction, target), "overlap", rounds=50, contender="arrays", threads=1)
    keys, expected = numpy_counts(prediction, target)
    order = np.argsort(g << 32 | p)
    np.testing.assert_array_equal((g << 32 | p)[order], keys)
    np.testing.assert_array_equal(pixels[order], expected)


@pytest.mark.parametrize("ids", ["small", "hostile"])
def bench_overlap_of_many_ids(timed: Callable[..., Any], ids: str) -> None:
    """A combination a pixel of four maps: small ids, and such as any sum of products sends to few slots of a table."""
    i = np.arange(1 << 20, dtype=np.int64).reshape(1024, 1024)
    parts = [i >> 5 * m & 31 for m in range(4)]
    maps = [part << 59 for part in parts] if ids == "hostile" else parts
    *_, pixels = timed(lambda: overlap(*maps), "overlap of many ids", rounds=10)
    assert (pixels == 1).all()


def bench_overlap_baseline_numpy(timed: Callable[..., Any], maps: tuple[Maps, Maps]) -> None:
    prediction, target = (ids_of(m) for m in maps)
    _, pixels = timed(lambda: numpy_counts(prediction, target), "overlap", rounds=5, contender="numpy", threads=1)
    assert pixels.sum() == target.size


def bench_overlap_floor(benchmark: Any, case: Case, maps: tuple[Maps, Maps]) -> None:
    """Both maps are read; the pairs are few."""
    time_floor(benchmark, f"overlap: {case.spec}", 1, [ids_of(m) for m in maps])
