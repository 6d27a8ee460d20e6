# SPDX-License-Identifier: Apache-2.0
"""What a step computes from one of its parts: targets, counts, loss. A pure function of weights, part and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.labels import LabelSet
from ..heads import Heads, names_of
from ..models import Network, Supervised
from ..targets import Targets, encode
from . import losses
from .batches import Batch
from .borders import border_weight, class_weight
from .config import Config

AUXILIARY = "auxiliary"
"""The name of the loss of a second semantic head."""


def terms_of(network: Network) -> tuple[str, ...]:
    """Return the names of the losses of the heads that a network has."""
    return (*names_of(network.graph), *([AUXILIARY] if hasattr(network, AUXILIARY) else []))


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a step, on the device, with its targets."""

    batch: Batch
    targets: Targets


@dataclass(frozen=True, eq=False)
class Step:
    """What is the same in all steps of a run.

    Attributes:
        config: Its options.
        labels: Its classes.
        device: Where it runs.
        stuff: The classes that are no things.
    """

    config: Config
    labels: LabelSet
    device: torch.device
    stuff: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stuff", tuple(set(range(len(self.labels))) - set(self.labels.things)))

    def prepare(self, batch: Batch, network: Network) -> Part:
        """Move a batch to the device and encode its targets at the nodes of a network.

        The greatest id is looked at before the way to the device, since there are no more instances, and `encode` need
        not wait there for their number. Ids count the instances of an image, so it is small.
        """
        most = max(1, min(int(batch.instance.max()), batch.instance[0].numel()))
        batch = batch.map(lambda tensor: tensor.to(self.device, non_blocking=True))
        points = None if batch.points is None else (batch.point_ids, batch.points)
        targets = encode(
            batch.instance,
            ignore=batch.ignore,
            points=points,
            radius=self.config.data.radius,
            stride=network.stride,
            graph=network.graph,
            max_instances=most,
        )
        return Part(batch, targets)

    def counts(self, parts: list[Part]) -> Tensor:
        """Count what the losses of several parts compare: int64 [5]."""
        return torch.stack([losses.counts(part.targets, part.batch.category) for part in parts]).sum(0)

    def pixel_weight(self, batch: Batch) -> Tensor:
        """Weigh the pixels of a batch for the semantic loss: float32 [N, H, W]."""
        config = self.config.loss
        weight = losses.instance_weight(batch.instance, area=config.small_area, weight=config.small_weight)
        if config.class_balance:
            weight *= class_weight(batch.category, power=config.class_balance)
        if config.border_weight:
            weight += border_weight(batch.instance, weight=config.border_weight, sigma=config.border_sigma)
        return weight

    def total(self, terms: Mapping[str, float]) -> float:
        """Add up the losses of a step by their weights."""
        weights: dict[str, float] = {AUXILIARY: self.config.loss.auxiliary} | vars(self.config.loss.weights)
        return sum(weights[name] * value for name, value in terms.items())

    def loss(
        self, forward: Callable[[Tensor], Heads | Supervised], network: Network, part: Part, counts: Tensor, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute a part's share of the loss of a step, and of its five terms.

        Where the network has a second semantic head, the loss has that head's too, times `loss.auxiliary`, and the
        terms have it by the name `AUXILIARY`.

        Args:
            forward: the network, perhaps wrapped.
            network: the network itself.
            part: as of `prepare`.
            counts: of the whole step.
            step: its number, on which the ramp of the hardest pixels depends.
        """
        config, batch = self.config.loss, part.batch
        images = network.normalized(batch.images)
        if self.config.train.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        found = forward(images)
        heads = found.heads if isinstance(found, Supervised) else found
        weight = self.pixel_weight(batch)
        top_k = losses.ramp(step, config.top_k_steps, config.top_k)
        loss, terms = losses.total(
            heads, part.targets, batch.category, weight, counts, config.weights, top_k=top_k, stuff=self.stuff
        )
        if isinstance(found, Supervised):
            second = losses.semantic(
                found.auxiliary, batch.category, stride=heads.stride, weight=weight, top_k=top_k, stuff=self.stuff
            )
            terms[AUXILIARY] = (second.sum() / counts[0].clamp(min=1)).detach()
            loss = loss + config.auxiliary * second.sum() / counts[0].clamp(min=1)
        return loss, terms


def seed_part(seed: int, step: int, part: int) -> None:
    """Seed what is random in the forward pass of a part, dropout: equal wherever the part is computed."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, part)).generate_state(1, np.uint64)[0]))
