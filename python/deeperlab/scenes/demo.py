# SPDX-License-Identifier: Apache-2.0
"""The whole way on a drawn scene: encode, perturb, fuse, compare, write."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import coco, predictions
from ..data.files import check_ours
from ..fuse import fuse
from ..metrics import PanopticQuality
from ..panoptic import Panoptic
from ..targets import encode_heads
from ..visualize import instances, overlay
from . import scene as scenes
from .noise import perturb

FILES = ("image.png", "overlay.png", "instances.png", "panoptic.png", "panoptic.json")
MARK = "deeperlab demo"
CALLS = 5


@dataclass(frozen=True)
class Row:
    """One segment of the result; `box` is that of its pixels (`Segment.box`)."""

    id: int
    name: str
    score: float | None
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Result:
    """What the demo found, and how fast.

    Attributes:
        pixel_accuracy: share of the pixels whose class is right and, on things, whose instance is the matching one.
        pq: panoptic quality over the classes of the scene.
        milliseconds: median of `calls` calls of `fuse`, the first one apart.
    """

    segments: tuple[Row, ...]
    drawn: int
    found: int
    pixel_accuracy: float
    pq: float | None
    milliseconds: float
    calls: int
    size: tuple[int, int]
    files: tuple[str, ...]


def run(out: Path, *, seed: int, size: tuple[int, int], things: int, stride: int, noise: int) -> Result:
    """Draw, encode, perturb, fuse, write to the folder `out`.

    Raises:
        FileExistsError: `out` holds a file of the same name that is not the demo's.
        ValueError: an argument out of bounds, named.
        OSError: a file cannot be written.
    """
    check(out)
    scene = scenes.draw(seed, size, instances=things)
    heads = encode_heads(scene.category, scene.instance, scene.num_classes, stride=stride)
    heads = perturb(heads, seed, instance=scene.instance, level=noise)
    panoptic = fuse(heads, scene.things, size=size)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        fuse(heads, scene.things, size=size)
        times.append(time.perf_counter() - start)

    metric = PanopticQuality({c: c in scene.things for c in range(scene.num_classes)})
    truth = scene.category, scene.instance
    metric.update((panoptic.semantic, panoptic.instance), truth)
    _write(out, scene, panoptic)
    return Result(
        tuple(Row(s.id, scene.names[s.category], s.score, s.area, s.box) for s in panoptic.segments),
        drawn=int(scene.instance.max(initial=0)),
        found=int(panoptic.count),
        pixel_accuracy=_pixel_accuracy((panoptic.semantic, panoptic.instance), truth),
        pq=metric.compute().to_dict()["All"]["pq"],
        milliseconds=1000 * statistics.median(times),
        calls=CALLS,
        size=size,
        files=FILES,
    )


def check(out: Path, more: Sequence[str] = ()) -> None:
    """Refuse a folder with files of the demo's names, and of `more`, that are not the demo's; raises as `run`."""
    check_ours(out, (*FILES, *more), FILES[-1], MARK)


def _pixel_accuracy(prediction: tuple[NDArray[Any], NDArray[Any]], truth: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """Share of the pixels of right class and, on things, in the instance that shares most of its pixels with theirs.

    Instances pair off by overlap, each at most once.
    """
    pairs, overlap = np.unique(np.stack((prediction[1].ravel(), truth[1].ravel())), axis=1, return_counts=True)
    partner: dict[int, int] = {0: 0}
    for i in np.argsort(-overlap, kind="stable"):
        p, g = int(pairs[0, i]), int(pairs[1, i])
        if p and g and p not in partner and g not in partner.values():
            partner[p] = g
    table = np.full(int(prediction[1].max(initial=0)) + 1, -1)
    table[list(partner)] = list(partner.values())
    return float(((prediction[0] == truth[0]) & (table[prediction[1]] == truth[1])).mean())


def _write(out: Path, scene: scenes.Scene, panoptic: Panoptic) -> None:
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    image_name, overlay_name, instances_name, ids_name, json_name = FILES
    categories = [coco.Category(c + 1, name, c in scene.things) for c, name in enumerate(scene.names)]
    annotation, ids = predictions.entry(panoptic, 1, ids_name)
    coco.write(
        out / json_name,
        out,
        [(replace(annotation, image_file_name=image_name), ids)],
        categories,
        info={"description": MARK},
    )
    pictures = {
        image_name: scene.image,
        overlay_name: overlay(scene.image, panoptic, scene.names),
        instances_name: instances(scene.image, panoptic, scene.names),
    }
    for name, picture in pictures.items():
        coco.replace(out / name, partial(Image.fromarray(picture).save, format="PNG"))
