# SPDX-License-Identifier: Apache-2.0
"""What pytest-benchmark cannot report.

    python -m benchmarks.report table [RUN.json]    a run as tables, with ratios to other programs of the same run
    python -m benchmarks.report docs  [RUN.json]    the tables and plots of the documents, made anew

RUN.json is what pytest-benchmark saved, by default the newest kept run. Speed is tracked by `benchmarks.tracking`.
Exit status: 0; 2 where a file is no run, or lacks what a table shows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .plots import plots
from .runs import ROOT, newest, read
from .tables import documents, evident, report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("table", "docs"))
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN.json")
    options = parser.parse_args(arguments)
    try:
        run = read(options.run or newest())
        if options.command == "table":
            print(report(run))
            return 0
        for path, text in documents(run).items():
            path.write_text(text)
            print(path)
        print(*plots(evident(run), ROOT / "docs"), sep="\n")
    except (LookupError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
