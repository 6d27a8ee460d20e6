# SPDX-License-Identifier: Apache-2.0
"""From images to panoptic maps without torch: ONNX Runtime, Pillow and NumPy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import shipped
from .._layout import as_array
from ..crf import CRFParams
from ..data.labels import LabelSet
from ..heads import Heads
from ..params import FuseParams
from .heads_parser import HeadsParser
from .images import pixels_of
from .onnx_network import OnnxNetwork
from .resize import resized_array, scaled_array


class OnnxParser(HeadsParser):
    """Parses images as `Parser` does, by ONNX Runtime on the CPU: maps and heads are NumPy arrays.

    They are those of `Parser` up to rounding in the network: class and instance of few pixels in thousands differ, at
    borders.

    Args:
        model: a folder of `save_pretrained`, into which model.onnx is written at first, or an `OnnxNetwork`. None: that
            of the package, `photo16`.
        labels, size, batch, params, stuff_area, tile, crf: as of `Parser`.
        halo: likewise, rounded up to a multiple of 16, or of 32 for `models.SYSTEMS`; None: an eighth of the
            tile, as only torch can measure a network.

    Attributes:
        labels, size, batch, params, stuff_area, tile, halo, crf, model: as above; a size of None: images keep theirs.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
        FormatError, OSError, ImportError: as `OnnxNetwork`.
    """

    runtime = "onnx"

    def __init__(
        self,
        model: OnnxNetwork | str | os.PathLike[str] | None = None,
        labels: LabelSet | str | os.PathLike[str] | None = None,
        *,
        size: int | None = None,
        batch: int = 1,
        params: FuseParams | None = None,
        stuff_area: float | None = None,
        tile: int | None = None,
        halo: int | None = None,
        crf: CRFParams | str | None = None,
    ) -> None:
        if not isinstance(model, OnnxNetwork):
            model = OnnxNetwork(shipped.path_of(shipped.DEFAULT if model is None else model))
        self.model = model
        super().__init__(
            self.model,
            labels,
            size=size,
            batch=batch,
            params=params,
            stuff_area=stuff_area,
            tile=tile,
            halo=halo,
            crf=crf,
        )
        self._mean, self._std = (np.array(v, np.float32) * np.float32(255) for v in (self.model.mean, self.model.std))

    def __repr__(self) -> str:
        size = "the image's" if self.size is None else self.size
        return f"OnnxParser({self.labels.name}, size={size}, batch={self.batch})"

    def _pixels(self, image: Any, name: str) -> NDArray[np.uint8]:
        return as_array(pixels_of(image, name))

    def _resized(self, image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[Any]:
        return resized_array(image, size)

    def _heads(
        self, images: Sequence[NDArray[Any]], sizes: Sequence[tuple[int, int]], padded: tuple[int, int]
    ) -> Heads:
        inputs = np.zeros((len(images), 3, *padded), np.float32)  # 0 is the mean color
        for canvas, image, (h, w) in zip(inputs, images, sizes, strict=True):
            canvas[:, :h, :w] = scaled_array(image, (h, w), self._mean, self._std).transpose(2, 0, 1)
        return self.model(inputs)
