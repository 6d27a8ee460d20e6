# SPDX-License-Identifier: Apache-2.0
"""What figures depend on beside the code: the machine, the build, and what else the processors had to do."""

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

import torch

from deeperlab._numpy import simd

QUIET = 0.1
"""Processors that other work may have where figures of several threads are evidence: they wait for the slowest."""


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds that processors have worked: for the machine, and for this process with its finished children."""

    machine: float
    process: float
    clock: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> ProcessorTime:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        ticks = user + nice + system + irq + softirq + steal
        return cls(ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]), time.monotonic())

    def others_since(self, start: ProcessorTime) -> float:
        """Processors that other processes had on average."""
        others = (self.machine - start.machine) - (self.process - start.process)
        return max(0.0, others / (self.clock - start.clock))


def _compiler() -> str:
    """Of the engine that is loaded: the mark that GCC and Clang leave in what they build."""
    engine = importlib.util.find_spec("deeperlab._numpy")
    assert engine is not None
    assert engine.origin is not None
    marks = re.findall(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(engine.origin).read_bytes())
    return str(marks[0].decode()) if marks else "unknown"


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """The machine and the build, without names of hosts; `simd` is the form of the stages that runs."""
    facts = dict(re.findall(r"^(model name)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE))
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "simd": simd(),
        "compiler": _compiler(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "deeperlab")},
    }


def key_of(machine: dict[str, Any]) -> str:
    """Ratios are comparable where this agrees: wider vectors speed up the engine, not a yardstick of -O2."""
    return ", ".join((machine["cpu"], f"{machine['cores']} cores", machine["simd"]))
