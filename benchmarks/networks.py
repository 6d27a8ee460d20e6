# SPDX-License-Identifier: Apache-2.0
"""The paper's tables as one: every network at every size, with the fusion behind it.

    python -m benchmarks.networks [--device cuda] [--models NAME …] [--sizes N …] [--out FOLDER]

A row is a process of its own: a network with random weights and folded batch norms on one image; the fusion of a drawn
scene's heads of that size, for a network without training gives heads like no network's; and both in a `Parser`, end to
end, from the bytes of an image to a map. There the drawn heads take the place of the network's, so that the map, which
is checked, is that of the scene. Large networks on a CPU run once, after a small image that warms them up.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import deeperlab
from deeperlab import Heads, Panoptic, models
from deeperlab.data.labels import LabelSet
from deeperlab.heads import NAMES
from deeperlab.predictor.parser import Parser

from .cases import CLASSES, THINGS, Spec, noisy_heads
from .machine import describe
from .process import with_peak

NETWORKS = ("xception71", "wider_mobilenet_v2", "light_wider_mobilenet_v2")
SIZES = ((257, 257), (513, 513), (641, 641), (721, 721), (1441, 1441), (513, 1025), (1025, 2049))
THINGS_DRAWN = 50
SECONDS = 5.0
"""A call that took longer is not repeated."""
PAPER_FPS = {
    ("xception71", (1441, 1441)): 3,
    ("wider_mobilenet_v2", (1441, 1441)): 6.19,
    ("light_wider_mobilenet_v2", (721, 721)): 22.6,
    ("light_wider_mobilenet_v2", (1441, 1441)): 9.37,
}
"""Abstract and Table 1 of the paper: the network alone, without the merge, on a V100."""


def paper_merge_ms(size: tuple[int, int]) -> int | None:
    from .conftest import PAPER_MS  # which imports what times the fusion

    return PAPER_MS.get(size)


def clock(call: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds: the median of some calls, or of one that is long."""
    times: list[float] = []
    while len(times) < 5 and sum(times) < SECONDS * 1e3:
        before = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


LABELS = LabelSet(
    "benchmark",
    tuple(f"class {i}" for i in range(CLASSES)),
    tuple(i in THINGS for i in range(CLASSES)),
    tuple((i, i, i) for i in range(CLASSES)),
    tuple(range(1, CLASSES + 1)),
)


class Drawn(torch.nn.Module):
    """A network that does its work, and then gives other heads."""

    def __init__(self, network: models.DeeperLab, heads: Heads) -> None:
        super().__init__()
        self.network, self.heads = network, heads
        self.num_classes, self.mean, self.std = network.num_classes, network.mean, network.std

    def forward(self, images: torch.Tensor) -> Heads:
        given: Heads = self.network(images)
        if not all(getattr(heads, name).is_contiguous() for heads in (given, self.heads) for name in NAMES):
            raise RuntimeError("heads: expected both to lie in memory channel by channel")
        return self.heads


def row(name: str, size: tuple[int, int], device: torch.device, things: int = THINGS_DRAWN) -> dict[str, Any]:
    """One network at one size, in this process."""
    network = models.create(name, CLASSES).fold_batch_norm()
    drawn = noisy_heads(Spec(size, things)).map(lambda head: head.to(device))
    parser = Parser(Drawn(network, drawn), LABELS, size=0, device=device)
    image = torch.randint(256, (*size, 3), dtype=torch.uint8)
    inputs = network.normalized(image.to(device).permute(2, 0, 1)[None]).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(inputs[..., :65, :65])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            resting = torch.cuda.memory_allocated()
        network_ms, peak = with_peak(lambda: clock(lambda: network(inputs), device))
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() - resting
    expected = deeperlab.fuse(drawn, THINGS, size=size)
    fusion_ms = clock(lambda: deeperlab.fuse(drawn, THINGS, size=size), device)
    found: list[Panoptic] = []
    parse_ms = clock(lambda: found.append(parser(image)), device)
    for panoptic in found:
        if not torch.equal(panoptic.instance, expected.instance[0]) or int(panoptic.count) < things / 2:
            raise RuntimeError(f"{name} at {size}: expected the map of the drawn scene, got another")
    return {
        "network": name,
        "size": size,
        "network ms": network_ms,
        "fusion ms": fusion_ms,
        "end to end ms": parse_ms,
        "fps": 1e3 / parse_ms,
        "peak MiB": peak / 2**20,
    }


def table(run: dict[str, Any]) -> str:
    """The run as Markdown."""
    lines = [
        f"# Networks and fusion on {run['device']}",
        "",
        f"{run['date']}, `{run['command']}`; torch {run['machine']['torch']}, {run['threads']} threads. Random "
        "weights, 66 classes, float32; the fusion is that of a drawn scene of 50 things; fps are of the whole, from an "
        "image's bytes to its map. Peak memory is what the network needs beyond its weights and its image. The "
        "paper's fps leave its merge out; where a cell is empty, no figure of it is known.",
        "",
        "| network | image | network | fusion | fps | peak memory | the paper's network alone (V100) | … and merge |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in run["rows"]:
        size = tuple(found["size"])
        paper, merge = PAPER_FPS.get((found["network"], size)), paper_merge_ms(size)
        cells = [found["network"], f"{size[0]} × {size[1]}", f"{found['network ms']:,.0f} ms"]
        cells += [f"{found['fusion ms']:.1f} ms", f"{found['fps']:.2f}", f"{found['peak MiB']:,.0f} MiB"]
        cells += [f"{paper} fps" if paper else "", f"{merge} ms" if merge else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--models", nargs="+", default=NETWORKS, choices=models.list_models(), help="(default: three)")
    parser.add_argument("--sizes", nargs="+", help="HxW or one side (default: those of the paper)")
    parser.add_argument("--out", type=Path, help="folder for networks-DATE[-cuda].json and .md (default: printed only)")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    sizes = [_size(text) for text in options.sizes] if options.sizes else list(SIZES)
    if options.row:
        print(json.dumps(row(options.models[0], sizes[0], device)))
        return
    run: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else describe()["cpu"],
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python -m benchmarks.networks", *(arguments if arguments is not None else sys.argv[1:])]),
        "machine": describe(),
        "threads": torch.get_num_threads(),
        "rows": [],
    }
    for name in options.models:
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.networks", "--row", "--device", options.device]
            command += ["--models", name, "--sizes", f"{size[0]}x{size[1]}"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            if done.returncode != 0:
                sys.exit(f"{name} at {size}: {done.stderr}")
            run["rows"].append(json.loads(done.stdout.splitlines()[-1]))
            print(table(run).splitlines()[-1], flush=True)
    print(f"\n{table(run)}")
    if options.out is not None:
        stem = options.out / f"networks-{run['date']}{'-cuda' if device.type == 'cuda' else ''}"
        stem.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
        stem.with_suffix(".md").write_text(table(run))


def _size(text: str) -> tuple[int, int]:
    parts = [int(part) for part in text.split("x")]
    return (parts[0], parts[-1])


if __name__ == "__main__":
    main()
