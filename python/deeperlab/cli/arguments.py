# SPDX-License-Identifier: Apache-2.0
"""How arguments are read: all that are missing are told at once."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand


class Command(TyperCommand):
    """A command that tells all missing arguments, not the first of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, as the base class does."""
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
