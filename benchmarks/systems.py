# SPDX-License-Identifier: Apache-2.0
"""Writes docs/systems.md: all networks side by side, counted, measured and drawn, each from itself.

    python -m benchmarks.systems [--time]

With --time the milliseconds are measured first, the least of a few passes over one image, all networks in one run that
is to be beside no other work, and kept in benchmarks/results/systems-time.json: compare them with one another, not with
those of another day. Either takes some five minutes on two cores, and 6 GB of memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import systems_quality
from deeperlab import models
from deeperlab.visualize.composition import COLORS, draw_composition

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "docs" / "systems.md", ROOT / "docs" / "systems"
TIMES_KEPT = ROOT / "benchmarks" / "results" / "systems-time.json"
CLASSES, TIMED, PASSES = 21, 257, 3
COUNTED = 513
"""px of the side of the images that are timed and counted."""
HEAD = """# The systems, side by side

DeeperLab grew from a line of networks, and stands against others. Here they are made of the same parts, a backbone, a
context, a decoder and heads, and take the same data, metrics and commands:

```sh
deeperlab train --recipe quick --model fcn8s --data /data/voc --out runs/fcn8s
```

All but the paper's have a semantic head alone and find no instances; `--set model.options.graph=star` gives any of them
the five heads. [models.md](models.md#other-systems) has their options and weights; `deeperlab models --table` prints
them in the terminal.

{table}

{classes} classes. Multiply-adds are those of convolutions at {counted}². The receptive field is that of an output,
along the longest path, with the interpolation between nodes (∞: a part of the network pools the whole image; what the
others see follows).{times}{quality} Published figures are the authors', on their data, or torchvision's; "–": none
that could be checked.

{missing}## What they are made of

Each bar is a convolution, from left to right in the order in which they are computed: as high as its channels are many
(by the logarithm), as low as its grid is coarse, in the color of its part: {colors}. All of it is drawn from the
networks themselves, by `make systems`.
"""


TIMES = """ Milliseconds: one image of {timed} × {timed} px, float32, {threads} threads of a CPU with {cpu},
the least of {passes} passes, all in one run of {date}."""
QUALITY = """ mIoU: per cent on unseen images, after {steps} steps of {batch} crops of {crop} px from random weights,
seed {seed}, AdamW, the semantic head alone (`benchmarks.systems_quality`): so short a training tells how fast a
network begins to learn, not what it can. Photographs are of {width} px, in 16 classes, of which
it finds little more than sky, ground and people."""
KINDS = {"scenes": "mIoU, drawn scenes", "photographs": "mIoU, photographs"}


def folded(name: str) -> models.Network:
    """A network as users run it, of random weights."""
    torch.manual_seed(0)
    model = models.create(name, CLASSES)
    model.mark_untrained()
    return model.fold_batch_norm()


def milliseconds(model: models.Network) -> float:
    """The least time of a pass over an image."""
    image = torch.randn(1, model.in_channels, TIMED, TIMED).to(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    times = []
    with torch.inference_mode():
        for _ in range(PASSES + 1):
            start = time.perf_counter()
            (semantic, *_) = model.raw(image)
            times.append(time.perf_counter() - start)
    assert semantic.shape == (1, CLASSES, *[-(-TIMED // model.stride)] * 2)
    return 1e3 * min(times[1:])


def measure() -> None:
    """Time all networks, and keep it."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(), "ms": {},
    }  # fmt: skip
    for name in models.list_models():
        found["ms"][name] = round(milliseconds(folded(name)))
        print(name, found["ms"][name], "ms", flush=True)
    TIMES_KEPT.write_text(json.dumps(found, indent=1) + "\n")


def row(name: str, *, times: dict[str, float], qualities: list[dict[str, dict[str, float]]]) -> tuple[str, str]:
    """Count a network: its line of the table, and its picture."""
    fact = models.FACTS[name]
    model = folded(name)
    seen = models.receptive_field(model, multiple=32)
    layers = models.convolutions(model, COUNTED)
    cells = (
        f"[`{name}`](#{name})", str(fact.year), fact.idea, f"{models.parameters(models.create(name, CLASSES)):,}",
        f"{sum(layer.multiply_adds for layer in layers) / 1e9:.1f}",
        f"∞ ({seen.size})" if seen.is_global else str(seen.size), str(model.stride),
        *([f"{times[name]}" if name in times else "–"] if times else []),
        *(f"{100 * found[name]['miou']:.1f}" if name in found else "–" for found in qualities), fact.published,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |", draw_composition(name, layers)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", action="store_true")
    if parser.parse_args().time:
        measure()
    timed: dict[str, Any] = json.loads(TIMES_KEPT.read_text()) if TIMES_KEPT.exists() else {}
    kept = systems_quality.kept()["quality"]
    qualities = [kept[kind] for kind in KINDS if kind in kept]
    columns = (
        "network", "year", "idea", "parameters", "10⁹ multiply-adds", "receptive field, px", "stride",
        *(["ms"] if timed else []), *(title for kind, title in KINDS.items() if kind in kept), "published",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    pictures = []
    PICTURES.mkdir(exist_ok=True)
    for name in sorted(models.list_models(), key=lambda name: models.FACTS[name].year):
        line, picture = row(name, times=timed.get("ms", {}), qualities=qualities)
        print(line, flush=True)
        lines.append(line)
        (PICTURES / f"{name}.svg").write_text(picture)
        pictures.append(f"### {name}\n\n{models.FACTS[name].source}\n\n![{name}](systems/{name}.svg)\n")
    times = TIMES.format(**timed, timed=TIMED, passes=PASSES) if timed else ""
    quality = QUALITY.format(
        steps=systems_quality.STEPS,
        batch=systems_quality.BATCH,
        crop=systems_quality.CROP,
        seed=systems_quality.SEED,
        width=systems_quality.WIDTH,
    )
    wanting = {
        kind: [name for name in models.list_models() if name not in kept[kind]] for kind in KINDS if kind in kept
    }
    missing = "".join(
        sentence + "\n\n"
        for sentence, is_missing in (
            ("Their times on one machine are not measured yet.", not timed),
            ("Their quality after the same short training is not measured yet.", not qualities),
            *((f"Not trained yet on {kind}: {', '.join(names)}.", bool(names)) for kind, names in wanting.items()),
            ("On photographs none is trained yet.", bool(qualities) and "photographs" not in kept),
        )
        if is_missing
    )
    head = HEAD.format(
        table="\n".join(lines), classes=CLASSES, counted=COUNTED, colors=", ".join(COLORS), times=times,
        quality=quality if qualities else "", missing=missing,
    )  # fmt: skip
    PAGE.write_text(head + "\n" + "\n".join(pictures))


if __name__ == "__main__":
    main()
