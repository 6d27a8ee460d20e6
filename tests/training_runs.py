# SPDX-License-Identifier: Apache-2.0
"""Short runs on small drawn scenes, and what two of them have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deeperlab.models.backbones import mobilenet_v2
from deeperlab.training.checkpoint import load_state
from deeperlab.training.config import Config, DataConfig, ModelConfig, TrainConfig, ValidateConfig

NETWORK = {
    "decoder_channels": 16, "decoder_kernel": 3, "semantic_channels": 16, "instance_channels": 16, "head_kernel": 3,
    "bn_momentum": 0.96,
}  # fmt: skip
SCENES = {
    "size": (65, 65), "instances": 3, "num_classes": 4, "num_things": 3, "count": 16, "count_val": 2, "least_area": 150,
}  # fmt: skip
STAGES = ((1, 8, 1, 1), (2, 8, 2, 2), (2, 8, 1, 2), (2, 16, 1, 2), (2, 16, 1, 1), (2, 16, 1, 2), (2, 16, 1, 1))
"""Of a backbone like MobileNetV2, with a fortieth of its multiplications."""
TIMES = ("images_per_second", "data_share", "seconds", "network_share", "fusion_share")
"""Names in a line of the metrics that no two runs agree in."""


def lighten() -> None:
    """Make MobileNetV2 small in this process."""
    mobilenet_v2.STAGES = STAGES  # type: ignore[attr-defined]


def small(
    steps: int = 6, *, workers: int = 0, every: int = 3, model: dict[str, Any] | None = None, **train: Any
) -> Config:
    """Options of a run that takes a second."""
    settings = {
        "batch": 2, "warmup": 2, "lr": 1e-3, "precision": "fp32", "log_every": 2, "save_every": 4, "device": "cpu",
    }  # fmt: skip
    return Config(
        model=ModelConfig("mobilenet_v2", options=NETWORK | (model or {})),
        data=DataConfig(source="scenes", crop=65, workers=workers, radius=6.0, scenes=SCENES),
        train=replace(TrainConfig(steps=steps), **settings | train),
        validate=ValidateConfig(every=every, pictures=0, ceiling=0.5, heads="never"),
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def state(run: Path) -> dict[str, Any]:
    """All that a run goes on from, without times."""
    found = load_state(run / "state" / "state.pt")
    return {name: value for name, value in found.items() if name != "window"}


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of the values in which two states are not equal to the bit."""
    if isinstance(one, torch.Tensor):
        return [] if one.numpy().tobytes() == other.numpy().tobytes() else [name]
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [found for key in one for found in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{name}.{i}")
        ]
    return [] if one == other or (one != one and other != other) else [name]


def environment() -> dict[str, str]:
    """For processes of their own: one thread each, and the modules of the tests."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that runs code, for which `arguments` are its `sys.argv[1:]`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(), text=True, **pipes)  # type: ignore[call-overload, no-any-return]
