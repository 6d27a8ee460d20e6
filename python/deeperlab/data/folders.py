# SPDX-License-Identifier: Apache-2.0
"""Which data set a folder holds, told by the names of its files as data sets are distributed."""

from __future__ import annotations

import importlib
from pathlib import Path

from .files import FormatError
from .layouts import Layout

FORMATS = {
    "segments": "COCO panoptic: panoptic_<split>.json beside the folder panoptic_<split>, here or in annotations",
}
"""The modules of the readers, and what their `find` looks for."""


def find_layouts(root: Path) -> list[Layout]:
    """Find every data set that a folder holds: what each reader's `find` says of it."""
    found = (_find(name, root) for name in FORMATS)
    return [layout for layout in found if layout is not None]


def find_layout(root: Path, name: str = "") -> Layout:
    """Find the data set that a folder holds.

    Args:
        root: the folder.
        name: the format, one of `FORMATS`; empty: that which the folder shows.

    Raises:
        ValueError: an unknown format.
        FormatError: the folder holds nothing that is known, several, or another than `name`.
    """
    if name and name not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    layouts = find_layouts(root)
    chosen = [layout for layout in layouts if name in ("", layout.format)]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise FormatError(root, f"fits several formats: {_listed(chosen)}; say which with format (data.format)")
    if layouts:
        raise FormatError(root, f"expected {FORMATS[name]}; it looks like {_listed(layouts)}")
    expected = FORMATS[name] if name else "one of these: " + "; ".join(FORMATS.values())
    raise FormatError(root, f"no data set; expected {expected}")


def _find(name: str, root: Path) -> Layout | None:
    found: Layout | None = importlib.import_module(f".formats.{name}", __package__).find(root)
    return found


def _listed(layouts: list[Layout]) -> str:
    return "; ".join(f"{layout.format} ({FORMATS[layout.format]})" for layout in layouts)
