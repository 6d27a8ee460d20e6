# SPDX-License-Identifier: Apache-2.0
"""The stages called directly, as torch's ops and for arrays, with what no other stage would give them: each refuses it
by name and none crashes, least of all where a tensor holds indices. This file also runs under sanitizers."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from deeperlab import STAR, FuseParams, Heads, _numpy
from deeperlab._schema import OPERATORS
from deeperlab.stages import pipeline, reference
from deeperlab.stages import torch_ops as ops

Arguments = dict[str, Any]


class Calls(dict[str, Arguments]):
    """Arguments of every op by name, as tensors; `kind` says whether they are called as torch's ops or for arrays."""

    kind = "tensors"


HEADS = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
EDGES = [end for edge in STAR.edges for end in edge]
THINGS = [1, 3, 4]
N, C, P, H, W, K, M = 2, 6, 5, 5, 6, 48, 16  # images, classes, keypoints, nodes, candidates, instances
STRIDE, SIZE = 4, [17, 21]
NAN, INF = float("nan"), float("inf")
MOST = 2**15 - 1  # the greatest class that an op can be told of


def arguments_of(name: str) -> list[Any]:
    return list(getattr(ops, name)._schema.arguments)


TENSORS = [(op, a.name) for op in (*pipeline.NAMES, "fuse") for a in arguments_of(op) if str(a.type) == "Tensor"]


def refused(name: str, expected: str = "", came: Any = "") -> Any:
    """Raises an error with the message "name: expected …expected…, got …came…"."""
    return pytest.raises(
        (ValueError, TypeError), match=rf"(?s)\A{name}: expected .*{re.escape(expected)}.*got .*{re.escape(str(came))}"
    )


def call(calls: Calls, op: str, **changes: Any) -> Any:
    arguments = {**calls[op], **changes}
    if calls.kind == "tensors":
        return getattr(ops, op)(**arguments)
    arguments = {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    return getattr(_numpy, op)(**arguments)


def refusal(calls: Calls, op: str, **changes: Any) -> str | None:
    """The message with which a call is refused; None where it is not."""
    try:
        call(calls, op, **changes)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def tensors_only(test: Any) -> Any:
    return pytest.mark.parametrize("calls", ["tensors"], indirect=True)(test)


@pytest.fixture(scope="module", params=["tensors", "arrays"])
def calls(request: pytest.FixtureRequest) -> Calls:
    """Arguments that every op accepts: each stage gets what the ones before it gave."""
    random = torch.Generator().manual_seed(1)
    channels = (C, P, 2 * P, 2 * len(STAR.edges), 2 * P)
    semantic, heatmap, short, middle, long = (5 * torch.randn(N, c, H, W, generator=random) for c in channels)
    params = FuseParams(long_steps=1, peak_threshold=1e-4, instance_threshold=0.0, max_candidates=K, max_instances=M)
    calls = Calls()

    class Recorder:
        def __getattr__(self, op: str) -> Any:
            def run(*arrays: Any, **options: Any) -> Any:
                calls[op] = dict(zip(OPERATORS[op].arrays, arrays, strict=True)) | options
                return call(calls, op)

            return run

    heads = Heads(semantic, heatmap, short, middle, long)
    values = pipeline.run(Recorder(), heads, THINGS, (SIZE[0], SIZE[1]), params)
    options = pipeline.Problem.of(heads, THINGS, (SIZE[0], SIZE[1]), params).options("fuse")
    calls["fuse"] = {name: getattr(heads, name) for name in HEADS} | options
    call(calls, "fuse")
    count, instances = values["candidates"], values["count"]
    assert 0 < count.min() <= count.max() < K
    assert 0 < instances.min() <= instances.max() < M
    calls.kind = request.param
    return calls


# Tensors of the wrong kind, whichever the argument


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_a_tensor_of_another_rank(op: str, name: str, calls: Calls) -> None:
    tensor = calls[op][name]
    for other in (tensor[None], tensor[0], torch.tensor(0).to(tensor.dtype), torch.empty(0, dtype=tensor.dtype)):
        with refused(name):
            call(calls, op, **{name: other})


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_a_tensor_of_another_dtype(op: str, name: str, calls: Calls) -> None:
    tensor = calls[op][name]
    head = tensor.dtype == torch.float32 and tensor.ndim == 4 and name != "keypoints"
    blamed = f"({'|'.join(HEADS)})" if head else name  # a head that differs may be called the right one
    dtypes = {torch.float64, torch.int32, torch.int64, torch.bool, torch.complex64, torch.float16} - {tensor.dtype}
    for dtype in dtypes - ({torch.float16} if op in ("argmax", "rescore") else set()):
        with refused(blamed):
            call(calls, op, **{name: tensor.to(dtype)})


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_a_tensor_of_another_size_is_refused_or_used(op: str, name: str, calls: Calls) -> None:
    """Where the shape of an argument is free the call is another one; everything else names an argument of the op."""
    tensor = calls[op][name]
    known = "|".join(a.name for a in arguments_of(op))
    fitting = 0
    for axis, length in enumerate(tensor.shape):
        for other in (0, 1, length - 1, length + 1, 3 * length):
            if other != length:
                index = torch.arange(other) % length
                message = refusal(calls, op, **{name: tensor.index_select(axis, index)})
                assert message is None or re.match(rf"({known}): expected .+, got .+", message), (axis, other, message)
                fitting += message is None
    assert fitting < 5 * tensor.ndim or op in ("argmax", "peaks")


@pytest.mark.parametrize(
    ("op", "name"), [(op, name) for op, name in TENSORS if name not in HEADS and (op, name) != ("peaks", "votes")]
)
def test_a_tensor_that_is_not_contiguous(op: str, name: str, calls: Calls) -> None:
    tensor = calls[op][name]
    spread = torch.stack((tensor, tensor), -1)[..., 0]
    with refused(name, "contiguous"):
        call(calls, op, **{name: spread})
    with refused(name, "contiguous"):
        call(calls, op, **{name: tensor[:1].expand(tensor.shape)})


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_something_that_is_no_tensor(op: str, name: str, calls: Calls) -> None:
    for other in (None, [0.0], np.float32(0), 1.0, "tensor"):
        with pytest.raises((ValueError, TypeError, RuntimeError)):  # torch's own check of the schema comes first
            call(calls, op, **{name: other})


@tensors_only
@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_a_tensor_whose_storage_was_freed_or_shortened(op: str, name: str, calls: Calls, assert_same: Any) -> None:
    for left in (0, 1, -1):  # bytes; -1: all but the last
        tensor = calls[op][name].clone()
        storage = tensor.untyped_storage()
        storage.resize_(left if left >= 0 else storage.nbytes() - 1)
        with refused(name, "a storage that holds the tensor", storage.nbytes()):
            call(calls, op, **{name: tensor})
    first, second = torch.stack([calls[op][name]] * 2).unbind()
    first.untyped_storage().resize_(first.nbytes)
    with refused(name, "a storage that holds the tensor", first.nbytes):
        call(calls, op, **{name: second})
    assert_same(call(calls, op, **{name: first}), call(calls, op))  # what is left is enough


@tensors_only
@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_a_tensor_that_is_not_strided(op: str, name: str, calls: Calls) -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):  # torch knows that there is no such kernel
        call(calls, op, **{name: calls[op][name].to_sparse()})


@tensors_only
@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in TENSORS if op not in ("argmax", "peaks")])
def test_tensors_on_two_devices(op: str, name: str, calls: Calls) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match="device"):
        call(calls, op, **{name: calls[op][name].to("meta")})


@pytest.mark.parametrize("op", [*pipeline.NAMES, "fuse"])
def test_a_batch_of_none_passes_every_op(op: str, calls: Calls) -> None:
    none = {a.name: calls[op][a.name][:0] for a in arguments_of(op) if str(a.type) == "Tensor"}
    result, full = call(calls, op, **none), call(calls, op)
    pairs = zip(*((r if isinstance(r, (tuple, list)) else (r,)) for r in (result, full)), strict=True)
    assert all(empty.shape == (0, *some.shape[1:]) and empty.dtype == some.dtype for empty, some in pairs)


# Arrays that are no plain memory


def unaligned(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


def records(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, [("value", array.dtype)])


def nothings(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, [])  # elements of no bytes


@pytest.mark.parametrize("calls", ["arrays"], indirect=True)
@pytest.mark.parametrize(("op", "name"), TENSORS)
@pytest.mark.parametrize("spoil", [unaligned, swapped, records, nothings, lambda array: array.astype(object)])
def test_arrays_that_are_no_plain_memory(op: str, name: str, spoil: Any, calls: Calls) -> None:
    blamed = f"({'|'.join(HEADS)})" if name in HEADS else name
    with refused(blamed):
        call(calls, op, **{name: spoil(calls[op][name].numpy())})


@pytest.mark.parametrize("calls", ["arrays"], indirect=True)
@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in TENSORS if name in HEADS])
@pytest.mark.parametrize("step", [2**62, -(2**62), 2**61 + 4])
def test_strides_that_are_never_taken_may_be_anything(
    op: str, name: str, step: int, calls: Calls, assert_same: Any
) -> None:
    """Those of axes with one element: no product with them is computed."""
    options = {"nodes": (1, W), "size": (1, 21), "votes": calls[op].get("votes")}
    one = {n: a[:1, ..., :1, :] if n in HEADS else a[:1] for n, a in calls[op].items() if isinstance(a, torch.Tensor)}
    if op == "vote":
        one |= {"target": one["target"][:, :, :1], "node_label": one["node_label"][:, :1]}
    if op == "rescore":
        one |= {"votes": one["votes"][:, :, :2].contiguous(), "keypoints": torch.zeros_like(one["keypoints"])}
    one = {n: a if n in HEADS else a.contiguous() for n, a in one.items()}
    changes = one | {n: options[n] for n in ("nodes", "size") if n in calls[op]}
    array = one[name].numpy()
    far = np.lib.stride_tricks.as_strided(array, array.shape, (step, array.strides[1], -step, array.strides[3]))
    assert_same(
        getattr(_numpy, op)(**_arrays({**calls[op], **changes}) | {name: far}),
        call(calls, op, **changes),
        f"{op} {name}",
    )


def _arrays(arguments: Arguments) -> Arguments:
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


@pytest.mark.parametrize("calls", ["arrays"], indirect=True)
@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_code_that_runs_while_numbers_are_read_changes_nothing_that_was_checked(
    op: str, name: str, calls: Calls
) -> None:
    """A number that frees an array's memory when it is asked for its value."""
    given = _arrays(calls[op])
    given[name] = given[name].copy()
    number = next(n for n in ("stride", "num_classes", "max_instances") if n in given)

    class Meddler:
        def __init__(self, value: int) -> None:
            self.value = value

        def __index__(self) -> int:
            given[name].resize(0, refcheck=False)
            return self.value

    with refused(name):
        getattr(_numpy, op)(**{**given, number: Meddler(given[number])})


# What another thread writes while a stage runs

WRITTEN: list[tuple[str, str, float, float]] = [  # op, tensor, a value that is right, one that leads far away
    ("vote", "node_label", 0, 2**30),
    ("vote", "target", 0, 1e9),
    ("peaks", "votes", 0, 2**40),
    ("trace", "candidate", 0, 2**30),
    ("trace", "count", 1, 2**30),
    ("rescore", "keypoints", 0, 1e9),
    ("rescore", "count", 1, 2**30),
    ("select", "candidate", 0, 2**30),
    ("select", "keypoint_score", 0, 1),
    ("select", "count", 1, 2**30),
    ("assign", "label", 0, 2**30),
    ("assign", "node_label", 0, 2**30),
    ("assign", "count", 1, 2**30),
    ("merge", "label", 0, 2**30),
    ("merge", "instance", 0, 2**30),
    ("merge", "node_label", 0, 2**30),
    ("merge", "node_instance", 0, 2**30),
    ("merge", "count", 1, 2**30),
]


@pytest.mark.slow
@pytest.mark.parametrize(("op", "name", "right", "wrong"), WRITTEN, ids=[f"{op} {name}" for op, name, *_ in WRITTEN])
def test_a_thread_that_writes_while_a_stage_runs_leads_nowhere(
    op: str, name: str, right: float, wrong: float, calls: Calls
) -> None:
    """Refused or not, the process goes on: what becomes an index was copied before it was checked."""
    tensor = calls[op][name].clone()
    done = threading.Event()

    def write() -> None:
        array = tensor.numpy().reshape(-1)
        while not done.is_set():
            array[::3] = wrong
            array[::3] = right

    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.3
    try:
        while time.monotonic() < end:
            refusal(calls, op, **{name: tensor})
    finally:
        done.set()
        writer.join()


# Numbers out of bounds

GRID: dict[str, list[Any]] = {"stride": [0, -1, 2**16 + 1, 2**40, 2**62, 2**63 - 1, -(2**63)]}
STEPS = [-1, 65, 2**40]
CELL = [0, -4, 1025, 2**40]
RADIUS = [0.5, 4097.0, -25.0, NAN, INF]
WEIGHT = [-0.5, 8.5, NAN, INF, 1 / 512]
PAIR: list[Any] = [[], [17], [17, 21, 1], [0, 21], [17, 0], [-1, 21], [2**40, 21], [17, 2**62]]
IDS: list[Any] = [[-1], [1, 2**15], [2**40], [-(2**63)]]
ENDS: list[Any] = [[0], EDGES[:-1], [*EDGES[:-1], 5], [*EDGES[:-1], -1], EDGES[:-2], [], EDGES * 33, [2**40, 0]]
KAPPA: list[Any] = [[], [0.1] * 4, [0.1] * 33, [0.0, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, NAN], [2e4] * P]
SELECT: dict[str, list[Any]] = {
    "instance_threshold": [-0.1, 1.1, NAN, INF],
    "nms_radius": [-1.0, 2e6, NAN, INF],
    "nms_radius_min": [-1.0, 2e6, NAN, INF],
    "nms_relative": [-0.1, 2e3, NAN, INF],
    "box_iou": [-0.1, 1.1, NAN, INF],
}
DISTANCE = [-1.0, NAN, -INF]
AREA = [-0.1, 2e6, NAN, INF]
CLASSES = [0, -1, 2**15 + 1, 2**40]
PLACES = [0, -1, 65536, 2**40]
CANDIDATES = [0, -1, 65537, 2**40]
NUMBERS: dict[str, dict[str, list[Any]]] = {
    "argmax": {**GRID, "num_classes": [*CLASSES, 5, 7], "nodes": [*PAIR, [5, 5]], "size": [*PAIR, [21, 21], [17, 25]]},
    "refine": {**GRID, "long_steps": STEPS, "long_short_steps": STEPS},
    "vote": {
        **GRID,
        **{"things": IDS, "size": [*PAIR, [21, 21]], "vote_cell": CELL, "short_weight": WEIGHT, "long_weight": WEIGHT},
    },
    "peaks": {
        **GRID,
        **{"nodes": PAIR, "vote_cell": CELL, "radius": RADIUS, "peak_threshold": [-0.1, 2e6, NAN, INF]},
        "max_candidates": CANDIDATES,
    },
    "trace": {**GRID, "edges": ENDS, "size": [*PAIR, [21, 21]], "middle_steps": STEPS},
    "rescore": {**GRID, "vote_cell": CELL, "radius": RADIUS, "kappa": KAPPA},
    "select": {**SELECT, "max_instances": PLACES},
    "assign": {**GRID, "things": IDS, "max_distance": DISTANCE},
    "merge": {"things": IDS, "num_classes": CLASSES, "radius": RADIUS, "fit_area": AREA},
    "fuse": {
        **GRID,
        **SELECT,
        **{"things": [*IDS, [6]], "num_classes": [*CLASSES, 5, 7], "edges": ENDS, "vote_cell": CELL, "kappa": KAPPA},
        **{"long_steps": STEPS, "long_short_steps": STEPS, "middle_steps": STEPS, "radius": RADIUS},
        **{"short_weight": WEIGHT, "long_weight": WEIGHT, "peak_threshold": [-0.1, 2e6, NAN, INF]},
        **{"max_candidates": CANDIDATES, "max_instances": PLACES, "max_distance": DISTANCE, "fit_area": AREA},
        "size": [*PAIR, [21, 21], [17, 25]],
    },
}


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in NUMBERS.items() for name in names])
def test_numbers_out_of_bounds(op: str, name: str, calls: Calls) -> None:
    # Where two contradict each other either may be called wrong.
    blamed = {"nodes": "(nodes|size)", "num_classes": "(num_classes|semantic)"}
    for value in NUMBERS[op][name]:
        try:
            with refused(blamed.get(name, name)):
                call(calls, op, **{name: value})
        except BaseException as error:
            raise AssertionError(f"{name} = {value}: {error}") from error


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in NUMBERS.items() for name in names])
def test_numbers_of_another_type(op: str, name: str, calls: Calls) -> None:
    for value in (*((None,) if name != "max_distance" else ()), "4", [None], torch.zeros(2, 2), 1j):
        with pytest.raises((ValueError, TypeError, RuntimeError, OverflowError)):  # torch's check of the schema
            call(calls, op, **{name: value})


@pytest.mark.parametrize("op", ["select", "merge", "fuse"])
def test_more_ballots_than_fit(op: str, calls: Calls) -> None:
    """(max_instances + 1) · num_classes <= 2^28; select knows no classes."""
    if op == "select":
        call(calls, op, max_instances=65535)
        return
    classes = 2**15
    if op == "fuse":
        semantic = torch.zeros(1).expand(N, classes, H, W)
        with refused("max_instances", "2^28", 8192):
            call(calls, op, semantic=semantic, num_classes=classes, max_instances=8192)
    else:
        keypoints = torch.zeros(1, 8192, P, 2)
        one = {name: calls[op][name][:1] for name, tensor in calls[op].items() if isinstance(tensor, torch.Tensor)}
        with refused("(max_instances|keypoints)", "2^28", 8192):
            call(calls, op, **{**one, "keypoints": keypoints}, num_classes=classes)


@pytest.mark.parametrize("op", ["refine", "vote", "trace", "rescore"])
def test_more_nodes_than_the_fixed_point_holds(op: str, calls: Calls) -> None:
    arguments = calls[op]
    for h, w, bound in ((8192, 8193, "2^26 nodes"), (1, 2**24 + 1, "2^24 a side")):
        wide = {}
        for name, tensor in arguments.items():
            if name in HEADS:
                wide[name] = torch.zeros(1).expand(*tensor.shape[:2], h, w)
        with refused(f"({'|'.join(wide)})", bound, f"{h} x {w}"):
            call(calls, op, **wide)


@pytest.mark.slow
def test_all_of_the_most_nodes_vote_for_one_place_without_a_carry() -> None:
    """2^26 short votes and as many long ones, 2^4 units each: twice 2^30, weighed by 256, in two cells."""
    h, w = 4, 2**24
    to_the_left = torch.stack([-torch.arange(w, dtype=torch.float32), torch.zeros(w)])[None, :, None]
    votes = ops.vote(
        torch.full((1, 1, 1, 1), torch.inf).expand(1, 1, h, w),
        to_the_left.expand(1, 2, h, w),
        torch.zeros(1, 1, h, w, 2),
        torch.zeros(1, h, w, dtype=torch.int32),
        **{"stride": 1, "size": (h, 9), "things": [], "long_voters": "all", "vote_cell": 16},
        **{"short_weight": 1.0, "long_weight": 1.0},
    )
    below = sum(y * 2**24 for y in range(h))  # y sixteenths of the short votes of row y
    assert votes[0, 0].tolist() == [[(2**31 - below) * 256, 0], [below * 256, 0]]


def test_the_fixed_point_has_as_many_places_as_the_nodes_leave() -> None:
    nodes = (1, 2**14), (2, 2**14), (2**12, 2**12), (2**12 + 1, 2**12), (2, 2**24), (2**13, 2**13)
    assert [reference._fraction_bits(*grid) for grid in nodes] == [16, 15, 6, 5, 5, 4]


@pytest.mark.parametrize("op", ["refine", "vote", "trace", "rescore"])
def test_more_keypoints_than_fit(op: str, calls: Calls) -> None:
    wide = {name: tensor.repeat(1, 7, 1, 1) for name, tensor in calls[op].items() if name in HEADS}
    changes = {"edges": [end for k in range(35) for end in (k, (k + 1) % 35)]} if op == "trace" else {}
    with refused(f"({'|'.join((*calls[op], 'nothing'))})"):
        call(calls, op, **wide, **changes)


# Tensors that hold indices


def spoiled(tensor: torch.Tensor, value: Any, where: int = -1) -> torch.Tensor:
    """A copy with one element replaced."""
    copy = tensor.clone()
    copy.view(-1)[where] = value
    return copy


LEAST, GREATEST = -(2**31), 2**31 - 1
INDICES: list[tuple[str, str, list[int]]] = [
    ("vote", "node_label", [-2, MOST + 1, LEAST, GREATEST]),
    ("trace", "count", [-1, K + 1, LEAST, GREATEST]),
    ("rescore", "count", [-1, K + 1, LEAST, GREATEST]),
    ("select", "count", [-1, K + 1, LEAST, GREATEST]),
    ("assign", "count", [-1, M + 1, LEAST, GREATEST]),
    ("assign", "node_label", [-2, MOST + 1, LEAST, GREATEST]),
    ("assign", "label", [-2, MOST + 1, LEAST, GREATEST]),
    ("merge", "count", [-1, M + 1, LEAST, GREATEST]),
    ("merge", "label", [-2, C, LEAST, GREATEST]),
    ("merge", "node_label", [-2, C, LEAST, GREATEST]),
    ("merge", "instance", [-1, M + 1, LEAST, GREATEST]),
    ("merge", "node_instance", [-1, M + 1, LEAST, GREATEST]),
]


@pytest.mark.parametrize(("op", "name", "values"), INDICES, ids=[f"{op} {name}" for op, name, _ in INDICES])
def test_indices_out_of_range(op: str, name: str, values: list[int], calls: Calls) -> None:
    for value in values:
        for where in (0, -1):
            with refused(name, "[", value):
                call(calls, op, **{name: spoiled(calls[op][name], value, where)})


@pytest.mark.parametrize("op", ["trace", "select"])
def test_candidates_of_no_kind(op: str, calls: Calls, assert_same: Any) -> None:
    for kind in (-1, P, LEAST, GREATEST):
        with refused("candidate", f"[0, {P})", kind):
            call(calls, op, candidate=spoiled(calls[op]["candidate"], kind, 0))
    past = spoiled(calls[op]["candidate"], GREATEST, -3)  # past the count anything goes: it is not read
    spoils = call(calls, op, candidate=past)
    assert_same(spoils, call(calls, op))


@pytest.mark.parametrize("name", ["instance", "node_instance"])
def test_instances_that_only_another_image_of_the_batch_has(name: str, calls: Calls) -> None:
    """One image found 2 instances, the other 5: number 4 of the first is out of range."""
    count = torch.tensor([2, 5], dtype=torch.int32)
    zeros = {other: torch.zeros_like(calls["merge"][other]) for other in ("instance", "node_instance")}
    labels = {other: torch.ones_like(calls["merge"][other]) for other in ("label", "node_label")}
    good = {**zeros, **labels, "count": count}
    call(calls, "merge", **good)
    call(calls, "merge", **{**good, name: spoiled(zeros[name], 4)})
    with refused(name, "", 4):
        call(calls, "merge", **{**good, name: spoiled(zeros[name], 4, 0)})


@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, 1e9, 3e38])
def test_keypoints_outside_the_image_have_no_score(value: float, calls: Calls) -> None:
    for where in (0, 1, -1):
        with refused("keypoints", "in the image"):
            call(calls, "rescore", keypoints=spoiled(calls["rescore"]["keypoints"], value, where))


@pytest.mark.parametrize("name", ["keypoint_score", "score"])
def test_scores_that_have_no_order(name: str, calls: Calls) -> None:
    for where in (0, -1):
        with refused(name, "no NaN", "nan"):
            call(calls, "select", **{name: spoiled(calls["select"][name], NAN, where)})


@pytest.mark.parametrize("value", [-1, -(2**63), 2**63 - 1, 2**45])
@pytest.mark.parametrize("op", ["peaks", "rescore"])
def test_votes_that_no_nodes_can_cast(op: str, value: int, calls: Calls) -> None:
    """All votes for a keypoint add up to 2^42, or to little more: 2^26 nodes, 2^4 each, two weights of 2^11."""
    for votes in (torch.full_like(calls[op]["votes"], value), spoiled(calls[op]["votes"], value)):
        with refused("votes"):
            call(calls, op, votes=votes)


def test_votes_whose_moments_would_leave_64_bits(calls: Calls) -> None:
    votes = torch.full((1, 1, 2, 17), 2**42)
    with refused("votes"):
        call(calls, "peaks", votes=votes, nodes=[1, 16], stride=2**16)


def test_votes_far_from_the_origin_keep_their_moments(calls: Calls) -> None:
    """The greatest sum that is let through, at the greatest position that an image has."""
    most, columns = 9 << 39, 2**18 + 1
    votes = torch.zeros((1, 1, 2, columns), dtype=torch.int64)
    votes[0, 0, 0, -1] = most
    grid = {"stride": 4, "nodes": [1, columns - 1], "vote_cell": 4, "peak_threshold": 1.0, "max_candidates": 2}
    _, position, count, _ = call(calls, "peaks", votes=votes, **grid)
    assert int(count[0]) == 1
    assert np.asarray(position)[0, 0].tolist() == [2.0**20, 0.0]
    with refused("votes"):
        call(calls, "peaks", votes=votes + (votes > 0), **grid)


@pytest.mark.parametrize("shape", [(N, P, 1, 7), (N, P, 6, 1), (N, P, 0, 0), (N, P, 2**20, 2), (N, 33, 6, 7)])
@pytest.mark.parametrize("op", ["peaks", "rescore"])
def test_score_maps_of_no_image(op: str, shape: tuple[int, ...], calls: Calls) -> None:
    votes = torch.zeros(shape, dtype=torch.int64)
    with refused("votes"):
        call(calls, op, votes=votes)


# Values that mean nothing, where any value is legal: no stage reads beyond its arrays, and its twin agrees


def twin(op: str, arguments: Arguments) -> Any:
    values = {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    with np.errstate(all="ignore"):
        return getattr(reference, op)(**values)


FREE = [
    ("argmax", "semantic"),
    ("refine", "long_range"),
    ("refine", "short_range"),
    ("vote", "heatmap"),
    ("vote", "short_range"),
    ("vote", "target"),
    ("trace", "position"),
    ("trace", "middle_range"),
    ("trace", "short_range"),
    ("rescore", "heatmap"),
    ("assign", "target"),
    ("assign", "keypoints"),
    ("merge", "node_distance"),
]


@pytest.mark.parametrize(("op", "name"), FREE)
@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, -3e38, 1e-45, -0.0])
def test_values_without_meaning(op: str, name: str, value: float, calls: Calls, assert_same: Any) -> None:
    tensor = calls[op][name]
    some = torch.where(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)) < 0.2, value, tensor)
    for given in (torch.full_like(tensor, value), some):
        arguments = {**calls[op], name: given}
        assert_same(call(calls, op, **arguments), twin(op, arguments), f"{op} {name} {value}")


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, -3e38])
@pytest.mark.parametrize(("op", "name"), [("select", "keypoints"), ("merge", "keypoints"), ("select", "score")])
def test_values_that_no_order_needs(op: str, name: str, value: float, calls: Calls) -> None:
    """Instances that lie nowhere: refused or not, the process goes on."""
    for where in (0, -1):
        message = refusal(calls, op, **{name: spoiled(calls[op][name], value, where)})
        assert message is None or re.match(rf"{name}: expected .+, got .+", message), message
