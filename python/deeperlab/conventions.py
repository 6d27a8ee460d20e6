# SPDX-License-Identifier: Apache-2.0
"""Which conventions heads follow, told from the heads themselves.

Within an instance a long-range offset, keypoint − node, changes by −stride px from one node to the next: where it leads
stays. Read by a wrong convention, that place drifts from node to node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layout import COMPONENTS, UNITS, offset_channels
from .heads import Heads

Array = NDArray[Any]

GLANCE, CLOSE = (40, 160), (4096, 4096)
"""Sides of the lattice of nodes that `contradiction` looks at, and the most nodes that it takes of it: what takes
.2 ms, and what misses nothing."""
LEAST = 12
"""Nodes without which nothing is said."""
SURE, WRONG = 0.2, 0.2
"""Of drifts, in strides a node: the most of a convention that is right, and by how much one that is not has more."""
VOID = (255, 65535)
"""Labels that stand for void where they name no class, as the greatest of their type does."""


class HeadsWarning(UserWarning):
    """Heads that contradict the conventions of `Heads`, so that no map of them can be right."""


@dataclass(frozen=True)
class Convention:
    """How offsets may be meant.

    Attributes:
        components, units: as in `Heads.from_layout`.
        reversed: node − keypoint.
    """

    components: str = "xy"
    units: str = "px"
    reversed: bool = False

    def channels(self, offsets: int) -> tuple[Array, Array]:
        """Return the channels of x and of y of so many offsets."""
        return _channels(self.components, offsets)

    def unit(self, stride: int) -> int:
        """Return by what an offset is multiplied, to be keypoint − node in px."""
        return (stride if self.units == "nodes" else 1) * (-1 if self.reversed else 1)

    def drift(self, slopes: Array, stride: int) -> float:
        """Return the px by which places drift from node to node, on average over the channels; see `slopes_of`."""
        x, y = self.channels(len(slopes) // 2)
        moved = self.unit(stride) * np.stack((slopes[x], slopes[y, ::-1])) + np.array([stride, 0])
        return float(np.abs(moved).mean())

    def __str__(self) -> str:
        """What stands beside the defaults, as options."""
        changed = [f"components='{self.components}'"] * (self.components != "xy")
        changed += [f"units='{self.units}'"] * (self.units != "px")
        return " and ".join([*changed, *["the offsets negated"] * self.reversed])


@cache
def _channels(components: str, offsets: int) -> tuple[Array, Array]:
    x, y = np.reshape(offset_channels(list(range(offsets)), components), (-1, 2)).T
    return x, y


def conventions(stride: int) -> list[Convention]:
    """List all of them, ours first; at stride 1 the units are one."""
    units = UNITS if stride > 1 else UNITS[:1]
    return [Convention(*parts) for parts in product(COMPONENTS, units, (False, True))]


def contradiction(heads: Heads, things: Iterable[int], *, found: Any = None, close: bool = False) -> str | None:
    """Say what is wrong with heads beyond doubt, in one line; None: nothing that a look at the first image shows.

    Args:
        heads: arrays or tensors, on the CPU.
        things: the thing classes.
        found: the class of each pixel [N, H, W], if it is known: to look there is faster.
        close: look at all nodes; else a glance.
    """
    side, most = CLOSE if close else GLANCE
    if 0 in heads.heatmap.shape[:-2]:
        return None
    semantic, heatmap, long_range = (
        view_of(head[0] if heads.batched else head) for head in (heads.semantic, heads.heatmap, heads.long_range)
    )
    if heads.has_labels and (foreign := foreign_labels(lattice(semantic, side), heads.classes)):
        return (
            f"semantic: expected labels in [0, {heads.classes}), or one for void, got {_some(foreign)}; if they are "
            "ids of categories, map each to its class, 0 to C - 1"
        )
    heat = floats(np.ascontiguousarray(lattice(heatmap, side)))
    if are_probabilities(heat):
        return (
            "heatmap: expected logits, got values in [0, 1]; if they are probabilities, give heatmaps='probabilities'"
        )
    classes = semantic if found is None else view_of(found[0])
    y, x = thing_nodes(classes, things, np.any(heat > 0, axis=0), heatmap.shape[-2:], most, heads.stride)
    slopes = slopes_of(long_range, y, x)
    if slopes is None or (drift := Convention().drift(slopes, heads.stride)) < WRONG * heads.stride:
        return None
    least, best = min(((c.drift(slopes, heads.stride), c) for c in conventions(heads.stride)), key=lambda pair: pair[0])
    if not least < min(SURE * heads.stride, drift - WRONG * heads.stride):
        return None
    return (
        f"long_range: expected the offsets of an instance to lead to one place, got places that drift by {drift:.1f} "
        f"px a node; with {best} it is {least:.1f} px, see Heads.from_layout and deeperlab check"
    )


def foreign_labels(labels: Array, classes: int) -> list[int]:
    """Return the labels that name no class, where they are more than two: one or two may be anybody's void."""
    found = np.unique(labels[labels >= classes])
    found = found[~np.isin(found, (*VOID, np.iinfo(labels.dtype).max))]
    return [] if len(found) < 3 else found.tolist()


def are_probabilities(heat: Array) -> bool:
    """Whether values of heatmaps are all in [0, 1], and not all one; logits are below 0 almost everywhere."""
    if not heat.size or not (low := heat.min()) >= 0:
        return False
    return bool(low < (high := heat.max()) and high <= 1)


def thing_nodes(
    semantic: Array, things: Iterable[int], eligible: Array, grid: Sequence[int], most: int, stride: int
) -> tuple[Array, Array]:
    """Choose nodes (y, x) of things, not of the last row or column.

    Args:
        semantic: logits [C, h, w], or labels [H, W]; see `view_of`.
        things: the thing classes.
        eligible: bool, of the nodes of a lattice, see `lattice`.
        grid: (h, w).
        most: nodes.
        stride: px between nodes.
    """
    h, w = grid
    y, x = np.nonzero(eligible)
    y, x = y * -(-h // eligible.shape[0]), x * -(-w // eligible.shape[1])
    inside = (y < h - 1) & (x < w - 1)
    y, x = y[inside], x[inside]
    some = slice(None, None, max(1, -(-len(y) // most)))
    y, x = y[some], x[some]
    if semantic.ndim == 2:
        height, width = semantic.shape
        label = semantic[np.minimum(y * stride, height - 1), np.minimum(x * stride, width - 1)]
    else:
        label = floats(semantic[:, y, x]).argmax(axis=0)
    is_thing = np.zeros(1 << 16, np.bool_)
    is_thing[list(things)] = True
    thing = is_thing[label]
    return y[thing], x[thing]


def slopes_of(offsets: Array, y: Array, x: Array) -> Array | None:
    """Measure how each channel changes from a node to its neighbor on the right and below: the medians [channels, 2].

    Args:
        offsets: [channels, h, w]; see `view_of`.
        y, x: nodes, not of the last row or column; None is returned where they are too few.
    """
    if len(y) < LEAST:
        return None
    n = len(y)
    rows, columns = np.concatenate((y, y, y + 1)), np.concatenate((x, x + 1, x))
    values = floats(offsets[:, rows, columns]).astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        steps = np.stack((values[:, n : 2 * n], values[:, 2 * n :]), axis=1) - values[:, None, :n]
    return np.sort(steps, axis=2)[:, :, n // 2].astype(np.float64)


def lattice(head: Array, most: int) -> Array:
    """Take of [..., h, w] every so many rows and columns, at most so many of each."""
    h, w = head.shape[-2:]
    return head[..., :: max(1, -(-h // most)), :: max(1, -(-w // most))]


def view_of(head: Any) -> Array:
    """View a tensor on the CPU as an array; bfloat16, which NumPy lacks, by its bits: uint16, see `floats`.

    Nothing is computed: that would take longer than the glance, and for ever in a process that was forked.
    """
    if isinstance(head, np.ndarray):
        return head
    if str(head.dtype) != "torch.bfloat16":
        return head.numpy(force=True)  # type: ignore[no-any-return]
    import torch

    return head.detach().resolve_neg().view(torch.uint16).numpy()  # type: ignore[no-any-return]


def floats(values: Array) -> Array:
    """Return what was taken of a view as numbers: bfloat16 is the upper half of float32."""
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


def _some(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:3])) + (", …" if len(values) > 3 else "")
