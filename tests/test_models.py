# SPDX-License-Identifier: Apache-2.0
"""The networks: counts and fields of the paper, where nodes lie, folding, gradients, arguments, compiling, exports.

A new network's heads are small, and a comparison of small numbers passes whatever is wrong. So every test that compares
outputs does it on a `lively` network, with a tolerance relative to the spread of each head over the image.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import deeperlab
from deeperlab import Heads, models
from deeperlab.heads import NAMES, names_of
from deeperlab.models import layers
from deeperlab.models.backbones.efficientnet_lite import EfficientNetLite0
from deeperlab.models.backbones.mobilenet_v2 import MobileNetV2
from deeperlab.models.backbones.xception import Xception
from deeperlab.models.contexts import ASPP
from deeperlab.models.heads import Logits

pytestmark = pytest.mark.slow

Module = TypeVar("Module", bound=nn.Module)
FIGURES = {  # parameters; multiply-adds in 10^9 at 1441² and 721²; receptive field of the backbone
    "xception71": (63_722_163, 681.1, 173.4, 1987),
    "wider_mobilenet_v2": (23_087_403, 222.7, 56.8, 981),
    "light_wider_mobilenet_v2": (8_557_483, 84.5, 21.5, 981),
    "mobilenet_v2": (22_971_691, 220.0, 56.1, 491),
    "mobilenet_v2_7x7": (23_260_971, 226.7, 57.8, 1471),
    "efficientnet_lite0": (3_661_451, 38.0, 9.7, 787),
}
ABLATIONS: tuple[dict[str, Any], ...] = (
    {"output_stride": 8},
    {"aspp": False},
    {"decoder": "bilinear"},
    {"decoder": "bilinear", "output_stride": 8},
    {"decoder_kernel": 3, "head_kernel": 3},
    {"shallow_heads": True},
    {"separable_heads": False, "separable_aspp": False},
    {"graph": "rectangle"},
    {"graph": "none"},
)
OTHER_SIZES = ((66, 99), (47, 130), (64, 64))  # none of them 16 m + 1
EXACT = 1e-9  # of the spread: float64, added up in another order
ROUNDED = 2e-3  # of the spread: float32, through some seventy layers; less than 1 % of any one bias changes


def on_meta(name: str, **options: Any) -> models.DeeperLab:
    with torch.device("meta"):
        return models.create(name, 66, **options).eval()


def tiny(**options: Any) -> models.DeeperLab:
    """The light network, lighter still. No two heads but the short and the long range have as many channels."""
    torch.manual_seed(0)
    small = {"num_classes": 7, "decoder_channels": 8, "semantic_channels": 8, "instance_channels": 8}
    return models.create("light_wider_mobilenet_v2", **small | options).eval()


def photos(n: int, height: int, width: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images with large shapes, each of its own colors, and grain."""
    generator = torch.Generator().manual_seed(seed)
    shapes = F.interpolate(torch.randn(n, 3, 4, 5, generator=generator), (height, width), mode="bilinear")
    return (shapes + 0.5 * torch.randn(n, 3, height, width, generator=generator)).to(dtype)


def outputs(model: models.DeeperLab, images: Tensor) -> dict[str, Tensor]:
    """The heads by their names; in float64 too, which `Heads` refuses."""
    with torch.no_grad():
        return dict(zip(names_of(model.graph), model.exportable()(images), strict=True))


def spread(head: Tensor) -> Tensor:
    """The deviation of every channel [C] over nodes and images."""
    return head.std((0, 2, 3))


def apart(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """By what share of what it varies by, at most, each head of one network differs on the same images."""
    assert list(got) == list(want)
    for name, head in want.items():
        assert got[name].shape == head.shape, name
        assert got[name].dtype == head.dtype, name
    return {name: float(((got[name] - head).abs().amax((0, 2, 3)) / spread(head)).max()) for name, head in want.items()}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float) -> None:
    off = apart(got, want)
    assert max(off.values()) <= tolerance, off


def lively(model: models.DeeperLab, seed: int = 0) -> models.DeeperLab:
    """The network as if trained: weights that keep the size of what passes, norms that have seen images.

    Statistics are those of random images and somewhat off, and no norm is neutral: what neither dies nor explodes on
    the way depends on all of them. In eval mode.
    """
    torch.manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, std=0.3)
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        model.train()(photos(16, 49, 65, seed))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.running_mean.add_(norm.running_var.sqrt() * torch.randn(norm.num_features), alpha=0.1)
            norm.running_var.mul_(torch.empty(norm.num_features).uniform_(0.8, 1.25))
    model.eval()
    for name, head in outputs(model, photos(2, 65, 97)).items():
        assert float(spread(head).min()) > 0.1, name
        assert float((spread(head[:1] - head[1:]) / spread(head)).min()) > 0.5, name
        assert float(spread(head).max()) < 100, name
    return model


def averaging(module: Module, *, centered: bool = False) -> Module:
    """Float64 convolutions that take the mean of what they see, or of its center alone, and norms that do nothing.

    On small positive images no ReLU does anything either: what comes out is a positive sum over the pixels seen.
    """
    for part in module.to_empty(device="cpu").double().modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
        elif isinstance(part, nn.Conv2d):
            weight, middle = part.weight.data, part.kernel_size[0] // 2
            weight.fill_(0 if centered else 1 / weight[0].numel())
            if centered:
                weight[:, :, middle, middle] = 1 / weight.shape[1]
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module.eval()


# --- What the paper says of its networks


def multiply_adds(model: models.DeeperLab, size: int) -> float:
    total = 0

    def count(conv: Any, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out.numel() * conv.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total / 1e9


def test_models_are_listed() -> None:
    assert models.list_models()[: len(FIGURES)] == list(FIGURES)  # test_systems.py has the others


@pytest.mark.parametrize("name", FIGURES)
def test_parameters_and_work_are_known(name: str) -> None:
    parameters, large, small, _ = FIGURES[name]
    model = on_meta(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert multiply_adds(model, 1441) == pytest.approx(large, abs=0.05)
    assert multiply_adds(model, 721) == pytest.approx(small, abs=0.05)


@pytest.mark.parametrize(("option", "parameters", "work"), [("separable_aspp", 76_237_491, 784.8),
                                                            ("separable_heads", 69_948_339, 1492.8)])  # fmt: skip
def test_dense_ablations(option: str, parameters: int, work: float) -> None:
    model = on_meta("xception71", **{option: False})
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert multiply_adds(model, 1441) == pytest.approx(work, abs=0.05)


FIELDS = (
    *((name, {}, field) for name, (*_, field) in FIGURES.items()),
    ("xception71", {"output_stride": 8}, 1987),
    ("wider_mobilenet_v2", {"output_stride": 8}, 981),
    ("xception71", {"backbone": "xception41"}, 1147),
    ("xception71", {"backbone": "xception65"}, 1915),
)


@pytest.mark.parametrize(("name", "options", "field"), FIELDS, ids=str)
def test_the_receptive_field_is_measured(name: str, options: dict[str, Any], field: int) -> None:
    """By the pixels that the node over pixel 1024 depends on, in an image of one row."""
    backbone = averaging(on_meta(name, **options).backbone)
    image = torch.full((1, 3, 1, 2049), 1e-6, dtype=torch.float64, requires_grad=True)
    node = backbone(image)[backbone.output_stride][0, 0, 0, 1024 // backbone.output_stride]
    (gradient,) = torch.autograd.grad(node, image)
    seen = gradient[0, 0, 0].nonzero()
    assert (int(seen[0]), int(seen[-1])) == (1024 - field // 2, 1024 + field // 2)


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize(("stride", "rates"), [(16, (0, 6, 12, 18)), (8, (0, 12, 24, 36))])
def test_the_branches_of_aspp_see_their_rates(stride: int, rates: tuple[int, ...], separable: bool) -> None:
    for rate, branch in zip(rates, ASPP(4, stride, 3, separable=separable).branches[1:], strict=True):
        features = torch.full((1, 4, 1, 81), 1e-6, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(averaging(branch)(features)[0, 0, 0, 40], features)
        assert gradient[0, 0, 0].nonzero().flatten().tolist() == sorted({40 - rate, 40, 40 + rate})


def test_strides_are_given_up_for_rates() -> None:
    assert layers.atrous([2, 2, 2, 2, 2, 1], 16) == [(2, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 2)]
    assert layers.atrous([2, 2, 2, 2, 2, 1], 8) == [(2, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 4)]
    with pytest.raises(ValueError, match="output_stride: expected at most 4, got 8"):
        layers.atrous([2, 2], 8)


# --- Shapes, and where nodes lie


@pytest.mark.parametrize("size", [(65, 65), (64, 96), (1, 1), (33, 130), (47, 3), *OTHER_SIZES])
def test_any_size_goes_straight_into_fuse(size: tuple[int, int]) -> None:
    with torch.no_grad():
        heads = tiny()(photos(2, *size))
    h, w = (-(-side // 4) for side in size)
    assert isinstance(heads, Heads)
    assert heads.stride == 4
    assert [getattr(heads, name).shape for name in NAMES] == [(2, c, h, w) for c in (7, 5, 10, 16, 10)]
    panoptic = deeperlab.fuse(heads, (0, 1), size=size)
    assert panoptic.semantic.shape == (2, *size)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_ablations_run(options: dict[str, Any]) -> None:
    model = lively(tiny(**options))
    with torch.no_grad():
        heads = model(photos(1, 49, 66))
    assert heads.semantic.shape == (1, 7, 13, 17)
    assert heads.heatmap.shape[1] == len(model.graph.keypoints)
    assert heads.middle_range.shape[1] == 2 * len(model.graph.edges)
    assert heads.graph is model.graph


def test_xception_runs() -> None:
    model = lively(models.create("xception71", 3, decoder_channels=4, decoder_kernel=3))
    assert outputs(model, photos(1, 33, 34))["semantic"].shape == (1, 3, 9, 9)


def test_a_new_network_sends_the_image_through() -> None:
    """While it is trained, when norms go by the batch; the last weights of the heads are small."""
    for name, head in outputs(tiny().train(), photos(4, 65, 81)).items():
        assert float(spread(head).min()) > 1e-3, name
        assert float(spread(head).max()) < 1, name


@pytest.mark.parametrize("name", NAMES)
def test_a_head_comes_from_the_module_of_its_name(name: str) -> None:
    model = lively(tiny())
    last = model.heads[name][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(77)
        heads = model(photos(1, 33, 33))
    for other in NAMES:
        assert bool((getattr(heads, other) == 77).all()) == (other == name)


NODES = pytest.mark.parametrize("size", [(65, 97), (64, 96), (35, 31), *OTHER_SIZES], ids=str)
STRIDES = pytest.mark.parametrize("stride", [16, 8])


def colored(height: int, width: int) -> Tensor:
    """A small positive image [1, 3, H, W] whose three channels are the same, and whose pixels all differ."""
    values = torch.rand(height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (1e-4 * (1 + values)).expand(1, 3, -1, -1)


def assert_proportional(feature: Tensor, want: Tensor) -> None:
    """Every channel of [1, C, h, w], to [h, w], by one factor."""
    assert feature.shape[2:] == want.shape
    torch.testing.assert_close(feature * (want[0, 0] / feature[0, 0, 0, 0]), want.expand_as(feature), rtol=1e-9, atol=0)


@NODES
@STRIDES
@pytest.mark.parametrize("name", ["xception41", "mobilenet_v2", "efficientnet_lite0"])
def test_features_lie_on_the_pixels_at_multiples_of_their_stride(name: str, stride: int, size: tuple[int, int]) -> None:
    """With kernels that see their centers alone, each node is the pixel it lies on."""
    with torch.device("meta"):
        make = {"mobilenet_v2": partial(MobileNetV2, 5), "xception41": partial(Xception, 41)}
        backbone = make.get(name, EfficientNetLite0)(stride)
    image = colored(*size)
    with torch.no_grad():
        pyramid = averaging(backbone, centered=True)(image)
    for own, feature in pyramid.items():
        assert_proportional(feature, image[0, 0, ::own, ::own])


def interpolated(context: Tensor, stride: int, h4: int, w4: int) -> Tensor:
    """Nodes [h, w] of `stride` px, seen by nodes of 4 px: linear between them, constant past the last."""
    array = context.numpy()
    rows, columns = (stride * np.arange(side) for side in array.shape)
    array = np.stack([np.interp(4 * np.arange(w4), columns, row) for row in array])
    return torch.from_numpy(np.stack([np.interp(4 * np.arange(h4), rows, column) for column in array.T], 1))


@NODES
@STRIDES
@pytest.mark.parametrize("decoder", ["space_to_depth", "bilinear"])
@pytest.mark.parametrize("path", ["low", "context"])
def test_heads_lie_on_every_fourth_pixel(path: str, decoder: str, stride: int, size: tuple[int, int]) -> None:
    """The low-level features reach their own nodes; of the context, nodes see what lies there, or their cell's."""
    options = {"decoder": decoder, "output_stride": stride, "decoder_channels": 32}  # as many as the low level has
    model = averaging(tiny(aspp=False, kernel_size=3, **options), centered=True)
    first, second = model.decoder.conv1.conv_pw.weight.data, model.decoder.conv2.conv_pw.weight.data
    if path == "context":
        first[:, model.context.out :] = 0
    else:
        first[:, : model.context.out] = 0
        for weight in (first[:, model.context.out :], second):
            weight.copy_(torch.eye(len(weight), dtype=torch.float64)[:, :, None, None])
    image = colored(*size)
    h4, w4 = (-(-side // 4) for side in size)
    want = image[0, 0, ::4, ::4]
    if path == "context":
        factor, want = stride // 4, image[0, 0, ::stride, ::stride]
        want = (
            interpolated(want, stride, h4, w4)
            if decoder == "bilinear"
            else want.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[:h4, :w4]
        )
    for head in outputs(model, image).values():
        assert_proportional(head, want)


# --- Other forms of one function


def kernels_filled_up(narrow: models.DeeperLab, wide: models.DeeperLab) -> None:
    """Give `wide` the weights of `narrow`, with zeros around the kernels."""
    state = narrow.state_dict()
    for name, weight in wide.state_dict().items():
        edge = (weight.shape[-1] - state[name].shape[-1]) // 2 if weight.ndim == 4 else 0
        weight.copy_(F.pad(state[name], [edge] * 4) if edge else state[name])


def test_wider_kernels_can_hold_narrower_ones() -> None:
    """3 × 3 kernels with zeros around them are 5 × 5 kernels of the same function, to the last bit."""
    narrow, wide = lively(tiny(kernel_size=3)).double(), tiny(kernel_size=5).double()
    kernels_filled_up(narrow, wide)
    for size in OTHER_SIZES:
        images = photos(1, *size, dtype=torch.float64)
        assert_same(outputs(wide, images), outputs(narrow, images), 0)


def test_decoder_and_heads_can_hold_narrower_kernels() -> None:
    narrow, wide = lively(tiny()).double(), tiny(decoder_kernel=7, head_kernel=5).double()
    kernels_filled_up(narrow, wide)
    images = photos(1, 66, 99, dtype=torch.float64)
    assert_same(outputs(wide, images), outputs(narrow, images), 0)


FOLDED = ({}, {"separable_heads": False, "separable_aspp": False}, {"shallow_heads": True, "aspp": False},
          {"graph": "none"},
          {"decoder": "bilinear"}, {"backbone": "xception41", "kernel_size": 3}, {"eps": 1e-2})  # fmt: skip


@pytest.mark.parametrize("options", FOLDED, ids=str)
def test_folded_norms_give_the_same(options: dict[str, Any]) -> None:
    model = lively(tiny(**options))
    before = copy.deepcopy(model.state_dict())
    folded, images = model.fold_batch_norm(), photos(2, 66, 99)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert_same(outputs(folded, images), outputs(model, images), ROUNDED)
    images = images.double()
    assert_same(outputs(model.double().fold_batch_norm(), images), outputs(model, images), EXACT)
    torch.testing.assert_close(model.float().state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("change", [0.0, 1.01], ids=["forgets", "scales"])
def test_a_fold_that_forgets_or_scales_a_bias_is_noticed(change: float) -> None:
    model = lively(tiny()).double()
    folded, images = model.fold_batch_norm(), photos(1, 34, 51, dtype=torch.float64)
    want = outputs(model, images)
    convs = [(name, conv) for name, conv in folded.named_modules() if isinstance(conv, nn.Conv2d)]
    assert len(convs) == sum(isinstance(module, nn.Conv2d) for module in model.modules())
    for name, conv in convs:
        bias = conv.bias.detach().clone()
        conv.bias.data.mul_(change)
        assert max(apart(outputs(folded, images), want).values()) > ROUNDED, name
        conv.bias.data.copy_(bias)
    assert_same(outputs(folded, images), want, EXACT)


def test_every_branch_of_aspp_matters() -> None:
    model, images = lively(tiny()), photos(1, 66, 99)
    want = outputs(model, images)
    for branch in model.context.branches:
        handle = branch.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
        assert min(apart(outputs(model, images), want).values()) > 0.1, branch
        handle.remove()


def test_an_image_of_a_batch_is_seen_as_by_itself() -> None:
    model, images = lively(tiny()).double(), photos(3, 66, 99, dtype=torch.float64)
    together = outputs(model, images)
    for i in range(3):
        assert_same(
            outputs(model, images[i : i + 1]), {name: head[i : i + 1] for name, head in together.items()}, EXACT
        )


def test_copies_are_deep() -> None:
    model = tiny()
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert not torch.equal(next(model.parameters()), next(other.parameters()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "xception71", "efficientnet_lite0"])
def test_normalized_images_are_less_the_mean_and_over_the_deviation(name: str) -> None:
    model = on_meta(name)
    mean, std = {
        "mobilenet_v2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
        "xception71": ((0.5,) * 3, (0.5,) * 3),
        "efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3),
    }[name]
    assert (model.mean, model.std) == (mean, std)
    image = torch.tensor([0, 100, 255], dtype=torch.uint8).expand(1, 3, 2, 3)
    want = [[(value / 255 - m) / s for value in (0, 100, 255)] for m, s in zip(mean, std, strict=True)]
    torch.testing.assert_close(model.normalized(image)[0, :, 1], torch.tensor(want))


# --- Training


def loss(heads: Heads) -> Tensor:
    return torch.stack([getattr(heads, name).square().mean() for name in names_of(heads.graph)]).sum()


@pytest.mark.parametrize("options", [{}, *ABLATIONS], ids=str)
def test_gradients_reach_every_parameter(options: dict[str, Any]) -> None:
    model = lively(tiny(**options)).train()
    loss(model(photos(2, 65, 66))).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not float(p.grad.abs().max()) > 0]
    assert idle == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if "running" in name}


def test_one_image_can_be_trained_on() -> None:
    """Its pooled features have no variance: that norm takes what it learnt so far, the others go by the image."""
    model = lively(tiny()).train()
    before = statistics(model)
    loss(model(photos(1, 65, 65))).backward()
    assert all(bool(p.grad.isfinite().all()) and float(p.grad.abs().max()) > 0 for p in model.parameters())
    kept = [name for name, tensor in statistics(model).items() if torch.equal(tensor, before[name])]
    assert kept == [f"context.branches.0.project.bn.running_{kind}" for kind in ("mean", "var")]
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("n", [1, 2])
def test_frozen_norms_stay_frozen(n: int) -> None:
    model = lively(tiny()).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    before = copy.deepcopy(model.state_dict())
    loss(model(photos(n, 65, 65))).backward()
    assert not any(norm.training for norm in norms)
    assert model.context.branches[0].project.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


# --- Arguments


BAD_VALUES = (
    ({"output_stride": 32}, "output_stride: expected 16 or 8, got 32"),
    ({"decoder": "none"}, "decoder: expected space_to_depth or bilinear, got 'none'"),
    ({"graph": "tree"}, "graph: expected star, rectangle, none, a Graph, or its keypoints and edges, got 'tree'"),
    ({"backbone": "resnet"}, "backbone: expected xception71 or .*, got 'resnet'"),
    ({"wide": True}, "options: expected .*kernel_size, .*, got 'wide'"),
    ({"num_classes": 0}, "num_classes: expected at least 1, got 0"),
    ({"decoder_channels": 0}, "decoder_channels: expected at least 1, got 0"),
    ({"semantic_channels": -1}, "semantic_channels: expected at least 1, got -1"),
    ({"instance_channels": 0}, "instance_channels: expected at least 1, got 0"),
    ({"image_size": 0}, "image_size: expected at least 1, got 0"),
    ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
    ({"kernel_size": -3}, "kernel_size: expected at least 1, got -3"),
    ({"decoder_kernel": 6}, "decoder_kernel: expected an odd number, got 6"),
    ({"head_kernel": 2}, "head_kernel: expected an odd number, got 2"),
    ({"eps": 0.0}, "eps: expected .*, got 0.0"),
    ({"eps": -1e-3}, "eps: expected .*, got -0.001"),
    ({"eps": float("nan")}, "eps: expected .*, got nan"),
    ({"bn_momentum": 0.0}, "bn_momentum: expected a number between 0 and 1, got 0.0"),
    ({"bn_momentum": 1.5}, "bn_momentum: expected a number between 0 and 1, got 1.5"),
    ({"radius": 0.0}, "radius: expected a finite number above 0, got 0.0"),
    ({"radius": float("inf")}, "radius: expected a finite number above 0, got inf"),
    ({"fusion": {"box_iou": 2.0}}, "fusion: box_iou: expected .*, got 2.0"),
    ({"fusion": {"radius": 9.0}}, "fusion: expected some of long_steps, .*, got 'radius'"),
)
BAD_TYPES = (
    ({"eps": "1e-3"}, "eps: expected None or a float, got '1e-3'"),
    ({"bn_momentum": None}, "bn_momentum: expected a float, got None"),
    ({"num_classes": "66"}, "num_classes: expected an int, got '66'"),
    ({"num_classes": 66.0}, "num_classes: expected an int, got 66.0"),
    ({"num_classes": True}, "num_classes: expected an int, got True"),
    ({"decoder_channels": 8.0}, "decoder_channels: expected an int, got 8.0"),
    ({"kernel_size": "5"}, "kernel_size: expected an int, got '5'"),
    ({"head_kernel": None}, "head_kernel: expected an int, got None"),
    ({"image_size": 1441.0}, "image_size: expected an int, got 1441.0"),
    ({"radius": 25}, "radius: expected a float, got 25"),
    ({"fusion": 0.5}, "fusion: expected parameters by their names, got 0.5"),
    ({"aspp": "no"}, "aspp: expected True or False, got 'no'"),
    ({"separable_heads": 0}, "separable_heads: expected True or False, got 0"),
)


def bad(options: dict[str, Any]) -> models.DeeperLab:
    with torch.device("meta"):
        return models.create("mobilenet_v2", **({"num_classes": 66} | options))


@pytest.mark.parametrize(("options", "message"), BAD_VALUES)
def test_a_value_that_does_not_fit_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        bad(options)


def test_the_number_of_classes_may_be_numpys() -> None:
    model = tiny(num_classes=np.arange(19, dtype=np.int64).max() + 1)
    assert type(model.config["num_classes"]) is int


@pytest.mark.parametrize(("options", "message"), BAD_TYPES)
def test_a_value_of_another_type_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        bad(options)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"^name: expected one of xception71, .*, got 'xception'$"):
        models.create("xception", 66)


@pytest.mark.parametrize("name", ["xception71", "efficientnet_lite0"])
def test_only_mobilenet_has_other_kernels(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^kernel_size: expected 3 of {name}, .*, got 5$"), torch.device("meta"):
        models.create(name, 66, kernel_size=5)


@pytest.mark.parametrize(
    ("backbone", "own"), [("mobilenet_v2", 1e-5), ("xception41", 1e-3), ("efficientnet_lite0", 1e-3)]
)
def test_eps_is_the_backbones_own_unless_given(backbone: str, own: float) -> None:
    def norms(part: str, **options: Any) -> set[float]:
        model = on_meta("xception71", backbone=backbone, **options)
        module = model.backbone if part == "backbone" else model
        others = set(model.backbone.modules()) if part == "rest" else set()
        return {m.eps for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m not in others}

    assert norms("backbone") == norms("backbone", eps=None) == {own}
    assert norms("backbone", eps=2e-4) == {2e-4}
    assert norms("rest", eps=2e-4) == norms("rest") == {1e-5}


def test_the_size_of_images_is_kept_for_the_parser() -> None:
    assert on_meta("mobilenet_v2").image_size == 1441
    assert on_meta("mobilenet_v2", image_size=721).image_size == 721


# --- Compilers and exports


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch
@pytest.mark.parametrize(("backend", "graph"), [("aot_eager", "star"), ("inductor", "star"), ("aot_eager", "none")])
def test_a_compiled_network_gives_the_same(backend: str, graph: str) -> None:
    model, images = lively(tiny(graph=graph)), photos(1, 66, 99)
    with torch.no_grad():
        heads = torch.compile(model, backend=backend, fullgraph=True)(images)
    assert isinstance(heads, Heads)
    assert_same({name: getattr(heads, name) for name in names_of(model.graph)}, outputs(model, images), ROUNDED)


def test_logits_lie_channel_by_channel_and_compile_for_any_number_of_images() -> None:
    torch._dynamo.reset()
    layer, compiled = Logits(8, 5).double(), CompileCounter()
    layer.compile(backend=compiled)
    for n in range(1, 12):
        x = torch.randn(n, 8, 7, 9, dtype=torch.float64).to(memory_format=torch.channels_last)
        y = layer(x)
        assert y.is_contiguous()
        torch.testing.assert_close(y, torch.nn.functional.conv2d(x, layer.weight, layer.bias), rtol=0, atol=1e-12)
    assert compiled.frame_count <= 3
    assert layer(torch.zeros(0, 8, 7, 9, dtype=torch.float64)).shape == (0, 5, 7, 9)


def test_without_keypoints_there_is_the_semantic_head_alone() -> None:
    model, whole = tiny(graph="none"), tiny()
    assert list(model.heads) == ["semantic"]
    assert model.config["graph"] == "none"
    names = {name for name in whole.state_dict() if not name.startswith("heads.") or name.startswith("heads.semantic.")}
    assert model.state_dict().keys() == names
    found = deeperlab.fuse(model(photos(1, 33, 49)), (0, 1))
    assert found.count.tolist() == [0]


def test_what_is_exported_gives_the_heads_in_their_order() -> None:
    model, images = lively(tiny()), photos(2, 66, 99)
    exportable = model.exportable()
    assert not any(module.training for module in exportable.modules())
    with torch.no_grad():
        heads, tensors = model(images), exportable(images)
    assert isinstance(tensors, tuple)
    for name, tensor in zip(NAMES, tensors, strict=True):
        assert torch.equal(tensor, getattr(heads, name)), name


@pytest.mark.parametrize("options", [{}, {"decoder": "bilinear", "output_stride": 8}, {"graph": "none"}], ids=str)
def test_exported_with_any_size(options: dict[str, Any]) -> None:
    height, width = (torch.export.Dim(name, min=33, max=513) for name in ("height", "width"))
    model = lively(tiny(**options))
    program = torch.export.export(
        model.exportable(), (photos(1, 65, 97),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    for size in ((65, 97), *OTHER_SIZES):
        images = photos(1, *size)
        with torch.no_grad():
            got = dict(zip(names_of(model.graph), program(images), strict=True))
        assert_same(got, outputs(model, images), ROUNDED)


WITHOUT_TORCH = """
import sys
import numpy as np
import onnxruntime
import deeperlab

session = onnxruntime.InferenceSession("model.onnx")
for name in sys.argv[1:]:
    images = np.load(f"{name}.npy")
    heads = session.run(None, {"images": images})
    params = deeperlab.FuseParams(peak_threshold=0.001, instance_threshold=0.001)
    panoptic = deeperlab.fuse(deeperlab.Heads(*heads, stride=4), range(5), size=images.shape[2:], params=params)
    np.savez(f"{name}.npz", *heads, ids=panoptic.to_ids(divisor=10_000), score=panoptic.score)
assert "torch" not in sys.modules
"""


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of torch
@pytest.mark.parametrize("options", [{}, {"decoder": "bilinear", "output_stride": 8}], ids=str)
def test_onnx_heads_of_any_size_are_fused_without_torch(options: dict[str, Any], tmp_path: Path) -> None:
    """They are the network's but for rounding, and on the same heads the fusion gives the same bits as with torch.

    Low thresholds let instances be found in heads that nobody trained.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs deeperlab[dev]")
    model = lively(tiny(**options))
    torch.onnx.export(
        model.exportable(), (photos(1, 65, 97),), tmp_path / "model.onnx", input_names=["images"],
        output_names=list(NAMES), dynamic_shapes=({2: "height", 3: "width"},), dynamo=True, verbose=False,
    )  # fmt: skip
    names = {f"{height}x{width}": photos(1, height, width) for height, width in OTHER_SIZES}
    for name, images in names.items():
        np.save(tmp_path / f"{name}.npy", images.numpy())
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *names], check=True, cwd=tmp_path)
    for name, images in names.items():
        found = np.load(tmp_path / f"{name}.npz")
        heads = {head: torch.from_numpy(found[f"arr_{i}"]) for i, head in enumerate(NAMES)}
        assert_same(heads, outputs(model, images), ROUNDED)
        params = deeperlab.FuseParams(peak_threshold=0.001, instance_threshold=0.001)
        panoptic = deeperlab.fuse(Heads(**heads, stride=4), range(5), size=images.shape[2:], params=params)
        ids = panoptic.to_ids(divisor=10_000)
        assert len(ids.unique()) > 20
        np.testing.assert_array_equal(found["ids"], ids.numpy())
        np.testing.assert_array_equal(found["score"], panoptic.score.numpy())
