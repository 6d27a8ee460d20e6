# SPDX-License-Identifier: Apache-2.0
"""The top-down merge: by hand, beside what panopticapi and Detectron2 publish, and beside torch's own pasting."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from simd_digests import top_down_call
from torch.nn import functional

import deeperlab
from deeperlab import Panoptic, merge_top_down
from deeperlab.stages import numpy_ops, top_down
from deeperlab.stages import torch_ops as ops

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, of deeperlab[dev]")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

Array = NDArray[Any]
SKY, ROAD, PERSON, CAR = range(4)
THINGS = (PERSON, CAR)


def whole(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Array:
    """Masks of the whole image, bool [K, H, W]: rectangles x0, y0, x1, y1."""
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def merge(scores: Any, labels: Any, masks: Any, semantic: Any, **options: Any) -> Panoptic:
    options = {"num_classes": 4, "stuff_area": 0, **options}
    return merge_top_down(None, np.float32(scores), np.int64(labels), masks, semantic, THINGS, **options)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_the_best_detection_takes_its_mask_and_others_what_is_left() -> None:
    masks = whole((4, 10), (0, 0, 6, 4), (4, 0, 10, 4))
    panoptic = merge([0.7, 0.9], [PERSON, CAR], masks, np.full((4, 10), SKY))
    assert panoptic.instance.tolist() == [[2] * 4 + [1] * 6] * 4
    assert panoptic.semantic.tolist() == [[PERSON] * 4 + [CAR] * 6] * 4
    assert panoptic.category.tolist() == [CAR, PERSON]
    assert panoptic.area.tolist() == [24, 16]
    assert panoptic.score.tolist() == [np.float32(0.9), np.float32(0.7)]
    assert panoptic.class_area.tolist() == [0, 0, 0, 0]
    assert (panoptic.count, panoptic.truncated) == (2, False)
    assert panoptic.keypoints.shape == (2, 0, 2)
    assert [(s.id, s.category, s.isthing, s.area, s.keypoints, s.keypoint_box) for s in panoptic.segments] == [
        (1, CAR, True, 24, None, None),
        (2, PERSON, True, 16, None, None),
    ]


@pytest.mark.parametrize(("score", "count"), [(0.5, 1), (np.nextafter(np.float32(0.5), np.float32(0)), 0)])
def test_the_score_threshold_itself_is_enough(score: float, count: int) -> None:
    assert merge([score], [PERSON], whole((4, 4), (0, 0, 2, 2)), np.full((4, 4), SKY)).count == count


@pytest.mark.parametrize(("overlap", "count"), [(5, 2), (6, 1)])
def test_an_overlap_of_the_threshold_itself_is_not_too_much(overlap: int, count: int) -> None:
    masks = whole((1, 30), (0, 0, 10, 1), (10 - overlap, 0, 20 - overlap, 1))
    assert merge([0.9, 0.8], [PERSON, CAR], masks, np.full((1, 30), SKY)).count == count


def test_what_is_dropped_takes_nothing_from_those_after_it() -> None:
    masks = whole((1, 30), (0, 0, 10, 1), (2, 0, 16, 1), (11, 0, 16, 1))
    panoptic = merge([0.9, 0.8, 0.7], [PERSON, CAR, CAR], masks, np.full((1, 30), SKY))
    assert (panoptic.count, panoptic.area.tolist()) == (2, [10, 5, 0])
    assert panoptic.category.tolist() == [PERSON, CAR, -1]


def test_of_equal_scores_the_first_comes_first() -> None:
    masks = whole((1, 9), (3, 0, 9, 1), (0, 0, 6, 1), (0, 0, 2, 1))
    panoptic = merge([0.6, 0.8, 0.8], [PERSON, CAR, PERSON], masks, np.full((1, 9), SKY), overlap_threshold=1.0)
    assert panoptic.instance.tolist() == [[1] * 6 + [3] * 3]
    assert panoptic.area.tolist() == [6, 0, 3]
    assert panoptic.category.tolist() == [CAR, -1, PERSON]  # the second won no pixel, and is no segment
    assert [segment.id for segment in panoptic.segments] == [1, 3]


def test_an_empty_mask_is_no_instance() -> None:
    panoptic = merge([0.9, 0.8], [PERSON, CAR], whole((3, 3), (0, 0, 0, 3), (1, 1, 2, 2)), np.full((3, 3), SKY))
    assert (panoptic.count, panoptic.category.tolist()) == (1, [CAR, -1])


def test_stuff_counts_what_no_instance_took_and_needs_its_area() -> None:
    semantic = np.full((4, 10), SKY)
    semantic[:, 5:] = ROAD
    masks = whole((4, 10), (0, 0, 3, 4))
    for area, left in ((8, (8, 20)), (9, (0, 20)), (21, (0, 0))):
        panoptic = merge([0.9], [CAR], masks, semantic, stuff_area=area)
        assert panoptic.class_area.tolist() == [*left, 0, 0]
        assert panoptic.semantic[0].tolist() == [CAR] * 3 + [SKY if left[0] else -1] * 2 + [ROAD if left[1] else -1] * 5
    assert [(s.category, s.isthing) for s in merge([0.9], [CAR], masks, semantic).segments] == [
        *((CAR, True), (SKY, False), (ROAD, False))
    ]


def test_things_of_the_semantic_map_are_void_and_in_detectron2_class_0_is() -> None:
    semantic = np.array([[SKY, ROAD, PERSON, CAR, 9, -1]])
    nobody = np.zeros((0, 1, 6), bool)
    assert merge([], [], nobody, semantic).semantic.tolist() == [[SKY, ROAD, -1, -1, -1, -1]]
    other = merge([], [], nobody, semantic, variant="detectron2")
    assert other.semantic.tolist() == [[-1, ROAD, PERSON, CAR, -1, -1]]
    assert other.class_area.tolist() == [0, 1, 1, 1]
    assert other.count == 0


def test_more_instances_than_there_is_room_for() -> None:
    masks = whole((1, 9), (0, 0, 3, 1), (3, 0, 6, 1), (6, 0, 9, 1))
    panoptic = merge([0.9, 0.8, 0.7], [CAR] * 3, masks, np.full((1, 9), SKY), max_instances=2)
    assert (panoptic.count, panoptic.truncated) == (2, True)
    assert panoptic.instance.tolist() == [[1, 1, 1, 2, 2, 2, 0, 0, 0]]
    assert panoptic.semantic.tolist() == [[CAR] * 6 + [SKY] * 3]
    full = merge([0.9, 0.8, 0.2], [CAR] * 3, masks, np.full((1, 9), SKY), max_instances=2)
    assert (full.count, full.truncated) == (2, False)


def test_a_mask_of_ones_fills_its_box() -> None:
    """Half-way between the last sample and the zeros around it lies the border of the box."""
    inside = np.zeros((40, 40), bool)
    inside[8:24, 8:24] = True
    for paste in ("detectron2", "torchvision"):
        panoptic = merge_top_down(
            *(np.float32([[8, 8, 24, 24]]), np.float32([1]), np.int64([CAR]), np.ones((1, 28, 28), np.float32)),
            *(np.zeros((40, 40), np.int32), THINGS), num_classes=4, paste=paste,
        )  # fmt: skip
        assert (panoptic.instance == inside).all(), paste


def test_boxes_of_no_size_outside_and_inverted() -> None:
    boxes = np.float32([[5, 5, 5, 9], [-30, 2, -10, 8], [9, 2, 3, 8], [50, 50, 60, 60], [7, 7, 7, 7]])
    for paste, count in (("detectron2", 0), ("torchvision", 2)):  # whole pixels: one column, and one pixel
        panoptic = merge_top_down(
            *(boxes, np.full(5, 0.9, np.float32), np.full(5, CAR), np.ones((5, 28, 28), np.float32)),
            *(np.zeros((20, 20), np.uint8), THINGS), num_classes=4, paste=paste,
        )  # fmt: skip
        assert panoptic.count == count
        assert panoptic.area.tolist() == ([6, 1] if count else [0, 0]) + [0, 0, 0]


# --- beside panopticapi and Detectron2 -------------------------------------------------------------------------------


def as_panopticapi(scores: Array, labels: Array, masks: Array, semantic: Array, *, score: float, overlap: float,
                   area: int) -> tuple[Array, list[int]]:  # fmt: skip
    """Ids of segments, from 1, and their classes, by run-length masks as the script of panopticapi has them."""
    rle = pytest.importorskip("pycocotools.mask", reason="needs deeperlab[train]")
    encode = lambda mask: rle.encode(np.asfortranarray(mask.astype(np.uint8)))  # noqa: E731
    ids, classes = np.zeros(semantic.shape, int), []
    claimed = encode(np.zeros(semantic.shape))
    for k in sorted((k for k in range(len(scores)) if not float(scores[k]) < score), key=lambda k: -scores[k]):
        mask = encode(masks[k])
        size = int(rle.area(mask))
        if not size or int(rle.area(rle.merge([claimed, mask], intersect=True))) / size > overlap:
            continue
        claimed = rle.merge([claimed, mask])
        classes.append(int(labels[k]))
        ids[(rle.decode(mask) == 1) & (ids == 0)] = len(classes)
    for c in np.unique(semantic):
        left = (rle.decode(encode(semantic == c)) == 1) & (ids == 0)
        if c in THINGS or left.sum() < area:
            continue
        classes.append(int(c))
        ids[left] = len(classes)
    return ids, classes


def as_detectron2(scores: Array, labels: Array, masks: Array, semantic: Array, *, score: float, overlap: float,
                  area: int) -> tuple[Array, list[int]]:  # fmt: skip
    """The same, by tensors as in Detectron2, where class 0 of the semantic map is any thing."""
    ids, classes = torch.zeros(semantic.shape, dtype=torch.int32), []
    maps, stuff = torch.from_numpy(masks), torch.from_numpy(semantic)
    for k in torch.sort(torch.from_numpy(scores), descending=True, stable=True).indices.tolist():
        if float(scores[k]) < score:
            break
        size = int(maps[k].sum())
        if size == 0 or int((maps[k] & (ids > 0)).sum()) * 1.0 / size > overlap:
            continue
        classes.append(int(labels[k]))
        ids[maps[k] & (ids == 0)] = len(classes)
    for c in stuff.unique().tolist():
        left = (stuff == c) & (ids == 0)
        if c == 0 or int(left.sum()) < area:
            continue
        classes.append(c)
        ids[left] = len(classes)
    return ids.numpy(), classes


PUBLISHED = {"panopticapi": as_panopticapi, "detectron2": as_detectron2}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("variant", PUBLISHED)
@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_given_masks_merge_as_published(variant: str, seed: int) -> None:
    """Maps, classes, and the numbers of all segments; empty masks, equal scores, thresholds that are met exactly."""
    rng = np.random.default_rng(seed)
    size, k = tuple(int(side) for side in rng.integers(1, 90, 2)), int(rng.integers(0, 12))
    corner = rng.integers(0, 90, (k, 2))
    extent = rng.integers(0, 12, (k, 2)) * 4
    masks = whole(size, *np.concatenate((corner, corner + extent), 1).tolist())  # type: ignore[arg-type]
    masks &= rng.random(masks.shape) < rng.choice((0.7, 1.0))
    scores = rng.choice(np.float32([0.2, 0.5, 0.5, 0.6, 0.75, 0.75, 0.9]), k)
    labels = rng.choice(THINGS, k)
    semantic = np.kron(rng.integers(0, 4, (9, 9)), np.ones((10, 10), int))[: size[0], : size[1]]
    overlap, area = float(rng.choice((0.0, 0.25, 0.5, 1.0))), int(rng.choice((0, 1, 30, 100)))
    ids, classes = PUBLISHED[variant](scores, labels, masks, semantic, score=0.5, overlap=overlap, area=area)
    options = {"variant": variant, "overlap_threshold": overlap, "stuff_area": area}
    panoptic = merge(scores, labels, masks, semantic, **options)
    found, infos = panoptic.to_coco()
    np.testing.assert_array_equal(found, ids)
    assert {info["id"]: info["category_id"] for info in infos} == {
        number: c for number, c in enumerate(classes, 1) if (ids == number).any()
    }
    np.testing.assert_array_equal(panoptic.to_detectron2()[0].numpy(), ids)


# --- beside torch's pasting ------------------------------------------------------------------------------------------


def grid_sampled(mask: Array, box: Array, size: tuple[int, int]) -> Array:
    """Values at all pixels as Detectron2 samples them, at the centers of pixels; float64."""
    x0, y0, x1, y1 = box.astype(np.float64)
    x = (torch.arange(size[1], dtype=torch.float64) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(size[0], dtype=torch.float64) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    return functional.grid_sample(torch.from_numpy(mask)[None, None].double(), grid, align_corners=False)[0, 0].numpy()


def interpolated(mask: Array, box: Array, size: tuple[int, int]) -> Array:
    """Values at all pixels as torchvision resizes a mask, padded by a sample, to whole pixels; boxes in the image."""
    scale = (len(mask) + 2) / len(mask)
    low, high = torch.from_numpy(box[:2]), torch.from_numpy(box[2:])
    center, half = (high + low) * 0.5, (high - low) * 0.5 * scale
    (x0, y0), (x1, y1) = ((center + sign * half).long().tolist() for sign in (-1, 1))
    shape = max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1)
    padded = functional.pad(torch.from_numpy(mask)[None, None].double(), (1, 1, 1, 1))
    resized = functional.interpolate(padded, size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    out = np.zeros(size)
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1 + 1, size[0]), min(x1 + 1, size[1])
    out[top:bottom, left:right] = resized[top - y0 : bottom - y0, left - x0 : right - x0]
    return out


@pytest.mark.parametrize(("paste", "values"), [("detectron2", grid_sampled), ("torchvision", interpolated)])
@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_masks_are_pasted_as_torch_does(paste: str, values: Any, seed: int) -> None:
    """But for pixels so near the threshold that rounding decides."""
    rng = np.random.default_rng(seed)
    size, side = (97, 120), int(rng.choice((7, 14, 28, 100)))
    corner = rng.uniform(0, 90, 2)
    box = np.concatenate((corner, corner + rng.uniform(0.5, 100, 2))).clip(0, [120, 97] * 2).astype(np.float32)
    hypothesis.assume((box[2:] > box[:2]).all())
    mask, threshold = rng.random((side, side)).astype(np.float32), float(rng.choice((0.5, 0.3, 0.8)))
    expected = values(mask, box, size)
    panoptic = merge_top_down(
        *(box[None], np.float32([1]), np.int64([0]), mask[None], np.zeros(size, np.int32), [0]),
        num_classes=1, paste=paste, mask_threshold=threshold,
    )  # fmt: skip
    sure = np.abs(expected - threshold) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal((panoptic.instance > 0)[sure], (expected > threshold)[sure])


def test_a_probability_of_the_threshold_is_in_the_mask_for_detectron2_alone() -> None:
    for paste, count in (("detectron2", 1), ("torchvision", 0)):
        panoptic = merge_top_down(
            *(np.float32([[0, 0, 8, 8]]), np.float32([1]), np.int64([0]), np.full((1, 8, 8), 0.5, np.float32)),
            *(np.zeros((8, 8), np.int32), [0]), num_classes=1, paste=paste,
        )  # fmt: skip
        assert panoptic.count == count


# --- one result for all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "large"), [*((seed, False) for seed in range(120)), *((seed, True) for seed in range(4))]
)
def test_the_engine_equals_its_twin(seed: int, large: bool, assert_same: Any) -> None:
    arrays, options = top_down_call(np.random.default_rng(seed), large=large)
    want = top_down.top_down(*arrays, **options)
    for threads in (1, 2, 5):
        made = numpy_ops.top_down(*arrays, **options, num_threads=threads)
        for one, other in zip(made, want, strict=True):
            assert_same(one, other, f"{threads} threads")
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    for one, other in zip(ops.top_down(*tensors, **options), want, strict=True):
        assert_same(one, other)


def scene(seed: int = 0, n: int | None = 2, k: int = 7, size: tuple[int, int] = (65, 90)) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    lead = () if n is None else (n,)
    corner = rng.uniform(-5, 80, (*lead, k, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(3, 50, corner.shape)), -1).astype(np.float32)
    masks = rng.uniform(0.2, 1, (*lead, k, 28, 28)).astype(np.float32)
    semantic = rng.normal(0, 1, (*lead, 4, (size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)).astype(np.float32)
    return boxes, rng.uniform(0.3, 1, (*lead, k)).astype(np.float32), rng.choice(THINGS, (*lead, k)), masks, semantic


def test_tensors_arrays_and_every_place_in_a_batch_give_one_result(assert_same: Any) -> None:
    arrays = scene()
    batch = merge_top_down(*arrays, THINGS, size=(65, 90), stuff_area=20)
    assert batch.count.min() > 1
    assert_same(merge_top_down(*map(torch.from_numpy, arrays), THINGS, size=(65, 90), stuff_area=20), batch)
    for n in range(2):
        alone = merge_top_down(*(array[n] for array in arrays), THINGS, size=(65, 90), stuff_area=20, num_threads=1)
        assert_same(alone, batch[n])
    boxes, scores, labels, masks, semantic = arrays
    padded = np.concatenate((scores, np.full((2, 2), -1, np.float32)), 1)  # images of fewer detections
    more = (np.concatenate((array, array[:, :2]), 1) for array in (boxes, labels, masks))
    boxes, labels, masks = more
    same = merge_top_down(boxes, padded, labels, masks, semantic, THINGS, size=(65, 90), stuff_area=20, max_instances=7)
    assert_same(same, batch)


@pytest.mark.parametrize("kind", ["half", "bfloat16", "one channel", "int32 labels", "bool", "float64 boxes"])
def test_other_forms_of_the_same_arguments(kind: str, assert_same: Any) -> None:
    boxes, scores, labels, masks, semantic = map(torch.from_numpy, scene())
    masks = masks.bfloat16().float()
    options: dict[str, Any] = {"size": (65, 90), "stuff_area": 20}
    want = merge_top_down(boxes, scores, labels, masks, semantic, THINGS, **options)
    if kind == "half":
        masks = masks.half().float()
        want = merge_top_down(boxes, scores, labels, masks, semantic, THINGS, **options)
        masks = masks.half()
    if kind == "bfloat16":
        masks = masks.bfloat16()
    if kind == "one channel":
        masks = masks[:, :, None]
    if kind == "int32 labels":
        labels = labels.int()
    if kind == "bool":
        rules = {"paste": "detectron2", "least": np.float32(0.5)}
        pairs = zip(masks.numpy().reshape(14, 28, 28), boxes.numpy().reshape(14, 4), strict=True)
        pasted = np.stack([top_down.paste_mask(mask, box, (65, 90), **rules) for mask, box in pairs])
        masks, boxes = torch.from_numpy(pasted.reshape(2, 7, 65, 90)), None
    if kind == "float64 boxes":
        boxes, scores = boxes.double(), scores.double()
    assert_same(merge_top_down(boxes, scores, labels, masks, semantic, np.isin(range(4), THINGS), **options), want)


def test_no_detections_and_no_images() -> None:
    boxes, scores, labels, masks, semantic = scene(n=None, k=0)
    panoptic = merge_top_down(boxes, scores, labels, masks, semantic, THINGS)
    assert (panoptic.count, panoptic.score.shape, panoptic.size) == (0, (1,), (65, 89))
    empty = merge_top_down(*(array[:0] for array in scene()), THINGS)
    assert empty.semantic.shape == (0, 65, 89)
    assert list(empty.batch_segments) == []


@pytest.mark.skipif(sys.platform != "linux", reason="it reads the peak from /proc")
def test_memory_does_not_hold_the_masks() -> None:
    """300 masks over 1441 × 1441 px: 623 MB as bytes, 78 MB as bits; the maps of the result are 17 MB."""
    code = """
import re
from pathlib import Path
import numpy as np
from deeperlab import merge_top_down
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
boxes = np.tile(np.float32([[3, 3, 1400, 1400]]), (300, 1))
masks, labels = np.ones((300, 28, 28), np.float32), np.ones((1441, 1441), np.uint8)
before = peak()
found = merge_top_down(boxes, np.ones(300, np.float32), np.zeros(300, int), masks, labels, [0], num_classes=2,
                       overlap_threshold=1.0, num_threads=1)
assert found.count == 300
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 8 < float(done.stdout) < 45


# --- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_operator_is_sound_for_torch() -> None:
    for seed in (1, 2, 3):
        arrays, options = top_down_call(np.random.default_rng(seed))
        tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        torch.library.opcheck(ops.top_down, tensors, options)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_as_one_graph(dynamic: bool, assert_same: Any) -> None:
    def run(*tensors: torch.Tensor) -> Panoptic:
        return merge_top_down(*tensors, THINGS, stuff_area=20)

    compiled = torch.compile(run, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for k, size in ((7, (65, 89)), (5, (41, 57))):
        tensors = tuple(map(torch.from_numpy, scene(k=k, size=size)))
        assert_same(compiled(*tensors), run(*tensors))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["arrays", "tensors"])
def test_what_does_not_fit_is_named(face: str) -> None:
    boxes, scores, labels, masks, semantic = scene()
    nan = np.where(np.arange(7) == 3, np.float32(np.nan), scores)
    far = boxes.copy()
    far[1, 2, 0] = -np.inf
    certain = np.ones_like(scores)
    for changes, message in (
        ({"scores": nan}, r"scores: expected numbers, got nan \(detection 3 of image 0\)"),
        ({"boxes": far, "scores": certain}, r"boxes: expected numbers up to 2\^24, got -inf, .*detection 2 of image 1"),
        ({"labels": labels * 0, "scores": certain}, r"labels: expected thing classes, got 0 .detection 0 of image 0"),
        ({"labels": labels + 9, "scores": certain}, r"labels: expected thing classes, got 1[12] "),
        ({"scores": scores[0]}, "labels: expected .*, got shape"),
        ({"scores": scores[:, :3]}, "masks: expected 3 for each of 2 images, as scores has, got shape"),
        ({"scores": scores[:, :, None]}, "scores: expected .N, K. or .K., got shape"),
        ({"boxes": boxes[..., :3]}, r"boxes: expected shape \[2, 7, 4\], got \[2, 7, 3\]"),
        ({"boxes": None}, "boxes: expected those of the masks, got None"),
        ({"labels": labels.astype(np.float32)}, "labels: expected dtype uint8, .*, got float32"),
        ({"masks": masks[..., :20]}, r"masks: expected probabilities .*got shape .* whole image are bool or uint8"),
        ({"masks": masks.astype(np.int64)}, "masks: expected dtype .*bool, uint8, got int64"),
        ({"masks": masks > 0.5, "size": (65, 89)}, "masks: expected 65 x 89 px, got 28 x 28"),
        ({"semantic": semantic[:, 0].astype(np.int64)}, "num_classes: expected at least 1 with integer labels, "),
        ({"semantic": semantic[:1]}, "semantic: expected 2 images as scores has, got 1"),
        ({"semantic": semantic[:, 0]}, "semantic: expected integer labels"),
        ({"num_classes": 5}, "num_classes: expected 4 as semantic has, got 5"),
        ({"things": [4]}, r"things: expected class ids in \[0, 4\), got 4"),
        ({"size": (66, 90)}, None),
        ({"size": (69, 90)}, r"size: expected 1 to stride \* h"),
        ({"size": 5}, r"size: expected \(H, W\), got 5"),
        ({"size": (65.0, 90)}, "size: expected an int, got 65.0"),
        ({"paste": 3}, "paste: expected str, got 3"),
        ({"variant": "coco"}, "variant: expected one of .*, got 'coco'"),
        ({"paste": "coco"}, "paste: expected 'detectron2' or 'torchvision', got 'coco'"),
        ({"mask_threshold": 0}, "mask_threshold: expected more than 0 and at most 1, got 0"),
        ({"score_threshold": float("nan")}, "score_threshold: expected a finite number, got nan"),
        ({"overlap_threshold": "0.5"}, "overlap_threshold: expected a number, got '0.5'"),
        ({"stuff_area": -1}, "stuff_area: expected 0 to"),
        ({"stuff_area": 0.5}, "stuff_area: expected an int, got 0.5"),
        ({"max_instances": 0}, "max_instances: expected 1 to"),
        ({"stride": 0}, "stride: expected 1 to|size"),
    ):  # fmt: skip
        given: dict[str, Any] = {"boxes": boxes, "scores": scores, "labels": labels, "masks": masks,
                                 "semantic": semantic, "things": THINGS, **changes}  # fmt: skip
        if face == "tensors":
            given = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
        if message is None:
            merge_top_down(**given)
            continue
        with pytest.raises((ValueError, TypeError), match=message):
            merge_top_down(**given)


def test_a_mixture_of_tensors_and_arrays_is_refused() -> None:
    boxes, scores, labels, masks, semantic = scene()
    with pytest.raises(TypeError, match="boxes: expected ndarray as scores is, got Tensor"):
        merge_top_down(torch.from_numpy(boxes), scores, labels, masks, semantic, THINGS)
    tensors = map(torch.from_numpy, (boxes, scores, labels, masks, semantic))
    with pytest.raises(ValueError, match="num_threads: expected None for tensors, got 2"):
        merge_top_down(*tensors, THINGS, num_threads=2)
    assert deeperlab.merge_top_down is merge_top_down


def test_a_wrong_detection_that_scores_too_little_is_no_fault() -> None:
    boxes, scores, labels, masks, semantic = scene()
    boxes[0, 0], labels[0, 1], scores[0, :2] = np.nan, 99, 0.1
    assert merge_top_down(boxes, scores, labels, masks, semantic, THINGS).count.min() > 0
