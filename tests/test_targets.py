# SPDX-License-Identifier: Apache-2.0
"""Targets and perfect heads: against definitions written out pixel by pixel, and properties."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from deeperlab import RECTANGLE, STAR, Graph, Heads
from deeperlab.targets import HEATMAP_LOGIT, encode, encode_heads, keypoints
from deeperlab.targets.class_share import SHARE_FLOOR
from deeperlab.targets.nearest import nearest

Map = NDArray[np.int64]

maps = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, 2, 5, 9000]),
)
EXTREMES = Graph(("left", "top", "center", "bottom", "right"), ((2, 0), (2, 1), (0, 2), (1, 3), (3, 4), (4, 2)))
graphs = st.sampled_from(
    [STAR, RECTANGLE, EXTREMES, Graph(("center", "top_left"), ((0, 1), (1, 0))), Graph(("center",), ())]
)


def blobs(seed: int, shape: tuple[int, int], count: int) -> Map:
    """Overlapping boxes with ids 1, 4, 7, ...."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int64)
    for i in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        image[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = 3 * i + 1
    return image


def true_points(instance: Map, graph: Graph) -> dict[int, list[tuple[int, int]]]:
    """Keypoints (x, y) of each id, by definition."""
    found = {}
    for i in sorted(set(instance[instance > 0].tolist())):
        y, x = np.nonzero(instance == i)

        def mean(values: Map) -> int:
            return math.floor(values.sum() / values.size + 0.5)

        named = {
            "top_left": (x.min(), y.min()),
            "top_right": (x.max(), y.min()),
            "bottom_right": (x.max(), y.max()),
            "bottom_left": (x.min(), y.max()),
            "center": (mean(x), mean(y)),
            "top": (mean(x[y == y.min()]), y.min()),
            "bottom": (mean(x[y == y.max()]), y.max()),
            "left": (x.min(), mean(y[x == x.min()])),
            "right": (x.max(), mean(y[x == x.max()])),
        }
        found[i] = [(int(named[k][0]), int(named[k][1])) for k in graph.keypoints]
    return found


def slow_encode(instance: Map, radius: float, stride: int, graph: Graph) -> dict[str, NDArray[Any]]:
    """The targets pixel by pixel, at full resolution; every stride-th pixel is returned."""
    height, width = instance.shape
    kinds, edges = len(graph.keypoints), len(graph.edges)
    points = true_points(instance, graph)
    out = {
        "heatmap": np.zeros((kinds, height, width), np.float32),
        "short_range": np.zeros((2 * kinds, height, width), np.float32),
        "middle_range": np.zeros((2 * edges, height, width), np.float32),
        "long_range": np.zeros((2 * kinds, height, width), np.float32),
        "short_valid": np.zeros((kinds, height, width), np.bool_),
        "middle_valid": np.zeros((edges, height, width), np.bool_),
        "long_valid": np.zeros((1, height, width), np.bool_),
    }
    for y in range(height):
        for x in range(width):
            own = int(instance[y, x])
            out["long_valid"][0, y, x] = own > 0
            for k in range(kinds):
                if own:
                    out["long_range"][2 * k : 2 * k + 2, y, x] = points[own][k][0] - x, points[own][k][1] - y
                near = [((p[k][0] - x) ** 2 + (p[k][1] - y) ** 2, i) for i, p in points.items()]
                distance, owner = min(near, default=(math.inf, 0))
                if distance <= radius * radius:
                    out["heatmap"][k, y, x] = out["short_valid"][k, y, x] = 1
                    out["short_range"][2 * k : 2 * k + 2, y, x] = points[owner][k][0] - x, points[owner][k][1] - y
                    for e, (source, target) in enumerate(graph.edges):
                        if source == k:
                            goal = points[owner][target]
                            out["middle_valid"][e, y, x] = True
                            out["middle_range"][2 * e : 2 * e + 2, y, x] = goal[0] - x, goal[1] - y
    return {name: value[:, ::stride, ::stride] for name, value in out.items()}


def slow_nearest(mask: NDArray[np.bool_], y: int, x: int) -> tuple[int, int]:
    """The nearest true pixel, ties to the lower column, then the lower row."""
    rows, columns = np.nonzero(mask)
    _, column, row = min(zip((rows - y) ** 2 + (columns - x) ** 2, columns, rows, strict=True))
    return int(row), int(column)


def slow_share(category: Map, num_classes: int, stride: int, ignore: int | None) -> NDArray[np.float64]:
    """Class shares of the box of side `stride` around each node, by pixel-by-pixel weights."""
    height, width = category.shape
    h, w = -(-height // stride), -(-width // stride)
    share = np.zeros((num_classes, h, w))
    for i in range(h):
        for j in range(w):
            for y in range(height):
                for x in range(width):
                    # the part of the pixel's unit interval that lies in the box, per axis
                    inside = [max(0.0, min(1.0, (stride + 1) / 2 - abs(d))) for d in (y - i * stride, x - j * stride)]
                    if category[y, x] != ignore:
                        share[category[y, x], i, j] += inside[0] * inside[1]
            if not share[:, i, j].any():
                row, column = slow_nearest(category != ignore, i * stride, j * stride)
                share[category[row, column], i, j] = 1
    return share / share.sum(axis=0)


@settings(deadline=None, max_examples=150)
@given(maps, st.sampled_from([0, 1, 2, 2.5, 4, 25]), st.integers(1, 4), graphs)
def test_targets_follow_the_definition_pixel_by_pixel(instance: Map, radius: float, stride: int, graph: Graph) -> None:
    targets = encode(instance, radius=radius, stride=stride, graph=graph)
    for name, expected in slow_encode(instance, radius, stride, graph).items():
        got = getattr(targets, name)
        assert got.dtype == expected.dtype, name
        np.testing.assert_array_equal(got, expected, err_msg=name, strict=True)
    points = true_points(instance, graph)
    assert targets.ids.tolist() == list(points)
    assert targets.keypoints.shape == (len(points), len(graph.keypoints), 2)
    np.testing.assert_array_equal(targets.keypoints, np.array(list(points.values())).reshape(targets.keypoints.shape))


def test_targets_of_many_blobs_follow_the_definition() -> None:
    instance = blobs(3, (61, 53), 25)
    targets = encode(instance, radius=7, stride=3)
    for name, expected in slow_encode(instance, 7, 3, STAR).items():
        np.testing.assert_array_equal(getattr(targets, name), expected, err_msg=name, strict=True)


@settings(deadline=None)
@given(maps, st.integers(1, 5))
def test_a_stride_samples_the_full_resolution_targets(instance: Map, stride: int) -> None:
    full, coarse = encode(instance, radius=3), encode(instance, radius=3, stride=stride)
    for name in ("heatmap", "short_range", "middle_range", "long_range", "short_valid", "middle_valid", "long_valid"):
        np.testing.assert_array_equal(getattr(coarse, name), getattr(full, name)[:, ::stride, ::stride], strict=True)


def test_offsets_lead_to_the_keypoints_at_every_stride() -> None:
    instance = blobs(0, (67, 90), 9)
    for stride in (1, 2, 4, 5):
        targets = encode(instance, radius=9, stride=stride)
        y, x = (axis * stride for axis in np.indices(targets.heatmap.shape[1:]))
        place = np.searchsorted(targets.ids, instance[::stride, ::stride])
        on = targets.long_valid[0]
        for k in range(5):
            ends = np.stack([x + targets.long_range[2 * k], y + targets.long_range[2 * k + 1]], axis=-1)
            np.testing.assert_array_equal(ends[on], targets.keypoints[place[on], k])
            disk = targets.short_valid[k]
            ends = np.stack([x + targets.short_range[2 * k], y + targets.short_range[2 * k + 1]], axis=-1)
            assert set(map(tuple, ends[disk].tolist())) <= set(map(tuple, targets.keypoints[:, k].tolist()))


def test_a_tie_between_two_disks_goes_to_the_lower_id() -> None:
    instance = np.zeros((1, 9), np.int64)
    instance[0, 2], instance[0, 6] = 8, 3  # pixel 4 is equally far from both
    targets = encode(instance, radius=3)
    assert targets.short_range[0, 0].tolist() == [2, 1, 0, -1, 2, 1, 0, -1, -2]
    instance[0, 2], instance[0, 6] = 3, 8
    assert encode(instance, radius=3).short_range[0, 0, 4] == -2


def test_the_disk_includes_its_border() -> None:
    instance = np.zeros((11, 11), np.int64)
    instance[5, 5] = 1
    disk = encode(instance, radius=5).heatmap[4]
    assert disk[5, 0] == disk[5, 10] == disk[1, 2] == disk[2, 1] == 1  # 5² = 3² + 4²
    assert disk[1, 1] == disk[0, 4] == 0
    assert encode(instance, radius=4.9).heatmap[4, 5, 0] == 0
    assert encode(instance, radius=0).heatmap.sum() == 5


def test_the_center_is_rounded_half_up() -> None:
    instance = np.zeros((4, 6), np.int64)
    instance[1:3, 2:4] = 1  # the mean is (2.5, 1.5)
    assert keypoints(instance)[1][0, 4].tolist() == [3, 2]
    assert keypoints(instance)[1][0, :4].tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]


def test_keypoints_need_neither_consecutive_ids_nor_connected_masks() -> None:
    instance = np.zeros((5, 8), np.uint16)
    instance[0, 1] = instance[4, 6] = 60000
    instance[2, 2:5] = 7
    ids, points = keypoints(instance)
    assert ids.tolist() == [7, 60000]
    assert points[0].tolist() == [[2, 2], [4, 2], [4, 2], [2, 2], [3, 2]]
    assert points[1].tolist() == [[1, 0], [6, 0], [6, 4], [1, 4], [4, 2]]
    assert points.dtype == np.float32


def test_a_map_without_instances_gives_empty_targets() -> None:
    targets = encode(np.zeros((7, 5), np.uint8), stride=4)
    assert targets.keypoints.shape == (0, 5, 2)
    assert targets.ids.size == 0
    assert targets.heatmap.shape == (5, 2, 2)
    maps = vars(targets).items()
    assert not any(v.any() for name, v in maps if isinstance(v, np.ndarray) and name != "heatmap_valid")
    assert targets.heatmap_valid.shape == (1, 2, 2)
    assert targets.heatmap_valid.all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_every_integer_dtype_and_memory_layout_gives_the_same(dtype: Any) -> None:
    instance = blobs(1, (30, 40), 6)
    expected = encode(instance, stride=2)
    for same in (instance.astype(dtype), np.asfortranarray(instance).astype(dtype), instance.tolist()):
        np.testing.assert_array_equal(encode(same, stride=2).long_range, expected.long_range, strict=True)
        np.testing.assert_array_equal(encode(same, stride=2).short_range, expected.short_range, strict=True)


def test_a_flip_swaps_left_and_right() -> None:
    instance = np.zeros((21, 33), np.int64)
    instance[2:9, 3:10], instance[8:17, 14:29] = 1, 2  # odd widths: centers do not round
    targets, flipped = encode(instance, radius=6, stride=4), encode(instance[:, ::-1], radius=6, stride=4)
    order = [1, 0, 3, 2, 4]
    np.testing.assert_array_equal(flipped.heatmap, targets.heatmap[order][..., ::-1])
    for sign, axis in ((-1, 0), (1, 1)):
        expected = sign * targets.short_range[axis::2][order][..., ::-1]
        np.testing.assert_array_equal(flipped.short_range[axis::2], expected)


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(1, 4), st.data())
def test_the_distance_transform_finds_the_nearest_pixel(
    mask: NDArray[np.bool_], stride: int, data: st.DataObject
) -> None:
    mask[data.draw(st.integers(0, mask.shape[0] - 1)), data.draw(st.integers(0, mask.shape[1] - 1))] = True
    row, column = nearest(mask, stride)
    for i in range(row.shape[0]):
        for j in range(row.shape[1]):
            assert (row[i, j], column[i, j]) == slow_nearest(mask, i * stride, j * stride)


@settings(deadline=None, max_examples=60)
@given(maps, st.integers(1, 9), st.sampled_from([None, 5, 2]))
def test_semantic_logits_are_the_class_share_around_the_node(instance: Map, stride: int, ignore: int | None) -> None:
    category = np.where(instance == 9000, 3, instance)
    if ignore is not None and (category == ignore).all():
        return
    heads = encode_heads(category, np.zeros_like(category), 6, stride=stride, ignore=ignore)
    expected = np.log(slow_share(category, 6, stride, ignore) + SHARE_FLOOR)
    assert heads.semantic.dtype == np.float32
    np.testing.assert_allclose(heads.semantic, expected, rtol=1e-5, atol=1e-5)


def test_at_stride_one_the_semantic_logits_are_one_hot() -> None:
    category = np.random.default_rng(0).integers(0, 7, (9, 11))
    logits = encode_heads(category, np.zeros_like(category), 7, stride=1).semantic
    np.testing.assert_array_equal(logits.argmax(axis=0), category)
    assert np.unique(logits).size == 2


def test_a_class_of_ignored_pixels_never_wins_and_the_nearest_class_fills_in() -> None:
    category = np.full((20, 20), 255, np.uint8)
    category[:, 15:] = 299 % 256
    category[0, 0] = 2
    logits = encode_heads(category, np.zeros((20, 20), int), 300, stride=4, ignore=255).semantic
    assert logits.shape == (300, 5, 5)
    label = logits.argmax(axis=0)
    assert label[0].tolist() == [2, 2, 43, 43, 43]
    assert np.isin(label, (2, 43)).all()


def test_a_map_that_is_ignored_altogether_prefers_no_class() -> None:
    heads = encode_heads(np.full((5, 5), -1), np.zeros((5, 5), int), 3, ignore=-1)
    assert np.unique(heads.semantic).size == 1


def test_perfect_heads_are_the_targets_as_a_network_would_emit_them() -> None:
    instance = blobs(2, (41, 50), 6)
    targets = encode(instance, radius=8, stride=4)
    heads = encode_heads(np.minimum(instance, 1), instance, 2, radius=8, extend=False)
    assert isinstance(heads, Heads)
    assert (heads.stride, heads.graph) == (4, STAR)
    np.testing.assert_array_equal(heads.heatmap, np.where(targets.heatmap > 0, HEATMAP_LOGIT, -HEATMAP_LOGIT))
    for name in ("short_range", "middle_range", "long_range"):
        np.testing.assert_array_equal(getattr(heads, name), getattr(targets, name), strict=True)


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize("graph", [STAR, RECTANGLE], ids=["star", "rectangle"])
def test_extended_offsets_lead_to_the_keypoints_of_the_nearest_instance(stride: int, graph: Graph) -> None:
    instance = blobs(5, (33, 29), 4)
    targets = encode(instance, stride=stride, graph=graph)
    heads = encode_heads(np.zeros_like(instance), instance, 1, stride=stride, graph=graph)
    points = true_points(instance, graph)
    for i in range(heads.long_range.shape[1]):
        for j in range(heads.long_range.shape[2]):
            y, x = i * stride, j * stride
            owner = points[int(instance[slow_nearest(instance > 0, y, x)])]
            expected = [v for px, py in owner for v in (px - x, py - y)]
            assert heads.long_range[:, i, j].tolist() == expected
    on = targets.long_valid[0]
    np.testing.assert_array_equal(heads.long_range[:, on], targets.long_range[:, on])


def test_without_instances_there_is_nothing_to_extend() -> None:
    assert not encode_heads(np.zeros((9, 9), int), np.zeros((9, 9), int), 1).long_range.any()


def test_inputs_are_left_alone() -> None:
    instance = blobs(4, (20, 20), 3)
    category = np.where(instance > 0, 1, 255)
    before = instance.copy(), category.copy()
    encode_heads(category, instance, 2, ignore=255)
    np.testing.assert_array_equal(instance, before[0])
    np.testing.assert_array_equal(category, before[1])


ONE = np.ones((4, 4), int)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: encode(np.ones((4, 4))), TypeError, "instance: expected an integer array, got dtype float64"),
        (lambda: encode(np.ones((4, 4), bool)), TypeError, "instance.*bool"),
        (lambda: encode(np.ones(4, int)), ValueError, r"instance: expected a map \[H, W\].*\(4,\)"),
        (lambda: encode(np.ones((0, 4), int)), ValueError, r"instance.*\(0, 4\)"),
        (lambda: encode(-ONE), ValueError, "instance: expected ids >= 0, got -1"),
        (lambda: encode(np.full((2, 2), 2**63, np.uint64)), ValueError, "instance.*below 2"),
        (lambda: encode(ONE, radius=-1), ValueError, "radius.*-1"),
        (lambda: encode(ONE, radius=math.nan), ValueError, "radius.*nan"),
        (lambda: encode(ONE, radius="5"), TypeError, "radius.*'5'"),  # type: ignore[arg-type]
        (lambda: encode(ONE, stride=0), ValueError, "stride.*0"),
        (lambda: encode(ONE, stride=2.0), TypeError, "stride.*2.0"),  # type: ignore[arg-type]
        (lambda: encode(ONE, graph=Graph(("nose",), ())), ValueError, "graph.*nose"),
        (lambda: keypoints(ONE, Graph(("nose",), ())), ValueError, "graph.*nose"),
        (lambda: encode_heads(ONE[:3], ONE, 2), ValueError, r"category.*\(4, 4\), got \(3, 4\)"),
        (lambda: encode_heads(ONE, ONE, 1), ValueError, r"category: expected \[0, 1\) or ignore = None, got 1"),
        (lambda: encode_heads(-ONE, ONE, 2, ignore=255), ValueError, "category.*got -1"),
        (lambda: encode_heads(ONE * 1.0, ONE, 2), TypeError, "category.*float64"),
        (lambda: encode_heads(ONE, ONE, 0), ValueError, "num_classes.*0"),
        (lambda: encode_heads(ONE, ONE, 2.0), TypeError, "num_classes.*2.0"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        call()


def test_huge_radii_and_strides_cover_everything() -> None:
    targets = encode(blobs(6, (9, 9), 2), radius=1e300, stride=100)
    assert targets.heatmap.shape == (5, 1, 1)
    assert targets.heatmap.all()


def test_the_papers_largest_image_is_encoded_in_well_under_a_second() -> None:
    instance = np.kron(np.arange(1, 197).reshape(14, 14), np.pad(np.ones((70, 60), int), ((10, 23), (20, 23))))
    instance = np.pad(instance, 10)[:1441, :1441]
    encode(instance)  # the first call pays for fresh memory
    start = time.perf_counter()
    targets = encode(instance)
    elapsed = time.perf_counter() - start
    assert targets.ids.size == 196
    assert elapsed < 5  # 0.25 s on two quiet cores
