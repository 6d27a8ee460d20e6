# SPDX-License-Identifier: Apache-2.0
"""What is timed: drawn scenes of 66 classes, 37 of them things that cover 35 %, as noisy heads at stride 4."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from deeperlab import Heads, scenes, targets
from deeperlab.heads import NAMES
from deeperlab.scenes import noise

THINGS = tuple(range(37))
CLASSES = 66
PAPER_MS = {
    (257, 257): 5,
    (321, 321): 8,
    (513, 513): 19,
    (641, 641): 25,
    (721, 721): 45,
    (513, 1025): 45,
    (1441, 1441): 145,
    (1025, 2049): 154,
}
"""By height and width, Table 1 of the paper: "merge" on a Xeon E5-1650 v3, scope not stated."""


@dataclass(frozen=True)
class Spec:
    """A scene: (H, W) px, or the side of a square, and how its heads come.

    Heads at stride 1 are those at stride 4, upsampled as `torch.nn.functional.interpolate` does with aligned corners:
    what a network hands over that upsamples its own outputs.
    """

    size: int | tuple[int, int]
    instances: int
    stride: int = 4
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __str__(self) -> str:
        size = str(self.size) if isinstance(self.size, int) else "x".join(map(str, self.size))
        parts = [f"{size} px", f"{self.instances} thing{'s' if self.instances != 1 else ''}"]
        parts += [f"stride {self.stride}"] * (self.stride != 4) + [self.dtype] * (self.dtype != "float32")
        return ", ".join(parts)


def noisy_heads(spec: Spec) -> Heads:
    """The heads [1, …] of a scene, as tensors, with the errors of a network."""
    scene = scenes.draw(
        1, spec.shape, instances=spec.instances, num_classes=CLASSES, num_things=len(THINGS), coverage=0.35
    )
    perfect = targets.encode_heads(scene.category, scene.instance, CLASSES, stride=4)
    noisy = noise.perturb(perfect, seed=1, instance=scene.instance, level=1)
    tensors = [torch.from_numpy(getattr(noisy, name)[None]) for name in NAMES]
    if spec.stride == 1:
        tensors = [
            torch.nn.functional.interpolate(head, size=spec.shape, mode="bilinear", align_corners=True)
            for head in tensors
        ]
    dtype = getattr(torch, spec.dtype)
    named: dict[str, Any] = {name: head.to(dtype) for name, head in zip(NAMES, tensors, strict=True)}
    return replace(noisy, **named, stride=spec.stride)
