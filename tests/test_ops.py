# SPDX-License-Identifier: Apache-2.0
"""The torch operators as torch sees them: schemas, fake kernels, torch.compile and torch.export."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import deeperlab
from deeperlab import FuseParams, Heads
from deeperlab.stages import pipeline
from deeperlab.stages import torch_ops as ops

THINGS = [1, 3, 4]
PARAMS = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_candidates=64, max_instances=32)


def tensors(heads: Heads) -> tuple[torch.Tensor, ...]:
    return heads.semantic, heads.heatmap, heads.short_range, heads.middle_range, heads.long_range


class Recorder:
    """A backend of the pipeline that keeps what every operator is given."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        def stage(*args: Any, **options: Any) -> Any:
            self.calls[name] = args, options
            return getattr(ops, name)(*args, **options)

        return stage


def fuse_options(heads: Heads) -> dict[str, Any]:
    return pipeline.Problem.of(heads, THINGS, heads.default_size, PARAMS).options("fuse")


def stage_arguments(heads: Heads) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of every op: each stage gets what the ones before it gave."""
    recorder = Recorder()
    pipeline.run(recorder, heads, THINGS, heads.default_size, PARAMS)
    return recorder.calls | {"fuse": (tensors(heads), fuse_options(heads))}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*pipeline.NAMES, "fuse"])
def test_opcheck(name: str, make_heads: Any, as_tensors: Any) -> None:
    args, options = stage_arguments(as_tensors(make_heads(seed=1, n=2)))[name]
    torch.library.opcheck(getattr(ops, name), args, options)


def test_opcheck_with_half_types_labels_and_odd_strides(make_heads: Any, as_tensors: Any) -> None:
    labels = as_tensors(make_heads(seed=1, n=2, labels=(65, 73)), torch.bfloat16)
    turned = [head.transpose(-1, -2).contiguous().transpose(-1, -2) for head in tensors(labels)]
    torch.library.opcheck(ops.fuse, tuple(turned), fuse_options(labels))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_fuse_compiles_as_one_graph(dynamic: bool, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    def parse(*heads: torch.Tensor) -> deeperlab.Panoptic:
        return deeperlab.fuse(heads, THINGS, params=PARAMS)

    compiled = torch.compile(parse, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shape in ({"h": 17, "w": 19}, {"h": 21, "w": 25}):
        heads = as_tensors(make_heads(seed=2, n=2, **shape))
        result = compiled(*tensors(heads))
        assert isinstance(result, deeperlab.Panoptic)
        assert_same(result, parse(*tensors(heads)))


@pytest.mark.slow
def test_a_size_that_follows_the_image_compiles(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    def parse(image: torch.Tensor, *heads: torch.Tensor) -> deeperlab.Panoptic:
        height, width = image.shape[2:]
        return deeperlab.fuse(heads, THINGS, size=(height + 1, width), params=PARAMS)

    compiled = torch.compile(parse, fullgraph=True, dynamic=True, backend="aot_eager")
    for h, w in ((17, 19), (21, 25)):
        image = torch.zeros(2, 3, 4 * h - 5, 4 * w - 6)
        heads = tensors(as_tensors(make_heads(seed=2, n=2, h=h, w=w)))
        assert_same(compiled(image, *heads), parse(image, *heads))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # torch's own, inside inductor
def test_the_op_compiles_with_inductor(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=3))
    options = fuse_options(heads)

    def parse(*heads: torch.Tensor) -> torch.Tensor:
        semantic, instance, *_ = torch.ops.deeperlab.fuse(*(head * 1.0 for head in heads), **options)
        return semantic * 1000 + instance

    assert_same(torch.compile(parse, fullgraph=True)(*tensors(heads)), parse(*tensors(heads)))


class Parser(torch.nn.Module):
    """What a user exports: a network that ends in the fusion."""

    def forward(self, *heads: torch.Tensor) -> deeperlab.Panoptic:
        return deeperlab.fuse(Heads(*heads, stride=4), THINGS, params=PARAMS)


class Plain(torch.nn.Module):
    """The shortest call, whose parameters are made within the graph: torch 2.11 followed less of that than others."""

    def forward(self, *heads: torch.Tensor) -> deeperlab.Panoptic:
        return deeperlab.fuse(heads, THINGS)


def test_a_call_without_parameters_compiles_and_exports(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = tensors(as_tensors(make_heads(seed=6, n=2)))
    compiled = torch.compile(Plain(), fullgraph=True, backend="aot_eager")
    assert_same(compiled(*heads), Plain()(*heads))
    assert_same(torch.export.export(Plain(), heads, strict=True).module()(*heads), Plain()(*heads))


@pytest.mark.parametrize("strict", [False, True])
def test_heads_are_an_argument_of_an_exported_program(
    strict: bool, make_heads: Any, as_tensors: Any, assert_same: Any
) -> None:
    class Fuse(torch.nn.Module):
        def forward(self, heads: Heads) -> deeperlab.Panoptic:
            return deeperlab.fuse(heads, THINGS)

    heads = as_tensors(make_heads(seed=7, n=2))
    program = torch.export.export(Fuse(), (heads,), strict=strict)
    assert_same(program.module()(heads), Fuse()(heads))


def test_fuse_exports_with_dynamic_sizes(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    n, h, w = (torch.export.Dim(name, min=2, max=512) for name in "nhw")
    example = tensors(as_tensors(make_heads(seed=4, n=2)))
    program = torch.export.export(Parser(), example, dynamic_shapes=((({0: n, 2: h, 3: w},) * 5),))
    for shape in ({"n": 2}, {"n": 3, "h": 23, "w": 9}):
        heads = tensors(as_tensors(make_heads(seed=5, **shape)))
        assert_same(program.module()(*heads), Parser()(*heads))


def test_meta_tensors_give_shapes_without_work(make_heads: Any, as_tensors: Any) -> None:
    heads = tensors(as_tensors(make_heads(n=2)))
    result = deeperlab.fuse(tuple(head.to("meta") for head in heads), THINGS, params=PARAMS)
    real = deeperlab.fuse(heads, THINGS, params=PARAMS)
    for name in ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated"):
        fake, true = getattr(result, name), getattr(real, name)
        assert fake.is_meta
        assert (fake.shape, fake.dtype, fake.stride()) == (true.shape, true.dtype, true.stride())
