# SPDX-License-Identifier: Apache-2.0
"""What a .safetensors file says of its tensors, and the tensors themselves as arrays: without torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .containers import size_of
from .files import FormatError, open_file
from .pointers import describe_pointer

MAX_HEADER_BYTES = 100_000_000
"""As safetensors itself has it."""
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}
"""What networks are saved in; NumPy has no bfloat16, which is the upper half of a float32."""


@dataclass(frozen=True)
class Place:
    """A tensor in a file.

    Attributes:
        dtype: as safetensors names it; those of `DTYPES` can be read here.
        shape: of the tensor.
        offset: bytes from the beginning of the file.
        length: bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True)
class Header:
    """Everything before the tensors.

    Attributes:
        path: of the file.
        metadata: words by words.
        places: of the tensors by their names.
    """

    path: Path
    metadata: Mapping[str, str]
    places: Mapping[str, Place]

    @property
    def is_trained(self) -> bool:
        """What `save_pretrained` noted beside the tensors; other files hold trained weights."""
        return self.metadata.get("trained") != "false"


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read where the tensors of a file lie.

    Raises:
        FormatError: no .safetensors file, or cut short.
        OSError: it cannot be read.
    """
    path = Path(path)
    with open_file(path) as file:
        size = size_of(file)
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _damaged(path, "no header")
        data = file.read(length)
    start = 8 + length
    try:
        told = json.loads(data)
        metadata = {str(key): str(value) for key, value in told.pop("__metadata__", {}).items()}
        places = {name: _place(entry, start) for name, entry in told.items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as fault:
        raise _damaged(path, f"{type(fault).__name__}: {fault}") from fault
    if any(place.offset + place.length > size for place in places.values()):
        raise _damaged(path, "it ends before its tensors do")
    return Header(path, metadata, places)


def read_arrays(header: Header) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read the tensors, sorted by name: float32, or int64.

    Raises:
        FormatError: a tensor of another type than `DTYPES`.
        OSError: the file cannot be read.
    """
    with open_file(header.path) as file:
        for name, place in sorted(header.places.items()):
            if place.dtype not in DTYPES:
                raise FormatError(header.path, f"{name}: expected {', '.join(DTYPES)}, got {place.dtype}")
            file.seek(place.offset)
            array = np.frombuffer(file.read(place.length), DTYPES[place.dtype]).reshape(place.shape)
            if place.dtype == "BF16":
                array = (array.astype(np.uint32) << 16).view(np.float32)
            yield name, array if place.dtype == "I64" else array.astype(np.float32)


def _place(entry: Any, start: int) -> Place:
    dtype, shape, (begin, end) = str(entry["dtype"]), tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
    size = np.dtype(DTYPES[dtype]).itemsize * math.prod(shape) if dtype in DTYPES else end - begin
    if end - begin != size or min(begin, size, *shape) < 0:
        raise ValueError(f"a tensor {list(shape)} of {dtype} in {end - begin} bytes")
    return Place(dtype, shape, start + begin, size)


def _damaged(path: Path, what: str) -> FormatError:
    hint = describe_pointer(path) or "; if it was cut short, copy or download it again"
    return FormatError(path, f"damaged, or not safetensors: {what}{hint}")
