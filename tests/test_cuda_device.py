# SPDX-License-Identifier: Apache-2.0
"""The CUDA engine on a GPU: the bits of the CPU, from any stream, in a graph, compiled, a thousand times. Skipped where
there is no GPU; tests/test_cuda_kernels.py runs the same kernels without one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from crf_cases import random_case as random_crf
from crf_cases import scene
from simd_digests import EAGER, Case, random_case, scene_case, semantic_loss_case

import deeperlab
from deeperlab import CRFParams, Heads, Panoptic
from deeperlab.models import CRF
from deeperlab.predictor.refine import refined
from deeperlab.stages import crf_ops
from deeperlab.stages.torch_ops import HAS_CUDA
from deeperlab.training import losses

if not (torch.cuda.is_available() and HAS_CUDA):
    pytest.skip("no CUDA device, or built without CUDA", allow_module_level=True)

HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")


def on(device: str, heads: Heads) -> Heads:
    return replace(heads, **{name: torch.as_tensor(np.ascontiguousarray(getattr(heads, name))).to(device)
                             for name in HEADS})  # fmt: skip


def fuse(case: Case, heads: Heads) -> Panoptic:
    return deeperlab.fuse(heads, case.things, size=case.size, params=case.params)


def assert_equal(got: Panoptic, want: Panoptic) -> None:
    for field in fields(want):
        if field.name != "things":
            left, right = (torch.as_tensor(getattr(p, field.name)).cpu() for p in (got, want))
            assert torch.equal(left, right), field.name


@pytest.fixture
def case() -> Case:
    return scene_case(0)


@pytest.mark.parametrize("seed", range(24))
def test_drawn_scenes(seed: int) -> None:
    case = scene_case(seed)
    assert_equal(fuse(case, on("cuda", case.heads)), fuse(case, on("cpu", case.heads)))


@pytest.mark.parametrize("seed", range(330))
def test_random_heads(seed: int) -> None:
    case = random_case(seed)
    assert_equal(fuse(case, on("cuda", case.heads)), fuse(case, on("cpu", case.heads)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_and_odd_strides(case: Case, dtype: torch.dtype) -> None:
    heads = on("cuda", case.heads)
    half = replace(heads, **{name: getattr(heads, name).to(dtype) for name in HEADS})
    turned = {name: getattr(half, name).contiguous(memory_format=torch.channels_last) for name in HEADS}
    want = fuse(case, replace(half, **{name: getattr(half, name).cpu() for name in HEADS}))
    assert_equal(fuse(case, half), want)
    assert_equal(fuse(case, replace(half, **turned)), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_pixel_heads(case: Case, dtype: torch.dtype) -> None:
    heads = on("cpu", case.heads)
    given = {name: getattr(heads, name).to(dtype) for name in HEADS}
    options = {"grid": "half_pixel", "units": "nodes", "stride": heads.stride, "graph": heads.graph}
    want = Heads.from_layout(**given, **options)
    got = Heads.from_layout(**{name: head.cuda() for name, head in given.items()}, **options)
    for name in HEADS:
        assert torch.equal(getattr(got, name).cpu(), getattr(want, name)), name


@pytest.mark.parametrize("seed", range(60))
def test_semantic_losses(seed: int) -> None:
    arrays, options = semantic_loss_case(np.random.default_rng(seed))
    found = []
    for device in ("cpu", "cuda"):
        logits, labels, weight = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)
        loss = losses.semantic(logits.requires_grad_(), labels, weight=weight, **options)
        found.append((loss.detach().cpu(), torch.autograd.grad(loss.sum(), logits)[0].cpu()))
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


def test_a_wrong_label_makes_the_loss_of_its_image_nan() -> None:
    labels = torch.zeros(2, 9, 9, dtype=torch.int32)
    labels[1, 3, 4] = 5
    assert losses.semantic(torch.zeros(2, 5, 3, 3).cuda(), labels.cuda()).isnan().tolist() == [False, True]


@pytest.mark.parametrize("seed", range(60))
def test_crfs(seed: int) -> None:
    semantic, image, options = random_crf(seed)
    given = torch.from_numpy(semantic), torch.from_numpy(image)
    want = crf_ops.crf(*given, **options)
    assert torch.equal(crf_ops.crf(*(part.cuda() for part in given), **options).cpu(), want)
    for name in ("stride", "iterations", "probabilities"):
        del options[name]
    values = torch.randn(*semantic.shape[:2], *image.shape[1:3])
    for transposed in (False, True):
        want = crf_ops.crf_filter(values, given[1], **options, transposed=transposed)
        got = crf_ops.crf_filter(values.cuda(), given[1].cuda(), **options, transposed=transposed)
        assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_crfs_of_half_types_and_odd_strides_a_hundred_times(dtype: torch.dtype) -> None:
    semantic, image = (torch.from_numpy(array)[None] for array in scene(1)[:2])
    semantic = semantic.to(dtype)
    semantic[0, 1, 3:6], semantic[0, 2, 5:8] = torch.nan, torch.inf
    want = deeperlab.crf(semantic, image)
    turned = semantic.cuda().contiguous(memory_format=torch.channels_last)
    planar = image.cuda().movedim(-1, 1).contiguous().movedim(1, -1)
    for _ in range(100):
        assert torch.equal(deeperlab.crf(turned, planar).cpu(), want)


def test_the_gradient_of_a_crf() -> None:
    semantic, image = (torch.from_numpy(array)[None].cuda() for array in scene(0)[:2])
    layer = CRF(CRFParams(iterations=2)).cuda()
    semantic.requires_grad_()
    scores = layer(semantic, image)
    np.testing.assert_allclose(
        scores.softmax(1).detach().cpu(), deeperlab.crf(semantic, image, iterations=2).cpu(), atol=1e-4
    )
    values = torch.rand(1, 3, *image.shape[1:3])
    kernels = CRFParams().kernels()
    found = []
    for device in ("cpu", "cuda"):
        given = values.to(device).requires_grad_()
        message = crf_ops.crf_filter(given, image.to(device), **kernels, transposed=False)
        found.append(torch.autograd.grad((message * values.to(device)).sum(), given)[0].cpu())
    assert torch.equal(*found)
    scores.square().mean().backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in (semantic, layer.w1, layer.w2))


def test_heads_are_refined_where_they_lie(case: Case) -> None:
    heads = on("cuda", case.heads).map(lambda head: head[0])
    colors = torch.randint(0, 256, (*case.size, 3), dtype=torch.uint8)
    made = refined(heads, colors, CRFParams())
    assert made.semantic.is_cuda
    assert torch.equal(made.semantic.cpu(), refined(heads.map(lambda head: head.cpu()), colors, CRFParams()).semantic)


def test_a_crf_is_not_captured_unless_nothing_waits() -> None:
    semantic, image = (torch.from_numpy(array).cuda() for array in scene(0)[:2])
    want = deeperlab.crf(semantic, image, w1=0)
    deeperlab.crf(semantic, image)
    with torch.cuda.graph(graph := torch.cuda.CUDAGraph()):
        found = deeperlab.crf(semantic, image, w1=0)
    graph.replay()
    assert torch.equal(found, want)
    with (
        pytest.raises((ValueError, RuntimeError), match="a graph is being captured"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        deeperlab.crf(semantic, image)


def test_opcheck_of_crfs() -> None:
    semantic, image = (torch.from_numpy(array)[None].cuda() for array in scene(0)[:2])
    kernels = CRFParams().kernels()
    options = {**kernels, "stride": 4, "iterations": 1, "probabilities": False}
    torch.library.opcheck(crf_ops.crf, (semantic, image), options)
    values = torch.randn(1, 2, *image.shape[1:3], device="cuda", requires_grad=True)
    torch.library.opcheck(crf_ops.crf_filter, (values, image), {**kernels, "transposed": False})


def test_a_thousand_times() -> None:
    """Threads of a GPU come in any order; the result does not."""
    case = scene_case(1)
    heads = on("cuda", case.heads)
    want = fuse(case, heads)
    for _ in range(1000):
        got = fuse(case, heads)
        assert all(torch.equal(getattr(got, f.name), getattr(want, f.name)) for f in fields(want) if f.name != "things")


def test_places_in_a_batch(case: Case) -> None:
    heads = on("cuda", case.heads)
    batch = replace(heads, **{name: getattr(heads, name).expand(5, *getattr(heads, name).shape[1:]) for name in HEADS})
    want = fuse(case, heads)
    for i in range(5):
        assert_equal(fuse(case, batch)[i : i + 1], want)


def test_other_streams_are_respected(case: Case) -> None:
    heads, stream = on("cuda", case.heads), torch.cuda.Stream()
    want = fuse(case, heads)
    late = {name: torch.zeros_like(getattr(heads, name)) for name in HEADS}
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # the heads arrive late, on this stream
        for name in HEADS:
            late[name].copy_(getattr(heads, name))
        got = fuse(case, replace(heads, **late))
    stream.synchronize()
    assert_equal(got, want)


def test_graphs_are_captured_and_replayed(case: Case) -> None:
    heads = on("cuda", case.heads)
    blank = replace(heads, **{name: torch.zeros_like(getattr(heads, name)) for name in HEADS})
    fuse(case, blank)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = fuse(case, blank)
    for other in (heads, on("cuda", replace(case.heads, heatmap=case.heads.heatmap + 1))):
        for name in HEADS:
            getattr(blank, name).copy_(getattr(other, name))
        graph.replay()
        assert_equal(result, fuse(case, other))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_waits_for_the_device(case: Case) -> None:
    heads = on("cuda", case.heads)
    fuse(case, heads)
    try:
        torch.cuda.set_sync_debug_mode("error")
        fuse(case, heads)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_whole(case: Case) -> None:
    heads = on("cuda", case.heads)
    compiled = torch.compile(lambda h: fuse(case, h), fullgraph=True)
    assert_equal(compiled(heads), fuse(case, heads))


def test_opcheck(case: Case) -> None:
    from test_cuda_kernels import op_call

    arrays, options = op_call(case)
    tensors = tuple(torch.as_tensor(head).cuda() for head in arrays)
    torch.library.opcheck(deeperlab.stages.torch_ops.fuse, tensors, options)


def test_tensors_on_two_devices_are_refused_by_the_op(case: Case) -> None:
    from test_cuda_kernels import op_call

    arrays, options = op_call(case)
    tensors = [torch.as_tensor(head).cuda() for head in arrays]
    for i in range(5):
        mixed = [*tensors[:i], tensors[i].cpu(), *tensors[i + 1 :]]
        with pytest.raises((ValueError, RuntimeError), match="device"):
            deeperlab.stages.torch_ops.fuse(*mixed, **options)


def test_more_than_two_to_the_31_elements(case: Case) -> None:
    """Logits and maps of one batch beyond 32 bits: every image as it is alone."""
    classes, h, w = 66, 361, 361
    images = 2**31 // (classes * h * w) + 2
    if torch.cuda.mem_get_info()[0] < 30 << 30:
        pytest.skip("needs 30 GiB of device memory")
    generator = torch.Generator("cuda").manual_seed(1)
    channels = (classes, 5, 10, 16, 10)
    one = [torch.randn(1, c, h, w, device="cuda", generator=generator).half() * 3 for c in channels]
    many = [head.repeat(images, 1, 1, 1) for head in one]
    assert many[0].numel() > 2**31
    params = replace(EAGER, max_candidates=500)
    want = deeperlab.fuse(Heads(*one), range(37), params=params)
    got = deeperlab.fuse(Heads(*many), range(37), params=params)
    for i in (0, 1, images // 2, images - 2, images - 1):
        assert_equal(got[i : i + 1], want)


def test_maps_of_more_than_two_to_the_31_pixels() -> None:
    h, images = 361, 1100
    if torch.cuda.mem_get_info()[0] < 60 << 30:
        pytest.skip("needs 60 GiB of device memory")
    generator = torch.Generator("cuda").manual_seed(2)
    one = [torch.randn(1, c, h, h, device="cuda", generator=generator).half() for c in (2, 5, 10, 16, 10)]
    many = [head.expand(images, -1, -1, -1) for head in one]
    want = deeperlab.fuse(Heads(*one), (0,))
    got = deeperlab.fuse(Heads(*many), (0,))
    assert got.semantic.numel() > 2**31
    for i in (0, images // 2, images - 1):
        assert_equal(got[i : i + 1], want)


def test_many_small_images() -> None:
    """More images than there are blocks at a time."""
    case = scene_case(9)
    heads = on("cuda", case.heads)
    parts = {name: getattr(heads, name)[..., :9, :9].expand(600, -1, -1, -1).contiguous() for name in HEADS}
    small = replace(heads, **parts)
    alone = replace(heads, **{name: part[:1] for name, part in parts.items()})
    assert_equal(deeperlab.fuse(small, case.things)[599:], deeperlab.fuse(alone, case.things))


def test_one_chain_of_conflicts() -> None:
    """Every hypothesis waits for the one before it: the worst case of the tickets."""
    case = scene_case(0)
    heads = on("cuda", case.heads)
    nowhere = {name: torch.zeros_like(getattr(heads, name)) for name in ("middle_range",)}
    params = replace(EAGER, nms_radius=1000.0, nms_radius_min=1000.0, max_candidates=4096)
    chained = replace(case, params=params)
    near = replace(heads, **nowhere)
    cpu = replace(near, **{name: getattr(near, name).cpu() for name in HEADS})
    assert_equal(fuse(chained, near), fuse(chained, cpu))


def test_gradients_are_not_asked_for(case: Case) -> None:
    heads: Any = on("cuda", case.heads)
    heads = replace(heads, heatmap=heads.heatmap.requires_grad_())
    assert not fuse(case, heads).score.requires_grad
