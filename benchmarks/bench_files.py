# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab eval` takes for one pair of PNG files and one worker: read, checked, counted.

The maps have the size of Cityscapes' and are written as panopticapi's tools write theirs: by Pillow, with its defaults.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeperlab import scenes
from deeperlab.data import coco
from deeperlab.data.formats import chunks, png
from deeperlab.metrics import FolderEvaluation

THINGS, CLASSES = 16, 24


def write_sets(folder: Path, size: tuple[int, int], images: int, instances: int) -> tuple[coco.Dataset, coco.Dataset]:
    """Drawn scenes with a border of void and a crowd; as their prediction the same, some pixels aside.

    The ground truth and the predictions, `target.json` and `prediction.json` with their folders.
    """
    categories = [coco.Category(c + 1, f"class {c}", c < THINGS) for c in range(CLASSES)]
    entries: dict[str, list[tuple[coco.Annotation, Any]]] = {"target": [], "prediction": []}
    for image in range(1, images + 1):
        scene = scenes.draw(image, size, instances=instances, num_classes=CLASSES, num_things=THINGS, coverage=0.35)
        keys, index = np.unique(scene.category.astype(np.int64) * 1000 + scene.instance, return_inverse=True)
        colors = np.random.default_rng(image).permutation((1 << 24) - 1)[: len(keys)] + 1
        ids = colors[index].reshape(size)
        category_of = {int(color): int(key) // 1000 + 1 for color, key in zip(colors, keys, strict=True)}
        truth = ids.copy()
        truth[: size[0] // 16] = 0
        for name, of in (("target", truth), ("prediction", np.roll(ids, (1, 3), (0, 1)))):
            segments = list(coco.describe(of, category_of))
            if name == "target":
                crowd = next(i for i, segment in enumerate(segments) if segment.category_id <= THINGS)
                segments[crowd] = replace(segments[crowd], iscrowd=True)
            entries[name].append((coco.Annotation(image, f"{image}.png", tuple(segments)), of))
    for name, written in entries.items():
        coco.write(folder / f"{name}.json", folder / name, written, categories)
    target, prediction = (coco.read(folder / f"{name}.json", folder / name) for name in entries)
    return target, prediction


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[coco.Dataset, coco.Dataset]:
    size = (1024, 2048) if request.config.getoption("benchmark_enable", False) else (64, 128)
    return write_sets(tmp_path_factory.mktemp("pair"), size, 1, instances=50)


def evaluated(pair: tuple[coco.Dataset, coco.Dataset]) -> dict[str, Any]:
    evaluation = FolderEvaluation(*pair)
    assert len(list(evaluation)) == 1
    return evaluation.total.compute().to_dict()


@pytest.mark.parametrize("decoder", ["zlib-ng", "zlib", "Pillow"])
def bench_pair_of_files(
    decoder: str, benchmark: Any, pair: tuple[coco.Dataset, coco.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is installed; without zlib-ng; by Pillow alone."""
    expected = evaluated(pair)
    if decoder == "zlib-ng":
        pytest.importorskip("zlib_ng", reason="needs zlib-ng, of deeperlab[cli]")
    else:
        monkeypatch.setattr(chunks, "fast_zlib", zlib)
    if decoder == "Pillow":
        monkeypatch.setattr(png, "decode", lambda *_: None)
    benchmark.group = "a pair of files"
    found = benchmark.pedantic(lambda: evaluated(pair), rounds=20, warmup_rounds=1)
    assert found == expected
    assert 0 < found["pq"]["All"]["pq"] < 1
