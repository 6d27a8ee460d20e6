# SPDX-License-Identifier: Apache-2.0
"""What a network is and costs, counted on the network itself where it takes no memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .network import Network

PARTS = ("backbone", "context", "decoder", "heads")
"""In the order in which an image goes through them."""


class Layer(NamedTuple):
    """A convolution, in the order in which they are computed.

    Attributes:
        part: One of `PARTS`.
        channels: That it gives.
        stride: px of the image for each of its outputs along a side: those between them, but for what a margin adds.
        multiply_adds: Of all its outputs.
    """

    part: str
    channels: int
    stride: float
    multiply_adds: int


def parameters(model: nn.Module) -> int:
    """Count the parameters, but those of a second head that only learns."""
    apart = {id(p) for name, p in model.named_parameters() if name.startswith("auxiliary.")}
    return sum(p.numel() for p in model.parameters() if id(p) not in apart)


def convolutions(model: Network, size: int = 513) -> list[Layer]:
    """List the convolutions that an image of size × size px goes through; biases and norms do not count."""
    found: list[Layer] = []
    blank = copy.deepcopy(model).to("meta").eval()

    def recorder(part: str) -> Callable[[Any, Any, Tensor], None]:
        def record(module: Any, given: Any, out: Tensor) -> None:
            # a transposed convolution multiplies each of its inputs by the weights, the other gathers for each output
            times = given[0] if isinstance(module, nn.ConvTranspose2d) else out
            found.append(Layer(part, out.shape[1], size / out.shape[2], times.numel() * module.weight[0].numel()))

        return record

    for name, module in blank.named_modules():
        part = name.partition(".")[0]
        if part in PARTS and isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(recorder(part))
    with torch.no_grad():
        blank.raw(torch.empty(1, model.in_channels, size, size, device="meta"))
    return found


def multiply_adds(model: Network, size: int = 513) -> int:
    """Count the multiply-adds of all convolutions for an image of size × size px."""
    return sum(layer.multiply_adds for layer in convolutions(model, size))
