# SPDX-License-Identifier: Apache-2.0
"""What is wrong with files that someone else made, as errors of one line."""

from __future__ import annotations

import os
from collections.abc import Sequence

LONGEST = 2000
"""Characters of an error."""


class FormatError(ValueError):
    """A file that is not what it should be: `path: fault`, in one line."""

    def __init__(self, path: str | os.PathLike[str], fault: str) -> None:
        text = " ".join(fault.split())  # of a name or a value in the file, which may be as long as the file
        super().__init__(f"{os.fspath(path)}: {text if len(text) <= LONGEST else f'{text[:LONGEST]} …'}")


class UnknownIdError(FormatError):
    """An annotation has an id that is not listed, or that is no class."""


class EmptyMaskError(FormatError):
    """An annotation lists a segment that has no pixel."""


class FaultyFilesError(ValueError):
    """Several files that are not what they should be, or cannot be read; `faults`: the error of each."""

    def __init__(self, faults: Sequence[Exception]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{len(faults)} faults: {'; '.join(map(str, faults))}")

    @classmethod
    def require_none(cls, faults: Sequence[Exception]) -> None:
        """Raise what was found: nothing, the one error itself, or all of them."""
        if faults:
            raise faults[0] if len(faults) == 1 else cls(faults)


def message_of(fault: BaseException) -> str:
    """Say in one line what an error says, and of which file."""
    if isinstance(fault, OSError) and fault.filename is not None:
        return f"{os.fspath(fault.filename)}: {reason_of(fault)}"
    return " ".join(str(fault).split())


def reason_of(fault: OSError) -> str:
    """Say what an error of the system, or one made like it, says, without the file: to follow a colon."""
    text = fault.strerror or type(fault).__name__
    return text[:1].lower() + text[1:]
