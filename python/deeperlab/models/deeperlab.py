# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper (section 3, Figure 2): images to the five heads that `deeperlab.fuse` takes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from deeperlab.graph import Graph

from .backbones import efficientnet_lite, mobilenet_v2, xception
from .backbones.efficientnet_lite import EfficientNetLite0
from .backbones.mobilenet_v2 import MobileNetV2
from .backbones.resnet import ResNet
from .backbones.xception import Xception
from .contexts import ASPP, Projection
from .decoders import Bilinear, SpaceToDepth
from .heads import Head
from .network import Network, Parts
from .settings import checked, require_between, require_choice, require_count, require_switch

MOBILENET = {"backbone": "mobilenet_v2", "kernel_size": 3}
V3PLUS = {
    "decoder": "bilinear", "decoder_kernel": 3, "low_level_channels": 48, "shallow_heads": True, "graph": "none",
}  # fmt: skip
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
    "deeplab_v3plus_xception65": {**V3PLUS, "backbone": "xception65"},
    "deeplab_v3plus_xception71": {**V3PLUS, "backbone": "xception71"},
    "deeplab_v3plus_resnet101": {**V3PLUS, "backbone": "resnet101"},
}  # fmt: skip
"""What each model gives to `DeeperLab`; an option of `create` goes before it."""
CHOICES = {
    "backbone": (
        "xception71", "xception65", "xception41", "mobilenet_v2", "efficientnet_lite0", "resnet50", "resnet101",
    ),
    "output_stride": (16, 8),
    "decoder": ("space_to_depth", "bilinear"),
}  # fmt: skip
SWITCHES = ("aspp", "separable_aspp", "shallow_heads", "separable_heads")
COUNTS = ("decoder_channels", "low_level_channels", "semantic_channels", "instance_channels")
KERNELS = ("kernel_size", "decoder_kernel", "head_kernel")


class DeeperLab(Network):
    """The paper's network (section 3, Figure 2), and DeepLab v3+, whose parts it shares.

    Args:
        num_classes: C, the channels of the semantic head.
        in_channels: of the images.
        backbone: xception71, xception65, xception41, mobilenet_v2, efficientnet_lite0, resnet50 or resnet101.
        kernel_size: of MobileNetV2's spatial convolutions (Table 3).
        output_stride: of backbone and context, 16 or 8.
        aspp: whether the context is ASPP; else a 1 × 1 convolution (Table 3).
        separable_aspp: whether its 3 × 3 convolutions are separable.
        decoder: space_to_depth, or bilinear upsampling (Table 4).
        decoder_channels: of what the heads see; 16 times as many at output stride 16.
        decoder_kernel, head_kernel: 7, or 3.
        low_level_channels: to which features of stride 4 are reduced before they meet the context.
        semantic_channels, instance_channels: between the two convolutions of a head.
        shallow_heads: a 1 × 1 convolution alone for each head (Table 4).
        separable_heads: whether the k × k convolutions of the heads are separable.
        graph: star, rectangle (Table 6), none for a semantic head alone, or a graph of your own: a `deeperlab.Graph`,
            or its keypoints and edges as `config` has them.
        eps: of the backbone's batch norms, which belongs to its weight file; None: 1e-5 for MobileNetV2's of timm and
            torchvision (TensorFlow's have 1e-3) and for ResNets, which take no other, 1e-3 for the others.
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

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        backbone: str = "xception71",
        kernel_size: int = 3,
        output_stride: int = 16,
        aspp: bool = True,
        separable_aspp: bool = True,
        decoder: str = "space_to_depth",
        decoder_channels: int = 256,
        decoder_kernel: int = 7,
        low_level_channels: int = 32,
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
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for name, allowed in CHOICES.items():
            require_choice(name, config[name], allowed)
        for name in SWITCHES:
            require_switch(name, config[name])
        for name in (*COUNTS, *KERNELS):
            require_count(name, config[name], odd=name in KERNELS)
        require_between("eps", eps, none=True)
        config = checked(config)
        features = _backbone(backbone, in_channels, kernel_size, output_stride, eps)
        low, top = features.channels[4], features.channels[output_stride]
        context = ASPP(top, output_stride, separable=separable_aspp) if aspp else Projection(top)
        shape = (context.out, low, decoder_channels, decoder_kernel, output_stride // 4, low_level_channels)
        made = SpaceToDepth(*shape) if decoder == "space_to_depth" else Bilinear(*shape)

        def head(channels: int, *, semantic: bool) -> nn.Module:
            middle = semantic_channels if semantic else instance_channels
            return Head(made.out, middle, channels, head_kernel, separable=separable_heads, shallow=shallow_heads)

        super().__init__(config, Parts(features, context, made, head, top=output_stride, stride=4))


def _backbone(
    name: str, in_channels: int, kernel_size: int, output_stride: int, eps: float | None
) -> Xception | MobileNetV2 | EfficientNetLite0 | ResNet:
    if name == "mobilenet_v2":
        return MobileNetV2(kernel_size, output_stride, mobilenet_v2.EPS if eps is None else eps, in_channels)
    if kernel_size != 3:
        raise ValueError(f"kernel_size: expected 3 of {name}, whose kernels are given, got {kernel_size}")
    if name == "efficientnet_lite0":
        return EfficientNetLite0(output_stride, efficientnet_lite.EPS if eps is None else eps, in_channels)
    if name.startswith("resnet"):
        if eps is not None:
            raise ValueError(f"eps: expected None of {name}, whose files all have 1e-5, got {eps}")
        return ResNet(int(name.removeprefix("resnet")), in_channels, output_stride)
    depth = int(name.removeprefix("xception"))
    return Xception(depth, output_stride, xception.EPS if eps is None else eps, in_channels)
