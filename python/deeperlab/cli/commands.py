# SPDX-License-Identifier: Apache-2.0
"""All commands; importing this needs typer, rich and Pillow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated

import PIL  # noqa: F401 - every command reads or writes pictures
import typer

from . import check, demo, doctor, eval, fuse, models, oracle, predict, tables, train, tune
from .arguments import Command

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="DeeperLab's fusion: five raw heads of a network in, a panoptic map out.",
)


def _add(command: Callable[..., None], examples: str | None = None) -> None:
    """Add a command; its docstring is broken where the terminal ends, not where the line of the source does."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(cls=Command, help=text, epilog=examples)(command)


_add(demo.demo, "Example: deeperlab demo --size 1441 --things 50 --noise 3")
_add(oracle.oracle, "Example: deeperlab oracle panoptic_val2017.json --gt-dir panoptic_val2017 --json ceiling.json")
_add(
    eval.eval, "Example: deeperlab eval panoptic_val2017.json results.json --gt-dir panoptic_val2017 --pred-dir results"
)
_add(fuse.fuse, fuse.EPILOG)
_add(check.check, "Example: deeperlab check heads.npz --things 0-36")
_add(predict.predict, predict.EPILOG)
_add(models.models, "Example: deeperlab models")
_add(train.train, train.EPILOG)
_add(tune.tune, tune.EPILOG)
_add(tables.tables, tables.EPILOG)
_add(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"deeperlab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """The options of `deeperlab` itself."""
