# SPDX-License-Identifier: Apache-2.0
"""The other systems: counts and fields of their papers, where their outputs lie, and what they share with ours."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
import torchvision_logits
from safetensors.torch import save_file
from torch import Tensor, nn

import deeperlab
from deeperlab import Heads, models
from deeperlab.data.files import FormatError
from deeperlab.models import contexts
from deeperlab.models.backbones.contracting import DoubleConv
from deeperlab.models.backbones.resnet import ResNet
from deeperlab.models.backbones.vgg import VGG
from deeperlab.models.contexts import PyramidPooling, SpatialPyramidPooling
from deeperlab.models.decoders import unpool
from deeperlab.models.heads import DilatedContext, Scores
from deeperlab.models.sampling import Frame, between, mirrored, pooled, stretched
from deeperlab.models.systems import SYSTEMS

pytestmark = pytest.mark.slow

PARAMETERS = {
    "fcn32s": 134_346_581,
    "fcn16s": 134_357_354,
    "fcn8s": 134_362_751,
    "fcn_resnet50": 32_957_013,
    "fcn_resnet101": 51_949_141,
    "deconvnet": 251_805_653,
    "dilated_frontend": 134_346_581,
    "dilated_context_basic": 134_346_581 + 28_392,
    "dilated_context_large": 134_346_581 + 6_803_139,
    "deeplab_v1_largefov": 20_505_429,
    "deeplab_v1_7x7": 134_346_581,
    "deeplab_v1_4x4": 65_140_565,
    "deeplab_v1_4x4_r8": 65_140_565,
    "deeplab_v2_vgg16": 37_877_652,
    "deeplab_v2_resnet101": 44_048_532,
    "deeplab_v3_resnet50": 39_638_869,
    "deeplab_v3_resnet101": 58_630_997,
    "pspnet_resnet50": 46_716_373,
    "pspnet_resnet101": 65_708_501,
    "deeplab_v3plus_xception65": 41_055_413,
    "deeplab_v3plus_xception71": 43_477_837,
    "deeplab_v3plus_resnet101": 45_688_261,
}
"""Of 21 classes, counted by hand from the papers and their code."""
WITH_AUXILIARY = {
    "fcn_resnet50": 2_365_205, "fcn_resnet101": 2_365_205, "deeplab_v3_resnet101": 60_996_202 - 58_630_997,
    "pspnet_resnet50": 49_081_578 - 46_716_373, "pspnet_resnet101": 68_073_706 - 65_708_501,
}  # fmt: skip
NEW = (*SYSTEMS, *(name for name in models.list_models() if "v3plus" in name))
DISTINCT = (
    "fcn8s", "deconvnet", "dilated_context_basic", "deeplab_v1_largefov", "deeplab_v2_vgg16", "deeplab_v3_resnet50",
    "pspnet_resnet50", "unet", "fusionnet",
)  # fmt: skip
"""One of each kind; the others have the same parts in other numbers."""
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"width": 8} for name in ("unet", "fusionnet")},
    **{name: {"units": 32} for name in ("fcn32s", "fcn8s", "deconvnet", "dilated_context_basic")},
    "deeplab_v1_largefov": {"units": 32},
}  # fmt: skip
"""Which make networks small that can be."""


def on_meta(name: str, classes: int = 21, **options: Any) -> models.Network:
    with torch.device("meta"):
        return models.create(name, classes, **options).eval()


def small(name: str, classes: int = 3, **options: Any) -> models.Network:
    torch.manual_seed(0)
    return models.create(name, classes, **OPTIONS.get(name, {}) | options).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- What they are


def test_all_systems_are_listed() -> None:
    listed = models.list_models()
    assert {*PARAMETERS, "unet", "fusionnet"} <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_papers(name: str) -> None:
    model = on_meta(name)
    assert list(model.heads) == ["semantic"]
    assert count(model) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "options", "classes", "channels", "parameters"),
    [
        ("unet", {}, 2, 1, 31_030_658),
        ("fusionnet", {}, 1, 1, 78_531_649),
        ("fusionnet", {"width": 32}, 1, 1, 19_644_961),
    ],
)
def test_parameters_of_networks_of_gray_images(
    name: str, options: dict[str, int], classes: int, channels: int, parameters: int
) -> None:
    assert count(on_meta(name, classes, in_channels=channels, **options)) == parameters


@pytest.mark.parametrize("name", WITH_AUXILIARY)
def test_a_second_head_is_added_on_demand(name: str) -> None:
    assert count(on_meta(name, auxiliary=True)) - count(on_meta(name)) == WITH_AUXILIARY[name]


def test_unet_has_23_convolutions() -> None:
    kinds = nn.Conv2d, nn.ConvTranspose2d
    assert sum(isinstance(module, kinds) for module in on_meta("unet", 2, in_channels=1).modules()) == 23


def field(layers: list[tuple[int, int, int]]) -> int:
    """1 + Σ (k − 1) · rate · jump over (kernel, rate, stride)."""
    seen, jump = 1, 1
    for kernel, rate, stride in layers:
        seen += (kernel - 1) * rate * jump
        jump *= stride
    return seen


def of_vgg(pool: int, pools: tuple[int, ...], rate: int) -> list[tuple[int, int, int]]:
    layers = []
    for i, units in enumerate((2, 2, 3, 3, 3)):
        layers += [(3, rate if i == 4 else 1, 1)] * units
        if i < len(pools):
            layers.append((pool, 1, pools[i]))
    return layers


def test_receptive_fields_by_arithmetic() -> None:
    whole, atrous = of_vgg(2, (2,) * 5, 1), of_vgg(3, (2, 2, 2, 1, 1), 2)
    assert field([*whole, (7, 1, 1)]) == 404
    assert field([*of_vgg(2, (2, 2, 2), 2), (7, 4, 1)]) == 380
    context = [(3, rate, 1) for rate in DilatedContext.RATES] + [(1, 1, 1)]
    assert [field(context[: i + 1]) for i in range(8)] == [3, 5, 9, 17, 33, 65, 67, 67]  # Table 1 there
    fov = [field([*atrous, layer]) - field(atrous) for layer in ((7, 4, 1), (4, 4, 1), (4, 8, 1), (3, 12, 1))]
    assert fov == [192, 96, 192, 192]  # 224, 128, 224, 224 there, where the first convolutions of 32 px count too


def test_the_context_module_sees_67_nodes() -> None:
    module = DilatedContext(2).double()
    for layer in module:
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.fill_(1 / layer.weight[0].numel())
    scores = torch.full((1, 2, 1, 101), 1e-3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(scores)[0, 0, 0, 50], scores)
    assert gradient[0, 0, 0].nonzero().flatten().tolist() == list(range(50 - 33, 50 + 34))


@pytest.mark.parametrize(("name", "size"), [("deeplab_v3_resnet50", 961), ("pspnet_resnet50", 961)])
def test_atrous_backbones_keep_their_field_at_any_output_stride(name: str, size: int) -> None:
    fields = []
    for stride in (16, 8):
        backbone = on_meta(name, output_stride=stride).backbone.to_empty(device="cpu").double()
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d):
                module.weight.data.fill_(1 / module.weight[0].numel())
        image = torch.full((1, 3, 1, size), 1e-6, dtype=torch.float64, requires_grad=True)
        node = backbone(image)[stride][0, 0, 0, 480 // stride]
        (gradient,) = torch.autograd.grad(node, image)
        seen = gradient[0, 0, 0].nonzero()
        fields.append(int(seen[-1]) - int(seen[0]) + 1)
    assert fields[0] == fields[1]
    assert fields[0] > 400


# --- Their parts


@pytest.mark.parametrize(("height", "width"), [(7, 9), (1, 5), (13, 6)])
def test_pooled_bins_are_those_of_adaptive_pooling(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    for bins in (1, 2, 3, 6):
        want = F.adaptive_avg_pool2d(x, bins)
        torch.testing.assert_close(pooled(x, bins), want)
        if height < 7 or bins in (1, 2):
            continue
        exported = torch.export.export(_Pooled(bins), (x,)).module()
        torch.testing.assert_close(exported(x), want)


class _Pooled(nn.Module):
    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        return pooled(x, self.bins)


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (3, 50), (25, 17)])
def test_stretched_features_keep_their_corners(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 7, 9)
    want = F.interpolate(x, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(stretched(x, *size), want)


def test_samples_lie_between_nodes_and_go_on_past_the_last() -> None:
    x = torch.tensor([[[[0.0, 10.0, 30.0]]]])
    got = between(x, torch.tensor([0.0]), torch.tensor([-2.0, 0.0, 0.25, 1.5, 2.0, 9.0]))
    assert got[0, 0, 0].tolist() == [0.0, 0.0, 2.5, 20.0, 30.0, 30.0]


@pytest.mark.parametrize(("side", "before", "after"), [(5, 3, 2), (5, 11, 14), (2, 5, 4), (1, 3, 2)])
def test_mirrors_repeat_no_edge(side: int, before: int, after: int) -> None:
    image = np.arange(side * 4, dtype=np.float32).reshape(1, 1, side, 4)
    got = mirrored(torch.from_numpy(image), before, before + side + after, before + 4 + after)
    pads = (0, 0), (0, 0), (before, after), (before, after)
    np.testing.assert_array_equal(got.numpy(), np.pad(image, pads, "reflect"))


def test_unpooling_puts_maxima_back() -> None:
    x = torch.randn(2, 3, 6, 8, requires_grad=True)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    back = unpool(y, indices)
    assert torch.equal(back, F.max_unpool2d(y, indices, 2))
    back.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, back != 0)


def bilinear_kernel(stride: int) -> Tensor:
    """The weights of a deconvolution of 2s × 2s that enlarges bilinearly (FCN, section 3.3)."""
    place = torch.arange(2 * stride, dtype=torch.float64)
    tent = 1 - (place - (stride - 0.5)).abs() / stride
    return (tent[:, None] * tent)[None, None]


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_scores_are_enlarged_as_by_bilinear_deconvolutions(stride: int) -> None:
    scores = torch.randn(1, 1, 5, 4, dtype=torch.float64)
    want = F.conv_transpose2d(scores, bilinear_kernel(stride), stride=stride, padding=stride // 2)
    frame = Frame(multiple=32, every=stride)
    got = frame.on_nodes(scores, 1, 5 * stride, 4 * stride)
    inside = slice(stride // 2, -stride // 2)  # at the edges the deconvolution fades to 0; here the last score goes on
    torch.testing.assert_close(got[..., inside, inside], want[..., inside, inside], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        frame.on_nodes(scores, 4, 5 * stride - 3, 4 * stride), got[..., : 5 * stride - 3 : 4, ::4], rtol=0, atol=0
    )


def test_finer_scores_are_added_as_by_bilinear_deconvolutions() -> None:
    head = Scores((2, 3), 4, factor=2).double()
    coarse, fine = torch.randn(1, 2, 5, 6, dtype=torch.float64), torch.randn(1, 3, 10, 12, dtype=torch.float64)
    up = F.conv_transpose2d(
        head.scores[0](coarse), bilinear_kernel(2).repeat(4, 1, 1, 1), stride=2, padding=1, groups=4
    )
    want = up + head.scores[1](fine)
    got = head((coarse, fine))
    torch.testing.assert_close(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


@pytest.mark.parametrize("widths", [DilatedContext.BASIC, DilatedContext.LARGE])
def test_the_context_module_begins_as_the_identity(widths: tuple[int, ...]) -> None:
    scores = torch.rand(1, 6, 40, 40)
    with torch.no_grad():
        off = DilatedContext(6, widths)(scores) - scores
    assert float(off.abs().max()) < 0.1
    assert float(off.abs().max()) > 0


def test_pyramid_pooling_keeps_the_features_and_adds_a_quarter_for_each_grid() -> None:
    module = PyramidPooling(8).eval()
    x = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        y = module(x)
    assert y.shape == (1, 16, 12, 12)
    assert torch.equal(y[:, :8], x)
    assert float(y[0, 8:10].std((1, 2)).max()) == 0  # the mean of all is the same everywhere
    assert float(y[0, 14:].std((1, 2)).max()) > 0


def test_spatial_pyramid_pooling_gives_one_size_for_all_sizes() -> None:
    layer = SpatialPyramidPooling((4, 2, 1))
    x = torch.randn(2, 5, 13, 9)
    vector = layer(x)
    assert vector.shape == layer(torch.randn(2, 5, 40, 60)).shape == (2, 5 * 21)
    assert torch.equal(vector[:, -5:], x.amax((2, 3)))
    first_bin = x[:, :, : math.ceil(13 / 2), : math.ceil(9 / 2)].amax((2, 3))
    assert torch.equal(vector[:, 5 * 16 : 5 * 20].view(2, 5, 4)[:, :, 0], first_bin)


def test_valid_convolutions_lose_what_unet_says() -> None:
    """572 px become 388 (Figure 1 there), and the frame asks for just that margin."""
    model = on_meta("unet", 2, in_channels=1)
    image = torch.empty(1, 1, 572, 572, device="meta")
    pyramid = model.backbone(image)
    assert {stride: feature.shape[2] for stride, feature in pyramid.items()} == {1: 568, 2: 280, 4: 136, 8: 64, 16: 28}
    assert model.decoder(pyramid[16], *(pyramid[skip] for skip in (8, 4, 2, 1))).shape == (1, 64, 388, 388)
    assert DoubleConv(1, 2)(torch.zeros(1, 1, 10, 10)).shape == (1, 2, 6, 6)


def test_the_dilated_front_end_covers_the_image_by_its_margin() -> None:
    backbone = on_meta("dilated_frontend")
    image = torch.empty(1, 3, 80 + 2 * 186, 64 + 2 * 186, device="meta")
    assert backbone.context(backbone.backbone(image)[5]).shape == (1, 4096, 10, 8)


def test_rates_follow_strides_that_are_given_up() -> None:
    def rates(**options: Any) -> list[int]:
        with torch.device("meta"):
            blocks = ResNet(50, **options).blocks
        return [unit.conv2.dilation[0] for block in blocks for unit in block]

    assert rates(output_stride=16) == [1] * 13 + [1, 2, 2]
    assert rates(output_stride=8) == [1] * 7 + [1, 2, 2, 2, 2, 2] + [2, 4, 4]
    assert rates(output_stride=16, multi_grid=(1, 2, 4)) == [1] * 13 + [2, 4, 8]
    cascade = rates(output_stride=16, multi_grid=(1, 2, 1), cascade=3)
    assert cascade == [1] * 13 + [2, 4, 2, 4, 8, 4, 8, 16, 8, 16, 32, 16]


# --- Where their outputs lie


SIZES = ((65, 97), (46, 32), (1, 1))


@pytest.mark.parametrize("name", DISTINCT)
def test_any_size_goes_straight_into_fuse(name: str) -> None:
    model = small(name)
    for size in SIZES:
        with torch.no_grad():
            heads = model(torch.randn(2, 3, *size))
        assert isinstance(heads, Heads)
        assert heads.stride == model.stride
        assert heads.semantic.shape == (2, 3, *(-(-side // model.stride) for side in size))
        panoptic = deeperlab.fuse(heads, (0,), size=size)
        assert panoptic.semantic.shape == (2, *size)
        assert int(panoptic.count.sum()) == 0


@pytest.mark.parametrize("name", ["fcn8s", "dilated_context_basic", "deeplab_v2_vgg16", "pspnet_resnet50", "unet"])
def test_any_system_takes_the_five_heads(name: str) -> None:
    model = small(name, graph="star")
    with torch.no_grad():
        heads = model(torch.randn(1, 3, 65, 49))
    assert [heads.heatmap.shape[1], heads.short_range.shape[1], heads.middle_range.shape[1]] == [5, 10, 16]
    assert deeperlab.fuse(heads, (0,), size=(65, 49)).size == (65, 49)


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("fcn8s", 1), ("dilated_context_basic", 1), ("deeplab_v1_largefov", 1), ("deeplab_v2_vgg16", 1), ("unet", 1),
        ("deeplab_v3_resnet50", 1),
        ("pspnet_resnet50", 4),  # whose context has the means of parts of the image
        ("fusionnet", 8),  # whose deconvolutions of 3 × 3 lie half a node off its pools, at each of four levels
    ],
)  # fmt: skip
def test_an_object_is_found_where_it_is(name: str, off: float) -> None:
    """Averaging weights, and a bright square: the center of the scores is that of the square, wherever it is moved."""
    model = small(name, 1)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            middle = module.kernel_size[0] // 2
            nn.init.zeros_(module.weight)
            into = module.weight.shape[1] if isinstance(module, nn.Conv2d) else module.weight.shape[0]
            if isinstance(module, nn.ConvTranspose2d) and module.stride[0] > 1:
                module.weight.data.fill_(1 / into)
            elif module.kernel_size[0] % 2:
                module.weight.data[:, :, middle, middle] = 1 / into
            else:
                module.weight.data.fill_(1 / into / module.kernel_size[0] ** 2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for y, x in ((64, 96), (96, 160)):
        image = torch.zeros(1, 3, 225, 257)
        image[:, :, y - 32 : y + 32, x - 32 : x + 32] = 1  # whole cells of the coarsest grid
        with torch.no_grad():
            scores = model(image).semantic[0, 0]
        weights = scores - scores.min()
        rows, columns = (torch.arange(side) * model.stride for side in scores.shape)
        center = [
            float((weights.sum(axis) @ places.float()) / weights.sum()) for axis, places in ((1, rows), (0, columns))
        ]
        assert center == pytest.approx([y - 0.5, x - 0.5], abs=off), name


@pytest.mark.parametrize("name", DISTINCT)
def test_an_image_of_a_batch_is_seen_as_by_itself(name: str) -> None:
    model, images = small(name), torch.randn(2, 3, 65, 49)
    with torch.no_grad():
        together, alone = model(images).semantic, model(images[1:]).semantic
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4 * float(alone.std()))


def test_the_greatest_scores_of_all_scales_count() -> None:
    plain, scaled = small("deeplab_v2_vgg16"), small("deeplab_v2_vgg16", scales=(0.5,))
    scaled.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        (want,), (other,), (got,) = plain.raw(image), plain.raw(stretched(image, 33, 49)), scaled.raw(image)
    torch.testing.assert_close(got, want.maximum(stretched(other, 9, 13)))


# --- Training


@pytest.mark.parametrize("name", DISTINCT)
def test_gradients_reach_every_parameter(name: str) -> None:
    options = {"auxiliary": True} if name in WITH_AUXILIARY else {}
    model = small(name, **options).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = model(torch.randn(2, 3, 97, 65))
    heads, auxiliary = found if isinstance(found, models.Supervised) else (found, None)
    loss = heads.semantic.square().mean()
    if options:
        assert auxiliary is not None
        assert auxiliary.shape == heads.semantic.shape
        loss = loss + auxiliary.square().mean()
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 0]
    assert idle == []


@pytest.mark.parametrize("name", ["pspnet_resnet50", "deeplab_v3_resnet50"])
def test_one_image_can_be_trained_on(name: str) -> None:
    model = small(name).train()
    model(torch.randn(1, 3, 65, 65)).semantic.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("name", ["deconvnet", "pspnet_resnet50", "fusionnet"])
def test_folded_norms_give_the_same(name: str) -> None:
    model = small(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.7)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    model.mark_untrained()
    folded, images = model.fold_batch_norm(), torch.randn(1, 3, 65, 49)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        want, got = model(images).semantic, folded(images).semantic
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.std()))


# --- Compilers, exports, files


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch
@pytest.mark.parametrize("name", DISTINCT)
def test_a_compiled_network_gives_the_same(name: str) -> None:
    model, images = small(name), torch.randn(1, 3, 66, 49)
    with torch.no_grad():
        want, got = model(images), torch.compile(model, backend="aot_eager", fullgraph=True)(images)
    assert isinstance(got, Heads)
    torch.testing.assert_close(got.semantic, want.semantic, rtol=1e-3, atol=1e-4 * float(want.semantic.std()))


@pytest.mark.parametrize("most", [1 << 25, 700, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_that_is_trained_in_parts_is_the_same(
    most: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "PART", most)
    torch.manual_seed(0)
    whole = torch.nn.Conv2d(3, 10, 5, padding=4, dilation=2, bias=bias).double()
    split = contexts.WideConv(3, 10, 5, padding=4, dilation=2, bias=bias).double()
    split.load_state_dict(whole.state_dict())
    images = [torch.randn(2, 3, 9, 11, dtype=torch.double).requires_grad_() for _ in range(2)]
    images[1].data = images[0].data
    found = []
    for model, x in zip((whole, split), images, strict=True):
        y = model(x)
        (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
        found.append((y.detach(), x.grad, *(parameter.grad for parameter in model.parameters())))
    torch.testing.assert_close(*found)
    assert ("Cat" in y.grad_fn.name()) == (most < split.weight.numel())
    assert "Cat" not in split.eval()(x).grad_fn.name()


def test_the_largest_kernels_with_a_rate_are_trained_in_parts_of_few_weights() -> None:
    """Or oneDNN takes a minute for their gradient: of 2²⁶ weights and more."""
    with torch.device("meta"):
        made = [models.create(name, 3, graph="none") for name in ("deeplab_v1_7x7", "dilated_frontend")]
    for model in made:
        conv = model.context.fc6.conv
        assert isinstance(conv, contexts.WideConv)
        assert conv.weight.numel() > 1 << 26
        parts = conv.weight.chunk(-(-conv.weight.numel() // contexts.PART))
        assert max(part.numel() for part in parts) <= contexts.PART


@pytest.mark.parametrize("name", ["deeplab_v1_largefov", "unet", "deeplab_v3plus_xception65"])
def test_a_folder_is_loaded_whichever_network_it_is(name: str, tmp_path: Path) -> None:
    model = small(name, 2)
    model.save_pretrained(tmp_path)
    again = models.from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.has_trained_weights
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_system_is_not_loaded_as_the_papers_network(tmp_path: Path) -> None:
    small("unet", 2).save_pretrained(tmp_path)
    with pytest.raises(
        FormatError, match=r"expected arguments of DeeperLab, got 'options', 'system'; .*from_pretrained"
    ):
        models.DeeperLab.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"system": "vnet"}))
    with pytest.raises(FormatError, match=r"system: expected one of fcn32s, .*, got 'vnet'"):
        models.from_pretrained(tmp_path)


BAD = (
    ("fcn8s", {"stride": 3}, "stride: expected 1 or 2 or 4 or 8, got 3"),
    ("fcn8s", {"finest": 8}, "options: expected some of .*stride, units, got 'finest'"),
    ("fcn8s", {"num_classes": 0}, "num_classes: expected at least 1, got 0"),
    ("fcn8s", {"in_channels": 0}, "in_channels: expected at least 1, got 0"),
    ("deeplab_v1_largefov", {"kernel": 4, "rate": 3}, "rate: expected an even number for a kernel of 4, got 3"),
    ("deeplab_v2_vgg16", {"rates": ()}, r"rates: expected some ints, got \(\)"),
    ("deeplab_v2_vgg16", {"scales": (3.0,)}, "scales: expected numbers from 1/64 to 2, got 3.0"),
    ("deeplab_v2_vgg16", {"scales": (0.5,), "graph": "star"}, "scales: expected none beside a graph, .*"),
    ("deeplab_v3_resnet101", {"output_stride": 32}, "output_stride: expected 16 or 8, got 32"),
    ("deeplab_v3_resnet101", {"multi_grid": (1, 2)}, r"multi_grid: expected None or three ints, got \(1, 2\)"),
    ("deeplab_v3_resnet101", {"multi_grid": 2}, "multi_grid: expected some ints, got 2"),
    ("deeplab_v3_resnet101", {"multi_grid": (0, 1, 2)}, "multi_grid: expected at least 1, got 0"),
    ("deeplab_v3_resnet101", {"cascade": 4}, "cascade: expected at most 3, got 4"),
    ("unet", {"width": 0}, "width: expected at least 1, got 0"),
    ("deeplab_v3plus_resnet101", {"eps": 1e-3}, "eps: expected None of resnet101, .*, got 0.001"),
)


@pytest.mark.parametrize(("name", "options", "message"), BAD, ids=str)
def test_a_value_that_does_not_fit_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"), torch.device("meta"):
        models.create(name, **{"num_classes": 3} | options)


def test_other_channels_have_the_mean_of_red_green_and_blue() -> None:
    model = small("unet", 2, in_channels=4)
    assert model.mean == pytest.approx((0.449,) * 4, abs=1e-3)
    images = torch.randint(0, 256, (1, 4, 20, 20), dtype=torch.uint8)
    assert model(model.normalized(images)).semantic.shape == (1, 2, 20, 20)
    with pytest.raises(ValueError, match=r"images: expected \[N, 4, H, W\], got \[1, 3, 20, 20\]"):
        model.normalized(images[:, :3])
    with pytest.raises(ValueError, match="model: expected a network of RGB images, got one of 4 channels"):
        deeperlab.Parser(model, labels="cityscapes")


# --- Weights of other packages


def vgg(names: dict[str, str], *, batch_norm: bool = False) -> dict[str, Tensor]:
    """A VGG-16 that counts its layers through, with the first layers of its classifier by these names."""
    generator, made, place, channels = torch.Generator().manual_seed(0), {}, 0, 3
    for units in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for out in units:
            made[f"features.{place}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * 0.1
            made[f"features.{place}.bias"] = torch.randn(out, generator=generator)
            if batch_norm:
                for leaf in ("weight", "bias", "running_mean", "running_var"):
                    made[f"features.{place + 1}.{leaf}"] = torch.rand(out, generator=generator)
            channels, place = out, place + 2 + batch_norm
        place += 1
    flat = names["fc6"] == "classifier.0"
    made[f"{names['fc6']}.weight"] = torch.randn((4096, 25088) if flat else (4096, 512, 7, 7), generator=generator)
    made[f"{names['fc7']}.weight"] = torch.randn((4096, 4096) if flat else (4096, 4096, 1, 1), generator=generator)
    for name in (names["fc6"], names["fc7"]):
        made[f"{name}.bias"] = torch.randn(4096, generator=generator)
    return made | {f"{names['last']}.weight": torch.zeros(1000, 4096), f"{names['last']}.bias": torch.zeros(1000)}


TORCHVISION = {"fc6": "classifier.0", "fc7": "classifier.3", "last": "classifier.6"}
TIMM = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "last": "head.fc"}


@pytest.mark.parametrize("names", [TORCHVISION, TIMM], ids=["torchvision", "timm"])
def test_vgg_brings_its_classifier_to_fcn(names: dict[str, str], tmp_path: Path) -> None:
    tensors = vgg(names)
    save_file(tensors, tmp_path / "vgg16.safetensors")
    model = small("fcn32s", units=4096)
    assert models.load_backbone(model, tmp_path / "vgg16.safetensors") == ("decoder", "heads")
    assert torch.equal(model.backbone.blocks[4][2].conv.weight, tensors["features.28.weight"])
    assert torch.equal(model.context.fc6.conv.weight.flatten(), tensors[f"{names['fc6']}.weight"].flatten())
    assert torch.equal(model.context.fc7.conv.bias, tensors[f"{names['fc7']}.bias"])
    assert not model.has_trained_weights


def test_vgg_leaves_other_contexts_random(tmp_path: Path) -> None:
    save_file(vgg(TORCHVISION), tmp_path / "vgg16.safetensors")
    model = small("deeplab_v1_largefov")
    before = model.context.fc6.conv.weight.clone()
    assert models.load_backbone(model, tmp_path / "vgg16.safetensors") == ("context", "decoder", "heads")
    assert torch.equal(model.context.fc6.conv.weight, before)


def test_vgg_with_norms_is_another_network(tmp_path: Path) -> None:
    tensors = vgg(TORCHVISION, batch_norm=True)
    save_file(tensors, tmp_path / "vgg16_bn.safetensors")
    backbone = VGG(batch_norm=True)
    models.load_backbone(backbone, tmp_path / "vgg16_bn.safetensors")
    assert torch.equal(backbone.blocks[2][1].bn.running_mean, tensors["features.18.running_mean"])
    with pytest.raises(models.WeightsError, match=r"unexpected: blocks\.0\.0\.bn"):
        models.load_backbone(VGG(), tmp_path / "vgg16_bn.safetensors")


def test_a_resnet_of_other_packages_fills_ours(tmp_path: Path) -> None:
    given = torchvision_logits.tensors("fcn_resnet50")
    theirs = {name.removeprefix("backbone."): t for name, t in given.items() if name.startswith("backbone.")}
    theirs |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    save_file(theirs, tmp_path / "resnet50.safetensors")
    backbone = ResNet(50)
    models.load_backbone(backbone, tmp_path / "resnet50.safetensors")
    assert torch.equal(backbone.stem[0].conv.weight, theirs["conv1.weight"])
    assert torch.equal(backbone.blocks[3][2].bn3.running_var, theirs["layer4.2.bn3.running_var"])


def test_a_deep_stem_of_timm_fills_ours(tmp_path: Path) -> None:
    given = torchvision_logits.tensors("fcn_resnet50")
    theirs = {name.removeprefix("backbone."): t for name, t in given.items() if name.startswith("backbone.layer")}
    theirs["layer1.0.conv1.weight"] = torch.randn(64, 128, 1, 1)
    theirs["layer1.0.downsample.0.weight"] = torch.randn(256, 128, 1, 1)
    for place, (into, out) in {0: (3, 64), 3: (64, 64), 6: (64, 128)}.items():
        theirs[f"conv1.{place}.weight"] = torch.randn(out, into, 3, 3)
        norm = f"conv1.{place + 1}" if place < 6 else "bn1"
        theirs |= {f"{norm}.{leaf}": torch.rand(out) for leaf in ("weight", "bias", "running_mean", "running_var")}
    save_file(theirs, tmp_path / "resnet50s.safetensors")
    backbone = ResNet(50, deep_stem=True)
    models.load_backbone(backbone, tmp_path / "resnet50s.safetensors")
    assert torch.equal(backbone.stem[1].bn.weight, theirs["conv1.4.weight"])
    assert torch.equal(backbone.stem[2].bn.weight, theirs["bn1.weight"])
    assert torch.equal(backbone.stem[2].conv.weight, theirs["conv1.6.weight"])


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("theirs", torchvision_logits.NETWORKS)
def test_networks_of_torchvision_answer_as_there(theirs: str, auxiliary: bool, tmp_path: Path) -> None:
    """`tests/torchvision_logits.json` holds what torchvision said."""
    save_file(torchvision_logits.tensors(theirs), tmp_path / "model.safetensors")
    model = models.create(torchvision_logits.NETWORKS[theirs], torchvision_logits.CLASSES, auxiliary=auxiliary).eval()
    models.load_weights(model, tmp_path / "model.safetensors")
    assert model.has_trained_weights
    answer, beside = json.loads(torchvision_logits.STORED.read_text())[theirs]
    with torch.no_grad():
        got = model(torchvision_logits.image()).semantic[0]
        torch.testing.assert_close(got, torch.tensor(answer), rtol=1e-3, atol=2e-3)
        if auxiliary:
            features = model.backbone(torchvision_logits.image())[ResNet.AUXILIARY]
            torch.testing.assert_close(model.auxiliary(features)[0], torch.tensor(beside), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("theirs", torchvision_logits.NETWORKS)
def test_the_stored_answers_are_torchvisions(theirs: str) -> None:
    segmentation = pytest.importorskip("torchvision.models.segmentation", reason="needs deeperlab[maskrcnn]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(segmentation, theirs)(
            weights=None, weights_backbone=None, num_classes=torchvision_logits.CLASSES, aux_loss=True
        ).eval()
    given = torchvision_logits.tensors(theirs)
    missing, unexpected = network.load_state_dict(given, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        logits = network.classifier(network.backbone(torchvision_logits.image())["out"])[0]
    answer, _ = json.loads(torchvision_logits.STORED.read_text())[theirs]
    torch.testing.assert_close(logits, torch.tensor(answer), rtol=1e-3, atol=2e-3)


# --- Training of any of them


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fcn8s", {"units": 8}), ("deeplab_v2_vgg16", {}), ("dilated_context_large", {"units": 8}),
        ("pspnet_resnet50", {"auxiliary": True}), ("unet", {"width": 4}), ("fusionnet", {"width": 4}),
        ("deeplab_v3plus_xception65", {}),
    ],
)  # fmt: skip
def test_a_network_goes_on_with_other_classes(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """What depends on their number stays random, all else comes from the file."""
    before, after = models.create(name, 3, **options), models.create(name, 5, **options)
    before.save_pretrained(tmp_path)
    random = {key: tensor.clone() for key, tensor in after.state_dict().items()}
    models.load_weights(after, tmp_path / "model.safetensors", new_classes=True)
    of_classes = after.of_classes()
    assert of_classes
    for key, tensor in after.state_dict().items():
        assert torch.equal(tensor, random[key] if key in of_classes else before.state_dict()[key]), key
    assert not after.has_trained_weights


@pytest.mark.parametrize("size", [(65, 97), (62, 91), (1, 40)])
def test_scores_of_all_scales_lie_on_the_same_nodes(size: tuple[int, int]) -> None:
    """Where every score is the brightness around its node, a ramp has the same at every scale."""
    model = small("deeplab_v2_vgg16", 1, scales=(0.5,))
    model.backbone = _Brightness()
    model.context, model.heads = nn.Identity(), nn.ModuleDict({"semantic": nn.Identity()})
    rows, columns = torch.arange(size[0]).float(), torch.arange(size[1]).float()
    image = (rows[:, None] + 3 * columns).expand(1, 3, -1, -1)
    (got,) = model.raw(image)
    want = image[:, :1, ::8, ::8]
    inside = slice(None, -1) if min(want.shape[2:]) > 1 else slice(None)
    torch.testing.assert_close(got[..., inside, inside], want[..., inside, inside], rtol=0, atol=1e-3)


class _Brightness(nn.Module):
    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {5: images[:, :1, ::8, ::8]}
