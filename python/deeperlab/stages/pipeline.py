# SPDX-License-Identifier: Apache-2.0
"""The nine stages one after another, on any backend, with everything that lies between them.

This is the order of the stages in Python; `fuse` in C++ runs the same ones in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .._schema import OPERATORS
from ..graph import Graph
from ..heads import NAMES as HEADS
from ..heads import Heads
from ..panoptic import Panoptic
from ..params import FuseParams

STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "argmax": (("semantic",), ("node_label", "label")),
    "refine": (("long_range", "short_range"), ("target",)),
    "vote": (("heatmap", "short_range", "target", "node_label"), ("votes",)),
    "peaks": (("votes",), ("candidate", "position", "candidates", "more_peaks")),
    "trace": (("position", "candidate", "candidates", "middle_range", "short_range"), ("hypothesis",)),
    "rescore": (("hypothesis", "candidates", "votes", "heatmap"), ("keypoint_score", "candidate_score")),
    "select": (
        ("candidate", "candidates", "hypothesis", "keypoint_score", "candidate_score"),
        ("keypoints", "score", "count", "more_instances"),
    ),
    "assign": (
        ("target", "node_label", "label", "keypoints", "count"),
        ("node_instance", "node_distance", "instance"),
    ),
    "merge": (
        ("label", "instance", "node_label", "node_instance", "node_distance", "keypoints", "count"),
        ("semantic", "category", "area", "class_area"),
    ),
}
"""Stage → the values that it reads and those that it makes, in the order of its arguments and results."""

NAMES = tuple(STAGES)


@dataclass(frozen=True)
class Problem:
    """What a fusion is about, beside its arrays.

    Attributes:
        things: the thing classes.
        num_classes: C.
        graph: keypoints and edges.
        stride: px between nodes.
        nodes: (h, w).
        size: (H, W) of the image in px.
        params: the parameters.
    """

    things: tuple[int, ...]
    num_classes: int
    graph: Graph
    stride: int
    nodes: tuple[int, int]
    size: tuple[int, int]
    params: FuseParams

    @classmethod
    def of(cls, heads: Heads, things: Sequence[int], size: tuple[int, int], params: FuseParams) -> Problem:
        """Return the problem of some heads."""
        nodes = heads.heatmap.shape[-2:]
        return cls(tuple(things), heads.classes, heads.graph, heads.stride, (nodes[0], nodes[1]), size, params)

    def options(self, operator: str) -> dict[str, Any]:
        """Return what an operator takes by keyword."""
        known = {
            "things": list(self.things),
            "num_classes": self.num_classes,
            "edges": [end for edge in self.graph.edges for end in edge],
            "stride": self.stride,
            "nodes": self.nodes,
            "size": self.size,
            **self.params.options(len(self.graph.keypoints)),
        }
        return {name: known[name] for name in OPERATORS[operator].options}


def run_stage(backend: Any, name: str, values: Mapping[str, Any], problem: Problem, **options: Any) -> dict[str, Any]:
    """Run one stage and return what it makes, by name.

    Args:
        backend: has a function for each stage: `stages.reference`, `stages.numpy_ops`, `stages.torch_ops`, or the like.
        name: the stage.
        values: those that it reads, see `STAGES`, with a batch dimension; others are left alone.
        problem: gives its options.
        options: more of them, such as `num_threads`.
    """
    reads, makes = STAGES[name]
    made = getattr(backend, name)(*(values[value] for value in reads), **problem.options(name), **options)
    return dict(zip(makes, made if len(makes) > 1 else (made,), strict=True))


def run(
    backend: Any,
    heads: Heads,
    things: Sequence[int],
    size: tuple[int, int],
    params: FuseParams,
    *,
    stages: Sequence[str] = NAMES,
    given: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run the stages on a batch of heads and return every value that they read or make, by name.

    Args:
        backend: see `run_stage`.
        heads: [N, …], in the kind of array that the backend takes.
        things: the thing classes.
        size: (H, W) in px.
        params: the parameters.
        stages: those that run, in order.
        given: values that no stage makes because it does not run.
        options: of every stage, such as `num_threads`.
    """
    problem = Problem.of(heads, things, size, params)
    values = {**{name: getattr(heads, name) for name in HEADS}, **(given or {})}
    for name in stages:
        values |= run_stage(backend, name, values, problem, **options)
    return values


def fuse(backend: Any, heads: Heads, things: Sequence[int], size: tuple[int, int], params: FuseParams) -> Panoptic:
    """Return what `deeperlab.fuse` gives for a batch of heads, stage by stage on a backend."""
    values = run(backend, heads, things, size, params)
    values["truncated"] = values["more_peaks"] | values["more_instances"]
    names = (field.name for field in fields(Panoptic) if field.name != "things")
    return Panoptic(**{name: values[name] for name in names}, things=tuple(things))
