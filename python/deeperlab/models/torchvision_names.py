# SPDX-License-Identifier: Apache-2.0
"""The segmentation networks of torchvision, DeepLab v3 and FCN on a ResNet, in our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .backbones.imagenet import RESNET_FIRST, rename_resnet

FIRST = f"backbone.{RESNET_FIRST}"
"""A tensor that both have, by a name that none of ours has."""
LAST = "classifier.4.weight"
DEEPLAB_V3 = {
    r"classifier\.0\.convs\.0\.": ("context.branches.1.", {"0": "conv", "1": "bn"}),
    r"classifier\.0\.convs\.1\.": ("context.branches.2.", {"0": "conv", "1": "bn"}),
    r"classifier\.0\.convs\.2\.": ("context.branches.3.", {"0": "conv", "1": "bn"}),
    r"classifier\.0\.convs\.3\.": ("context.branches.4.", {"0": "conv", "1": "bn"}),
    r"classifier\.0\.convs\.4\.": ("context.branches.0.project.", {"1": "conv", "2": "bn"}),
    r"classifier\.0\.project\.": ("context.project.", {"0": "conv", "1": "bn"}),
    r"classifier\.": ("heads.semantic.", {"1": "0.conv", "2": "0.bn", "4": "1"}),
}
FCN = {r"classifier\.": ("heads.semantic.", {"0": "0.conv", "1": "0.bn", "4": "2"})}
AUXILIARY = {r"aux_classifier\.": ("auxiliary.", {"0": "0.conv", "1": "0.bn", "4": "2"})}
"""What begins a name, what stands there in ours, and the modules after it."""


def in_our_names(found: Mapping[str, Tensor], *, auxiliary: bool) -> dict[str, Tensor]:
    """Rename the tensors of such a network; those of others stay as they are.

    Args:
        found: by name.
        auxiliary: whether the second head has a place in our network; it is left out if not.
    """
    if FIRST not in found or LAST not in found:
        return dict(found)
    places = (DEEPLAB_V3 if "classifier.0.project.0.weight" in found else FCN) | AUXILIARY
    renamed = {_rename(name, places): tensor for name, tensor in found.items()}
    project = "context.project.conv.weight"
    if project in renamed:  # the image's mean is their last branch and our first
        *others, mean = renamed[project].chunk(5, 1)
        renamed[project] = torch.cat([mean, *others], 1)
    return {name: tensor for name, tensor in renamed.items() if auxiliary or not name.startswith("auxiliary.")}


def _rename(name: str, places: Mapping[str, tuple[str, Mapping[str, str]]]) -> str:
    if name.startswith("backbone."):
        return f"backbone.{rename_resnet(name.removeprefix('backbone.'), stem=1)}"
    for theirs, (ours, modules) in places.items():
        if (match := re.fullmatch(rf"{theirs}(\d+)\.(\w+)", name)) and match[1] in modules:
            return f"{ours}{modules[match[1]]}.{match[2]}"
    return name
