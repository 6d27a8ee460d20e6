# SPDX-License-Identifier: Apache-2.0
"""A formula is written once (csrc/include): for one number and for vectors of every width it gives the same bits."""

from __future__ import annotations

import pytest
from cpp import rows_of


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, int, int]]:
    """(form, formula, differences from one number at a time, changes between successive answers), as formulas.cpp has
    found them on this machine."""
    rows = rows_of("formulas", tmp_path_factory.mktemp("formulas"))
    return [(form, formula, int(differences), int(changes)) for form, formula, differences, changes in rows]


@pytest.mark.slow
def test_vectors_give_the_bits_of_numbers(lines: list[tuple[str, str, int, int]]) -> None:
    assert {formula for _, formula, *_ in lines} >= {
        "exp",
        "sigmoid",
        "splat",
        "interpolate",
        "between_given",
        "choose_instance",
        "log",
        "loss_of_share",
        "score_gradient",
        "add_column",
        "plane_of_bfloat16",
    }
    assert not [line for line in lines if line[2]]


@pytest.mark.slow
def test_the_inputs_tell_answers_apart(lines: list[tuple[str, str, int, int]]) -> None:
    """Or equal bits prove little."""
    assert not [line for line in lines if line[3] < 100]
