# SPDX-License-Identifier: Apache-2.0
"""Weights in files: of a backbone from elsewhere, of a whole model, and what is refused."""

from __future__ import annotations

import errno
import inspect
import io
import json
import os
import pickle
import resource
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deeperlab import RECTANGLE, STAR, Graph
from deeperlab.data.files import FormatError
from deeperlab.data.labels import LabelSet
from deeperlab.models import DeeperLab, create, load_backbone, load_weights
from deeperlab.models.backbones.efficientnet_lite import EfficientNetLite0
from deeperlab.models.backbones.mobilenet_v2 import MobileNetV2
from deeperlab.models.weights import WeightsError, read_tensors

pytestmark = pytest.mark.slow

Module = TypeVar("Module", bound=nn.Module)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
FILES = ["README.md", "config.json", "model.safetensors"]
SMALL = {"decoder_channels": 16, "semantic_channels": 16, "instance_channels": 16}
CLASSIFIER = {
    "conv_head.weight": (1280, 320, 1, 1), **{f"bn2.{leaf}": (1280,) for leaf in NORM[:4]},
    "bn2.num_batches_tracked": (), "classifier.weight": (1000, 1280), "classifier.bias": (1000,),
}  # fmt: skip


def small(**options: Any) -> DeeperLab:
    return create("mobilenet_v2", 3, **SMALL | options)


def randomised(module: Module, seed: int = 0) -> Module:
    """Every tensor differs from what a new network has; the statistics are such that no output dies or explodes."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
        else:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
    return module.eval()


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {n: torch.tensor(7) if n.endswith("tracked") else torch.full(shape, 0.5) for n, shape in shapes.items()}


def timm_mobilenet(seed: int = 0) -> dict[str, Tensor]:
    """As a file of timm's mobilenetv2_100: 314 tensors."""
    return randomised(MobileNetV2(), seed).state_dict() | filled(CLASSIFIER)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b)
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def refused(load: Callable[..., None], model: nn.Module, file: Path) -> WeightsError:
    before = copy_of(model)
    with pytest.raises(WeightsError) as caught:
        load(model, file)
    assert_equal(copy_of(model), before)
    assert str(caught.value).startswith(f"{file}: does not fit the model, which stays as it was: ")
    return caught.value


class TorchvisionNet(nn.Module):
    """torchvision's mobilenet_v2, written from its published layer table: another composition and other names."""

    def __init__(self) -> None:
        super().__init__()

        def conv(c: int, out: int, k: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(c, out, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(out), nn.ReLU6()
            )

        table = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        features: list[nn.Module] = [conv(3, 32, 3, 2)]
        channels = 32
        for t, out, n, s in table:
            for i in range(n):
                wide = channels * t
                unit = nn.Module()
                expand = [conv(channels, wide)] if t > 1 else []
                depth = conv(wide, wide, 3, s if i == 0 else 1, wide)
                unit.conv = nn.Sequential(*expand, depth, nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
                unit.residual = i > 0  # type: ignore[assignment]
                features.append(unit)
                channels = out
        self.features = nn.Sequential(*features, conv(320, 1280))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def body(self, x: Tensor) -> Tensor:
        """The 320 channels before the last convolution."""
        units: list[Any] = list(self.features)[:-1]
        for i, unit in enumerate(units):
            y = unit(x) if i == 0 else unit.conv(x)
            x = x + y if i and unit.residual else y
        return x


class EfficientNetPytorchLite0(nn.Module):
    """EfficientNet-Lite0 of efficientnet-pytorch, from the published table, padded as TensorFlow does ("SAME")."""

    TABLE = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
             (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, 1e-3)
        self._blocks, channels = nn.ModuleList(), 32
        for t, out, units, stride, kernel in self.TABLE:
            for i in range(units):
                wide, block = channels * t, nn.Module()
                if t > 1:
                    block._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
                    block._bn0 = nn.BatchNorm2d(wide, 1e-3)
                first = stride if i == 0 else 1
                block._depthwise_conv = nn.Conv2d(wide, wide, kernel, first, groups=wide, bias=False)
                block._bn1 = nn.BatchNorm2d(wide, 1e-3)
                block._project_conv = nn.Conv2d(wide, out, 1, bias=False)
                block._bn2 = nn.BatchNorm2d(out, 1e-3)
                self._blocks.append(block)
                channels = out
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, 1e-3)
        self._fc = nn.Linear(1280, 1000)

    @staticmethod
    def same(x: Tensor, conv: Any) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], conv.kernel_size, conv.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        out: Tensor = conv(nn.functional.pad(x, pads))
        return out

    def body(self, x: Tensor) -> Tensor:
        """The 192 channels of stride 32 that the fifteenth block gives."""
        x = nn.functional.relu6(self._bn0(self.same(x, self._conv_stem)))
        blocks: list[Any] = list(self._blocks)
        for block in blocks[:15]:
            y = nn.functional.relu6(block._bn0(block._expand_conv(x))) if hasattr(block, "_bn0") else x
            y = nn.functional.relu6(block._bn1(self.same(y, block._depthwise_conv)))
            y = block._bn2(block._project_conv(y))
            x = x + y if block._depthwise_conv.stride == (1, 1) and x.shape[1] == y.shape[1] else y
        return x


def assert_same_features(ours: nn.Module, theirs: Any, size: tuple[int, int]) -> None:
    """Of stride 32, in float64."""
    ours, theirs = ours.double(), theirs.double()
    images = torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs.body(images)
        assert expected.std() > 1
        torch.testing.assert_close(ours(images)[32], expected, rtol=0, atol=1e-9)


# ---- backbones


def test_a_file_of_timms_xception71_loads_and_its_878_names_are_all_known(tmp_path: Path) -> None:
    def conv(name: str, norm: str) -> list[str]:
        return [f"{name}.weight", *(f"{norm}.{leaf}" for leaf in NORM)]

    names = [name for i in (0, 1) for name in conv(f"stem.{i}.conv", f"stem.{i}.bn")]
    for i in range(23):
        names += conv(f"blocks.{i}.shortcut.conv", f"blocks.{i}.shortcut.bn") if i in (0, 1, 2, 3, 4, 21) else []
        for c in (f"blocks.{i}.stack.conv{k}" for k in (1, 2, 3)):
            names += conv(f"{c}.conv_dw", f"{c}.bn_dw") + conv(f"{c}.conv_pw", f"{c}.bn_pw")
    model = create("xception71", 3, **SMALL)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.backbone.state_dict().items()}
    assert sorted(names) == sorted(shapes)
    tensors = filled(shapes | {"head.fc.weight": (1000, 2048), "head.fc.bias": (1000,)})
    assert len(tensors) == 878
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(halves, tmp_path / "xception71.safetensors")
    load_backbone(model, tmp_path / "xception71.safetensors")
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
        assert tensor.dtype == tensors[name].dtype
    assert not model.has_trained_weights


def test_a_file_of_timms_mobilenet_loads_into_a_model_and_into_a_backbone(tmp_path: Path) -> None:
    tensors = timm_mobilenet()
    assert len(tensors) == 314
    save_file(tensors, tmp_path / "a.safetensors")
    model, backbone = small(), MobileNetV2()
    heads = copy_of(model.heads)
    for target in (model, backbone):
        load_backbone(target, tmp_path / "a.safetensors")
        loaded = getattr(target, "backbone", target).state_dict()
        assert_equal(loaded, {name: tensors[name] for name in loaded})
    assert_equal(copy_of(model.heads), heads)
    assert not model.has_trained_weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_torchvisions_mobilenet_gives_the_same_function(suffix: str, tmp_path: Path) -> None:
    theirs = randomised(TorchvisionNet())
    tensors = theirs.state_dict()
    assert len(tensors) == 314
    file = tmp_path / f"mobilenet_v2{suffix}"
    if suffix == ".pth":
        torch.save(tensors, file)
    else:
        save_file(tensors, file)
        assert list(load_file(file)) != list(tensors)  # the order is lost there
    ours = MobileNetV2(output_stride=32).eval()
    load_backbone(ours, file)
    assert_same_features(ours, theirs, (33, 65))


def test_a_file_of_efficientnet_pytorch_gives_the_same_function_on_odd_sizes(tmp_path: Path) -> None:
    theirs = randomised(EfficientNetPytorchLite0())
    torch.save(theirs.state_dict(), tmp_path / "lite0.pth")
    ours = EfficientNetLite0(output_stride=32).eval()
    load_backbone(ours, tmp_path / "lite0.pth")
    assert_same_features(ours, theirs, (65, 97))


def test_a_file_of_timms_efficientnet_lite0_loads_and_another_network_does_not(tmp_path: Path) -> None:
    """timm's file has 247 tensors and counts of batches: blocks.6 and a classifier come after the last features."""
    backbone = randomised(EfficientNetLite0())
    last = {
        "conv_pw.weight": (1152, 192, 1, 1),
        "conv_dw.weight": (1152, 1, 3, 3),
        "conv_pwl.weight": (320, 1152, 1, 1),
    }
    last |= {f"bn{i}.{leaf}": (320 if i == 3 else 1152,) for i in (1, 2, 3) for leaf in NORM[:4]}
    tensors = backbone.state_dict() | filled(CLASSIFIER | {f"blocks.6.0.{name}": shape for name, shape in last.items()})
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(NORM[4])}
    assert len(tensors) == 247
    save_file(tensors, tmp_path / "a.safetensors")
    model = create("efficientnet_lite0", 3, **SMALL)
    load_backbone(model, tmp_path / "a.safetensors")
    loaded = model.backbone.state_dict()
    assert not [n for n, tensor in tensors.items() if n in loaded and not torch.equal(loaded[n], tensor)]
    assert not model.has_trained_weights

    save_file(tensors | filled({"blocks.1.0.se.conv_reduce.weight": (4, 96, 1, 1)}), tmp_path / "b0.safetensors")
    assert refused(load_backbone, model, tmp_path / "b0.safetensors").unexpected
    save_file(timm_mobilenet(), tmp_path / "mobilenet.safetensors")
    assert refused(load_backbone, model, tmp_path / "mobilenet.safetensors").misfits


@pytest.mark.parametrize(("kernel", "output_stride"), [(5, 16), (7, 8)])
def test_zeros_around_the_kernels_keep_the_function_exactly(kernel: int, output_stride: int, tmp_path: Path) -> None:
    """In float64, whose kernels sum alike at every width; in float32 oneDNN chooses another order for small images."""
    torch.save(timm_mobilenet(), tmp_path / "a.pth")
    plain = MobileNetV2(3, output_stride).eval()
    wider = MobileNetV2(kernel, output_stride).eval()
    for backbone in (plain, wider):
        load_backbone(backbone, tmp_path / "a.pth")
    narrow, edge = plain.state_dict(), (kernel - 3) // 2
    for name, wide in wider.state_dict().items():
        if wide.ndim == 4 and wide.shape[-1] == kernel:
            assert torch.equal(wide[:, :, edge:-edge, edge:-edge], narrow[name])
            assert wide.count_nonzero() == narrow[name].count_nonzero()
        else:
            assert torch.equal(wide, narrow[name])
    for size in ((33, 33), (20, 35)):
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            a, b = plain.float()(images), wider.float()(images)
            exact, same = plain.double()(images.double()), wider.double()(images.double())
        for stride in (4, output_stride):
            assert exact[stride].std() > 1
            assert float((exact[stride] - same[stride]).abs().max()) == 0
            torch.testing.assert_close(a[stride], b[stride], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"lr": 0.1}},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {"model_state_dict": tensors, "loss": 0.5},
        lambda tensors: {name.replace("blocks.", "blocks._orig_mod."): tensor for name, tensor in tensors.items()},
        lambda tensors: below("module.", tensors, n_averaged=torch.tensor(7)),
        lambda tensors: below("_fsdp_wrapped_module.", tensors),
        lambda tensors: {"state_dict": below("net.", tensors, **{"criterion.weight": torch.ones(3)})},
        lambda tensors: {"state_dict": below("net._orig_mod.", tensors), "global_step": 9},
    ],
    ids=[
        *("state_dict", "model", "both", "module", "compiled"),
        *("tutorial", "compiled part", "average", "sharded", "lightning", "lightning compiled"),
    ],
)
def test_wrappers_of_training_scripts_are_taken_off(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    tensors, backbone = timm_mobilenet(), MobileNetV2()
    torch.save(wrap(tensors), tmp_path / "a.pth")
    load_backbone(backbone, tmp_path / "a.pth")
    assert_equal(copy_of(backbone), {name: tensors[name] for name in backbone.state_dict()})


def below(prefix: str, tensors: dict[str, torch.Tensor], **beside: torch.Tensor) -> dict[str, torch.Tensor]:
    return beside | {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def test_the_average_that_torch_keeps_of_a_network_is_read_as_a_network(tmp_path: Path) -> None:
    model, other = small(), small()
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "a.ckpt")
    load_weights(other, tmp_path / "a.ckpt")
    assert_equal(copy_of(other), copy_of(model))


def test_of_two_networks_in_a_file_none_is_taken(tmp_path: Path) -> None:
    model, file = small(), tmp_path / "a.pth"
    torch.save(below("student.", model.state_dict()) | below("teacher.", model.state_dict()), file)
    with pytest.raises(FormatError, match=r"expected one network, got several, below student\., teacher\.; save that"):
        load_weights(model, file)
    torch.save(model.state_dict() | below("backbone.module.", model.backbone.state_dict()), file)
    with pytest.raises(FormatError, match="two tensors of one name but for"):
        load_weights(model, file)


def test_what_lies_below_a_prefix_must_fit(tmp_path: Path) -> None:
    model = small()
    tensors = below("net.", model.state_dict(), **{"net.more": torch.ones(2), "beside": torch.ones(3)})
    del tensors["net.backbone.bn1.weight"]
    torch.save(tensors, tmp_path / "a.pth")
    fault = refused(load_weights, model, tmp_path / "a.pth")
    assert (fault.missing, fault.unexpected) == (("backbone.bn1.weight [32]",), ("more [2]",))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pointer_in_the_place_of_weights_is_told(suffix: str, tmp_path: Path) -> None:
    file = (tmp_path / "a").with_suffix(suffix)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(FormatError, match=r"a pointer of Git LFS: fetch the file with git lfs pull$"):
        load_weights(small(), file)


def test_what_does_not_fit_a_backbone_is_listed_and_nothing_changes(tmp_path: Path) -> None:
    tensors, file = timm_mobilenet(), tmp_path / "a.safetensors"
    del tensors["blocks.0.0.bn1.weight"]
    tensors["blocks.7.weight"] = torch.ones(2, 3)
    tensors["blocks.0.0.conv_pw.weight"] = torch.ones(16, 31, 1, 1)
    tensors["bn1.bias"] = torch.ones(32, dtype=torch.int32)
    save_file(tensors, file)
    fault = refused(load_backbone, small(kernel_size=5), file)
    assert fault.missing == ("blocks.0.0.bn1.weight [32]",)
    assert fault.unexpected == ("blocks.7.weight [2, 3]",)
    assert fault.misfits == (
        "bn1.bias [32] integers instead of [32]",
        "blocks.0.0.conv_pw.weight [16, 31, 1, 1] instead of [16, 32, 1, 1]",
    )
    for name in (*fault.missing, *fault.unexpected, *fault.misfits):
        assert name in str(fault)


def test_only_the_classifier_of_its_own_kind_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(timm_mobilenet() | {"bn2.evil": torch.ones(1), "classifier.9.weight": torch.ones(2)}, file)
    assert refused(load_backbone, small(), file).unexpected == ("bn2.evil [1]", "classifier.9.weight [2]")
    xception = create("xception71", 3, **SMALL)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in xception.backbone.state_dict().items()}
    save_file(tensors | {"bn2.weight": torch.ones(1)}, file)
    assert refused(load_backbone, xception, file).unexpected == ("bn2.weight [1]",)


def test_old_files_do_not_count_batches(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in timm_mobilenet().items() if not name.endswith("tracked")}
    save_file(tensors, tmp_path / "a.safetensors")
    backbone = randomised(MobileNetV2(), seed=3)
    load_backbone(backbone, tmp_path / "a.safetensors")
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, tensors.get(name, torch.tensor(0))), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    tensors, file = timm_mobilenet(), tmp_path / "a.safetensors"
    tensors["blocks.1.0.conv_dw.weight"][5, 0, 1, 2] = value
    save_file(tensors, file)
    assert refused(load_backbone, small(), file).misfits == ("blocks.1.0.conv_dw.weight with NaN or infinity",)


def test_a_backbone_given_for_a_model_is_recognized(tmp_path: Path) -> None:
    save_file(timm_mobilenet(), tmp_path / "a.safetensors")
    assert str(refused(load_weights, small(), tmp_path / "a.safetensors")).endswith(
        "; it looks like a backbone's: see load_backbone"
    )


def test_kernels_are_not_made_narrower_and_pointwise_ones_not_wider(tmp_path: Path) -> None:
    save_file(randomised(MobileNetV2(5)).state_dict(), tmp_path / "five.safetensors")
    fault = refused(load_backbone, MobileNetV2(3), tmp_path / "five.safetensors")
    assert len(fault.misfits) == 18  # the spatial convolutions
    assert "conv_stem.weight [32, 3, 5, 5] instead of [32, 3, 3, 3]" in fault.misfits
    save_file(randomised(MobileNetV2(1)).state_dict(), tmp_path / "one.safetensors")
    assert len(refused(load_backbone, MobileNetV2(3), tmp_path / "one.safetensors").misfits) == 18
    tensors = timm_mobilenet()
    tensors["conv_stem.weight"] = torch.ones(32, 3, 4, 4)  # even: there is no center
    save_file(tensors, tmp_path / "four.safetensors")
    fault = refused(load_backbone, MobileNetV2(5), tmp_path / "four.safetensors")
    assert fault.misfits == ("conv_stem.weight [32, 3, 4, 4] instead of [32, 3, 5, 5]",)


def test_another_network_is_refused_by_its_own_names(tmp_path: Path) -> None:
    layers = (0, 2, 5)
    torch.save({f"features.{i}.0.weight": torch.ones(64, 3, 3, 3) for i in layers}, tmp_path / "vgg.pth")
    torch.save({"features.0.0.weight": torch.ones(32, 3, 3, 3)}, tmp_path / "short.pth")
    fault = refused(load_backbone, MobileNetV2(), tmp_path / "vgg.pth")
    assert fault.unexpected == tuple(f"features.{i}.0.weight [64, 3, 3, 3]" for i in layers)
    assert len(fault.missing) == 255
    assert "255 missing: conv_stem.weight [32, 3, 3, 3], " in str(fault)
    assert " and 245 more; 3 unexpected" in str(fault)
    assert len(refused(load_backbone, MobileNetV2(), tmp_path / "short.pth").missing) == 255


def test_a_whole_model_is_no_backbone_and_a_backbone_no_whole_model(tmp_path: Path) -> None:
    model = small()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    save_file(model.backbone.state_dict(), tmp_path / "backbone.safetensors")
    assert refused(load_backbone, model, tmp_path / "model.safetensors").unexpected
    assert refused(load_weights, model, tmp_path / "backbone.safetensors").missing
    assert not model.has_trained_weights


# ---- whole models


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_all_weights_of_a_model_load_and_mark_it_as_trained(suffix: str, tmp_path: Path) -> None:
    source, model, file = randomised(small()), small(), tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), file)
    assert not model.has_trained_weights
    load_weights(model, file)
    assert model.has_trained_weights
    assert model.fold_batch_norm().has_trained_weights
    assert_equal(copy_of(model), copy_of(source))
    save_file(timm_mobilenet(1), tmp_path / "backbone.safetensors")
    load_backbone(model, tmp_path / "backbone.safetensors")
    assert not model.has_trained_weights  # its heads are of another backbone


def saved_and_loaded(model: DeeperLab, folder: Path) -> DeeperLab:
    model.save_pretrained(folder)
    return DeeperLab.from_pretrained(folder)


def test_random_weights_stay_random_by_being_saved(tmp_path: Path) -> None:
    model = small()
    assert not saved_and_loaded(model, tmp_path).has_trained_weights
    other = small()
    load_weights(other, tmp_path / "model.safetensors")
    assert not other.has_trained_weights
    (tmp_path / "model.safetensors").rename(tmp_path / "A.SAFETENSORS")
    load_weights(other, tmp_path / "A.SAFETENSORS")
    assert not other.has_trained_weights
    model.train()(torch.randn(2, 3, 33, 33))  # looking is not learning
    assert not saved_and_loaded(model, tmp_path).has_trained_weights


def test_a_model_made_without_memory_is_what_it_is_given(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = small()
    model.to_empty(device="cpu")
    model.load_state_dict(randomised(small()).state_dict())
    assert model.has_trained_weights
    assert saved_and_loaded(model, tmp_path).has_trained_weights


def test_weights_of_8_bits_are_read(tmp_path: Path) -> None:
    source, model = randomised(small()).state_dict(), small()
    bytes_ = {n: t.to(torch.float8_e4m3fn) if t.is_floating_point() else t for n, t in source.items()}
    save_file(bytes_, tmp_path / "a.safetensors")
    load_weights(model, tmp_path / "a.safetensors")
    assert_equal(copy_of(model), {n: t.to(source[n].dtype) for n, t in bytes_.items()})


@pytest.mark.filterwarnings("ignore:model. .* batch norms:UserWarning")  # one step moves no statistics
@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_of_training_makes_weights_trained(frozen: bool, tmp_path: Path) -> None:
    """With frozen norms too."""
    model = saved_and_loaded(small(), tmp_path)
    for module in model.train().modules():
        if frozen and isinstance(module, nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 33, 33)).heatmap.sub(1).square().mean().backward()
    optimizer.step()
    assert model.has_trained_weights
    assert model.eval().fold_batch_norm().has_trained_weights
    assert saved_and_loaded(model, tmp_path).has_trained_weights
    save_file(timm_mobilenet(), tmp_path / "backbone.safetensors")
    load_backbone(model, tmp_path / "backbone.safetensors")  # its heads are of another
    assert not saved_and_loaded(model, tmp_path).has_trained_weights


def test_layers_that_share_their_weights_are_saved_each(tmp_path: Path) -> None:
    model = randomised(small())
    model.heads["long_range"] = model.heads["short_range"]
    assert_equal(copy_of(saved_and_loaded(model, tmp_path)), copy_of(model))


def test_a_whole_model_is_strict(tmp_path: Path) -> None:
    tensors, file = randomised(small()).state_dict(), tmp_path / "a.safetensors"
    save_file(tensors | {"classifier.weight": torch.ones(2)}, file)
    model = small()
    assert refused(load_weights, model, file).unexpected == ("classifier.weight [2]",)
    assert not model.has_trained_weights
    assert len(refused(load_weights, small(kernel_size=5), file).misfits) == 18  # no zeros are put around these
    four_classes = refused(load_weights, create("mobilenet_v2", 4, **SMALL), file)
    assert len(four_classes.misfits) == 2
    save_file(tensors, file)
    four_classes = refused(load_weights, create("mobilenet_v2", 4, **SMALL), file)
    remedy = "give the labels it was trained on, or, to train it on others, load_weights(…, new_classes=True)"
    assert str(four_classes).endswith(f"; it has 3 classes, not 4: {remedy}")


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("head", [{}, {"shallow_heads": True}])
def test_a_model_for_new_classes_takes_all_but_the_layer_of_the_classes(
    head: dict[str, bool], classes: int, tmp_path: Path
) -> None:
    trained, model = (randomised(create("mobilenet_v2", n, **SMALL, **head), n) for n in (3, classes))
    save_file(trained.state_dict(), tmp_path / "a.safetensors")
    before = copy_of(model)
    load_weights(model, tmp_path / "a.safetensors", new_classes=True)
    kept = {name for name in before if before[name].shape == trained.state_dict()[name].shape}
    layer = [f"heads.semantic.{0 if head else 1}.{leaf}" for leaf in ("weight", "bias")]
    assert_equal({n: model.state_dict()[n] for n in layer}, {n: before[n] for n in layer})
    assert_equal(*({n: m.state_dict()[n] for n in sorted(kept - {*layer})} for m in (model, trained)))
    assert kept | {*layer} == before.keys()
    assert not model.has_trained_weights
    with torch.no_grad():
        model.state_dict()[layer[1]].add_(1)
    assert model.has_trained_weights
    refused(lambda *args: load_weights(*args, new_classes=True), small(kernel_size=5), tmp_path / "a.safetensors")


OTHER_GRAPH = Graph(("head", "tail", "center"), ((2, 0), (0, 2), (2, 1), (1, 2)))


def test_a_graph_of_ones_own_is_saved_with_the_model(tmp_path: Path) -> None:
    """Its names need not be known where the model is loaded."""
    model = randomised(small(graph=OTHER_GRAPH))
    edges = [[2, 0], [0, 2], [2, 1], [1, 2]]
    assert model.config["graph"] == {"keypoints": ["head", "tail", "center"], "edges": edges}
    model.save_pretrained(tmp_path)
    again = DeeperLab.from_pretrained(tmp_path)
    assert (again.graph, again.config) == (OTHER_GRAPH, model.config)
    assert_equal(copy_of(again), copy_of(model))
    with torch.no_grad():
        heads = again(torch.zeros(1, 3, 33, 33))
    assert heads.graph == OTHER_GRAPH
    assert [heads.heatmap.shape[1], heads.middle_range.shape[1]] == [3, 8]
    with pytest.raises(FormatError, match="does not fit"):
        DeeperLab.from_pretrained(tmp_path, graph="star")


def test_the_papers_graphs_are_saved_by_name() -> None:
    for name, graph in (("star", STAR), ("rectangle", RECTANGLE)):
        for given in (name, graph, Graph(graph.keypoints, graph.edges), vars(graph)):
            assert small(graph=given).config["graph"] == name


def test_a_folder_gives_the_model_back(tmp_path: Path) -> None:
    model = randomised(small(kernel_size=5, graph="rectangle", output_stride=8)).to(memory_format=torch.channels_last)
    model.save_pretrained(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert json.loads((folder / "config.json").read_text()) == model.config
    (tmp_path / "plain").touch()
    umask = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert [stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()] == [umask] * 3
    for source in (folder, str(folder)):
        again = DeeperLab.from_pretrained(source)
        assert again.has_trained_weights
        assert not again.training
        assert again.config == model.config
        assert again.graph == model.graph
        assert_equal(copy_of(again), copy_of(model))
    assert DeeperLab.from_pretrained(folder, eps=1e-3).config == model.config | {"eps": 1e-3}
    with pytest.raises(FormatError, match="does not fit"):
        DeeperLab.from_pretrained(folder, num_classes=4)
    with pytest.raises(TypeError, match="from_pretrained: expected arguments of DeeperLab, got color"):
        DeeperLab.from_pretrained(folder, color=1)
    images = torch.randn(1, 3, 33, 49, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for a, b in zip(again.raw(images), model.raw(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # channels_last has its own kernels


def test_loading_a_folder_opens_no_connection(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('a connection')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from deeperlab.models import DeeperLab\n"
        f"DeeperLab.from_pretrained({str(tmp_path)!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_fused_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model: expected the network that its config makes, got another; save it"):
        small().fold_batch_norm().save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"^config: expected None, or that of the network"):
        small().save_pretrained(tmp_path / "a", config={"num_classes": 4})
    assert not (tmp_path / "a").exists()


def test_the_config_tells_every_argument_so_that_defaults_may_change() -> None:
    config = small(graph="rectangle").config
    arguments = inspect.signature(DeeperLab).parameters
    assert list(config) == list(arguments)
    assert config == {name: p.default for name, p in arguments.items()} | SMALL | {
        "num_classes": 3, "backbone": "mobilenet_v2", "graph": "rectangle"
    }  # fmt: skip
    assert DeeperLab(3, backbone="mobilenet_v2", graph="rectangle", **SMALL).config == config  # type: ignore[arg-type]


@pytest.mark.parametrize("fails", ["model.safetensors", "config.json"])
def test_a_disk_that_fills_up_leaves_the_old_model(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    old = randomised(small())
    old.save_pretrained(tmp_path)

    if fails == "model.safetensors":
        request.addfinalizer(
            partial(resource.setrlimit, resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE))
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, resource.RLIM_INFINITY))
    else:
        replace = Path.replace

        def no_rename(self: Path, target: Path) -> Path:
            if target.name == "config.json":
                raise OSError(errno.ENOSPC, "No space left on device")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", no_rename)
    with pytest.raises(OSError, match=r"No space left|File too large"):
        small(output_stride=8).save_pretrained(tmp_path)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    again = DeeperLab.from_pretrained(tmp_path)
    assert again.config == old.config
    assert_equal(copy_of(again), copy_of(old))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"color": 1}, r"config\.json: .*'color'"),
        ({"_name_or_path": "x"}, r"config\.json: .*'_name_or_path'"),
        ({"self": 1}, r"config\.json: .*'self'"),
        ({"backbone": "resnet"}, r"config\.json: backbone: expected xception71 or .* got 'resnet'"),
        ({"num_classes": None}, r"config\.json: num_classes: expected an integer, got null"),
        ({"num_classes": True}, r"config\.json: num_classes: expected an integer, got a bool"),
        ({"num_classes": 0}, r"config\.json: num_classes: expected at least 1, got 0"),
        ({"num_classes": 10**12}, r"model\.safetensors: does not fit"),
        ({"num_classes": 10**30}, r"config\.json: "),
        ({"decoder_channels": "many"}, r"config\.json: "),
        ({"decoder_channels": -1}, r"config\.json: "),
        ({"graph": ["star"]}, r"config\.json: graph: expected star, rectangle, none, a Graph, or .* got \['star'\]"),
        ({"graph": {"keypoints": ["a"]}}, r"config\.json: graph: expected star, rectangle, none, a Graph, or .* got {"),
        ({"graph": {"keypoints": ["a", "b"], "edges": [[0, 1]]}}, r"config\.json: graph: edges: \['a'\] cannot be"),
        ({"graph": {"keypoints": ["a"], "edges": [0]}}, r"config\.json: graph: edges: expected pairs"),
    ],
    ids=str,
)
def test_a_config_of_something_else_is_refused_by_name(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=match):
        DeeperLab.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"backbone": "mobilenet_v2"}', "[" * 10**5])
def test_a_config_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"config\.json: "):
        DeeperLab.from_pretrained(tmp_path)


def test_a_class_of_ones_own_is_made_again(tmp_path: Path) -> None:
    class Mine(DeeperLab):
        pass

    class Sub(DeeperLab):
        def __init__(self, num_classes: int, *, extra: int = 3, **options: Any) -> None:
            super().__init__(num_classes, **options)
            self.extra = extra

    with pytest.raises(ValueError, match="config: expected all arguments of Sub, got none for extra"):
        Sub(3, backbone="mobilenet_v2", extra=4, **SMALL).save_pretrained(tmp_path)
    model = Mine(3, backbone="mobilenet_v2", **SMALL)  # type: ignore[arg-type]
    model.save_pretrained(tmp_path)
    again = Mine.from_pretrained(tmp_path)
    assert type(again) is Mine
    assert_equal(copy_of(again), copy_of(model))


# ---- the hub


def cached(cache: Path, model: DeeperLab, *, omit: str = "") -> None:
    """A model in the hub's cache, as a download leaves it: files are links to blobs."""
    repo, commit = cache / "models--someone--parser", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repo / "snapshots" / commit
    for folder in (snapshot, repo / "refs", repo / "blobs"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    model.save_pretrained(repo / "blobs")
    for name in {"config.json", "model.safetensors"} - {omit}:
        (repo / "blobs" / name).rename(repo / "blobs" / f"{name}-blob")
        (snapshot / name).symlink_to(Path("../../blobs") / f"{name}-blob")


def test_a_model_of_the_hub_comes_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = randomised(small())
    cached(tmp_path / "cache", model)
    for revision in (None, "main", "0123456789abcdef0123456789abcdef01234567"):
        again = DeeperLab.from_pretrained(
            "someone/parser", revision=revision, cache_dir=tmp_path / "cache", local_files_only=True
        )
        assert_equal(copy_of(again), copy_of(model))
    with pytest.raises(FileNotFoundError, match="no such folder, and not to be had from the Hugging Face hub"):
        DeeperLab.from_pretrained("someone/else", cache_dir=tmp_path / "cache", local_files_only=True)


def test_a_model_is_pushed_as_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pushed = randomised(small()), tmp_path / "pushed"

    def create_repo(self: Any, repo_id: str, **_: Any) -> Any:
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self: Any, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        assert (repo_id, options["commit_message"]) == ("someone/parser", "Better")
        shutil.copytree(folder_path, pushed)
        return "the URL"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    assert isinstance(model, ModelHubMixin)
    url = model.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="someone/parser", commit_message="Better")
    assert url == "the URL"
    for folder in (tmp_path / "a", pushed):
        assert sorted(p.name for p in folder.iterdir()) == FILES
        assert_equal(copy_of(DeeperLab.from_pretrained(folder)), copy_of(model))
    card = ModelCard.load(pushed / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("deeperlab", "image-segmentation")
    assert "from deeperlab.models import from_pretrained" in card.text


def test_a_card_that_somebody_has_written_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Trained on cats.")
    small().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "Trained on cats."


def test_without_the_hub_networks_work_and_say_how_to_save_them(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path / "model")
    code = (
        "import sys, torch\n"
        "sys.modules['huggingface_hub'] = None\n"
        "from deeperlab.models import DeeperLab\n"
        f"model = DeeperLab.from_pretrained({str(tmp_path / 'model')!r})\n"
        "model(torch.zeros(1, 3, 33, 33))\n"
        "for save in (model.save_pretrained, model.push_to_hub):\n"
        "    try:\n"
        f"        save({str(tmp_path / 'other')!r})\n"
        "    except ImportError as fault:\n"
        "        print(fault)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["models are saved by huggingface_hub: pip install 'deeperlab[hub]'"] * 2
    assert not (tmp_path / "other").exists()


def test_only_the_two_files_are_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    small().save_pretrained(tmp_path)

    def fake(*args: Any, **options: Any) -> str:
        asked.append((*args, options))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    DeeperLab.from_pretrained("someone/parser", revision="v1")
    [(name, options)] = asked
    assert (name, options["revision"]) == ("someone/parser", "v1")
    assert sorted(options["allow_patterns"]) == ["config.json", "labels.json", "model.onnx", "model.safetensors"]


def test_half_the_bytes_are_enough(tmp_path: Path) -> None:
    model = randomised(small())
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.51 * whole
    loaded = DeeperLab.from_pretrained(tmp_path / "half").state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-4)

    with pytest.raises(ValueError, match=r"^dtype: expected a type of floats, got torch\.int8$"):
        model.save_pretrained(tmp_path / "int", dtype=torch.int8)
    model.backbone.bn1.running_var.fill_(1e6)
    with pytest.raises(ValueError, match=r"^dtype: expected one that can hold backbone\.bn1\.running_var, got"):
        model.save_pretrained(tmp_path / "int", dtype=torch.float16)
    assert not (tmp_path / "int").exists()


def test_a_network_keeps_its_labels_beside_it(tmp_path: Path) -> None:
    farm = LabelSet("farm", ("cow", "sky", "meadow"), (True, False, False), ((9, 9, 9),) * 3, (1, 2, 3))
    model = small()
    model.save_pretrained(tmp_path / "without")
    assert DeeperLab.from_pretrained(tmp_path / "without").labels is None

    model.labels = farm
    model.save_pretrained(tmp_path / "with")
    assert sorted(path.name for path in (tmp_path / "with").iterdir()) == sorted([*FILES, "labels.json"])
    loaded = DeeperLab.from_pretrained(tmp_path / "with")
    assert loaded.labels == farm
    assert loaded.fold_batch_norm().labels == farm

    classes = [{"name": name, "thing": True} for name in ("cow", "dog")]
    (tmp_path / "with" / "labels.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(FormatError, match=r"labels\.json: expected 3 classes as config\.json says, got 2$"):
        DeeperLab.from_pretrained(tmp_path / "with")


@pytest.mark.parametrize("source", [Path("someone/parser"), "parser", "/a/b", "./a/b", "a/b/c", "../b", "a/..", "ä/b"])
def test_what_is_no_id_of_the_hub_is_never_sent_there(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(FileNotFoundError, match=r"expected a folder, a network of the package \(photo16\), or OWNER"):
        DeeperLab.from_pretrained(source)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"someone/parser: no such folder; .*pip install 'deeperlab\[hub\]'"):
        DeeperLab.from_pretrained("someone/parser")
    DeeperLab.from_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    file = tmp_path / "model.safetensors"
    for call in (
        lambda: DeeperLab.from_pretrained(tmp_path),
        lambda: model.save_pretrained(tmp_path),
        lambda: load_weights(model, file),
        lambda: load_backbone(model, file),
    ):
        with pytest.raises(ImportError, match=r"weights need safetensors: pip install 'deeperlab\[hub\]'"):
            call()
    load_weights(model, tmp_path / "a.pth")  # needs none


# ---- pickles and damage


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "a.pkl", "a.safetensors", "a"])
@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_no_pickle_is_executed(name: str, form: str, tmp_path: Path) -> None:
    file, harmed, model = tmp_path / name, tmp_path / "harmed", small()
    values = {"conv_stem.weight": torch.ones(32, 3, 3, 3), "harm": Harm(harmed)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(values))
    else:
        torch.save(values, file, _use_new_zipfile_serialization=form == "torch")
    if form != "pickle":  # it does harm where it is trusted
        torch.load(io.BytesIO(file.read_bytes()), weights_only=False)
        harmed.rmdir()
    before = copy_of(model)
    for load in (load_backbone, load_weights):
        with pytest.raises(FormatError) as caught:
            load(model, file)
        assert str(file) in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's advice is to trust the file
    assert not harmed.exists()
    assert_equal(copy_of(model), before)


@pytest.mark.parametrize("name", ["a.bin", "a.pkl", "a"])
def test_a_file_of_another_kind_is_refused_whatever_it_holds(name: str, tmp_path: Path) -> None:
    model = small()
    torch.save(model.state_dict(), tmp_path / name)
    with pytest.raises(FormatError, match=r"expected a file \.safetensors, \.pth, \.pt, \.ckpt, got .* never loaded"):
        load_weights(model, tmp_path / name)
    assert not model.has_trained_weights


def test_a_pickle_in_the_folder_of_a_model_is_not_loaded(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no such file .* pytorch_model\.bin: pickles, which are not loaded"):
        DeeperLab.from_pretrained(tmp_path)
    torch.save({"a": Harm(tmp_path / "harmed")}, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"model\.safetensors: damaged, or not safetensors"):
        DeeperLab.from_pretrained(tmp_path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"atrous_rate": 3, "a": 1},
            "expected arguments of DeeperLab, got 'a', 'atrous_rate'; of another class .* or a newer deeperlab",
        ),
        ({"num_classes": None, "model_type": "mask2former"}, r"a model of transformers \(mask2former\), not one that"),
    ],
)
def test_a_config_of_another_network_is_told(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = {name: value for name, value in (json.loads(path.read_text()) | change).items() if value is not None}
    path.write_text(json.dumps(config))
    with pytest.raises(FormatError, match=rf"config\.json: {words}"):
        DeeperLab.from_pretrained(tmp_path)


def test_a_file_of_torch_save_under_another_name_is_told(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match=r"x\.safetensors: damaged, .*; it is a file of torch\.save: call it \.pth"):
        load_weights(small(), tmp_path / "x.safetensors")


def test_a_whole_network_in_the_place_of_a_backbone_is_told(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        WeightsError, match=r"x\.pth: does not fit .*; it looks like a whole network's: see load_weights"
    ):
        load_backbone(small(), tmp_path / "x.pth")


def test_weights_that_were_cut_short_are_told(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(
            FormatError, match=r"damaged, or not safetensors: .*; if it was cut short, copy or download"
        ):
            DeeperLab.from_pretrained(tmp_path)


def test_what_a_refused_pickle_asks_for_is_named(tmp_path: Path) -> None:
    torch.save({"a": Harm(tmp_path / "harmed")}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"a\.pth: a pickle that asks for \w+\.mkdir; refused"):
        read_tensors(tmp_path / "a.pth")


def test_a_program_of_torchscript_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:  # as torch.jit.save has it
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            archive.writestr(f"a/{name}", b"")
    with pytest.raises(FormatError, match=r"a\.pt: a program of TorchScript; refused: save model\.state_dict\(\)"):
        read_tensors(tmp_path / "a.pt")


def cyclic() -> dict[str, Any]:
    values: dict[str, Any] = {}
    values["model"] = values
    return values


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "expected named tensors, got none"),
        ([torch.ones(1)], "expected named tensors, got list"),
        (torch.ones(1), "expected named tensors, got Tensor"),
        (
            {"a": torch.ones(1), "epoch": 3},
            "epoch: expected a tensor, got int",
        ),
        ({3: torch.ones(1)}, "3: expected a tensor"),
        ({"a": torch.ones(1).to_sparse()}, "a: expected a dense tensor, got torch.sparse_coo on cpu"),
        ({"a": torch.ones(1, device="meta")}, "a: expected a dense tensor, got torch.strided on meta"),
        (cyclic(), "model: expected a tensor, got dict"),
        ({"ema": {}}, "ema: expected a tensor, got dict; weights stand at the top, or under state_dict, "),
    ],
    ids=["empty", "list", "tensor", "epoch", "number", "sparse", "meta", "cyclic", "under another key"],
)
def test_a_checkpoint_of_other_things_is_refused(values: Any, match: str, tmp_path: Path) -> None:
    torch.save(values, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=match):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("form", [".safetensors", ".pth", "legacy.pth"])
def test_no_damage_of_bytes_raises_anything_else(form: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{form}"
    tensors = {"conv.weight": torch.ones(4, 3), "bn.bias": torch.ones(5), "count": torch.tensor(3)}
    if form == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file, _use_new_zipfile_serialization=form == ".pth")
    whole, generator, faults = file.read_bytes(), torch.Generator().manual_seed(0), 0
    for i in range(400):
        damaged = bytearray(whole)
        for _ in range(int(torch.randint(1, 4, (), generator=generator))):
            where = int(torch.randint(len(damaged), (), generator=generator))
            damaged[where] = int(torch.randint(256, (), generator=generator))
        file.write_bytes(
            damaged[: int(torch.randint(len(damaged), (), generator=generator))] if i % 4 == 0 else damaged
        )
        try:
            read_tensors(file)
        except FormatError:
            faults += 1
    assert faults > 100


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError):
        read_tensors(tmp_path / "folder.pth")
