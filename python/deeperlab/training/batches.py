# SPDX-License-Identifier: Apache-2.0
"""What a step of the training is fed with: images, one map of classes, one of instances, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

VOID, SOME_STUFF = -1, -2
"""Values of `Batch.category` beside the classes: no label; some stuff class, nobody says which."""


@dataclass(frozen=True, eq=False)
class Batch:
    """N samples of one size. Targets are made of it where it is used: `deeperlab.targets.encode`.

    Attributes:
        images: uint8 [N, 3, H, W], RGB.
        category: int32 [N, H, W]: class 0 … C − 1, `VOID`, or `SOME_STUFF`.
        instance: int32 [N, H, W]: above 0 on things that were told apart, 0 elsewhere.
        ignore: bool [N, H, W]: where the heatmap is not trained: crowd, padding, and void if asked for.
        point_ids: int64 [N, K], 0 = none, and
        points: int64 [N, K, P, 2] px (x, y): keypoints of whole objects, also outside of the sample; None: those of
            the visible part are meant.
        names: of the images, for messages.
    """

    images: Tensor
    category: Tensor
    instance: Tensor
    ignore: Tensor
    point_ids: Tensor | None
    points: Tensor | None
    names: tuple[str, ...]

    def map(self, function: Any) -> Batch:
        """Apply a function to each tensor: `batch.map(lambda t: t.to(device))`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "names"}
        return replace(self, **{name: function(value) for name, value in values.items() if value is not None})
