# SPDX-License-Identifier: Apache-2.0
"""What one worker takes for samples of 721 × 721 px: eight slots of a step, and the parts of it.

Photographs are JPEG and annotations PNG, as COCO's. Scales, windows and colors are those of the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeperlab import STAR, scenes
from deeperlab.data import coco, segments
from deeperlab.data.formats.photo import write_jpeg
from deeperlab.data.sample import Samples
from deeperlab.training.config import Config, DataConfig, TrainConfig
from deeperlab.training.sampling import uniform
from deeperlab.training.slots import Slots
from deeperlab.training.sources import Source, Sources
from deeperlab.training.transform import DRAWS, OF_COLORS, Colors, Example, transform

SLOTS = 8
THINGS, CLASSES = 16, 24
FILL = (128, 128, 128)


@dataclass(frozen=True, eq=False)
class Case:
    """One annotated photograph, and what samples of it are made with."""

    samples: Samples
    slots: Slots
    config: DataConfig
    draws: list[list[float]]


@pytest.fixture(scope="module", params=[(480, 640), (1024, 2048)], ids=lambda size: f"{size[0]}x{size[1]}")
def annotated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    timed = request.config.getoption("benchmark_enable", False)
    size = request.param if timed else (60, 80)
    scene = scenes.draw(1, size, instances=20, num_classes=CLASSES, num_things=THINGS)
    folder = tmp_path_factory.mktemp("set")
    spread = 1 << 16  # ids of up to 24 bits, as COCO's are
    ids = spread * np.where(scene.instance > 0, scene.instance, 100 + scene.category)
    category_of = {spread * (100 + c): c + 1 for c in range(CLASSES)}
    category_of |= {spread * n: int(c) + 1 for n, c in enumerate(scene.categories, start=1)}
    entry = coco.Annotation(1, "1.png", coco.describe(ids, category_of), "1.jpg")
    categories = [coco.Category(c + 1, f"class {c}", c < THINGS) for c in range(CLASSES)]
    coco.write(folder / "maps.json", folder / "maps", [(entry, ids)], categories)
    write_jpeg(folder / "1.jpg", scene.image)
    samples = segments.samples(folder / "maps.json", folder / "maps", images=folder)
    config = Config(data=DataConfig(crop=721 if timed else 49), train=TrainConfig(batch=SLOTS))
    slots = Slots(Sources(samples.labels, (Source("set", samples),), None), config, STAR, (0.5, 0.5, 0.5), 0)
    return Case(samples, slots, config.data, [uniform(0, 0, slot, DRAWS) for slot in range(SLOTS)])


def expected(case: Case, draws: list[float]) -> Example:
    """A sample, made of the whole photograph resized by Pillow, and of the maps pixel by pixel."""
    flip, scale, top, left = draws[:4]
    colors = draws[4 : 4 + OF_COLORS]
    sample, side = case.samples[0], case.config.crop
    assert isinstance(side, int)
    step = -1 if flip < case.config.flip else 1
    photo, category, instance = sample.image()[:, ::step], sample.category[:, ::step], sample.instance[:, ::step]
    shape = [max(1, round(length * 0.5 * 4**scale)) for length in category.shape]
    begin = [
        int(u * (abs(new - side) + 1)) * (1 if new >= side else -1) for new, u in zip(shape, (top, left), strict=True)
    ]
    place = [np.arange(side) + first for first in begin]
    inside = [(p >= 0) & (p < new) for p, new in zip(place, shape, strict=True)]
    shown = inside[0][:, None] & inside[1]
    index = [
        ((np.clip(p, 0, new - 1) + 0.5) * old / new).astype(int)
        for p, new, old in zip(place, shape, category.shape, strict=True)
    ]
    whole = Image.fromarray(np.ascontiguousarray(photo)).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    rows, columns = (np.clip(p, 0, new - 1) for p, new in zip(place, shape, strict=True))
    window = np.asarray(whole)[np.ix_(rows[inside[0]], columns[inside[1]])]
    image = np.full((side, side, 3), FILL, np.uint8)
    jittered = Colors.of(colors, case.config.jitter).apply(Image.fromarray(window))
    image[shown] = np.asarray(jittered).reshape(-1, 3)
    maps = [np.where(shown, values[np.ix_(*index)], fill) for values, fill in ((category, -1), (instance, 0))]
    return Example(image, maps[0], maps[1], ~shown, None, None, "set/1")


def check(case: Case, found: list[Example]) -> None:
    for example, draws in zip(found, case.draws, strict=True):
        wanted = expected(case, draws)
        for name in ("category", "instance", "ignore"):
            np.testing.assert_array_equal(getattr(example, name), getattr(wanted, name))
        # Resized values may differ by 2, which brightness, contrast and saturation then multiply.
        assert np.abs(example.image.astype(int) - wanted.image).max() <= 6


def bench_samples(benchmark: Any, annotated: Case) -> None:
    """All: the annotation, the photograph, and what is made of them."""
    benchmark.group = "eight samples"
    check(annotated, benchmark(lambda: [annotated.slots.sample(0, slot)[0] for slot in range(SLOTS)]))


def bench_annotation(benchmark: Any, annotated: Case) -> None:
    benchmark.group = "an annotation is read"
    sample = benchmark(lambda: annotated.samples[0])
    assert len(sample.categories) == sample.instance.max()


def bench_photograph(benchmark: Any, annotated: Case) -> None:
    benchmark.group = "a photograph is read"
    sample = annotated.samples[0]
    assert benchmark(sample.image).shape == (*sample.category.shape, 3)


def bench_transform(benchmark: Any, annotated: Case) -> None:
    """Without what is read."""
    benchmark.group = "eight samples of what is read"
    sample = annotated.samples[0]
    sample = replace(sample, pixels=sample.image())
    found = benchmark(
        lambda: [transform(sample, annotated.config, draws, STAR, fill=FILL) for draws in annotated.draws]
    )
    check(annotated, found)
