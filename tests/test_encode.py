# SPDX-License-Identifier: Apache-2.0
"""`targets.encode` of batches, tensors, ignored pixels and objects that a crop has cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from simd_digests import encode_call

from deeperlab import NO_KEYPOINTS, RECTANGLE, STAR, Graph
from deeperlab.stages import numpy_ops
from deeperlab.stages import torch_ops as ops
from deeperlab.targets import KEYPOINTS, Masks, Targets, encode, reference
from deeperlab.targets.target_maps import MAPS

EXTREMES = Graph(("left", "top", "center", "bottom", "right"), ((2, 0), (2, 1), (0, 2), (1, 3), (3, 4), (4, 2)))
GRAPHS = (STAR, RECTANGLE, EXTREMES, Graph(("center",), ()), NO_KEYPOINTS)
IDS = (0, 0, 1, 2, 5, 9000, 2**31, 2**62, 2**63 - 1)


def boxes(seed: int, shape: tuple[int, int], count: int) -> np.ndarray:
    """Overlapping boxes with ids 1, 4, 7, …."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int32)
    for i in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        image[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = 3 * i + 1
    return image


def assert_image(got: Targets, n: int, want: Targets) -> None:
    """Image n of a batch is what it is alone."""
    for name in MAPS:
        np.testing.assert_array_equal(np.asarray(getattr(got, name)[n]), getattr(want, name), name, strict=True)
    count = want.ids.size
    np.testing.assert_array_equal(np.asarray(got.ids[n, :count]), want.ids, strict=True)
    np.testing.assert_array_equal(np.asarray(got.keypoints[n, :count]), want.keypoints, strict=True)
    assert not got.ids[n, count:].any()
    assert not got.keypoints[n, count:].any()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_engine_gives_what_the_reference_gives(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 40)))
    maps = data.draw(hnp.arrays(np.int64, shape, elements=st.sampled_from(IDS), fill=st.sampled_from(IDS)))
    graph, stride = data.draw(st.sampled_from(GRAPHS)), data.draw(st.integers(1, 8))
    radius = data.draw(st.sampled_from([0, 1, 2.5, 4, 25, 1e9, 1e300]))
    ignore = data.draw(st.none() | hnp.arrays(np.bool_, shape))
    points = None
    if data.draw(st.booleans()):
        ids = data.draw(hnp.arrays(np.int64, (shape[0], 3), elements=st.sampled_from((*IDS, 77))))
        places = st.integers(-30, 60) | st.sampled_from((-(2**24), 2**24))
        points = ids, data.draw(hnp.arrays(np.int64, (*ids.shape, len(graph.keypoints), 2), elements=places))
    got = encode(maps, ignore=ignore, points=points, radius=radius, stride=stride, graph=graph)
    for n in range(shape[0]):
        rows = None if points is None else (points[0][n], points[1][n])
        alone = None if ignore is None else ignore[n]
        assert_image(got, n, reference.encode(maps[n], alone, rows, radius=radius, stride=stride, graph=graph))


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (1200, 1100)])
def test_long_rows_and_many_instances_are_as_the_reference_has_them(shape: tuple[int, int]) -> None:
    """Rows of more nodes than are looked at together, more instances than there is room for at first."""
    maps = boxes(sum(shape), shape, 700 if min(shape) > 1 else 40)
    targets = encode(maps[None], radius=3.5)
    assert_image(targets, 0, reference.encode(maps, radius=3.5, stride=1, graph=STAR))
    assert targets.ids.size > 256 or min(shape) == 1


def test_as_many_instances_as_pixels_find_room() -> None:
    maps = np.random.default_rng(0).permutation(80 * 90).reshape(1, 80, 90).astype(np.int32) + 1
    assert_image(encode(maps, radius=1), 0, reference.encode(maps[0], radius=1, stride=1, graph=STAR))


@pytest.mark.parametrize("seed", range(8))
def test_threads_types_and_layouts_change_nothing(seed: int) -> None:
    (instance, ignore, ids, points), options = encode_call(np.random.default_rng(seed), images=3)
    want = numpy_ops.encode(np.ascontiguousarray(instance, np.int32), ignore, ids, points, **options)
    for threads in (1, 2, 5):
        got = numpy_ops.encode(instance, ignore, ids, points, **options, num_threads=threads)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (instance, ignore, ids, points)]
    for tensor, other in zip(ops.encode(*tensors, **options), want, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), other, strict=True)


@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_a_batch_is_each_of_its_images_alone(face: str) -> None:
    maps = np.stack([boxes(seed, (41, 53), count) for seed, count in ((0, 5), (1, 0), (2, 19))])
    ignore = np.random.default_rng(0).random(maps.shape) < 0.3
    ids = np.zeros((3, 2), np.int64)
    ids[2] = 4, 16
    points = np.random.default_rng(1).integers(-60, 90, (3, 2, 5, 2))
    given: Any = (maps, ignore, ids, points)
    if face == "tensors":
        given = tuple(torch.from_numpy(value) for value in given)
    got = encode(given[0], ignore=given[1], points=given[2:], radius=7, stride=3)
    assert isinstance(got.heatmap, torch.Tensor if face == "tensors" else np.ndarray)
    for n in range(3):
        rows = ids[n], points[n]
        assert_image(got, n, reference.encode(maps[n], ignore[n], rows, radius=7, stride=3, graph=STAR))


def test_a_cut_object_has_the_keypoints_that_are_given() -> None:
    whole = np.zeros((60, 60), np.int32)
    whole[5:40, 8:50], whole[45:58, 30:55] = 7, 9
    crop = whole[:30, 20:]
    cut = encode(crop, radius=4)
    assert cut.keypoints[0].tolist() == [[0, 5], [29, 5], [29, 29], [0, 29], [15, 17]]
    full = encode(whole, radius=4)
    shifted = full.keypoints.astype(np.int64) - [20, 0]
    got = encode(crop, points=(full.ids, shifted), radius=4)
    assert got.ids.tolist() == [7]  # 9 is not in the crop
    for name in ("short_range", "middle_range", "long_range", "heatmap", "long_valid"):
        own = getattr(full, name)[:, :30, 20:].copy()
        np.testing.assert_array_equal(getattr(got, name), own, err_msg=name)


@pytest.mark.parametrize("face", ["arrays", "tensors"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint64])
def test_points_are_integers_of_any_type(face: str, dtype: Any) -> None:
    """Also of one that does not hold the bounds of positions."""
    image = boxes(2, (20, 30), 1)
    given: Any = image, np.array([1], dtype), np.arange(10).reshape(1, 5, 2).astype(dtype)
    if face == "tensors":
        given = tuple(map(torch.from_numpy, given))
    assert encode(given[0], points=given[1:]).keypoints.tolist() == given[2].tolist()


def test_ignored_pixels_do_not_train_the_heatmap_alone() -> None:
    image = boxes(3, (20, 30), 4)
    ignore = np.zeros(image.shape, bool)
    ignore[4, 8] = ignore[5, 9] = True
    got, plain = encode(image, ignore=ignore, stride=4), encode(image, stride=4)
    assert np.argwhere(~got.heatmap_valid).tolist() == [[0, 1, 2]]
    assert plain.heatmap_valid.all()
    for name in MAPS:
        if name != "heatmap_valid":
            np.testing.assert_array_equal(getattr(got, name), getattr(plain, name))


@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_places_of_the_users_own_become_points(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(masks: Masks) -> Any:
        return masks.left + 1, masks.top - 40

    maps = np.stack([boxes(seed, (30, 40), 4) for seed in range(2)])
    points = np.array([[7], [0]]), np.full((2, 1, 2, 2), 12)
    instance: Any = torch.from_numpy(maps) if face == "tensors" else maps
    given: Any = tuple(map(torch.from_numpy, points)) if face == "tensors" else points
    for name in ("mine", "top"):  # a new name, and a standard one that means something else
        monkeypatch.setitem(KEYPOINTS, name, shifted)
        graph = Graph((name, "center"), ((0, 1), (1, 0)))
        for rows in (None, given):
            got = encode(instance, points=rows, radius=50, graph=graph)
            for n in range(2):
                alone = None if rows is None else (points[0][n], points[1][n])
                assert_image(got, n, reference.encode(maps[n], None, alone, radius=50, stride=1, graph=graph))


def test_an_empty_batch_has_empty_targets() -> None:
    for nothing in (np.zeros((0, 9, 9), np.int32), torch.zeros((0, 9, 9), dtype=torch.int32)):
        targets = encode(nothing, stride=4)
        assert tuple(targets.heatmap.shape) == (0, 5, 3, 3)
        assert tuple(targets.ids.shape) == (0, 0)


def test_max_instances_is_the_number_of_rows() -> None:
    maps = boxes(0, (40, 40), 5)
    count = np.unique(maps[maps > 0]).size
    targets = encode(maps, max_instances=9)
    assert targets.ids.shape == (9,)
    assert (targets.ids > 0).sum() == count
    with pytest.raises(ValueError, match=f"max_instances: expected at least the instances of image 0, got {count - 1}"):
        encode(maps, max_instances=count - 1)
    with pytest.raises(ValueError, match=r"instance: expected ids >= 0, got -3"):
        encode(torch.tensor([[4, -3]]), max_instances=2)


def test_more_images_than_can_be_counted_are_refused() -> None:
    """Of 24 planes each they would have 0 nodes modulo 2^64."""
    maps = torch.zeros(1, 1, 1, dtype=torch.int32).expand(2**61, 1, 1)
    with pytest.raises(ValueError, match=r"instance: expected fewer than 2\^29 images, got 2305843009213693952"):
        encode(maps, max_instances=1)


@pytest.mark.slow
def test_the_operator_is_sound_for_torch() -> None:
    (instance, ignore, ids, points), options = encode_call(np.random.default_rng(1))
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in (instance, ignore, ids, points))
    torch.library.opcheck(ops.encode, tensors, options)
    nothing = torch.zeros((0, 0, 0), dtype=torch.uint8)
    torch.library.opcheck(ops.encode, (tensors[0], nothing, tensors[2][:, :0], tensors[3][:, :0]), options)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_targets_compile_as_one_graph(dynamic: bool) -> None:
    def train(instance: torch.Tensor, ignore: torch.Tensor) -> tuple[torch.Tensor, ...]:
        targets = encode(instance, ignore=ignore, stride=4, max_instances=32)
        return targets.heatmap * 2, targets.middle_range, targets.heatmap_valid, targets.ids

    compiled = torch.compile(train, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shape in ((41, 45), (33, 60)):
        instance = torch.from_numpy(np.stack([boxes(seed, shape, 6) for seed in range(2)]))
        for one, other in zip(compiled(instance, instance == 4), train(instance, instance == 4), strict=True):
            assert torch.equal(one, other)


def test_meta_tensors_give_the_shapes_of_targets() -> None:
    instance = torch.from_numpy(np.stack([boxes(seed, (41, 45), 6) for seed in range(2)]))
    real, fake = encode(instance, stride=4, max_instances=8), encode(instance.to("meta"), stride=4, max_instances=8)
    for name in (*MAPS, "ids", "keypoints"):
        one, other = getattr(fake, name), getattr(real, name)
        assert one.is_meta
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@pytest.mark.parametrize("face", ["arrays", "tensors"])
@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        ("instance", np.zeros((2, 4), np.int32), r"instance: expected shape \[N, H, W\]"),
        ("instance", np.zeros((2, 4, 6), np.float32), "instance: expected labels of type uint8, int16, int32 or int64"),
        ("instance", np.zeros((2, 0, 6), np.int32), "instance: expected 1 to 2\\^20 pixels a side"),
        ("ignore", np.zeros((2, 4, 5), np.uint8), "ignore: expected shape"),
        ("ignore", np.zeros((2, 4, 6), np.int32), "ignore: expected uint8, got"),
        ("ids", np.zeros((2, 1), np.int32), "ids: expected int64, got"),
        ("ids", np.zeros((1, 1), np.int64), "ids: expected shape"),
        ("points", np.zeros((2, 1, 5, 2), np.int64), "points: expected int32, got"),
        ("points", np.zeros((2, 2, 5, 2), np.int32), "points: expected shape"),
        ("stride", 0, "stride: expected 1 to 65536, got 0"),
        ("disk_radius", float("nan"), "disk_radius: expected a finite number >= 0, got nan"),
        ("max_instances", 0, "max_instances: expected 1 to"),
        ("keypoints", "top_left,nose", "keypoints: expected names of places with commas between them, got nose"),
        ("keypoints", ",".join(["left"] * 33), "keypoints: expected 0 to 32, got left,left"),
        ("edges", [0, 9], "edges: expected keypoints in"),
    ],
)
def test_what_the_operator_cannot_take_is_named(face: str, which: str, value: Any, message: str) -> None:
    arguments: dict[str, Any] = {
        "instance": IMAGE, "ignore": np.zeros((0, 0, 0), np.uint8), "ids": np.zeros((2, 1), np.int64),
        "points": np.zeros((2, 1, 5, 2), np.int32), "edges": [end for edge in STAR.edges for end in edge],
        "keypoints": ",".join(STAR.keypoints), "disk_radius": 25.0, "stride": 4, "max_instances": 8, which: value,
    }  # fmt: skip
    if face == "tensors":
        arguments = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    with pytest.raises((ValueError, TypeError), match=message):
        (ops if face == "tensors" else numpy_ops).encode(**arguments)


IMAGE = np.ones((2, 4, 6), np.int32)
NO_POINTS = np.zeros((2, 1, 5, 2), np.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ignore": IMAGE}, TypeError, "ignore: expected dtype bool, got int32"),
        ({"ignore": IMAGE[0] > 0}, ValueError, r"ignore: expected the shape of instance, \(2, 4, 6\), got \(4, 6\)"),
        ({"points": 3}, TypeError, "points: expected a pair of ids and positions, got int"),
        ({"points": (np.ones(2, int), NO_POINTS)}, ValueError,
         r"points\[0\]: expected ids \[2, 'K'\], got shape \(2,\)"),
        ({"points": (np.ones((2, 2), int), NO_POINTS)}, ValueError,
         r"points\[1\]: expected shape \(2, 2, 5, 2\), got \(2, 1, 5, 2\)"),
        ({"points": (np.ones((2, 1)), NO_POINTS)}, TypeError,
         r"points\[0\]: expected an integer array, got dtype float64"),
        ({"points": (np.ones((2, 1), int), NO_POINTS * 0.5)}, TypeError, r"points\[1\]: expected an integer array"),
        ({"points": (-np.ones((2, 1), int), NO_POINTS)}, ValueError, r"points\[0\]: expected ids >= 0, got -1"),
        ({"points": (np.ones((2, 1), int), NO_POINTS - 2**24 - 1)}, ValueError,
         r"points\[1\]: expected positions within ±2\^24 px, got -?16777217"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_what_does_not_fit_is_named(face: str, arguments: Any, error: type[Exception], message: str) -> None:
    def as_face(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(as_face, value))
        return torch.from_numpy(value) if face == "tensors" and isinstance(value, np.ndarray) else value

    with pytest.raises(error, match=message):
        encode(as_face(IMAGE), **{name: as_face(value) for name, value in arguments.items()})
