# SPDX-License-Identifier: Apache-2.0
"""Train every network alike, for a short while and from random weights: the quality of docs/systems.md.

    DEEPERLAB_REALDATA=DIR .venv/bin/python -m benchmarks.systems_quality [NAME ...]

Two trainings a network, with the semantic head alone: on drawn scenes, and on the 100 photographs of DIR/coco_panoptic
with the 16 coarse classes of `photo16`, judged by the mIoU on unseen scenes and on its 50 other photographs. Whatever
is done is kept in benchmarks/results/systems-quality.json, so run it again where it was stopped, or beside itself with
other names; it takes hours. `make systems` brings it into the table. One thread each: sums of floats depend on their
number and on the processor, and training does not forget it, so the same seed gives the same figures on the same
machine alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.make_photo16 import VAL
from deeperlab import models
from deeperlab.training import Config, train
from deeperlab.training.config_file import assignment, load

KEPT = Path(__file__).resolve().parent / "results" / "systems-quality.json"
STEPS, BATCH, CROP, SEED = 100, 4, 65, 0
OPTIONS = (
    f"train.steps={STEPS}", f"train.batch={BATCH}", f"data.crop={CROP}", f"train.seed={SEED}", "train.optimizer=adamw",
    "train.warmup=15", "train.ema=0", "train.precision=fp32", "loss.top_k=1", "loss.small_weight=1",
    "data.workers=0", "validate.every=0", "validate.ceiling=0", "validate.heads=never", "validate.pictures=0",
    "model.options.graph=none", "model.options.bn_momentum=0.1",
)  # fmt: skip
"""Of every training, over those of the recipe `tiny`: whose scenes have 6 classes of things and 4 of stuff."""
LR_NORM, LR_PLAIN = 3e-3, 3e-4
"""The learning rate of networks with batch norms, and of those without, which jump about at that."""
WIDTH = 97
"""px of the longer side of a photograph: a crop then shows most of it, for what a class looks like is not learned in so
few steps, but where in a photograph it is."""
PHOTOGRAPHS = (f"data.longest_side={WIDTH}", f"validate.size={WIDTH}", "data.scale=[0.8, 1.25]", "data.jitter=0.1")
"""Of the trainings on photographs, over all these."""
SETTINGS = [
    *OPTIONS,
    f"train.lr={LR_NORM}, {LR_PLAIN} without batch norms",
    *(f"photographs: {option}" for option in PHOTOGRAPHS),
]


def data_of(kind: str, room: Path) -> tuple[str, ...]:
    """Options of the data: `scenes`, or `photographs` listed in a file in `room`."""
    if kind == "scenes":
        return ("data.source=scenes",)
    listed = room / "photographs.toml"
    listed.write_text(VAL.format(panoptic=Path(os.environ["DEEPERLAB_REALDATA"]).resolve() / "coco_panoptic"))
    return (f"data.source={listed}", *PHOTOGRAPHS)


def config_of(name: str, kind: str, room: Path) -> Config:
    """All options of a training."""
    with torch.device("meta"):
        norm = any(isinstance(layer, nn.BatchNorm2d) for layer in models.create(name, 2).modules())
    own = (
        f"model.name={name}",
        "model.options={}",
        f"train.lr={LR_NORM if norm else LR_PLAIN}",
        *OPTIONS,
        *data_of(kind, room),
    )
    return load("tiny", overrides=list(map(assignment, own)))


def quality(name: str, kind: str) -> dict[str, float]:
    """Train, and return what the validation at the end found."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as room:
        run = train(config_of(name, kind, Path(room)), Path(room) / "run")
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    (found,) = (line for line in lines if "miou" in line)
    assert found["step"] == STEPS
    return {"miou": round(found["miou"], 4), "minutes": round((time.monotonic() - start) / 60, 1)}


def kept() -> dict[str, Any]:
    """What was trained: `quality` by data and network, with the options and the machine."""
    if not KEPT.exists():
        return {"options": SETTINGS, "machine": {}, "quality": {}}
    found: dict[str, Any] = json.loads(KEPT.read_text())
    if found["options"] != SETTINGS:
        raise ValueError(f"{KEPT}: trained with other options than {SETTINGS}; remove it, and train again")
    return found


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=models.list_models(), metavar="NAME")
    names = parser.parse_args().names
    kinds = ["scenes", *(["photographs"] if "DEEPERLAB_REALDATA" in os.environ else [])]
    torch.set_num_threads(1)
    # Plain matrix products: which convolution oneDNN chooses depends on more, and it is hardly faster for such crops.
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    for kind in kinds:
        for name in names:
            if name in kept()["quality"].get(kind, {}):
                continue
            made = quality(name, kind)
            found = kept()  # another process may have added to it
            found["machine"] = {"threads": 1, "cpu": torch.backends.cpu.get_cpu_capability()}
            found["quality"].setdefault(kind, {})[name] = made
            KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
            print(kind, name, made, flush=True)


if __name__ == "__main__":
    main()
