# SPDX-License-Identifier: Apache-2.0
"""Which data set a folder holds, told by the names of its files as data sets are distributed."""

from __future__ import annotations

import importlib
from pathlib import Path

from .files import FormatError
from .layouts import Layout

FORMATS = {
    "segments": "COCO panoptic: panoptic_<split>.json beside the folder panoptic_<split>, here or in annotations",
    "instances": "COCO instances: instances_<split>.json or instances.json, here or in annotations",
}
"""The modules of the readers, and what their `find` looks for."""
_SAID_BY = {"instances": {"segments"}}
"""What others say as well where both are there, as COCO's own folder has both: a panoptic file has all instances."""


def find_layouts(root: Path) -> list[Layout]:
    """Find every data set that a folder holds: what each reader's `find` says of it."""
    found = [layout for name in FORMATS if (layout := _find(name, root)) is not None]
    names = {layout.format for layout in found}
    return [layout for layout in found if layout.format not in _SAID_BY or not names & _SAID_BY[layout.format]]


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
    if name and (layout := _find(name, root)) is not None:
        return layout
    layouts = find_layouts(root)
    if len(layouts) == 1 and not name:
        return layouts[0]
    if not layouts:
        expected = FORMATS[name] if name else "one of these: " + "; ".join(FORMATS.values())
        raise FormatError(root, f"no data set; expected {expected}")
    listed = "; ".join(f"{layout.format} ({FORMATS[layout.format]})" for layout in layouts)
    if name:
        raise FormatError(root, f"expected {FORMATS[name]}; it looks like {listed}")
    raise FormatError(root, f"fits several formats: {listed}; say which with format (data.format)")


def _find(name: str, root: Path) -> Layout | None:
    found: Layout | None = importlib.import_module(f".formats.{name}", __package__).find(root)
    return found
