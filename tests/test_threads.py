# SPDX-License-Identifier: Apache-2.0
"""What a call finds: threads that it may not start, that a parent had or that round otherwise, memory that is gone."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import FuseParams, Heads
from deeperlab.stages import numpy_ops, pipeline, torch_ops

HERE = Path(__file__).parent
PARAMS = FuseParams(peak_threshold=0.0, instance_threshold=0.0, max_candidates=300)


def heads_of(make_heads: Any) -> Heads:
    """Heads whose logits are subnormal numbers: flushed to zero, all classes tie."""
    heads: Heads = make_heads(seed=5, n=2)
    return heads.map(lambda head: head * np.float32(1e-40) if head is heads.semantic else head)


@contextmanager
def rounding(kind: str) -> Iterator[Callable[[], bool]]:
    """The calling thread rounds as no other does; gives whether it still does."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    nearest, upward = library.fegetround(), 0x800  # FE_UPWARD of x86
    set_up = torch.set_flush_denormal(True) if kind == "flush" else library.fesetround(upward) == 0
    if not set_up:
        pytest.skip("this processor cannot")
    try:
        yield (
            lambda: (
                float(np.float32(1e-40) * np.float32(0.5)) == 0 if kind == "flush" else library.fegetround() == upward
            )
        )
    finally:
        torch.set_flush_denormal(False)
        library.fesetround(nearest)


@pytest.mark.parametrize("face", ["tensors", "arrays"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", ["flush", "upward"])
def test_bits_do_not_depend_on_how_the_calling_thread_rounds(
    face: str, threads: int, kind: str, make_heads: Any, as_tensors: Any, assert_same: Any
) -> None:
    heads = heads_of(make_heads)
    given = as_tensors(heads) if face == "tensors" else heads
    backend, options = (torch_ops, {}) if face == "tensors" else (numpy_ops, {"num_threads": threads})
    problem = given, [1, 3], heads.default_size, PARAMS
    fused, values = deeperlab.fuse(given, [1, 3], params=PARAMS), pipeline.run(backend, *problem)
    assert len(np.unique(np.asarray(fused.semantic))) > 2
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with rounding(kind) as still:
            again = deeperlab.fuse(given, [1, 3], params=PARAMS, **options)
            stages = pipeline.run(backend, *problem, **options)
            assert still()
    finally:
        torch.set_num_threads(before)
    assert_same(again, fused)
    for name, value in values.items():
        assert_same(stages[name], value, name)


# A process that was forked has none of the threads that torch had in its parent.

FORK = """
import multiprocessing as mp, sys, numpy as np
{before}
rng = np.random.default_rng(0)
sizes = {{"semantic": 4, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}}
bits = {{n: rng.normal(0, 3, (1, c, 65, 65)).astype("f4").view("u4") >> 16 << 16 for n, c in sizes.items()}}
arrays = {{n: b.view("f4") for n, b in bits.items()}}

def fuse(face):
    import conftest, torch, deeperlab
    given = arrays if face == "arrays" else {{n: torch.from_numpy(a) for n, a in arrays.items()}}
    if face == "bfloat16":
        given = {{n: torch.from_numpy((b >> 16).astype("u2")).view(torch.bfloat16) for n, b in bits.items()}}
    return int(np.asarray(deeperlab.fuse(given, [1, 2]).semantic).astype(np.int64).sum())

def child(face, expected):
    sys.exit(0 if expected in (None, fuse(face)) and fuse(face) else 1)

expected = {parent}
for face in ("arrays", "tensors", "bfloat16"):
    process = mp.get_context("fork").Process(target=child, args=(face, expected))
    process.start()
    process.join(100)
    if process.is_alive():
        process.kill()
        sys.exit(f"{{face}}: the child waits for ever")
    if process.exitcode:
        sys.exit(f"{{face}}: exit {{process.exitcode}}")
"""
POOL = "import torch; torch.set_num_threads(2); torch.exp(torch.ones(2000, 2000)).sum()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "parent"),
    [(POOL, 'fuse("arrays"), fuse("tensors"); expected = fuse("tensors")'), (POOL, "None"), ("", "None")],
    ids=["after fuse", "before deeperlab is loaded", "before torch is loaded"],
)
def test_a_forked_process_fuses_tensors_and_arrays(before: str, parent: str) -> None:
    code = FORK.format(before=before, parent=parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_where_no_thread_can_be_started_the_caller_works_alone() -> None:
    """Each thread asks for a stack of 64 GiB, of which there is room for none."""
    code = """
import conftest, resource, threading, numpy as np
from deeperlab import _numpy
import deeperlab
rng = np.random.default_rng(0)
sizes = {"semantic": 4, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}
heads = {n: rng.normal(0, 3, (1, c, 65, 65)).astype("f4") for n, c in sizes.items()}
alone = deeperlab.fuse(heads, [1, 2], num_threads=1)
resource.setrlimit(resource.RLIMIT_AS, (32 << 30, 32 << 30))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
together = deeperlab.fuse(heads, [1, 2], num_threads=8)
assert all(np.array_equal(getattr(alone, n), getattr(together, n)) for n in ("semantic", "instance", "keypoints"))
print("fused")
"""
    limit = (64 << 30, resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, limit),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split("\n")[:2] == ["no thread", "fused"], done.stdout + done.stderr


@pytest.mark.parametrize("name", ["semantic", "heatmap", "short_range", "middle_range", "long_range"])
def test_nothing_looks_at_heads_whose_storage_was_freed(name: str, make_heads: Any, as_tensors: Any) -> None:
    heads = as_tensors(make_heads()).map(torch.clone)
    getattr(heads, name).untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=rf"\A{name}: expected a storage that holds the tensor, got one of 0 bytes"):
        deeperlab.fuse(heads, [1])


@pytest.mark.parametrize("face", ["tensors", "arrays"])
def test_memory_that_does_not_suffice_is_told_in_one_line(face: str) -> None:
    """No processor addresses as much as this asks for."""
    shape = 2**20, 2**10, 256, 256
    head: Any = torch.zeros(1).expand(shape) if face == "tensors" else np.broadcast_to(np.float32(0), shape)
    resample, kind = (torch_ops.resample, RuntimeError) if face == "tensors" else (numpy_ops.resample, MemoryError)
    with pytest.raises(kind, match=r"\Aout of memory: expected 28\d{13} bytes on the CPU, got none\Z"):
        resample(head, stride=4, offsets=False)
