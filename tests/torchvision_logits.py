# SPDX-License-Identifier: Apache-2.0
"""Networks of torchvision with weights drawn by the names of the tensors, and what they answered to one image.

`python tests/torchvision_logits.py` asks torchvision and writes torchvision_logits.json; the tests do without it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

STORED = Path(__file__).with_suffix(".json")
NETWORKS = {"deeplabv3_resnet101": "deeplab_v3_resnet101", "fcn_resnet50": "fcn_resnet50"}
"""Ours by theirs."""
CLASSES = 3
UNITS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}


def shapes(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of all tensors but counts of a network of torchvision."""
    yield "backbone.conv1.weight", (64, 3, 7, 7)
    yield from _norm("backbone.bn1", 64)
    channels = 64
    for stage, units in enumerate(UNITS[name.rpartition("resnet")[2]], start=1):
        middle = 32 << stage
        for unit in range(units):
            place = f"backbone.layer{stage}.{unit}"
            for i, (into, out, kernel) in enumerate(
                ((channels, middle, 1), (middle, middle, 3), (middle, 4 * middle, 1)), start=1
            ):
                yield f"{place}.conv{i}.weight", (out, into, kernel, kernel)
                yield from _norm(f"{place}.bn{i}", out)
            if unit == 0:
                yield f"{place}.downsample.0.weight", (4 * middle, channels, 1, 1)
                yield from _norm(f"{place}.downsample.1", 4 * middle)
            channels = 4 * middle
    if name.startswith("deeplab"):
        for i, kernel in enumerate((1, 3, 3, 3)):
            yield f"classifier.0.convs.{i}.0.weight", (256, 2048, kernel, kernel)
            yield from _norm(f"classifier.0.convs.{i}.1", 256)
        yield "classifier.0.convs.4.1.weight", (256, 2048, 1, 1)
        yield from _norm("classifier.0.convs.4.2", 256)
        yield "classifier.0.project.0.weight", (256, 1280, 1, 1)
        yield from _norm("classifier.0.project.1", 256)
        yield "classifier.1.weight", (256, 256, 3, 3)
        yield from _norm("classifier.2", 256)
        yield from _last("classifier.4", 256)
    else:
        yield "classifier.0.weight", (512, 2048, 3, 3)
        yield from _norm("classifier.1", 512)
        yield from _last("classifier.4", 512)
    yield "aux_classifier.0.weight", (256, 1024, 3, 3)
    yield from _norm("aux_classifier.1", 256)
    yield from _last("aux_classifier.4", 256)


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", (channels,)


def _last(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (CLASSES, channels, 1, 1)
    yield f"{name}.bias", (CLASSES,)


def tensors(name: str) -> dict[str, Tensor]:
    """Draw the weights of a network of torchvision: what passes through it neither dies nor explodes."""
    made = {}
    for tensor, shape in shapes(name):
        values = np.random.RandomState(zlib.crc32(tensor.encode())).standard_normal(shape)
        if len(shape) == 4:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        elif tensor.endswith((".running_var", ".weight")):
            values = 0.5 + 0.1 * np.abs(values)
        else:
            values *= 0.1
        made[tensor] = torch.from_numpy(values.astype(np.float32))
    return made


def image() -> Tensor:
    """[1, 3, 65, 81]."""
    y, x = np.mgrid[:65, :81]
    disk = np.where((x - 40) ** 2 + (y - 30) ** 2 < 300, 1, -1)
    channels = [np.sin(x / 5) + np.cos(y / 7), np.sin((x + y) / 9), disk]
    return torch.from_numpy(np.stack(channels)[None].astype(np.float32))


def main() -> None:
    """Ask torchvision."""
    from torchvision.models import segmentation

    answers = {}
    for name in NETWORKS:
        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
        given = tensors(name)
        theirs = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
        assert theirs == {n: tuple(t.shape) for n, t in given.items()}
        network.load_state_dict(given, strict=False)
        with torch.no_grad():
            features = network.eval().backbone(image())
            logits = network.classifier(features["out"]), network.aux_classifier(features["aux"])
        answers[name] = [np.round(t[0].double().numpy(), 5).tolist() for t in logits]
    STORED.write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
