# SPDX-License-Identifier: Apache-2.0
"""Heads in a file: NumPy's NPZ, one array per field of `Heads`. No pickle is ever loaded."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from ..graph import NO_KEYPOINTS, STAR, Graph
from ..heads import NAMES, Heads
from ..params import FuseParams
from .files import FormatError, is_relative_name, open_file, replace
from .ids import ImageId, image_id_of

OPTIONAL = ("stride", "num_classes", "keypoints", "edges", "image_ids", "size", "original", "params", "stuff_area")
MAX_BYTES = 1 << 32
"""Of what an NPZ unpacks to, a thousand times of its size at most; 130 images of 1441 × 1441 px at stride 4."""
MAX_OPTIONAL_BYTES = 1 << 22
"""Of each of the others, whose values become Python's."""


def save(
    path: str | os.PathLike[str],
    heads: Heads,
    *,
    size: tuple[int, int] | None = None,
    original: tuple[int, int] | None = None,
    image_ids: Sequence[ImageId] | None = None,
    params: FuseParams | None = None,
    stuff_area: float | None = None,
) -> None:
    """Write heads (NumPy arrays) to an NPZ: the five heads, `stride`, `num_classes`, `keypoints` and `edges`.

    The file is whole or not there.

    Args:
        path: the file.
        heads: of one image, or of a batch.
        size: (H, W) px of the images as the network saw them: what `fuse` takes.
        original: (H, W) px of the images themselves, for the maps.
        image_ids: what the images are called, N of them.
        params: of the fusion that suits the heads, which become text in JSON.
        stuff_area: share of an image that a class of stuff must have, or its pixels become void.

    Raises:
        TypeError: tensors; use `.cpu().numpy()` (bfloat16 has no NumPy type: `.float()` first).
        OSError: the file cannot be written.
    """
    arrays: dict[str, Any] = {name: getattr(heads, name) for name in NAMES}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            widened = ".float()" if "bfloat16" in str(getattr(array, "dtype", "")) else ""  # of which NumPy has no type
            remedy = f"{'.detach()' if getattr(array, 'requires_grad', False) else ''}{widened}.cpu().numpy()"
            raise TypeError(f"{name}: expected a numpy.ndarray, got {type(array).__name__}; use {remedy}")
    arrays["stride"] = np.int64(heads.stride)
    if heads.num_classes is not None:
        arrays["num_classes"] = np.int64(heads.num_classes)
    arrays["keypoints"] = np.array(heads.graph.keypoints, np.str_)
    arrays["edges"] = np.array(heads.graph.edges, np.int64).reshape(-1, 2)
    told = None if params is None else json.dumps(asdict(params))
    given = {"size": size, "original": original, "image_ids": image_ids, "params": told, "stuff_area": stuff_area}
    arrays |= {name: np.array(value) for name, value in given.items() if value is not None}
    replace(path, partial(_write, arrays))


def load(path: str | os.PathLike[str]) -> Heads:
    """Read heads from an NPZ. Needed are the five heads, or the semantic one alone; absent are stride 4 and the star.

    Args:
        path: the file; keys are the fields of `Heads`, with the graph as `keypoints` (names [P]) and `edges` [E, 2].

    Raises:
        FormatError: not an NPZ, damaged, a key is missing or unknown, an array that does not fit; one line, with the
            file.
        OSError: the file cannot be read.
    """
    with _opened(path) as file:
        names = set(file.files)
        if any(name.endswith("/data.pkl") for name in names):
            raise FormatError(
                path, "a file of torch.save; expected an NPZ: deeperlab.data.archive.save, or numpy.savez"
            )
        alone = "semantic" in names and names.isdisjoint(NAMES[1:])
        if missing := [name for name in NAMES if name not in names and not alone]:
            raise FormatError(path, f"expected the arrays {', '.join(NAMES)}; missing {', '.join(missing)}")
        if unknown := sorted(names - {*NAMES, *OPTIONAL}):
            raise FormatError(path, f"unknown arrays {', '.join(unknown)}; known are {', '.join(NAMES + OPTIONAL)}")
        arrays = {name: file[name] for name in names}
        if empty := [name for name, array in arrays.items() if not array.itemsize]:  # of any length, in no bytes
            raise FormatError(path, f"{empty[0]}: expected numbers or text, got items of no bytes")
    try:
        stride = _integer(arrays.get("stride", np.int64(4)), "stride")
        num_classes = _integer(arrays["num_classes"], "num_classes") if "num_classes" in arrays else None
        if alone:
            if _graph(arrays, NO_KEYPOINTS).keypoints:
                raise ValueError("keypoints: expected none beside a semantic head alone")
            return Heads.of_semantic(arrays["semantic"], stride=stride, num_classes=num_classes)
        heads: dict[str, Any] = {name: arrays[name] for name in NAMES}
        return Heads(**heads, stride=stride, graph=_graph(arrays, STAR), num_classes=num_classes)
    except (ValueError, TypeError) as fault:
        raise FormatError(path, str(fault)) from fault


def image_ids(path: str | os.PathLike[str], images: int) -> tuple[ImageId, ...]:
    """Read what an NPZ that `load` has read calls its images: integers or strings [N]; by default 0, 1, ….

    Raises:
        FormatError: other than one distinct name for each image, or one that is no name of a file.
    """
    with _opened(path) as file:
        ids = file["image_ids"] if "image_ids" in file.files else np.arange(images)
    if ids.shape != (images,) or ids.dtype.kind not in "iuU" or len(set(map(image_id_of, ids.tolist()))) != images:
        fault = f"image_ids: expected {images} distinct integers or strings, got {ids.dtype} of shape {ids.shape}"
        raise FormatError(path, fault)
    for name in ids.tolist():
        if isinstance(name, str) and not is_relative_name(name):
            raise FormatError(path, f"image_ids: expected names of files, got {name!r}")
    return tuple(ids.tolist())


def sizes(path: str | os.PathLike[str]) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Read `size` and `original` of an NPZ that `load` has read, each None where it says nothing.

    Raises:
        FormatError: other than two integers of at least 1.
    """
    found: list[tuple[int, int] | None] = []
    with _opened(path) as file:
        for name in ("size", "original"):
            sides = file[name] if name in file.files else None
            if sides is not None and (sides.shape != (2,) or sides.dtype.kind not in "iu" or sides.min() < 1):
                fault = f"{name}: expected height and width in px, got {sides.dtype} of shape {sides.shape}"
                raise FormatError(path, fault)
            found.append(None if sides is None else (int(sides[0]), int(sides[1])))
    return found[0], found[1]


def fusion(path: str | os.PathLike[str]) -> tuple[FuseParams | None, float]:
    """Read `params` and `stuff_area` of an NPZ; None and 0 where it says nothing, as older files.

    Raises:
        FormatError: not an NPZ; other parameters than those of the fusion, or a share that is none.
        OSError: the file cannot be read.
    """
    with _opened(path) as file:
        text, share = (file[name] if name in file.files else None for name in ("params", "stuff_area"))
    if share is not None and not (share.shape == () and share.dtype.kind == "f" and 0 <= share < 1):
        raise FormatError(path, f"stuff_area: expected a share from 0 to below 1, got {share.dtype} {share.tolist()}")
    try:
        if text is not None and not (text.shape == () and text.dtype.kind == "U"):
            raise ValueError(f"expected text, got {text.dtype} of shape {text.shape}")
        params = None if text is None else FuseParams(**json.loads(str(text)))
    except (ValueError, TypeError, RecursionError) as fault:
        raise FormatError(path, f"params: expected the fields of FuseParams in JSON: {fault}") from fault
    return params, 0.0 if share is None else float(share)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The arrays of an NPZ that unpacks to no more than it may; their faults are those of the file."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if (claimed := sum(entry.file_size for entry in entries)) > MAX_BYTES:
                text = f"too large: unpacks to {claimed:,} bytes, the most is {MAX_BYTES:,}; split it by images"
                raise FormatError(path, text)
            for entry in entries:
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise FormatError(path, f"{entry.filename}: packed in a way that NumPy does not use")
                name = entry.filename.removesuffix(".npy")
                if name in OPTIONAL and entry.file_size > MAX_OPTIONAL_BYTES:
                    text = f"{name}: too large: {entry.file_size:,} bytes, the most is {MAX_OPTIONAL_BYTES:,}"
                    raise FormatError(path, text)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except FormatError:
        raise
    except MemoryError as fault:
        raise FormatError(path, "too large for the memory") from fault
    except Exception as fault:  # zipfile and NumPy have many kinds for a damaged file
        if isinstance(fault, OSError) and fault.filename is not None:
            raise
        raise FormatError(path, f"damaged, or not an NPZ: {fault}") from fault


def _write(arrays: dict[str, Any], file: Any) -> None:
    np.savez(file, **arrays)


def _integer(array: Any, name: str) -> int:
    if array.size != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected one integer, got dtype {array.dtype} of shape {array.shape}")
    return int(array.reshape(()))


def _graph(arrays: dict[str, Any], absent: Graph) -> Graph:
    if "keypoints" not in arrays and "edges" not in arrays:
        return absent
    names, edges = arrays.get("keypoints", np.array(STAR.keypoints)), arrays.get("edges")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"keypoints: expected names [P], got dtype {names.dtype} of shape {names.shape}")
    if edges is None or edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError("edges: expected integer pairs [E, 2] beside keypoints")
    return Graph(tuple(names.tolist()), tuple((a, b) for a, b in edges.tolist()))
