# SPDX-License-Identifier: Apache-2.0
"""How far a network sees, measured on the network itself: from that follows the halo that tiles need."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..heads import NAMES, Heads

LEAST, MOST = 1 << 10, 1 << 15
"""Px of the strips: from the first on they are doubled until the middle sees no end, or they reach the second."""
BRIGHTNESS = 2.0**-10
"""Of every pixel: no activation that is cut at 6 cuts it, however many units add to one another."""

_CONVOLUTIONS = ("conv2d", "conv_transpose2d")
_PRODUCTS = (*_CONVOLUTIONS, "addmm", "baddbmm", "linear", "matmul", "bmm")
_POOLS_OF_ALL = ("adaptive_avg_pool2d", "adaptive_max_pool2d")
_NORMS_OF_ALL = ("group_norm", "instance_norm")
_CUTS = ("__getitem__", "narrow", "select", "index_select")
"""Functions of torch by their names: those that follow gradients of 0 or 1, and those that see all pixels, or may."""


@dataclass(frozen=True)
class ReceptiveField:
    """What the output nodes of a network see of its input, along one axis.

    Node i of an output of stride s lies at pixel s·i.

    Attributes:
        size: px from the first to the last that the node in the middle sees: 1 + Σ (k − 1) · rate · jump, along the
            longest of the network's paths.
        before: px before a multiple of `multiple` that any node from there on sees, at most.
        after: px after a multiple of `multiple` that any node up to there sees, at most.
        is_global: whether a part of the network pools all that it is given, as the image pooling of ASPP does; what
            comes by that way is not counted in the other three.
        multiple: px, see `receptive_field`.
    """

    size: int
    before: int
    after: int
    is_global: bool
    multiple: int

    @property
    def halo(self) -> int:
        """Px, a multiple of `multiple`, around a window beyond which no node in it sees, but for `is_global`."""
        return -(-max(self.before, self.after) // self.multiple) * self.multiple


def receptive_field(model: nn.Module, *, multiple: int = 16) -> ReceptiveField:
    """Measure the receptive field: the pixels on which an output depends.

    A copy gets weights that are all positive, so that no two paths cancel, and the gradient of output nodes with
    respect to a strip of an image is followed; after every convolution it is set to 0 or 1, so that it neither vanishes
    nor overflows, however deep the network. Maximum pooling sees all of its window, and max-unpooling spreads over it.

    What it cannot see through: kernels that are not as wide as high (it looks along the height alone), layers whose
    reach depends on the image (deformable convolutions, attention over pixels), and networks without padding, which
    have outputs of other sizes. Only tensors [N, C, h, w] among the outputs count.

    Args:
        model: takes images [N, 3, H, W] of multiple·m + 1 px a side, and returns `Heads`, a tensor, or tensors in
            mappings and sequences. It is not changed.
        multiple: px, the coarsest stride of the network, to which windows of an image are aligned.

    Raises:
        TypeError: no module.
        ValueError: an output whose nodes do not lie at multiples of a stride, or that depends on everything though
            nothing in the network pools all of its input.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    with torch.inference_mode(False), torch.enable_grad():
        positive = _positive(model)
        length = LEAST
        while length <= MOST:
            found = _measure(positive, -(-length // multiple) * multiple, multiple)
            if found is not None:
                return found
            length *= 2
    raise ValueError(f"model: expected outputs that see at most {MOST // 2} px to a side, got more")


def coarsest_stride(model: nn.Module) -> int:
    """Measure the stride of a network's coarsest map, inside or out: shifts by it alone shift all outputs.

    It runs on two strips: what one map has more rows of in the longer one tells its stride. Maps of as many rows in
    both, such as what pools all that it is given, have none. Convolutions and batch norms, which would take seconds,
    only tell their shapes.

    Args:
        model: as of `receptive_field`.

    Returns:
        Px, 1 or more.

    Raises:
        ValueError: it makes more maps of one strip than of the other.
    """
    with torch.inference_mode(False), torch.no_grad():
        model = copy.deepcopy(model).float().cpu().eval()
        shorter, longer = (_rows_of_maps(model, length) for length in (LEAST // 4, LEAST // 2))
    if len(shorter) != len(longer):
        raise ValueError(f"model: expected as many maps of any image, got {len(shorter)} and {len(longer)}")
    more = [b - a for a, b in zip(shorter, longer, strict=True) if b > a]
    return max(1, round(LEAST // 4 / min(more, default=LEAST)))


def _rows_of_maps(model: nn.Module, length: int) -> list[int]:
    """The rows of every map [N, C, h, w] that a network makes of a strip, in order."""
    maps = _Rows()
    with maps:
        model(torch.full((1, 3, length + 1, 17), BRIGHTNESS))
    return maps.rows


class _Rows(TorchFunctionMode):
    """Lists the rows of all maps that functions return; what takes long to compute is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, x = getattr(function, "__name__", ""), args[0] if args else None
        if name in _CONVOLUTIONS and isinstance(x, Tensor) and x.ndim == 4:
            shape = function(x[:0], *args[1:], **(kwargs or {})).shape
            result: Any = x.new_full((len(x), *shape[1:]), BRIGHTNESS)
        elif name == "batch_norm":
            result = x
        else:
            result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 4 and result.is_floating_point():
            self.rows.append(result.shape[2])
        return result


def _measure(model: nn.Module, length: int, multiple: int) -> ReceptiveField | None:
    """Measure it on a strip of length + 1 px; None: the middle sees one of its ends."""
    strip = torch.full((1, 3, length + 1, multiple + 1), BRIGHTNESS, requires_grad=True)
    with _Linear() as linear:
        outputs = list(_tensors(model(strip)))
    if not outputs:
        raise ValueError("model: expected an output [N, C, h, w], got none")
    middle = length // 2 // multiple * multiple
    strides = [_stride(output, length) for output in outputs]

    def seen(nodes: Callable[[int], slice]) -> tuple[int, int]:
        """The first and the last row that any of some nodes see."""
        wanted = [output[:, :, nodes(middle // s)].sum() for output, s in zip(outputs, strides, strict=True)]
        (gradient,) = torch.autograd.grad(torch.stack(wanted).sum(), strip, retain_graph=True)
        rows = gradient.ne(0).any((0, 1, 3)).nonzero().flatten()
        return (int(rows[0]), int(rows[-1])) if len(rows) else (middle, middle)

    first, last = seen(lambda node: slice(node, node + 1))
    before, after = middle - seen(lambda node: slice(node, None))[0], seen(lambda node: slice(node + 1))[1] - middle
    if min(first, middle - before) == 0 or max(last, middle + after) == length:
        return None
    return ReceptiveField(last - first + 1, max(0, before), max(0, after), linear.is_global, multiple)


def _positive(model: nn.Module) -> nn.Module:
    """A copy, on the CPU, that has means for convolutions and leaves what its norms get as it is."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        is_bias = name.rpartition(".")[2] == "bias"
        parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 0 if is_bias else 1)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.fill_(name.endswith("running_var"))
    return model


class _Linear(TorchFunctionMode):
    """Makes maxima means, lets gradients after products be 0 or 1, and stops them where all pixels are pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_global = False

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), dict(kwargs or {})
        x: Any = args[0] if args else kwargs.get("input")
        is_map = isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()
        if is_map and name == "max_pool2d":
            return _mean_pool(*args, **kwargs)
        if is_map and name == "max_pool2d_with_indices":
            return _mean_pool(*args, **kwargs), function(*args, **kwargs)[1]
        if is_map and name in _NORMS_OF_ALL:
            self.is_global = True
            return x
        result = function(*args, **kwargs)
        if is_map and name == "max_unpool2d":
            return F.interpolate(x, result.shape[2:])
        if is_map and name not in _CUTS and (name in _POOLS_OF_ALL or _is_pooled(x, result)):
            self.is_global = True
            return result.detach()
        if name in _PRODUCTS and result.requires_grad:
            result.register_hook(lambda gradient: gradient.ne(0).to(gradient.dtype))
        return result


def _is_pooled(x: Tensor, result: Any) -> bool:
    """Whether all rows of an input have become one."""
    if not isinstance(result, Tensor) or x.shape[2] == 1:
        return False
    return result.is_floating_point() and (result.ndim < 3 or result.shape[2:] == (1, 1))


def _mean_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """A maximum of all that it compares: each pixel of its window has a part in it."""
    if dilation not in (1, (1, 1), [1, 1]):
        raise ValueError(f"model: expected maximum pooling of dilation 1, got {dilation}")
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode)


def _stride(output: Tensor, length: int) -> int:
    """Px between the rows of nodes of an output."""
    rows = output.shape[2]
    if rows < 2 or length % (rows - 1):
        raise ValueError(
            f"model: expected nodes at multiples of a stride, got {rows} rows of an input of {length + 1} px"
        )
    return length // (rows - 1)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Those of maps, whatever holds them."""
    if isinstance(outputs, Heads):
        yield from (getattr(outputs, name) for name in NAMES)
    elif isinstance(outputs, Tensor):
        if outputs.ndim == 4 and outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        for each in outputs.values():
            yield from _tensors(each)
    elif isinstance(outputs, Sequence):
        for each in outputs:
            yield from _tensors(each)
