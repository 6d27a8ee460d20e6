# SPDX-License-Identifier: Apache-2.0
"""What a figure depends on beside the code: the machine and the versions, without names of hosts.

As a plugin of pytest (`-p benchmarks.machine`) it puts them into the JSON of the run, for they belong to the moment of
the measurement, not to that of the report.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deeperlab._numpy import simd


@dataclass(frozen=True)
class Work:
    """Seconds of processors since some start: of the whole machine, and of this process with its finished children."""

    machine: float
    own: float
    time: float

    @classmethod
    def so_far(cls, stat: Path = Path("/proc/stat")) -> Work:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        return cls(ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]), time.monotonic())

    def of_others(self, start: Work) -> float:
        """Processors that other work had on average since then: beyond a tenth, figures of several threads suffer."""
        return max(0.0, (self.machine - start.machine - self.own + start.own) / (self.time - start.time))


_START = Work.so_far()


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """One flat record; `simd` is the form of the stages that this process runs."""
    facts = dict(re.findall(r"^(model name)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE))
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "simd": simd(),
        "compiler": _compiler(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "deeperlab")},
    }


def _compiler() -> str:
    """Of the engine that is loaded: the mark that GCC and Clang leave in what they build."""
    engine = importlib.util.find_spec("deeperlab._numpy")
    if engine is None or engine.origin is None:
        raise ModuleNotFoundError("deeperlab._numpy: expected the built engine, got none; `make bench` builds it")
    marks = re.findall(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(engine.origin).read_bytes())
    return str(marks[0].decode()) if marks else "unknown"


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Adds the record to the JSON, and takes out the name of the host."""
    machine_info.pop("node", None)
    machine_info["deeperlab"] = describe()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Adds how much else the machine had to do."""
    output_json["other_work"] = round(Work.so_far().of_others(_START), 2)
