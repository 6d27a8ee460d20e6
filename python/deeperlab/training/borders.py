# SPDX-License-Identifier: Apache-2.0
"""U-Net's weight of a pixel: more between instances that nearly touch, and more for rare classes (Eq. 2 there)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .batches import SOME_STUFF, VOID

_FAR, _REACH = 1 << 30, (1 << 15) - 1
"""Stands for the square of a distance beyond reach; px that can be reached."""
_BITS, _LABEL = 32, (1 << 32) - 1
"""Of an instance's number, which lies below the square of its distance: so the least of both is the nearest."""


def border_weight(instance: Tensor, *, weight: float = 10.0, sigma: float = 5.0) -> Tensor:
    """Compute weight · exp(−(d1 + d2)² / 2 sigma²), by the distances to the nearest and second nearest instance.

    A pixel of an instance has d1 = 0, so that a border at which two instances touch weighs most, on both its sides.

    Args:
        instance: int32 [N, H, W], 0 = none; ids need not be consecutive.
        weight: w0, at a distance of 0.
        sigma: px.

    Returns:
        float32 [N, H, W]; 0 where it would be less than float32 can add to 1.
    """
    made = torch.zeros(instance.shape, device=instance.device)
    scale = 2 * sigma * sigma
    reach = min(_REACH, math.ceil(math.sqrt(scale * math.log(max(weight, 2.0**-24) * 2.0**24))))
    for of_image, found in zip(instance, made, strict=True):
        near, second = distances(of_image, reach)
        found.copy_(torch.where(second <= reach, weight * torch.exp(-((near + second) ** 2) / scale), 0.0))
    return made


def class_weight(labels: Tensor, *, power: float = 1.0) -> Tensor:
    """Weigh the pixels of a class by the inverse of its frequency in the image, to a power; their mean is 1.

    Args:
        labels: int32 [N, H, W], as `Batch.category`; pixels of some stuff, nobody says which, count as one class more.
        power: 0: all pixels alike; 1: all classes of the image alike.

    Returns:
        float32 [N, H, W]; 0 on `VOID`.
    """
    made = torch.zeros(labels.shape, device=labels.device)
    for of_image, found in zip(labels, made, strict=True):
        index = of_image.flatten().long() - SOME_STUFF
        count = torch.bincount(index, minlength=-SOME_STUFF).double()
        count[VOID - SOME_STUFF] = 0
        there = count > 0
        each = torch.where(there, count.clamp(min=1) ** -power, 0)
        each = each * count.sum() / (each * count).sum().clamp(min=torch.finfo(torch.double).tiny)
        found.copy_(each.float()[index].view_as(found))
    return made


def distances(instance: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Find how far each pixel is from the nearest and from the second nearest instance, exactly.

    Along the columns first, then across. The nearest instance of a pixel is the nearest one of some column. So is the
    second nearest, if that column's own nearest is not the pixel's nearest; if it is, the next of the column counts.

    Args:
        instance: int32 [H, W], 0 = none.
        reach: px, how far is looked, below 2¹⁵.

    Returns:
        float32 [H, W] each, px; infinite where there is none within reach.
    """
    width = instance.shape[1]
    first, second = _along_columns(instance, reach)
    label, ahead, behind = (first & _LABEL).int(), (first >> _BITS).int(), (second >> _BITS).int()
    most = min(reach, width - 1)
    steps = [
        (dx * dx, slice(max(0, -dx), width - max(0, dx)), slice(max(0, dx), width - max(0, -dx)))
        for dx in range(-most, most + 1)
    ]
    nearest = torch.full_like(first, _FAR << _BITS)
    for square, here, there in steps:
        part = nearest[:, here]
        torch.minimum(part, first[:, there] + (square << _BITS), out=part)
    own = (nearest & _LABEL).int()
    other = torch.full_like(own, _FAR)
    for square, here, there in steps:
        part = other[:, here]
        found = torch.where(label[:, there] == own[:, here], behind[:, there], ahead[:, there])
        torch.minimum(part, found.add_(square), out=part)
    near, after = (
        torch.where(d <= reach * reach, d.float().sqrt(), torch.inf) for d in ((nearest >> _BITS).int(), other)
    )
    return near, after


def _along_columns(instance: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The nearest two instances within each pixel's column: int64, the squared distance above the number."""
    rows = torch.arange(len(instance), device=instance.device)[:, None].expand_as(instance)
    found = list[Tensor]()
    for flip in (False, True):
        seen = instance.long().flip(0) if flip else instance.long()
        last = torch.where(seen != 0, rows, -1).cummax(0).values  # the row of the last instance down to here
        before = torch.nn.functional.pad(last, (0, 0, 1, 0), value=-1)[:-1]
        last_id = seen.gather(0, before.clamp(min=0))  # 0 where there is none: row 0 has none then
        begins = (seen != 0) & (last_id != 0) & (seen != last_id)
        last_other = torch.where(begins, before, -1).cummax(0).values  # that of the last other instance
        for row in (last, last_other):
            key = ((rows - row) ** 2 << _BITS) + seen.gather(0, row.clamp(min=0))
            key = torch.where((row < 0) | (rows - row > reach), _FAR << _BITS, key)
            found.append(key.flip(0) if flip else key)
    first = torch.minimum(found[0], found[2])
    own = first & _LABEL
    others = [torch.where(key & _LABEL == own, _FAR << _BITS, key) for key in found]
    return first, torch.stack(others).amin(0)
