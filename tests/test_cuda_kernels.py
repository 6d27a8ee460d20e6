# SPDX-License-Identifier: Apache-2.0
"""The CUDA engine without a GPU: the text of its kernels runs on emulated threads, forwards and in reverse, and gives
the bits of the CPU; its PTX holds no instruction that rounds in another way."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import build
from simd_digests import EAGER, Case, encode_call, random_case, scene_case, semantic_loss_alone, top_down_call

from deeperlab import STAR, FuseParams, Graph, Heads, _numpy
from deeperlab.fuse import image_size
from deeperlab.stages import pipeline

NAMES = ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated")
HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
FORWARDS, REVERSED = 1, 2
ALONE = Graph(("center",), ())
pytestmark = pytest.mark.slow  # the emulator has to be built first


def op_call(case: Case) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arrays and the options of the operator."""
    heads, size = case.heads, image_size(case.heads, case.size)
    options = pipeline.Problem.of(heads, case.things, size, case.params).options("fuse")
    return tuple(getattr(heads, name) for name in HEADS), options


def compare(emulated: Any, case: Case) -> dict[str, Any]:
    """The result, having seen that all ways to it agree."""
    arrays, options = op_call(case)
    want = dict(zip(NAMES, _numpy.fuse(*arrays, **options, num_threads=2), strict=True))
    for order in (FORWARDS, REVERSED):
        got = dict(zip(NAMES, emulated.fuse(*arrays, **options, num_threads=order), strict=True))
        for name in NAMES:
            np.testing.assert_array_equal(got[name], want[name], err_msg=f"{name}, order {order}", strict=True)
    return want


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_drawn_scenes(emulated: Any, seed: int) -> None:
    assert compare(emulated, scene_case(seed))["count"].max() > 0


@pytest.mark.parametrize("seed", range(0, 330, 4))
def test_random_heads(emulated: Any, seed: int) -> None:
    compare(emulated, random_case(seed))


@pytest.fixture
def case() -> Case:
    return scene_case(0)


def test_ties_everywhere(emulated: Any, case: Case) -> None:
    """Zero heads: every class, every cell and every score alike."""
    zeros = {name: np.zeros_like(getattr(case.heads, name)) for name in HEADS}
    compare(emulated, replace(case, heads=replace(case.heads, **zeros), params=EAGER))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("head", ["semantic", "heatmap", "short_range", "middle_range", "long_range"])
def test_one_value_everywhere(emulated: Any, case: Case, head: str, value: float) -> None:
    full = np.full_like(getattr(case.heads, head), value)
    compare(emulated, replace(case, heads=replace(case.heads, **{head: full})))


def test_no_candidate(emulated: Any, case: Case) -> None:
    params = replace(case.params, peak_threshold=1e5)
    assert compare(emulated, replace(case, params=params))["count"].max() == 0


def test_no_thing(emulated: Any, case: Case) -> None:
    compare(emulated, replace(case, things=()))


@pytest.mark.parametrize("kind", ["logits", "labels"])
def test_no_keypoints(emulated: Any, kind: str) -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 3, (2, 5, 21, 35)), rng.integers(-1, 6, (2, 83, 139))
    semantic = logits.astype(np.float32) if kind == "logits" else labels.astype(np.int32)
    heads = Heads.of_semantic(semantic, stride=4, num_classes=5)
    for params in (EAGER, FuseParams.paper()):
        found = compare(emulated, Case(heads, (0, 1, 3), heads.default_size, params))
        assert found["count"].tolist() == [0, 0]


def test_more_than_a_thousand_instances(emulated: Any) -> None:
    """More than any block has threads."""
    rng = np.random.default_rng(5)
    h = w = 120
    heatmap = rng.normal(-2, 1, (1, 1, h, w)).astype(np.float32)
    near = rng.normal(0, 0.4, (1, 2, h, w)).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h))).astype(np.float32)
    center = np.round(grid / 2) * 2
    long_range = ((center - grid) + near[0])[None].astype(np.float32)
    semantic = rng.normal(0, 1, (1, 3, h, w)).astype(np.float32)
    heads = Heads(
        *(semantic, heatmap, near, np.zeros((1, 0, h, w), np.float32), long_range),
        stride=1, graph=ALONE, num_classes=3,
    )  # fmt: skip
    params = replace(EAGER, vote_cell=1, radius=1.0, nms_radius=0.5, nms_radius_min=0.0, box_iou=1.0,
                     max_candidates=4096, max_instances=1500)  # fmt: skip
    assert compare(emulated, Case(heads, (0, 1, 2), (h, w), params))["count"].max() > 1024


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 130)])
def test_thin_images(emulated: Any, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    h, w = (side // 4 + 1 for side in size)
    channels = {"semantic": 5, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}
    arrays = {k: rng.normal(0, 4, (2, c, h, w)).astype(np.float32) for k, c in channels.items()}
    heads = Heads(**arrays, stride=4, graph=STAR, num_classes=5)
    compare(emulated, Case(heads, (0, 1, 3), size, EAGER))


@pytest.mark.parametrize("order", [FORWARDS, REVERSED])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_half_pixel_heads(emulated: Any, dtype: Any, order: int) -> None:
    rng = np.random.default_rng(3)
    for stride, shape in ((4, (2, 6, 9, 21)), (3, (1, 2, 1, 40)), (8, (1, 4, 17, 1))):
        head = rng.normal(0, 30, shape).astype(dtype)
        head[rng.random(shape) < 0.1] = np.nan
        for offsets in (False, True):
            want = _numpy.resample(head, stride=stride, offsets=offsets)
            got = emulated.resample(head, stride=stride, offsets=offsets, num_threads=order)
            np.testing.assert_array_equal(got, want, strict=True)
    emulated.fail(3)
    try:
        with pytest.raises(ValueError, match="the words of CUDA"):
            emulated.resample(head, stride=4, offsets=True)
    finally:
        emulated.fail(0)


@pytest.mark.parametrize("seed", range(60))
def test_semantic_losses(emulated: Any, seed: int) -> None:
    want = semantic_loss_alone(np.random.default_rng(seed))
    for order in (FORWARDS, REVERSED):
        got = semantic_loss_alone(np.random.default_rng(seed), emulated, order)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)


def test_a_wrong_label_on_the_device_makes_the_loss_of_its_image_nan(emulated: Any) -> None:
    labels = np.zeros((2, 9, 9), np.int64)
    labels[1, 3, 4] = 5
    arrays = np.zeros((2, 5, 3, 3), np.float32), labels, np.ones((2, 9, 9), np.float32)
    loss, *_ = emulated.semantic_loss(*arrays, stride=4, top_k=0.15, stuff=(), num_threads=FORWARDS)
    assert np.isnan(loss).tolist() == [False, True]


@pytest.mark.parametrize("order", [FORWARDS, REVERSED])
@pytest.mark.parametrize("seed", range(6))
def test_targets_of_instance_maps(emulated: Any, seed: int, order: int) -> None:
    arrays, options = encode_call(np.random.default_rng(seed))
    want = _numpy.encode(*arrays, **options)
    got = emulated.encode(*arrays, **options, num_threads=order)
    for i, (one, other) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"result {i}", strict=True)


@pytest.mark.parametrize("order", [FORWARDS, REVERSED])
def test_maps_that_are_wrong_have_no_targets(emulated: Any, order: int) -> None:
    arrays, options = encode_call(np.random.default_rng(0), images=5)
    instance, ignore, ids, points = (array.copy() for array in arrays)
    instance[0] = np.arange(1, instance[0].size + 1).reshape(instance[0].shape)  # too many
    instance[1, 3, 5] = -1
    ids[2, 1] = -7
    points[3, 0, 2, 1], ids[3, 0] = 2**24 + 1, 4
    ids[4] = 0
    want = _numpy.encode(instance, ignore, ids, points, **options)
    assert want[-1][:4].tolist() == [-3, -2, -1, -1]
    assert want[-1][4] > 0
    assert not any(result[:4].any() for result in want[:-1])
    got = emulated.encode(instance, ignore, ids, points, **options, num_threads=order)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("order", [FORWARDS, REVERSED])
@pytest.mark.parametrize("seed", range(40))
def test_detections_and_semantic_maps(emulated: Any, seed: int, order: int) -> None:
    arrays, options = top_down_call(np.random.default_rng(seed))
    want = _numpy.top_down(*arrays, **options)
    got = emulated.top_down(*arrays, **options, num_threads=order)
    for i, (one, other) in enumerate(zip(got, want, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"result {i}", strict=True)


def test_detections_that_are_wrong_are_left_out_on_the_device(emulated: Any) -> None:
    """Nobody waits for it to tell: a score of NaN, boxes of no numbers, labels of no thing."""
    nan, inf, one = np.nan, np.inf, np.float32([4, 4, 20, 20])
    boxes = np.stack([one, [4, nan, 20, 20], [4, 4, inf, 20], one, one, one + 3]).astype(np.float32)[None]
    scores = np.float32([[nan, 0.9, 0.9, 0.9, 0.9, 0.8]])
    labels = np.int32([[0, 0, 0, 1, 7, 0]])
    arrays = np.full((1, 30, 30), 1, np.int32), np.ones((1, 6, 28, 28), np.float32), boxes, scores, labels
    options = {"things": [0], "stuff": [1], "num_classes": 2, "stride": 4, "size": (30, 30), "paste": "detectron2",
               "mask_threshold": 0.5, "score_threshold": 0.5, "overlap_threshold": 0.5, "stuff_area": 0,
               "max_instances": 6}  # fmt: skip
    semantic, instance, score, *_, count, truncated = emulated.top_down(*arrays, **options, num_threads=FORWARDS)
    assert (count[0], truncated[0], score[0, 0]) == (1, False, np.float32(0.8))
    assert (instance[0, 7:23, 7:23] == 1).all()
    assert (instance > 0).sum() == 256
    assert (semantic == (instance == 0)).all()


def test_empty_batch(emulated: Any, case: Case) -> None:
    none = {name: getattr(case.heads, name)[:0] for name in HEADS}
    assert compare(emulated, replace(case, heads=replace(case.heads, **none)))["semantic"].shape[0] == 0


@pytest.mark.parametrize("options", [{"majority": "all"}, {"max_distance": 20.0}, {"long_voters": "all"},
                                     {"short_weight": 0.5}, {"max_instances": 2}, {"max_candidates": 3}])  # fmt: skip
def test_parameters(emulated: Any, case: Case, options: dict[str, Any]) -> None:
    compare(emulated, replace(case, params=replace(case.params, **options)))


def test_places_in_a_batch(emulated: Any) -> None:
    one, other = scene_case(0), scene_case(0)
    both = {n: np.concatenate([getattr(c.heads, n) for c in (one, other)]) for n in HEADS}
    both["heatmap"][1] += 0.5
    compare(emulated, replace(one, heads=replace(one.heads, **both)))


@pytest.mark.parametrize(("error", "words"), [(1, "no kernel for its architecture; rebuild"),
                                              (2, "driver is too old"), (3, "the words of CUDA")])  # fmt: skip
def test_faults_of_the_device_are_told_in_words(emulated: Any, case: Case, error: int, words: str) -> None:
    arrays, options = op_call(case)
    emulated.fail(error)
    try:
        with pytest.raises(ValueError, match=words):
            emulated.fuse(*arrays, **options, num_threads=FORWARDS)
    finally:
        emulated.fail(0)
    compare(emulated, case)


def ptx_of(kernel: Path, folder: Path, *, contract: bool = False) -> str:
    output = folder / f"{kernel.stem}.ptx"
    flags = [
        "-std=c++17",
        "-O3",
        f"-fmad={str(contract).lower()}",
        "-arch=compute_75",
        f"-I{build.ROOT / 'csrc/include'}",
    ]
    subprocess.run(["nvcc", "-ptx", *flags, str(kernel), "-o", str(output)], check=True, capture_output=True)
    return output.read_text()


def test_kernels_round_as_the_cpu_does(tmp_path: Path) -> None:
    """No multiplication is contracted with an addition, nothing is approximate or flushed to zero."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc to compile the kernels with")
    with ThreadPoolExecutor(2) as pool:
        texts = dict(zip(build.KERNELS, pool.map(lambda kernel: ptx_of(kernel, tmp_path), build.KERNELS), strict=True))
    inexact = re.compile(r"\b\w+(?:\.\w+)*(?:\.approx|\.ftz)[\w.]*|\bfma\.rn\.f32")
    for kernel, text in texts.items():
        assert ".entry" in text, kernel
        assert not set(inexact.findall(text)), kernel
    rescore = next(kernel for kernel in build.KERNELS if kernel.stem == "rescore")
    assert inexact.search(ptx_of(rescore, tmp_path, contract=True))  # or nothing is proved


def test_the_build_names_its_architectures() -> None:
    text = (build.ROOT / "CMakeLists.txt").read_text()
    assert re.search(r"CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90 100-real 120-real\)", text)
    assert "-fmad=false" in text


def test_kernels_are_built_where_torch_has_cuda_and_a_compiler_is() -> None:
    torch = pytest.importorskip("torch", reason="needs deeperlab[torch]")
    from deeperlab.stages.torch_ops import HAS_CUDA

    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc to compile the kernels with")
    if torch.version.cuda is not None:
        assert HAS_CUDA


def test_the_operators_on_cuda_tensors_compile_beside_any_torch() -> None:
    """They are left out of a build beside a torch without CUDA, and use none of its headers."""
    folders = [build.ROOT / "csrc/include", build.ROOT / "csrc", build.ROOT / "src"]
    includes = [f"-I{folder}" for folder in folders] + ["-isystem", str(build.ROOT / "src/third_party/torch/include")]
    version = re.search(r"TORCH_TARGET_VERSION=\w+", (build.ROOT / "CMakeLists.txt").read_text())
    assert version is not None
    flags = ["-std=c++17", "-fsyntax-only", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", f"-D{version[0]}"]
    subprocess.run(["g++", *flags, *includes, str(build.ROOT / "src/torch/operators_cuda.cpp")], check=True)
