# SPDX-License-Identifier: Apache-2.0
"""How good is the fusion? One parameter at a time, on drawn scenes and real annotations, as a Markdown table.

    python benchmarks/tune.py [--realdata DIR] [--strides 4 1] [--only NAME ...]

Things PQ is the mean over images; an instance is found when its IoU exceeds 0.5, spurious predictions match nothing.
Heads are perfect, or perturbed by `deeperlab.scenes.noise`. The figures of docs/tuning.md come from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

import deeperlab
from deeperlab import FuseParams, Heads, scenes, targets
from deeperlab.data.formats import coco
from deeperlab.metrics import PanopticQuality
from deeperlab.oracle.ceiling import assigned_to
from deeperlab.oracle.diagnose import Truth
from deeperlab.scenes import noise

SWEEP: dict[str, tuple[Any, ...]] = {
    "long_steps": (1, 2),
    "long_short_steps": (0, 1, 3, 5),
    "middle_steps": (0, 1, 3, 5),
    "long_voters": ("all",),
    "vote_cell": (1, 2, 3, 6, 8),
    "short_weight": (0.0, 0.5, 2.0),
    "long_weight": (0.0, 0.25, 0.5, 2.0, 4.0),
    "peak_threshold": (0.01, 0.02, 0.03, 0.08, 0.1, 0.15),
    "kappa": (0.05, 0.2, 0.4),
    "oks_cell": (False,),
    "instance_threshold": (0.0, 0.02, 0.1, 0.2),
    "nms_radius": (5.0, 7.0, 15.0, 20.0),
    "nms_radius_min": (0.0, 1.0, 4.0, 10.0),
    "nms_relative": (0.15, 0.25, 0.5),
    "box_iou": (0.5, 0.6, 0.8, 0.9, 1.0),
    "majority": ("all",),
    "fit_area": (0.0, 0.1, 1.0),
}


@dataclass(frozen=True)
class Image:
    """Ground truth; classes below `things` are things, −1 is left out."""

    name: str
    category: NDArray[np.int32]
    instance: NDArray[np.int32]
    classes: int
    things: tuple[int, ...]


def drawn() -> Iterator[Image]:
    """Scenes of few and many things, large and small."""
    kinds: tuple[dict[str, Any], ...] = (
        {"instances": 5},
        {"instances": 20},
        {"instances": 50},
        {"instances": 60, "heights": (14, 40)},
        {"instances": 120, "coverage": 0.5},
        {"instances": 30, "overlap": False},
    )
    for seed, kind in enumerate((*kinds, *kinds)):
        scene = scenes.draw(seed, (361, 481), **kind)
        yield Image(f"drawn {seed}", scene.category, scene.instance, scene.num_classes, scene.things)


def real(folder: Path) -> Iterator[Image]:
    """The annotated photos, where they are."""
    path = folder / "panopticapi_sample" / "panoptic_examples.json"
    if not path.is_file():
        print(f"no real annotations at {path}; drawn scenes only")
        return
    data = coco.read(path, path.parent / "panoptic_examples")
    things = tuple(c for c, category in enumerate(data.categories) if category.isthing)
    for annotation in data.annotations:
        truth = Truth.of(data.ids(annotation), annotation.segments, data.categories)
        yield Image(str(annotation.image_id), truth.category, truth.instance, len(data.categories), things)


def encode(image: Image, stride: int, level: int) -> Heads:
    heads = targets.encode_heads(image.category, image.instance, image.classes, stride=stride, ignore=-1)
    return noise.perturb(heads, seed=level, instance=image.instance, level=level)


def score(image: Image, heads: Heads, params: FuseParams | None) -> tuple[float, int, int]:
    """Things PQ, instances found and spurious ones; without parameters, of the true keypoints."""
    size = image.category.shape
    if params is None:
        points = targets.keypoints(image.instance)[1]
        semantic, instance = assigned_to(points, heads, image.things, size, FuseParams())
    else:
        found = deeperlab.fuse(heads, image.things, size=size, params=params)
        semantic, instance = found.semantic, found.instance
    quality = PanopticQuality({c: c in image.things for c in range(image.classes)})
    left_out = image.category < 0
    quality.update((np.where(left_out, -1, semantic), instance), (image.category, image.instance))
    result = quality.compute()
    counts = [result.per_class[c] for c in image.things]
    return result.things.pq, sum(c.tp for c in counts), sum(c.fp for c in counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realdata", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "realdata")
    parser.add_argument("--strides", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--levels", type=int, nargs="+", default=[0, 2, 3], help="noise, see deeperlab.scenes.noise")
    parser.add_argument("--only", nargs="+", choices=sorted(SWEEP), default=sorted(SWEEP, key=list(SWEEP).index))
    options = parser.parse_args()

    images = [*drawn(), *real(options.realdata)]
    instances = sum(len(np.unique(image.instance)) - 1 for image in images)
    rows: list[tuple[str, FuseParams | None]] = [("true keypoints", None)]
    rows += [("default", FuseParams()), ("paper()", FuseParams.paper())]
    rows += [
        (f"{name} {value}", replace(FuseParams(), **{name: value})) for name in options.only for value in SWEEP[name]
    ]
    columns = [(stride, level) for stride in options.strides for level in options.levels]
    table: dict[str, list[str]] = {label: [] for label, _ in rows}
    for stride, level in columns:
        heads = [encode(image, stride, level) for image in images]
        for label, params in track(rows, description=f"stride {stride}, noise {level}"):
            scores = [score(image, h, params) for image, h in zip(images, heads, strict=True)]
            pq = np.nanmean([s[0] for s in scores])
            table[label].append(f"{pq:.3f} {sum(s[1] for s in scores)} / {sum(s[2] for s in scores)}")

    print(f"\n{len(images)} images, {instances} instances; things PQ, found / spurious\n")
    print("| parameter | " + " | ".join(f"stride {s}, noise {n}" for s, n in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for label, cells in table.items():
        print(f"| {label} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
