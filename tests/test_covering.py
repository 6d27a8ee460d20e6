# SPDX-License-Identifier: Apache-2.0
"""Parsing covering, mean IoU and the evaluation of all: hand-counted cases, a slow count, the authors' figures."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deeperlab.metrics import (
    Evaluation,
    MeanIoU,
    Metric,
    Pairs,
    PanopticQuality,
    ParsingCovering,
    intersect,
    panoptic_quality,
    parsing_covering,
)

ROOT = Path(__file__).resolve().parents[1]
CATEGORIES = {1: True, 2: True, 3: False}
"""Two things and one stuff."""

Segment = dict[str, int]
Pair = tuple[NDArray[np.int64], list[Segment]]


def segment(id: int, category: int, iscrowd: int = 0) -> Segment:
    return {"id": id, "category_id": category, "iscrowd": iscrowd}


def row(*runs: tuple[int, int]) -> NDArray[np.int64]:
    """A map of one row from (id, length) runs."""
    return np.concatenate([np.full(n, i) for i, n in runs])[None]


def per_class(prediction: Pair, target: Pair) -> dict[str, float | None]:
    values: dict[str, float | None] = parsing_covering(prediction, target, CATEGORIES).to_dict()["pixel"]["per_class"]
    return values


def test_a_segmentation_covers_itself() -> None:
    ids, segments = row((1, 4), (2, 4), (3, 8)), [segment(1, 1), segment(2, 1), segment(3, 3)]
    result = parsing_covering((ids, segments), (ids, segments), CATEGORIES)
    assert result.pc == 1
    assert result.to_dict()["normalized"] == result.to_dict()["pixel"]
    assert result.to_dict()["pixel"] == {
        "All": {"pc": 1, "n": 2},
        "Things": {"pc": 1, "n": 1},
        "Stuff": {"pc": 1, "n": 1},
        "per_class": {"1": 1, "2": None, "3": 1},
    }


def test_one_of_three_equal_trees_is_a_third_as_stuff_and_as_things() -> None:
    """The example of section 3.5."""
    trees = [segment(1, 1), segment(2, 1), segment(3, 1)]
    target, one = row((1, 4), (2, 4), (3, 4)), row((1, 4), (0, 8))
    assert per_class((one, trees[:1]), (target, trees))["1"] == pytest.approx(1 / 3)
    assert per_class((one, [segment(1, 3)]), (row((1, 12)), [segment(1, 3)]))["3"] == pytest.approx(1 / 3)


def test_there_is_no_threshold_and_one_prediction_may_cover_several_regions() -> None:
    target = row((1, 2), (2, 6)), [segment(1, 1), segment(2, 1)]
    assert per_class((row((5, 8)), [segment(5, 1)]), target)["1"] == pytest.approx((2 * 2 / 8 + 6 * 6 / 8) / 8)


def test_a_region_takes_its_best_prediction_of_its_own_category() -> None:
    target = row((1, 8)), [segment(1, 1)]
    prediction = row((4, 2), (5, 3), (6, 3)), [segment(4, 1), segment(5, 1), segment(6, 2)]
    assert per_class(prediction, target)["1"] == pytest.approx(3 / 8)


def test_a_missed_category_counts_with_0_and_one_that_is_only_predicted_not_at_all() -> None:
    result = parsing_covering((row((1, 8)), [segment(1, 2)]), (row((1, 8)), [segment(1, 1)]), CATEGORIES)
    assert result.to_dict()["normalized"]["per_class"] == {"1": 0, "2": None, "3": None}
    assert result.normalized.all.n == 1


@pytest.mark.parametrize("dropped", [[segment(2, 1, 1)], []], ids=["crowd", "not listed"])
def test_pixels_of_void_and_crowd_are_no_part_of_a_prediction(dropped: list[Segment]) -> None:
    prediction = row((5, 12)), [segment(5, 1)]
    assert per_class(prediction, (row((1, 6), (2, 4), (0, 2)), [segment(1, 1), *dropped]))["1"] == 1


def test_normalized_weighs_by_the_share_of_the_whole_image_void_included() -> None:
    metric = ParsingCovering(CATEGORIES)
    metric.update((row((1, 4), (0, 4)), [segment(1, 1)]), (row((1, 4), (0, 4)), [segment(1, 1)]))
    metric.update((row((0, 80)), []), (row((1, 80)), [segment(1, 1)]))
    result = metric.compute()
    assert result.normalized.per_class[1] == pytest.approx(0.5 / 1.5)
    assert result.pixel.per_class[1] == pytest.approx(4 / 84)


def test_nothing_annotated_is_undefined_not_zero() -> None:
    metrics = Evaluation(CATEGORIES)
    metrics.update((row((5, 8)), [segment(5, 1)]), (row((0, 8)), []))
    metrics.update((np.zeros((0, 0), int), []), (np.zeros((0, 0), int), []))
    result = metrics.compute()
    assert math.isnan(result.pc.pc)
    assert math.isnan(result.iou.miou)
    assert result.pc.to_dict()["pixel"]["Things"] == {"pc": None, "n": 0}
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["miou"] is None


def test_mean_iou_leaves_void_out_and_keeps_crowds() -> None:
    metric = MeanIoU(CATEGORIES)
    target = row((1, 4), (2, 4), (0, 4), (6, 2)), [segment(1, 1), segment(2, 1, 1)]
    metric.update((row((5, 6), (0, 2), (7, 6)), [segment(5, 1), segment(7, 2)]), target)
    result = metric.compute()
    assert result.per_class[1] == 6 / 8  # predicted void is wrong on a crowd
    assert math.isnan(result.per_class[2])  # predicted on void and on what is not listed
    assert (result.miou, result.n) == (6 / 8, 1)
    metric.update((row((7, 8)), [segment(7, 2)]), (row((1, 8)), [segment(1, 1)]))
    assert metric.compute().to_dict() == {
        "miou": pytest.approx((6 / 16 + 0) / 2),
        "n": 2,
        "per_class": {"1": 6 / 16, "2": 0, "3": None},
    }


def scene(rng: np.random.Generator, side: int = 24) -> Pair:
    """Rectangles of random category over stuff and void, some of them crowd, one id not listed."""
    ids = np.full((side, side), 1)
    ids[: rng.integers(0, 6)] = 0
    segments = [segment(1, 3)]
    for i in range(2, 9):
        y, x = rng.integers(0, side - 6, 2)
        ids[y : y + rng.integers(3, 14), x : x + rng.integers(3, 14)] = i
        segments.append(segment(i, int(rng.integers(1, 4)), int(rng.random() < 0.25)))
    present = set(np.unique(ids).tolist()) - {8}
    return ids, [s for s in segments if s["id"] in present]


def jitter(rng: np.random.Generator, target: Pair) -> Pair:
    ids = np.roll(target[0], rng.integers(-3, 4, 2), (0, 1))
    ids[ids == 8] = 0
    return ids, [s | {"category_id": int(rng.integers(1, 4))} if rng.random() < 0.1 else s for s in target[1]]


def slow_covering(prediction: Pair, target: Pair) -> NDArray[np.float64]:
    """Covered and total pixels of each category, mask by mask, as Eq. 3-4 have it."""
    crowd = {s["id"] for s in target[1] if s["iscrowd"]}
    regions = [s for s in target[1] if s["id"] not in crowd]
    kept = np.isin(target[0], [s["id"] for s in regions])
    sums = np.zeros((4, 2))
    for g in regions:
        mask = target[0] == g["id"]
        best = 0.0
        for p in prediction[1]:
            other = (prediction[0] == p["id"]) & kept
            if p["category_id"] == g["category_id"] and (mask | other).any():
                best = max(best, (mask & other).sum() / (mask | other).sum())
        sums[g["category_id"]] += best * mask.sum(), mask.sum()
    return sums


def slow_iou(prediction: Pair, target: Pair) -> NDArray[np.float64]:
    """Confusion matrix of the categories, 0 for none."""
    maps = []
    for ids, segments in (prediction, target):
        category = np.zeros_like(ids)
        for s in segments:
            category[ids == s["id"]] = s["category_id"]
        maps.append(category)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (maps[1], maps[0]), 1)
    confusion[0] = 0
    return confusion


def test_random_scenes_agree_with_slow_literal_counts_and_merge_adds_up() -> None:
    rng = np.random.default_rng(0)
    whole, parts = Evaluation(CATEGORIES), [Evaluation(dict(reversed(CATEGORIES.items()))) for _ in range(3)]
    single = ParsingCovering(CATEGORIES), MeanIoU(CATEGORIES), PanopticQuality(CATEGORIES)
    pixel, normalized, confusion = np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 4))
    for i in range(60):
        target = scene(rng, side=20 + i % 5)
        prediction = jitter(rng, target)
        parts[i % 3].update(prediction, target)
        assert whole.update(prediction, target) == single[2].update(prediction, target)
        single[0].update(prediction, target)
        single[1].update(prediction, target)
        sums = slow_covering(prediction, target)
        pixel += sums
        normalized += sums / target[0].size
        confusion += slow_iou(prediction, target)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    results = whole.compute(), parts[0].compute()
    assert single[0].compute() == results[0].pc
    assert single[1].compute() == results[0].iou
    assert single[2].compute() == results[0].pq
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    for result in results:
        for c in CATEGORIES:
            assert result.pc.pixel.per_class[c] == pytest.approx(pixel[c, 0] / pixel[c, 1], rel=1e-12)
            assert result.pc.normalized.per_class[c] == pytest.approx(normalized[c, 0] / normalized[c, 1], rel=1e-12)
            assert result.iou.per_class[c] == pytest.approx(iou[c], rel=1e-12)
        assert result.pc.pixel.all.pc == pytest.approx(np.mean(pixel[1:, 0] / pixel[1:, 1]), rel=1e-12)
        assert result.iou.miou == pytest.approx(iou[1:].mean(), rel=1e-12)
    assert set(results[0].to_dict()) == {"pq", "pc", "miou"}


def test_a_fault_counts_nothing_anywhere() -> None:
    metric = Evaluation(CATEGORIES)
    with pytest.raises(ValueError, match="target's shape"):
        metric.update((row((1, 4)), [segment(1, 1)]), (row((1, 5)), [segment(1, 1)]))
    result = metric.compute()
    assert (result.pq.all.n, result.pc.pixel.all.n, result.iou.n) == (0, 0, 0)


def test_merge_and_pairs_want_the_kind_and_the_categories() -> None:
    ids = row((1, 4)), [segment(1, 1)]
    for kind in (Evaluation, ParsingCovering, MeanIoU, PanopticQuality):
        with pytest.raises(ValueError, match="same categories"):
            kind(CATEGORIES).merge(kind({1: True}))
        with pytest.raises(ValueError, match=f"other: expected a {kind.__name__} "):
            kind(CATEGORIES).merge((MeanIoU if kind is Evaluation else Evaluation)(CATEGORIES))
        with pytest.raises(ValueError, match="pairs: expected the categories"):
            kind(CATEGORIES).add(intersect(ids, ids, {1: True}))
        kind(CATEGORIES).add(intersect(ids, ids, CATEGORIES))


def test_categories_and_instances_are_an_equal_form() -> None:
    category, instance = np.array([[1, 1, 1, 2, 3, 3, -1, -1]]), np.array([[1, 1, 0, 1, 0, 0, 5, -7]])
    ids = np.array([[1, 1, 2, 3, 4, 4, 0, 0]])
    segments = [segment(1, 1), segment(2, 1, 1), segment(3, 2), segment(4, 3)]
    shifted = np.roll(ids, 1), segments
    pairs = ((shifted, (category, instance)), (shifted, (ids, segments)))
    first, second = ((parsing_covering(p, t, CATEGORIES), panoptic_quality(p, t, CATEGORIES)) for p, t in pairs)
    assert [r.to_dict() for r in first] == [r.to_dict() for r in second]


# What the authors' tests count with (tensorflow/models, research/deeplab/evaluation), on the same files.
COLORS = {(0, 0, 0): 0, (0, 0, 255): 1, (255, 0, 0): 2, (0, 255, 0): 3, (255, 0, 255): 4, (0, 255, 255): 5}
COLORS |= {(255, 255, 0): 6}
TARGETS = {
    "bird": {92: 5, 176: 3, 255: 4},
    "cat": {0: 0, 255: 6},
    "team": {0: 0, 47: 1, 97: 1, 133: 1, 150: 1, 174: 1, 198: 2, 215: 1, 244: 1, 255: 1},
}


def read(folder: Path, name: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """A prediction and a ground truth as category and instance; category 0 is void."""
    path = folder / (f"{name}_gt.png" if name != "team" else "team_gt_instance.png")
    gray, classes = np.asarray(Image.open(path).convert("L")).astype(int), np.full(256, -1)
    for value, category in TARGETS[name].items():
        classes[value] = category or -1
    rgb = np.asarray(Image.open(folder / f"{name}_pred_class.png").convert("RGB")).astype(int)
    predicted = np.full(rgb.shape[:2], -1)
    for color, category in COLORS.items():
        predicted[(rgb == color).all(-1)] = category or -1
    instance = np.asarray(Image.open(folder / f"{name}_pred_instance.png").convert("L")).astype(int)
    return (predicted, instance), (classes[gray], gray)


@pytest.mark.parametrize(
    ("names", "covering"),
    [
        (["team"], {1: 0.7009696912, 2: 0.5406896552}),
        (
            ["bird", "cat", "team"],
            {
                **{1: 0.7009696912, 2: 0.5406896552, 3: 0.7453531599},
                **{4: 0.8576779026, 5: 0.9910687881, 6: 0.7741046032},
            },
        ),
    ],
    ids=["team", "three photos"],
)
def test_the_authors_photos_give_their_figures(realdata: Path, names: list[str], covering: dict[int, float]) -> None:
    metric = Evaluation({c: c not in (3, 5) for c in covering})
    for name in names:
        metric.update(*read(realdata / "tf_models_deeplab_eval", name))
    result = metric.compute()
    assert result.pc.pixel.per_class == pytest.approx(covering, abs=5e-11)
    if names == ["team"]:
        assert result.pc.pixel.all.pc == pytest.approx(0.6208296732, abs=5e-11)
        assert result.pc.pc == pytest.approx(0.6208296732, abs=5e-11)  # one image: both are the same
        np.testing.assert_allclose(
            metric.metrics["pc"].sums,
            [[0.5002088756, 0.7135955832, 39864.14634, 56870], [0.03935002196, 0.07277746408, 3136, 5800]],
            rtol=1e-9,
        )
        q = result.pq.per_class
        assert (q[1].tp, q[1].fp, q[1].fn, q[2].tp, q[2].fp, q[2].fn) == (7, 0, 1, 1, 0, 0)
        assert (q[1].iou, q[2].iou) == pytest.approx((5.26827, 0.54069), abs=5e-6)
        figures = 0.62156287, 0.64664984, 0.9666667
    else:
        figures = 0.76855499, 0.7769174, 0.98888892  # deeplab2's
    assert (result.pq.all.pq, result.pq.all.sq, result.pq.all.rq) == pytest.approx(figures, abs=1e-7)


def test_the_published_example_of_tf_models_gives_its_figures(tf_models: Any) -> None:
    categories, pairs = tf_models
    metric = ParsingCovering(categories)
    for prediction, target in pairs:
        metric.update(prediction, target)
    pixel, normalized = metric.compute().pixel, metric.compute().normalized
    assert (pixel.all.n, pixel.things.n, pixel.stuff.n) == (6, 4, 2)
    assert pixel.all.pc == pytest.approx(0.68210561, abs=1e-8)
    assert pixel.things.pc == pytest.approx(0.5890529, abs=5e-8)
    assert pixel.stuff.pc == pytest.approx(0.86821097, abs=5e-9)
    assert normalized.all.pc == pytest.approx(0.68214908840, abs=5e-11)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/metrics.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_two_processes_count_as_one(tmp_path: Path) -> None:
    """The example of the documentation, in each of two processes; every image in one of them."""
    rng = np.random.default_rng(3)
    images = []
    for _ in range(5):
        target = scene(rng)
        pair = jitter(rng, target), target
        images.append([(ids, [s | {"category_id": (1, 1, 92)[s["category_id"] - 1]} for s in ss]) for ids, ss in pair])
    with (tmp_path / "images").open("wb") as file:
        pickle.dump(images, file)
    (tmp_path / "program.py").write_text(
        "import json, pickle\nfrom deeperlab.metrics import Evaluation\n"
        "images = pickle.load(open('images', 'rb'))\n" + examples()[1] + "print(json.dumps(result.to_dict()))\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    place["PYTHONPATH"] = os.pathsep.join(sys.path)
    code = [sys.executable, "program.py"]
    ranks = [{**os.environ, **place, "RANK": str(rank)} for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        run = partial(subprocess.run, code, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        outputs = [done.stdout for done in pool.map(lambda env: run(env=env), ranks)]
    alone = Evaluation({1: True, 92: False})
    for prediction, target in images:
        alone.update(prediction, target)
    assert outputs[0] == outputs[1]
    merged, whole = json.loads(outputs[0]), alone.compute().to_dict()  # sums of other order
    for c, quality in whole["pq"]["per_class"].items():
        assert merged["pq"]["per_class"][c] == pytest.approx(quality, rel=1e-12)
    assert merged["miou"] == pytest.approx(whole["miou"], rel=1e-12)
    assert merged["pc"]["pixel"]["per_class"] == pytest.approx(whole["pc"]["pixel"]["per_class"], rel=1e-12)


def test_the_example_in_the_documentation_runs() -> None:
    usual, _, extended = examples()
    ids, segments = row((5, 4), (6, 4)), [segment(5, 1), segment(6, 92)]
    scope: dict[str, Any] = {"images": [((ids, segments), (ids, segments))]}
    exec(extended, scope)
    assert scope["evaluation"].compute()["pixel_accuracy"].to_dict() == {
        "accuracy": 1,
        "per_class": {"1": 1, "92": 1},
    }
    exec(usual, scope)
    assert scope["result"].pq.all.pq == scope["result"].pc.pc == scope["result"].iou.miou == 1


@dataclass(frozen=True)
class Pixels:
    counted: float

    def to_dict(self) -> dict[str, Any]:
        return {"counted": self.counted}


class CountedPixels(Metric):
    """A metric of a user's own: how many pixels have a category in the truth."""

    name, columns = "counted_pixels", 1

    def add(self, pairs: Pairs) -> None:
        category = pairs.target.category[pairs.target_row]
        self.sums[:, 0] += np.bincount(category[category >= 0], pairs.overlap[category >= 0], len(self.categories))

    def compute(self) -> Pixels:
        return Pixels(float(self.sums.sum()))


def test_a_metric_of_ones_own_joins_the_others_and_merges() -> None:
    rng = np.random.default_rng(0)
    metrics = (CountedPixels, PanopticQuality)
    parts, whole = [Evaluation(CATEGORIES, metrics) for _ in range(3)], Evaluation(CATEGORIES, metrics)
    alone, pixels = CountedPixels(CATEGORIES), 0
    for i in range(12):
        target = scene(rng)
        prediction = jitter(rng, target)
        for metric in (parts[i % 3], whole, alone):
            metric.update(prediction, target)
        listed = [segment["id"] for segment in target[1]]
        pixels += int(np.isin(target[0], listed).sum())
    for part in parts[1:]:
        parts[0].merge(part)
    for result in (parts[0].compute(), whole.compute()):
        assert result["counted_pixels"] == alone.compute() == Pixels(pixels)
        assert list(result.to_dict()) == ["counted_pixels", "pq"]
        assert result.pq is result["pq"]
        with pytest.raises(AttributeError, match="miou: expected an evaluation with MeanIoU, got counted_pixels, pq"):
            _ = result.iou
    with pytest.raises(ValueError, match="other: expected the metrics counted_pixels, pq, got pq, pc, miou"):
        whole.merge(Evaluation(CATEGORIES))


def test_without_panoptic_quality_there_is_no_matching() -> None:
    ids = row((1, 4)), [segment(1, 1)]
    assert Evaluation(CATEGORIES, [MeanIoU]).update(ids, ids) is None
    matching = Evaluation(CATEGORIES).update(ids, ids)
    assert matching is not None
    assert len(matching.matches) == 1


def test_metrics_are_checked_where_they_are_given() -> None:
    class Nameless(CountedPixels):
        name = None  # type: ignore[assignment]

    class Careless(CountedPixels):
        def __init__(self, categories: Any) -> None:
            self.sums = np.zeros(3)

    class Numeric(CountedPixels):
        name = "numeric"

        def compute(self) -> Any:
            return 0.5

    class Summless(CountedPixels):
        name, columns = "summless", 0

    for wrong in (3, "pq", CountedPixels(CATEGORIES), dict, lambda categories: None):
        with pytest.raises(TypeError, match="metrics: expected subclasses of "):
            Evaluation(CATEGORIES, [wrong])  # type: ignore[list-item]
    for kind in (Nameless, Careless):
        with pytest.raises(TypeError, match=f"metrics: expected of {kind.__name__} a name, and super"):
            Evaluation(CATEGORIES, [kind])
    with pytest.raises(ValueError, match="metrics: expected distinct names, got 'counted_pixels' twice"):
        Evaluation(CATEGORIES, [CountedPixels, CountedPixels])
    with pytest.raises(ValueError, match="metrics: expected at least one, got none"):
        Evaluation(CATEGORIES, [])
    with pytest.raises(TypeError, match=r"numeric: expected compute\(\) to return a result with to_dict\(\), got 0\.5"):
        Evaluation(CATEGORIES, [Numeric]).compute()
    with pytest.raises(NotImplementedError, match="Summless: expected columns above 0, or a merge of its own"):
        Evaluation(CATEGORIES, [Summless]).merge(Evaluation(CATEGORIES, [Summless]))


def test_a_metric_with_settings_is_a_function_of_the_categories() -> None:
    class Least(CountedPixels):
        name = "least"

        def __init__(self, categories: Any, least: int) -> None:
            super().__init__(categories)
            self.least = least

    evaluation = Evaluation(CATEGORIES, [partial(Least, least=9)])
    assert isinstance(evaluation.metrics["least"], Least)
    assert evaluation.metrics["least"].least == 9
