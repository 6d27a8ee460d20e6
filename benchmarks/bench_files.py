# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab eval` takes for one pair of PNG files and one worker: read, checked, counted.

The maps have the size of Cityscapes' and are written as panopticapi's tools write theirs: by Pillow, with its defaults.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from deeperlab import scenes
from deeperlab.data import coco
from deeperlab.data.formats import chunks, png
from deeperlab.metrics import FolderEvaluation

THINGS, CLASSES = 16, 24


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[coco.Dataset, coco.Dataset]:
    """A drawn scene, and as its prediction the same scene some pixels aside."""
    size = (1024, 2048) if request.config.getoption("benchmark_enable", False) else (64, 128)
    scene = scenes.draw(1, size, instances=50, num_classes=CLASSES, num_things=THINGS, coverage=0.35)
    keys, index = np.unique(scene.category.astype(np.int64) * 1000 + scene.instance, return_inverse=True)
    colors = np.random.default_rng(0).permutation((1 << 24) - 1)[: len(keys)] + 1
    truth = colors[index].reshape(size)
    folder = tmp_path_factory.mktemp("pair")
    categories = [coco.Category(c + 1, f"class {c}", c < THINGS) for c in range(CLASSES)]
    category_of = {int(color): int(key) // 1000 + 1 for color, key in zip(colors, keys, strict=True)}
    for name, ids in (("target", truth), ("prediction", np.roll(truth, (1, 3), (0, 1)))):
        entry = coco.Annotation(1, "1.png", coco.describe(ids, category_of))
        coco.write(folder / f"{name}.json", folder / name, [(entry, ids)], categories)
    target, prediction = (coco.read(folder / f"{name}.json", folder / name) for name in ("target", "prediction"))
    return target, prediction


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
