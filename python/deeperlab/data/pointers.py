# SPDX-License-Identifier: Apache-2.0
"""Files that stand for others: what Git LFS and git-annex leave until the file is fetched, and links copied as text."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 4096
"""Bytes: of a path."""


def describe_pointer(path: Path) -> str:
    """Say what a file stands for, and how to get that: "; it is …", or nothing where it is no pointer."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1).decode().strip()
        if text.startswith("version https://git-lfs.github.com/spec/"):
            return "; it is a pointer of Git LFS: fetch the file with git lfs pull"
        if text.startswith("/annex/objects/"):
            return "; it is a pointer of git-annex: fetch the file with git annex get"
        if 0 < len(text) <= _LONGEST and "\n" not in text and (path.parent / text).is_file():
            return f"; it is a link that was copied as text: copy {text} to its place, with cp -L"
    except (OSError, ValueError):  # it says nothing: a folder, no text, no path
        pass
    return ""
