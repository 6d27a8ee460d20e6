# SPDX-License-Identifier: Apache-2.0
"""The result and its forms: segments, ids, COCO, Detectron2; each against a count of the pixels one by one."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deeperlab
from deeperlab import FuseParams, Panoptic, Segment

ROOT = Path(__file__).resolve().parents[1]
THINGS = (1, 3)
FIELDS = ("semantic", "instance", "keypoints", "score", "category", "area", "class_area", "count", "truncated")


def panoptic_of(semantic: Any, instance: Any, counts: Any, m: int, classes: int, things: Any = THINGS) -> Panoptic:
    """A batch with these maps [N, H, W]; an instance that has pixels has the class that the map says."""
    semantic, instance = np.asarray(semantic, np.int32), np.asarray(instance, np.int32)
    n = len(semantic)
    rng = np.random.default_rng(0)
    keypoints = rng.integers(0, 40, (n, m, 5, 2)).astype(np.float32) / 4
    score = -np.sort(-rng.random((n, m), np.float32))
    category, area = np.full((n, m), -1, np.int32), np.zeros((n, m), np.int32)
    class_area = np.zeros((n, classes), np.int32)
    for i in range(n):
        keypoints[i, counts[i] :], score[i, counts[i] :] = 0, 0
        for j in range(m):
            inside = semantic[i][instance[i] == j + 1]
            area[i, j] = inside.size
            category[i, j] = inside[0] if inside.size else -1
        for c in range(classes):
            class_area[i, c] = ((semantic[i] == c) & (instance[i] == 0)).sum()
    count, truncated = np.array(counts, np.int32), np.zeros(n, bool)
    return Panoptic(semantic, instance, keypoints, score, category, area, class_area, count, truncated, things)


def tensors(panoptic: Panoptic) -> Panoptic:
    return replace(panoptic, **{name: torch.from_numpy(np.array(getattr(panoptic, name))) for name in FIELDS})


@pytest.fixture
def batch() -> Panoptic:
    """Two images of 4 x 6 pixels, four classes, of which 1 and 3 are things.

    The first has instances 1 (class 3) and 3 (class 1), while 2 won no pixel; stuff 0 and 2; orphans of class 3; void.
    The second has stuff of class 2 alone."""
    semantic = [
        [[0, 0, 0, 2, 2, 2], [0, 3, 3, 2, 1, 1], [3, 3, 3, 2, 1, 1], [-1, -1, 3, 3, 1, 2]],
        [[2] * 6] * 4,
    ]
    instance = [
        [[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 3, 3], [1, 1, 1, 0, 3, 3], [0, 0, 0, 0, 3, 0]],
        [[0] * 6] * 4,
    ]
    return panoptic_of(semantic, instance, [3, 0], m=4, classes=4)


@pytest.fixture(params=["arrays", "tensors"])
def either(request: pytest.FixtureRequest, batch: Panoptic) -> Panoptic:
    return batch if request.param == "arrays" else tensors(batch)


# Segments


def test_segments_are_instances_then_classes(either: Panoptic) -> None:
    first, second = either.batch_segments
    assert [(s.id, s.category, s.isthing, s.area) for s in first] == [
        (1, 3, True, 5),
        (3, 1, True, 5),  # number 2 has no pixel and no segment
        (4, 0, False, 4),
        (5, 2, False, 6),
        (6, 3, True, 2),  # orphans: a thing class without instance
    ]
    assert [(s.id, s.category, s.isthing, s.area) for s in second] == [(1, 2, False, 24)]


def test_segments_of_instances_have_score_and_keypoints(either: Panoptic, batch: Panoptic) -> None:
    for segment in either[0].segments[:2]:
        points = batch.keypoints[0, segment.id - 1]
        assert segment.score == batch.score[0, segment.id - 1]
        assert segment.keypoints == tuple((x, y) for x, y in points.tolist())
        assert segment.keypoint_box == (*points.min(0).tolist(), *points.max(0).tolist())
    for segment in [*either[0].segments[2:], *either[1].segments]:
        assert (segment.score, segment.keypoint_box, segment.keypoints) == (None, None, None)


def test_every_segment_has_the_box_of_its_pixels(either: Panoptic) -> None:
    """Stuff and orphans too, x1 and y1 past the last pixel, wherever the keypoints are."""
    assert [segment.box for segment in either[0].segments] == [
        (0, 1, 3, 3), (4, 1, 6, 4), (0, 0, 3, 2), (3, 0, 6, 4), (2, 3, 4, 4),
    ]  # fmt: skip
    assert [segment.box for segment in either[1].segments] == [(0, 0, 6, 4)]


def test_segments_are_plain_python(either: Panoptic) -> None:
    """Ready for json.dumps, whatever the fields are."""
    kinds = {"id": int, "category": int, "isthing": bool, "area": int}
    for segment in (segment for image in either.batch_segments for segment in image):
        assert isinstance(segment, Segment)
        assert all(type(getattr(segment, name)) is kind for name, kind in kinds.items())
        assert segment.score is None or type(segment.score) is float
        assert all(type(value) is int for value in segment.box)
        assert all(type(value) is float for value in segment.keypoint_box or ())
        assert all(type(value) is float for point in segment.keypoints or () for value in point)
        with pytest.raises(FrozenInstanceError):
            segment.id = 0  # type: ignore[misc]


def test_an_image_has_a_flat_list_and_a_batch_one_for_each_image(either: Panoptic) -> None:
    for i in range(2):
        assert either[i].segments == either.batch_segments[i]
    image = either[0]
    assert image.segments is image.segments  # computed once
    assert either.batch_segments is either.batch_segments
    message = "segments: expected a single image, but this is a batch of 2; use batch_segments, or panoptic[i].segments"
    with pytest.raises(TypeError, match=re.escape(message)):
        _ = either.segments
    with pytest.raises(TypeError, match="batch_segments: expected a batch, but this is a single image"):
        _ = image.batch_segments


def test_a_type_checker_knows_what_segments_are(tmp_path: Path) -> None:
    """Those of an image, and those of a batch, without a cast or an isinstance."""
    code = tmp_path / "code.py"
    code.write_text(
        "import deeperlab\n"
        "def names(panoptic: deeperlab.Panoptic) -> None:\n"
        "    reveal_type(panoptic.segments)\n"
        "    reveal_type(panoptic.batch_segments)\n"
        "    reveal_type(panoptic.segments[0].box)\n"
        "    reveal_type(panoptic.segments[0].keypoint_box)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", str(code)],
        cwd=ROOT,  # for its settings, and its cache: what torch is made of takes long to read
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    revealed = [line.split('"')[1].replace("builtins.", "") for line in checked.stdout.splitlines() if '"' in line]
    assert revealed == [
        "list[deeperlab.panoptic.Segment]",
        "list[list[deeperlab.panoptic.Segment]]",
        "tuple[int, int, int, int]",
        "tuple[float, float, float, float] | None",
    ]


def test_void_is_in_no_segment(either: Panoptic) -> None:
    assert sum(segment.area for segment in either[0].segments) == 24 - 2
    assert all(segment.category >= 0 for segment in either[0].segments)


def test_an_image_of_void_alone_has_no_segments() -> None:
    void = panoptic_of(np.full((1, 3, 3), -1), np.zeros((1, 3, 3)), [0], m=2, classes=3)
    for panoptic in (void, tensors(void)):
        assert panoptic.batch_segments == [[]]
        ((ids, infos),) = panoptic.to_coco()
        assert infos == []
        assert not ids.any()
        assert (panoptic.to_ids(1000) == -1).all()


# Ids


def test_ids_are_category_times_divisor_plus_instance(either: Panoptic) -> None:
    """As Panoptic-DeepLab and DeepLab2 count; class 0 without instance is 0."""
    ids = either.to_ids(10)
    assert str(ids.dtype).removeprefix("torch.") == "int32"
    assert isinstance(ids, type(either.semantic))
    assert ids[0].tolist() == [
        [0, 0, 0, 20, 20, 20],
        [0, 31, 31, 20, 13, 13],
        [31, 31, 31, 20, 13, 13],
        [-1, -1, 30, 30, 13, 20],
    ]
    assert ids[1].tolist() == [[20] * 6] * 4


@pytest.mark.parametrize("void", [-1, 40, 2550, -(2**31), 2**31 - 1, np.int64(-7)])
def test_void_pixels_get_the_number_that_is_given(void: int, either: Panoptic) -> None:
    ids = either.to_ids(10, void=void)
    assert ids[0, 3, :2].tolist() == [void, void]
    assert str(ids.dtype).removeprefix("torch.") == "int32"
    assert (ids == void).sum() == 2


@pytest.mark.parametrize("void", [0, 20, 39, 2**31, -(2**31) - 1])
def test_void_is_no_id_and_fits_32_bits(void: int, either: Panoptic) -> None:
    with pytest.raises(ValueError, match=rf"\Avoid: expected an integer .*none of 0 to 39, .* 4 classes, got {void}\Z"):
        either.to_ids(10, void=void)


def test_a_divisor_leaves_room_for_every_instance(either: Panoptic) -> None:
    assert either.to_ids(4)[0, 1, 5] == 7
    for divisor in (3, 1, 0, -1):
        with pytest.raises(ValueError, match=rf"\Adivisor: expected at least 4 for 3 instances, got {divisor}"):
            either.to_ids(divisor)
    assert either[1].to_ids(1)[0, 0] == 2
    with pytest.raises(ValueError, match=r"\Adivisor: expected at least 1 for 0 instances, got 0"):
        either[1].to_ids(0)
    most = 2**31 // 4
    assert either.to_ids(most)[0, 1, 1] == 3 * most + 1
    for divisor in (most + 1, 2**31, 2**63, 10**30):
        with pytest.raises(ValueError, match=rf"\Adivisor: expected .*32 bits, got {divisor}"):
            either.to_ids(divisor)


@pytest.mark.parametrize("value", [True, 1000.0, "1000", (1000,), None])
def test_divisor_and_void_are_ints(value: Any, either: Panoptic) -> None:
    with pytest.raises(TypeError, match=r"\Adivisor: expected an int, got "):
        either.to_ids(value)
    with pytest.raises(TypeError, match=r"\Avoid: expected an int, got "):
        either.to_ids(1000, void=value)


def test_the_ids_of_a_batch_are_those_of_its_images(either: Panoptic, assert_same: Any) -> None:
    for divisor in (7, np.int32(1000)):
        for i in range(2):
            assert_same(either[i].to_ids(divisor), either.to_ids(divisor)[i])


# COCO and Detectron2


def test_coco_has_the_box_of_the_mask(either: Panoptic, batch: Panoptic) -> None:
    (ids, first), (_, second) = either.to_coco()
    assert isinstance(ids, np.ndarray)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[4, 4, 4, 5, 5, 5], [4, 1, 1, 5, 3, 3], [1, 1, 1, 5, 3, 3], [0, 0, 6, 6, 3, 5]]
    scores = batch.score[0].tolist()
    common = {"iscrowd": 0}
    assert first == [
        {"id": 1, "category_id": 3, "isthing": 1, "area": 5, "bbox": [0, 1, 3, 2], "score": scores[0], **common},
        {"id": 3, "category_id": 1, "isthing": 1, "area": 5, "bbox": [4, 1, 2, 3], "score": scores[2], **common},
        {"id": 4, "category_id": 0, "isthing": 0, "area": 4, "bbox": [0, 0, 3, 2], **common},
        {"id": 5, "category_id": 2, "isthing": 0, "area": 6, "bbox": [3, 0, 3, 4], **common},
        {"id": 6, "category_id": 3, "isthing": 1, "area": 2, "bbox": [2, 3, 2, 1], **common},
    ]
    assert second == [{"id": 1, "category_id": 2, "isthing": 0, "area": 24, "bbox": [0, 0, 6, 4], **common}]
    assert either[0].to_coco()[1] == first


def test_coco_takes_the_ids_of_the_data_set(either: Panoptic) -> None:
    names = {0: 7, 1: 11, 2: 200, 3: 24}
    assert [info["category_id"] for info in either[0].to_coco(names)[1]] == [24, 11, 7, 200, 24]
    assert [info["category_id"] for info in either.to_coco(names)[1][1]] == [200]
    with pytest.raises(TypeError, match="category_ids: expected a mapping, got list; of a label set: dict"):
        either.to_coco([24, 11, 7, 200])


def test_detectron2_counts_instances_from_zero(either: Panoptic, batch: Panoptic, assert_same: Any) -> None:
    ids, infos = either[0].to_detectron2()
    assert isinstance(ids, torch.Tensor)
    np.testing.assert_array_equal(ids, either[0].to_coco()[0], strict=False)
    assert ids.dtype == torch.int32
    scores = batch.score[0].tolist()
    assert infos == [
        {"id": 1, "isthing": True, "category_id": 3, "area": 5, "instance_id": 0, "score": scores[0]},
        {"id": 3, "isthing": True, "category_id": 1, "area": 5, "instance_id": 2, "score": scores[2]},
        {"id": 4, "isthing": False, "category_id": 0, "area": 4},
        {"id": 5, "isthing": False, "category_id": 2, "area": 6},
        {"id": 6, "isthing": True, "category_id": 3, "area": 2},
    ]
    pairs = either.to_detectron2()
    assert len(pairs) == 2
    assert_same(pairs[0][0], ids)
    assert pairs[0][1] == infos


# Other forms, parts, iteration


def test_numpy_and_to_go_there_and_back(either: Panoptic, batch: Panoptic, assert_same: Any) -> None:
    for panoptic, want in ((either, batch), (either[0], batch[0])):
        arrays, moved = panoptic.numpy(), panoptic.to("cpu")
        assert all(isinstance(getattr(arrays, name), np.ndarray) for name in FIELDS)
        assert all(isinstance(getattr(moved, name), torch.Tensor) for name in FIELDS)
        assert_same(arrays, want)
        assert_same(moved.numpy(), want)
        assert arrays.things == moved.things == THINGS
        name = "batch_segments" if panoptic.batched else "segments"
        assert getattr(arrays, name) == getattr(moved, name) == getattr(panoptic, name)
    assert either.to(torch.device("meta")).semantic.is_meta


def test_an_index_gives_one_image(either: Panoptic, batch: Panoptic, assert_same: Any) -> None:
    for i in (0, 1, -1, -2, np.int64(1), torch.tensor(1)):
        image = either[i]
        assert not image.batched
        assert image.size == (4, 6)
        assert image.things == THINGS
        assert_same(image.numpy(), replace(batch, **{name: getattr(batch, name)[int(i), ...] for name in FIELDS}))
    for i in (2, -3, 100):
        with pytest.raises(IndexError):
            either[i]
    for i in ("0", 1.0, None, (0, 1)):
        with pytest.raises(TypeError):
            either[i]


def test_a_slice_gives_a_batch(either: Panoptic, assert_same: Any) -> None:
    for part, length in ((slice(None), 2), (slice(1, None), 1), (slice(-1), 1), (slice(None, None, 2), 1)):
        images = either[part]
        assert images.batched
        assert len(images) == length
        assert images.batch_segments == either.batch_segments[part]
        assert_same(images.to_ids(10), either.to_ids(10)[part])
    assert len(either[2:]) == 0


def test_iteration_gives_the_images(either: Panoptic, assert_same: Any) -> None:
    images = list(either)
    assert len(images) == len(either) == 2
    for i, image in enumerate(images):
        assert_same(image.numpy(), either[i].numpy())


def test_parts_are_views(batch: Panoptic) -> None:
    for panoptic in (batch, tensors(batch)):
        panoptic[0].instance[0, 0] = 9
        assert panoptic.instance[0, 0, 0] == 9


def test_one_image_has_no_length(either: Panoptic) -> None:
    image = either[0]
    for use in (len, iter, list, lambda image: image[0], lambda image: image[:1]):
        with pytest.raises(TypeError, match="expected a batch, but this is a single image"):
            use(image)


def test_an_empty_batch_has_every_form(batch: Panoptic) -> None:
    for empty in (batch[:0], tensors(batch)[:0]):
        assert empty.batched
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.size == (4, 6)
        assert empty.batch_segments == []
        assert empty.to_coco() == []
        assert empty.to_detectron2() == []
        assert len(empty.numpy()) == len(empty.to("cpu")) == 0
        ids = empty.to_ids(1000)
        assert tuple(ids.shape) == (0, 4, 6)
        assert str(ids.dtype).removeprefix("torch.") == "int32"


def test_fields_cannot_be_set(either: Panoptic) -> None:
    for name in (field.name for field in fields(either)):
        with pytest.raises(FrozenInstanceError):
            setattr(either, name, None)


# Any maps at all


@st.composite
def panoptics(draw: st.DrawFn) -> Panoptic:
    n, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    classes, m = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    things = tuple(sorted(draw(st.sets(st.integers(0, classes - 1)))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    semantic = rng.integers(-1, classes, (n, height, width))
    counts = rng.integers(0, m + 1, n) if things else np.zeros(n, int)
    instance = np.zeros_like(semantic)
    for i in range(n):
        classes_of = rng.choice(things, m) if things else np.zeros(m, int)
        instance[i] = rng.integers(0, counts[i] + 1, (height, width))
        claimed = instance[i] > 0
        semantic[i][claimed] = classes_of[instance[i][claimed] - 1]
    return panoptic_of(semantic, instance, counts.tolist(), m, classes, things)


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(panoptic=panoptics())
def test_all_forms_agree_on_every_pixel(panoptic: Panoptic, assert_same: Any) -> None:
    same = tensors(panoptic)
    assert_same(same.to_ids(77), panoptic.to_ids(77))
    assert same.batch_segments == panoptic.batch_segments
    for i, image in enumerate(panoptic):
        segments, (ids, infos) = image.segments, image.to_coco()
        coco_ids, coco_infos = same[i].to_coco()
        assert_same(coco_ids, ids)
        assert coco_infos == infos
        assert_same(same[i].to_detectron2()[0].numpy(), ids)
        assert [segment.id for segment in segments] == sorted({*ids.ravel().tolist()} - {0})
        assert [info["id"] for info in infos] == [segment.id for segment in segments]
        for segment, info in zip(segments, infos, strict=True):
            y, x = np.nonzero(ids == segment.id)
            assert segment.area == info["area"] == len(y)
            assert segment.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            assert info["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
            assert set(image.semantic[y, x].tolist()) == {segment.category}
            assert len(set(image.instance[y, x].tolist())) == 1
            assert segment.isthing == (segment.category in panoptic.things)
            assert (segment.score is not None) == (image.instance[y[0], x[0]] > 0) == (segment.id <= image.count)
        np.testing.assert_array_equal(ids == 0, image.semantic == -1)
        divided = image.to_ids(1000)
        seen = divided >= 0
        np.testing.assert_array_equal(divided[seen] // 1000, image.semantic[seen])
        np.testing.assert_array_equal(divided[seen] % 1000, image.instance[seen])
        np.testing.assert_array_equal(seen, image.semantic >= 0)


def test_the_forms_of_a_real_result_agree(make_heads: Any, as_tensors: Any, assert_same: Any) -> None:
    """Fused, not made up; an instance of more than one class of pixels has its majority's."""
    heads = make_heads(seed=3, n=3, h=21, w=23, labels=(81, 89))
    params = FuseParams(peak_threshold=0.01, instance_threshold=0.0, max_instances=200)
    panoptic = deeperlab.fuse(as_tensors(heads), [1, 3, 4], params=params)
    assert int(panoptic.count.min()) > 1
    arrays = deeperlab.fuse(heads, [1, 3, 4], params=params)
    assert_same(panoptic.to_ids(1000).numpy(), arrays.to_ids(1000))
    assert panoptic.batch_segments == arrays.batch_segments
    for image, segments in zip(arrays, arrays.batch_segments, strict=True):
        areas = np.bincount(image.to_coco()[0].ravel())
        assert {segment.id: segment.area for segment in segments} == {i: areas[i] for i in np.flatnonzero(areas) if i}
