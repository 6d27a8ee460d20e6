# SPDX-License-Identifier: Apache-2.0
"""A ground truth as the network should see it, and the network that does: what goes through the validation first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.formats.coco import SegmentInfo
from ..data.labels import LabelSet
from ..data.sample import Sample
from ..graph import Graph
from ..heads import Heads
from ..oracle import Truth
from ..predictor import nearest_pixel
from ..targets import encode_heads, keypoints
from .tally import Maps


def resized(maps: Maps, size: tuple[int, int]) -> Maps:
    """Bring maps to another size (H, W) px, every pixel to the nearest old one, as `deeperlab.Parser` does."""
    if maps[0].shape == size:
        return maps
    y, x = (nearest_pixel(np.arange(new), old, new) for old, new in zip(maps[0].shape, size, strict=True))
    category, instance = (part[y[:, None], x] for part in maps)
    return category, instance


def crowd_of(sample: Sample, graph: Graph) -> NDArray[np.bool_]:
    """Mark the pixels of crowds, which are no instances: bool [H, W]. Without keypoints they are as all others."""
    return sample.crowd if graph.keypoints else np.zeros_like(sample.crowd)


def truth_of(sample: Sample, labels: LabelSet, graph: Graph, size: tuple[int, int]) -> Truth:
    """Make the truth of a sample at the size (H, W) px at which the network sees it.

    Crowd and void carry no label. Pixels of some stuff, nobody says which, take the first stuff class, or its things
    would spread over them.
    """
    category = np.where(crowd_of(sample, graph), np.int32(-1), sample.category)
    if sample.some_stuff is not None and False in labels.isthing:
        category[sample.some_stuff] = labels.isthing.index(False)
    category, instance = resized((category, sample.instance), size)
    ids, points = keypoints(instance, graph)
    number = np.zeros(len(sample.categories) + 1, np.int32)  # the smallest may be lost between the pixels
    number[ids] = np.arange(1, len(ids) + 1)
    classes = [labels.ids[sample.categories[i - 1]] for i in ids]
    segments = tuple(SegmentInfo(int(i), c) for i, c in zip(ids, classes, strict=True))
    return Truth(category, number[instance], points, segments, labels.categories)


def heads_of(truth: Truth, size: tuple[int, int], *, radius: float, stride: int, graph: Graph) -> Heads:
    """Encode a truth as heads of an image that is padded to a size (H, W) px; see `encode_heads`."""
    padding = [(0, new - old) for old, new in zip(truth.size, size, strict=True)]
    category = np.pad(truth.category, padding, constant_values=-1)
    instance = np.pad(truth.instance, padding)
    classes = len(truth.categories)
    return encode_heads(category, instance, classes, stride=stride, radius=radius, ignore=-1, graph=graph)


class PerfectNetwork(torch.nn.Module):
    """Answers with the heads of its attribute `truth`, whatever image of that size it is shown.

    Args:
        num_classes: C.
        radius: of the keypoint disks, px.
        graph: keypoints and edges.
        stride: px between the nodes of the heads.
    """

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    truth: Truth

    def __init__(self, num_classes: int, radius: float, graph: Graph, stride: int = 4) -> None:
        super().__init__()
        self.num_classes, self.radius, self._graph, self._stride = num_classes, radius, graph, stride
        self.fusion: dict[str, Any] = {}

    def forward(self, images: torch.Tensor) -> Heads:
        """Heads [1, …] of images [1, 3, H, W]."""
        size = images.shape[2], images.shape[3]
        heads = heads_of(self.truth, size, radius=self.radius, stride=self._stride, graph=self._graph)
        return heads.map(lambda head: torch.from_numpy(head)[None])
