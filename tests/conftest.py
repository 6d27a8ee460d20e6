# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several tests share: seeded heads of every kind, and the folder of real images."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the processors, and so do their subprocesses
    threads = str(max(1, len(os.sched_getaffinity(0)) // int(workers)))
    os.environ.update(OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, MKL_NUM_THREADS=threads)

if os.environ.get("DEEPERLAB_INSTALLED"):  # another build is under test (make asan): it goes before the editable one
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
    sys.path.insert(0, str(Path(os.environ["DEEPERLAB_INSTALLED"]).resolve()))

import deeperlab
from deeperlab import NO_KEYPOINTS, RECTANGLE, STAR, Graph, Heads

if folder := os.environ.get("DEEPERLAB_INSTALLED"):  # or the other build would be tested without a word
    import deeperlab._numpy

    for loaded in (deeperlab.__file__, deeperlab._numpy.__file__, find_spec("deeperlab._C").origin):
        assert Path(loaded).is_relative_to(Path(folder).resolve()), loaded

if find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("deeperlab", deadline=None)  # how long an example takes is a matter of the other workers
    settings.load_profile("deeperlab")

ROOT = Path(__file__).resolve().parents[1]
DEVICE = os.environ.get("DEEPERLAB_TEST_DEVICE", "cpu")  # where the tests of fuse have their tensors

# PersonLab's kinematic tree: 17 COCO keypoints, 16 edges from parent to child, then the same backwards.
_TREE = (
    *((0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15)),
    *((0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16)),
)
PERSON = Graph(tuple(f"joint{k}" for k in range(17)), (*_TREE, *((b, a) for a, b in _TREE)))
GRAPHS = {"star": STAR, "rectangle": RECTANGLE, "person": PERSON, "none": NO_KEYPOINTS}


ONE_WORKER = ("tests/test_cuda_kernels.py", "tests/test_simd.py")
"""Files whose tests share what takes long to make: the emulator, and the digests of all forms."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send these files to one worker each, before all else, and every other test by itself.

    The mark xdist_group says the same, but pytest-xdist 3.8 loses it under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in ONE_WORKER else nodeid

    return Scheduling(config, log)


def pytest_report_header(config: pytest.Config) -> list[str]:
    tensors = "no torch"
    if find_spec("torch"):
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        tensors = f"torch {torch.__version__}, GPU: {gpu}"
    fast = "FAST: slow tests and benchmarks are left out; `make test` runs them too"
    notes = [fast] if config.option.markexpr == "not slow" else []
    return [*notes, f"deeperlab {deeperlab.__version__}, numpy {np.__version__}, {tensors}"]


@pytest.fixture(scope="session")
def emulated() -> Any:
    """The operators by the text of the CUDA kernels, on emulated threads."""
    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("no C++ compiler to build the emulator with")
    from emulator import build

    return build.load()


@pytest.fixture(params=sorted(GRAPHS))
def graph(request: pytest.FixtureRequest) -> Graph:
    return GRAPHS[request.param]


@pytest.fixture
def realdata() -> Path:
    """The folder of annotated real images; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DEEPERLAB_REALDATA", ROOT.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set DEEPERLAB_REALDATA to a folder that holds them")
    return folder


def smooth(rng: np.random.Generator, scale: float, *shape: int) -> np.ndarray:
    """Noise that varies over a few nodes, as heads do."""
    field = rng.standard_normal(shape)
    for axis in (-1, -2):
        for _ in range(2):
            field = field + np.roll(field, 1, axis)
    return (field * scale / field.std() if field.size else field).astype(np.float32)


def make_heads(
    seed: int = 0,
    n: int = 1,
    classes: int = 6,
    h: int = 17,
    w: int = 19,
    stride: int = 4,
    graph: Graph = STAR,
    **spoil: Any,
) -> Heads:
    """Random heads that hold a few instances by chance. spoil: "nan", "inf" or "huge" = share of values replaced;
    "ties": values rounded to a few levels; "labels": semantic as integers of the given size."""
    rng = np.random.default_rng(seed)
    p, e = len(graph.keypoints), len(graph.edges)
    heads = {
        "semantic": smooth(rng, 4, n, classes, h, w),
        "heatmap": smooth(rng, 4, n, p, h, w),
        "short_range": smooth(rng, 3 * stride, n, 2 * p, h, w),
        "middle_range": smooth(rng, 5 * stride, n, 2 * e, h, w),
        "long_range": smooth(rng, 5 * stride, n, 2 * p, h, w),
    }
    for name, head in heads.items():
        if spoil.get("ties"):
            head[...] = np.round(head / (2 if name == "semantic" else stride)) * (2 if name == "semantic" else stride)
        for value, share in ((np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf"), (1e38, "huge"), (-1e38, "huge")):
            head[rng.random(head.shape) < spoil.get(share, 0)] = value
    if "labels" in spoil:
        height, width = spoil["labels"]
        coarse = rng.integers(-1, classes + 1, (n, height // 7 + 1, width // 7 + 1))
        heads["semantic"] = coarse.repeat(7, 1).repeat(7, 2)[:, :height, :width].copy()
    return Heads(**heads, stride=stride, graph=graph, num_classes=classes)


def as_tensors(heads: Heads, dtype: Any = None) -> Heads:
    """The same heads as torch tensors on the device under test, floating ones of the given dtype."""
    import torch

    def convert(head: np.ndarray) -> Any:
        tensor = torch.from_numpy(head).to(DEVICE)
        return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

    values = {field.name: getattr(heads, field.name) for field in fields(heads)}
    return Heads(**{k: convert(v) if isinstance(v, np.ndarray) else v for k, v in values.items()})


def assert_same(a: Any, b: Any, what: str = "") -> None:
    """Equal shapes, dtypes and bits (NaN equals NaN), for arrays, tensors and tuples and dataclasses of them."""
    if isinstance(a, deeperlab.Panoptic):
        a, b = ({f.name: getattr(x, f.name) for f in fields(x)} for x in (a, b))
        for name in a:
            assert_same(a[name], b[name], name)
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b), what
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{what}[{i}]")
    else:
        a, b = (np.asarray(x.cpu() if hasattr(x, "cpu") else x) for x in (a, b))
        assert a.dtype == b.dtype, (what, a.dtype, b.dtype)
        assert a.shape == b.shape, (what, a.shape, b.shape)
        np.testing.assert_array_equal(a, b, err_msg=what, strict=True)


@pytest.fixture(name="make_heads")
def _make_heads() -> Callable[..., Heads]:
    return make_heads


@pytest.fixture(name="as_tensors")
def _as_tensors() -> Callable[..., Heads]:
    return as_tensors


@pytest.fixture(name="assert_same")
def _assert_same() -> Callable[..., None]:
    return assert_same


@pytest.fixture
def releases_gil() -> Callable[[Callable[[], Any]], bool]:
    """Whether, while one thread makes the call, another runs Python: it counts to a hundred before the call ends."""

    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("there is no GIL to release")

    def check(call: Callable[[], Any]) -> bool:
        running, done, seen = threading.Event(), threading.Event(), 0

        def work() -> None:
            running.set()
            call()
            done.set()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)  # without a release the main thread would not run before the call ends
        try:
            thread = threading.Thread(target=work)
            thread.start()
            running.wait()
            while not done.is_set() and seen <= 100:
                seen += 1
            thread.join()
        finally:
            sys.setswitchinterval(interval)
        return seen > 100

    return check


@pytest.fixture
def tf_models(realdata: Path) -> tuple[dict[int, bool], list[tuple[Any, Any]]]:
    """The published example: categories, and (prediction, ground truth) of its four photos."""
    from deeperlab.data.formats import coco

    folder = realdata / "tf_models_deeplab_eval"
    target = coco.read(folder / "coco_gt.json", folder / "coco_gt")
    prediction = coco.read(folder / "coco_pred.json", folder / "coco_pred")
    predicted = {a.image_id: a for a in prediction.annotations}
    pairs = [
        ((prediction.ids(predicted[a.image_id]), predicted[a.image_id].segments), (target.ids(a), a.segments))
        for a in target.annotations
    ]
    return {c.id: c.isthing for c in target.categories}, pairs
