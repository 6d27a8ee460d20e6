# SPDX-License-Identifier: Apache-2.0
"""DeconvNet's inference: proposals are seen one by one, and the greatest scores count (Noh et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from deeperlab.heads import Heads

from .network import Network
from .sampling import between

ENLARGED = 1.2
"""By how much DeconvNet's square around a box, in training and in inference, is longer than the box's longer side."""


def of_proposals(
    network: Network, image: Tensor, boxes: Tensor, *, size: int = 224, enlarged: float = ENLARGED, batch: int = 8
) -> Heads:
    """Show a network the squares around boxes, and take for each pixel and class the greatest of their scores.

    A square that does not show a pixel has a score of 0 for it, as the paper pads. Gradients are not kept.

    Args:
        network: with a semantic head alone, in eval mode.
        image: float [C, H, W], as `Network.normalized` makes one of a batch.
        boxes: float [K, 4], x0, y0, x1, y1 in px, where pixel x reaches from x to x + 1: of any detector of objects.
            The paper takes 50 of EdgeBox, which is not part of this package.
        size: px, the side that each square is brought to.
        enlarged: as `ENLARGED`.
        batch: squares that are computed at a time, which decides on the memory.

    Returns:
        A semantic head [1, C, H, W] of stride 1, float32: scores, not logits of which the softmax is calibrated.

    Raises:
        ValueError: a network with other heads, or arguments of other shapes or values.
    """
    if network.graph.keypoints:
        raise ValueError("network: expected one with a semantic head alone (graph='none'), got others")
    if image.ndim != 3 or image.shape[0] != network.in_channels:
        raise ValueError(f"image: expected [{network.in_channels}, H, W], got {list(image.shape)}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected [K, 4], got {list(boxes.shape)}")
    if not (torch.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
        raise ValueError("boxes: expected finite x0 < x1 and y0 < y1, got others")
    if size < 1 or batch < 1 or not enlarged > 0:
        raise ValueError(f"size, batch, enlarged: expected numbers above 0, got {size}, {batch}, {enlarged}")
    height, width = image.shape[1:]
    found = torch.zeros((1, network.num_classes, height, width), device=image.device)
    squares = [_square(box, enlarged) for box in boxes.tolist()]
    node = torch.arange(size, device=image.device)
    with torch.no_grad():
        for first in range(0, len(squares), batch):
            some = squares[first : first + batch]
            crops = [
                between(image[None], *(start + (node + 0.5) * side / size - 0.5 for start in corner))
                for corner, side in some
            ]
            (scores,) = network.raw(torch.cat(crops))
            for (corner, side), of_crop in zip(some, scores.float(), strict=True):
                shown = [
                    (max(0, round(start)), min(length, round(start + side)))
                    for start, length in zip(corner, (height, width), strict=True)
                ]
                if any(low >= high for low, high in shown):
                    continue
                places = [
                    ((torch.arange(low, high, device=image.device) + 0.5 - start) * size / side - 0.5) / network.stride
                    for (low, high), start in zip(shown, corner, strict=True)
                ]
                (top, bottom), (left, right) = shown
                part = found[0, :, top:bottom, left:right]
                torch.maximum(part, between(of_crop[None], *places)[0], out=part)
    return Heads.of_semantic(found, stride=1)


def _square(box: list[float], enlarged: float) -> tuple[tuple[float, float], float]:
    """The upper left corner (y, x) and the side of the square around a box."""
    left, top, right, bottom = box
    side = enlarged * max(right - left, bottom - top)
    return ((top + bottom - side) / 2, (left + right - side) / 2), side
