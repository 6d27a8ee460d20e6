# SPDX-License-Identifier: Apache-2.0
"""Everything that a run needs, tried in a minute: data, truth → PQ, steps, samples as pictures, memory and time."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.formats.png import write_rgb
from ..targets import encode_heads
from .batches import VOID, Batch
from .config import Config
from .events import Progress
from .loop import Loop
from .memory import memory_explained
from .pictures import draw_heads
from .trial import samples, trial
from .validation import Validator, spread

STEPS, PICTURES, IMAGES = 3, 4, 2
"""Steps that are taken, of which the first does not count for the time; samples that are drawn; images validated."""


@dataclass(frozen=True)
class Check:
    """What a check has found.

    Attributes:
        losses: Of the steps.
        seconds: Of a step.
        run_seconds: Of the whole run, validations included.
        memory: Peak, bytes: of the GPU, or of this process.
        pictures: Files of samples with the heads that they ask for, and the names of their images.
    """

    losses: tuple[float, ...]
    seconds: float
    run_seconds: float
    memory: int
    pictures: dict[Path, str]


def check(config: Config, out: str | os.PathLike[str], progress: Progress | None = None) -> Check:
    """Do all that a run does, but only a few steps.

    Args:
        config: of the run.
        out: folder for the pictures: `check/` in it.
        progress: called with what a run tells before its first step: the report of the data, the ceiling.

    Raises:
        CeilingError: the truth itself, encoded and fused, does not give the PQ that it should.
        Others: as `deeperlab.training.train`.
    """
    steps = min(STEPS, config.train.steps)
    with trial(replace(config, train=replace(config.train, warmup=0)), progress) as loop:
        loop.begin()
        losses, times, pictures = list[float](), list[float](), dict[Path, str]()
        tell = loop.journal.follow(0, "tries steps")
        with samples(loop) as stream:
            for step in range(steps):
                begin = time.monotonic()
                parts = next(stream)
                waited = time.monotonic() - begin
                _draw(loop, parts, Path(out) / "check", pictures)
                begin = time.monotonic() - waited
                with memory_explained(config, loop.device, step, loop.world):
                    losses.append(loop.optimize(parts)["loss"])
                loop.step += 1
                times.append(time.monotonic() - begin)
                tell(step + 1, steps)
        seconds = min(times)
        memory = _peak(loop.device)
        run_seconds = config.train.steps * seconds + _validations(loop, config)
    return Check(tuple(losses), seconds, run_seconds, memory, pictures)


def _validations(loop: Loop, config: Config) -> float:
    """Seconds of all validations, from that of a few images."""
    val = loop.sources.val
    if val is None:
        return 0.0
    few = replace(config, validate=replace(config.validate, images=IMAGES, pictures=0, ceiling=0.0))
    found = Validator(val.samples, loop.labels, few, loop.network.graph, stride=loop.network.stride).validate(
        loop.average
    )
    images = len(spread(len(val.samples), config.validate.images))
    times = -(-config.train.steps // config.validate.every) if config.validate.every else 1
    seconds: float = found.seconds / min(IMAGES, len(val.samples))
    return seconds * images * times / int(loop.world)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _draw(loop: Loop, parts: list[Batch], folder: Path, drawn: dict[Path, str]) -> None:
    """Draw samples of a step, until there are `PICTURES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for batch in parts:
        for i, name in enumerate(batch.names[: PICTURES - len(drawn)]):
            path = folder / f"sample{len(drawn)}.png"
            write_rgb(path, _sheet(loop, batch, i))
            drawn[path] = name


def _sheet(loop: Loop, batch: Batch, i: int) -> NDArray[np.uint8]:
    """One sample, and the heads that it asks for."""
    image = batch.images[i].permute(1, 2, 0).contiguous().numpy()
    category, stride = batch.category[i].numpy(), loop.network.stride
    heads = encode_heads(
        np.maximum(category, VOID),
        batch.instance[i].numpy(),
        len(loop.labels),
        stride=stride,
        radius=loop.config.data.radius,
        ignore=VOID,
        graph=loop.network.graph,
    )
    size = int(category.shape[0]), int(category.shape[1])
    return draw_heads(image, heads, size, loop.labels, wanted=category[::stride, ::stride])
