# SPDX-License-Identifier: Apache-2.0
"""Several networks as one: EDeconvNet is the mean of FCN's and DeconvNet's probabilities (Noh et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeperlab.graph import Graph

from .deeperlab import DeeperLab
from .network import Network
from .sampling import between
from .settings import checked
from .system import System

SETTINGS = "num_classes", "in_channels", "graph", "bn_momentum", "image_size", "radius", "fusion", "stuff_area"


class Ensemble(Network):
    """The weighted mean of what several semantic networks take for probable, as a network.

    Its semantic head, at the finest of their strides, is the logarithm of that mean, whose softmax is the mean itself:
    so the argmax, the fusion, the CRF, `Parser`, `save_pretrained` and the export to ONNX take it as any other. Logits
    of coarser strides are interpolated first. Each network sees images less its own mean, over its own deviation.

    Args:
        networks: which share classes and channels of images, and have a semantic head alone; they become parts of this
            one, as they are. Or their configs, which make them anew.
        weights: of each, above 0; they need not sum to 1. None: all alike.
        num_classes, in_channels, graph: those of the networks, or None.
        bn_momentum, image_size, radius, fusion, stuff_area: as of `DeeperLab`; None: those of the first network.

    Attributes:
        networks: as above.

    Raises:
        ValueError, TypeError: networks that do not fit together, or as `DeeperLab`.
    """

    networks: nn.ModuleList

    def __init__(
        self,
        networks: Sequence[Network | Mapping[str, Any]],
        weights: Sequence[float] | None = None,
        *,
        num_classes: int | None = None,
        in_channels: int | None = None,
        graph: Graph | str | Mapping[str, Any] | None = None,
        bn_momentum: float | None = None,
        image_size: int | None = None,
        radius: float | None = None,
        fusion: Mapping[str, Any] | None = None,
        stuff_area: float | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in SETTINGS and value is not None}
        if isinstance(networks, (str, Mapping)) or not isinstance(networks, Sequence) or len(networks) < 2:
            raise ValueError(f"networks: expected at least two networks, got {networks!r}")
        made = [_made(network) for network in networks]
        first = made[0]
        config = checked({name: first.config[name] for name in SETTINGS} | given)
        for i, network in enumerate(made):
            if network.graph.keypoints:
                raise ValueError(f"networks: expected semantic heads alone (graph='none'), got others in number {i}")
            for name in ("num_classes", "in_channels"):
                if network.config[name] != config[name]:
                    text = f"expected {name} of {config[name]} in each, got {network.config[name]} in number {i}"
                    raise ValueError(f"networks: {text}")
        config |= {"networks": [network.config for network in made], "weights": _weights(weights, len(made))}
        super(Network, self).__init__()  # it has no backbone of its own
        self._settle(config, first, min(network.stride for network in made))
        self.networks, self.labels = nn.ModuleList(made), first.labels

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logarithm of the mean probabilities, [N, C, h, w]."""
        total = sum(self.config["weights"])
        found = list[Tensor]()
        for network, weight in zip(self._members(), self.config["weights"], strict=True):
            (logits,) = network.raw(self._as_seen_by(network, images))
            if network.stride != self.stride:
                rows, columns = (
                    torch.arange((side + self.stride - 1) // self.stride, device=images.device)
                    * self.stride
                    / network.stride
                    for side in images.shape[2:]
                )
                logits = between(logits, rows, columns)
            found.append(logits.float().log_softmax(1) + math.log(weight / total))
        return (torch.stack(found).logsumexp(0).to(logits.dtype),)

    def _as_seen_by(self, network: Network, images: Tensor) -> Tensor:
        """Images that are normalized for this network, normalized for one of its parts."""
        if (network.mean, network.std) == (self.mean, self.std):
            return images
        pairs = list(zip(self.mean, self.std, network.mean, network.std, strict=True))
        factor = images.new_tensor([std / own for _, std, _, own in pairs])
        lift = images.new_tensor([(mean - its) / own for mean, _, its, own in pairs])
        return images * factor[:, None, None] + lift[:, None, None]

    @property
    def has_trained_weights(self) -> bool:
        """Whether all of its networks have."""
        return all(network.has_trained_weights for network in self._members())

    def mark_untrained(self, untrained: bool = True) -> None:
        """Declare the present weights of all heads untrained, or trained."""
        for network in self._members():
            network.mark_untrained(untrained)

    def of_classes(self) -> list[str]:
        """Name the parameters that depend on the number of classes."""
        return [f"networks.{i}.{name}" for i, network in enumerate(self._members()) for name in network.of_classes()]

    def _members(self) -> list[Network]:
        return list(self.networks)  # type: ignore[arg-type]


def _made(network: Network | Mapping[str, Any]) -> Network:
    """A network, or what a config makes."""
    if isinstance(network, Network):
        return network
    if not isinstance(network, Mapping):
        raise TypeError(f"networks: expected networks, or their configs, got {network!r}")
    return System(**network) if "system" in network else DeeperLab(**network)


def _weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Check the weights, and return them as they are saved."""
    if weights is None:
        return [1.0] * count
    fits = isinstance(weights, Sequence) and len(weights) == count
    if not fits or any(isinstance(w, bool) or not isinstance(w, (int, float)) for w in weights):
        raise ValueError(f"weights: expected None or {count} numbers, got {weights!r}")
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights: expected numbers above 0, got {list(weights)}")
    return [float(weight) for weight in weights]
