# SPDX-License-Identifier: Apache-2.0
"""The published library of Krähenbühl and Koltun, as pydensecrf 1.0rc3 bundles it: on one thread, built where asked.

Nothing of it lies here. DEEPERLAB_DENSECRF names pydensecrf-1.0rc3.tar.gz as the package index has it (its own build
fails with Python 3.11 and later, its C++ does not); it is unpacked and compiled below build/.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeperlab import CRFParams

from .build import BUILT, HERE

SHA256 = "08be1603af2bede05c7697b6018e8e3059de7cc181e4e784b334889dcc749aa5"
SOURCES = ("densecrf", "labelcompatibility", "objective", "pairwise", "permutohedral", "unary", "util")


def archive() -> Path | None:
    """The archive, if it is named."""
    named = os.environ.get("DEEPERLAB_DENSECRF")
    return Path(named) if named else None


@cache
def _library() -> ctypes.CDLL:
    path = archive()
    if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"DEEPERLAB_DENSECRF: expected pydensecrf-1.0rc3.tar.gz with SHA-256 {SHA256}, got {path}")
    BUILT.mkdir(parents=True, exist_ok=True)
    library = BUILT / "dense_crf.so"
    if not library.is_file() or library.stat().st_mtime < (HERE / "dense_crf.cpp").stat().st_mtime:
        with tarfile.open(path) as packed:
            packed.extractall(BUILT, filter="data")
        root = BUILT / "pydensecrf-1.0rc3/pydensecrf/densecrf"
        includes = [f"-I{root / name}" for name in ("include", "external/liblbfgs/include")]
        files = [str(HERE / "dense_crf.cpp"), *(str(root / f"src/{name}.cpp") for name in SOURCES)]
        command = [os.environ.get("CXX", "c++"), "-O3", "-DNDEBUG", "-w", "-shared", "-fPIC", *includes, *files]
        subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def crf(probabilities: NDArray[np.float32], image: NDArray[np.uint8], params: CRFParams) -> NDArray[np.float32]:
    """Q of probabilities [C, H, W] and an image [H, W, 3]: float32 [C, H, W]."""
    classes, height, width = probabilities.shape
    unary = np.ascontiguousarray(-np.log(np.maximum(probabilities, 1e-30)).reshape(classes, -1).T)
    kernels = np.array([params.w1, params.sigma_alpha, params.sigma_beta, params.w2, params.sigma_gamma], np.float32)
    image, out = np.ascontiguousarray(image), np.empty_like(unary)

    def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    sizes = (height, width, classes)
    how = (params.iterations, int(params.normalization == "after"))
    _library().dense_crf(*sizes, pointer(unary), pointer(image), pointer(kernels), *how, pointer(out))
    return out.T.reshape(probabilities.shape)
