# SPDX-License-Identifier: Apache-2.0
"""The options of the fusion, for the commands that run it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from ..params import FuseParams


def _in_bounds(option: typer.CallbackParam, value: int | None) -> int | None:
    """Ask the engine for the bounds of a parameter, when one is given: help works without the engine."""
    if value is not None and option.name is not None:
        from .._schema import PARAMETERS

        try:
            PARAMETERS[option.name].check(value)
        except ValueError as fault:
            raise typer.BadParameter(str(fault)) from fault
    return value


MaxCandidates = Annotated[int | None, typer.Option(callback=_in_bounds, help="Peaks followed up per image.")]
MaxInstances = Annotated[int | None, typer.Option(callback=_in_bounds, help="Instances the result holds.")]
Paper = Annotated[bool, typer.Option("--paper", help="The literal parameters of the paper, for comparison.")]


def fusion(
    max_candidates: int | None, max_instances: int | None, paper: bool, base: FuseParams | None = None
) -> FuseParams:
    """Make the parameters that the options ask for; None: those of `base`, by default the defaults.

    The radius is always that of `base`: for it the heads were trained.
    """
    base = base or FuseParams()
    given = {"max_candidates": max_candidates, "max_instances": max_instances}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(FuseParams.paper() if paper else base, radius=base.radius, **changes)
