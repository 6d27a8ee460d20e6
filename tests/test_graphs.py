# SPDX-License-Identifier: Apache-2.0
"""A graph of one's own: from the targets over networks and files to pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeperlab import RECTANGLE, STAR, Graph, fuse, scenes, targets, visualize
from deeperlab.data import archive, coco
from deeperlab.graph import GRAPHS
from deeperlab.metrics import PanopticQuality
from deeperlab.oracle import Oracle
from deeperlab.targets import KEYPOINTS, Masks

EXTREMES = Graph(
    ("top", "right", "bottom", "left", "center"), ((4, 0), (4, 1), (4, 2), (4, 3), (0, 4), (1, 4), (2, 4), (3, 4))
)
FEET = Graph(("center", "foot"), ((0, 1), (1, 0)))
maps = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 0, 1, 2, 7])
)


def foot(masks: Masks) -> tuple[Any, Any]:
    """Below the center, in the last row."""
    return masks.mean_position()[0], masks.bottom


@pytest.fixture
def feet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    monkeypatch.setitem(KEYPOINTS, "foot", foot)
    return FEET


@pytest.fixture(params=["extremes", "feet"])
def graph(request: pytest.FixtureRequest, feet: Graph) -> Graph:
    return EXTREMES if request.param == "extremes" else feet


@pytest.fixture(scope="module")
def scene() -> scenes.Scene:
    return scenes.draw(2, (161, 201), instances=8, overlap=False)


@settings(deadline=None)
@given(maps, st.permutations(sorted(KEYPOINTS)))
def test_keypoints_are_in_the_order_of_the_graph(instance: Any, names: list[str]) -> None:
    ring = tuple((k, (k + 1) % len(names)) for k in range(len(names)))
    ids, points = targets.keypoints(instance, Graph(tuple(names), ring))
    for k, name in enumerate(names):
        same_ids, alone = targets.keypoints(instance, Graph((name,), ()))
        np.testing.assert_array_equal(ids, same_ids)
        np.testing.assert_array_equal(points[:, k], alone[:, 0])


@settings(deadline=None)
@given(maps)
def test_known_keypoints_lie_in_the_box_and_extremes_on_its_sides(instance: Any) -> None:
    corners, extremes = (targets.keypoints(instance, graph)[1] for graph in (RECTANGLE, EXTREMES))
    low, high = corners.min(axis=1), corners.max(axis=1)
    assert (low[:, None] <= extremes).all()
    assert (extremes <= high[:, None]).all()
    top, right, bottom, left, _ = np.moveaxis(extremes, 1, 0)
    np.testing.assert_array_equal(top[:, 1], low[:, 1])
    np.testing.assert_array_equal(bottom[:, 1], high[:, 1])
    np.testing.assert_array_equal(left[:, 0], low[:, 0])
    np.testing.assert_array_equal(right[:, 0], high[:, 0])


@settings(deadline=None)
@given(maps)
def test_turning_the_map_turns_the_keypoints(instance: Any) -> None:
    """Rows become columns: top and left change places, and right and bottom."""
    turned = Graph(("left", "bottom", "right", "top", "center"), EXTREMES.edges)
    _, points = targets.keypoints(instance, EXTREMES)
    _, transposed = targets.keypoints(np.ascontiguousarray(instance.T), turned)
    np.testing.assert_array_equal(points, transposed[..., ::-1])


@settings(deadline=None)
@given(maps)
def test_a_name_of_ones_own_is_where_its_function_says(instance: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KEYPOINTS, "foot", foot)
        ids, points = targets.keypoints(instance, FEET)
    for i, (_, (x, y)) in zip(ids, points, strict=True):
        rows, columns = np.nonzero(instance == i)
        assert (x, y) == (np.floor(columns.mean() + 0.5), rows.max())


def test_the_example_in_the_documentation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "models.md"
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "KEYPOINTS" in block
    )
    scope: dict[str, Any] = {"instance": np.repeat([0, 1, 1, 2], 8).reshape(4, 8)}
    monkeypatch.setitem(KEYPOINTS, "foot", foot)  # and taken back afterwards
    exec(code, scope)
    assert scope["maps"].graph == scope["model"].graph == scope["graph"]
    assert scope["maps"].keypoints[:, 2].tolist() == [[4, 2], [4, 3]]


def test_an_unknown_name_says_how_to_add_it() -> None:
    message = r"graph: expected keypoints among top_left, .*, got 'foot'; add a function as .*\.KEYPOINTS\['foot'\]"
    with pytest.raises(ValueError, match=message):
        targets.encode(np.ones((4, 4), int), graph=FEET)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda masks: None, "x and y, got None"),
        (lambda masks: masks.left, "x and y, got array"),
        (lambda masks: (masks.left / 2, masks.top), r"integers of shape \(3,\).*, got float64 of shape \(3,\)"),
        (lambda masks: (masks.left[:1], masks.top), r"integers of shape \(3,\).*, got int64 of shape \(1,\)"),
        (lambda masks: (5, masks.top), r"integers of shape \(3,\).*, got int64 of shape \(\)"),
    ],
)
def test_a_function_that_gives_no_positions_is_named(
    function: Callable[[Masks], Any], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEYPOINTS, "foot", function)
    with pytest.raises(ValueError, match=rf"KEYPOINTS\['foot'\]: expected it to return {got}"):
        targets.keypoints(np.arange(4).repeat(4).reshape(4, 4), FEET)


def test_perfect_heads_are_fused_to_their_instances(graph: Graph, scene: scenes.Scene) -> None:
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=1, radius=9, graph=graph)
    panoptic = fuse(heads, scene.things)
    assert panoptic.keypoints.shape[-2] == len(graph.keypoints)
    quality = PanopticQuality({c: c in scene.things for c in range(scene.num_classes)})
    quality.update((panoptic.semantic, panoptic.instance), (scene.category, scene.instance))
    assert quality.compute().things.pq > 0.9


def test_noise_follows_the_graph(graph: Graph, scene: scenes.Scene) -> None:
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, graph=graph)
    noisy = scenes.perturb(heads, 0, instance=scene.instance)
    assert noisy.graph == graph
    assert noisy.middle_range.shape == heads.middle_range.shape


def test_files_of_heads_keep_the_graph(graph: Graph, scene: scenes.Scene, tmp_path: Path) -> None:
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, graph=graph)
    archive.save(tmp_path / "heads.npz", heads)
    assert archive.load(tmp_path / "heads.npz").graph == graph


def test_pictures_show_its_keypoints(graph: Graph, scene: scenes.Scene) -> None:
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, graph=graph)
    result = fuse(heads, scene.things, size=scene.category.shape)
    for shown in (result, (scene.category, scene.instance)):
        assert visualize.instances(scene.image, shown, scene.names, graph=graph).shape == scene.image.shape


def test_the_oracle_judges_it(feet: Graph, tmp_path: Path) -> None:
    ids = np.full((129, 129), 3, np.int32)
    ids[10:60, 10:60], ids[70:110, 30:90] = 1, 2
    categories = (coco.Category(1, "person", True), coco.Category(2, "grass", False))
    annotation = coco.Annotation(1, "1.png", coco.describe(ids, {1: 1, 2: 1, 3: 2}))
    coco.write(tmp_path / "gt.json", tmp_path, [(annotation, ids)], categories)
    data = coco.read(tmp_path / "gt.json", tmp_path)
    for graph in (STAR, EXTREMES, feet):
        (report,) = Oracle(data, stride=1, graph=graph)
        assert report.lost == ()
        assert report.pq.things.pq > 0.95


@pytest.mark.parametrize("graph", [STAR, RECTANGLE, EXTREMES, Graph(("nose",), ())])
def test_a_graph_survives_json(graph: Graph) -> None:
    config = json.loads(json.dumps(graph.to_config()))
    assert Graph.from_config(config) == graph
    assert config in GRAPHS if isinstance(config, str) else graph not in GRAPHS.values()


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("tree", "graph: expected star, rectangle, none, a Graph, or its keypoints and edges, got 'tree'"),
        (None, "graph: expected star, .* got None"),
        ({"keypoints": ["a"]}, "graph: expected star, .* got {"),
        ({"keypoints": ["a"], "edges": [], "color": 1}, "graph: expected star, .* got {"),
        ({"keypoints": [], "edges": [[0, 0]]}, r"graph: edges: expected indices in \[0, 0\), got \(0, 0\)"),
        ({"keypoints": range(33), "edges": []}, "graph: keypoints: expected 0 to 32 names, got 33"),
        ({"keypoints": ["a", "b"], "edges": [[0, 1]]}, r"graph: edges: \['a'\] cannot be reached from 'b'"),
        ({"keypoints": 3, "edges": []}, "graph: keypoints: expected a sequence, got int"),
    ],
)
def test_what_is_no_graph_is_refused(config: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        Graph.from_config(config)
