# SPDX-License-Identifier: Apache-2.0
"""From images to panoptic maps: a network, a label set, and what lies between them and the fusion."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, overload

from .._layout import find_device, require_torch
from ..data.labels import LabelSet, find
from ..fuse import fuse
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams
from .images import pixels_of
from .resize import resized, scaled
from .small_stuff import without_small_stuff

if TYPE_CHECKING:
    import torch

GRID = 16
"""Inputs are padded to 16 m + 1 px, as all of the paper's sizes are: there the nodes of every stride up to 16 lie on
multiples of it, and the last ones of all strides on the same pixel."""


class Network(Protocol):
    """What `Parser` asks of a network beyond being a `torch.nn.Module`."""

    num_classes: int

    @property
    def mean(self) -> Sequence[float]:
        """Of red, green and blue in 0 … 1."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation, likewise."""

    def __call__(self, images: torch.Tensor, /) -> Heads:
        """Heads of images [N, 3, H, W], less `mean`, over `std`."""


@dataclass(frozen=True, eq=False)
class Parsed:
    """One image: the map at the size of the image, and the heads it came from.

    Attributes:
        seen: the map of the image as the network saw it.
        heads: without batch dimension, cut to the nodes of the image as the network saw it.
        original: (H, W) px of the image itself.
    """

    seen: Panoptic
    heads: Heads
    original: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H', W') px of the image as the network saw it, without padding: `fuse(heads, things, size=size)`."""
        return self.seen.size

    @cached_property
    def panoptic(self) -> Panoptic:
        """A single image, at its original size; made when it is first asked for."""
        return resized(self.seen, self.original)


def params_of(model: object) -> FuseParams | None:
    """Return the parameters of the fusion that a network brings, its `radius` and `fusion`; None: it has neither."""
    own: dict[str, Any] = dict(getattr(model, "fusion", {}))
    if (radius := getattr(model, "radius", None)) is not None:
        own["radius"] = radius
    return FuseParams(**own) if own else None


class Parser:
    """Parses images with a network: scaling, padding, the network, the fusion, and back to the size of the image.

    An image is resized (bilinear, antialiased, half-pixel centers) so that its longer side has `size` px, scaled by
    the network's mean and standard deviation, and padded at the right and at the bottom with the mean color (0 after
    the scaling) to 16 m + 1 px. The heads, at stride 4, go straight into `deeperlab.fuse`, which runs at the *resized*
    size and so never sees padding. Where that is not the original size, class and instance of every original pixel are
    those of the nearest pixel of the resized map, keypoints are scaled with the image, areas are counted anew, and an
    instance that loses its last pixel has category −1; scores, counts and numbers stay.

    Images go through the network together only if they are padded to one size: the network's context pools all it is
    given, and padding that depends on the neighbors would make the map depend on them.

    Args:
        model: of `deeperlab.models`, or another module that is a `Network`; or what `DeeperLab.from_pretrained` takes,
            a folder or OWNER/NAME on the hub. A module is moved to `device`, put into eval mode and into the
            channels-last layout: in place, not copied. It may not be in training mode when it parses.
        labels: a label set, the name of a preset, or a file; as many classes as the network has. None: `model.labels`,
            which a network has that came with its labels.json.
        size: px of the longer side; None: `model.image_size`, if it has one; 0: images keep their size.
        half: autocast. True: float16 on a GPU, bfloat16 on the CPU; or one of these dtypes. In bfloat16, offsets of
            more than 256 px come in steps of 2 px, in float16 in steps of ¼ px.
        device: where the network runs; None: where it is.
        compile: through torch.compile; every new input size compiles anew, unless torch has made it dynamic.
        batch: images that go through the network at once, at most.
        params: of the fusion; None: the default, with the network's `radius` and `fusion`, if it has them.
        stuff_area: share of an image that a class of stuff must have, or its pixels become void, class −1: a few pixels
            here and there count as much as a segment in PQ. None: that of the network, if it has one; else 0.

    Attributes:
        labels, size, batch, params, stuff_area, device, model: as above; a size of None: images keep theirs.
        dtype: of autocast, or None.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
        FormatError, OSError, ImportError: as `DeeperLab.from_pretrained`.

    Warns:
        UserWarning: batch norms have statistics from before the training, since it was short for their momentum.
    """

    def __init__(
        self,
        model: Network | str | os.PathLike[str],
        labels: LabelSet | str | os.PathLike[str] | None = None,
        *,
        size: int | None = None,
        half: bool | torch.dtype = False,
        device: str | torch.device | None = None,
        compile: bool = False,
        batch: int = 1,
        params: FuseParams | None = None,
        stuff_area: float | None = None,
    ) -> None:
        require_torch("deeperlab.Parser")
        import torch

        if isinstance(model, (str, os.PathLike)):
            from ..models import DeeperLab

            model = DeeperLab.from_pretrained(os.fspath(model)).fold_batch_norm()
        if not isinstance(model, torch.nn.Module) or not all(hasattr(model, n) for n in ("num_classes", "mean", "std")):
            raise TypeError(
                "model: expected a network with num_classes, mean and std, as of deeperlab.models, got "
                f"{type(model).__name__}"
            )
        if labels is None:
            labels = getattr(model, "labels", None)
        if not isinstance(labels, (LabelSet, str, os.PathLike)):
            none = ", as the model has none of its own" if labels is None else ""
            raise TypeError(f"labels: expected a LabelSet, a name or a file, got {type(labels).__name__}{none}")
        self.labels = labels if isinstance(labels, LabelSet) else find(labels)
        if model.num_classes != len(self.labels):
            raise ValueError(
                f"labels: expected {model.num_classes} classes as the model has, got {len(self.labels)} of "
                f"{self.labels.name}"
            )
        size = _integer("size", getattr(model, "image_size", 0) if size is None else size, least=0)
        self.size = size or None
        self.batch = _integer("batch", batch, least=1)
        self.params = params_of(model) if params is None else params
        self.stuff_area = float(getattr(model, "stuff_area", 0.0) if stuff_area is None else stuff_area)
        if not 0 <= self.stuff_area < 1:
            raise ValueError(f"stuff_area: expected a share from 0 to below 1, got {self.stuff_area}")
        weight = next(iter(model.parameters()), torch.empty(0))
        self.device = find_device("device", weight.device if device is None else device)
        self.dtype = _autocast_dtype(half, self.device.type)
        if getattr(model, "has_trained_weights", True):
            from ..models.norms import warn_of_initial_statistics

            warn_of_initial_statistics(model)
        if weight.dtype == torch.float64:
            raise ValueError("model: expected weights of float32, float16 or bfloat16, got float64; use model.float()")
        self._weights = weight.dtype
        with torch.inference_mode(False):  # what is made in that mode works in no other
            if any(tensor.is_inference() for tensor in model.state_dict().values()):
                model.load_state_dict({name: t.clone() for name, t in model.state_dict().items()}, assign=True)
            self.model = model.eval().to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._mean, self._std = (
                torch.tensor(values, dtype=torch.float32, device=self.device).mul(255)
                for values in (model.mean, model.std)
            )
        self._forward = torch.compile(self.model) if compile else self.model

    def __repr__(self) -> str:
        size = "the image's" if self.size is None else self.size
        return (
            f"Parser({type(self.model).__name__}, {self.labels.name}, size={size}, batch={self.batch}, "
            f"device={self.device}, autocast={self.dtype})"
        )

    @overload
    def __call__(self, images: Sequence[Any]) -> list[Panoptic]: ...

    @overload
    def __call__(self, images: Any) -> Any: ...

    def __call__(self, images: Any) -> Any:
        """`Panoptic` of one image, or `list[Panoptic]` of several, each a single image at its original size.

        Args:
            images: one image or a sequence of them, sizes may differ: uint8 RGB [H, W, 3] arrays or tensors, or Pillow
                images of 8 bits, which are turned upright as their EXIF orientation says. An array or a tensor
                [N, H, W, 3] is a sequence.

        Returns:
            Tensors on the network's device, or on the CPU where the fusion has no kernels for that device.

        Raises:
            TypeError, ValueError: no image as above; its place in the sequence is named.
            RuntimeError: the network is in training mode.
        """
        dimensions = getattr(images, "ndim", None)
        if dimensions not in (None, 3, 4):
            shape = list(images.shape)
            raise ValueError(f"images: expected one image [H, W, 3], [N, H, W, 3] or a sequence, got shape {shape}")
        one = hasattr(images, "convert") or dimensions == 3
        found = [parsed.panoptic for parsed in self.stream([images] if one else images)]
        return found[0] if one else found

    def stream(self, images: Iterable[Any]) -> Iterator[Parsed]:
        """Every image, in order; no more than `batch` of them are held at a time."""
        if isinstance(images, (str, bytes, dict)) or not isinstance(images, Iterable):
            raise TypeError(f"images: expected images, or one image [H, W, 3], got {type(images).__name__}")
        held: list[torch.Tensor] = []
        for i, image in enumerate(images):
            pixels = pixels_of(image, f"images[{i}]")
            if held and self._padded(pixels) != self._padded(held[0]):
                yield from self._parse(held)
                held = []
            held.append(pixels)
            if len(held) == self.batch:
                yield from self._parse(held)
                held = []
        if held:
            yield from self._parse(held)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H', W') px of an image as the network sees it, without padding."""
        if self.size is None:
            return height, width
        longest = max(height, width)
        return max(1, round(height * self.size / longest)), max(1, round(width * self.size / longest))

    def _padded(self, image: torch.Tensor) -> tuple[int, int]:
        """(H, W) px of the network's input."""
        height, width = (-(-(side - 1) // GRID) * GRID + 1 for side in self.input_size(*image.shape[:2]))
        return height, width

    def _parse(self, images: Sequence[torch.Tensor]) -> list[Parsed]:
        """Images that are padded to one size."""
        import torch

        if self.model.training:
            raise RuntimeError("model: expected eval mode, got training mode; call model.eval() before parsing")
        sizes = [self.input_size(*image.shape[:2]) for image in images]
        with torch.no_grad():
            inputs = self._inputs(images, sizes)
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                heads: Heads = self._forward(inputs)
            heads = _where_fuse_runs(heads)
            if len(set(sizes)) == 1:
                heads = _cut(heads, sizes[0])
                maps = list(self._fuse(heads, sizes[0]))
                parts = [_image(heads, i) for i in range(len(images))]
            else:
                parts = [_cut(_image(heads, i), size) for i, size in enumerate(sizes)]
                maps = [self._fuse(part, size) for part, size in zip(parts, sizes, strict=True)]
            return [
                Parsed(seen, part, (image.shape[0], image.shape[1]))
                for image, seen, part in zip(images, maps, parts, strict=True)
            ]

    def _inputs(self, images: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """[N, 3, H, W] of the weights' dtype, channels last, scaled and padded."""
        import torch

        height, width = self._padded(images[0])
        inputs = torch.empty((len(images), height, width, 3), dtype=self._weights, device=self.device)
        for canvas, image, (h, w) in zip(inputs, images, sizes, strict=True):
            canvas[h:] = 0
            canvas[:h, w:] = 0
            scaled(image, (h, w), self._mean, self._std, canvas[:h, :w])
        return inputs.permute(0, 3, 1, 2)

    def _fuse(self, heads: Heads, size: tuple[int, int]) -> Panoptic:
        return without_small_stuff(fuse(heads, self.labels.things, size=size, params=self.params), self.stuff_area)


def _where_fuse_runs(heads: Heads) -> Heads:
    """The heads, on the CPU if the package was built without kernels for their device."""
    from ..stages.torch_ops import HAS_CUDA

    device = heads.heatmap.device.type
    return heads if device == "cpu" or (device == "cuda" and HAS_CUDA) else heads.map(lambda head: head.cpu())


def _cut(heads: Heads, size: tuple[int, int]) -> Heads:
    """A view of the nodes up to the last that a pixel of the image lies before: padding has no vote."""
    h, w = (-(-(side - 1) // heads.stride) + 1 for side in size)
    return heads.map(lambda head: head[..., :h, :w])


def _image(heads: Heads, i: int) -> Heads:
    """A view of one image of a batch."""
    return heads.map(lambda head: head[i])


def _autocast_dtype(half: Any, device: str) -> torch.dtype | None:
    import torch

    if half is False:
        return None
    if half is True:
        return torch.bfloat16 if device == "cpu" else torch.float16
    if half not in (torch.float16, torch.bfloat16):
        raise ValueError(f"half: expected True, False, torch.float16 or torch.bfloat16, got {half!r}")
    return half  # type: ignore[no-any-return]


def _integer(name: str, value: Any, *, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number
