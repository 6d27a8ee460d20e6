# SPDX-License-Identifier: Apache-2.0
"""What the tests of `deeperlab predict` share: networks that need no training, pictures, and the command."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typer.testing import CliRunner

from deeperlab import Heads, scenes, targets
from deeperlab.cli import app
from deeperlab.data import labels
from deeperlab.predictor import video

LABELS = labels.preset("cityscapes")
SIZES = {"a": (33, 49), "b": (50, 21), "000000000139": (20, 20), "aachen_1_2_leftImg8bit": (17, 60)}


class Net(torch.nn.Module):
    """Heads are mixtures of the colors at the nodes."""

    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    num_classes = len(LABELS)
    radius = 25.0

    def __init__(self, name: str = "net", *, trained: bool = True, num_classes: int = num_classes) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.has_trained_weights = trained
        self.config = {"name": name, "num_classes": num_classes}
        generator = torch.Generator().manual_seed(len(name))
        self.register_buffer("steps", torch.tensor(3))
        self.weight = torch.nn.Parameter(torch.randn((num_classes + 41, 3, 1, 1), generator=generator))

    def fold_batch_norm(self) -> Net:
        return self

    def forward(self, images: torch.Tensor) -> Heads:
        mixed = torch.nn.functional.conv2d(images[:, :, ::4, ::4], self.weight)
        return Heads(*mixed.split((self.num_classes, 5, 10, 16, 10), dim=1))


class Perfect(Net):
    """Sees one drawn scene, whatever it is shown."""

    scene = scenes.draw(1, (129, 193), instances=6, num_classes=19, num_things=8, least_area=200)
    scene = replace(scene, category=(scene.category + 11) % 19)  # Cityscapes' things are the last eight

    def forward(self, images: torch.Tensor) -> Heads:
        heads = targets.encode_heads(self.scene.category, self.scene.instance, self.num_classes)
        return heads.map(lambda head: torch.from_numpy(head)[None])


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]


def write_video(
    path: Path, size: tuple[int, int] = (34, 50), frames: int = 7, times: Any = None, aspect: Any = Fraction(1)
) -> Path:
    """Smooth pictures that move, as a codec likes them."""
    times = range(frames) if times is None else times
    ramp = np.linspace(0, 180, size[1])[None, :, None] + np.array([0, 30, 60]) + np.zeros((size[0], 1, 1))
    with path.open("wb") as file, video.Encoder(file, path) as encoder:
        for i, pts in enumerate(times):
            pixels = (ramp + i).astype(np.uint8)
            encoder.add(pixels, video.Frame(pixels, pts, Fraction(1, 10), aspect=aspect))
    return path


def run(*arguments: object, labels: str = "cityscapes") -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["predict", *map(str, arguments), "--device", "cpu", "--labels", labels]
    )


def fault(*arguments: object, **options: Any) -> str:
    result = run(*arguments, **options)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("deeperlab: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr[len("deeperlab: ") : -1])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, with what the next run must know."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def result_files(folder: Path) -> set[str]:
    """Of the results; what the next run must know is not among them."""
    return {name for name in contents(folder) if not name.startswith(".deeperlab/")}
