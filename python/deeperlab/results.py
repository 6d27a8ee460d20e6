# SPDX-License-Identifier: Apache-2.0
"""From a file of heads to files of results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .data import archive, coco
from .fuse import fuse
from .panoptic import Panoptic
from .params import FuseParams


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image."""

    name: str
    instances: int
    classes: int
    milliseconds: float
    truncated: bool


def fuse_file(
    path: Path, things: Sequence[int], out: Path, *, size: tuple[int, int] | None, params: FuseParams
) -> list[ImageResult]:
    """Fuse the heads of an NPZ and write PNGs, panoptic.json and panoptic.npz to a folder.

    Images are fused one by one, so that memory does not grow with the batch.

    Raises:
        FormatError, ValueError, TypeError: heads or an argument that do not fit; nothing is written then.
        OSError: a file cannot be read or written.
    """
    heads = archive.load(path)
    count = heads.heatmap.shape[0] if heads.batched else 1
    parts = {field.name: getattr(heads, field.name) for field in fields(heads)}
    stem = path.stem
    results, panoptics, entries = [], [], []
    for i in range(count):
        part = {k: v[i] if heads.batched and isinstance(v, np.ndarray) else v for k, v in parts.items()}
        start = time.perf_counter()
        panoptic = fuse(part, things, size=size, params=params)
        seconds = time.perf_counter() - start
        name = f"{stem}.png" if count == 1 else f"{stem}_{i:04d}.png"
        present = {segment.category for segment in panoptic.segments}
        results.append(ImageResult(name, int(panoptic.count), len(present), 1000 * seconds, bool(panoptic.truncated)))
        panoptics.append(panoptic)
        entries.append((_annotation(i, name, panoptic), panoptic.to_ids()))
    categories = [coco.Category(c + 1, f"class {c}", c in set(things)) for c in range(heads.classes)]
    out.mkdir(parents=True, exist_ok=True)
    coco.write(out / "panoptic.json", out, entries, categories, info={"description": "deeperlab fuse"})
    coco.replace(out / "panoptic.npz", partial(_write_arrays, panoptics, heads.batched))
    return results


def _annotation(image_id: int, name: str, panoptic: Panoptic) -> coco.Annotation:
    segments = tuple(
        coco.SegmentInfo(info["id"], info["category_id"], area=info["area"], bbox=tuple(info["bbox"]))
        for info in panoptic.to_coco({c: c + 1 for c in range(panoptic.class_area.shape[-1])})
    )
    return coco.Annotation(image_id, name, segments)


def _write_arrays(panoptics: Sequence[Panoptic], batched: bool, file: Any) -> None:
    names = [field.name for field in fields(Panoptic) if field.name != "things"]
    stacked: dict[str, Any] = {name: np.stack([getattr(p, name) for p in panoptics]) for name in names if panoptics}
    np.savez_compressed(file, **(stacked if batched else {name: a[0] for name, a in stacked.items()}))
