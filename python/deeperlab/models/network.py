# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper (section 3, Figure 2): images to the five heads that `deeperlab.fuse` takes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from deeperlab.heads import RECTANGLE, STAR, Graph, Heads

from .context import ASPP, Projection
from .decoder import Bilinear, SpaceToDepth
from .layers import Folding, spatial_conv
from .mobilenet_v2 import MobileNetV2
from .pretrained import Pretrained
from .xception import Xception

GRAPHS: dict[str, Graph] = {"star": STAR, "rectangle": RECTANGLE}
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
}  # fmt: skip
"""What each model gives to `DeeperLab`; an option of `create` goes before it."""


def list_models() -> list[str]:
    """The names that `create` takes."""
    return list(MODELS)


def create(name: str, num_classes: int, **options: Any) -> DeeperLab:
    """A network of the paper by its name, with random weights.

    Args:
        name: one of `list_models()`.
        num_classes: C, the channels of the semantic head.
        options: of `DeeperLab`, for the ablations of Tables 3, 4, 6 and 7.

    Raises:
        ValueError: an unknown name or option.
    """
    if name not in MODELS:
        raise ValueError(f"name: expected one of {', '.join(MODELS)}, got {name!r}")
    try:
        return DeeperLab(num_classes, **MODELS[name] | options)
    except TypeError as fault:
        raise ValueError(f"options: {str(fault).removeprefix('DeeperLab.__init__() ')}") from None


class Head(nn.Sequential):
    """A k × k convolution and the 1 × 1 that gives the channels of one head; shallow: the latter alone."""

    def __init__(self, channels: int, middle: int, out: int, kernel: int, *, separable: bool, shallow: bool) -> None:
        last = nn.Conv2d(channels if shallow else middle, out, 1)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(*([] if shallow else [spatial_conv(channels, middle, kernel, separable=separable)]), last)


class DeeperLab(Pretrained):
    """Backbone, context, decoder and heads.

    Args:
        num_classes: C.
        backbone: xception71, xception65, xception41 or mobilenet_v2.
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
        graph: star, or rectangle (Table 6).
        eps: of MobileNetV2's batch norms; see `MobileNetV2`.
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
        graph: str = "star",
        eps: float = 1e-5,
    ) -> None:
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.config = config
        _one_of("output_stride", output_stride, (16, 8))
        _one_of("decoder", decoder, ("space_to_depth", "bilinear"))
        _one_of("graph", graph, tuple(GRAPHS))
        _one_of("backbone", backbone, ("xception71", "xception65", "xception41", "mobilenet_v2"))
        if num_classes < 1:
            raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
        body: Xception | MobileNetV2
        if backbone == "mobilenet_v2":
            body = MobileNetV2(kernel_size, output_stride, eps)
        elif kernel_size != 3:
            raise ValueError(f"kernel_size: expected 3, all that Xception has, got {kernel_size}")
        else:
            body = Xception(int(backbone[-2:]), output_stride)
        self.num_classes, self.graph = num_classes, GRAPHS[graph]
        self.mean, self.std = body.mean, body.std
        low, top = body.channels[4], body.channels[output_stride]
        self.backbone = body
        self.context = ASPP(top, output_stride, separable=separable_aspp) if aspp else Projection(top)
        out = self.context.out
        self.decoder = (
            SpaceToDepth(out, low, decoder_channels, decoder_kernel, output_stride // 4)
            if decoder == "space_to_depth"
            else Bilinear(out, low, decoder_channels, decoder_kernel)
        )
        p, e = len(self.graph.keypoints), len(self.graph.edges)
        wanted = {"semantic": num_classes, "heatmap": p, "short_range": 2 * p, "middle_range": 2 * e,
                  "long_range": 2 * p}  # fmt: skip
        self.heads = nn.ModuleDict(
            {
                name: Head(
                    self.decoder.out,
                    semantic_channels if name == "semantic" else instance_channels,
                    channels,
                    head_kernel,
                    separable=separable_heads,
                    shallow=shallow_heads,
                )
                for name, channels in wanted.items()
            }
        )

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        """The heads as five tensors, in the order of `Heads`: for exports, which know no other classes."""
        pyramid = self.backbone(images)
        features = self.decoder(self.context(pyramid[self.backbone.output_stride]), pyramid[4])
        return tuple(head(features) for head in self.heads.values())

    def forward(self, images: Tensor) -> Heads:
        """Heads at stride 4 of images [N, 3, H, W] of any size: RGB, less `mean`, over `std`, both of 0 … 1."""
        semantic, heatmap, short_range, middle_range, long_range = self.raw(images)
        return Heads(semantic, heatmap, short_range, middle_range, long_range, self.stride, self.graph)

    def fuse_bn(self) -> DeeperLab:
        """A copy for inference, the batch norms folded into the convolutions before them."""
        model = copy.deepcopy(self).eval()
        for module in model.modules():
            if isinstance(module, Folding):
                module.fold()
        return model

    @torch.no_grad()
    def normalised(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] uint8 as `forward` takes them, float32."""
        mean, std = (images.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(map(str, allowed))}, got {value!r}")
