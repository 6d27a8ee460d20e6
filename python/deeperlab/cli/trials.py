# SPDX-License-Identifier: Apache-2.0
"""`deeperlab train --check`, `--find-lr` and `--profile`: what is tried before a run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .console import new_table
from .following import Follower
from .streams import plain

if TYPE_CHECKING:
    from ..training import Config


def run_trial(mode: str, console: Console, config: Config, out: Path | None) -> None:
    """Run the trial of an option of the command line."""
    {"--check": _check, "--find-lr": _find_lr, "--profile": _profile}[mode](console, config, out)


def _check(console: Console, config: Config, out: Path | None) -> None:
    from ..training.check import check

    assert out is not None
    with Follower(console, config) as follower:
        found = check(config, out, follower)
    console.print(f"{len(found.losses)} steps: loss {', '.join(f'{loss:.4g}' for loss in found.losses)}")
    speed = config.train.batch / found.seconds
    console.print(
        f"{found.seconds:.2f} s a step, {speed:.3g} images a second; memory at most {found.memory / 2**30:.2f} GiB"
    )
    length = timedelta(seconds=round(found.run_seconds))
    console.print(f"{config.train.steps} steps with their validations would take about {length}")
    for path, name in found.pictures.items():
        console.print(f"look at {plain(path)}: {plain(name)}, and the heads that it asks for", soft_wrap=True)


def _find_lr(console: Console, config: Config, out: Path | None) -> None:
    from ..data.files import replace
    from ..training.find_lr import find_lr

    with Follower(console, config) as follower:
        sweep = find_lr(config, progress=follower)
    table = new_table("*learning rate", "*loss, smoothed")
    for rate, loss in sweep.table():
        table.add_row(f"{rate:.1e}", f"{loss:.4g}")
    console.print(table)
    if sweep.stopped:
        console.print(f"ended: {sweep.stopped}")
    if sweep.suggestion is None:
        console.print("the loss has not fallen: there is nothing to suggest; try --overfit first")
    else:
        console.print(
            f"the loss falls fastest at {sweep.steepest:.1e} and is least at {sweep.least:.1e}: --set "
            f"train.lr={sweep.suggestion:g}"
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture = sweep.png()
        replace(out / "find-lr.png", lambda file: file.write(picture))
        console.print(f"wrote {plain(out / 'find-lr.png')}", soft_wrap=True)


def _profile(console: Console, config: Config, out: Path | None) -> None:
    from ..training.profile import profile

    trace = None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        trace = out / "trace.json"
    with Follower(console, config) as follower:
        found = profile(config, trace=trace, progress=follower)
    table = new_table("part of a step", "*ms", "*%")
    for part, share in found.shares.items():
        table.add_row(part, f"{1000 * share * found.seconds:.1f}", f"{100 * share:.1f}")
    table.add_row("all", f"{1000 * found.seconds:.1f}", "100.0")
    console.print(table)
    console.print(f"{found.images_per_second:.3g} images a second")
    if found.validation is not None:
        seconds, network, fusion = found.validation
        rest = f"network {100 * network:.1f} %, fusion {100 * fusion:.1f} %"
        console.print(f"validation: {1000 * seconds:.0f} ms an image: {rest}, the rest reads and counts")
    if trace is not None:
        console.print(f"wrote {plain(trace)}, for ui.perfetto.dev", soft_wrap=True)
