# SPDX-License-Identifier: Apache-2.0
"""From images to panoptic maps: a network, a label set, and what lies between them and the fusion."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .. import shipped
from .._layout import find_device, require_torch
from ..crf import CRFParams
from ..data.labels import LabelSet
from ..heads import Heads
from ..params import FuseParams
from .heads_parser import HeadsParser
from .images import pixels_of
from .resize import resized_image, scaled

if TYPE_CHECKING:
    import torch


class HeadsNetwork(Protocol):
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


class Parser(HeadsParser):
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
        model: of `deeperlab.models`, or another module that is a `HeadsNetwork`; or what `models.from_pretrained`
            takes, a folder, `photo16` or OWNER/NAME on the hub. None: `photo16`, the network that comes with the
            package, a start to fine-tune from (docs/models.md). A module is moved to `device`, put into eval mode and
            into the channels-last layout: in place, not copied. It may not be in training mode when it parses.
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
        tile: px a side, 16 m + 1: images that are larger go through the network in tiles of this size, and their heads
            together into one fusion, so that memory does not depend on what the network takes for a whole image.
            `size` is then 0 unless it is given. Context that a network pools from all that it is given
            (`ReceptiveField.is_global`, as ASPP does) comes from the tile, so that heads are not those of the whole.
        halo: px around what a tile writes, which are computed and thrown away; rounded up to a multiple of 16, or of
            `coarsest_stride(model)` if that is more, at multiples of which windows begin. With
            `receptive_field(model).halo`, heads are those of the whole image to rounding, but for what is global. None:
            that, but at most an eighth of the tile.
        crf: a fully connected CRF on the semantic head before the fusion, with the image as the network saw it: its
            parameters, or the name of a preset (docs/crf.md). The heads of a result stay those of the network.

    Attributes:
        labels, size, batch, params, stuff_area, tile, halo, crf, device, model: as above; a size of None: images keep
            theirs.
        dtype: of autocast, or None.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
        FormatError, OSError, ImportError: as `models.from_pretrained`.

    Warns:
        UserWarning: batch norms have statistics from before the training, since it was short for their momentum.
    """

    runtime = "torch"

    def __init__(
        self,
        model: HeadsNetwork | str | os.PathLike[str] | None = None,
        labels: LabelSet | str | os.PathLike[str] | None = None,
        *,
        size: int | None = None,
        half: bool | torch.dtype = False,
        device: str | torch.device | None = None,
        compile: bool = False,
        batch: int = 1,
        params: FuseParams | None = None,
        stuff_area: float | None = None,
        tile: int | None = None,
        halo: int | None = None,
        crf: CRFParams | str | None = None,
    ) -> None:
        require_torch("deeperlab.Parser")
        import torch

        if model is None:
            model = shipped.DEFAULT
        if isinstance(model, (str, os.PathLike)):
            from ..models import from_pretrained

            model = from_pretrained(os.fspath(model)).fold_batch_norm()
        if not isinstance(model, torch.nn.Module) or not all(hasattr(model, n) for n in ("num_classes", "mean", "std")):
            raise TypeError(
                "model: expected a network with num_classes, mean and std, as of deeperlab.models, got "
                f"{type(model).__name__}"
            )
        if len(model.mean) != 3:
            raise ValueError(f"model: expected a network of RGB images, got one of {len(model.mean)} channels")
        super().__init__(
            model, labels, size=size, batch=batch, params=params, stuff_area=stuff_area, tile=tile, halo=halo, crf=crf
        )
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

    def _pixels(self, image: Any, name: str) -> torch.Tensor:
        import torch

        pixels = pixels_of(image, name)
        if isinstance(pixels, torch.Tensor):
            return pixels
        return torch.from_numpy(pixels if pixels.flags.writeable and min(pixels.strides) > 0 else pixels.copy())

    @staticmethod
    def _coarsest_stride(model: Any) -> int:
        from ..models import coarsest_stride

        return coarsest_stride(model)

    @staticmethod
    def _reach(model: Any, multiple: int) -> int | None:
        from ..models import receptive_field

        return receptive_field(model, multiple=multiple).halo

    def _resized(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return resized_image(image, size, self.device)

    def _heads(
        self, images: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], padded: tuple[int, int]
    ) -> Heads:
        import torch

        if self.model.training:
            raise RuntimeError("model: expected eval mode, got training mode; call model.eval() before parsing")
        with torch.no_grad():
            inputs = self._inputs(images, sizes, padded)
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                heads: Heads = self._forward(inputs)
            return _where_fuse_runs(heads)

    def _inputs(
        self, images: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]], padded: tuple[int, int]
    ) -> torch.Tensor:
        """[N, 3, H, W] of the weights' dtype, channels last, scaled and padded."""
        import torch

        inputs = torch.empty((len(images), *padded, 3), dtype=self._weights, device=self.device)
        for canvas, image, (h, w) in zip(inputs, images, sizes, strict=True):
            canvas[h:] = 0
            canvas[:h, w:] = 0
            scaled(image, (h, w), self._mean, self._std, canvas[:h, :w])
        return inputs.permute(0, 3, 1, 2)


def _where_fuse_runs(heads: Heads) -> Heads:
    """The heads, on the CPU if the package was built without kernels for their device."""
    from ..stages.torch_ops import HAS_CUDA

    device = heads.heatmap.device.type
    return heads if device == "cpu" or (device == "cuda" and HAS_CUDA) else heads.map(lambda head: head.cpu())


def _autocast_dtype(half: Any, device: str) -> torch.dtype | None:
    import torch

    if half is False:
        return None
    if half is True:
        return torch.bfloat16 if device == "cpu" else torch.float16
    if half not in (torch.float16, torch.bfloat16):
        raise ValueError(f"half: expected True, False, torch.float16 or torch.bfloat16, got {half!r}")
    return half  # type: ignore[no-any-return]
