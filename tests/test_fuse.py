# SPDX-License-Identifier: Apache-2.0
"""deeperlab.fuse as a whole: equal to the reference, and the same bits whatever the circumstances."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import FuseParams, Heads, Panoptic
from deeperlab.stages import pipeline, reference

THINGS = (1, 3, 4)
PARAMS = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_candidates=512)
NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")


def expected(heads: Heads, params: FuseParams, size: tuple[int, int] | None = None) -> Panoptic:
    return pipeline.fuse(reference, heads, THINGS, size or heads.default_size, params)


def changed(heads: Heads, function: Any) -> Heads:
    return replace(heads, **{name: function(getattr(heads, name)) for name in NAMES})


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_fuse_equals_the_reference(stride: int, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = make_heads(seed=stride, n=2, stride=stride, h=33, w=29)
    want = expected(heads, PARAMS)
    assert want.count.min() > 0
    assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=PARAMS), want)
    assert_same(deeperlab.fuse(heads, THINGS, params=PARAMS), want)


def test_fuse_equals_the_reference_on_other_graphs(
    graph: Any, make_heads: Any, as_tensors: Any, assert_same: Any
) -> None:
    heads = make_heads(seed=3, graph=graph, h=25, w=21)
    want = expected(heads, PARAMS)
    assert (want.count[0] > 0) == bool(graph.keypoints)
    assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=PARAMS), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32(dtype: Any, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    half = as_tensors(make_heads(seed=1, n=2, nan=0.01, inf=0.01), dtype)
    wide = changed(half, torch.Tensor.float)
    result = deeperlab.fuse(half, THINGS, params=PARAMS)
    assert_same(result, deeperlab.fuse(wide, THINGS, params=PARAMS))
    assert_same(result, expected(changed(wide, to_numpy), PARAMS))


def test_every_half_becomes_the_right_float(as_tensors: Any, make_heads: Any, assert_same: Any) -> None:
    """All 65,536 bit patterns of both half types, seen through the long-range head of a 256 x 256 grid."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16).reshape(1, 1, 256, 256).expand(1, 2, 256, 256)
    for dtype in (torch.float16, torch.bfloat16):
        field = bits.view(dtype)
        target = deeperlab.stages.torch_ops.refine(field, field, stride=1, long_steps=0, long_short_steps=0)
        y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
        wide = field.float()
        assert_same(target[0, 0], torch.stack((x + wide[0, 0], y + wide[0, 1]), -1))


def test_any_strides_are_read_without_a_copy(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=2, n=2))
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    last = changed(heads, lambda head: head.contiguous(memory_format=torch.channels_last))
    assert not last.heatmap.is_contiguous()
    assert_same(deeperlab.fuse(last, THINGS, params=PARAMS), want)
    wide = changed(heads, lambda head: head.repeat_interleave(2, 3)[..., ::2])
    assert_same(deeperlab.fuse(wide, THINGS, params=PARAMS), want)
    turned = changed(make_heads(seed=2, n=2), lambda head: head[..., ::-1, ::-1].copy()[..., ::-1, ::-1])
    assert_same(deeperlab.fuse(turned, THINGS, params=PARAMS), want)  # negative strides: NumPy only


def test_position_and_size_of_a_batch_change_nothing(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=4, n=5, nan=0.01))
    batch = deeperlab.fuse(heads, THINGS, params=PARAMS)
    for i in range(5):
        alone = deeperlab.fuse(changed(heads, lambda head, i=i: head[i : i + 1]), THINGS, params=PARAMS)
        assert_same(batch[i : i + 1], alone)
        assert_same(batch[i], deeperlab.fuse(changed(heads, lambda head, i=i: head[i]), THINGS, params=PARAMS))


@pytest.mark.slow
def test_threads_and_repeats_change_nothing(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = make_heads(seed=6, n=2, h=65, w=57)
    want = expected(heads, PARAMS)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=PARAMS), want)
            assert_same(deeperlab.fuse(heads, THINGS, params=PARAMS, num_threads=threads), want)
    finally:
        torch.set_num_threads(before)
    for _ in range(100):
        assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=PARAMS), want)


def test_calls_from_several_threads_do_not_meet(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    inputs = [as_tensors(make_heads(seed=i, h=41, w=37)) for i in range(4)]
    want = [deeperlab.fuse(heads, THINGS, params=PARAMS) for heads in inputs]
    faults: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(20):
                assert_same(deeperlab.fuse(inputs[i], THINGS, params=PARAMS), want[i])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_the_gil_is_released(kind: str, make_heads: Any, as_tensors: Any, releases_gil: Any) -> None:
    heads = make_heads(seed=0, h=401, w=401, classes=20)
    heads = as_tensors(heads) if kind == "tensors" else heads
    assert releases_gil(lambda: deeperlab.fuse(heads, THINGS))


def test_a_mapping_and_a_five_tuple_are_heads_too(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=7))
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    tensors = {name: getattr(heads, name) for name in NAMES}
    assert_same(deeperlab.fuse(tuple(tensors.values()), THINGS, params=PARAMS), want)
    assert_same(deeperlab.fuse({**tensors, "stride": 4, "graph": deeperlab.STAR}, THINGS, params=PARAMS), want)


@pytest.mark.parametrize(
    "things",
    [
        [4, 1, 3, 3],
        {1, 3, 4},
        iter((1, 3, 4)),
        np.array([1, 3, 4]),
        torch.tensor([1, 3, 4]),
        [False, True, False, True, True, False],
        np.array([False, True, False, True, True, False]),
        torch.tensor([False, True, False, True, True, False]),
    ],
    ids=["list", "set", "iterator", "array", "tensor", "mask", "array mask", "tensor mask"],
)
def test_things_are_ids_or_a_mask(things: Any, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=8))
    result = deeperlab.fuse(heads, things, params=PARAMS)
    assert result.things == (1, 3, 4)
    assert_same(result, deeperlab.fuse(heads, THINGS, params=PARAMS))


def test_a_batch_of_none_is_an_empty_result(make_heads: Any, as_tensors: Any) -> None:
    heads = make_heads(n=0)
    for given in (heads, as_tensors(heads)):
        result = deeperlab.fuse(given, THINGS)
        assert tuple(result.semantic.shape) == (0, 65, 73)
        assert tuple(result.keypoints.shape) == (0, 1024, 5, 2)
        assert tuple(result.class_area.shape) == (0, 6)
        assert len(result) == 0
        assert result.batch_segments == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_integer_labels_take_the_place_of_logits(
    dtype: Any, make_heads: Any, as_tensors: Any, assert_same: Any
) -> None:
    heads = make_heads(seed=9, n=2, labels=(66, 74))
    heads = replace(heads, semantic=heads.semantic.astype(dtype))  # uint8: -1 becomes 255, void as well
    want = expected(heads, PARAMS)
    assert (want.semantic == -1).any()
    assert_same(deeperlab.fuse(heads, THINGS, params=PARAMS), want)
    assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=PARAMS), want)


def test_no_things_means_no_instances(make_heads: Any) -> None:
    heads = make_heads(seed=10)
    result = deeperlab.fuse(heads, [])
    assert (result.instance == 0).all()
    np.testing.assert_array_equal(result.semantic, expected_labels(heads))
    assert all(not segment.isthing for image in result.batch_segments for segment in image)


def expected_labels(heads: Heads) -> np.ndarray:
    return reference.argmax(
        heads.semantic, num_classes=heads.classes, stride=4, nodes=heads.heatmap.shape[-2:], size=heads.default_size
    )[1]


def test_too_many_candidates_or_instances_are_said(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = make_heads(seed=11, h=33, w=33)
    loose = replace(PARAMS, nms_radius=0.0, nms_radius_min=0.0, box_iou=1.0, peak_threshold=0.0)
    free = deeperlab.fuse(heads, THINGS, params=loose)
    assert not free.truncated[0]
    assert free.count[0] > 4
    for tight in (replace(loose, max_candidates=3), replace(loose, max_instances=4)):
        result = deeperlab.fuse(as_tensors(heads), THINGS, params=tight)
        assert result.truncated[0]
        assert_same(result, expected(heads, tight))


def test_gradients_do_not_flow_and_do_not_fail(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=12))
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    result = deeperlab.fuse(changed(heads, lambda head: head.clone().requires_grad_()), THINGS, params=PARAMS)
    assert not result.score.requires_grad
    assert_same(result, want)


def test_arrays_never_load_torch() -> None:
    program = """
import sys
import numpy as np
import deeperlab
rng = np.random.default_rng(0)
shapes = (3, 5, 10, 16, 10)
heads = deeperlab.Heads(*(rng.standard_normal((c, 9, 9), dtype=np.float32) for c in shapes))
panoptic = deeperlab.fuse(heads, [1])
panoptic.segments, panoptic.to_ids(1000), panoptic.to_coco()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONWARNINGS": "error"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_repeated_calls_keep_no_memory(kind: str, make_heads: Any, as_tensors: Any) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    heads = make_heads(h=260, w=300)  # maps of 5 MB: on huge pages, owned by a deleter
    heads = as_tensors(heads) if kind == "tensors" else heads
    for call in range(60):
        result = deeperlab.fuse(heads, THINGS)
        if call == 20:
            before = resident()
    assert result.semantic.nbytes > 2**22
    assert resident() - before < 2**27  # 40 calls made 400 MB of maps; the allocator may keep some to itself


@pytest.mark.slow
def test_more_than_2_to_the_31_elements(assert_same: Any) -> None:
    """Sizes and strides that no 32-bit index can hold: expanded heads, and channels 2^31 elements apart."""
    one = torch.randn(1, 1, 65, 65)
    many = [torch.randn(1, c, 65, 65) for c in (5, 10, 16, 10)]
    classes = 2**15
    heads = Heads(one.expand(17, classes, 65, 65), *(head.expand(17, -1, -1, -1) for head in many))
    assert heads.semantic.numel() > 2**31
    small = Heads(one.expand(1, 2, 65, 65), *many)
    big, little = deeperlab.fuse(heads, [0], params=PARAMS), deeperlab.fuse(small, [0], params=PARAMS)
    for i in (0, 16):
        assert_same(big[i].instance, little[0].instance)
        assert_same(big[i].keypoints, little[0].keypoints)

    storage = torch.zeros(2**31 + 65 * 65, dtype=torch.float16)  # untouched pages: 4 GB in address space alone
    far = storage.as_strided((1, 2, 65, 65), (0, 2**31, 65, 1))
    far[0, 1] = one[0, 0].half()
    near = far.contiguous()
    halves = [head.half() for head in many]
    assert_same(deeperlab.fuse((far, *halves), [0], params=PARAMS), deeperlab.fuse((near, *halves), [0], params=PARAMS))
