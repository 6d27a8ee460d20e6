# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .streams import complain, guarded

if TYPE_CHECKING:
    from .commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the console script. `doctor` runs without what the other commands need."""
    with guarded():
        try:
            from .commands import app
        except ImportError as missing:
            if sys.argv[1:] == ["doctor"]:
                from .doctor import doctor

                doctor()
                return
            name = (missing.name or "more").partition(".")[0]
            complain(f"the command line needs {name}: pip install 'deeperlab[cli]'")
            raise SystemExit(1) from None
        app(prog_name="deeperlab")


if not TYPE_CHECKING:  # or a type checker would believe any name

    def __getattr__(name: str) -> Any:
        if name != "app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .commands import app

        return app
