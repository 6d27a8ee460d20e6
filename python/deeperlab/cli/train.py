# SPDX-License-Identifier: Apache-2.0
"""`deeperlab train`."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .console import counted, new_console, one_line, percent, warnings_in_lines
from .following import Follower
from .interruption import after_the_first
from .streams import complain, plain
from .trials import run_trial

if TYPE_CHECKING:
    from ..training import Config
    from ..training.config_file import Layer
    from ..training.events import Run

EPILOG = """Examples:

deeperlab train --recipe tiny --data scenes --out runs/first

deeperlab train --recipe quick --data /data/cityscapes --out runs/city --set model.weights=mobilenetv2_100.safetensors

deeperlab train --recipe quick --model pspnet_resnet50 --data /data/voc --out runs/psp

deeperlab train --resume runs/city --steps 120000

torchrun --nproc-per-node 8 -m deeperlab train --recipe coco-xception71 --data /data/coco --out runs/coco

Afterwards: deeperlab predict street.jpg --model runs/city/best --out results

docs/training.md has all options, the recipes, and what to do about a bad PQ."""


FINE_TUNE = "fine-tune"
"""The recipe of what goes on from a trained network."""
COLUMNS = 100
"""Of a line of options, but for one that is longer by itself."""


def train(
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Where the options begin: tiny, quick, or a row of the paper, as coco-wider."
        ),
    ] = "",
    data: Annotated[
        str, typer.Option(help="scenes (drawn), a folder of a known format, or a TOML file that lists several.")
    ] = "",
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder of the run; no run may be in it.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run where it was saved, with its own options; --set changes some."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The network, as of deeperlab models --table: model.name.")
    ] = "",
    steps: Annotated[int | None, typer.Option(help="Steps of the optimizer in all: train.steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and samples: train.seed.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="TABLE.KEY=VALUE", help="Any option, as in --set train.batch=4; as often as needed."
        ),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Options in TOML, such as a run's config.toml.")
    ] = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Go on from a trained network, on other classes too: photo16, or a folder such as RUN/best. "
            "Its options and image size are taken, and the recipe fine-tune if no other is given.",
        ),
    ] = "",
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Do not train: truth → PQ, a few steps, samples as pictures in RUN/check, memory and time."
        ),
    ] = False,
    overfit: Annotated[
        int | None, typer.Option(metavar="N", help="Learn the first N images by heart: PQ must come near the ceiling.")
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Do not train: raise the learning rate step by step, and suggest one.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Do not train: tell which part of a step takes how much of the time.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Train N times, RUN/seed0 …; mean and deviation of the PQ.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Run the step again at which a run met NaN or infinity; --set tries a remedy."
        ),
    ] = None,
) -> None:
    """Train a network; RUN/best and RUN/last are what deeperlab predict and from_pretrained take.

    Options come from the recipe, then from --config, then from --data, --steps, --seed and --set; RUN/config.toml holds
    them all, RUN/metrics.jsonl the curves. Ctrl-C and SIGTERM finish the step and save. Exit code 0: done, or stopped
    and saved; 1: a fault, in one line.
    """
    console = new_console()
    console.quiet = os.environ.get("RANK", "0") != "0"  # of the processes that torchrun starts one speaks
    kinds = ValueError, TypeError, OSError, ImportError, ArithmeticError
    with (
        one_line(*kinds, smaller="train.batch or data.crop", code=1),
        warnings_in_lines(),
        _explained(),
        after_the_first(console.quiet),
    ):
        if console.quiet:
            warnings.simplefilter("ignore")  # the first process has the same ones
        given = {
            "--recipe": recipe,
            "--data": data,
            "--out": out,
            "--model": model,
            "--seed": seed,
            "--set": set_,
            "--config": config_file,
            "--from": from_,
        }
        modes = {"--check": check, "--find-lr": find_lr, "--profile": profile, "--seeds": seeds, "--replay": replay}
        _require_one(modes)
        if replay is not None:
            _refuse_beside("--replay", given | {"--resume": resume, "--steps": steps, "--overfit": overfit}, "--set")
            _replay(console, replay, _of_run(replay, _layers("", None, None, None, set_)))
            return
        if resume is not None:
            _refuse_beside("--resume", given | modes | {"--overfit": overfit}, "--set")
            _train(console, _of_run(resume, _layers("", steps, None, None, set_)), resume, resume=True)
            return
        layers = _layers(data, steps, seed, overfit, set_, model)
        if from_ and model:
            raise ValueError(f"--model: expected none beside --from, which brings its network, got {model}")
        if from_:
            recipe = recipe if recipe or config_file else FINE_TUNE
            layers = [_of_network(from_), *layers]
        config = _config(recipe, config_file, layers)
        trial = next((mode for mode in ("--check", "--find-lr", "--profile") if modes[mode]), "")
        _require(config, out, "" if trial in ("--find-lr", "--profile") else trial or "a run")
        if trial:
            _print_config(console, config, "docs/training.md")
            run_trial(trial, console, config, out)
        elif seeds is not None and out is not None:
            _train_seeds(console, config, out, seeds)
        elif out is not None:
            _print_config(console, config)
            _train(console, config, out)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn faults that say themselves what to do into exit code 1."""
    from .._layout import require_torch

    require_torch("deeperlab train")
    from ..training.memory import OutOfMemoryError
    from ..training.slots import SampleError

    try:
        yield
    except (OutOfMemoryError, SampleError) as fault:
        complain(str(fault))
        raise typer.Exit(1) from None


# --- options ----------------------------------------------------------------------------------------------------------


def _layers(
    data: str, steps: int | None, seed: int | None, overfit: int | None, set_: list[str] | None, model: str = ""
) -> list[Layer]:
    from ..training.config_file import Layer, assignment
    from ..training.overfit import settings

    named: dict[str, tuple[str, str | int | None]] = {"--data": ("data.source", data or None)}
    named |= {
        "--model": ("model.name", model or None), "--steps": ("train.steps", steps), "--seed": ("train.seed", seed)
    }  # fmt: skip
    layers = [Layer("--overfit", settings(overfit))] if overfit is not None else []
    layers += [Layer(name, {option: value}) for name, (option, value) in named.items() if value is not None]
    return [*layers, *map(assignment, set_ or ())]


def _config(recipe: str, file: Path | None, layers: Sequence[Layer]) -> Config:
    from ..training.config_file import load

    return load(recipe, file, layers)


def _of_network(source: str) -> Layer:
    from ..training.trained import of_network

    return of_network(source)


def _of_run(run: Path, layers: Sequence[Layer]) -> Config:
    """Return the options of a run, with changes."""
    from ..training.config_file import override, read
    from ..training.run_folder import RunFolder

    folder = RunFolder(run)
    folder.require_run()
    return override(read(folder.config), layers)


def _require_one(modes: dict[str, Any]) -> None:
    given = [name for name, value in modes.items() if _is_given(value)]
    if len(given) > 1:
        raise ValueError(f"{given[1]}: expected none beside {given[0]}")


def _refuse_beside(mode: str, given: dict[str, Any], *allowed: str) -> None:
    for name, value in given.items():
        if _is_given(value) and name not in (mode, *allowed):
            raise ValueError(f"{name}: expected none beside {mode}, which takes the options of its run")


def _is_given(value: Any) -> bool:
    """Whether an option is on the command line; 0 is a value."""
    return value is not None and value is not False and value != "" and value != []


def _require(config: Config, out: Path | None, purpose: str) -> None:
    """Name all that is missing at once."""
    missing = [] if config.data.source else ["--data (scenes, a folder, or a TOML file)"]
    missing += [f"--out (a folder for {purpose})"] if purpose and out is None else []
    if missing:
        raise ValueError(f"expected {' and '.join(missing)}; deeperlab train --help has examples")


def _print_config(console: Console, config: Config, file: str = "RUN/config.toml") -> None:
    """Print the options that are not the defaults, by their tables, and which file has all."""
    from ..training import Config
    from ..training.config_file import flatten

    defaults = flatten(Config())
    tables: dict[str, list[str]] = {}
    for name, value in flatten(config).items():
        table, _, key = name.partition(".")
        if name.startswith("data.scenes.") and config.data.source != "scenes":
            continue  # they do nothing
        if key and (name not in defaults or value != defaults[name]):
            tables.setdefault(table, []).append(f"{key} {_word(value)}")
    console.print(
        f"recipe    {plain(config.recipe or 'none')}; below is what differs from the defaults, {file} has all",
        soft_wrap=True,
    )
    for table, options in tables.items():
        lines = list[str]()
        for option in map(plain, options):
            if lines and len(lines[-1]) + len(option) + 2 <= COLUMNS:
                lines[-1] += f", {option}"
            else:
                lines.append(option)
        console.print(f"{table:8}  " + (",\n" + 10 * " ").join(lines), soft_wrap=True)


def _word(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{' '.join(map(_word, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"


# --- runs -------------------------------------------------------------------------------------------------------------


def _train(console: Console, config: Config, out: Path, *, resume: bool = False) -> None:
    from ..training import train

    with Follower(console, config) as follower:
        run = train(config, out, resume=resume, progress=follower)
    _print_run(console, config, run)


def _train_seeds(console: Console, config: Config, out: Path, count: int) -> None:
    from ..training.events import UNFINISHED
    from ..training.seeds import spread, train_seeds

    def follow(each: Config) -> Follower:
        return Follower(console, each, f"seed {each.train.seed}")

    _print_config(console, config)
    runs = train_seeds(config, out, count, follow)
    done = sum(run.ended not in UNFINISHED for run in runs)
    for name, mean, deviation in spread(runs):
        console.print(f"{name} {percent(mean)} ± {percent(deviation)} % over {counted(done, 'seed')}")
    if any(run.ended in UNFINISHED for run in runs):
        console.print(f"stopped; the same command goes on with {plain(out)}", soft_wrap=True)


def _print_run(console: Console, config: Config, run: Run) -> None:
    """Say how it ended, and what to do next."""
    from ..training.events import UNFINISHED

    reasons = {
        "done": f"done: {run.step} steps",
        "interrupted": f"stopped after step {run.step}, and saved" if run.step else "stopped before the first step",
        "patience": f"ended after step {run.step}: nothing better in {config.train.patience} validations",
        "max_hours": f"ended after step {run.step}: {config.train.max_hours:g} hours are over",
    }
    best = f"; best {run.merit.name} {percent(run.best)} %" if run.merit and not math.isnan(run.best) else ""
    console.print(f"{reasons[run.ended]}{best}", soft_wrap=True)
    folder = plain(run.folder)
    if run.ended in UNFINISHED:
        console.print(f"go on:   deeperlab train --resume {folder}", soft_wrap=True)
    if run.step == 0:
        return
    model = f"{folder}/{'last' if math.isnan(run.best) else 'best'}"
    console.print(f"predict: deeperlab predict IMAGE --model {model} --out results", soft_wrap=True)
    console.print(f"look at: {folder}/page.html", soft_wrap=True)


def _replay(console: Console, run: Path, config: Config) -> None:
    """Run a failed step again; exit code 1 where it fails again."""
    from ..training import replay

    fault = replay(run, config=config)
    if fault is None:
        console.print("with these options every value of the step is finite; --resume takes them, too", soft_wrap=True)
        return
    console.print(
        f"step {fault.step}, part {fault.part}, seed {fault.seed}: first at {plain(fault.layer)}", soft_wrap=True
    )
    console.print(f"images: {plain(', '.join(fault.images))}", soft_wrap=True)
    console.print(", ".join(f"{name} {value:.4g}" for name, value in fault.terms.items()))
    raise typer.Exit(1)
