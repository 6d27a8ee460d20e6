"""Drawn images with annotations, in memory and as files: what the tests of the training's data read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeperlab.data import coco, labels, segments
from deeperlab.data.sample import Sample, Samples, from_maps

CATEGORIES = (coco.Category(1, "disk", True), coco.Category(2, "ground", False))
LABELS = labels.from_categories("shapes", CATEGORIES)
GROUND, DISK = (40, 90, 140), (230, 200, 60)


def drawn(category: np.ndarray, instance: np.ndarray, image_id: int = 0) -> Sample:
    """A sample of maps, whose photograph has two colors."""
    pixels = np.where((instance > 0)[..., None], DISK, GROUND).astype(np.uint8)
    return replace(from_maps(category, instance, LABELS, image_id=image_id), pixels=pixels)


def disks(size: tuple[int, int], circles: Sequence[tuple[float, float, float]], image_id: int = 0) -> Sample:
    """Disks (x, y, radius) px on ground; pixels are of a disk where their centers are."""
    y, x = np.ogrid[: size[0], : size[1]]
    instance = np.zeros(size, np.int32)
    for n, (cx, cy, radius) in enumerate(circles, start=1):
        instance[(x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= radius**2] = n
    return drawn(np.where(instance > 0, 0, 1), instance, image_id)


def scene(number: int, size: tuple[int, int] = (60, 80)) -> Sample:
    """A few disks at random."""
    rng = np.random.default_rng(number)
    circles = [(rng.uniform(0, size[1]), rng.uniform(0, size[0]), rng.uniform(3, 15)) for _ in range(4)]
    return disks(size, circles, number)


@dataclass(frozen=True)
class Scenes(Sequence[Sample]):
    """`scene` of 0 … length − 1; reading one of `broken` raises `fault`."""

    length: int
    broken: frozenset[int] = frozenset()
    fault: type[Exception] = OSError

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if index in self.broken:
            raise self.fault(f"scene {index} is torn")
        return scene(index)


def write(folder: Path, count: int) -> Samples:
    """Write scenes 1 … count in COCO's panoptic format, with their photographs, and open them."""
    (folder / "photos").mkdir(parents=True)
    entries = []
    for number in range(1, count + 1):
        ids, found = scene(number).to_coco(LABELS)
        entries.append((coco.Annotation(number, f"{number}.png", found, f"{number}.png", *ids.shape), ids))
        Image.fromarray(scene(number).image()).save(folder / "photos" / f"{number}.png")
    coco.write(folder / "maps.json", folder / "maps", entries, CATEGORIES)
    return segments.samples(folder / "maps.json", folder / "maps", images=folder / "photos")
