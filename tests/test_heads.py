# SPDX-License-Identifier: Apache-2.0
"""The graph of keypoints, what heads know about themselves, and heads that were trained in another layout."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deeperlab
from deeperlab import RECTANGLE, STAR, FuseParams, Graph, Heads

NAMES = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
THINGS = (1, 3, 4)
PARAMS = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_candidates=512)


# Graph


def test_the_papers_graphs() -> None:
    assert STAR.keypoints == ("top_left", "top_right", "bottom_right", "bottom_left", "center")
    assert STAR.edges == ((4, 0), (4, 1), (4, 2), (4, 3), (0, 4), (1, 4), (2, 4), (3, 4))
    assert RECTANGLE.keypoints == STAR.keypoints[:4]
    assert set(RECTANGLE.edges) == {((k + i) % 4, (k + 1 - i) % 4) for k in range(4) for i in (0, 1)}


def test_paths_of_the_star_pass_through_the_center() -> None:
    assert STAR.path(4) == (0, 1, 2, 3)
    assert STAR.path(0) == (4, 1, 2, 3)
    assert STAR.path(2) == (6, 0, 1, 3)


def test_paths_of_the_rectangle_go_both_ways_round() -> None:
    """Breadth first: the corner across is reached by the edge of lower index, not around the ring."""
    for seed in range(4):
        path = [RECTANGLE.edges[e] for e in RECTANGLE.path(seed)]
        assert [b for _, b in path[:2]] == [(seed + 1) % 4, (seed - 1) % 4]
        assert path[2][1] == (seed + 2) % 4
    assert RECTANGLE.path(0) == (0, 7, 1)


def test_paths_of_a_one_way_ring_go_all_round() -> None:
    ring = Graph(tuple("abcd"), ((2, 3), (0, 1), (3, 0), (1, 2)))
    assert ring.path(0) == (1, 3, 0)
    assert ring.path(3) == (2, 1, 3)


def test_paths_of_a_tree_reach_the_near_keypoints_first() -> None:
    """Two levels below the root; edges to the children, then back."""
    down = ((0, 1), (0, 2), (1, 3), (1, 4), (2, 5))
    tree = Graph(tuple("abcdef"), (*down, *((b, a) for a, b in down)))
    assert tree.path(0) == (0, 1, 2, 3, 4)
    assert tree.path(3) == (7, 3, 5, 1, 4)  # up to b, then its other child e, then the root a, then c and f
    assert tree.path(5) == (9, 6, 0, 2, 3)


def test_the_edge_of_lower_index_comes_first() -> None:
    order = Graph(tuple("abc"), ((0, 2), (0, 1), (1, 0), (1, 2), (2, 1), (2, 0)))
    assert order.path(0) == (0, 1)
    assert order.path(1) == (2, 3)
    assert order.path(2) == (4, 5)


def test_one_keypoint_needs_no_edges() -> None:
    assert Graph(("center",), ()).path(0) == ()


@settings(deadline=None, derandomize=True, max_examples=100)
@given(data=st.data(), count=st.integers(2, 12))
def test_paths_are_breadth_first_trees(data: st.DataObject, count: int) -> None:
    order = data.draw(st.permutations(range(count)))
    ring = [(order[i - 1], order[i]) for i in range(count)]
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b and (a, b) not in ring]
    more = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []
    graph = Graph(tuple(str(k) for k in range(count)), tuple(data.draw(st.permutations(ring + more))))
    for seed in range(count):
        depth = {seed: 0}
        for e in graph.path(seed):
            a, b = graph.edges[e]
            assert a in depth  # a source was reached before it leads on
            assert b not in depth
            depth[b] = depth[a] + 1
        assert list(depth.values()) == sorted(depth.values())
        assert len(depth) == count
        assert all(depth[b] <= depth[a] + 1 for a, b in graph.edges)  # no shorter way


def test_graphs_are_values() -> None:
    same = Graph(list(STAR.keypoints), [list(edge) for edge in STAR.edges])  # type: ignore[arg-type]
    assert same == STAR
    assert hash(same) == hash(STAR)
    assert same != RECTANGLE
    with pytest.raises(FrozenInstanceError):
        same.edges = ()  # type: ignore[misc]


# Heads


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_heads_know_their_sizes(kind: str, graph: Graph, make_heads: Any, as_tensors: Any) -> None:
    heads = make_heads(n=2, h=5, w=7, stride=3, classes=9, graph=graph)
    heads = as_tensors(heads) if kind == "tensors" else heads
    assert heads.batched
    assert not heads.has_labels
    assert heads.classes == 9
    assert heads.default_size == (13, 19)
    alone = replace(heads, **{name: getattr(heads, name)[0] for name in NAMES})
    assert not alone.batched
    assert not alone.has_labels
    assert (alone.classes, alone.default_size) == (9, (13, 19))


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_labels_give_the_size_of_the_image(kind: str, dtype: Any, make_heads: Any, as_tensors: Any) -> None:
    heads = make_heads(n=2, h=5, w=7, stride=3, classes=9, labels=(14, 20))
    heads = replace(heads, semantic=heads.semantic.astype(dtype))
    heads = as_tensors(heads) if kind == "tensors" else heads
    assert heads.batched
    assert heads.has_labels
    assert (heads.classes, heads.default_size) == (9, (14, 20))
    alone = replace(heads, **{name: getattr(heads, name)[0] for name in NAMES})
    assert not alone.batched
    assert alone.has_labels
    assert (alone.classes, alone.default_size) == (9, (14, 20))


def test_the_number_of_classes_may_be_said_with_logits(make_heads: Any) -> None:
    heads = make_heads(classes=6)
    assert replace(heads, num_classes=6).classes == replace(heads, num_classes=None).classes == 6


def test_defaults_are_the_papers(make_heads: Any) -> None:
    heads = make_heads()
    bare = Heads(*(getattr(heads, name) for name in NAMES))
    assert (bare.stride, bare.graph, bare.num_classes) == (4, STAR, None)


def test_heads_of_half_types_are_welcome(make_heads: Any, as_tensors: Any) -> None:
    heads = make_heads()
    for dtype in (torch.float16, torch.bfloat16):
        assert as_tensors(heads, dtype).heatmap.dtype == dtype
    halves = {name: getattr(heads, name).astype(np.float16) for name in NAMES}
    assert Heads(**halves).heatmap.dtype == np.float16


def test_heads_without_batch_give_a_result_without(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    heads = make_heads(seed=2, n=1)
    for given_heads in (heads, as_tensors(heads)):
        batch = deeperlab.fuse(given_heads, THINGS, params=PARAMS)
        single = {name: getattr(given_heads, name)[0] for name in NAMES}
        alone = deeperlab.fuse(single, THINGS, params=PARAMS)
        assert not alone.batched
        assert tuple(alone.count.shape) == ()
        assert_same(alone, batch[0])


# Heads.from_layout


def channels_of(components: str, order: list[int]) -> list[int]:
    """Where channel i of the other layout comes from in ours: item j of theirs is item order[j] of ours."""
    if components == "xy":
        return [2 * k + c for k in order for c in (0, 1)]
    if components == "yx":
        return [2 * k + c for k in order for c in (1, 0)]
    return [2 * k + 1 for k in order] + [2 * k for k in order]


def in_layout(heads: Heads, components: str, points: list[int], edges: list[int]) -> dict[str, Any]:
    """The heads as a network with that layout would give them."""
    take = {
        "heatmap": points,
        "short_range": channels_of(components, points),
        "middle_range": channels_of(components, edges),
        "long_range": channels_of(components, points),
    }
    return {
        "semantic": heads.semantic,
        **{name: getattr(heads, name)[..., channels, :, :] for name, channels in take.items()},
        "stride": heads.stride,
        "graph": heads.graph,
        "num_classes": heads.num_classes,
    }


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("components", ["xy", "yx", "planar_yx"])
@pytest.mark.parametrize("shuffled", ["nothing", "keypoints", "edges", "both"])
def test_another_layout_gives_the_same_result(
    kind: str, batched: bool, components: str, shuffled: str, graph: Graph, make_heads: Any, as_tensors: Any,
    assert_same: Any,
) -> None:  # fmt: skip
    heads = make_heads(seed=3, n=2, h=13, w=11, graph=graph)
    heads = as_tensors(heads) if kind == "tensors" else heads
    heads = heads if batched else replace(heads, **{name: getattr(heads, name)[0] for name in NAMES})
    rng = np.random.default_rng(1)
    points, edges = list(range(len(graph.keypoints))), list(range(len(graph.edges)))
    orders: dict[str, Any] = {}
    if shuffled in ("keypoints", "both"):
        points = rng.permutation(points).tolist()
        orders["keypoints"] = [graph.keypoints[k] for k in points]
    if shuffled in ("edges", "both"):
        edges = rng.permutation(edges).tolist()
        orders["edges"] = [graph.edges[e] for e in edges]
    other = Heads.from_layout(**in_layout(heads, components, points, edges), components=components, **orders)
    for name in NAMES:
        assert_same(getattr(other, name), getattr(heads, name))
    assert (other.stride, other.graph, other.num_classes) == (heads.stride, graph, heads.num_classes)
    want = deeperlab.fuse(heads, THINGS, params=PARAMS)
    assert (int(want.count.max()) > 0) == bool(graph.keypoints)
    assert_same(deeperlab.fuse(other, THINGS, params=PARAMS), want)


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_heads_in_our_layout_are_used_as_they_are(kind: str, graph: Graph, make_heads: Any, as_tensors: Any) -> None:
    heads = make_heads(graph=graph)
    heads = as_tensors(heads) if kind == "tensors" else heads
    own = in_layout(heads, "xy", list(range(len(graph.keypoints))), list(range(len(graph.edges))))
    own.update({name: getattr(heads, name) for name in NAMES})
    for orders in ({}, {"keypoints": graph.keypoints, "edges": graph.edges}):
        same = Heads.from_layout(**own, components="xy", **orders)
        assert all(getattr(same, name) is getattr(heads, name) for name in NAMES)


def test_only_the_offsets_are_copied_where_only_they_differ(make_heads: Any) -> None:
    heads = make_heads()
    other = Heads.from_layout(*(getattr(heads, name) for name in NAMES), components="yx")
    assert other.semantic is heads.semantic
    assert other.heatmap is heads.heatmap
    np.testing.assert_array_equal(other.short_range[:, 0], heads.short_range[:, 1])


def test_labels_pass_through_any_layout(make_heads: Any, assert_same: Any) -> None:
    heads = make_heads(seed=4, labels=(65, 73))
    points, edges = [4, 2, 0, 1, 3], [7, 6, 5, 4, 3, 2, 1, 0]
    layout = in_layout(heads, "planar_yx", points, edges)
    other = Heads.from_layout(
        **layout,
        components="planar_yx",
        keypoints=[STAR.keypoints[k] for k in points],
        edges=[STAR.edges[e] for e in edges],
    )
    assert other.semantic is heads.semantic
    assert_same(deeperlab.fuse(other, THINGS, params=PARAMS), deeperlab.fuse(heads, THINGS, params=PARAMS))


def test_gradients_pass_through_a_layout(make_heads: Any, as_tensors: Any) -> None:
    """Losses are computed on the heads that come back."""
    heads = as_tensors(make_heads())
    given_heads = {name: getattr(heads, name).requires_grad_() for name in NAMES}
    other = Heads.from_layout(**given_heads, components="yx")
    other.long_range[:, 0].sum().backward()
    assert given_heads["long_range"].grad[:, 1].all()
    assert not given_heads["long_range"].grad[:, 0].any()


def test_heads_compare_by_identity_and_say_what_they_hold(make_heads: Any) -> None:
    heads = make_heads()
    assert heads == heads
    assert heads != make_heads()
    assert len({heads, heads}) == 1
    assert repr(heads).startswith("Heads(semantic=float32[1, 6, 17, 19], heatmap=float32[1, 5, 17, 19], ")
    assert repr(heads).endswith("long_range=float32[1, 10, 17, 19], stride=4, num_classes=6)")
    panoptic = deeperlab.fuse(heads, [1])
    assert repr(panoptic).startswith("Panoptic(semantic=int32[1, 65, 73], ")
    assert panoptic[0]


def test_numbers_of_numpy_are_numbers(make_heads: Any) -> None:
    heads = make_heads()
    names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
    same = Heads(*(getattr(heads, name) for name in names), stride=np.int64(4))
    assert type(same.stride) is int


def test_edges_may_be_an_array(make_heads: Any) -> None:
    heads = make_heads()
    names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
    same = Heads.from_layout(*(getattr(heads, name) for name in names), edges=np.array(STAR.edges))
    assert same.middle_range is heads.middle_range


def test_a_function_changes_all_five_and_nothing_else(make_heads: Any) -> None:
    heads = make_heads()
    half = heads.map(lambda head: head.astype(np.float16))
    assert (half.stride, half.graph, half.classes) == (heads.stride, heads.graph, heads.classes)
    for name in ("semantic", "heatmap", "short_range", "middle_range", "long_range"):
        np.testing.assert_array_equal(getattr(half, name), getattr(heads, name).astype(np.float16))
    assert heads.heatmap.dtype == np.float32
    with pytest.raises(ValueError, match="short_range: expected shape"):
        heads.map(lambda head: head[..., :1] if head is heads.heatmap else head)
