# SPDX-License-Identifier: Apache-2.0
"""The kernels beside the fusion that are tracked, each with a program that gives the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deeperlab import STAR, fuse, scenes
from deeperlab._numpy import draw, overlap
from deeperlab.targets import encode
from deeperlab.targets import reference as plain_targets
from deeperlab.training import losses
from deeperlab.visualize import reference as plain_pictures

from .bench_draw import arguments
from .bench_losses import cross_entropy_of_all, make_batch, step_of
from .bench_metrics import ids_of, numpy_counts
from .bench_targets import RADIUS, STRIDE
from .cases import CLASSES, THINGS, Spec, noisy_heads

SIZE, INSTANCES = 721, 50
Pair = tuple[Callable[[], Any], Callable[[], Any]]
"""The library on one thread, and a program that no change of the library makes faster or slower."""


def _scene() -> scenes.Scene:
    return scenes.draw(1, SIZE, instances=INSTANCES, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35)


def _encode() -> Pair:
    instance: Any = np.ascontiguousarray(_scene().instance, np.int32)
    return (
        lambda: encode(instance, radius=RADIUS, stride=STRIDE, num_threads=1),
        lambda: plain_targets.encode(instance, radius=RADIUS, stride=STRIDE, graph=STAR),
    )


def _semantic_loss() -> Pair:
    batch = make_batch(1, 257)
    return step_of(lambda *of: losses.semantic(*of, top_k=0.15), *batch), step_of(cross_entropy_of_all, *batch)


def _to_coco() -> Pair:
    """Of a copy, which has found no runs yet. Its yardstick counts the segments by sorting."""
    heads = noisy_heads(Spec(SIZE, INSTANCES)).map(lambda head: head[0].numpy())
    panoptic = fuse(heads, THINGS)
    maps = np.asarray(panoptic.semantic), np.asarray(panoptic.instance)
    return lambda: replace(panoptic).to_coco(), lambda: numpy_counts(*maps)


def _draw() -> Pair:
    arrays, how = arguments(_scene())
    return lambda: draw(*arrays, **how, num_threads=1), lambda: plain_pictures.draw(*arrays, **how)


def _overlap() -> Pair:
    scene = _scene()
    target = ids_of((scene.category, scene.instance))
    prediction = np.roll(target, (1, 3), (0, 1))
    return lambda: overlap(prediction, target), lambda: numpy_counts(prediction, target)


KERNELS: dict[str, Callable[[], Pair]] = {
    "encode": _encode,
    "semantic loss": _semantic_loss,
    "to_coco": _to_coco,
    "draw": _draw,
    "overlap": _overlap,
}
