# SPDX-License-Identifier: Apache-2.0
"""What the compiled operators take, as they say themselves: the table behind it is in src/common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import _numpy


@dataclass(frozen=True)
class Parameter:
    """One number, word or switch of the fusion.

    Attributes:
        name: As in `FuseParams`.
        type: As in a schema of torch: int, float, float? (or None), float[] (one for each keypoint), bool, str.
        low, high: Bounds of numbers, inclusive.
        step: Numbers are multiples of it; 0: any number.
        choices: The words of a str.
    """

    name: str
    type: str
    low: float
    high: float
    step: float
    choices: tuple[str, ...]

    def check(self, value: Any) -> None:
        """Check one value; of a float[], one of them.

        Raises:
            TypeError, ValueError: it is of another type, or out of bounds.
        """
        if self.type == "str":
            if value not in self.choices:
                raise ValueError(f"{self.name}: expected one of {self.choices}, got {value!r}")
        elif self.type == "bool":
            if not isinstance(value, bool):
                raise TypeError(f"{self.name}: expected a bool, got {value!r}")
        elif value is not None or self.type != "float?":
            kind: Any = int if self.type == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{self.name}: expected {'an int' if kind is int else 'a number'}, got {value!r}")
            if not self.low <= value <= self.high:  # False for NaN
                raise ValueError(f"{self.name}: expected {self.low:g} to {self.high:g}, got {value}")
            if self.step and value % self.step:
                raise ValueError(f"{self.name}: expected a multiple of 1/{1 / self.step:g}, got {value}")


@dataclass(frozen=True)
class Operator:
    """Arrays in order, options by name with their types, and the number of results."""

    arrays: tuple[str, ...]
    options: dict[str, str]
    results: int


PARAMETERS = {name: Parameter(name, *entry) for name, entry in _numpy.parameters().items()}
"""In the order of the stages."""

OPERATORS = {
    name: Operator(arrays, dict(options), results) for name, (arrays, options, results) in _numpy.operators().items()
}
"""`fuse`, then one for each stage, in order; and `resample`, which comes before them."""
