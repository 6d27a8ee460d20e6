# SPDX-License-Identifier: Apache-2.0
"""A run of the benchmarks as data: what pytest-benchmark writes, and the short form that is kept.

The JSON of pytest-benchmark holds every round and much of the host; the short form (`Run.save`) holds what the tables
and plots need. `read` takes both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARY = ("tensors", "arrays")
"""The contenders that are ours."""
YARDSTICK = "same_answer"
"""The contender that ratios are taken to: it does the same work, in plain C++ on one thread."""

THINGS, SIZE = 50, 1441
"""Curves over pixels hold the things, and curves over things the side of the image."""
Points = list[tuple[int, float]]
"""(pixels or things, ms)."""


@dataclass(frozen=True)
class Figure:
    """One benchmark of one scene; times are of the call, ms.

    Attributes:
        bench: the file without `bench_`; name: the function with its parameters; scene: pytest-benchmark's group.
        contender: the function without `bench_`, bench and role, so "numpy" of `bench_fuse_baseline_numpy`.
        threads: of the contender; 0 where the benchmark does not say.
        info: pytest-benchmark's extra_info, among it size, instances, mixed cells, paper ms.
    """

    bench: str
    name: str
    scene: str
    contender: str
    threads: int
    min: float
    median: float
    rounds: int
    info: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.bench, self.name

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) px."""
        size = self.info["size"]
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def plain(self) -> bool:
        """Raw heads as a network gives them: what the curves over pixels and things are drawn of."""
        return (self.info["stride"], self.info["dtype"]) == (4, "float32")


@dataclass(frozen=True)
class Run:
    """Figures of one machine and commit.

    Attributes:
        other_work: processors that other processes had meanwhile, on average.
        process: as `benchmarks.process` measures it, where it did.
    """

    machine: dict[str, Any]
    commit: str
    date: str
    other_work: float
    figures: tuple[Figure, ...]
    process: dict[str, Any] = field(default_factory=dict)

    @property
    def machine_key(self) -> str:
        """Ratios are comparable where this agrees: wider vectors speed up the engine, not a yardstick of -O2."""
        return ", ".join((self.machine["cpu"], f"{self.machine['cores']} cores", self.machine["simd"]))

    def scenes(self, bench: str) -> dict[str, list[Figure]]:
        """The figures of one bench by scene, in the order of the run."""
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            if figure.bench == bench:
                found.setdefault(figure.scene, []).append(figure)
        return found

    def ratios(self) -> dict[str, dict[str, float]]:
        """By scene and contender: how often the library's time goes into the yardstick's, minimum over minimum."""
        found: dict[str, dict[str, float]] = {}
        for scene, figures in self.scenes("fuse").items():
            yardstick = [figure for figure in figures if figure.contender == YARDSTICK]
            for figure in figures:
                if yardstick and figure.contender in LIBRARY:
                    name = f"{figure.contender}, {plural(figure.threads, 'thread')}"
                    found.setdefault(scene, {})[name] = yardstick[0].min / figure.min
        return found

    def by_pixels(self, contender: str, threads: int = 1, instances: int = THINGS) -> Points:
        """Minima over the pixels of the image, ascending."""
        figures = self._curve(contender, threads)
        return sorted((f.size[0] * f.size[1], f.min) for f in figures if f.info["instances"] == instances)

    def by_things(self, contender: str, threads: int = 1, size: int = SIZE) -> Points:
        """Minima over the things of the scene, ascending."""
        figures = self._curve(contender, threads)
        return sorted((int(f.info["instances"]), f.min) for f in figures if f.size == (size, size))

    def _curve(self, contender: str, threads: int) -> list[Figure]:
        figures = (f for of in self.scenes("fuse").values() for f in of)
        return [f for f in figures if f.plain and (f.contender, f.threads) == (contender, threads)]

    def save(self, folder: Path = RESULTS) -> Path:
        """Writes the short form under the name of its date and commit."""
        path = folder / f"{self.date[:10]}-{self.commit}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def read(path: Path) -> Run:
    """A run, from the JSON of pytest-benchmark or from the short form."""
    data = json.loads(path.read_text())
    if "figures" in data:
        return Run(**(data | {"figures": tuple(Figure(**figure) for figure in data["figures"])}))
    if "benchmarks" not in data:
        raise ValueError(f"{path}: expected a run, with benchmarks or figures, got the keys {sorted(data)}")
    if "deeperlab" not in data["machine_info"]:
        raise ValueError(
            f"{path}: expected machine_info with deeperlab, got none; run pytest with -p benchmarks.machine"
        )
    commit = data["commit_info"]
    return Run(
        machine=data["machine_info"]["deeperlab"],
        commit=str(commit["id"])[:7] + ("-dirty" if commit["dirty"] else ""),
        date=data["datetime"],
        other_work=data["other_work"],
        figures=tuple(_figure(benchmark) for benchmark in data["benchmarks"]),
    )


def _figure(benchmark: dict[str, Any]) -> Figure:
    stats, info = benchmark["stats"], benchmark["extra_info"]
    bench = Path(benchmark["fullname"].split("::")[0]).stem.removeprefix("bench_")
    function = benchmark["name"].split("[")[0]
    params = benchmark["params"] or {}
    return Figure(
        bench=bench,
        name=benchmark["name"],
        scene=benchmark["group"],
        contender=re.sub(rf"^bench_({bench}_)?((baseline|yardstick)_)?", "", function),
        threads=int(info.get("threads") or params.get("threads") or params.get("num_threads") or 0),
        min=1e3 * stats["min"],
        median=1e3 * stats["median"],
        rounds=stats["rounds"],
        info=info,
    )


def merged(runs: Iterable[Run]) -> Run:
    """Of several runs of one machine and commit the quickest of every figure: other work on it only ever adds time."""
    first, *rest = runs
    other_work = max((first.other_work, *(run.other_work for run in rest)))
    best = {figure.key: figure for figure in first.figures}
    for run in rest:
        if (run.machine_key, run.commit) != (first.machine_key, first.commit):
            raise ValueError(
                f"runs: expected one machine and commit, got {first.machine_key} at {first.commit} and "
                f"{run.machine_key} at {run.commit}"
            )
        for figure in run.figures:
            if figure.key not in best or figure.min < best[figure.key].min:
                best[figure.key] = figure
    return replace(first, other_work=other_work, figures=tuple(best.values()))
