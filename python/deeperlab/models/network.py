# SPDX-License-Identifier: Apache-2.0
"""What all networks are: backbone, context, decoder and heads, and the settings that a parser takes from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from deeperlab.graph import Graph
from deeperlab.heads import NAMES, Heads, names_of

from .hub import Pretrained
from .layers import Folding
from .norms import batch_norms, warn_of_initial_statistics
from .sampling import Frame, between, stretched

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Parts:
    """What a network is made of.

    Attributes:
        backbone: Images [N, in_channels, H, W] to a pyramid, a dictionary of features. It has `mean` and `std` of the
            images it takes, and the `channels` of its features.
        context: The features at `top` to others of that stride.
        decoder: These, and the features in its `skips`, to what the heads see.
        head: Makes a head of so many channels, told by `semantic` whether it is the semantic one.
        top: Where in the pyramid the features for the context are.
        stride: px between the nodes of the heads.
        frame: How images are extended for the network, where it does not take them as they are.
        scales: Factors of the images that it sees besides; the greatest logits of all count.
        auxiliary: Where in the pyramid the features for a second semantic head are, and what makes it. It learns
            beside the first, and has no part in what a network finds. None: there is none.
    """

    backbone: nn.Module
    context: nn.Module
    decoder: nn.Module
    head: Callable[..., nn.Module]
    top: int
    stride: int
    frame: Frame | None = None
    scales: tuple[Fraction, ...] = ()
    auxiliary: tuple[int, Callable[[int], nn.Module]] | None = None


class Supervised(NamedTuple):
    """What a network with a second semantic head gives in training."""

    heads: Heads
    auxiliary: Tensor
    """Logits [N, C, h, w] on the nodes of the heads."""


class Network(Pretrained):
    """Backbone, context, decoder and heads.

    Args:
        config: the arguments that make this network: those of the subclass, among which `num_classes`, `in_channels`,
            `graph`, `bn_momentum`, `image_size`, `radius`, `fusion` and `stuff_area`, as `checked` returns them.
        parts: what it is made of.

    Attributes:
        config: as above.
        num_classes, in_channels, graph, image_size, radius, fusion, stuff_area: from there.
        mean, std: of the images it takes, one of each channel, of 0 … 1.
        stride: px between the nodes of its heads.
    """

    def __init__(self, config: Mapping[str, Any], parts: Parts) -> None:
        super().__init__()
        self._settle(config, parts.backbone, parts.stride)
        self._frame, self._top, self._scales = parts.frame, parts.top, parts.scales
        self._skips: tuple[int, ...] = tuple(parts.decoder.skips)  # type: ignore[arg-type]
        self.backbone, self.context, self.decoder = parts.backbone, parts.context, parts.decoder
        p, e = len(self.graph.keypoints), len(self.graph.edges)
        channels = dict(zip(NAMES, (self.num_classes, p, 2 * p, 2 * e, 2 * p), strict=True))
        self.heads = nn.ModuleDict(
            {name: parts.head(channels[name], semantic=name == "semantic") for name in names_of(self.graph)}
        )
        if parts.auxiliary is not None:
            self._beside, make = parts.auxiliary
            self.auxiliary = make(self.num_classes)
        for norm in batch_norms(self).values():
            norm.momentum = config["bn_momentum"]
        self.mark_untrained()

    def _settle(self, config: Mapping[str, Any], seen: Any, stride: int) -> None:
        """Set the attributes; `seen` has the mean and the deviation of images."""
        self.config = dict(config)
        self.graph = Graph.from_config(config["graph"])
        self.fusion, self.stuff_area = dict(config["fusion"]), config["stuff_area"]
        self.image_size, self.radius = config["image_size"], config["radius"]
        self.num_classes, self.in_channels = config["num_classes"], config["in_channels"]
        self.mean, self.std = (_of_channels(getattr(seen, n), self.in_channels) for n in ("mean", "std"))
        self.stride = stride

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the heads as tensors, those that there are, in the order of `Heads`."""
        heads, _ = self._look(images)
        for scale in self._scales:
            height, width = ((side - 1) * scale.numerator // scale.denominator + 1 for side in images.shape[2:])
            others, _ = self._look(stretched(images, height, width))
            rows, columns = (  # of the small image, where the nodes of the large one lie
                torch.arange(nodes, device=images.device) * (small - 1) / max(large - 1, 1)
                for nodes, small, large in zip(heads[0].shape[2:], (height, width), images.shape[2:], strict=True)
            )
            heads = tuple(
                head.maximum(between(other, rows, columns)) for head, other in zip(heads, others, strict=True)
            )
        return heads

    def _look(self, images: Tensor) -> tuple[tuple[Tensor, ...], dict[int, Tensor]]:
        """The heads at one scale, and the pyramid."""
        height, width = images.shape[2:]
        pyramid = self.backbone(images if self._frame is None else self._frame.extend(images))
        features = self.decoder(self.context(pyramid[self._top]), *(pyramid[skip] for skip in self._skips))
        heads = tuple(head(features) for head in self.heads.values())
        if self._frame is not None:
            heads = tuple(self._frame.on_nodes(head, self.stride, height, width) for head in heads)
        return heads, pyramid

    def exportable(self) -> nn.Module:
        """Return a network whose forward is `raw` of this one: `torch.export` and ONNX know tensors, not `Heads`."""
        return Exportable(self)

    def forward(self, images: Tensor) -> Heads | Supervised:
        """Compute heads of images [N, in_channels, H, W] of any size, less `mean`, over `std`, both of 0 … 1: RGB.

        Node (i, j) lies at pixel (stride · i, stride · j). In training, a network with a second semantic head gives
        `Supervised`.
        """
        if self.training and hasattr(self, "auxiliary"):
            heads, pyramid = self._look(images)
            beside = self.auxiliary(pyramid[self._beside])
            return Supervised(Heads.of_outputs(heads, self.stride, self.graph), beside)
        return Heads.of_outputs(self.raw(images), self.stride, self.graph)

    def fold_batch_norm(self) -> Self:
        """Return a copy for inference, its batch norms folded into the convolutions before them."""
        if self.has_trained_weights:
            warn_of_initial_statistics(self)
        model = copy.deepcopy(self).eval()
        for module in model.modules():
            if isinstance(module, Folding):
                module.fold()
        return model

    def normalized(self, images: Tensor) -> Tensor:
        """Scale images [N, in_channels, H, W] uint8 to what `forward` takes, float32.

        Raises:
            TypeError, ValueError: other images.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            raise TypeError(f"images: expected a uint8 tensor, got {getattr(images, 'dtype', type(images).__name__)}")
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f"images: expected [N, {self.in_channels}, H, W], got {list(images.shape)}")
        mean, std = (images.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


def _of_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Those of red, green and blue; of other channels the same for each, their average."""
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels


class Exportable(nn.Module):
    """Images to the heads of a network as a tuple of tensors, in the order of `Heads`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.network.raw(images)
