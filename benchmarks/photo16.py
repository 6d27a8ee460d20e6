# SPDX-License-Identifier: Apache-2.0
"""How good is a network of the sixteen coarse classes `photo16`, beside what needs no network?

    .venv/bin/python -m benchmarks.photo16 --model RUN/last --data COCO [--pictures DIR]

COCO holds `panoptic_train.json` and `panoptic_val.json` with PNGs and photographs. Measured on the photographs to
validate on, at their own size, crowd and void as in panopticapi: the model; one class everywhere, the stuff class with
the most pixels; the class whose mean color is nearest to that of each pixel, one instance for all of a thing class. Two
Markdown tables.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeperlab import Parser, visualize
from deeperlab.data.sample import Sample
from deeperlab.metrics import Evaluation, EvaluationResult
from deeperlab.training.config import DataConfig
from deeperlab.training.sources import open_sources

Maps = tuple[NDArray[np.int32], NDArray[np.int32]]


def mean_colors(samples: list[Sample], classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean color [C, 3] and the number of pixels [C] of every class."""
    sums, pixels = np.zeros((classes, 3)), np.zeros(classes, np.int64)
    for sample in samples:
        known = sample.category >= 0
        classes_of, colors = sample.category[known], sample.image()[known]
        pixels += np.bincount(classes_of, minlength=classes)
        for channel in range(3):
            sums[:, channel] += np.bincount(classes_of, colors[:, channel], minlength=classes)
    return sums / np.maximum(pixels, 1)[:, None], pixels


def evaluate(samples: list[Sample], categories: dict[int, bool], predict: Callable[[Sample], Maps]) -> EvaluationResult:
    """Count all images."""
    metric = Evaluation(categories)
    for sample in samples:
        metric.update(predict(sample), sample.maps)
    return metric.compute()


def figures(result: EvaluationResult) -> dict[str, float]:
    """PQ of all, things and stuff, PC and mean IoU, by the names of a network's figures.json."""
    pq = {"pq": result.pq.all.pq, "pq_things": result.pq.things.pq, "pq_stuff": result.pq.stuff.pq}
    return pq | {"pc": result.pc.pc, "miou": result.iou.miou}


def row(name: str, result: EvaluationResult) -> str:
    """The figures in percent."""
    return f"| {name} | {' | '.join(f'{100 * value:.1f}' for value in figures(result).values())} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    network = Parser(arguments.model, size=arguments.size)
    labels = network.labels
    sources = open_sources(DataConfig(source=arguments.data, labels="photo16"))
    assert sources.val is not None
    train, val = list(sources.train[0].samples), list(sources.val.samples)
    colors, pixels = mean_colors(train, len(labels))
    things = np.array(labels.isthing)
    commonest = int(np.argmax(np.where(things, 0, pixels)))
    seconds: list[float] = []

    def parse(sample: Sample) -> Maps:
        begin = time.perf_counter()
        found = network(sample.image())
        seconds.append(time.perf_counter() - begin)
        maps = found.semantic.numpy(), found.instance.numpy()
        if arguments.pictures is not None:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            drawn = visualize.overlay(sample.image(), found, labels)
            Image.fromarray(drawn).save(arguments.pictures / f"{sample.image_id}.jpg")
        return maps

    def constant(sample: Sample) -> Maps:
        return np.full_like(sample.category, commonest), np.zeros_like(sample.instance)

    def nearest(sample: Sample) -> Maps:
        distance = ((sample.image()[..., None, :].astype(np.float32) - colors.astype(np.float32)) ** 2).sum(-1)
        category = distance.argmin(-1).astype(np.int32)
        return category, np.where(things[category], category + 1, 0).astype(np.int32)

    categories = dict(enumerate(labels.isthing))
    result = evaluate(val, categories, parse)
    print("| | PQ | things | stuff | PC | mIoU |\n|---|---|---|---|---|---|")
    print(row("the model", result))
    print(row(f"{labels.names[commonest]} everywhere", evaluate(val, categories, constant)))
    print(row("the class of the nearest mean color", evaluate(val, categories, nearest)))
    print(f"\n{len(val)} photographs, {statistics.median(seconds):.3f} s each\n")
    print("| class | PQ | SQ | RQ | found of | mIoU |\n|---|---|---|---|---|---|")
    for c, name in enumerate(labels.names):
        quality = result.pq.per_class[c]
        parts = " | ".join(f"{100 * value:.1f}" for value in (quality.pq, quality.sq, quality.rq))
        print(f"| {name} | {parts} | {quality.tp} of {quality.tp + quality.fn} | {100 * result.iou.per_class[c]:.1f} |")


if __name__ == "__main__":
    main()
