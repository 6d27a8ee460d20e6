# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality beside other evaluators, with the same figures: a pair of maps, a pair of files, folders of files.

Files are read, decoded and checked by each in its own way, JSON included; `deeperlab` counts parsing covering and mean
IoU as well, as `deeperlab eval` does. benchmarks/README.md says how the others are installed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import scenes
from deeperlab.data import coco
from deeperlab.metrics import FolderEvaluation, PanopticQuality

from .bench_files import write_sets
from .bench_metrics import ids_of, listing, numpy_both
from .cases import CLASSES, THINGS
from .conftest import time_calls

ISTHING = {c: c in THINGS for c in range(CLASSES)}
PROCESSORS = len(os.sched_getaffinity(0))
Figures = dict[str, tuple[float, float, float]]


# Two maps in memory


@pytest.fixture(params=[(480, 640), (1024, 2048)], ids=lambda size: f"{size[0]} x {size[1]} px")
def maps(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    """The group, and as (category, instance) a drawn scene some pixels aside and the scene."""
    size = request.param if request.config.getoption("benchmark_enable", False) else (61, 80)
    scene = scenes.draw(1, size, instances=50, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)
    target = scene.category, scene.instance
    return f"PQ of two maps: {size[0]} x {size[1]} px", tuple(np.roll(of, (1, 3), (0, 1)) for of in target), target


def bench_pq_of_maps(benchmark: Any, maps: tuple[str, Any, Any]) -> None:
    group, prediction, target = maps
    sides = listing(ids_of(prediction)), listing(ids_of(target))

    def call() -> float:
        metric = PanopticQuality(ISTHING)
        metric.update(*sides)
        return metric.compute().all.pq

    found = time_calls(benchmark, call, group, 50, contender="arrays", threads=1)
    assert found == pytest.approx(numpy_both(*(ids_of(side) for side in (prediction, target)))[0], rel=1e-12)


def bench_pq_of_maps_torchmetrics(benchmark: Any, maps: tuple[str, Any, Any]) -> None:
    """Without void, crowd and split stuff its definition is ours."""
    detection = pytest.importorskip("torchmetrics.detection", reason="torchmetrics is not installed")
    group, *sides = maps
    prediction, target = (torch.from_numpy(np.stack(side, -1))[None] for side in sides)

    def call() -> float:
        metric = detection.PanopticQuality(things=set(THINGS), stuffs=set(range(CLASSES)) - set(THINGS))
        metric.update(prediction, target)
        return float(metric.compute())

    found = time_calls(benchmark, call, group, 1, contender="torchmetrics", threads=1)
    assert found == pytest.approx(numpy_both(*map(ids_of, sides))[0], abs=1e-6)


# Files


@dataclass(frozen=True)
class Sets:
    """A ground truth and its predictions as files."""

    group: str
    folder: Path
    images: int

    @property
    def paths(self) -> tuple[str, str, str, str]:
        """In the order of panopticapi: both JSONs, both folders."""
        names = ("target.json", "prediction.json", "target", "prediction")
        return tuple(str(self.folder / name) for name in names)  # type: ignore[return-value]


def _images(size: tuple[int, int], images: int) -> str:
    return f"{images} pair{'s' * (images > 1)} of {size[0]} x {size[1]} px"


@pytest.fixture(
    scope="module",
    params=[((1024, 2048), 1), ((1024, 2048), 8), ((480, 640), 1), ((480, 640), 40)],
    ids=lambda of: _images(*of),
)
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    (height, width), images = request.param
    if not request.config.getoption("benchmark_enable", False):
        height, width, images = height // 8, width // 8, min(images, 3)
    folder = tmp_path_factory.mktemp("sets")
    write_sets(folder, (height, width), images, instances=20)
    return Sets(f"PQ of files: {_images((height, width), images)}", folder, images)


def ours(sets: Sets, workers: int) -> Figures:
    target_json, prediction_json, target, prediction = sets.paths
    evaluation = FolderEvaluation(
        coco.read(target_json, target), coco.read(prediction_json, prediction), workers=workers
    )
    assert len(list(evaluation)) == sets.images
    return figures(evaluation.total.compute().pq.to_dict())


def figures(result: Any) -> Figures:
    """PQ, SQ and RQ of all classes, of things, of stuff and of each class; 0 where nothing was counted, which is None
    here, 0 in panopticapi and -1 in hotcoco."""
    per_class = {str(c): q for c, q in result["per_class"].items()}
    groups = {name: result[name] for name in ("All", "Things", "Stuff")} | per_class
    return {name: tuple(max(of[key] or 0.0, 0.0) for key in ("pq", "sq", "rq")) for name, of in groups.items()}  # type: ignore[misc]


def _panopticapi(sets: Sets, *, processes: int) -> Figures:
    """One process as its `pq_compute_single_core`, more as its `pq_compute`."""
    evaluation = pytest.importorskip("panopticapi.evaluation", reason="panopticapi is not installed")
    if processes > 1:
        return figures(evaluation.pq_compute(*sets.paths))
    target, prediction = (json.loads(Path(path).read_text()) for path in sets.paths[:2])
    categories = {category["id"]: category for category in target["categories"]}
    pairs = list(zip(target["annotations"], prediction["annotations"], strict=True))
    counted = evaluation.pq_compute_single_core(0, pairs, *sets.paths[2:], categories)
    result = {name: counted.pq_average(categories, isthing)[0] for name, isthing in GROUPS}
    return figures(result | {"per_class": counted.pq_average(categories, None)[1]})


GROUPS = (("All", None), ("Things", True), ("Stuff", False))


def _hotcoco(sets: Sets) -> Figures:
    panoptic = pytest.importorskip("hotcoco.panoptic", reason="hotcoco is not installed")
    evaluation = panoptic.PanopticEval(*sets.paths[:2], gt_folder=sets.paths[2], pred_folder=sets.paths[3])
    evaluation.evaluate()
    return figures(evaluation.results())


CONTENDERS: dict[str, tuple[str, int, Callable[[Sets], Figures]]] = {
    "deeperlab, 1": ("arrays", 1, partial(ours, workers=1)),
    "panopticapi, 1": ("panopticapi", 1, partial(_panopticapi, processes=1)),
    "deeperlab": ("arrays", PROCESSORS, partial(ours, workers=PROCESSORS)),
    "panopticapi": ("panopticapi", PROCESSORS, partial(_panopticapi, processes=PROCESSORS)),
    "hotcoco": ("hotcoco", PROCESSORS, _hotcoco),
}
"""hotcoco takes all processors; panopticapi as many processes."""


@pytest.mark.filterwarnings("ignore")  # panopticapi leaves its pool to the garbage collector
@pytest.mark.parametrize("name", CONTENDERS)
def bench_pq_of_files(benchmark: Any, sets: Sets, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    contender, threads, evaluate = CONTENDERS[name]
    evaluate(sets)  # whose imports are not timed
    found = time_calls(benchmark, lambda: evaluate(sets), sets.group, 3, contender=contender, threads=threads)
    expected = ours(sets, 1)
    assert found.keys() == expected.keys()
    for group, values in expected.items():
        assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(found[group], values, strict=True)), group
    assert 0 < expected["Things"][0] < 1
