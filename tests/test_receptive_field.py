# SPDX-License-Identifier: Apache-2.0
"""How far networks see: the figures of arithmetic, and what pixels really change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor, nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from deeperlab.models import ReceptiveField, coarsest_stride, create, receptive_field  # noqa: E402
from deeperlab.models.backbones.mobilenet_v2 import MobileNetV2  # noqa: E402
from deeperlab.models.backbones.xception import Xception  # noqa: E402
from deeperlab.models.contexts import ASPP  # noqa: E402
from deeperlab.models.decoders import Bilinear, SpaceToDepth  # noqa: E402


@pytest.mark.parametrize(("kernel", "output_stride"), [(3, 16), (5, 16), (3, 8)])
def test_mobilenet_sees_what_the_sum_over_its_convolutions_says(kernel: int, output_stride: int) -> None:
    found = receptive_field(MobileNetV2(kernel, output_stride))
    assert found.size == 1 + 245 * (kernel - 1)  # 1 + Σ (k − 1) · rate · jump, of 18 convolutions
    assert found.before == found.after == (found.size - 1) // 2
    assert not found.is_global


@pytest.mark.slow
def test_xception_sees_what_the_sum_over_its_convolutions_says() -> None:
    assert receptive_field(Xception(41)).size == 1147


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def conv(kernel: int, stride: int = 1, rate: int = 1, channels: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, 3, kernel, stride, rate * (kernel // 2), rate)


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (chain(conv(1)), 1),
        (chain(conv(7), nn.ReLU(inplace=True), conv(3)), 9),
        (chain(conv(3, 2), nn.BatchNorm2d(3), nn.ReLU6(), conv(3, 2), conv(3, 1, 6)), 1 + 2 + 4 + 2 * 6 * 4),
        (chain(nn.MaxPool2d(3, 2, 1), conv(3)), 1 + 2 + 4),
        (chain(conv(3), nn.AvgPool2d(3, 1, 1)), 5),
        (chain(conv(3), nn.Hardswish(), nn.Dropout(0.5), conv(5)), 7),
    ],
)
def test_paths_add_up(network: nn.Module, size: int) -> None:
    assert receptive_field(network).size == size


class Branches(nn.Module):
    """A residual unit of two lengths, and outputs of two strides in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.long, self.short, self.coarse = conv(9), conv(3), conv(3, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.long(x) - self.short(x)
        return {"fine": y, "coarse": self.coarse(y)}


def test_the_longest_path_to_the_coarsest_output_counts() -> None:
    assert receptive_field(Branches(), multiple=4).size == 1 + 8 + 2


class Unpooled(nn.Module):
    """What a maximum comes from is unpooled to where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 1, 0, 1))
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(self.conv(y), indices, 2, output_size=x.shape[2:])[:, :, :-1, :-1]


def test_unpooling_sees_all_that_was_pooled() -> None:
    assert receptive_field(Unpooled()).size == 6  # three windows of two


class Squeezed(nn.Module):
    """A gate that the whole image opens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = conv(5), conv(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (chain(conv(3), nn.GroupNorm(1, 3), conv(3)), 5),
        (Squeezed(), 5),
        (chain(conv(3, 16), ASPP(3, 16, 4)), 1 + 2 + 2 * 18 * 16),
    ],
)
def test_what_pools_all_of_its_input_is_told_and_not_counted(network: nn.Module, size: int) -> None:
    found = receptive_field(network)
    assert found.is_global
    assert found.size == size


class Small(nn.Module):
    """Strides, rates and a decoder as those of the networks, but few layers: what is far still counts in a double."""

    stride = 4

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.low, self.top, self.decoder = conv(3, 4), conv(3, 4, channels=3), decoder

    def raw(self, x: Tensor) -> tuple[Tensor, ...]:
        low = self.low(x)
        return (self.decoder(self.top(low), low),)

    forward = raw


def deep(decoder: str) -> nn.Module:
    sizes = {"decoder_channels": 4, "decoder_kernel": 3, "head_kernel": 3, "shallow_heads": True}
    return create("mobilenet_v2", 2, aspp=False, decoder=decoder, **sizes)


@pytest.mark.parametrize(
    ("network", "is_deep"),
    [
        pytest.param(deep("space_to_depth"), True, marks=pytest.mark.slow),
        pytest.param(deep("bilinear"), True, marks=pytest.mark.slow),
        (Small(SpaceToDepth(3, 3, 4, 3, 4)), False),
        (Small(Bilinear(3, 3, 4, 3, 4)), False),
    ],
)
def test_no_node_sees_beyond_the_halo_and_one_sees_as_far_as_is_told(network: Any, is_deep: bool) -> None:
    torch.manual_seed(0)
    for parameter in () if is_deep else network.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0)
    dtype = torch.float if is_deep else torch.double
    network.to(dtype).eval()
    found = receptive_field(network, multiple=16)
    middle, length = 512, 1025
    image = torch.rand(1, 3, length, 17, dtype=dtype)
    with torch.no_grad():
        clean = network.raw(image)

        def nodes_that_change(rows: slice) -> tuple[int, int]:
            """The first and the last, in px."""
            other = image.clone()
            other[:, :, rows] = torch.rand_like(other[:, :, rows])
            changed = [(a != b).any(3).any(1)[0] for a, b in zip(clean, network.raw(other), strict=True)]
            index = torch.stack(changed).any(0).nonzero().flatten() * network.stride
            return int(index[0]), int(index[-1])

        # Of pixels further than `before` before the middle, nothing from there on depends; of nearer ones, something.
        assert nodes_that_change(slice(middle - found.before))[1] < middle
        assert nodes_that_change(slice(middle + found.after + 1, None))[0] > middle
        if not is_deep:
            assert nodes_that_change(slice(middle - found.before + 1))[1] >= middle
            assert nodes_that_change(slice(middle + found.after, None))[0] <= middle


class UpAndDown(nn.Module):
    """By convolutions alone, one of which goes up again; a map of unknown stride beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm, self.up = conv(5, 8), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 4, 4, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.norm(self.down(x)).relu())
        return y * F.adaptive_avg_pool2d(y, 3).mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("network", "stride"),
    [
        (lambda: UpAndDown(), 8),
        (lambda: chain(conv(3), nn.MaxPool2d(3, 2, 1), conv(3, 1, 4)), 2),
        (lambda: chain(nn.ReLU(), conv(3)), 1),
        (lambda: create("fcn8s", 2, units=8), 32),
        (lambda: create("unet", 2), 16),
        (lambda: create("pspnet_resnet50", 2), 8),
        (lambda: create("dilated_context_basic", 2, units=8), 8),
        (lambda: create("efficientnet_lite0", 2), 16),
    ],
)
def test_the_coarsest_stride_is_told_and_no_convolution_computed(network: Callable[[], nn.Module], stride: int) -> None:
    model = network()
    with FlopCounterMode(display=False) as counter:
        assert coarsest_stride(model) == stride
    counts = counter.get_flop_counts()["Global"]
    assert counts[torch.ops.aten.convolution] == 0


def test_the_network_that_is_asked_stays_as_it_is() -> None:
    network = create("mobilenet_v2", 2, aspp=False, decoder_channels=4).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        receptive_field(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_halo_is_a_multiple_that_holds_both_sides() -> None:
    assert ReceptiveField(20, 17, 3, is_global=False, multiple=16).halo == 32
    assert ReceptiveField(1, 0, 0, is_global=False, multiple=16).halo == 0


class Cumulative(nn.Module):
    """Every row sees all rows before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(2)


@pytest.mark.parametrize(
    ("network", "fault"),
    [
        ("mobilenet_v2", "expected a torch.nn.Module, got str"),
        (Cumulative(), "expected outputs that see at most"),
        (chain(nn.Conv2d(3, 3, 3)), "expected nodes at multiples of a stride, got 1023 rows of an input of 1025 px"),
        (chain(conv(3), nn.Flatten()), r"expected an output \[N, C, h, w\], got none"),
    ],
)
def test_what_cannot_be_measured_is_refused(network: object, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^model: {fault}"):
        receptive_field(network)  # type: ignore[arg-type]
