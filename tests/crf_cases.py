# SPDX-License-Identifier: Apache-2.0
"""Heads and images for the CRF: random ones of any shape, and drawn disks with the heads that a network might give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
HEIGHT, WIDTH, CLASSES = 48, 64, 5


def random_case(seed: int) -> tuple[Array, Array, dict[str, Any]]:
    """A head [N, C, h, w], images [N, H, W, 3] of flat patches and noise, and the options of the operator."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 3)), int(rng.choice([1, 2, 5, 8, 9, 21, 40]))
    stride = int(rng.choice([1, 2, 3, 4, 8]))
    h, w = (int(side) for side in rng.integers(1, 1 + 40 // stride, 2))
    height, width = int(rng.integers(1, stride * h + 1)), int(rng.integers(1, stride * w + 1))
    semantic = rng.normal(0, 3, (n, classes, h, w)).astype(np.float32)
    if probable := bool(seed % 2):
        semantic = np.exp(semantic) / np.exp(semantic).sum(1, keepdims=True)
    patch = rng.integers(0, 256, (n, height // 8 + 1, width // 8 + 1, 3)).repeat(8, 1).repeat(8, 2)
    image = np.clip(patch[:, :height, :width] + rng.integers(-5, 6, (n, height, width, 3)), 0, 255).astype(np.uint8)
    options = {
        "stride": stride,
        "w1": float(rng.choice([0, 1.5, 5, 500])),
        "sigma_alpha": float(rng.uniform(1, 60)),
        "sigma_beta": float(rng.uniform(3, 60)),
        "w2": float(rng.choice([0, 0.5, 3, 500])),
        "sigma_gamma": float(rng.uniform(0.3, 6)),
        "iterations": int(rng.integers(0, 4)),
        "after": bool(rng.integers(2)),
        "probabilities": probable,
    }
    return semantic, image, options


def scene(seed: int) -> tuple[Array, Array, Array]:
    """Logits [5, 13, 17] at stride 4, an image uint8 [48, 64, 3] and its labels [48, 64].

    Disks of one color each with noise; the logits are 4 for the class of the node, with noise of 1.5.
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices((HEIGHT, WIDTH))
    label = np.zeros((HEIGHT, WIDTH), int)
    for c in range(1, CLASSES):
        cy, cx, radius = rng.uniform(8, HEIGHT - 8), rng.uniform(8, WIDTH - 8), rng.uniform(6, 14)
        label[(y - cy) ** 2 + (x - cx) ** 2 < radius * radius] = c
    colors = rng.integers(0, 256, (CLASSES, 3))
    image = np.clip(colors[label] + rng.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    at_y, at_x = (np.minimum(np.arange(side // 4 + 1) * 4, side - 1) for side in (HEIGHT, WIDTH))
    truth = np.eye(CLASSES)[label[at_y][:, at_x]].transpose(2, 0, 1)
    return (4 * truth + rng.normal(0, 1.5, truth.shape)).astype(np.float32), image, label


IMAGE = scene(0)[1][:24, :20].copy()
