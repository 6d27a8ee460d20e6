# SPDX-License-Identifier: Apache-2.0
"""What a network hands to the fusion: five tensors, their stride, and the keypoint graph.

This module is the only home of the shapes that must agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ._layout import (
    COMPONENTS,
    GRIDS,
    HEATMAPS,
    UNITS,
    dtype_of,
    is_finite,
    kind_of,
    offset_channels,
    positions,
    reorder,
    shape_of,
    summarize,
    to_logits,
    to_nodes,
    widen,
)
from .graph import NO_KEYPOINTS, STAR, Graph

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
"""The five heads, in the order of networks' outputs."""

_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("uint8", "int16", "int32", "int64")
_OFFSETS = ("short_range", "middle_range", "long_range")


def names_of(graph: Graph) -> tuple[str, ...]:
    """Name the heads that a network of a graph has: all five, or without keypoints the semantic one alone."""
    return NAMES if graph.keypoints else NAMES[:1]


@dataclass(frozen=True, eq=False, repr=False)
class Heads:
    """Raw outputs of the five heads on a grid of h × w nodes; a leading batch dimension N is optional.

    Node (i, j) sits at pixel (y, x) = (stride·i, stride·j): align-corners, as all of the paper's sizes 4n + 1.
    `from_layout` makes heads of those by other conventions: nodes at half-pixel centers (`align_corners=False`), other
    orders of channels, offsets in nodes, heatmaps of probabilities. `deeperlab check` tells which a file follows.

    All offsets are in image pixels whatever the stride, x first: channel 2k is horizontal, 2k + 1 vertical.

    Args:
        semantic: logits [N, C, h, w], or integer class labels [N, H, W] at image resolution; labels outside [0, C) are
            void.
        heatmap: logits [N, P, h, w]; sigmoid = inside the disk around keypoint k.
        short_range: [N, 2P, h, w], keypoint − pixel, valid inside the disk.
        middle_range: [N, 2E, h, w], target keypoint − pixel, valid in the disk of the edge's source.
        long_range: [N, 2P, h, w], keypoint − pixel, valid on the whole instance.
        stride: image pixels between nodes, >= 1. Stride 1 means heads that were upsampled beforehand.
        graph: keypoints and edges; `STAR` is the paper's. Of `NO_KEYPOINTS` all heads but `semantic` have no channels,
            as `of_semantic` makes them.
        num_classes: C; needed with integer labels only.

    Tensors (torch) and arrays (NumPy) are both welcome, of dtype float32, float16 or (torch) bfloat16.

    Raises:
        ValueError: shapes or devices that do not agree, or a stride below 1.
        TypeError: no tensors or arrays, or dtypes that are not supported or that differ among the heads.
    """

    semantic: Any
    heatmap: Any
    short_range: Any
    middle_range: Any
    long_range: Any
    stride: int = 4
    graph: Graph = field(default_factory=lambda: STAR)  # a factory: torch.compile cannot trace a default object
    num_classes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", _stride(self.stride))
        if not isinstance(self.graph, Graph):
            raise TypeError(f"graph: expected a deeperlab.Graph, got {type(self.graph).__name__}")
        self._check_types()
        self._check_shapes()

    def __repr__(self) -> str:
        return f"{summarize(self)[:-1]}, stride={self.stride}, num_classes={self.classes})"

    def _check_types(self) -> None:
        """Five tensors, or five arrays, of one floating dtype on one device; labels may be integers."""
        kind = kind_of("heatmap", self.heatmap)
        if self.heatmap.ndim not in (3, 4):
            raise ValueError(f"heatmap: expected [N, P, h, w] or [P, h, w], got shape {shape_of(self.heatmap)}")
        for name in ("heatmap", *_OFFSETS, "semantic"):
            head = getattr(self, name)
            if kind_of(name, head) is not kind:
                raise TypeError(f"{name}: expected {kind.__name__} as heatmap is, got {type(head).__name__}")
            if kind.__name__ == "Tensor" and head.layout is not sys.modules["torch"].strided:
                raise TypeError(f"{name}: expected a strided tensor, got {head.layout}; use .to_dense()")
            if getattr(head, "device", None) != getattr(self.heatmap, "device", None):
                raise ValueError(f"{name}: expected device {self.heatmap.device} as heatmap, got {head.device}")
            labels = name == "semantic" and head.ndim == self.heatmap.ndim - 1
            dtype = dtype_of(head)
            if labels and dtype not in _INTEGERS:
                raise TypeError(f"{name}: expected labels of dtype {', '.join(_INTEGERS)}, got {dtype}")
            if not labels and dtype not in _FLOATS:
                remedy = ".float()" if kind.__name__ == "Tensor" else ".astype(numpy.float32)"
                raise TypeError(f"{name}: expected dtype {', '.join(_FLOATS)}, got {dtype}; use {remedy}")
            if not labels and dtype != dtype_of(self.heatmap):
                raise TypeError(f"{name}: expected dtype {dtype_of(self.heatmap)} as heatmap has, got {dtype}")

    def _check_shapes(self) -> None:
        *images, keypoints, grid_h, grid_w = self.heatmap.shape
        if grid_h < 1 or grid_w < 1:
            raise ValueError(f"heatmap: expected at least 1 x 1 nodes, got shape {shape_of(self.heatmap)}")
        points, edges = len(self.graph.keypoints), len(self.graph.edges)
        if keypoints != points:
            raise ValueError(
                f"heatmap: expected {points} channels, the keypoints of graph, got {shape_of(self.heatmap)}"
            )
        for name, channels in zip(_OFFSETS, (2 * points, 2 * edges, 2 * points), strict=True):
            expected = [*images, channels, grid_h, grid_w]
            if list(getattr(self, name).shape) != expected:
                raise ValueError(f"{name}: expected shape {expected}, got {shape_of(getattr(self, name))}")
        if self.num_classes is not None and (
            isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int)
        ):
            raise TypeError(f"num_classes: expected an int or None, got {self.num_classes!r}")
        shape = list(self.semantic.shape)
        if self.has_labels:
            if self.num_classes is None or self.num_classes < 1:
                raise ValueError(f"num_classes: expected at least 1 with integer labels, got {self.num_classes}")
            if shape[:-2] != images:
                raise ValueError(f"semantic: expected labels {[*images, 'H', 'W']}, got {shape}")
            return
        if len(shape) != self.heatmap.ndim or shape[:-3] != images or shape[-2:] != [grid_h, grid_w] or shape[-3] < 1:
            logits, labels = [*images, "C", grid_h, grid_w], [*images, "H", "W"]
            raise ValueError(f"semantic: expected logits {logits} or integer labels {labels}, got {shape}")
        if self.num_classes is not None and self.num_classes != shape[-3]:
            raise ValueError(f"num_classes: expected {shape[-3]}, the channels of semantic, got {self.num_classes}")

    def map(self, function: Callable[[Any], Any]) -> Heads:
        """Apply a function to each of the five: `heads.map(torch.Tensor.cuda)`."""
        return replace(self, **{name: function(getattr(self, name)) for name in NAMES})

    def not_finite(self) -> tuple[str, ...]:
        """Name the heads that hold NaN or infinity: the network has overflowed, and no map of them means anything."""
        return tuple(name for name in NAMES if not bool(is_finite(getattr(self, name))))

    @property
    def batched(self) -> bool:
        """Whether there is a leading batch dimension."""
        return bool(self.heatmap.ndim == 4)

    @property
    def has_labels(self) -> bool:
        """Whether `semantic` holds integer labels at image resolution, not logits on the node grid."""
        return bool(self.semantic.ndim == self.heatmap.ndim - 1)

    @property
    def classes(self) -> int:
        """C."""
        return self.num_classes if self.has_labels else self.semantic.shape[-3]  # type: ignore[return-value]

    @property
    def default_size(self) -> tuple[int, int]:
        """(H, W): the labels', or the image that ends on the last nodes."""
        if self.has_labels:
            return self.semantic.shape[-2], self.semantic.shape[-1]
        return (self.heatmap.shape[-2] - 1) * self.stride + 1, (self.heatmap.shape[-1] - 1) * self.stride + 1

    @classmethod
    def of_semantic(cls, semantic: Any, *, stride: int = 4, num_classes: int | None = None) -> Heads:
        """Make heads of a semantic head alone: without keypoints, and so without instances.

        `fuse` makes a panoptic map of them in which the pixels of each class, thing or stuff, are one segment.

        Args:
            semantic, stride, num_classes: as in `Heads`.

        Raises:
            ValueError, TypeError: as `Heads`, or another number of dimensions.
        """
        kind, stride = kind_of("semantic", semantic), _stride(stride)
        labels = (dtype := dtype_of(semantic)) in _INTEGERS
        if not labels and dtype not in _FLOATS:
            raise TypeError(f"semantic: expected dtype {', '.join((*_FLOATS, *_INTEGERS))}, got {dtype}")
        if semantic.ndim not in ((2, 3) if labels else (3, 4)):
            expected = "labels [N, H, W] or [H, W]" if labels else "logits [N, C, h, w] or [C, h, w]"
            raise ValueError(f"semantic: expected {expected}, got shape {shape_of(semantic)}")
        none = (semantic[..., None, ::stride, ::stride] if labels else semantic)[..., :0, :, :]
        if labels:
            none = none.astype(np.float32) if kind is np.ndarray else none.float()
        return cls(semantic, none, none, none, none, stride, NO_KEYPOINTS, num_classes)

    @classmethod
    def of_outputs(cls, outputs: Sequence[Any], stride: int, graph: Graph) -> Heads:
        """Make heads of what a network of a graph puts out: the heads of `names_of(graph)`, in this order.

        Raises:
            ValueError, TypeError: as `Heads`, or another number of outputs.
        """
        names = names_of(graph)
        if len(outputs) != len(names):
            raise ValueError(f"outputs: expected {', '.join(names)}, got {len(outputs)} of them")
        if graph.keypoints:
            return cls(**dict(zip(names, outputs, strict=True)), stride=stride, graph=graph)
        return cls.of_semantic(*outputs, stride=stride)

    @classmethod
    def from_layout(
        cls,
        semantic: Any,
        heatmap: Any,
        short_range: Any,
        middle_range: Any,
        long_range: Any,
        *,
        components: Literal["xy", "yx", "planar_xy", "planar_yx"] = "xy",
        keypoints: Sequence[str] | None = None,
        edges: Sequence[tuple[int, int]] | None = None,
        units: Literal["px", "nodes"] = "px",
        grid: Literal["aligned", "half_pixel"] = "aligned",
        heatmaps: Literal["logits", "probabilities"] = "logits",
        stride: int = 4,
        graph: Graph = STAR,
        num_classes: int | None = None,
    ) -> Heads:
        """Make heads from those of a network that follows other conventions.

        Args:
            semantic, heatmap, short_range, middle_range, long_range: as in `Heads`, but for what follows.
            components: how an offset head orders its channels: "xy" (x0, y0, x1, y1, …), "yx" (y0, x0, …), "planar_xy"
                (x0, x1, …, y0, y1, …) or "planar_yx" (y0, y1, …, x0, x1, …), as PersonLab's ports have it.
            keypoints: the names of `graph.keypoints` in the order of the given channels; None: the same order.
            edges: the pairs of `graph.edges` in the order of the given channels of `middle_range`, as indices into
                `graph.keypoints`; None: the same order.
            units: of offsets: "px" of the image, or "nodes", `stride` px each.
            grid: where node (i, j) lies: "aligned", at pixel (stride·i, stride·j); or "half_pixel", stride/2 − 1/2 px
                further down and right, as `align_corners=False` and layers that pad both sides alike have it.
                Half-pixel heads are resampled (bilinear; offsets move along) onto (h + 1) × (w + 1) nodes: the image
                of stride·h × stride·w px ends between the last two, so give `fuse` its size.
            heatmaps: "logits", or "probabilities" in [0, 1].
            stride, graph, num_classes: as in `Heads`.

        Integer labels stay, whatever the grid. Heads that follow our conventions already are used as they are; those in
        another order of channels are copied once (a few megabytes: a view cannot express it); where anything is
        computed, in float32, all heads become float32. The same bits for tensors and arrays. Gradients flow through.

        Raises:
            ValueError, TypeError: as `Heads`; an order that does not name each keypoint or edge once; or, to be
                resampled, tensors on a device for which the package was not built.
        """
        choices = {"components": COMPONENTS, "units": UNITS, "grid": GRIDS, "heatmaps": HEATMAPS}
        for name, value in (("components", components), ("units", units), ("grid", grid), ("heatmaps", heatmaps)):
            if value not in choices[name]:
                raise ValueError(f"{name}: expected one of {choices[name]}, got {value!r}")
        if not isinstance(graph, Graph):
            raise TypeError(f"graph: expected a deeperlab.Graph, got {graph!r}")
        points = positions("keypoints", graph.keypoints, keypoints)
        offsets = offset_channels(points, components)
        heads = cls(
            semantic,
            reorder("heatmap", heatmap, points),
            reorder("short_range", short_range, offsets),
            reorder("middle_range", middle_range, offset_channels(positions("edges", graph.edges, edges), components)),
            reorder("long_range", long_range, offsets),
            stride=stride,
            graph=graph,
            num_classes=num_classes,
        )
        moves = grid == "half_pixel" and heads.stride > 1  # at stride 1 both grids are one
        if not moves and units == "px" and heatmaps == "logits":
            return heads
        made = {name: widen(getattr(heads, name)) for name in NAMES}
        if units == "nodes":
            made |= {name: made[name] * heads.stride for name in _OFFSETS}
        for name in [name for name in NAMES if moves and not (name == "semantic" and heads.has_labels)]:
            made[name] = to_nodes(name, made[name], heads.stride, offsets=name in _OFFSETS)
        if heatmaps == "probabilities":  # between nodes the probability is sampled, as everywhere
            made["heatmap"] = to_logits(made["heatmap"])
        return replace(heads, **made)


def _stride(stride: Any) -> int:
    """Return the stride as an int of Python's, if it is one."""
    stride = stride.tolist() if type(stride).__module__ == "numpy" else stride
    if isinstance(stride, bool) or not isinstance(stride, int):
        raise TypeError(f"stride: expected an int, got {stride!r}")
    if stride < 1:
        raise ValueError(f"stride: expected at least 1, got {stride}")
    return stride
