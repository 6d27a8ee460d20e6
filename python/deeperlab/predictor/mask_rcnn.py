# SPDX-License-Identifier: Apache-2.0
"""From images to panoptic maps top-down: torchvision's Mask R-CNN beside a semantic network, merged."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._layout import is_finite, require_torch
from ..data.labels import LabelSet
from ..heads import Heads
from ..merge_top_down import merge_top_down
from .base import BaseParser, Parsed
from .images import pixels_of
from .settings import digest

if TYPE_CHECKING:
    import torch

_PARTS = ("transform", "backbone", "rpn", "roi_heads")


class MaskRCNNParser(BaseParser):
    """Parses images as `Parser` does, by a detector and a semantic network that `merge_top_down` joins.

    The detector is torchvision's own, with the weights that the user has loaded:
    `torchvision.models.detection.maskrcnn_resnet50_fpn(…)` or another of its `GeneralizedRCNN`s that gives masks. It
    runs up to its 28 × 28 masks; pasting them into their boxes is part of the merge, so no mask of the whole image is
    made.

    Args:
        model: the detector, moved to eval mode. It takes images of any size and resizes them itself.
        semantic: a function of an image, uint8 [H, W, 3] on the detector's device, that gives logits [C, h, w] on nodes
            `stride` px apart, or labels [H, W], of the classes of `labels`; or a parser, whose map is taken.
        labels: a label set, the name of a preset, or a file.
        classes: label of a detection → class; others are dropped. None: the ids of the label set's things, which is
            what the labels of weights for COCO are.
        stride: px between the nodes of logits; 1: they are as large as the image.
        batch: images that go through the detector at once, at most.
        merge: further arguments of `merge_top_down`, such as `score_threshold`; its `paste` is "torchvision" here.

    Raises:
        ValueError, TypeError: an argument that does not fit, named with what was expected and what came.
        FormatError, OSError: a file of labels cannot be read.
        ImportError: torch is not installed.
    """

    runtime = "torch"

    def __init__(
        self,
        model: torch.nn.Module,
        semantic: Callable[[Any], Any] | BaseParser,
        labels: LabelSet | str | os.PathLike[str],
        *,
        classes: Mapping[int, int] | None = None,
        stride: int = 1,
        batch: int = 1,
        **merge: Any,
    ) -> None:
        require_torch("deeperlab.predictor.MaskRCNNParser")
        import torch

        if not isinstance(model, torch.nn.Module) or not all(hasattr(model, part) for part in _PARTS):
            raise TypeError(f"model: expected torchvision's with {', '.join(_PARTS)}, got {type(model).__name__}")
        if not callable(semantic):
            raise TypeError(f"semantic: expected a function or a parser, got {type(semantic).__name__}")
        super().__init__(labels, batch=batch)
        labels = self.labels
        self.model = model.eval()
        self.semantic, self.stride, self.merge = semantic, stride, {"paste": "torchvision", **merge}
        self.classes = dict({labels.ids[c]: c for c in labels.things} if classes is None else classes)
        if wrong := sorted(set(self.classes.values()) - set(labels.things)):
            raise ValueError(f"classes: expected things of {labels.name}, {list(labels.things)}, got {wrong[0]}")

    def __repr__(self) -> str:
        return f"MaskRCNNParser({type(self.model).__name__}, {self.labels.name}, batch={self.batch})"

    def _pixels(self, image: Any, name: str) -> torch.Tensor:
        import torch

        pixels = pixels_of(image, name)
        pixels = pixels if isinstance(pixels, torch.Tensor) else torch.from_numpy(pixels.copy())
        return pixels.to(next(self.model.parameters()).device)

    def settings(self) -> dict[str, Any]:
        """As of `BaseParser`; what decides the semantic map is told where a parser gives it."""
        of_semantic = self.semantic.settings() if isinstance(self.semantic, BaseParser) else {}
        detector = {"name": type(self.model).__name__, "weights": digest(self.model)}
        classes = {str(label): c for label, c in self.classes.items()}
        return {**of_semantic, "detector": {**detector, "classes": classes, **self.merge}}

    def _together(self, image: torch.Tensor) -> Hashable:
        return tuple(image.shape)  # a larger neighbor would pad it, and so change what is seen at its borders

    def _parse(self, images: Sequence[torch.Tensor], on_tiles: Callable[[int, int], None]) -> list[Parsed]:
        import torch

        if self.model.training:
            raise RuntimeError("model: expected eval mode, got training mode; call model.eval() before parsing")
        with torch.no_grad():
            if _is_seen(self.model.transform, images[0].shape):
                found = _detect(self.model, [image.permute(2, 0, 1).float() / 255 for image in images])
            else:
                found = [_nothing(image) for image in images]
            return [self._join(image, one, on_tiles) for image, one in zip(images, found, strict=True)]

    def _join(
        self, image: torch.Tensor, found: Mapping[str, torch.Tensor], on_tiles: Callable[[int, int], None]
    ) -> Parsed:
        import torch

        size, finite = (image.shape[0], image.shape[1]), True
        if isinstance(self.semantic, BaseParser):
            said = next(self.semantic.stream([image], on_tiles))
            semantic, finite = said.panoptic.semantic, is_finite(said.heads.semantic) & said.finite
        else:
            semantic = self.semantic(image)
        found = {name: tensor.to(semantic.device) for name, tensor in found.items()}  # where the map came to lie
        labels = [self.classes.get(label, -1) for label in found["labels"].tolist()]
        known = [k for k, label in enumerate(labels) if label >= 0]
        classes = len(self.labels) if semantic.ndim == 2 else None  # logits tell their number
        heads = Heads.of_semantic(semantic, stride=self.stride, num_classes=classes)
        if heads.classes != len(self.labels):
            raise ValueError(f"semantic: expected {len(self.labels)} classes as labels has, got {heads.classes}")
        panoptic = merge_top_down(
            found["boxes"][known],
            found["scores"][known],
            torch.tensor([labels[k] for k in known], dtype=torch.int32, device=semantic.device),
            found["masks"][known],
            heads.semantic,
            self.labels.things,
            num_classes=len(self.labels),
            stride=self.stride,
            size=size,
            **self.merge,
        )
        return Parsed(panoptic, heads, size, finite)


def _is_seen(transform: Any, shape: Sequence[int]) -> bool:
    """Whether an image [H, W, 3] has a pixel on either side, once torchvision's transform has made it smaller."""
    shorter, longer = sorted(shape[:2])
    least, most = getattr(transform, "min_size", (shorter,)), getattr(transform, "max_size", longer)
    return bool(shorter * min(least[-1] / shorter, most / longer) >= 1)


def _nothing(image: torch.Tensor) -> dict[str, torch.Tensor]:
    """No detections, on the device of an image."""
    shapes = {"boxes": (0, 4), "scores": (0,), "labels": (0,), "masks": (0, 1, 28, 28)}
    return {name: image.new_zeros(shape).float() for name, shape in shapes.items()}


def _detect(model: Any, images: list[torch.Tensor]) -> list[dict[str, Any]]:
    """What torchvision's forward does, but for pasting: boxes [K, 4] px of each image, and masks [K, 1, 28, 28]."""
    batch, _ = model.transform(images, None)
    features = model.backbone(batch.tensors)
    features = features if isinstance(features, Mapping) else {"0": features}
    proposals, _ = model.rpn(batch, features, None)
    detections, _ = model.roi_heads(features, proposals, batch.image_sizes, None)
    for found, seen, image in zip(detections, batch.image_sizes, images, strict=True):
        if "masks" not in found:
            raise ValueError("model: expected detections with masks, as a Mask R-CNN gives them, got none")
        y, x = (there / here for there, here in zip(image.shape[-2:], seen, strict=True))
        found["boxes"] = found["boxes"] * found["boxes"].new_tensor([x, y, x, y])
    return list(detections)
