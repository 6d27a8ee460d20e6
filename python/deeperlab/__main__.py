# SPDX-License-Identifier: Apache-2.0
"""`python -m deeperlab` is the command line."""

from .cli import main

main()
