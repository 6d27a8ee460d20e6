# SPDX-License-Identifier: Apache-2.0
"""The views: what they tint, where they draw borders, names and keypoints, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deeperlab import RECTANGLE, Graph, _numpy, fuse, scenes, targets
from deeperlab.visualize import instances, lettering, overlay, palette, reference, stamp, to_supervision


def maps() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Stuff 0, void above it, two instances of class 1 side by side."""
    category, instance = np.zeros((40, 60), np.int32), np.zeros((40, 60), np.int32)
    category[:5] = -1
    category[10:30, 10:50] = 1
    instance[10:30, 10:30] = 1
    instance[10:30, 30:50] = 2
    return category, instance


def gray(shape: tuple[int, int] = (40, 60)) -> NDArray[np.uint8]:
    return np.full((*shape, 3), 90, np.uint8)


def test_palette_colors_are_distinct_and_of_like_lightness() -> None:
    colors = palette(64).astype(int)
    assert len(np.unique(colors, axis=0)) == 64
    luma = colors @ (0.299, 0.587, 0.114)
    assert (np.abs(luma - 145) < 55).all()
    assert palette(0).shape == (0, 3)


def test_void_keeps_the_image_and_all_else_is_tinted() -> None:
    picture = overlay(gray(), maps(), text=False)
    assert picture.dtype == np.uint8
    assert (picture[:5] == 90).all()
    assert (picture[5:] != 90).any(axis=-1).all()


def test_instances_of_one_category_differ_and_stuff_is_of_one_color() -> None:
    picture = overlay(gray(), maps(), text=False)
    assert len(np.unique(picture[33:].reshape(-1, 3), axis=0)) == 1
    assert np.abs(picture[20, 20].astype(int) - picture[20, 40]).max() > 20


def test_instances_are_bordered_by_bright_lines() -> None:
    picture = overlay(gray(), maps(), text=False).astype(int).sum(axis=-1)
    border = picture[20] > 600
    assert np.flatnonzero(border).tolist() == [10, 29, 49]


def test_given_colors_are_used_at_the_given_opacity() -> None:
    category, instance = np.zeros((4, 4), int), np.zeros((4, 4), int)
    picture = overlay(gray((4, 4)), (category, instance), colors={0: (255, 0, 30)}, opacity=0.6, text=False)
    np.testing.assert_array_equal(picture[0, 0], [156, 54, 66])  # stuff has two thirds of the opacity
    np.testing.assert_array_equal(overlay(gray((4, 4)), (category, instance), opacity=0, text=False), 90)


def test_names_stand_inside_their_segment_and_only_where_they_fit() -> None:
    category, instance = (np.kron(m, np.ones((8, 8), int)) for m in maps())
    shape = category.shape
    bare = overlay(gray(shape), (category, instance), text=False)
    named = overlay(gray(shape), (category, instance), labels=["grass", "cow"])
    y, x = np.nonzero((bare != named).any(axis=-1))
    cows = (y >= 80) & (y < 240)
    assert set(np.unique(instance[y[cows], x[cows]]).tolist()) == {1, 2}
    assert (~cows).any()
    tiny = overlay(gray((8, 8)), (np.zeros((8, 8), int), np.zeros((8, 8), int)), labels=["a very long name"])
    np.testing.assert_array_equal(
        tiny, overlay(gray((8, 8)), (np.zeros((8, 8), int), np.zeros((8, 8), int)), text=False)
    )


def test_a_result_and_a_pillow_image_do_and_the_input_stays_as_it_was() -> None:
    category, instance = maps()
    image = gray()
    result = SimpleNamespace(semantic=category, instance=instance)
    expected = overlay(image, (category, instance), labels={1: "cow"})
    np.testing.assert_array_equal(overlay(Image.fromarray(image), result, labels={1: "cow"}), expected)
    assert (image == 90).all()


def test_it_is_the_same_every_time_and_without_an_image() -> None:
    first, second = (overlay(None, maps(), labels={1: "cow"}) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("view", [overlay, instances])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (0, 0), (0, 5), (3, 1)])
def test_small_and_empty_maps_do(view: Any, shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, int)
    for category in (empty, empty - 1):
        assert view(gray(shape), (category, empty)).shape == (*shape, 3)
    assert view(None, (empty, empty + 1)).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"image": np.zeros((40, 60), np.uint8)}, ValueError, "image: expected shape"),
        ({"image": np.zeros((40, 60, 3))}, TypeError, "image: expected uint8"),
        ({"panoptic": (np.zeros((2, 2), int), np.zeros((2, 3), int))}, ValueError, "two maps"),
        ({"panoptic": (np.zeros((2, 2)), np.zeros((2, 2), int))}, TypeError, "integer maps"),
        ({"opacity": 1.5}, ValueError, "opacity: expected 0 to 1, got 1.5"),
        ({"colors": {0: (1, 2, 3)}}, ValueError, "colors: .* none for 1"),
        ({"colors": [(1, 2, 3)]}, ValueError, "colors: .* none for 1"),
        ({"colors": [(1, 2, 3), (1, 2)]}, ValueError, "colors: expected .* category 1"),
        ({"colors": [(1, 2, 3), (1, 2, 256)]}, ValueError, "colors: expected .* category 1"),
        ({"labels": "cow"}, TypeError, "labels: expected names"),
        ({"labels": 5}, TypeError, "labels: expected names"),
        ({"opacity": float("nan")}, ValueError, "opacity: expected 0 to 1, got nan"),
        ({"panoptic": (np.full((40, 60), 2**31), np.zeros((40, 60), int))}, ValueError, "32 bits"),
        ({"panoptic": tuple(np.zeros((2, 3, 4, 6), int))}, ValueError, "got a batch of 3"),
        ({"panoptic": (np.zeros((40, 60), int),)}, ValueError, "got 1 values"),
        ({"num_threads": 0}, ValueError, "num_threads: expected"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        overlay(**{"image": gray(), "panoptic": maps(), "text": False, **arguments})


@pytest.mark.parametrize("view", [overlay, instances])
def test_pictures_without_pillow_say_what_to_install(monkeypatch: pytest.MonkeyPatch, view: Any) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert overlay(gray(), maps(), text=False).shape == (40, 60, 3)
    with pytest.raises(ImportError, match=r"deeperlab\[cli\]"):
        view(gray((400, 600)), tuple(np.kron(m, np.ones((10, 10), int)) for m in maps()))


def test_importing_it_loads_neither_torch_nor_pillow_nor_compiled_code() -> None:
    code = (
        "import sys, deeperlab.visualize; print([m for m in ('torch', 'PIL', 'deeperlab._numpy') if m in sys.modules])"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_pixels_are_the_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scenes.draw(3, (161, 241), instances=12)
    given = scene.image, (scene.category, scene.instance), scene
    drawn = overlay(*given), instances(*given)
    monkeypatch.setattr(_numpy, "draw", lambda *a, num_threads, **how: reference.draw(*a, **how))
    for found, expected in zip(drawn, (overlay(*given), instances(*given)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_label_sets_bring_names_and_colors_and_given_colors_go_first() -> None:
    category = np.zeros((4, 4), int)
    for labels in (
        SimpleNamespace(names=("grass",), colors=((0, 200, 40),)),
        SimpleNamespace(names={0: "grass"}, colors={0: [0, 200, 40]}),
        SimpleNamespace(names={0: "grass"}, colors=np.array([[0, 200, 40]], np.uint8)),
    ):
        found = overlay(gray((4, 4)), (category, category), labels, opacity=0.75)
        np.testing.assert_array_equal(found, np.broadcast_to([45, 145, 65], (4, 4, 3)))
        found = overlay(gray((4, 4)), (category, category), labels, colors=[(90, 90, 90)])
        np.testing.assert_array_equal(found, 90)
    nameless = SimpleNamespace(names=["grass"])
    unpainted = SimpleNamespace(names=["grass"], colors=[None])
    expected = overlay(gray((4, 4)), (category, category))
    for labels in (nameless, unpainted):
        np.testing.assert_array_equal(overlay(gray((4, 4)), (category, category), labels), expected)


def test_categories_of_any_number_do() -> None:
    category, instance = maps()
    wide = np.where(category > 0, 2_000_000_000, category)
    names = {0: "grass", 2_000_000_000: "cow"}
    colors = {0: (1, 200, 3), 1: (4, 5, 6), 2_000_000_000: (4, 5, 6)}
    big = overlay(gray(), (wide, instance), names, colors=colors)
    np.testing.assert_array_equal(big, overlay(gray(), (category, instance), ["grass", "cow"], colors=colors))
    assert overlay(gray(), (wide, instance)).shape == (40, 60, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, ">i4"])
def test_maps_of_any_integer_and_any_strides_do(dtype: Any) -> None:
    category, instance = (np.maximum(m, 0) for m in maps())
    expected = overlay(gray(), (category, instance))
    spread = tuple(np.asfortranarray(m.astype(dtype)) for m in (category, instance))
    np.testing.assert_array_equal(overlay(gray()[::-1, ::-1], spread), expected)


def test_tensors_are_drawn_as_arrays_are() -> None:
    scene = scenes.draw(0, (121, 161), instances=4)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=4)
    result = fuse(heads, scene.things, size=(121, 161))
    on_torch = result.to("cpu")
    for view in (overlay, instances):
        expected = view(scene.image, result, scene.names)
        np.testing.assert_array_equal(view(torch.from_numpy(scene.image), on_torch, scene.names), expected)


def test_long_and_odd_names_are_one_short_line() -> None:
    category, instance = (np.kron(m, np.ones((8, 8), int)) for m in maps())
    for name in ("a\nb\x00\t\u202ec", "x" * 10**6, "", "牛", 7):
        for view in (overlay, instances):
            assert view(None, (category, instance), {1: name}).shape == (320, 480, 3)


def test_depths_are_those_of_repeated_erosion() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (9, 1), (23, 31)):
        index = rng.integers(0, 3, (shape[0] // 5 + 1, shape[1] // 5 + 1)).repeat(5, 0).repeat(5, 1)
        index = index[: shape[0], : shape[1]]
        padded = np.pad(index, 1, constant_values=-1)
        alive, level = padded >= 0, np.zeros(padded.shape, int)
        while alive.any():
            level += alive
            inner = alive.copy()
            for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
                inner &= np.roll(alive, shift, axis) & (np.roll(padded, shift, axis) == padded)
            alive = inner
        np.testing.assert_array_equal(lettering.depths(index), level[1:-1, 1:-1])


def one_instance(keypoints: Any, shape: tuple[int, int] = (200, 300), score: float = 0.5) -> Any:
    """A result with one instance of class 1 on the whole image."""
    ones = np.ones(shape, np.int32)
    points = np.array([keypoints], np.float32)
    fields = {"keypoints": points, "score": np.array([score], np.float32), "category": np.array([1], np.int32)}
    return SimpleNamespace(semantic=ones, instance=ones, count=np.int32(1), **fields)


BOX = [(100, 60), (200, 60), (200, 140), (100, 140), (150, 100)]


def test_keypoints_edges_and_corners_are_drawn_where_they_are() -> None:
    drawn = instances(None, one_instance(BOX), text=False).astype(int)
    plain = drawn[30, 50]
    differs = np.abs(drawn - plain).sum(axis=-1) > 0
    for x, y in BOX:
        assert differs[y, x]
    for (x0, y0), (x1, y1) in ((BOX[4], corner) for corner in BOX[:4]):  # along the edges of the star
        assert all(differs[round(y0 + (y1 - y0) * f / 10), round(x0 + (x1 - x0) * f / 10)] for f in range(11))
    assert all(differs[y, x] for y in (0, 10, 189, 199) for x in (0, 299))  # corners of the box of the pixels
    assert all(differs[y, x] for y in (0, 199) for x in (10, 289))
    assert not differs[[0, 100, 199, 100], [150, 0, 150, 299]].any()  # not all of it
    y, x = np.nonzero(differs[20:180, 20:280])
    assert 90 < x.min() + 20 < x.max() + 20 < 210
    assert 50 < y.min() + 20 < y.max() + 20 < 150


def test_instances_show_their_score_and_name() -> None:
    bare, low, high = (
        instances(None, one_instance(BOX, score=score), {1: "cow"}, text=text)
        for score, text in ((0.5, False), (0.25, True), (0.99, True))
    )
    y, _ = np.nonzero((bare != high).any(axis=-1))
    assert y.max() < 30  # at the upper edge of the box, which is that of the image
    assert (low != high).any()


def test_other_graphs_are_drawn_and_must_fit() -> None:
    square = one_instance(BOX[:4])
    assert (
        instances(None, square, graph=RECTANGLE, text=False)[60, 150] != instances(None, square, graph=RECTANGLE)[5, 5]
    ).any()
    single = Graph(("nose",), ())
    assert instances(None, one_instance(BOX[:1]), graph=single).shape == (200, 300, 3)
    with pytest.raises(ValueError, match="graph: expected 4 keypoints"):
        instances(None, square)
    with pytest.raises(ValueError, match="graph: expected keypoints among"):
        instances(None, maps(), graph=single)


@pytest.mark.parametrize("far", [np.nan, np.inf, -np.inf, 1e38, -1e6])
def test_keypoints_that_are_nowhere_do_no_harm(far: float) -> None:
    for points in ([(far, far), *BOX[1:]], [(far, 10), *BOX[1:]], [(far, far)] * 5):
        assert instances(gray((200, 300)), one_instance(points), {1: "cow"}).shape == (200, 300, 3)


def test_maps_alone_have_the_keypoints_of_a_ground_truth() -> None:
    category, instance = (np.kron(m, np.ones((8, 8), int)) for m in maps())
    ids, points = targets.keypoints(instance)
    drawn = instances(None, (category, instance), text=False)
    for number in range(ids.size):
        corner = points[number, 0].astype(int)
        assert (drawn[corner[1], corner[0]] != drawn[corner[1] + 12, corner[0] + 20]).any()
    both = np.where(category == 1, 1, instance)  # the same number in two categories is two instances
    category[80:240, 240:400] = 2
    assert (instances(None, (category, both), text=False)[160, 180] != 0).any()
    assert (instances(None, (category, both))[160, 150] != instances(None, (category, both))[160, 390]).any()


def test_tags_do_not_cover_one_another() -> None:
    occupied: list[lettering.Box] = []
    picture = gray((200, 300))
    for _ in range(30):
        lettering.write_tag(picture, "cow 0.99", np.array([(100.0, 90), (180, 130)]), (200, 220, 90), occupied)
    assert 3 < len(occupied) < 30
    assert not any(a.meets(b) for i, a in enumerate(occupied) for b in occupied[:i])
    assert all(box == box.within(300, 200) for box in occupied)


class Detections:
    """Stands in for supervision's: keeps what it is given, and checks it as that does."""

    def __init__(self, xyxy: Any, mask: Any, confidence: Any, class_id: Any, data: Any) -> None:
        n = len(xyxy)
        assert xyxy.shape == (n, 4)
        assert mask.shape[0] == confidence.shape[0] == class_id.shape[0] == n
        assert mask.dtype == np.bool_
        self.xyxy, self.mask, self.confidence, self.class_id, self.data = xyxy, mask, confidence, class_id, data


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Detections))


def test_instances_become_detections(supervision: None) -> None:
    scene = scenes.draw(0, (121, 161), instances=5)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=4)
    for result in (fuse(heads, scene.things, size=(121, 161)), fuse(heads, scene.things, size=(121, 161)).to("cpu")):
        found = to_supervision(result, scene)
        segments = [segment for segment in result.segments if segment.score is not None]
        assert found.class_id.tolist() == [segment.category for segment in segments]
        assert found.data["class_name"].tolist() == [scene.names[segment.category] for segment in segments]
        for d, segment in enumerate(segments):
            assert tuple(found.xyxy[d]) == segment.box
            assert found.confidence[d] == np.float32(segment.score)
            np.testing.assert_array_equal(found.mask[d], np.asarray(result.instance) == segment.id)


def test_no_instances_are_no_detections_and_a_batch_is_a_list(supervision: None) -> None:
    scene = scenes.draw(0, 65, instances=0)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=4)
    names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
    batch = fuse([np.stack([getattr(heads, name)] * 2) for name in names], scene.things)
    first, second = to_supervision(batch)
    assert first.mask.shape == second.mask.shape == (0, 65, 65)


def test_the_adapter_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        to_supervision(SimpleNamespace())


def test_supervision_itself_takes_them() -> None:
    sv = pytest.importorskip("supervision", reason="compared with supervision, which is not installed")
    scene = scenes.draw(0, (121, 161), instances=5)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=4)
    found = to_supervision(fuse(heads, scene.things, size=(121, 161)), scene)
    assert isinstance(found, sv.Detections)
    assert len(found) == 5
    assert len(found[found.confidence > 2]) == 0


def test_a_map_alone_is_no_panoptic() -> None:
    from deeperlab import visualize

    with pytest.raises(TypeError, match=r"panoptic: expected a Panoptic or \(category, instance\), got ndarray"):
        visualize.overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32))


@pytest.mark.parametrize("shape", [(1080, 1920), (60, 90), (9, 9), (1, 1), (5, 400)])
def test_a_stamp_is_written_over_any_picture(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    stamp(picture, "RANDOM WEIGHTS")
    changed = (picture != 90).any(axis=-1)
    assert changed.any() or min(shape) < 9
    if min(shape) >= 60:  # readable: across most of the width
        assert np.ptp(np.flatnonzero(changed.any(axis=0))) > 0.6 * shape[1]
