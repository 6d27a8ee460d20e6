# SPDX-License-Identifier: Apache-2.0
"""The JSON of pytest-benchmark, as these benchmarks fill it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import key_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FUSION = "fuse: "
"""How the groups of the fusion begin."""
Points = list[tuple[int, float]]
"""(pixels or things, ms)."""


@dataclass(frozen=True)
class Figure:
    """The quickest call of one contender in one scene; `info` is pytest-benchmark's extra_info."""

    scene: str
    contender: str
    threads: int
    ms: float
    info: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) px."""
        size = self.info["size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True)
class Run:
    """The benchmarks of one process, of one machine and commit.

    Attributes:
        machine: as `machine.describe` has it.
        command: what was typed.
        other_work: processors that other processes had meanwhile, on average.
        fusion: the figures of the fusion.
        kernels: those of other benchmarks that name their contenders.
        measured: of other benchmarks, what they found beside their time, by name.
    """

    machine: dict[str, Any]
    commit: str
    date: str
    command: str
    other_work: float
    fusion: tuple[Figure, ...]
    kernels: tuple[Figure, ...]
    measured: dict[str, dict[str, Any]]

    def curve(self, contender: str, threads: int, *, over_things: bool) -> Points:
        """Time over the pixels of scenes of 50 things, or over the things of scenes of 1441² px; heads at stride 4."""
        points = []
        for figure in self.fusion:
            (height, width), things = figure.shape, figure.info["instances"]
            alike = (height, width) == (1441, 1441) if over_things else things == 50
            plain = (figure.info["stride"], figure.info["dtype"]) == (4, "float32")
            if alike and plain and (figure.contender, figure.threads) == (contender, threads):
                points.append((things if over_things else height * width, figure.ms))
        return sorted(points)

    def __str__(self) -> str:
        machine = self.machine
        versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "numpy", "python"))
        return (
            f"{self.date[:10]}, commit {self.commit}, `{self.command}`: {key_of(machine)}; {machine['compiler']}, "
            f"{versions}; other work had {self.other_work:.1f} processors meanwhile."
        )


def scenes(figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """By scene, those of few threads first."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure.scene, []).append(figure)
    return {scene: sorted(alike, key=lambda figure: figure.threads) for scene, alike in found.items()}


def read(path: Path) -> Run:
    """Read the JSON that pytest-benchmark wrote of these benchmarks.

    Raises:
        ValueError: the file holds something else.
    """
    data = json.loads(path.read_text())
    if "simd" not in data.get("machine_info", {}) or "command" not in data:
        raise ValueError(f"{path}: expected a run of these benchmarks, got the keys {sorted(data)}")
    figures, measured = [], {}
    for benchmark in data["benchmarks"]:
        info, group = benchmark["extra_info"], str(benchmark["group"])
        if "contender" in info:
            figures.append(Figure(group, info["contender"], info["threads"], 1e3 * benchmark["stats"]["min"], info))
        if "measured" in info:
            measured[benchmark["name"].removeprefix("bench_")] = info["measured"]
    return Run(
        machine=data["machine_info"],
        commit=data["commit_info"]["id"][:7] + "-dirty" * data["commit_info"]["dirty"],
        date=data["datetime"],
        command=data["command"],
        other_work=data["other_work"],
        fusion=tuple(figure for figure in figures if figure.scene.startswith(FUSION)),
        kernels=tuple(figure for figure in figures if not figure.scene.startswith(FUSION)),
        measured=measured,
    )


def newest(folder: Path = RESULTS) -> Path:
    """Find the kept run of the last date."""
    kept = list(folder.glob("**/[0-9]*.json"))
    if not kept:
        raise FileNotFoundError(f"{folder}: expected a kept run, got none; `make bench` makes one")
    return max(kept, key=lambda path: read(path).date)
