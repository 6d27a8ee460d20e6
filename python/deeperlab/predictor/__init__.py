# SPDX-License-Identifier: Apache-2.0
"""Images to panoptic maps: `Parser` for one or a few, `Prediction` for folders and videos."""

from __future__ import annotations

from .parser import Parsed, Parser

__all__ = ["Parsed", "Parser"]
