# SPDX-License-Identifier: Apache-2.0
"""Parameters of the fusion that suit a network: tried on images, and kept beside its weights.

The defaults are for heads that are nearly right. A network that has seen less finds many hypotheses with low scores,
and several for one object; a higher threshold, and less overlap, leave the good ones.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.fields import Field
from ..data.files import replace as replace_file
from ..data.network_folder import CONFIG
from ..data.sample import Sample
from ..fuse import fuse
from ..metrics import EvaluationResult
from ..params import FuseParams
from ..predictor import Parsed, Parser, without_small_stuff
from .config import DataConfig
from .sources import open_sources
from .tally import Tally, maps_of

GRID: Mapping[str, tuple[float, ...]] = {
    "instance_threshold": (0.05, 0.1, 0.15, 0.2, 0.3, 0.4),
    "box_iou": (0.7, 0.5, 0.3),
}
"""What is tried: each with each."""
STUFF_AREAS = (0.0, 0.005, 0.01, 0.02, 0.05)
"""What is tried of `stuff_area`, by itself: it leaves things alone, and the others stuff."""


@dataclass(frozen=True)
class Tried:
    """Some parameters, and what they gave.

    Attributes:
        options: By the names of `FuseParams`, or `stuff_area`.
        result: Over all images.
    """

    options: dict[str, float]
    result: EvaluationResult


def samples_of(data: str, labels: Path, split: str, count: int) -> Sequence[Sample]:
    """Open data as `deeperlab train` does, and take at most `count` images, spread evenly over the first source.

    Raises:
        ValueError: the split is neither train nor val, or the data have none of its name.
        FormatError, OSError: as `open_sources`.
    """
    if split not in ("train", "val"):
        raise ValueError(f"--split: expected train or val, got {split!r}")
    sources = open_sources(DataConfig(source=data, labels=str(labels)))
    source = sources.train[0] if split == "train" else sources.val
    if source is None:
        raise ValueError(f"--split: expected one that {data} has, got {split!r}")
    step = -(-len(source.samples) // count)
    return [source.samples[i] for i in range(0, len(source.samples), step)]


def tune(
    parser: Parser,
    samples: Sequence[Sample],
    grid: Mapping[str, Sequence[float]] = GRID,
    stuff_areas: Sequence[float] = STUFF_AREAS,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Tried], list[Tried]]:
    """Fuse the heads of every image with all combinations of a grid, and with all least areas of stuff.

    Args:
        parser: of the network; its other parameters of the fusion stay.
        samples: images with their truth; not those that the network is judged by afterwards.
        grid: parameters of `FuseParams` and their values.
        stuff_areas: shares of an image.
        progress: called after each image.

    Returns:
        The combinations, and the areas, with the first combination: the best PQ first; of equals the earlier one.

    Raises:
        ValueError: no images; a parameter that does not exist or is out of bounds.
        FormatError, OSError: an image or its annotation cannot be read.
    """
    if not len(samples):
        raise ValueError("samples: expected images, got none")
    base = parser.params or FuseParams()
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    params = [replace(base, **one) for one in combinations]  # type: ignore[arg-type]
    of_combinations = [Tally(parser.labels) for _ in combinations]
    of_areas = [Tally(parser.labels) for _ in stuff_areas]
    for number in range(len(samples)):
        sample = samples[number]
        (parsed,) = parser.stream([sample.image()])
        maps = [fuse(parsed.heads, things=parser.labels.things, size=parsed.size, params=one) for one in params]
        each = [*zip(of_combinations, maps, strict=True)]
        each += [(t, without_small_stuff(maps[0], area)) for t, area in zip(of_areas, stuff_areas, strict=True)]
        for tally, seen in each:
            tally.add(number, maps_of(Parsed(seen, parsed.heads, parsed.original).panoptic), sample)
        progress()
    tried = [Tried(one, tally.compute()) for one, tally in zip(combinations, of_combinations, strict=True)]
    areas = [Tried({"stuff_area": a}, tally.compute()) for a, tally in zip(stuff_areas, of_areas, strict=True)]
    return tuple(sorted(some, key=lambda one: -one.result.pq.all.pq) for some in (tried, areas))  # type: ignore[return-value]


def keep(folder: Path, fusion: Mapping[str, Any], stuff_area: float) -> None:
    """Write what was found into the config.json of a network, whole or not at all.

    Raises:
        FormatError, OSError: it cannot be read or written.
    """
    path = folder / CONFIG
    config = dict(Field.load(path).value)
    config |= {"fusion": {**config.get("fusion", {}), **fusion}, "stuff_area": stuff_area}
    replace_file(path, lambda file: file.write((json.dumps(config, indent=2) + "\n").encode()))
