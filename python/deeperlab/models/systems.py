# SPDX-License-Identifier: Apache-2.0
"""The systems that DeeperLab grew from and stands against, each a choice of backbone, context, decoder and heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from torch import nn

from .backbones.contracting import Contracting, DoubleConv, ResidualConv
from .backbones.resnet import ResNet
from .backbones.vgg import VGG
from .contexts import ASPP, Columns, FullyConnected, Identity, PyramidPooling
from .decoders import Beside, Expand, Plain, Skips, Unpool, UpConv
from .heads import AtrousScores, DilatedContext, Head, Scores, SpatialHead
from .network import Parts
from .sampling import Frame
from .settings import require_choice, require_count, require_switch


def _scores(channels: int, *, dropout: float = 0.0) -> Callable[..., nn.Module]:
    """A 1 × 1 convolution for each head."""
    return lambda out, *, semantic: Head(channels, 0, out, 1, shallow=True, dropout=dropout)


def _convolved(channels: int, middle: int, dropout: float = 0.0) -> Callable[..., nn.Module]:
    """A dense 3 × 3 convolution to `middle` channels, and a 1 × 1, for each head."""
    return lambda out, *, semantic=True: Head(channels, middle, out, 3, dropout=dropout)


def fcn(in_channels: int, *, finest: int, stride: int = 4, units: int = 4096) -> Parts:
    """FCN-32s, -16s and -8s (Long et al. 2015): VGG-16, its classifier as convolutions, scores of finer pools added.

    Args:
        in_channels: of the images.
        finest: px, the stride of the finest scores: 32, 16 or 8.
        stride: px between the nodes of the heads, to which the scores are upsampled by the fixed bilinear kernels of
            the deconvolutions: 1 as in the paper, or 4, which takes a sixteenth of the memory.
        units: of the classifier's layers; with 4096 they can begin with those of VGG-16.
    """
    require_choice("finest", finest, (32, 16, 8))
    require_choice("stride", stride, (1, 2, 4, 8))
    require_count("units", units)
    backbone, context = VGG(in_channels), FullyConnected(512, units)
    skips = {32: (), 16: (4,), 8: (4, 3)}[finest]
    decoder = Skips(context.out, tuple(backbone.channels[skip] for skip in skips), skips)
    frame = Frame(multiple=32, every=finest)
    return Parts(backbone, context, decoder, lambda out, *, semantic: Scores(decoder.out, out, 2), 5, stride, frame)


def fcn_resnet(in_channels: int, *, depth: int, output_stride: int = 8, auxiliary: bool = False) -> Parts:
    """The network that torchvision calls FCN: an atrous ResNet and one 3 × 3 head.

    Args:
        in_channels: of the images.
        depth: 50 or 101.
        output_stride: 8 or 16.
        auxiliary: whether a second head learns on the third stage's features.
    """
    backbone = _resnet(in_channels, depth, output_stride)
    top = backbone.channels[output_stride]
    beside = _auxiliary(backbone) if _switch("auxiliary", auxiliary) else None
    return Parts(
        backbone, Identity(top), Plain(top), _convolved(top, top // 4, 0.1), output_stride, output_stride,
        auxiliary=beside,
    )  # fmt: skip


def deconvnet(in_channels: int, *, units: int = 4096) -> Parts:
    """DeconvNet (Noh et al. 2015): VGG-16 and its mirror image, which unpools by the indices of the pools.

    Images smaller than 224 px are extended: the classifier's 7 × 7 pads nothing.

    Args:
        in_channels: of the images.
        units: of the classifier's layers.
    """
    require_count("units", units)
    backbone = VGG(in_channels, batch_norm=True, indices=True)
    context = FullyConnected(512, units, valid=True, batch_norm=True)
    decoder = Unpool(context.out)
    return Parts(backbone, context, decoder, _scores(decoder.out), 5, 1, Frame(multiple=32, least=224))


def dilated(in_channels: int, *, context: str, stride: int = 4, units: int = 4096) -> Parts:
    """The dilated front end, and its context module (Yu and Koltun 2016).

    Args:
        in_channels: of the images.
        context: none: the front end alone; basic or large, of Table 1.
        stride, units: as of `fcn`.
    """
    require_count("units", units)
    require_choice("context", context, ("none", "basic", "large"))
    require_choice("stride", stride, (1, 2, 4, 8))
    backbone = VGG(in_channels, 8, pools=3, valid=True)
    layers = FullyConnected(512, units, rate=4, valid=True)

    def head(out: int, *, semantic: bool) -> nn.Module:
        scores = Head(layers.out, 0, out, 1, shallow=True)
        if context != "none":
            scores.append(DilatedContext(out, DilatedContext.BASIC if context == "basic" else DilatedContext.LARGE))
        return scores

    return Parts(backbone, layers, Plain(layers.out), head, 5, stride, Frame(margin=186, multiple=8, every=8))


def deeplab_v1(
    in_channels: int, *, kernel: int = 3, rate: int = 12, units: int = 1024, multi_scale: bool = False
) -> Parts:
    """DeepLab v1 (Chen et al. 2015): VGG-16 at stride 8, its classifier's first layer atrous.

    Args:
        in_channels: of the images.
        kernel, rate, units: of the classifier's first layer: a row of Table 1 there.
        multi_scale: whether the image and the first four pools have a part in the scores (section 4.3 there).
    """
    for name, value in (("kernel", kernel), ("rate", rate), ("units", units)):
        require_count(name, value)
    if rate * (kernel - 1) % 2:
        raise ValueError(f"rate: expected an even number for a kernel of {kernel}, got {rate}")
    backbone, context = VGG(in_channels, 8, pool=3), FullyConnected(512, units, kernel, rate)
    if not _switch("multi_scale", multi_scale):
        return Parts(backbone, context, Plain(units), _scores(units), 5, 8)
    finer = {0: 8, 1: 4, 2: 2, 3: 1, 4: 1}  # by what the image and the pools are to be made smaller
    decoder = Beside(units, {skip: (backbone.channels[skip], step) for skip, step in finer.items()})
    return Parts(backbone, context, decoder, _scores(decoder.out), 5, 8)


def deeplab_v2(
    in_channels: int,
    *,
    backbone: str,
    rates: Sequence[int] = (6, 12, 18, 24),
    scales: Sequence[float] = (),
) -> Parts:
    """DeepLab v2 (Chen et al. 2017): classifiers at several rates, their scores added (ASPP-L).

    Args:
        in_channels: of the images.
        backbone: vgg16 or resnet101.
        rates: of the classifiers; 2, 4, 8, 12 is ASPP-S.
        scales: of the image that are seen besides, the greatest scores of all being taken: .5 and .75 there.
    """
    require_choice("backbone", backbone, ("vgg16", "resnet101"))
    rates = _counts("rates", rates)
    others = tuple(Fraction(scale).limit_denominator(64) for scale in _scales(scales))
    if backbone == "resnet101":
        features = _resnet(in_channels, 101, 8)
        top = features.channels[8]
        return Parts(
            features, Identity(top), Plain(top), lambda out, *, semantic: AtrousScores(top, out, rates), 8, 8,
            scales=others,
        )  # fmt: skip
    columns = Columns(FullyConnected(512, 1024, 3, rate) for rate in rates)
    return Parts(
        VGG(in_channels, 8, pool=3), columns, Plain(columns.out), lambda out, *, semantic: Scores(columns.out, out), 5,
        8, scales=others,
    )  # fmt: skip


def deeplab_v3(
    in_channels: int,
    *,
    depth: int,
    output_stride: int = 8,
    multi_grid: Sequence[int] | None = None,
    cascade: int = 0,
    aspp: bool = True,
    auxiliary: bool = False,
) -> Parts:
    """DeepLab v3 (Chen et al. 2017): an atrous ResNet, ASPP with the image's mean. By default as torchvision has it.

    Args:
        in_channels: of the images.
        depth: 50 or 101.
        output_stride: 8 or 16.
        multi_grid: factors of the rates in the last stage; 1, 2, 4 is best there at output stride 16 (Table 5).
        cascade: stages after the fourth: up to 3, which go to block 7.
        aspp: whether there is ASPP; the cascade goes without.
        auxiliary: as of `fcn_resnet`.
    """
    require_count("cascade", cascade, least=0, most=3)
    if multi_grid is not None and len(multi_grid := _counts("multi_grid", multi_grid)) != 3:
        raise ValueError(f"multi_grid: expected None or three ints, got {multi_grid!r}")
    backbone = _resnet(in_channels, depth, output_stride, multi_grid=multi_grid, cascade=cascade)
    top = backbone.channels[output_stride]
    context = ASPP(top, output_stride, separable=False, dropout=0.5) if _switch("aspp", aspp) else Identity(top)
    beside = _auxiliary(backbone) if _switch("auxiliary", auxiliary) else None
    return Parts(
        backbone, context, Plain(context.out), _convolved(context.out, 256), output_stride, output_stride,
        auxiliary=beside,
    )  # fmt: skip


def pspnet(in_channels: int, *, depth: int, output_stride: int = 8, auxiliary: bool = False) -> Parts:
    """PSPNet (Zhao et al. 2017): an atrous ResNet with three convolutions for a stem, and pyramid pooling.

    Args:
        in_channels: of the images.
        depth: 50 or 101.
        output_stride: 8 or 16.
        auxiliary: whether a second head learns on the third stage's features, its loss times .4 there.
    """
    backbone = _resnet(in_channels, depth, output_stride, deep_stem=True)
    context = PyramidPooling(backbone.channels[output_stride])
    beside = _auxiliary(backbone) if _switch("auxiliary", auxiliary) else None
    return Parts(
        backbone, context, Plain(context.out), _convolved(context.out, 512, 0.1), output_stride, output_stride,
        auxiliary=beside,
    )  # fmt: skip


def unet(in_channels: int, *, width: int = 64) -> Parts:
    """U-Net (Ronneberger et al. 2015): valid convolutions, the mirrored margin of 92 px around the image.

    Args:
        in_channels: of the images.
        width: channels at the finest level.
    """
    require_count("width", width)
    backbone = Contracting(DoubleConv, in_channels, width, dropout=0.5)
    decoder = Expand(width, partial(nn.ConvTranspose2d, kernel_size=2, stride=2), DoubleConv, concatenate=True)
    frame = Frame(margin=92, multiple=16, remainder=4)
    return Parts(backbone, Identity(16 * width), decoder, _scores(width), 16, 1, frame)


def fusionnet(in_channels: int, *, width: int = 64) -> Parts:
    """FusionNet (Quan et al. 2016): a U of residual units whose features are added.

    Args:
        in_channels: of the images.
        width: channels at the finest level.
    """
    require_count("width", width)
    backbone = Contracting(partial(ResidualConv, slope=0.2), in_channels, width)
    up, unit = partial(UpConv, kernel=3, stride=2, padding=1), partial(ResidualConv, slope=0.0)
    decoder = Expand(width, up, unit, concatenate=False)
    frame = Frame(multiple=16)
    return Parts(
        backbone, Identity(16 * width), decoder, lambda out, *, semantic: SpatialHead(width, out), 16, 1, frame
    )


def _resnet(in_channels: int, depth: int, output_stride: int, **options: Any) -> ResNet:
    require_choice("depth", depth, (50, 101))
    require_choice("output_stride", output_stride, (16, 8))
    return ResNet(depth, in_channels, output_stride, **options)


def _auxiliary(backbone: ResNet) -> tuple[int, Callable[[int], nn.Module]]:
    return backbone.AUXILIARY, _convolved(backbone.channels[backbone.AUXILIARY], 256, 0.1)


def _switch(name: str, value: bool) -> bool:
    require_switch(name, value)
    return value


def _counts(name: str, values: Sequence[int]) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(f"{name}: expected some ints, got {values!r}")
    for value in values:
        require_count(name, value)
    return tuple(values)


def _scales(scales: Sequence[float]) -> tuple[float, ...]:
    if isinstance(scales, str) or not isinstance(scales, Sequence):
        raise ValueError(f"scales: expected numbers from 1/64 to 2, got {scales!r}")
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 1 / 64 <= scale <= 2:
            raise ValueError(f"scales: expected numbers from 1/64 to 2, got {scale!r}")
    return tuple(scales)


SYSTEMS: dict[str, tuple[Callable[..., Parts], dict[str, Any]]] = {
    "fcn32s": (fcn, {"finest": 32}),
    "fcn16s": (fcn, {"finest": 16}),
    "fcn8s": (fcn, {"finest": 8}),
    "fcn_resnet50": (fcn_resnet, {"depth": 50}),
    "fcn_resnet101": (fcn_resnet, {"depth": 101}),
    "deconvnet": (deconvnet, {}),
    "dilated_frontend": (dilated, {"context": "none"}),
    "dilated_context_basic": (dilated, {"context": "basic"}),
    "dilated_context_large": (dilated, {"context": "large"}),
    "deeplab_v1_largefov": (deeplab_v1, {}),
    "deeplab_v1_7x7": (deeplab_v1, {"kernel": 7, "rate": 4, "units": 4096}),
    "deeplab_v1_4x4": (deeplab_v1, {"kernel": 4, "rate": 4, "units": 4096}),
    "deeplab_v1_4x4_r8": (deeplab_v1, {"kernel": 4, "rate": 8, "units": 4096}),
    "deeplab_v2_vgg16": (deeplab_v2, {"backbone": "vgg16"}),
    "deeplab_v2_resnet101": (deeplab_v2, {"backbone": "resnet101"}),
    "deeplab_v3_resnet50": (deeplab_v3, {"depth": 50}),
    "deeplab_v3_resnet101": (deeplab_v3, {"depth": 101}),
    "pspnet_resnet50": (pspnet, {"depth": 50}),
    "pspnet_resnet101": (pspnet, {"depth": 101}),
    "unet": (unet, {}),
    "fusionnet": (fusionnet, {}),
}
"""By name what makes the parts, and the arguments that are its own."""
