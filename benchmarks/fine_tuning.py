# SPDX-License-Identifier: Apache-2.0
"""Does it pay to go on from the network of the package? Drawn scenes, two runs of equal steps and equal time.

    .venv/bin/python -m benchmarks.fine_tuning --out RUNS [--steps 1200]

RUNS/photo16 goes on from `photo16` by the recipe `fine-tune`, RUNS/scratch trains the same network from random weights:
all of it at one rate, with batch norms that learn their statistics. Prints a Markdown table of the validations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SCENES = "{size = [257, 257], instances = 8, num_classes = 10, num_things = 6, count = 5000, count_val = 100}"
COMMON = {
    "data.scenes": SCENES, "data.crop": "257", "data.scale": "[0.8, 1.25]", "data.jitter": "0.1", "data.workers": "0",
    "data.longest_side": "257", "train.lr": "1e-3", "loss.top_k": "1.0", "loss.top_k_steps": "0",
    "validate.images": "100", "model.options.image_size": "257",
}  # fmt: skip
NAMES = ("pq", "pq_things", "pq_stuff")
SCRATCH = {"train.backbone_lr": "1.0", "train.freeze_bn": "none", "model.options.bn_momentum": "0.05"}


def train(out: Path, begin: list[str], options: dict[str, str]) -> dict[int, dict[str, float]]:
    """Train, and return the validations by their steps."""
    if not (out / "metrics.jsonl").exists():
        sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "deeperlab", "train", "--data", "scenes", "--out", str(out), *begin, *sets]
        subprocess.run(command, check=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "pq" in line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--from", dest="source", default="photo16")
    arguments = parser.parse_args()
    steps = {"train.steps": str(arguments.steps), "validate.every": str(arguments.steps // 4)}
    tuned = train(arguments.out / "photo16", ["--from", arguments.source], COMMON | steps)
    config = json.loads((arguments.out / "photo16" / "last" / "config.json").read_text())
    same = {"model.name": "efficientnet_lite0", "data.radius": str(config["radius"])}
    scratch = train(arguments.out / "scratch", ["--recipe", "fine-tune"], COMMON | steps | same | SCRATCH)
    print("| step | from photo16: PQ, things, stuff | from random weights |\n|---|---|---|")
    for step in tuned:
        rows = ([f"{100 * run[step][name]:.1f}" for name in NAMES] for run in (tuned, scratch))
        print(f"| {step} | {' | '.join(map(', '.join, rows))} |")
    last = max(tuned)
    assert tuned[last]["pq"] > scratch[last]["pq"], "it does not pay"


if __name__ == "__main__":
    main()
