# SPDX-License-Identifier: Apache-2.0
"""How arguments are read: all that are missing are told at once, and ~ is the home folder wherever it begins a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand


def _at_home(argument: str) -> str:
    """Expand ~ where no shell has done it: in quotes, and in --out=~/results."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{Path(value).expanduser()}" if value == "~" or value.startswith("~/") else argument


class Command(TyperCommand):
    """A command that tells all missing arguments, not the first of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, as the base class does."""
        args = [_at_home(argument) for argument in args]
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as fault:
            if type(fault).__name__ != "MissingParameter":
                raise
        options, _, _ = self.make_parser(ctx).parse_args(args=given)
        missing = list[str]()
        parameters: list[Any] = self.get_params(ctx)
        for parameter in parameters:
            try:
                if parameter.required:
                    parameter.handle_parse_result(ctx, options, [])
            except typer.BadParameter:
                name = max(parameter.opts, key=len)
                missing.append(name if name.startswith("-") else parameter.metavar or name.upper())
        ctx.fail(f"Missing {', '.join(missing[:-1])}{' and ' * (len(missing) > 1)}{missing[-1]}.")
        return given  # ctx.fail has raised
