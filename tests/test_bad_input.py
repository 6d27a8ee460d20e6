# SPDX-License-Identifier: Apache-2.0
"""Whatever does not fit is refused before any work, and the message says which argument, what was expected and what
came. Nothing crashes the process: this file also runs under sanitizers (`make asan`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import deeperlab
from deeperlab import STAR, FuseParams, Graph, Heads
from deeperlab.stages import pipeline

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
CHANNELS = dict(zip(NAMES, (6, 5, 10, 16, 10), strict=True))
THINGS = [1, 3, 4]
PARAMS = FuseParams(peak_threshold=0.001, instance_threshold=0.0, max_candidates=64, max_instances=32)

Given = dict[str, Any]
NOT_A_NUMBER, INFINITE = float("nan"), float("inf")


def refused(error: type[Exception], name: str, expected: str = "", came: Any = "") -> Any:
    """Raises `error` with the message "name: expected …expected…, got …came…"."""
    return pytest.raises(error, match=rf"(?s)\A{name}: expected .*{re.escape(expected)}.*{re.escape(str(came))}")


def brief(value: Any) -> str:
    """A short test id."""
    return value.__name__ if isinstance(value, type) else " ".join(str(value).split())[:30]


def cast(head: Any, dtype: str) -> Any:
    return head.astype(dtype) if isinstance(head, np.ndarray) else head.to(getattr(torch, dtype))


@pytest.fixture(params=["tensors", "arrays"])
def given(request: pytest.FixtureRequest, make_heads: Any, as_tensors: Any) -> Given:
    """Five heads of 2 images, 5 x 6 nodes, 6 classes, as keyword arguments of Heads."""
    heads = make_heads(n=2, h=5, w=6)
    heads = as_tensors(heads) if request.param == "tensors" else heads
    return {name: getattr(heads, name) for name in NAMES}


def with_labels(given: Given, *shape: int, dtype: str = "int32", **options: Any) -> Given:
    labels = np.zeros(shape, dtype)
    array = isinstance(given["heatmap"], np.ndarray)
    return {**given, "semantic": labels if array else torch.from_numpy(labels), **options}


# Heads: shapes


SHAPES: list[tuple[str, Callable[[Any], Any], str, str]] = [
    ("heatmap", lambda head: head[0, 0], "[N, P, h, w]", "[5, 6]"),
    ("heatmap", lambda head: head[None], "[N, P, h, w]", "[1, 2, 5, 5, 6]"),
    ("heatmap", lambda head: head[:, :4], "5 channels", "[2, 4, 5, 6]"),
    ("heatmap", lambda head: head[:, :0], "5 channels", "[2, 0, 5, 6]"),
    ("short_range", lambda head: head[0], "[2, 10, 5, 6]", "[10, 5, 6]"),
    ("short_range", lambda head: head[:, :9], "[2, 10, 5, 6]", "[2, 9, 5, 6]"),
    ("short_range", lambda head: head[..., :5], "[2, 10, 5, 6]", "[2, 10, 5, 5]"),
    ("short_range", lambda head: head[:1], "[2, 10, 5, 6]", "[1, 10, 5, 6]"),
    ("middle_range", lambda head: head[None], "[2, 16, 5, 6]", "[1, 2, 16, 5, 6]"),
    ("middle_range", lambda head: head[:, ::2], "[2, 16, 5, 6]", "[2, 8, 5, 6]"),
    ("long_range", lambda head: head[:, :, :4], "[2, 10, 5, 6]", "[2, 10, 4, 6]"),
    ("long_range", lambda head: head[:0], "[2, 10, 5, 6]", "[0, 10, 5, 6]"),
    ("semantic", lambda head: head[0, 0], "logits [2, 'C', 5, 6]", "[5, 6]"),
    ("semantic", lambda head: head[None], "logits [2, 'C', 5, 6]", "[1, 2, 6, 5, 6]"),
    ("semantic", lambda head: head[:1], "logits [2, 'C', 5, 6]", "[1, 6, 5, 6]"),
    ("semantic", lambda head: head[:, :0], "logits [2, 'C', 5, 6]", "[2, 0, 5, 6]"),
    ("semantic", lambda head: head[..., 1:], "logits [2, 'C', 5, 6]", "[2, 6, 5, 5]"),
]


@pytest.mark.parametrize(
    ("name", "change", "expected", "came"), SHAPES, ids=[f"{name} {came}" for name, _, _, came in SHAPES]
)
def test_a_shape_that_does_not_fit(name: str, change: Any, expected: str, came: str, given: Given) -> None:
    given[name] = change(given[name])
    with refused(ValueError, name, expected, came):
        Heads(**given)
    with refused(ValueError, name, expected, came):
        deeperlab.fuse(given, THINGS)


def test_logits_without_the_batch_dimension_of_the_others(given: Given) -> None:
    given["semantic"] = given["semantic"][0]
    with refused(TypeError, "semantic", "labels", "float32"):
        Heads(**given)


@pytest.mark.parametrize("axis", [2, 3])
def test_an_image_of_no_nodes(axis: int, given: Given) -> None:
    empty = {name: head[:, :, :0] if axis == 2 else head[..., :0] for name, head in given.items()}
    with refused(ValueError, "heatmap", "at least 1 x 1 nodes", "0"):
        Heads(**empty)


def test_heads_of_another_graph(given: Given) -> None:
    with refused(ValueError, "heatmap", "4 channels", "[2, 5, 5, 6]"):
        Heads(**given, graph=deeperlab.RECTANGLE)


# Heads: types


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool", "complex64"])
def test_a_head_of_another_dtype(name: str, dtype: str, given: Given) -> None:
    given[name] = cast(given[name], dtype)
    remedy = ".astype(numpy.float32)" if isinstance(given[name], np.ndarray) else ".float()"
    with refused(TypeError, name, "float32, float16", f"{dtype}; use {remedy}"):
        Heads(**given)


def test_float64_heads_are_told_how_to_convert(given: Given) -> None:
    heads = {name: cast(head, "float64") for name, head in given.items()}
    with refused(TypeError, "heatmap", "float32, float16", "float64"):
        deeperlab.fuse(heads, THINGS)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "heatmap"])
def test_heads_of_two_dtypes(name: str, given: Given) -> None:
    given[name] = cast(given[name], "float16")
    with refused(TypeError, name, "float32 as heatmap", "float16"):
        Heads(**given)


@pytest.mark.parametrize("dtype", ["bool", "float32", "float16", "int8", "uint16", "complex64"])
def test_labels_of_another_dtype(dtype: str, given: Given) -> None:
    with refused(TypeError, "semantic", "labels of dtype uint8, int16, int32, int64", dtype):
        Heads(**with_labels(given, 2, 17, 21, dtype=dtype), num_classes=6)


class Impostor:
    """Has what a tensor has, and is none."""

    dtype, shape, ndim, device = "float32", (2, 5, 5, 6), 4, None

    def __repr__(self) -> str:
        return "Impostor()"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("thing", [None, "head", 1.5, [[[[0.0]]]], ((0.0,),), {}, Impostor()], ids=repr)
def test_something_that_is_no_tensor(name: str, thing: Any, given: Given) -> None:
    given[name] = thing
    came = re.escape(type(thing).__name__)
    with pytest.raises(TypeError, match=rf"\A\w+: expected .*(torch.Tensor|numpy.ndarray|ndarray|Tensor).*{came}"):
        Heads(**given)


def test_only_impostors(given: Given) -> None:
    with refused(TypeError, "heatmap", "torch.Tensor or a numpy.ndarray", "Impostor"):
        Heads(*(Impostor() for _ in NAMES))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "heatmap"])
def test_tensors_among_arrays(name: str, given: Given) -> None:
    head = given[name]
    given[name] = torch.from_numpy(head) if isinstance(head, np.ndarray) else head.numpy()
    kinds = ("ndarray", "Tensor")
    expected, came = kinds if isinstance(head, np.ndarray) else kinds[::-1]
    with refused(TypeError, name, expected, came):
        Heads(**given)


@pytest.mark.parametrize("name", NAMES)
def test_heads_on_two_devices(name: str, make_heads: Any, as_tensors: Any) -> None:
    heads = as_tensors(make_heads())
    given = {other: getattr(heads, other) for other in NAMES}
    given[name] = given[name].to("meta")
    blamed = "short_range" if name == "heatmap" else name
    with refused(ValueError, blamed, "device", "cpu" if name == "heatmap" else "meta"):
        deeperlab.fuse(given, THINGS)


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_mkldnn"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
def test_tensors_that_are_not_strided(layout: str, make_heads: Any, as_tensors: Any) -> None:
    heads = as_tensors(make_heads())
    for head in ("semantic", "long_range"):
        with refused((TypeError, ValueError), head, "strided", "mkldnn" if "mkldnn" in layout else "sparse"):
            replace(heads, **{head: getattr(getattr(heads, head), layout)()})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["object", ">f4", ">f2", [("logit", "f4")], "U1", "m8[s]", "V4"], ids=brief)
def test_arrays_of_strange_dtypes(name: str, dtype: Any, make_heads: Any) -> None:
    heads = make_heads()
    strange = np.zeros(getattr(heads, name).shape, dtype)
    with refused(TypeError, name, "float32", strange.dtype):
        replace(heads, **{name: strange})
    with refused(TypeError, "heatmap", "float32", strange.dtype):
        Heads(*(np.zeros((1, channels, 5, 6), dtype) for channels in CHANNELS.values()))


@pytest.mark.parametrize("dtype", ["object", ">i4", ">i8", [("label", "i4")], "U1"], ids=brief)
def test_labels_of_strange_dtypes(dtype: Any, make_heads: Any) -> None:
    heads = make_heads(labels=(65, 73))
    strange = np.zeros((1, 65, 73), dtype)
    with refused(TypeError, "semantic", "uint8, int16, int32, int64", strange.dtype):
        replace(heads, semantic=strange)


def unaligned(head: np.ndarray) -> np.ndarray:
    """The same values one byte off."""
    return np.frombuffer(b"\0" + head.tobytes(), head.dtype, offset=1).reshape(head.shape)


def packed(head: np.ndarray) -> np.ndarray:
    """The same values as a field of a packed record: strides that are no multiple of the element."""
    record = np.zeros(head.shape, [("value", head.dtype), ("flag", "u1")])
    record["value"] = head
    return record["value"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", [unaligned, packed])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_arrays_that_no_pointer_can_follow(name: str, spoil: Any, dtype: str, make_heads: Any) -> None:
    heads = make_heads()
    heads = replace(heads, **{other: cast(getattr(heads, other), dtype) for other in NAMES})
    heads = replace(heads, **{name: spoil(getattr(heads, name))})
    with refused(ValueError, name, "", "got"):
        deeperlab.fuse(heads, THINGS)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
@pytest.mark.parametrize("spoil", [unaligned, packed])
def test_labels_that_no_pointer_can_follow(dtype: str, spoil: Any, make_heads: Any) -> None:
    heads = make_heads(labels=(65, 73))
    heads = replace(heads, semantic=spoil(heads.semantic.astype(dtype)))
    with refused(ValueError, "semantic", "", "got"):
        deeperlab.fuse(heads, THINGS)


def test_the_numpy_binding_checks_byte_order_itself(make_heads: Any) -> None:
    from deeperlab import _numpy

    heads = make_heads(n=1, h=5, w=6)
    options = pipeline.Problem.of(heads, THINGS, (17, 21), PARAMS).options("fuse")
    for dtype in (">f4", ">f2", "f8", "i4", "O"):
        with pytest.raises((TypeError, ValueError), match=r"\A\w+: expected "):
            _numpy.fuse(*(getattr(heads, name).astype(dtype) for name in NAMES), **options)


# Heads: stride, graph, number of classes


@pytest.mark.parametrize(
    ("stride", "error", "expected"),
    [
        (0, ValueError, "at least 1"),
        (-4, ValueError, "at least 1"),
        (True, TypeError, "an int"),
        (4.0, TypeError, "an int"),
        ("4", TypeError, "an int"),
        (None, TypeError, "an int"),
        ((4, 4), TypeError, "an int"),
    ],
    ids=brief,
)
def test_strides(stride: Any, error: Any, expected: str, given: Given) -> None:
    with refused(error, "stride", expected, stride):
        Heads(**given, stride=stride)


@pytest.mark.parametrize("stride", [2**16 + 1, 2**31, 2**62])
def test_strides_beyond_any_image(stride: int, given: Given) -> None:
    with refused(ValueError, "stride", str(2**16), stride):
        deeperlab.fuse({**given, "stride": stride}, THINGS, size=(1, 1))


@pytest.mark.parametrize("graph", [None, "star", STAR.edges, Graph], ids=["None", "name", "edges", "class"])
def test_graphs_that_are_none(graph: Any, given: Given) -> None:
    with refused(TypeError, "graph", "deeperlab.Graph", type(graph).__name__):
        Heads(**given, graph=graph)


@pytest.mark.parametrize(
    ("classes", "error"),
    [(None, ValueError), (0, ValueError), (-1, ValueError), (True, TypeError), (6.0, TypeError), ("6", TypeError)],
    ids=brief,
)
def test_labels_need_the_number_of_classes(classes: Any, error: Any, given: Given) -> None:
    with refused(error, "num_classes", "", classes):
        Heads(**with_labels(given, 2, 17, 21), num_classes=classes)


def test_a_number_of_classes_that_the_logits_contradict(given: Given) -> None:
    with refused(ValueError, "num_classes", "6", 7):
        Heads(**given, num_classes=7)


def test_labels_of_another_batch(given: Given) -> None:
    with refused(ValueError, "semantic", "[2, 'H', 'W']", "[3, 17, 21]"):
        Heads(**with_labels(given, 3, 17, 21), num_classes=6)


@pytest.mark.parametrize("classes", [2**15 + 1, 2**31, 2**40])
def test_too_many_classes(classes: int, given: Given) -> None:
    with refused(ValueError, "num_classes", str(2**15), classes):
        deeperlab.fuse({**with_labels(given, 2, 17, 21), "num_classes": classes}, THINGS)


def expanded(kind: str, n: int, h: int, w: int, classes: int = 6) -> Given:
    """Heads of any size that occupy four bytes each: all strides are zero."""
    shapes = {name: (n, channels, h, w) for name, channels in {**CHANNELS, "semantic": classes}.items()}
    if kind == "tensors":
        return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize(
    ("shape", "stride", "size", "name", "expected"),
    [
        ((1, 8192, 8193), 1, (9, 9), "heatmap", "2^26 nodes"),
        ((1, 1, 2**24 + 1), 1, (1, 9), "heatmap", "2^24 a side"),
        ((1, 2**30, 2**20), 1, (1, 9), "heatmap", "2^26 nodes"),
        ((1, 1, 2**20 + 1), 1, None, "size", "2^20 pixels a side"),
        ((1, 2**18, 1), 5, None, "size", "2^20 pixels a side"),
        ((1, 4096, 4096), 12, None, "size", "2^31 - 1 in all"),
        ((2**29, 1, 1), 1, None, "heatmap", "images"),
    ],
    ids=brief,
)
def test_maps_too_large_for_the_fixed_point(
    kind: str, shape: Any, stride: int, size: Any, name: str, expected: str
) -> None:
    came = shape[1] if name == "heatmap" and shape[0] == 1 else shape[0] if name == "heatmap" else ""
    with refused(ValueError, name, expected, came):
        deeperlab.fuse({**expanded(kind, *shape), "stride": stride}, THINGS, size=size)


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_more_ballots_than_fit(kind: str) -> None:
    heads = expanded(kind, 1, 1, 1, classes=2**15)
    deeperlab.fuse(heads, THINGS, params=FuseParams(max_instances=15))
    with refused(ValueError, "max_instances", "2^28", 8192):
        deeperlab.fuse(heads, THINGS, params=FuseParams(max_instances=8192))


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize(
    "fault",
    [
        {"things": [6]},
        {"things": [True] * 5},
        {"size": (0, 1)},
        {"size": (2**14 + 1, 1)},
        {"params": FuseParams(kappa=(0.1,) * 4)},
        {"params": {}},
        {"stride": 2**16 + 1, "size": (1, 1)},
        {"num_threads": -1},
    ],
    ids=brief,
)
def test_what_is_wrong_is_said_before_any_work(kind: str, fault: Any) -> None:
    """Any work at all would need petabytes."""
    heads = {**expanded(kind, 2**20, 4096, 4096), "stride": fault.get("stride", 4)}
    arguments = {"things": THINGS, **{name: value for name, value in fault.items() if name != "stride"}}
    with pytest.raises((ValueError, TypeError), match=rf"\A({'|'.join(('kappa', *fault))}): expected .*, got "):
        deeperlab.fuse(heads, **arguments)


# Graph


@pytest.mark.parametrize(
    ("keypoints", "edges", "error", "name", "expected", "came"),
    [
        (tuple("k" * i for i in range(33)), (), ValueError, "keypoints", "0 to 32", "33"),
        (("a", "a"), ((0, 1), (1, 0)), ValueError, "keypoints", "distinct", "('a', 'a')"),
        (None, (), TypeError, "keypoints", "", "None"),
        (5, (), TypeError, "keypoints", "", "int"),
        (("a", "b"), ((0, 2), (1, 0)), ValueError, "edges", "[0, 2)", "(0, 2)"),
        (("a", "b"), ((0, 1), (1, -1)), ValueError, "edges", "[0, 2)", "(1, -1)"),
        (("a", "b"), ((0, 1), (1, 0), (0, 1)), ValueError, "edges", "", "(0, 1)"),
        (("a", "b"), ((0, 1), (1, 0)) * 129, ValueError, "edges", "256", "258"),
        (("a", "b"), ((0, 1, 2), (1, 0)), (ValueError, TypeError), "edges", "", "(0, 1, 2)"),
        (("a", "b"), ((0, 1.5), (1, 0)), TypeError, "edges", "", "1.5"),
        (("a", "b"), (("0", "1"), (1, 0)), TypeError, "edges", "", "0"),
        (("a", "b"), (0, 1), TypeError, "edges", "", "0"),
        (("a", "b"), None, TypeError, "edges", "", "None"),
    ],
    ids=brief,
)
def test_graphs_that_do_not_hold(keypoints: Any, edges: Any, error: Any, name: str, expected: str, came: str) -> None:
    with refused(error, name, expected, came):
        Graph(keypoints, edges)


@pytest.mark.parametrize(
    "edges", [(), ((0, 1),), ((0, 1), (1, 0)), ((0, 1), (1, 2)), ((0, 1), (1, 0), (2, 0), (2, 2))], ids=str
)
def test_keypoints_that_cannot_be_reached(edges: Any) -> None:
    with pytest.raises(ValueError, match=r"\Aedges: .*cannot be reached from '\w'"):
        Graph(("a", "b", "c"), edges)


# Heads.from_layout


@pytest.mark.parametrize(
    ("options", "error", "name", "came"),
    [
        ({"components": "xyz"}, ValueError, "components", "'xyz'"),
        ({"components": None}, ValueError, "components", "None"),
        ({"keypoints": STAR.keypoints[:4]}, ValueError, "keypoints", "bottom_left"),
        ({"keypoints": (*STAR.keypoints[:4], "nose")}, ValueError, "keypoints", "nose"),
        ({"keypoints": STAR.keypoints[:1] * 5}, ValueError, "keypoints", "top_left"),
        ({"keypoints": (0, 1, 2, 3, "center")}, (ValueError, TypeError), "keypoints", "center"),
        ({"keypoints": 5}, TypeError, "keypoints", "int"),
        ({"edges": STAR.edges[:7]}, ValueError, "edges", "(2, 4)"),
        ({"edges": (*STAR.edges[:7], (0, 1))}, ValueError, "edges", "(0, 1)"),
        ({"edges": (*STAR.edges[:7], (3, 4, 5))}, (ValueError, TypeError), "edges", "(3, 4, 5)"),
        ({"edges": 8}, TypeError, "edges", "int"),
        ({"graph": None}, TypeError, "graph", "None"),
        ({"stride": 0}, ValueError, "stride", "0"),
    ],
    ids=brief,
)
def test_layouts_that_do_not_hold(options: Any, error: Any, name: str, came: str, given: Given) -> None:
    with refused(error, name, "", came):
        Heads.from_layout(**given, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("thing", [None, [0.0], 1.5, "head"], ids=repr)
def test_layouts_of_something_that_is_no_tensor(name: str, thing: Any, given: Given) -> None:
    with pytest.raises(TypeError, match=rf"\A\w+: expected .*{type(thing).__name__}"):
        Heads.from_layout(**{**given, name: thing}, components="yx")


@pytest.mark.parametrize("name", NAMES[1:])
def test_layouts_with_too_few_channels(name: str, given: Given) -> None:
    given[name] = given[name][:, 1:]
    expected = f"{CHANNELS[name]} channels"
    with refused(ValueError, name, expected, CHANNELS[name] - 1):
        Heads.from_layout(**given, components="planar_yx")


# fuse: heads, things, size, params, threads


def test_heads_in_no_known_form(given: Given) -> None:
    for heads, came in ((None, "NoneType"), (given["heatmap"], type(given["heatmap"]).__name__), ("heads", "str")):
        with refused(TypeError, "heads", "deeperlab.Heads, a mapping or five tensors", came):
            deeperlab.fuse(heads, THINGS)
    four = tuple(given.values())[:4]
    with refused(ValueError, "heads", "five tensors", 4):
        deeperlab.fuse(four, THINGS)
    with refused(ValueError, "heads", "heatmap", "missing ['heatmap']"):
        deeperlab.fuse({name: head for name, head in given.items() if name != "heatmap"}, THINGS)
    with refused(ValueError, "heads", "heatmap", "unknown ['heat']"):
        deeperlab.fuse({**given, "heat": given["heatmap"]}, THINGS)


@pytest.mark.parametrize(
    ("things", "error", "expected", "came"),
    [
        (None, TypeError, "class ids or a boolean mask", "NoneType"),
        (3, TypeError, "class ids or a boolean mask", "int"),
        ("134", TypeError, "class ids or a boolean mask", "str"),
        (b"134", TypeError, "class ids or a boolean mask", "bytes"),
        ([6], ValueError, "[0, 6)", 6),
        ([1, -1], ValueError, "[0, 6)", -1),
        ([2**70], ValueError, "[0, 6)", 2**70),
        (np.array([1, 6]), ValueError, "[0, 6)", 6),
        (torch.tensor([-7]), ValueError, "[0, 6)", -7),
        ([1.0], TypeError, "integer class ids", 1.0),
        ([None], TypeError, "integer class ids", None),
        (["1"], TypeError, "integer class ids", "'1'"),
        (np.array([1.5]), TypeError, "integer class ids", 1.5),
        (torch.tensor([1.0]), TypeError, "integer class ids", 1.0),
        (torch.tensor(1), TypeError, "class ids or a boolean mask", "Tensor"),
        ([True, 3], TypeError, "class ids or a boolean mask", "mixture"),
        ([3, np.True_], TypeError, "class ids or a boolean mask", "mixture"),
        ([True] * 5, ValueError, "mask of 6 classes", 5),
        (np.zeros(7, bool), ValueError, "mask of 6 classes", 7),
        (torch.ones(1, dtype=torch.bool), ValueError, "mask of 6 classes", 1),
        (torch.zeros(0, dtype=torch.bool), ValueError, "mask of 6 classes", 0),
        (torch.ones(6, 6, dtype=torch.bool), (TypeError, ValueError), "", "True"),
        (np.array([[1, 2]]), (TypeError, ValueError), "integer class ids", "[1, 2]"),
    ],
    ids=brief,
)
def test_things_that_are_no_classes(things: Any, error: Any, expected: str, came: Any, given: Given) -> None:
    with refused(error, "things", expected, came):
        deeperlab.fuse(given, things)


@pytest.mark.parametrize(
    ("size", "error", "expected", "came"),
    [
        ((0, 21), ValueError, "1 to 20 by 1 to 24", "0 x 21"),
        ((17, 0), ValueError, "1 to 20 by 1 to 24", "17 x 0"),
        ((-1, 21), ValueError, "1 to 20 by 1 to 24", "-1 x 21"),
        ((21, 21), ValueError, "1 to 20 by 1 to 24", "21 x 21"),
        ((17, 25), ValueError, "1 to 20 by 1 to 24", "17 x 25"),
        ((2**70, 1), ValueError, "1 to 20 by 1 to 24", 2**70),
        ((17,), ValueError, "(H, W)", "(17,)"),
        ((1, 17, 21), ValueError, "(H, W)", "(1, 17, 21)"),
        ((), ValueError, "(H, W)", "()"),
        (17, (ValueError, TypeError), "(H, W)", "17"),
        ("17", (ValueError, TypeError), "", "17"),
        ((17.0, 21.0), TypeError, "", "17.0"),
        ((17, None), TypeError, "", "None"),
        (("17", "21"), TypeError, "", "17"),
    ],
    ids=brief,
)
def test_sizes_that_do_not_fit(size: Any, error: Any, expected: str, came: Any, given: Given) -> None:
    with refused(error, "size", expected, came):
        deeperlab.fuse(given, THINGS, size=size)


@pytest.mark.parametrize("shape", [(17, 20), (1, 1), (18, 21)])
def test_a_size_that_the_labels_contradict(shape: tuple[int, int], given: Given) -> None:
    heads = {**with_labels(given, 2, *shape), "num_classes": 6}
    with refused(ValueError, "size", str(shape), (17, 21)):
        deeperlab.fuse(heads, THINGS, size=(17, 21))


@pytest.mark.parametrize("shape", [(0, 21), (17, 0), (21, 21), (17, 25)])
def test_labels_that_do_not_fit_the_grid(shape: tuple[int, int], given: Given) -> None:
    heads = {**with_labels(given, 2, *shape), "num_classes": 6}
    with refused(ValueError, "(size|semantic)", "1 to 20 by 1 to 24", f"{shape[0]} x {shape[1]}"):
        deeperlab.fuse(heads, THINGS)


@pytest.mark.parametrize("params", [{}, "paper", FuseParams, 0.05], ids=["dict", "str", "class", "number"])
def test_params_of_another_type(params: Any, given: Given) -> None:
    with refused(TypeError, "params", "deeperlab.FuseParams", type(params).__name__):
        deeperlab.fuse(given, THINGS, params=params)


@pytest.mark.parametrize("count", [1, 4, 6, 33])
def test_kappas_for_other_keypoints(count: int, given: Given) -> None:
    with refused(ValueError, "kappa", "5", count):
        deeperlab.fuse(given, THINGS, params=FuseParams(kappa=(0.1,) * count))


@pytest.mark.parametrize(
    ("threads", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (1.5, TypeError), ("2", TypeError)],
    ids=brief,
)
def test_numbers_of_threads(threads: Any, error: Any, make_heads: Any) -> None:
    with refused(error, "num_threads", "", threads):
        deeperlab.fuse(make_heads(), THINGS, num_threads=threads)
    deeperlab.fuse(make_heads(), THINGS, num_threads=np.int64(2))  # type: ignore[arg-type]


def test_threads_are_for_arrays(make_heads: Any, as_tensors: Any) -> None:
    with refused(ValueError, "num_threads", "None for tensors", 2):
        deeperlab.fuse(as_tensors(make_heads()), THINGS, num_threads=2)


# FuseParams


BOUNDS: dict[str, tuple[Any, Any]] = {
    "long_steps": (0, 64),
    "long_short_steps": (0, 64),
    "middle_steps": (0, 64),
    "vote_cell": (1, 1024),
    "max_candidates": (1, 65536),
    "max_instances": (1, 65535),
    "short_weight": (0.0, 8.0),
    "long_weight": (0.0, 8.0),
    "radius": (1.0, 4096.0),
    "peak_threshold": (0.0, 1e6),
    "kappa": (1e-4, 1e4),
    "instance_threshold": (0.0, 1.0),
    "nms_radius": (0.0, 1e6),
    "nms_radius_min": (0.0, 1e6),
    "nms_relative": (0.0, 1e3),
    "box_iou": (0.0, 1.0),
    "max_distance": (0.0, 1e6),
    "fit_area": (0.0, 1e6),
}
REALS = [name for name, bounds in BOUNDS.items() if isinstance(bounds[0], float)]


def beyond(name: str) -> list[Any]:
    """Values just below and just above the bounds, and far away."""
    low, high = BOUNDS[name]
    if isinstance(low, int):
        return [low - 1, high + 1, -(2**31), 2**31, 2**63 - 1]
    return [math.nextafter(low, -1.0), math.nextafter(high, math.inf), -1e308, 1e308, NOT_A_NUMBER, INFINITE, -INFINITE]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BOUNDS for value in beyond(name)])
def test_parameters_out_of_bounds(name: str, value: Any) -> None:
    low, high = BOUNDS[name]
    for given in (value,) if name != "kappa" else (value, (0.1, value)):
        with refused(ValueError, name, f"{low:g} to {high:g}", value):
            FuseParams(**{name: given})


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("end", [0, 1], ids=["least", "greatest"])
def test_bounds_are_allowed_and_taken(name: str, end: int, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    """Also by the engine, which has bounds of its own where a value indexes memory."""
    heads = make_heads(n=1, h=3, w=4)
    partner = {"nms_radius": {"nms_radius_min": 0.0}, "nms_radius_min": {"nms_radius": 1e6}}.get(name, {})
    params = FuseParams(**{**partner, name: BOUNDS[name][end]})
    assert getattr(params, name) == BOUNDS[name][end]
    result = deeperlab.fuse(heads, THINGS, params=params)
    assert result.score.shape == (1, params.max_instances)
    assert_same(deeperlab.fuse(as_tensors(heads), THINGS, params=params), result)


@pytest.mark.parametrize("name", REALS)
def test_integers_that_no_float_can_hold(name: str) -> None:
    with refused(ValueError, name, f"to {BOUNDS[name][1]:g}", str(10**400)[:20]):
        FuseParams(**{name: 10**400})


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", ["1", True, [1], {}, 1j, torch.tensor(1)], ids=brief)
def test_parameters_that_are_no_numbers(name: str, value: Any) -> None:
    value = [value] if name == "kappa" and value == [1] else value  # a list of numbers is one for each keypoint
    with refused(TypeError, name, "a number" if name in REALS else "an int", value if name != "kappa" else ""):
        FuseParams(**{name: value})


@pytest.mark.parametrize("name", [name for name in BOUNDS if name != "max_distance"])
def test_parameters_that_are_none(name: str) -> None:
    with refused(TypeError, name, "", None):
        FuseParams(**{name: None})


@pytest.mark.parametrize(
    ("options", "error", "name", "expected", "came"),
    [
        ({"long_steps": 1.0}, TypeError, "long_steps", "an int", 1.0),
        ({"short_weight": 1 / 512}, ValueError, "short_weight", "multiple of 1/256", 1 / 512),
        ({"long_weight": 0.3}, ValueError, "long_weight", "multiple of 1/256", 0.3),
        ({"nms_radius": 1.0}, ValueError, "nms_radius_min", "at most nms_radius = 1.0", 2.0),
        ({"nms_radius_min": 10.5}, ValueError, "nms_radius_min", "at most nms_radius = 10.0", 10.5),
        ({"long_voters": "things"}, ValueError, "long_voters", "('thing', 'all')", "'things'"),
        ({"long_voters": None}, ValueError, "long_voters", "('thing', 'all')", None),
        ({"long_voters": True}, ValueError, "long_voters", "('thing', 'all')", True),
        ({"majority": "most"}, ValueError, "majority", "('fit', 'all')", "'most'"),
        ({"oks_cell": 1}, TypeError, "oks_cell", "a bool", 1),
        ({"oks_cell": None}, TypeError, "oks_cell", "a bool", None),
        ({"kappa": [[0.1] * 5]}, TypeError, "kappa", "a number", [0.1]),
        ({"kappa": ()}, ValueError, "kappa", "one for each keypoint", ()),
        ({"kappa": (0.1, None)}, TypeError, "kappa", "a number", None),
    ],
    ids=brief,
)
def test_parameters_that_contradict(options: Any, error: Any, name: str, expected: str, came: Any) -> None:
    with refused(error, name, expected, str(came).rstrip("]")):
        FuseParams(**options)


# What looks odd, and is right


class Annotated(torch.Tensor):
    """A tensor class of somebody else's."""


class Labeled(np.ndarray):
    """An array class of somebody else's."""


def negated(head: torch.Tensor) -> torch.Tensor:
    """The same values in a tensor that torch negates when it is read."""
    lazy = torch.complex(torch.zeros_like(head), -head).conj().imag
    assert lazy.is_neg()
    return lazy


@pytest.mark.parametrize(
    "dress",
    [
        torch.nn.Parameter,
        lambda head: head.clone().requires_grad_() * 1.0,
        lambda head: head.as_subclass(Annotated),
        negated,
        torch.Tensor.pin_memory if torch.cuda.is_available() else torch.clone,
    ],
    ids=["parameter", "gradient", "subclass", "negated", "pinned"],
)
@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[3:]], ids=["all", "semantic", "middle and long"])
def test_tensors_in_disguise_work(dress: Any, names: Any, make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = as_tensors(make_heads(seed=1))
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    assert want.count[0] > 0
    dressed = replace(heads, **{name: dress(getattr(heads, name)) for name in names})
    assert_same(deeperlab.fuse(dressed, THINGS, params=PARAMS), want)


def read_only(head: np.ndarray) -> np.ndarray:
    copy = head.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize(
    "dress",
    [read_only, np.asfortranarray, lambda head: head.view(Labeled), lambda head: head.astype("<f4", copy=False)],
    ids=["read-only", "fortran", "subclass", "little-endian"],
)
@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[1:2]], ids=["all", "semantic", "heatmap"])
def test_arrays_in_disguise_work(dress: Any, names: Any, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=1)
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    dressed = replace(heads, **{name: dress(getattr(heads, name)) for name in names})
    assert_same(deeperlab.fuse(dressed, THINGS, params=PARAMS), want)


def test_mapped_files_work(tmp_path: Any, make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=1)
    mapped = {}
    for name in NAMES:
        np.save(tmp_path / f"{name}.npy", getattr(heads, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    assert_same(deeperlab.fuse(mapped, THINGS, params=PARAMS), deeperlab.fuse(heads, THINGS, params=PARAMS))


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_heads_of_zero_stride_work(kind: str, assert_same: Any) -> None:
    heads = expanded(kind, 2, 5, 6)
    copies = {name: head.copy() if kind == "arrays" else head.contiguous() for name, head in heads.items()}
    assert_same(deeperlab.fuse(heads, THINGS, params=PARAMS), deeperlab.fuse(copies, THINGS, params=PARAMS))


def test_integers_of_other_libraries_work(given: Given, assert_same: Any) -> None:
    size = np.array([18, 22])
    want = deeperlab.fuse(given, THINGS, size=(18, 22), params=PARAMS)
    for same in (tuple(size), tuple(size.tolist()), [18, 22], torch.Size((18, 22))):
        assert_same(deeperlab.fuse(given, np.array(THINGS, np.uint8), size=same, params=PARAMS), want)
