# SPDX-License-Identifier: Apache-2.0
"""The options of the fusion, for the commands that run it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from ..params import FuseParams

MaxCandidates = Annotated[int | None, typer.Option(min=1, max=65536, help="Peaks followed up per image.")]
MaxInstances = Annotated[int | None, typer.Option(min=1, max=65535, help="Instances the result holds.")]
Paper = Annotated[bool, typer.Option("--paper", help="The literal parameters of the paper, for comparison.")]


def fusion(max_candidates: int | None, max_instances: int | None, paper: bool) -> FuseParams:
    """Make the parameters that the options ask for; None: the default."""
    given = {"max_candidates": max_candidates, "max_instances": max_instances}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(FuseParams.paper() if paper else FuseParams(), **changes)
