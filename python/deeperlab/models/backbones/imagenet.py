# SPDX-License-Identifier: Apache-2.0
"""Files of weights trained on ImageNet: what others call the parts of a backbone, and what comes after its features."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from .efficientnet_lite import EfficientNetLite0
from .mobilenet_v2 import MobileNetV2
from .resnet import ResNet
from .vgg import VGG, WIDTHS
from .xception import Xception

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_NORM = f"(?:{'|'.join(NORM)})"
_CLASSIFIER = rf"conv_head\.weight|bn2\.{_NORM}|classifier(?:\.1)?\.(?:weight|bias)"
BEYOND: dict[type[nn.Module], str] = {
    Xception: r"head\.fc\.(?:weight|bias)",
    MobileNetV2: _CLASSIFIER,
    ResNet: r"fc\.(?:weight|bias)",
    VGG: r"(?:classifier\.[036]|pre_logits\.fc[12]|head\.fc)\.(?:weight|bias)",
    EfficientNetLite0: rf"{_CLASSIFIER}|blocks\.6\.0\.(?:conv_(?:pw|dw|pwl)\.weight|bn[123]\.{_NORM})",
}
"""What comes after the last features in the names of timm and torchvision: for ImageNet's classes."""
TORCHVISION_FIRST = "features.0.0.weight"
"""The first tensor of torchvision's MobileNetV2."""
EFFICIENTNET_FIRST = "_conv_stem.weight"
"""The first tensor of an EfficientNet-Lite in the names of the package efficientnet-pytorch."""
RESNET_FIRST = "layer1.0.conv1.weight"
"""A tensor of all ResNets, of timm, torchvision and others, that is in no part of one by this name."""
VGG_FIRST = "features.0.weight"
"""The first tensor of a VGG, of timm and torchvision."""
FIRSTS = (TORCHVISION_FIRST, EFFICIENTNET_FIRST, RESNET_FIRST, VGG_FIRST)
EFFICIENTNET_UNITS = (1, 2, 2, 3, 3, 4, 1)
"""Of the seven stages of an EfficientNet-Lite0."""


def in_our_names(found: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Rename tensors of other packages to timm's names, which are ours; leave out what is not the backbone's."""
    if TORCHVISION_FIRST in found and isinstance(backbone, MobileNetV2):
        found = _from_torchvision(found, list(backbone.state_dict()))
    if EFFICIENTNET_FIRST in found and isinstance(backbone, EfficientNetLite0):
        found = _from_efficientnet_pytorch(found)
    if RESNET_FIRST in found and isinstance(backbone, ResNet):
        found = {rename_resnet(name, len(backbone.stem)): tensor for name, tensor in found.items()}
    if VGG_FIRST in found and isinstance(backbone, VGG):
        found = _from_features(found, batch_norm="features.1.running_mean" in found)
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


def rename_resnet(name: str, stem: int) -> str:
    """Return our name for a tensor of a ResNet: stages are blocks, and the stem counts its 1 or 3 convolutions."""
    if match := re.fullmatch(r"layer(\d)\.(.*)", name):
        return f"blocks.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"conv1\.([01346])\.(\w+)", name):  # convolutions and norms in turn, ReLUs between
        place = int(match[1])
        return f"stem.{place // 3}.{'bn' if place % 3 else 'conv'}.{match[2]}"
    if match := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"stem.{stem - 1}.{match[1]}.{match[2]}"
    return name


def _from_features(found: Mapping[str, Tensor], *, batch_norm: bool) -> dict[str, Tensor]:
    """A VGG-16 of timm or torchvision, which counts its layers through."""
    names, place = {}, 0
    for block, widths in enumerate(WIDTHS):
        for unit in range(len(widths)):
            names[f"features.{place}"] = f"blocks.{block}.{unit}.conv"
            if batch_norm:
                names[f"features.{place + 1}"] = f"blocks.{block}.{unit}.bn"
            place += 2 + batch_norm
        place += 1
    split = ((*name.rpartition("."), tensor) for name, tensor in found.items())
    return {f"{names.get(module, module)}.{leaf}": tensor for module, _, leaf, tensor in split}


def classifier_of_vgg(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the first two layers of a VGG's classifier as the convolutions they are, by the names of `FullyConnected`.

    Empty where the file has none, or none of this shape.
    """
    names = {"fc6": ("classifier.0", "pre_logits.fc1"), "fc7": ("classifier.3", "pre_logits.fc2")}
    made = {}
    for ours, theirs in names.items():
        for leaf in ("weight", "bias"):
            tensor = next((found[f"{name}.{leaf}"] for name in theirs if f"{name}.{leaf}" in found), None)
            if tensor is None:
                return {}
            if leaf == "weight" and tensor.ndim == 2:
                side = 7 if ours == "fc6" else 1
                if tensor.shape[1] % side**2:
                    return {}
                tensor = tensor.view(len(tensor), -1, side, side)
            made[f"{ours}.conv.{leaf}"] = tensor
    return made
