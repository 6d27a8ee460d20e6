# SPDX-License-Identifier: Apache-2.0
"""The top-down merge of 100 detections, on one thread, beside the usual way in torch: all masks of the whole image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab.stages import top_down

from .cases import CLASSES, THINGS

DETECTIONS, SIDE = 100, 28
RULES: dict[str, Any] = {"score_threshold": 0.5, "overlap_threshold": 0.5, "stuff_area": 64 * 64}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The paper's size when timed, a small one otherwise."""
    if "size" in metafunc.fixturenames:
        timed = metafunc.config.getoption("benchmark_enable", False)
        metafunc.parametrize("size", [1441 if timed else 241])


@lru_cache(maxsize=1)
def _scene(size: int) -> tuple[tuple[Any, ...], torch.Tensor, tuple[np.ndarray, ...]]:
    """Ellipses with noise in boxes that cover twice the image, on fields of 256 labels; the answer of the twin."""
    rng = np.random.default_rng(0)
    extent = np.exp(rng.normal(np.log(0.12), 0.7, (DETECTIONS, 2))).clip(0.01, 1) * size
    center = rng.uniform(0, size, (DETECTIONS, 2))
    boxes = np.concatenate((center - extent / 2, center + extent / 2), 1).clip(0, size).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = 1 - np.hypot(x, y) / (SIDE / 2 - 1) + rng.normal(0, 0.05, (DETECTIONS, SIDE, SIDE))
    masks = (1 / (1 + np.exp(-12 * inside))).astype(np.float32)
    scores = rng.uniform(0.5, 1, DETECTIONS).astype(np.float32)
    labels = rng.integers(0, len(THINGS), DETECTIONS).astype(np.int32)
    field = -(-size // 16)
    semantic = rng.integers(0, CLASSES, (16, 16)).repeat(field, 0).repeat(field, 1)[:size, :size].astype(np.int32)
    answer = top_down.top_down(
        *(array[None] for array in (semantic, masks, boxes, scores, labels)),
        things=THINGS, stuff=range(len(THINGS), CLASSES), num_classes=CLASSES, stride=1, size=(size, size),
        paste="detectron2", mask_threshold=0.5, max_instances=DETECTIONS, **RULES,
    )  # fmt: skip
    return tuple(map(torch.from_numpy, (boxes, scores, labels, masks))), torch.from_numpy(semantic), answer


@pytest.mark.parametrize("labels", ["int32", "uint8", "int64"])
@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_top_down(benchmark: Any, threads: int, size: int, labels: str) -> None:
    detections, semantic, answer = _scene(size)
    given: tuple[Any, ...] = (*detections, semantic.to(getattr(torch, labels)), THINGS)
    benchmark.group = f"top-down merge: {size} px, {DETECTIONS} detections"
    found = benchmark.pedantic(
        lambda: deeperlab.merge_top_down(*given, num_classes=CLASSES), rounds=50, warmup_rounds=2
    )
    for name, want in zip(
        ("semantic", "instance", "score", "category", "area", "class_area", "count", "truncated"), answer, strict=True
    ):
        np.testing.assert_array_equal(getattr(found, name).numpy(), want[0], err_msg=name)


@pytest.mark.parametrize("threads", [1], indirect=True)
def bench_top_down_baseline_torch(benchmark: Any, threads: int, size: int) -> None:
    """The baseline: grid_sample onto the image, K · H · W, then a walk over whole masks."""
    detections, semantic, answer = _scene(size)
    benchmark.group = f"top-down merge: {size} px, {DETECTIONS} detections"
    found = benchmark.pedantic(lambda: _walk(detections, semantic), rounds=1)
    assert (found != torch.from_numpy(answer[1][0])).float().mean() < 1e-4  # but for rounding at the threshold


def _walk(detections: tuple[Any, ...], semantic: torch.Tensor) -> torch.Tensor:
    """The instance map; stuff is filled too."""
    boxes, scores, labels, masks = detections
    height, width = semantic.shape
    x = (torch.arange(width) + 0.5 - boxes[:, 0, None]) / (boxes[:, 2] - boxes[:, 0])[:, None] * 2 - 1
    y = (torch.arange(height) + 0.5 - boxes[:, 1, None]) / (boxes[:, 3] - boxes[:, 1])[:, None] * 2 - 1
    whole = torch.empty(len(boxes), height, width, dtype=torch.bool)
    for k in range(len(boxes)):
        grid = torch.stack(torch.meshgrid(x[k], y[k], indexing="xy"), -1)[None]
        sampled = torch.nn.functional.grid_sample(masks[k, None, None], grid, align_corners=False)[0, 0]
        whole[k] = sampled >= 0.5
    instance, category = torch.zeros(height, width, dtype=torch.int32), torch.full((height, width), -1)
    count = 0
    for k in scores.argsort(descending=True, stable=True).tolist():
        area, overlap = int(whole[k].sum()), int((whole[k] & (instance > 0)).sum())
        if area == 0 or overlap / area > RULES["overlap_threshold"]:
            continue
        count += 1
        free = whole[k] & (instance == 0)
        instance[free], category[free] = count, int(labels[k])
    for c in range(CLASSES):
        left = (semantic == c) & (instance == 0)
        if c not in THINGS and int(left.sum()) >= RULES["stuff_area"]:
            category[left] = c
    return instance
