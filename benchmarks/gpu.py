# SPDX-License-Identifier: Apache-2.0
"""Times the fusion on a GPU: eagerly, from a CUDA graph, in batches, beside PyTorch on the same GPU. Writes JSON and
Markdown. `--device cpu` rehearses the script without a GPU, and its figures say so.

Every figure is a median over rounds. A round is timed by CUDA events and takes another one of several sets of inputs,
so that no cache holds what it reads. The answer of each scene is compared with the CPU's, bit for bit, before it is
timed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

import deeperlab
from deeperlab import Heads, Panoptic
from deeperlab.heads import NAMES

from .cases import THINGS, Spec, noisy_heads
from .machine import describe
from .yardsticks import expert, panoptic_deeplab

FLUSHED = 400 << 20
"""Bytes that the sets of inputs have together at least: many times the second-level cache."""
Call = Callable[[Heads], Any]


def fuse(heads: Heads) -> Panoptic:
    return deeperlab.fuse(heads, THINGS)


def batch_of(heads: Heads, images: int) -> Heads:
    return heads.map(lambda head: head.repeat(images, 1, 1, 1))


def bytes_of(tensors: Sequence[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def heads_bytes(heads: Heads) -> int:
    return bytes_of([getattr(heads, name) for name in NAMES])


def input_sets(heads: Heads) -> list[Heads]:
    """The same heads at several places, each with an own spot of noise."""
    count = min(16, max(2, -(-FLUSHED // heads_bytes(heads))))
    sets = []
    for i in range(count):
        copy = heads.map(torch.Tensor.clone)
        copy.heatmap[..., :1, :1] += i
        sets.append(copy)
    return sets


def assert_same(got: Panoptic, want: Panoptic) -> None:
    for field in fields(want):
        if field.name != "things":
            left, right = getattr(got, field.name).cpu(), getattr(want, field.name).cpu()
            if not torch.equal(left, right):
                raise AssertionError(f"{field.name}: the GPU does not give what the CPU gives")


class Clock:
    """Milliseconds of a call: by events on a GPU, by the processor's clock in a rehearsal."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def time(self, call: Call, sets: Sequence[Heads], rounds: int) -> float:
        times = []
        for heads in sets[:2]:
            call(heads)
        for i in range(rounds):
            heads = sets[i % len(sets)]
            if self.cuda:
                event: Any = torch.cuda.Event  # torch leaves it untyped
                start, end = event(enable_timing=True), event(enable_timing=True)
                torch.cuda.synchronize()
                sleep: Any = torch.cuda._sleep
                sleep(2_000_000)  # the queue is full before the clock starts: launching is not timed
                start.record()
                kept = call(heads)
                end.record()
                torch.cuda.synchronize()
                times.append(float(start.elapsed_time(end)))
            else:
                before = time.perf_counter()
                kept = call(heads)
                times.append((time.perf_counter() - before) * 1e3)
            del kept
        return statistics.median(times)

    def graph(self, sets: Sequence[Heads], rounds: int) -> float | None:
        """Replays of a graph for each set; None where there are no graphs."""
        if not self.cuda:
            return None
        graphs = []
        for heads in sets[:4]:
            fuse(heads)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = fuse(heads)
            graphs.append((graph, result))
        place = {id(heads): graph for heads, (graph, _) in zip(sets, graphs, strict=False)}
        return self.time(lambda heads: place[id(heads)].replay(), sets[:4], rounds)


def copy_bandwidth(device: torch.device, clock: Clock) -> float:
    """Bytes read and written a second by a copy of much memory."""
    block = torch.empty((2 << 30) if device.type == "cuda" else (64 << 20), dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    ms = clock.time(lambda _: target.copy_(block), [None] * 2, 20)  # type: ignore[list-item]
    return 2 * block.numel() / ms * 1e3


def cases(*, small: bool) -> list[tuple[Spec, int]]:
    """Scenes and batch sizes."""
    if small:
        return [(Spec(161, 5), 1), (Spec(161, 5), 4), (Spec(161, 5, stride=1), 1)]
    return [
        *((Spec(size, 50), 1) for size in (721, 1441, 2881)),
        *((Spec(1441, n), 1) for n in (1, 5, 200, 500)),
        *((Spec(1441, 50), images) for images in (4, 16)),
        *((Spec(size, 50, stride=1), 1) for size in (721, 1441)),
    ]


def measure(spec: Spec, images: int, device: torch.device, clock: Clock, rounds: int) -> dict[str, Any]:
    one = noisy_heads(spec)
    here = one.map(lambda head: head.to(device))
    want = fuse(one)
    many = batch_of(here, images)
    got = fuse(many)
    for i in range(images):
        assert_same(got[i], want[0])
    sets = input_sets(many)
    result = {
        "scene": str(spec),
        "images": images,
        "found": int(want.count[0]),
        "eager ms": clock.time(fuse, sets, rounds),
        "graph ms": clock.graph(sets, rounds),
        "bytes": heads_bytes(many) + bytes_of([getattr(got, f.name) for f in fields(got) if f.name != "things"]),
    }
    if images == 1:
        few = max(3, rounds // 20)
        result["expert ms"] = clock.time(lambda heads: expert.fuse(heads, THINGS), sets[:2], few)
        result["Panoptic-DeepLab ms"] = clock.time(lambda heads: panoptic_deeplab.group(heads, THINGS), sets[:2], few)
    return result


def table(run: dict[str, Any]) -> str:
    """The run as Markdown."""
    bandwidth = run["copy bytes/s"]
    lines = [
        f"# The fusion on {run['device']}",
        "",
        f"{run['date']}, `{run['command']}`; torch {run['machine']['torch']}, deeperlab {run['machine']['deeperlab']}. "
        f"A copy moves {bandwidth / 1e9:,.0f} GB/s. Answers equal those of the CPU, bit for bit.",
        "",
        "| scene | batch | eager | graph | an image | of a copy | expert's PyTorch | Panoptic-DeepLab's grouping |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in run["rows"]:
        best = min(ms for ms in (row["eager ms"], row["graph ms"]) if ms is not None)
        share = row["bytes"] / (best * 1e-3) / bandwidth
        cells = [row["scene"], row["images"], _ms(row["eager ms"]), _ms(row["graph ms"]), _ms(best / row["images"])]
        cells += [f"{share:.0%}", _ms(row.get("expert ms")), _ms(row.get("Panoptic-DeepLab ms"))]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1e3:,.0f} µs" if value < 1 else f"{value:,.2f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal (default: cuda)")
    parser.add_argument("--small", action="store_true", help="small scenes: does everything work?")
    parser.add_argument("--rounds", type=int, default=200, help="of each figure (default: 200)")
    parser.add_argument("--out", type=Path, help="folder for gpu-DATE.json and .md (default: printed only)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    clock = Clock(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU (a rehearsal, no GPU)"
    run: dict[str, Any] = {
        "device": name,
        "date": datetime.date.today().isoformat(),
        "command": "python -m benchmarks.gpu" + (" --small" if options.small else "") + f" --rounds {options.rounds}",
        "machine": describe(),
        "copy bytes/s": copy_bandwidth(device, clock),
        "rows": [],
    }
    for spec, images in cases(small=options.small):
        run["rows"].append(measure(spec, images, device, clock, options.rounds))
        print(table(run).splitlines()[-1], flush=True)
    print(f"\n{table(run)}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        stem = options.out / f"gpu-{run['date']}"
        stem.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
        stem.with_suffix(".md").write_text(table(run))


if __name__ == "__main__":
    main()
