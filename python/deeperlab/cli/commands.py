# SPDX-License-Identifier: Apache-2.0
"""All commands; importing this needs typer, rich and Pillow."""

from __future__ import annotations

from typing import Annotated

import PIL  # noqa: F401 - every command reads or writes pictures
import typer

from . import check, demo, doctor, eval, fuse, oracle, predict

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="DeeperLab's fusion: five raw heads of a network in, a panoptic map out.",
)
app.command(epilog="Example: deeperlab demo --size 1441 --things 50 --noise 3")(demo.demo)
app.command(epilog="Example: deeperlab oracle panoptic_val2017.json --gt-dir panoptic_val2017 --json ceiling.json")(
    oracle.oracle
)
app.command(
    epilog="Example: deeperlab eval panoptic_val2017.json results.json --gt-dir panoptic_val2017 --pred-dir results"
)(eval.eval)
app.command(epilog="Example: deeperlab fuse heads.npz --things 0-36 --out results")(fuse.fuse)
app.command(epilog="Example: deeperlab check heads.npz --things 0-36")(check.check)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command()(doctor.doctor)


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
