# SPDX-License-Identifier: Apache-2.0
"""The keypoints of an instance, if any, and the edges between them: the only home of their order."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._layout import sequence

MAX_KEYPOINTS = 32
MAX_EDGES = 256


def _pair(edge: Any) -> tuple[int, int]:
    try:
        source, target = edge
        return operator.index(source), operator.index(target)
    except (TypeError, ValueError):
        raise TypeError(f"edges: expected pairs of keypoint indices, got {edge!r}") from None


@dataclass(frozen=True)
class Graph:
    """Keypoints of an instance and the directed edges that the middle-range offsets follow (section 3.3).

    Args:
        keypoints: P names; channel k of `heatmap` belongs to name k.
        edges: E pairs (source, target) of keypoint indices; channels 2e and 2e + 1 of `middle_range` lead
            from `source` to `target`.

    From a seed the other keypoints are reached by breadth-first search, edges in index order. Any names will do for
    networks, the fusion and files; `deeperlab.targets.KEYPOINTS` says where the keypoints of a ground truth lie.
    Without keypoints, `NO_KEYPOINTS`, there are no instances: things are segmented as stuff is.

    Raises:
        ValueError: a name or edge is repeated or out of range, or a keypoint cannot be reached from another.
    """

    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", tuple(str(name) for name in sequence("keypoints", self.keypoints)))
        object.__setattr__(self, "edges", tuple(_pair(edge) for edge in sequence("edges", self.edges)))
        count = len(self.keypoints)
        if count > MAX_KEYPOINTS:
            raise ValueError(f"keypoints: expected 0 to {MAX_KEYPOINTS} names, got {count}")
        if len(set(self.keypoints)) != count:
            raise ValueError(f"keypoints: expected distinct names, got {self.keypoints}")
        if len(self.edges) > MAX_EDGES:
            raise ValueError(f"edges: expected at most {MAX_EDGES}, got {len(self.edges)}")
        if len(set(self.edges)) != len(self.edges):
            raise ValueError(f"edges: expected distinct pairs, got {self.edges}")
        for edge in self.edges:
            if not all(0 <= end < count for end in edge):
                raise ValueError(f"edges: expected indices in [0, {count}), got {edge}")
        for seed in range(count):
            missing = set(range(count)) - {seed} - {self.edges[e][1] for e in self.path(seed)}
            if missing:
                names = [self.keypoints[k] for k in sorted(missing)]
                raise ValueError(f"edges: {names} cannot be reached from {self.keypoints[seed]!r}")

    def path(self, seed: int) -> tuple[int, ...]:
        """Return the P − 1 edges that lead from keypoint `seed` to all others, in the order they are followed."""
        reached, path = [seed], []
        for source in reached:  # grows while it is read: a queue
            for e, (a, b) in enumerate(self.edges):
                if a == source and b not in reached:
                    reached.append(b)
                    path.append(e)
        return tuple(path)

    def to_config(self) -> str | dict[str, Any]:
        """Return what JSON can hold: the name of a graph of `GRAPHS`, else {"keypoints": names, "edges": pairs}."""
        for name, graph in GRAPHS.items():
            if graph == self:
                return name
        return {"keypoints": list(self.keypoints), "edges": [list(edge) for edge in self.edges]}

    @classmethod
    def from_config(cls, config: Graph | str | Mapping[str, Any]) -> Graph:
        """Make a graph from what `to_config` returns; a graph is returned as it is.

        Raises:
            ValueError, TypeError: another name, other keys, or as `Graph`.
        """
        if isinstance(config, Graph):
            return config
        if isinstance(config, str) and config in GRAPHS:
            return GRAPHS[config]
        if not isinstance(config, Mapping) or config.keys() != {"keypoints", "edges"}:
            raise ValueError(
                f"graph: expected {', '.join(GRAPHS)}, a Graph, or its keypoints and edges, got {config!r}"
            )
        try:
            return cls(config["keypoints"], config["edges"])
        except (ValueError, TypeError) as fault:
            raise type(fault)(f"graph: {fault}") from fault


_CORNERS = ("top_left", "top_right", "bottom_right", "bottom_left")

STAR = Graph(
    keypoints=(*_CORNERS, "center"),
    edges=((4, 0), (4, 1), (4, 2), (4, 3), (0, 4), (1, 4), (2, 4), (3, 4)),
)
"""The paper's graph: four box corners and the mass center, center → corners, then corners → center."""

RECTANGLE = Graph(
    keypoints=_CORNERS,
    edges=((0, 1), (1, 2), (2, 3), (3, 0), (1, 0), (2, 1), (3, 2), (0, 3)),
)
"""The paper's ablation (Table 6): four box corners in a two-way ring, clockwise edges first."""

NO_KEYPOINTS = Graph(keypoints=(), edges=())
"""No instances: of the five heads only the semantic one has channels, see `Heads.of_semantic`."""

GRAPHS = {"star": STAR, "rectangle": RECTANGLE, "none": NO_KEYPOINTS}
"""The paper's graphs by name, and none."""
