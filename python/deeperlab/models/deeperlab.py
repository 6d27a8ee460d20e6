# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper (section 3, Figure 2): images to the five heads that `deeperlab.fuse` takes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeperlab.graph import Graph
from deeperlab.heads import NAMES, Heads, names_of
from deeperlab.params import FuseParams

from .backbones import efficientnet_lite, mobilenet_v2, xception
from .backbones.efficientnet_lite import EfficientNetLite0
from .backbones.mobilenet_v2 import MobileNetV2
from .backbones.xception import Xception
from .contexts import ASPP, Projection
from .decoders import Bilinear, SpaceToDepth
from .heads import Head
from .hub import Pretrained
from .layers import Folding
from .norms import batch_norms, warn_of_initial_statistics

MOBILENET = {"backbone": "mobilenet_v2", "kernel_size": 3}
MODELS: dict[str, dict[str, Any]] = {
    "xception71": {"backbone": "xception71"},
    "wider_mobilenet_v2": {**MOBILENET, "kernel_size": 5},
    "light_wider_mobilenet_v2": {
        **MOBILENET, "kernel_size": 5, "decoder_channels": 128, "decoder_kernel": 3, "semantic_channels": 128,
        "head_kernel": 3,
    },
    "mobilenet_v2": MOBILENET,
    "mobilenet_v2_7x7": {**MOBILENET, "kernel_size": 7},
    "efficientnet_lite0": {
        "backbone": "efficientnet_lite0", "decoder_channels": 32, "decoder_kernel": 5, "semantic_channels": 128,
        "head_kernel": 5,
    },
}  # fmt: skip
"""What each model gives to `DeeperLab`; an option of `create` goes before it."""


def list_models() -> list[str]:
    """Return the names that `create` takes."""
    return list(MODELS)


def create(name: str, num_classes: int, **options: Any) -> DeeperLab:
    """Make a network of the paper by its name, with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: C, the channels of the semantic head.
        options: of `DeeperLab`, for the ablations of Tables 3, 4 and 6, and others.

    Raises:
        ValueError: an unknown name or option, or a value out of range.
        TypeError: a value of another type.
    """
    if name not in MODELS:
        raise ValueError(f"name: expected one of {', '.join(MODELS)}, got {name!r}")
    known = list(inspect.signature(DeeperLab).parameters)[1:]
    for option in options.keys() - known:
        raise ValueError(f"options: expected some of {', '.join(known)}, got {option!r}")
    return DeeperLab(num_classes, **MODELS[name] | options)


class DeeperLab(Pretrained):
    """Backbone, context, decoder and heads.

    Args:
        num_classes: C, the channels of the semantic head.
        backbone: xception71, xception65, xception41, mobilenet_v2 or efficientnet_lite0.
        kernel_size: of MobileNetV2's spatial convolutions (Table 3).
        output_stride: of backbone and context, 16 or 8.
        aspp: whether the context is ASPP; else a 1 × 1 convolution (Table 3).
        separable_aspp: whether its 3 × 3 convolutions are separable.
        decoder: space_to_depth, or bilinear upsampling (Table 4).
        decoder_channels: of what the heads see; 16 times as many at output stride 16.
        decoder_kernel, head_kernel: 7, or 3.
        semantic_channels, instance_channels: between the two convolutions of a head.
        shallow_heads: a 1 × 1 convolution alone for each head (Table 4).
        separable_heads: whether the k × k convolutions of the heads are separable.
        graph: star, rectangle (Table 6), or a graph of your own: a `deeperlab.Graph`, or its keypoints and edges as
            `config` has them; or none, for a network that has the semantic head alone, and finds no instances.
        eps: of the backbone's batch norms, which belongs to its weight file; None: 1e-5 for MobileNetV2's of timm and
            torchvision (TensorFlow's have 1e-3), 1e-3 for the others.
        bn_momentum: of all batch norms: the share of a batch in the running statistics of eval mode. After n training
            steps (1 − bn_momentum)ⁿ of what they were before is left: with .01, 5 % after 300 steps. The original code
            has 3e-4 (MobileNetV2: 3e-3), with which that takes 10,000 steps.
        image_size: px of the longer side of the images it is trained on, to which `Parser` resizes; at most
            `MAX_IMAGE_SIZE`, or a small file could ask for any memory (the argument `size` of `Parser` goes beyond).
        radius: px of the keypoint disks it is trained on, with which `Parser` fuses.
        fusion: parameters of `FuseParams` by their names with which `Parser` fuses, where others than the defaults suit
            the network; `deeperlab tune` finds them.
        stuff_area: share of an image that a class of stuff must have, or `Parser` makes it void; found likewise.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
    """

    stride = 4

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "xception71",
        kernel_size: int = 3,
        output_stride: int = 16,
        aspp: bool = True,
        separable_aspp: bool = True,
        decoder: str = "space_to_depth",
        decoder_channels: int = 256,
        decoder_kernel: int = 7,
        semantic_channels: int = 256,
        instance_channels: int = 64,
        head_kernel: int = 7,
        shallow_heads: bool = False,
        separable_heads: bool = True,
        graph: Graph | str | Mapping[str, Any] = "star",
        eps: float | None = None,
        bn_momentum: float = 0.01,
        image_size: int = 1441,
        radius: float = 25.0,
        fusion: Mapping[str, Any] = MappingProxyType({}),
        stuff_area: float = 0.0,
    ) -> None:
        if isinstance(num_classes, np.integer):  # as the largest of an annotation is
            num_classes = int(num_classes)
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check(config)
        super().__init__()
        self.graph = Graph.from_config(graph)
        self.fusion, self.stuff_area = dict(fusion), stuff_area
        self.config = config | {"graph": self.graph.to_config(), "fusion": self.fusion}
        features: Xception | MobileNetV2 | EfficientNetLite0
        if backbone == "mobilenet_v2":
            features = MobileNetV2(kernel_size, output_stride, mobilenet_v2.EPS if eps is None else eps)
        elif kernel_size != 3:
            raise ValueError(f"kernel_size: expected 3 of {backbone}, whose kernels are given, got {kernel_size}")
        elif backbone == "efficientnet_lite0":
            features = EfficientNetLite0(output_stride, efficientnet_lite.EPS if eps is None else eps)
        else:
            features = Xception(int(backbone[-2:]), output_stride, xception.EPS if eps is None else eps)
        self.image_size, self.radius = image_size, radius
        self.num_classes = num_classes
        self.mean, self.std = features.mean, features.std
        low, top = features.channels[4], features.channels[output_stride]
        self.backbone = features
        self.context = ASPP(top, output_stride, separable=separable_aspp) if aspp else Projection(top)
        out = self.context.out
        self.decoder = (SpaceToDepth if decoder == "space_to_depth" else Bilinear)(
            out, low, decoder_channels, decoder_kernel, output_stride // 4
        )
        p, e = len(self.graph.keypoints), len(self.graph.edges)
        channels = dict(zip(NAMES, (num_classes, p, 2 * p, 2 * e, 2 * p), strict=True))
        self.heads = nn.ModuleDict(
            {
                name: Head(
                    self.decoder.out,
                    semantic_channels if name == "semantic" else instance_channels,
                    channels[name],
                    head_kernel,
                    separable=separable_heads,
                    shallow=shallow_heads,
                )
                for name in names_of(self.graph)
            }
        )
        for norm in batch_norms(self).values():
            norm.momentum = bn_momentum
        self.mark_untrained()

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the heads that there are as tensors, in the order of `Heads`: all five, or the semantic one alone."""
        pyramid = self.backbone(images)
        features = self.decoder(self.context(pyramid[self.backbone.output_stride]), pyramid[4])
        return tuple(head(features) for head in self.heads.values())

    def exportable(self) -> nn.Module:
        """Return a network whose forward is `raw` of this one: `torch.export` and ONNX know tensors, not `Heads`."""
        return Exportable(self)

    def forward(self, images: Tensor) -> Heads:
        """Compute heads at stride 4 of images [N, 3, H, W] of any size: RGB, less `mean`, over `std`, both of 0 … 1."""
        return Heads.of_outputs(self.raw(images), self.stride, self.graph)

    def fold_batch_norm(self) -> DeeperLab:
        """Return a copy for inference, its batch norms folded into the convolutions before them."""
        if self.has_trained_weights:
            warn_of_initial_statistics(self)
        model = copy.deepcopy(self).eval()
        for module in model.modules():
            if isinstance(module, Folding):
                module.fold()
        return model

    def normalized(self, images: Tensor) -> Tensor:
        """Scale images [N, 3, H, W] uint8 to what `forward` takes, float32.

        Raises:
            TypeError, ValueError: other images.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            raise TypeError(f"images: expected a uint8 tensor, got {getattr(images, 'dtype', type(images).__name__)}")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected [N, 3, H, W], got {list(images.shape)}")
        mean, std = (images.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


class Exportable(nn.Module):
    """Images to the heads of a network as a tuple of tensors, in the order of `Heads`."""

    def __init__(self, network: DeeperLab) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.network.raw(images)


MAX_IMAGE_SIZE = 4096
CHOICES = {
    "backbone": ("xception71", "xception65", "xception41", "mobilenet_v2", "efficientnet_lite0"),
    "output_stride": (16, 8),
    "decoder": ("space_to_depth", "bilinear"),
}
SWITCHES = ("aspp", "separable_aspp", "shallow_heads", "separable_heads")
KERNELS = ("kernel_size", "decoder_kernel", "head_kernel")
COUNTS = ("num_classes", "decoder_channels", "semantic_channels", "instance_channels", "image_size", *KERNELS)


def _check(config: dict[str, Any]) -> None:
    """Refuse what no network can be made of; the graph is checked by `Graph.from_config`."""
    for name, allowed in CHOICES.items():
        if config[name] not in allowed or isinstance(config[name], float):
            raise ValueError(f"{name}: expected {' or '.join(map(str, allowed))}, got {config[name]!r}")
    for name in SWITCHES:
        if not isinstance(config[name], bool):
            raise TypeError(f"{name}: expected True or False, got {config[name]!r}")
    for name in COUNTS:
        if isinstance(config[name], bool) or not isinstance(config[name], int):
            raise TypeError(f"{name}: expected an int, got {config[name]!r}")
        if config[name] < 1:
            raise ValueError(f"{name}: expected at least 1, got {config[name]}")
    if config["image_size"] > MAX_IMAGE_SIZE:
        raise ValueError(f"image_size: expected at most {MAX_IMAGE_SIZE}, got {config['image_size']}")
    for name in KERNELS:
        if config[name] % 2 == 0:
            raise ValueError(f"{name}: expected an odd number, got {config[name]}")
    for name, none in (("eps", "None or "), ("bn_momentum", "")):
        value = config[name]
        if none and value is None:
            continue
        if not isinstance(value, float):
            raise TypeError(f"{name}: expected {none}a float, got {value!r}")
        if not 0 < value < 1:
            raise ValueError(f"{name}: expected a number between 0 and 1, got {value}")
    if not isinstance(config["radius"], float):
        raise TypeError(f"radius: expected a float, got {config['radius']!r}")
    if not 0 < config["radius"] < math.inf:
        raise ValueError(f"radius: expected a finite number above 0, got {config['radius']}")
    _check_fusion(config["fusion"])
    if not isinstance(config["stuff_area"], float):
        raise TypeError(f"stuff_area: expected a float, got {config['stuff_area']!r}")
    if not 0 <= config["stuff_area"] < 1:
        raise ValueError(f"stuff_area: expected a share from 0 to below 1, got {config['stuff_area']}")


def _check_fusion(fusion: Any) -> None:
    if not isinstance(fusion, Mapping):
        raise TypeError(f"fusion: expected parameters by their names, got {fusion!r}")
    known = [field.name for field in dataclasses.fields(FuseParams) if field.name != "radius"]
    for name in fusion:
        if name not in known:
            raise ValueError(f"fusion: expected some of {', '.join(known)}, got {name!r}")
    try:
        FuseParams(**fusion)
    except (ValueError, TypeError) as fault:
        raise type(fault)(f"fusion: {fault}") from fault
