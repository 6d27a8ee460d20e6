# SPDX-License-Identifier: Apache-2.0
"""Files that stand for others: what Git LFS and git-annex leave until the file is fetched, links copied as text, and
packed files."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 4096
"""Bytes: of a path."""
_PACKED = {
    b"\x1f\x8b": "packed by gzip: unpack it with gunzip",
    b"PK\3\4": "a ZIP archive: unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it with unzstd",
    b"BZh": "packed by bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\0": "packed by xz: unpack it with unxz",
}
"""First bytes, what they mean, and the remedy."""


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


def describe_packed(data: bytes) -> str:
    """Say by what a file is packed whose first bytes these are: "; it is …", or nothing."""
    return next((f"; it is {packed} first" for magic, packed in _PACKED.items() if data.startswith(magic)), "")
