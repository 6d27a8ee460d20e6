# SPDX-License-Identifier: Apache-2.0
"""From images to panoptic maps: a network, a label set, and what lies between them and the fusion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .data.labels import LabelSet, find
from .fuse import fuse
from .heads import Heads
from .panoptic import Panoptic
from .params import FuseParams

if TYPE_CHECKING:
    import torch

GRID = 16
"""Inputs are padded to 16 m + 1 px, as all of the paper's sizes are: there the nodes of every stride up to 16 lie on
multiples of it, and the last ones of all strides on the same pixel."""


@dataclass(frozen=True)
class Parsed:
    """One image: the map at the size of the image, and the heads it came from.

    Attributes:
        panoptic: a single image, at its original size.
        heads: without batch dimension, cut to the nodes of the image as the network saw it.
        size: (H', W') px of the image as the network saw it, without padding: `fuse(heads, things, size=size)`.
    """

    panoptic: Panoptic
    heads: Heads
    size: tuple[int, int]


class Parser:
    """Parses images with a network: scaling, padding, the network, the fusion, and back to the size of the image.

    An image is resized (bilinear, antialiased, half-pixel centres) so that its longer side has `size` px, scaled by
    the network's mean and standard deviation, and padded at the right and at the bottom with the mean colour (0 after
    the scaling), up to the largest of its batch and to 16 m + 1 px. The heads, at stride 4, go straight into
    `deeperlab.fuse`, which runs at the *resized* size and so never sees padding. Where that is not the original size,
    class and instance of every original pixel are those of the nearest pixel of the resized map, keypoints are
    scaled with the image, areas are counted anew, and an instance that loses its last pixel has category −1; scores,
    counts and numbers stay.

    The padding of a batch of unequal sizes is seen by the network (its context pools the whole input), so a map may
    differ a little from that of the image alone.

    Args:
        model: a network whose `forward` takes images [N, 3, H, W] and gives `Heads`, with `mean` and `std` of RGB
            in 0 … 1, and `num_classes`; see `deeperlab.models`. It is moved to `device`, put into eval mode and into
            the channels-last layout: in place, not copied.
        labels: a label set, the name of a preset, or a file; as many classes as the network has.
        size: px of the longer side; None: that of `model.image_size` if it has one, else images keep their size.
        half: autocast. True: float16 on CUDA, bfloat16 on the CPU; or one of these dtypes. In bfloat16, offsets of
            more than 256 px come in steps of 2 px, in float16 in steps of ¼ px.
        device: where the network runs; None: where it is.
        compile: through torch.compile; every new input size compiles anew, unless torch has made it dynamic.
        batch: images that go through the network at once.
        params: of the fusion.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
    """

    def __init__(
        self,
        model: Any,
        labels: LabelSet | str,
        *,
        size: int | None = None,
        half: bool | torch.dtype = False,
        device: str | torch.device | None = None,
        compile: bool = False,
        batch: int = 1,
        params: FuseParams | None = None,
    ) -> None:
        import torch

        self.labels = labels if isinstance(labels, LabelSet) else find(labels)
        if model.num_classes != len(self.labels):
            raise ValueError(
                f"labels: expected {model.num_classes} classes as the model has, got {len(self.labels)} of "
                f"{self.labels.name}"
            )
        size = getattr(model, "image_size", None) if size is None else size
        self.size = None if size is None else _at_least_one("size", size)
        self.batch = _at_least_one("batch", batch)
        self.params = params
        weight = next(iter(model.parameters()), torch.empty(0))
        self.device = torch.device(weight.device if device is None else device)
        self.dtype = _autocast_dtype(half, self.device.type)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: expected one that is there, got cuda, and torch finds no GPU")
        self.model = model.eval().to(device=self.device, memory_format=torch.channels_last)
        self._forward = torch.compile(self.model) if compile else self.model
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).mul(255)[:, None, None]
            for values in (model.mean, model.std)
        )

    def __call__(self, images: Any) -> Any:
        """`Panoptic` of one image, or `list[Panoptic]` of several, each a single image at its original size.

        Args:
            images: one image or a sequence of them, sizes may differ: uint8 RGB [H, W, 3] arrays or tensors, or Pillow
                images. An array or a tensor [N, H, W, 3] is a sequence.

        Returns:
            Tensors on the network's device, or on the CPU where the fusion has no kernels for that device.

        Raises:
            TypeError, ValueError: no image as above; its place in the sequence is named.
        """
        one = hasattr(images, "convert") or getattr(images, "ndim", None) == 3
        found = [parsed.panoptic for parsed in self.stream([images] if one else images)]
        return found[0] if one else found

    def stream(self, images: Iterable[Any]) -> Iterator[Parsed]:
        """Every image, in order; no more than `batch` of them are held at a time."""
        if isinstance(images, (str, bytes)) or not isinstance(images, Iterable):
            raise TypeError(f"images: expected images, or one image [H, W, 3], got {type(images).__name__}")
        held: list[torch.Tensor] = []
        for i, image in enumerate(images):
            held.append(_pixels(image, f"images[{i}]"))
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

    def _parse(self, images: Sequence[torch.Tensor]) -> list[Parsed]:
        import torch

        sizes = [self.input_size(*image.shape[:2]) for image in images]
        with torch.inference_mode():
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
                Parsed(resized(panoptic, (image.shape[0], image.shape[1])), part, size)
                for image, panoptic, part, size in zip(images, maps, parts, sizes, strict=True)
            ]

    def _inputs(self, images: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
        """float32 [N, 3, H, W], channels last, scaled and padded."""
        import torch

        height, width = (-(-(max(sides) - 1) // GRID) * GRID + 1 for sides in zip(*sizes, strict=True))
        inputs = torch.zeros((len(images), 3, height, width), device=self.device).to(memory_format=torch.channels_last)
        for canvas, image, (h, w) in zip(inputs, images, sizes, strict=True):
            pixels = image.to(self.device).permute(2, 0, 1).float()
            if pixels.shape[1:] != (h, w):
                pixels = torch.nn.functional.interpolate(pixels[None], (h, w), mode="bilinear", antialias=True)[0]
            canvas[:, :h, :w] = pixels.sub_(self._mean).div_(self._std)
        return inputs

    def _fuse(self, heads: Heads, size: tuple[int, int]) -> Panoptic:
        return fuse(heads, self.labels.things, size=size, params=self.params)


def resized(panoptic: Panoptic, size: tuple[int, int]) -> Panoptic:
    """A single image of tensors at another size (H, W) px: see `Parser`. The map itself where it has that size."""
    import torch

    if panoptic.size == size:
        return panoptic
    (h, w), (height, width) = panoptic.size, size
    device = panoptic.semantic.device
    y, x = (
        ((2 * torch.arange(new, device=device) + 1) * old).div(2 * new, rounding_mode="floor")
        for old, new in ((h, height), (w, width))
    )  # the old pixel in which the centre of the new one lies, by integers
    semantic, instance = (a[y[:, None], x] for a in (panoptic.semantic, panoptic.instance))
    scale = panoptic.keypoints.new_tensor([width / w, height / h])
    keypoints = (panoptic.keypoints + 0.5) * scale - 0.5
    room = torch.arange(len(panoptic.area), device=device) < panoptic.count
    area = torch.bincount(instance.flatten(), minlength=len(room) + 1)[1:].int()
    loose = (semantic + 1) * (instance == 0)  # 0: void, or an instance
    class_area = torch.bincount(loose.flatten(), minlength=len(panoptic.class_area) + 1)[1:].int()
    return replace(
        panoptic,
        semantic=semantic,
        instance=instance,
        keypoints=torch.where(room[:, None, None], keypoints, 0),
        category=torch.where(area > 0, panoptic.category, -1),
        area=area,
        class_area=class_area,
    )


def _pixels(image: Any, name: str) -> torch.Tensor:
    """uint8 [H, W, 3] with at least one pixel."""
    import torch

    if hasattr(image, "convert"):  # Pillow
        image = np.array(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = torch.from_numpy(image if image.flags.writeable and min(image.strides) > 0 else image.copy())
    if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8:
        got = f"{type(image).__name__} of {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
        raise TypeError(f"{name}: expected a uint8 array or tensor, or a Pillow image, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = "; use .permute(1, 2, 0)" if image.ndim == 3 and image.shape[0] == 3 else ""
        raise ValueError(f"{name}: expected RGB [H, W, 3], got shape {list(image.shape)}{hint}")
    return image


def _where_fuse_runs(heads: Heads) -> Heads:
    """The heads, on the CPU if the package was built without kernels for their device."""
    from .ops import HAS_CUDA

    device = heads.heatmap.device.type
    return heads if device == "cpu" or (device == "cuda" and HAS_CUDA) else map_heads(heads, lambda head: head.cpu())


def _cut(heads: Heads, size: tuple[int, int]) -> Heads:
    """A view of the nodes up to the last that a pixel of the image lies before: padding has no vote."""
    h, w = (-(-(side - 1) // heads.stride) + 1 for side in size)
    return map_heads(heads, lambda head: head[..., :h, :w])


def _image(heads: Heads, i: int) -> Heads:
    """A view of one image of a batch."""
    return map_heads(heads, lambda head: head[i])


def map_heads(heads: Heads, function: Any) -> Heads:
    """Each of the five changed by a function."""
    arrays = [field.name for field in fields(heads) if field.name not in ("stride", "graph", "num_classes")]
    return replace(heads, **{name: function(getattr(heads, name)) for name in arrays})


def _autocast_dtype(half: Any, device: str) -> torch.dtype | None:
    import torch

    if half is False:
        return None
    if half is True:
        return torch.float16 if device == "cuda" else torch.bfloat16
    if half not in (torch.float16, torch.bfloat16):
        raise ValueError(f"half: expected True, False, torch.float16 or torch.bfloat16, got {half!r}")
    return half  # type: ignore[no-any-return]


def _at_least_one(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return value
