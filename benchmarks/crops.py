# SPDX-License-Identifier: Apache-2.0
"""Keypoints of objects that a crop cuts: of the visible part, or of the whole object (data.keypoints)?

    .venv/bin/python -m benchmarks.crops [--steps 600] [--seeds 0 1] [--crop 97]

The recipe `tiny` is trained with either on crops of drawn scenes of 193 px, with the same seeds, and validated on whole
scenes, on which nothing is cut. A Markdown table: PQ of things, of each seed and the mean. A step takes a third of a
second of one core. The figures of docs/training.md come from here.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from deeperlab.training import train
from deeperlab.training.config_file import Layer, load
from deeperlab.training.run_folder import RunFolder

KEYPOINTS = ("visible", "whole")


def things_pq(keypoints: str, crop: int, steps: int, seed: int, more: dict[str, object] | None = None) -> float:
    """Train a network from its first weights, and return its PQ of things on whole scenes, as a fraction."""
    options = {
        "data.source": "scenes",
        "data.keypoints": keypoints,
        "data.crop": crop,
        "data.workers": 0,
        "train.steps": steps,
        "train.seed": seed,
        "train.device": "cpu",
        "validate.every": 0,
        "validate.pictures": 0,
        "validate.heads": "never",
    }
    config = load("tiny", overrides=[Layer("benchmarks/crops.py", options | (more or {}))])
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        found = RunFolder(Path(folder) / "run").lines()[-1]["pq_things"]
    return 0.0 if found is None else float(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--crop", type=int, default=97)
    arguments = parser.parse_args()
    seeds = arguments.seeds
    print(f"| data.keypoints | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |")
    print("|---" * (len(seeds) + 2) + "|")
    for keypoints in KEYPOINTS:
        found = [100 * things_pq(keypoints, arguments.crop, arguments.steps, seed) for seed in seeds]
        figures = " | ".join(f"{value:.1f}" for value in [*found, statistics.fmean(found)])
        print(f"| {keypoints} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
