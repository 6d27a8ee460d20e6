# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from .streams import complain, guarded

if TYPE_CHECKING:
    from .commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the console script. `doctor` and its help run without what the other commands need."""
    with guarded():
        try:
            from .commands import app
        except ImportError as fault:
            if sys.argv[1:2] == ["doctor"] and set(sys.argv[2:]) <= {"-h", "--help"}:
                from .doctor import doctor

                if sys.argv[2:]:
                    print(f"Usage: deeperlab doctor\n\n{inspect.getdoc(doctor)}")
                else:
                    doctor()
                return
            needs = f"needs {(fault.name or 'more').partition('.')[0]}"
            if not isinstance(fault, ModuleNotFoundError):  # it is there, and does not load
                needs = f"does not load ({fault})"
            complain(f"the command line {needs}: pip install 'deeperlab[cli]'")
            raise SystemExit(1) from None
        app(prog_name="deeperlab")


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        if name != "app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .commands import app

        return app
