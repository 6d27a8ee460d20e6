# SPDX-License-Identifier: Apache-2.0
"""The networks: counts, multiply-adds and receptive fields of the paper, shapes at any size, folding, exports."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deeperlab
from deeperlab import Heads, models
from deeperlab.models import layers

HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
FIGURES = {  # parameters; multiply-adds in 10^9 at 1441² and 721²; receptive field of the backbone
    "xception71": (63_722_163, 681.1, 173.4, 1987),
    "wider_mobilenet_v2": (23_087_403, 222.7, 56.8, 981),
    "light_wider_mobilenet_v2": (8_557_483, 84.5, 21.5, 981),
    "mobilenet_v2": (22_971_691, 220.0, 56.1, 491),
    "mobilenet_v2_7x7": (23_260_971, 226.7, 57.8, 1471),
}
ABLATIONS: tuple[dict[str, Any], ...] = (
    {"output_stride": 8},
    {"aspp": False},
    {"decoder": "bilinear"},
    {"decoder_kernel": 3, "head_kernel": 3},
    {"shallow_heads": True},
    {"separable_heads": False, "separable_aspp": False},
    {"graph": "rectangle"},
)


def on_meta(name: str, **options: Any) -> models.DeeperLab:
    with torch.device("meta"):
        return models.create(name, 66, **options).eval()


def tiny(**options: Any) -> models.DeeperLab:
    """The light network, lighter still."""
    torch.manual_seed(0)
    small = {"decoder_channels": 8, "semantic_channels": 8, "instance_channels": 8}
    return models.create("light_wider_mobilenet_v2", 5, **small | options).eval()


def multiply_adds(model: models.DeeperLab, size: int) -> float:
    total = 0

    def count(conv: Any, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += out.numel() * conv.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total / 1e9


def receptive_field(backbone: nn.Module) -> int:
    field, jump = 1, 1
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and "shortcut" not in name:
            field += (module.kernel_size[0] - 1) * module.dilation[0] * jump
            jump *= module.stride[0]
    return field


def test_models_are_listed() -> None:
    assert models.list_models() == list(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_parameters_work_and_receptive_field(name: str) -> None:
    parameters, large, small, field = FIGURES[name]
    model = on_meta(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert multiply_adds(model, 1441) == pytest.approx(large, abs=0.05)
    assert multiply_adds(model, 721) == pytest.approx(small, abs=0.05)
    assert receptive_field(model.backbone) == field


@pytest.mark.parametrize(("option", "parameters", "work"), [("separable_aspp", 76_237_491, 784.8),
                                                            ("separable_heads", 69_948_339, 1492.8)])  # fmt: skip
def test_dense_ablations(option: str, parameters: int, work: float) -> None:
    model = on_meta("xception71", **{option: False})
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert multiply_adds(model, 1441) == pytest.approx(work, abs=0.05)


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("name", ["xception71", "wider_mobilenet_v2"])
def test_receptive_field_is_the_same_at_both_output_strides(name: str, stride: int) -> None:
    assert receptive_field(on_meta(name, output_stride=stride).backbone) == FIGURES[name][3]


@pytest.mark.parametrize("depth", [41, 65])
def test_shallower_xceptions(depth: int) -> None:
    backbone = on_meta("xception71", backbone=f"xception{depth}").backbone
    assert receptive_field(backbone) == {41: 1147, 65: 1915}[depth]


def test_strides_are_given_up_for_rates() -> None:
    assert layers.atrous([2, 2, 2, 2, 2, 1], 16) == [(2, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 2)]
    assert layers.atrous([2, 2, 2, 2, 2, 1], 8) == [(2, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 4)]
    with pytest.raises(ValueError, match="output_stride: expected at most 4, got 8"):
        layers.atrous([2, 2], 8)


@pytest.mark.parametrize("size", [(65, 65), (64, 96), (1, 1), (33, 130), (47, 3)])
def test_any_size_goes_straight_into_fuse(size: tuple[int, int]) -> None:
    with torch.no_grad():
        heads = tiny()(torch.randn(2, 3, *size))
    h, w = (-(-side // 4) for side in size)
    assert isinstance(heads, Heads)
    assert heads.stride == 4
    assert [getattr(heads, name).shape for name in HEADS] == [(2, c, h, w) for c in (5, 5, 10, 16, 10)]
    panoptic = deeperlab.fuse(heads, (0, 1), size=size)
    assert panoptic.semantic.shape == (2, *size)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_ablations_run(options: dict[str, Any]) -> None:
    model = tiny(**options)
    with torch.no_grad():
        heads = model(torch.randn(1, 3, 49, 65))
    assert heads.semantic.shape == (1, 5, 13, 17)
    assert heads.heatmap.shape[1] == len(model.graph.keypoints)
    assert heads.middle_range.shape[1] == 2 * len(model.graph.edges)


def test_xception_runs() -> None:
    model = models.create("xception71", 3, decoder_channels=4, decoder_kernel=3).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 33, 33)).semantic.shape == (1, 3, 9, 9)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("xception", {}, "name: expected one of xception71, .*, got 'xception'"),
    ("xception71", {"kernel_size": 5}, "kernel_size: expected 3"),
    ("xception71", {"output_stride": 32}, "output_stride: expected 16 or 8, got 32"),
    ("xception71", {"decoder": "none"}, "decoder: expected space_to_depth or bilinear, got 'none'"),
    ("xception71", {"graph": "tree"}, "graph: expected star or rectangle, got 'tree'"),
    ("xception71", {"wide": True}, "options: got an unexpected keyword argument 'wide'"),
    ("xception71", {"backbone": "resnet"}, "backbone: expected xception71 or .*, got 'resnet'"),
    ("mobilenet_v2", {"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
])  # fmt: skip
def test_what_does_not_fit_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        models.create(name, 66, **options)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes: expected at least 1, got 0"):
        models.create("xception71", 0)


def shaken(model: models.DeeperLab) -> models.DeeperLab:
    """Norms that have seen something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.mark.parametrize("options", [{}, {"separable_heads": False}], ids=str)
def test_folded_norms_give_the_same(options: dict[str, Any]) -> None:
    model = shaken(tiny(**options))
    folded = model.fuse_bn()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        for a, b in zip(model.raw(images), folded.raw(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


def test_folded_xception_gives_the_same() -> None:
    torch.manual_seed(0)
    backbone = shaken(models.create("xception71", 3, backbone="xception41", decoder_channels=2).eval())
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        for a, b in zip(backbone.raw(images), backbone.fuse_bn().raw(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))


def test_wider_kernels_can_hold_narrower_ones() -> None:
    """3 × 3 kernels with zeros around them are 5 × 5 kernels of the same function, to the last bit."""
    narrow = tiny(kernel_size=3).backbone
    wide = tiny(kernel_size=5).backbone
    state = {
        name: nn.functional.pad(value, (1, 1, 1, 1)) if value.shape[-2:] == (3, 3) else value
        for name, value in narrow.state_dict().items()
    }
    wide.load_state_dict(state)
    images = torch.randn(1, 3, 65, 81)
    with torch.no_grad():
        for stride, features in narrow(images).items():
            torch.testing.assert_close(wide(images)[stride], features, rtol=0, atol=1e-6)


def test_gradients_reach_every_parameter() -> None:
    model = tiny().train()
    heads = model(torch.randn(1, 3, 65, 65))  # one image: its pooled features have no variance
    sum(getattr(heads, name).square().mean() for name in HEADS).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    heads = model(torch.randn(2, 3, 65, 65))
    sum(getattr(heads, name).square().mean() for name in HEADS).backward()
    idle = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert idle == []


def test_normalised() -> None:
    model = tiny()
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    want = (1 - torch.tensor(model.mean)) / torch.tensor(model.std)
    torch.testing.assert_close(model.normalised(image)[0, :, 0, 0], want)


def test_copies_are_deep() -> None:
    model = tiny()
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert not torch.equal(next(model.parameters()), next(other.parameters()))


class Raw(nn.Module):
    def __init__(self, model: models.DeeperLab) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model.raw(images)


@pytest.mark.slow
def test_exported_with_any_size() -> None:
    dim = {2: torch.export.Dim("height", min=33, max=513), 3: torch.export.Dim("width", min=33, max=513)}
    model = tiny()
    program = torch.export.export(Raw(model).eval(), (torch.randn(1, 3, 65, 97),), dynamic_shapes=(dim,))
    images = torch.randn(1, 3, 81, 113)
    with torch.no_grad():
        for a, b in zip(program.module()(images), model.raw(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_whole() -> None:
    model = tiny()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images).semantic, model(images).semantic)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of torch
def test_onnx_heads_are_fused_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, images = tiny(), torch.randn(1, 3, 65, 97)
    options = {"input_names": ["images"], "output_names": list(HEADS), "dynamo": True, "verbose": False}
    torch.onnx.export(Raw(model).eval(), (images,), tmp_path / "model.onnx", **options)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    arrays = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        want = model(images)
    for name, array in zip(HEADS, arrays, strict=True):
        np.testing.assert_allclose(array, getattr(want, name).numpy(), rtol=1e-3, atol=1e-4)
    fused = deeperlab.fuse(Heads(*arrays, stride=4), (0, 1), size=(65, 97))
    assert fused.semantic.shape == (1, 65, 97)
