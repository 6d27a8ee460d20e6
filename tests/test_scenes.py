# SPDX-License-Identifier: Apache-2.0
"""Drawn scenes: their ground truth is consistent whatever is asked for, and a seed gives the same bits."""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeperlab import scenes
from deeperlab.scenes import Scene, brush, draw, stuff, things
from deeperlab.scenes.stage import Stage


def assert_consistent(scene: Scene, size: tuple[int, int]) -> None:
    assert scene.image.shape == (*size, 3)
    assert scene.category.shape == scene.instance.shape == size
    dtypes = scene.image.dtype, scene.category.dtype, scene.instance.dtype, scene.categories.dtype, scene.colors.dtype
    assert dtypes == (np.uint8, np.int32, np.int32, np.int32, np.uint8)
    assert ((scene.category >= 0) & (scene.category < scene.num_classes)).all()
    ids = np.unique(scene.instance)
    assert ids[ids > 0].tolist() == list(range(1, scene.categories.size + 1))
    on = scene.instance > 0
    np.testing.assert_array_equal(np.isin(scene.category, scene.things), on)
    np.testing.assert_array_equal(scene.category[on], scene.categories[scene.instance[on] - 1])
    assert len(set(scene.names)) == len(scene.names) == len(scene.colors) == scene.num_classes


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**64),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 40),
    st.integers(1, 40),
    st.data(),
)
def test_every_pixel_has_a_class_and_every_thing_is_visible(
    seed: int, size: tuple[int, int], instances: int, num_classes: int, data: st.DataObject
) -> None:
    num_things = data.draw(st.integers(0, num_classes - 1))
    instances = instances if num_things else 0
    options: dict[str, Any] = {"overlap": data.draw(st.booleans()), "least_area": data.draw(st.sampled_from([1, 1, 9]))}
    options.update(data.draw(st.sampled_from([{}, {"coverage": 0.9}, {"coverage": 1e-3}, {"heights": (0.2, 99)}])))
    scene = draw(seed, size, instances=instances, num_classes=num_classes, num_things=num_things, **options)
    assert_consistent(scene, size)
    assert scene.things == tuple(range(num_things))
    assert scene.categories.size <= instances
    assert (np.bincount(scene.instance.ravel())[1:] >= options["least_area"]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_degenerate_sizes_are_drawn(size: tuple[int, int]) -> None:
    for instances in (0, 1, 50):
        assert_consistent(draw(0, size, instances=instances), size)


def test_a_seed_gives_the_same_bits_and_another_seed_another_scene() -> None:
    a, b, c = draw(5, 101), draw(5, (101, 101)), draw(6, 101)
    for name in ("image", "category", "instance", "categories"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    assert (a.image != c.image).mean() > 0.5


def test_the_bits_are_those_of_every_platform() -> None:
    scene = draw(1, (97, 131), instances=12)
    found = [zlib.crc32(np.ascontiguousarray(x)) for x in (scene.category, scene.instance, scene.image)]
    assert found == [33772435, 3258380219, 1859260576]


@pytest.mark.parametrize("instances", [5, 20, 200])
def test_the_asked_number_of_things_covers_the_asked_share(instances: int) -> None:
    for seed in range(4):
        scene = draw(seed, 641, instances=instances, num_classes=66, num_things=37, coverage=0.35)
        assert scene.categories.size == instances
        assert (scene.instance > 0).mean() == pytest.approx(0.35, abs=0.04)
        assert scene.num_classes == 66


def test_a_full_image_ends_the_placing() -> None:
    scene = draw(0, 12, instances=400, coverage=1.0)
    assert_consistent(scene, (12, 12))
    assert scene.categories.size <= 144


def test_heights_bound_the_things() -> None:
    scene = draw(2, (200, 300), instances=30, heights=(10, 24), overlap=False)
    for i in range(1, scene.categories.size + 1):
        rows = np.flatnonzero((scene.instance == i).any(axis=1))
        assert rows[-1] - rows[0] < 24


def test_without_overlap_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = []
    paint = Stage.paint

    def spy(self: Stage, number: int, painted: Any, window: Any, crop: Any, shows: Any) -> None:
        whole.append(np.array_equal(shows, painted.material[crop] > 0))
        paint(self, number, painted, window, crop, shows)

    monkeypatch.setattr(Stage, "paint", spy)
    draw(3, 200, instances=40, overlap=False)
    assert len(whole) == 40
    assert all(whole)
    whole.clear()
    draw(3, 200, instances=40)
    assert not all(whole)


def test_near_things_hide_far_ones() -> None:
    """Instance 1 is the nearest: all of it that lies in the image is visible."""
    scene = draw(0, 200, instances=60, num_classes=12, num_things=11)
    area = np.bincount(scene.instance.ravel(), minlength=61)[1:]
    assert area[:10].mean() > area[-10:].mean()


@pytest.mark.parametrize("kind", things.KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("height", [1, 3, 17, 160])
def test_every_kind_fills_its_box_as_it_says(kind: things.Kind, height: int) -> None:
    rng, palette = np.random.default_rng(0), brush.Palette()
    width = max(1, round(height * sum(kind.aspect) / 2))
    share = []
    for _ in range(6):
        style, painted = kind.style(rng, palette), brush.Brush(height, width)
        kind.paint(painted, style)
        mask = painted.mask(style.main)
        assert mask.any()
        np.testing.assert_array_equal(mask, painted.material > 0)
        share.append(mask.mean())
    if height == 160:
        assert np.mean(share) == pytest.approx(kind.fill, abs=0.08)


def test_further_classes_are_the_same_kinds_in_other_colors() -> None:
    count = len(things.KINDS)
    first, second = things.kind_of(1), things.kind_of(1 + count)
    assert (first.name, second.name) == ("car", "car_2")
    assert first.paint is second.paint
    assert first.color != second.color
    assert stuff.stuff_of(len(stuff.KINDS)).name == "grass_2"
    assert stuff.stuff_of(len(stuff.KINDS)).color != stuff.stuff_of(0).color


def test_classes_look_different_and_alike_within_themselves() -> None:
    """Mean colors of two classes differ by more than those of one class among scenes."""
    means: dict[str, list[Any]] = {"grass": [], "road": [], "sky": []}
    for seed in range(12):
        scene = draw(seed, 161, instances=0)
        for name, found in means.items():
            where = scene.category == scene.names.index(name)
            if where.sum() > 500:
                found.append(scene.image[where].mean(axis=0))
    centers = {name: np.mean(found, axis=0) for name, found in means.items()}
    for name, found in means.items():
        own = max(np.linalg.norm(f - centers[name]) for f in found)
        others = min(np.linalg.norm(centers[name] - c) for n, c in centers.items() if n != name)
        assert own < others


def test_the_papers_largest_image_is_drawn_in_well_under_a_second() -> None:
    start = time.perf_counter()
    scene = draw(0, 1441, instances=50)
    elapsed = time.perf_counter() - start
    assert_consistent(scene, (1441, 1441))
    assert elapsed < 5  # 0.2 s on two quiet cores


@pytest.mark.parametrize(
    ("kwargs", "error", "names"),
    [
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"seed": 1.5}, TypeError, "seed.*1.5"),
        ({"size": 0}, ValueError, "size.*got 0"),
        ({"size": (3, 4, 5)}, ValueError, r"size.*\(3, 4, 5\)"),
        ({"size": (3.0, 4)}, TypeError, "size.*3.0"),
        ({"instances": -1}, ValueError, "instances.*-1"),
        ({"instances": 10**6}, ValueError, "instances: expected 0 to 4096"),
        ({"num_classes": 0}, ValueError, "num_classes"),
        ({"num_things": 24}, ValueError, "num_things: expected 0 to 23, got 24"),
        ({"num_things": 0}, ValueError, "instances: expected 0 where num_things is 0, got 20"),
        ({"coverage": 0.0}, ValueError, "coverage"),
        ({"coverage": 1.1}, ValueError, "coverage.*1.1"),
        ({"heights": (5, 4)}, ValueError, r"heights.*\(5, 4\)"),
        ({"heights": (5,)}, ValueError, "heights"),
        ({"heights": (1, 2), "coverage": 0.5}, ValueError, "coverage, heights"),
        ({"overlap": 1}, TypeError, "overlap.*1"),
        ({"least_area": 0}, ValueError, "least_area.*0"),
    ],
)
def test_bad_input_is_named(kwargs: dict[str, Any], error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        draw(**{"seed": 0, "size": 9, **kwargs})


def test_the_module_needs_no_torch() -> None:
    assert "torch" not in vars(scenes)
