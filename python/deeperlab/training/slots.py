# SPDX-License-Identifier: Apache-2.0
"""The sample of a slot of a step, and the images that are skipped since they cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.files import FaultyFilesError, FormatError, message_of
from ..data.sample import ExifWarning
from ..graph import Graph
from .config import Config
from .index import id_of
from .sampling import Plan, uniform
from .sources import Sources
from .transform import DRAWS, Example, transform

GRAY = (0.5, 0.5, 0.5)
"""Mean of a network that states none."""

Faults = tuple[tuple[str, str], ...]
"""Images that cannot be read: name and fault of each."""


class BrokenFileWarning(UserWarning):
    """An image was skipped, since it or its annotation cannot be read."""


class SampleError(RuntimeError):
    """A sample could not be made; the image is named.

    Attributes:
        faults: images that cannot be read.
    """

    def __init__(self, text: str, faults: Faults = ()) -> None:
        self.faults = faults
        super().__init__(text)


@dataclass
class Skips:
    """The images that were skipped so far, over all workers of a process; after `share` over all processes.

    Attributes:
        most: how many may be.
        faults: name of each → what is wrong with it. A run that resumes goes on with them.
        shared: how many of them were there when the processes last shared theirs.
    """

    most: int
    faults: dict[str, str] = field(default_factory=dict)
    shared: int = 0

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Count images, each once.

        Warns:
            BrokenFileWarning: of each that is new.

        Raises:
            FaultyFilesError: they are more than `most`; all are named.
        """
        for name, fault in found:
            if name not in self.faults:
                self.faults[name] = fault
                warnings.warn(f"{name} is skipped: {fault}", BrokenFileWarning, stacklevel=2)
        self._require_few()

    def share(self, faults: Iterable[Mapping[str, str]]) -> bool:
        """Count those of all processes; tell whether there are more than the last time.

        Args:
            faults: of every process.

        Raises:
            FaultyFilesError: as `add`, in all processes.
        """
        for found in faults:
            self.faults.update(found)
        self._require_few()
        before, self.shared = self.shared, len(self.faults)
        return self.shared > before

    def __str__(self) -> str:
        told = [f"  {name}: {fault}" for name, fault in self.faults.items()]
        count = f"{len(self.faults)} of at most {self.most}"
        return "\n".join([f"images skipped so far, over all processes: {count}", *told])

    def _require_few(self) -> None:
        if len(self.faults) > self.most:
            raise FaultyFilesError([ValueError(f"{name}: {fault}") for name, fault in self.faults.items()])


class Slots:
    """Makes the samples of all slots of a run; can be pickled.

    An image that cannot be read is replaced by the one that follows it in the order of its epoch.

    Args:
        sources: of `open_sources`.
        config: of the run.
        graph: of the network's keypoints.
        mean: of the network, red, green and blue in 0 … 1: the color of padding, to the nearest of 256 levels.
        seed: of the samples.

    Raises:
        ValueError: as of `Plan`, or the classes are none to cut out objects of.
    """

    def __init__(self, sources: Sources, config: Config, graph: Graph, mean: Sequence[float], seed: int) -> None:
        self._sources, self._config, self._graph, self._seed = sources.train, config.data, graph, seed
        self._plan = Plan(
            [len(source.samples) for source in sources.train],
            [source.weight for source in sources.train],
            seed=seed,
            batch=config.train.batch,
        )
        if config.data.sampling == "objects" and all(sources.labels.isthing):
            raise ValueError("data.sampling: expected classes of stuff beside 'objects', for what is not the object")
        red, green, blue = (round(255 * value) for value in mean)
        self._fill = red, green, blue

    def sample(self, step: int, slot: int) -> tuple[Example, Faults]:
        """Make the sample of a slot, and name the images that were to be it but cannot be read.

        Raises:
            SampleError: so many images in a row cannot be read that the run has to stop, or another fault.
        """
        place = self._plan.place(step, slot)
        source = self._sources[place.source]
        draws = uniform(self._seed, step, slot, DRAWS)
        faults: list[tuple[str, str]] = []
        for after in range(min(self._config.max_broken + 1, len(source.samples))):
            number = self._plan.image(place, after)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExifWarning)  # the annotation decides
                    annotated = source.samples[number]
                    name = f"{source.name}/{annotated.image_id}"
                    example = transform(annotated, self._config, draws, self._graph, fill=self._fill, name=name)
                return example, tuple(faults)
            except (FormatError, OSError) as fault:
                faults.append((f"{source.name}/{id_of(source.samples, number)}", message_of(fault)))
            except Exception as fault:
                name = f"{source.name}/{id_of(source.samples, number)}"
                text = f"{name} (step {step}, slot {slot}): {type(fault).__name__}: {fault}"
                raise SampleError(text, tuple(faults)) from fault
        raise SampleError(f"{source.name}: none of {len(faults)} images can be read", tuple(faults))


def sample(
    sources: Sources, config: Config, seed: int, step: int, slot: int, *, graph: Graph, mean: Sequence[float] = GRAY
) -> Example:
    """Make the sample of a slot of a step: a pure function of its arguments, and of the files. See `Slots`.

    Raises:
        SampleError: as of `Slots.sample`.
    """
    return Slots(sources, config, graph, mean, seed).sample(step, slot)[0]
