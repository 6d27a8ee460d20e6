# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab predict` does with a photograph beside its network: all of it with a stub, and every step alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import Heads, Panoptic, Parser, fuse, scenes, visualize
from deeperlab.data.formats import photo, png
from deeperlab.data.labels import LabelSet
from deeperlab.predictor import BatchJob, describe_settings, find_sources

from .cases import CLASSES, THINGS, Spec, noisy_heads
from .conftest import time_calls, time_floor

PHOTOS = 6
LABELS = LabelSet(
    "drawn",
    tuple(f"class {i}" for i in range(CLASSES)),
    tuple(i in THINGS for i in range(CLASSES)),
    tuple(tuple(color) for color in visualize.palette(CLASSES).tolist()),
    tuple(range(1, CLASSES + 1)),
)


class Stub(torch.nn.Module):
    """A network that knows its answer: heads of one scene at the nodes."""

    num_classes, mean, std = CLASSES, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    has_trained_weights = True
    config: dict[str, Any] = {"name": "stub"}  # noqa: RUF012 - never changed

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._heads = heads

    def forward(self, images: torch.Tensor) -> Heads:
        (h, w), (height, width) = self._heads.heatmap.shape[-2:], images.shape[-2:]
        pad = (0, (width - 1) // 4 + 1 - w, 0, (height - 1) // 4 + 1 - h)
        return self._heads.map(lambda head: torch.nn.functional.pad(head, pad))


@pytest.fixture(scope="module")
def spec(request: pytest.FixtureRequest) -> Spec:
    timed = request.config.getoption("benchmark_enable", False)
    return Spec((1080, 1920) if timed else (97, 161), 50 if timed else 5)


@lru_cache(maxsize=1)
def _scene(spec: Spec) -> tuple[np.ndarray, Heads, Panoptic]:
    """The photograph, its heads, and its map as arrays."""
    scene = scenes.draw(
        1, spec.shape, instances=spec.instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35
    )
    heads = noisy_heads(spec)
    return scene.image, heads, fuse(heads.map(lambda head: head[0]), THINGS, size=spec.shape).numpy()


def _steps(spec: Spec, folder: Path) -> dict[str, Callable[[], Any]]:
    image, heads, panoptic = _scene(spec)
    photo.write_jpeg(folder / "photo.jpg", image)
    parser, pixels = Parser(Stub(heads), LABELS, size=0), torch.from_numpy(image)
    ids, fields = panoptic.to_coco()[0], {name: getattr(panoptic, name) for name in panoptic.__dataclass_fields__}
    one = heads.map(lambda head: head[0])
    drawn = visualize.overlay(image, panoptic, LABELS, num_threads=1)
    return {
        "decode": lambda: photo.read_image(folder / "photo.jpg", exif=True),
        "inputs": lambda: parser._inputs([pixels], [spec.shape], parser._padded(pixels)),
        "fuse": lambda: fuse(one, THINGS, size=spec.shape),
        "to_coco": lambda: Panoptic(**fields).to_coco(),
        "write_ids": lambda: png.write_ids(folder / "ids.png", ids),
        "overlay": lambda: visualize.overlay(image, panoptic, LABELS, num_threads=1),
        "write_jpeg": lambda: photo.write_jpeg(folder / "overlay.jpg", drawn),
    }


@pytest.mark.parametrize("step", ["decode", "inputs", "fuse", "to_coco", "write_ids", "overlay", "write_jpeg"])
def bench_predict_step(benchmark: Any, spec: Spec, step: str, tmp_path: Path) -> None:
    """On one thread: together they are what a photograph costs beside the network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark.group = f"predict, one thread: {spec}"
        benchmark.pedantic(_steps(spec, tmp_path)[step], rounds=9, warmup_rounds=1)
    finally:
        torch.set_num_threads(threads)


def bench_to_coco(benchmark: Any, spec: Spec) -> None:
    panoptic = _scene(spec)[2]
    fields = {name: getattr(panoptic, name) for name in panoptic.__dataclass_fields__}
    facts = {"contender": "arrays", "threads": 1}
    ids, infos = time_calls(benchmark, lambda: Panoptic(**fields).to_coco(), f"to_coco: {spec}", 30, **facts)
    found, area = np.unique(ids, return_counts=True)
    assert {info["id"]: info["area"] for info in infos} == dict(zip(found.tolist(), area.tolist(), strict=True))


def bench_to_coco_floor(benchmark: Any, spec: Spec) -> None:
    """Both maps are read; that of ids is written."""
    panoptic = _scene(spec)[2]
    time_floor(benchmark, f"to_coco: {spec}", 1, [panoptic.semantic, panoptic.instance], [panoptic.instance])


def bench_predict(benchmark: Any, spec: Spec, tmp_path: Path) -> None:
    """Images a second are `PHOTOS` over the time."""
    image, heads, _ = _scene(spec)
    (tmp_path / "photos").mkdir()
    for i in range(PHOTOS):
        photo.write_jpeg(tmp_path / "photos" / f"{i}.jpg", image)
    network = Stub(heads)
    parser = Parser(network, LABELS, size=0)
    found = find_sources([tmp_path / "photos"], tmp_path / "out")
    settings = describe_settings(network, parser, trained=True)
    made: list[BatchJob] = []

    def predict() -> None:
        made.append(BatchJob(parser, found.sources, tmp_path / "out", settings, labels=LABELS, overwrite=True))
        made[-1].run()

    benchmark.group = f"predict: {PHOTOS} photographs, {spec}"
    benchmark.pedantic(predict, rounds=3, warmup_rounds=1)
    benchmark.extra_info["images a second"] = PHOTOS / benchmark.stats.stats.min if benchmark.stats else None
    assert made[-1].images == PHOTOS
    told = json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"]
    assert len(told) == PHOTOS
    np.testing.assert_array_equal(png.read_ids(tmp_path / "out" / "panoptic" / "3.png"), parser(image).to_coco()[0])
