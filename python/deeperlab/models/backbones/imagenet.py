# SPDX-License-Identifier: Apache-2.0
"""Files of weights trained on ImageNet: what others call the parts of a backbone, and what comes after its features."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from .efficientnet_lite import EfficientNetLite0
from .mobilenet_v2 import MobileNetV2
from .xception import Xception

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_NORM = f"(?:{'|'.join(NORM)})"
_CLASSIFIER = rf"conv_head\.weight|bn2\.{_NORM}|classifier(?:\.1)?\.(?:weight|bias)"
BEYOND: dict[type[nn.Module], str] = {
    Xception: r"head\.fc\.(?:weight|bias)",
    MobileNetV2: _CLASSIFIER,
    EfficientNetLite0: rf"{_CLASSIFIER}|blocks\.6\.0\.(?:conv_(?:pw|dw|pwl)\.weight|bn[123]\.{_NORM})",
}
"""What comes after the last features in timm's names, and torchvision's for MobileNetV2: for ImageNet's classes."""
TORCHVISION_FIRST = "features.0.0.weight"
"""The first tensor of torchvision's MobileNetV2."""
EFFICIENTNET_FIRST = "_conv_stem.weight"
"""The first tensor of an EfficientNet-Lite in the names of the package efficientnet-pytorch."""
FIRSTS = (TORCHVISION_FIRST, EFFICIENTNET_FIRST)
EFFICIENTNET_UNITS = (1, 2, 2, 3, 3, 4, 1)
"""Of the seven stages of an EfficientNet-Lite0."""


def in_our_names(found: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Rename tensors of other packages to timm's names, which are ours; leave out what is not the backbone's."""
    if TORCHVISION_FIRST in found and isinstance(backbone, MobileNetV2):
        found = _from_torchvision(found, list(backbone.state_dict()))
    if EFFICIENTNET_FIRST in found and isinstance(backbone, EfficientNetLite0):
        found = _from_efficientnet_pytorch(found)
    beyond = next((pattern for kind, pattern in BEYOND.items() if isinstance(backbone, kind)), "")
    return {name: tensor for name, tensor in found.items() if not re.fullmatch(beyond, name)}


def _from_torchvision(found: Mapping[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """The MobileNetV2 of torchvision under timm's names: the modules are the same in the same order.

    The order is taken from the numbers in their names: safetensors sorts what it writes.
    """

    def order(module: str) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in module.split(".")]

    theirs = sorted({name.rpartition(".")[0] for name in found if name.startswith("features.")}, key=order)
    ours = [*dict.fromkeys(name.rpartition(".")[0] for name in wanted), "conv_head", "bn2"]
    if len(theirs) != len(ours):
        return dict(found)
    names = dict(zip(theirs, ours, strict=True))
    split = ((*name.rpartition("."), tensor) for name, tensor in found.items())
    return {f"{names.get(module, module)}.{leaf}": tensor for module, _, leaf, tensor in split}


def _from_efficientnet_pytorch(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An EfficientNet-Lite0 of efficientnet-pytorch, which counts blocks through all stages, under timm's names."""
    places = [(stage, unit) for stage, units in enumerate(EFFICIENTNET_UNITS) for unit in range(units)]
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip

    def translate(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module):
            block, part = int(match[1]), match[2]
            names = other if block else first
            if block >= len(places) or part not in names:
                return name
            stage, unit = places[block]
            return f"blocks.{stage}.{unit}.{names[part]}.{leaf}"
        return f"{outside.get(module, module)}.{leaf}"

    return {translate(name): tensor for name, tensor in found.items()}
