# SPDX-License-Identifier: Apache-2.0
"""Which conventions the heads of a file follow: `deeperlab check`."""

from __future__ import annotations

import inspect
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conventions import (
    LEAST,
    SURE,
    Convention,
    are_probabilities,
    conventions,
    foreign_labels,
    slopes_of,
    thing_nodes,
)
from ..graph import Graph
from ..heads import Heads
from .heads_file import HeadsFile

Array = NDArray[Any]

NODES = 4096
"""Nodes of an image that are looked at."""
LESS = 0.1
"""Strides a node by which a convention must drift less than the one given, to be said to fit better."""
FEW = 20
"""Keypoints on the border of the image below which the grid cannot be told."""
CORNERS = {"top_left": (-1, -1), "top_right": (1, -1), "bottom_right": (1, 1), "bottom_left": (-1, 1), "center": (0, 0)}
"""Where keypoints of these names lie, as seen from the middle of them."""


@dataclass(frozen=True)
class Row:
    """How well a convention fits.

    Attributes:
        drift: px by which places drift from one node to the next, by head; a head that no node tells of is absent.
        on_peaks: mean probability of the heatmap where long-range offsets lead.
        outside: share of them that lead out of the image.
    """

    convention: Convention
    drift: Mapping[str, float]
    on_peaks: float
    outside: float

    @property
    def typical_drift(self) -> float:
        """The median over the heads, so that one that is unlike the others does not count."""
        return statistics.median(self.drift.values())


@dataclass
class Report:
    """What is found.

    Attributes:
        nodes: that were looked at.
        rows: of all conventions, the best first.
        given: of that which is given.
        findings: (what, what is found) of everything else.
        advice: options to give to `fuse`, all of them; those of `Heads.from_layout`.
        faults: what no option mends.
        undecided: what cannot be told.
    """

    nodes: int = 0
    rows: list[Row] = field(default_factory=list)
    given: Row | None = None
    findings: list[tuple[str, str]] = field(default_factory=list)
    advice: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Image:
    """One image: its heads as arrays, the nodes of things that lie in some disk, and the heatmaps' sides."""

    heads: Heads
    things: Sequence[int]
    probability: Array  # [P, h, w]
    y: Array
    x: Array

    @classmethod
    def of(cls, heads: Heads, things: Sequence[int], probable: bool) -> _Image:
        heat = heads.heatmap.astype(np.float64)
        probability = heat if probable else 1 / (1 + np.exp(-heat.clip(-50, 50)))
        y, x = cls._nodes(heads, things, np.any(probability > 0.5, axis=0))
        return cls(heads, things, probability, y, x)

    @staticmethod
    def _nodes(heads: Heads, things: Sequence[int], eligible: Array) -> tuple[Array, Array]:
        return thing_nodes(heads.semantic, things, eligible, eligible.shape, NODES, heads.stride)

    def nodes_of(self, k: int, *, alone: bool = False) -> tuple[Array, Array]:
        """Nodes of things in the disks of a keypoint; `alone`: and in no other's."""
        disks = self.probability > 0.5
        return self._nodes(self.heads, self.things, disks[k] & (disks.sum(axis=0) == 1) if alone else disks[k])


def examine(file: HeadsFile, things: Sequence[int], given: Mapping[str, Any]) -> Report:
    """Find the conventions that heads follow; of a semantic head alone there is little to be found.

    Args:
        file: heads as they lie in the file.
        things: the thing classes.
        given: the options of `Heads.from_layout` that the user believes in.
    """
    heads, report = file.heads, Report()
    if not heads.graph.keypoints:
        _classes(report, heads)
        report.advice = unusual(given)
        if heads.stride > 1 and not heads.has_labels:
            report.undecided.append("grid: no keypoint tells; heads resized with align_corners=False are half_pixel")
        return report
    probable = are_probabilities(heads.heatmap)
    images = [_Image.of(part, things, probable) for part in file.parts()]
    report.nodes = sum(len(image.y) for image in images)
    advice = dict(given)
    believed = Convention(given.get("components", "xy"), given.get("units", "px"))
    best = _offsets(report, images, file.size, believed, heads.stride)
    if best is not None:
        advice |= {"components": best.components, "units": best.units}
        for name, order in _orders(report, images, best, heads.graph):
            advice.pop(name, None)
            advice |= {} if order is None else {name: order}
        grid = _grid(report, images, best, file)
        if grid is not None:
            advice["grid"] = grid
    report.findings.append(("heatmap", "probabilities, all in [0, 1]" if probable else "logits"))
    advice["heatmaps"] = "probabilities" if probable else "logits"
    _classes(report, heads)
    report.advice = unusual(advice)
    return report


def unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keep those options of `Heads.from_layout` that are not as it has them by default."""
    usual = inspect.signature(Heads.from_layout).parameters
    return {name: value for name, value in options.items() if value != usual[name].default}


def _offsets(
    report: Report, images: list[_Image], size: tuple[int, int], believed: Convention, stride: int
) -> Convention | None:
    """Fill the rows; return the convention that fits, None where none does."""
    slopes = _slopes(images)
    if not slopes:
        report.undecided.append("offsets: too few nodes lie on things and in disks; are the things right?")
        return None
    for convention in conventions(stride):
        drift = {name: _drift(convention, parts, stride) for name, parts in slopes.items()}
        report.rows.append(Row(convention, drift, *_targets(images, convention, size)))
    report.given = next(row for row in report.rows if row.convention == believed)
    report.rows.sort(key=lambda row: row.typical_drift)
    best = report.rows[0]
    if best.typical_drift > report.given.typical_drift - LESS * stride:
        best = report.given
    if best.typical_drift > SURE * stride:
        report.undecided.append(
            "offsets: those of one object lead to one place by no convention; was the network trained?"
        )
        return None
    for name in slopes:
        own = min(report.rows, key=lambda row: row.drift[name])
        if own.drift[name] < best.drift[name] - LESS * stride and own.drift[name] < SURE * stride:
            report.faults.append(f"{name} follows another convention than the rest ({own.convention}): convert it")
    if best.convention.reversed:
        report.faults.append("offsets are node - keypoint: negate the three heads of offsets")
    return best.convention


def _slopes(images: list[_Image]) -> dict[str, list[Array]]:
    """Head → [channels, 2] of each of its offsets, see `slopes_of`: of the image with most nodes for it."""

    def most(head: str, k: int | None) -> Array | None:
        nodes = [(image.y, image.x) if k is None else image.nodes_of(k) for image in images]
        index = max(range(len(images)), key=lambda i: len(nodes[i][0]), default=None)
        return None if index is None else slopes_of(getattr(images[index].heads, head), *nodes[index])

    if not images:
        return {}
    graph = images[0].heads.graph
    points, sources = range(len(graph.keypoints)), [source for source, _ in graph.edges]
    by_disk = {k: most("short_range", k) for k in points}
    by_source = {k: most("middle_range", k) for k in set(sources)}
    long_range = most("long_range", None)
    found = {
        "long_range": [long_range] * len(points),
        "short_range": [by_disk[k] for k in points],
        "middle_range": [by_source[k] for k in sources],
    }
    return {name: parts for name, parts in found.items() if parts and all(p is not None for p in parts)}  # type: ignore[misc]


def _drift(convention: Convention, parts: list[Array], stride: int) -> float:
    """Of a head, each of whose offsets was measured at nodes of its own."""
    x, y = convention.channels(len(parts))
    own = np.stack([part[[x[i], y[i]]] for i, part in enumerate(parts)])  # [offsets, (x, y), 2]
    pairs = Convention(units=convention.units, reversed=convention.reversed)
    return pairs.drift(own.reshape(-1, 2), stride)


def _places(image: _Image, convention: Convention) -> Array:
    """Where long-range offsets lead, (x, y) px if the grid is aligned: [P, nodes, 2]."""
    stride = image.heads.stride
    x, y = convention.channels(len(image.probability))
    offsets = image.heads.long_range[:, image.y, image.x].astype(np.float64) * convention.unit(stride)
    return np.stack((offsets[x] + stride * image.x, offsets[y] + stride * image.y), axis=-1)


def _targets(images: list[_Image], convention: Convention, size: tuple[int, int]) -> tuple[float, float]:
    """The mean probability where they lead, and the share of them out of the image."""
    on_peaks, outside = [], []
    for image in images:
        places, stride = _places(image, convention), image.heads.stride
        (h, w), (height, width) = image.probability.shape[1:], size
        node = np.rint(places / stride).clip(-1, max(h, w)).astype(int)
        inside = ((node >= 0) & (node < (w, h))).all(axis=-1)
        k = np.broadcast_to(np.arange(len(places))[:, None], inside.shape)[inside]
        found = np.zeros(inside.shape)
        found[inside] = image.probability[k, node[inside][:, 1], node[inside][:, 0]]
        on_peaks.append(found.ravel())
        margin = stride / 2  # of what is within half a node of the border another grid may be to blame
        outside.append(((places < -margin) | (places > np.array([width, height]) - 1 + margin)).any(axis=-1).ravel())
    return float(np.concatenate(on_peaks).mean()), float(np.concatenate(outside).mean())


def _orders(
    report: Report, images: list[_Image], convention: Convention, graph: Graph
) -> Iterator[tuple[str, list[Any] | None]]:
    """The order of keypoints, where their names say where they lie, and that of edges; None: ours."""
    names = list(graph.keypoints)
    if set(names) <= set(CORNERS):
        places = np.concatenate([_places(image, convention) for image in images], axis=1)
        around = np.median(places - places.mean(axis=0), axis=1)  # [P, 2]
        signs = np.where(np.abs(around) < np.abs(around).max(axis=0) / 3, 0, np.sign(around)).astype(int)
        order = [next((name for name in names if CORNERS[name] == tuple(s)), "?") for s in signs.tolist()]
        if sorted(order) != sorted(names):
            report.undecided.append("keypoints: where they lie does not tell them apart")
            return
        report.findings.append(("keypoints", ", ".join(order)))
        yield "keypoints", None if order == names else order
        names = order
    if not graph.edges:
        return
    channel = [names.index(name) for name in graph.keypoints]  # of each keypoint, as given
    residual = _edge_residuals(images, convention, graph, channel)
    if residual is None:
        report.undecided.append("edges: too few nodes of things lie in the disks of one keypoint alone")
        return
    best = residual.argmin(axis=1).tolist()
    if len(set(best)) < len(best):
        report.undecided.append("edges: where middle_range leads does not tell them apart")
        return
    edges = [graph.edges[e] for e in best]
    apart = f"{residual.min(axis=1).mean():.1f} px between middle_range and long_range"
    report.findings.append(("edges", f"{' '.join(f'{a}-{b}' for a, b in edges)}; {apart}"))
    yield "edges", None if edges == list(graph.edges) else edges


def _edge_residuals(images: list[_Image], convention: Convention, graph: Graph, channel: Sequence[int]) -> Array | None:
    """How far given edge e leads from where long_range leads, if it is edge j of the graph: medians [E, E] px."""
    image = max(images, key=lambda image: len(image.y))
    heads = image.heads.middle_range, image.heads.long_range
    middle, long_range = (head.astype(np.float64) for head in heads)
    (x, y), (long_x, long_y) = (convention.channels(len(head) // 2) for head in (middle, long_range))
    residual = np.empty((len(graph.edges),) * 2)
    for j, (source, target) in enumerate(graph.edges):
        rows, columns = image.nodes_of(channel[source], alone=True)
        if len(rows) < LEAST:
            return None
        k = channel[target]
        dx = middle[x][:, rows, columns] - long_range[long_x[k], rows, columns]
        dy = middle[y][:, rows, columns] - long_range[long_y[k], rows, columns]
        residual[:, j] = np.median(np.hypot(dx, dy), axis=1) * abs(convention.unit(image.heads.stride))
    return residual


def _grid(report: Report, images: list[_Image], convention: Convention, file: HeadsFile) -> str | None:
    """Which grid puts the keypoints of objects that the border cuts on the border; None: they do not tell."""
    s, (height, width) = file.heads.stride, file.size
    if s == 1:
        return None
    places = np.concatenate([_places(image, convention).reshape(-1, 2) for image in images])
    counts = {}
    for grid, shift in (("aligned", 0.0), ("half_pixel", (s - 1) / 2)):
        lines = [places + shift, *[places + shift - (np.array([width, height]) - 1)] * file.is_sized]
        counts[grid] = int(sum((np.abs(line) < (s - 1) / 4).sum() for line in lines))
    shares = ", ".join(f"{100 * count / places.size:.1f} % as {grid}" for grid, count in counts.items())
    (_, least), (more, most) = sorted(counts.items(), key=lambda pair: pair[1])
    told = most >= FEW and most >= 2 * least
    report.findings.append(("grid", f"{more if told else 'cannot be told'}; on the border of the image lie {shares}"))
    if not told:
        fault = (
            "too few keypoints lie on the border of the image; heads resized with align_corners=False are half_pixel"
        )
        report.undecided.append(f"grid: {fault}")
    return more if told else None


def _classes(report: Report, heads: Heads) -> None:
    """Labels that are ids."""
    if not heads.has_labels:
        report.findings.append(("semantic", f"logits of {heads.classes} classes"))
        return
    labels = heads.semantic
    foreign = foreign_labels(labels, heads.classes)
    share = 100 * float(((labels < 0) | (labels >= heads.classes)).mean()) if labels.size else 0.0
    report.findings.append(("semantic", f"labels; {share:.1f} % name none of the {heads.classes} classes"))
    if labels.size and labels.min() == 1 and labels.max() == heads.classes:
        report.undecided.append(f"semantic: labels are 1 to {heads.classes}; classes are 0 to {heads.classes - 1}")
    if foreign:
        some = ", ".join(str(label) for label in itertools.islice(foreign, 5))
        report.faults.append(
            f"semantic: labels {some} name none of the {heads.classes} classes; map ids of categories to classes, 0 to "
            f"{heads.classes - 1}, or raise num_classes"
        )
