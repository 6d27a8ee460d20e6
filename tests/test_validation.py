# SPDX-License-Identifier: Apache-2.0
"""The validation while training: that of `deeperlab predict` and `deeperlab eval`, with the truth sent ahead."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from deeperlab import Heads, fuse, models
from deeperlab.cli import app
from deeperlab.data import labels as label_sets
from deeperlab.data.formats import coco
from deeperlab.data.sample import Sample
from deeperlab.graph import STAR
from deeperlab.heads import NAMES
from deeperlab.metrics import Evaluation
from deeperlab.oracle import Oracle
from deeperlab.targets import encode_heads
from deeperlab.training.batches import SOME_STUFF, VOID, Batch
from deeperlab.training.ceiling import CeilingError
from deeperlab.training.check import _sheet
from deeperlab.training.config import Config, DataConfig, ValidateConfig
from deeperlab.training.drawn import DrawnSamples, drawn_scenes
from deeperlab.training.head_costs import describe
from deeperlab.training.head_views import wheel
from deeperlab.training.pictures import caption
from deeperlab.training.validation import Validator, spread

SIZE = (113, 161)
SCENES = {"size": SIZE, "instances": 5, "num_classes": 12, "num_things": 8, "least_area": 300, "count": 5}
Edit = Callable[[Heads], Heads]
CONFIG = Config(validate=ValidateConfig(ceiling=0.9))


class Seer(torch.nn.Module):
    """Knows the truth of every image that it is shown, at its own size, and answers with it as edited."""

    mean, std = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
    radius = 25.0

    def __init__(self, samples: DrawnSamples, edit: Edit = lambda heads: heads) -> None:
        super().__init__()
        self.num_classes, self.edit = len(samples.labels), edit
        self.dropout = torch.nn.Dropout()
        self.weight = torch.nn.Parameter(torch.ones((2, 3, 2, 2)))
        self.truth = {sample.image().tobytes(): sample for sample in samples}
        self.has_trained_weights = True
        self.config = {"name": "seer", "num_classes": self.num_classes}

    def fold_batch_norm(self) -> Seer:
        return copy.deepcopy(self).eval()

    def forward(self, images: torch.Tensor) -> Heads:
        assert not self.training
        height, width = SIZE
        pixels = images[0, :, :height, :width].permute(1, 2, 0).round().to(torch.uint8)
        sample = self.truth[pixels.contiguous().numpy().tobytes()]
        padding = [(0, images.shape[2] - height), (0, images.shape[3] - width)]
        category = np.pad(sample.category, padding, constant_values=-1)
        heads = encode_heads(category, np.pad(sample.instance, padding), self.num_classes, ignore=-1)
        return self.edit(heads).map(lambda head: torch.from_numpy(head)[None])


@pytest.fixture(scope="module")
def samples() -> DrawnSamples:
    return drawn_scenes(SCENES)[0]


@pytest.fixture(scope="module")
def validator(samples: DrawnSamples) -> Validator:
    """Measures the ceiling once for all tests."""
    return Validator(samples, samples.labels, CONFIG)


def blurred(heads: Heads) -> Heads:
    """Wrong here and there in every head."""
    rng = np.random.default_rng(3)

    def noisy(head: np.ndarray, sigma: float) -> np.ndarray:
        return head + sigma * rng.standard_normal(head.shape, np.float32)

    return replace(
        heads, semantic=noisy(heads.semantic, 1), heatmap=noisy(heads.heatmap, 3), long_range=noisy(heads.long_range, 9)
    )


def write_files(samples: DrawnSamples, folder: Path) -> Path:
    """Photographs, and their annotations in COCO's format."""
    (folder / "photos").mkdir(parents=True)
    entries = []
    for sample in samples:
        Image.fromarray(sample.image()).save(folder / "photos" / f"{sample.image_id}.png")
        ids, segments = sample.to_coco(samples.labels)
        entries.append((coco.Annotation(sample.image_id, f"{sample.image_id}.png", segments), ids))
    coco.write(folder / "truth.json", folder / "truth", entries, samples.labels.categories)
    labels = {
        "name": "scenes",
        "classes": [{"name": n, "thing": t} for n, t in zip(samples.labels.names, samples.labels.isthing, strict=True)],
    }
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def command(*arguments: object) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


def predicted(folder: Path, weights: Path, size: int) -> dict[str, Any]:
    """What the two commands say of a network that `models.create` gives."""
    command(
        "predict", folder / "photos", "--model", "seer", "--weights", weights, "--labels", folder / "labels.json",
        "--out", folder / "out", "--size", size, "--device", "cpu", "--overlay", "none",
    )  # fmt: skip
    return judged(folder)


def judged(folder: Path) -> dict[str, Any]:
    files = folder / "truth.json", folder / "out" / "panoptic.json"
    folders = "--gt-dir", folder / "truth", "--pred-dir", folder / "out" / "panoptic"
    command("eval", *files, *folders, "--json", folder / "eval.json")
    told = json.loads((folder / "eval.json").read_text())
    return {name: told[name] for name in ("pq", "pc", "miou")}


def test_it_gives_what_predict_and_eval_give_to_the_last_bit(
    samples: DrawnSamples, validator: Validator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Seer(samples, blurred)
    monkeypatch.setattr(models, "list_models", lambda: ["seer"])
    monkeypatch.setattr(models, "create", lambda name, num_classes: model)
    monkeypatch.setattr(models, "load_weights", lambda model, file: None)
    folder = write_files(samples, tmp_path)
    expected = predicted(folder, folder / "labels.json", 0)
    found = validator.validate(model)
    assert 0.1 < found.pq < 0.9
    assert found.result.to_dict() == expected


@pytest.mark.slow
def test_images_are_seen_at_the_size_of_the_options_and_judged_at_their_own(
    samples: DrawnSamples, tmp_path: Path
) -> None:
    """A network of the paper, whose batch norms are folded as the command does it."""
    torch.manual_seed(0)
    model = models.create("light_wider_mobilenet_v2", len(samples.labels), image_size=81)
    with torch.no_grad():
        for layer in model.heads.values():
            layer[-1].weight.normal_(std=100)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.1, 0.1), norm.running_var.uniform_(0.5, 2)
    model.save_pretrained(tmp_path / "net")
    folder = write_files(samples, tmp_path)
    command(
        "predict", folder / "photos", "--model", tmp_path / "net", "--labels", folder / "labels.json",
        "--out", folder / "out", "--device", "cpu", "--overlay", "none",
    )  # fmt: skip
    config = Config(validate=ValidateConfig(size=81, ceiling=0))
    found = Validator(samples, samples.labels, config).validate(model.train())
    assert found.result.to_dict() == judged(folder)
    assert found.to_dict()["pc"] > 0


def test_a_perfect_network_reaches_the_ceiling_and_no_head_costs_anything(
    samples: DrawnSamples, validator: Validator
) -> None:
    found = validator.validate(Seer(samples), heads=True)
    assert found.pq == validator.ceiling().figure
    assert found.to_dict()["ceiling_share"] == 1
    assert found.heads is not None
    assert {name: cost for name, cost in found.heads.items() if name != "labels"} == dict.fromkeys(NAMES, 0.0)
    assert found.heads["labels"] > 0  # nodes every 4 px do not have all of it


@pytest.mark.parametrize("head", NAMES)
def test_the_head_that_is_wrong_costs_most(samples: DrawnSamples, validator: Validator, head: str) -> None:
    def spoiled(heads: Heads) -> Heads:
        true = getattr(heads, head)
        wrong = {"semantic": np.roll(true, 3, axis=0), "heatmap": -true}.get(head, true + 40)
        return replace(heads, **{head: wrong})

    found = validator.validate(Seer(samples, spoiled), heads=True)
    assert found.heads is not None
    gained = {name: cost for name, cost in found.heads.items() if name != "labels"}
    assert next(iter(gained)) == head
    assert gained[head] == pytest.approx(found.ceiling - found.pq, abs=1e-12)
    assert gained[head] > 0.01
    assert describe(found.heads).count(", ") == 5
    assert f"{head} +{100 * gained[head]:.1f}" in describe(found.heads)


def test_the_truth_must_reach_the_ceiling_or_the_worst_images_are_named(samples: DrawnSamples) -> None:
    config = Config(data=DataConfig(radius=1.0), validate=ValidateConfig(size=81))
    told = r"^validation: the truth itself.* expected 98 % .*Worst: \d, .* is lost in `.*validate\.size = 81"
    with pytest.raises(CeilingError, match=told) as fault:
        Validator(samples, samples.labels, config).ceiling()
    assert "\n" not in str(fault.value)
    found = Validator(samples, samples.labels, replace(config, validate=ValidateConfig(size=81, ceiling=0))).ceiling()
    assert found.share < 0.98
    assert found.to_dict()["pq"] == found.figure < found.to_dict()["representation"]
    losses = [image.representation - image.figure for image in found.worst]
    assert losses == sorted(losses, reverse=True)


def test_the_ceiling_is_that_of_the_oracle(samples: DrawnSamples, validator: Validator, tmp_path: Path) -> None:
    folder = write_files(samples, tmp_path)
    oracle = Oracle(coco.read(folder / "truth.json", folder / "truth"))
    list(oracle)
    found = validator.ceiling().representation.pq
    assert found.all.pq == pytest.approx(oracle.ceiling.compute().all.pq, abs=1e-12)


def test_a_run_without_annotations_is_refused(samples: DrawnSamples) -> None:
    void = replace(samples[0], category=np.full(SIZE, -1, np.int32), instance=np.zeros(SIZE, np.int32))
    with pytest.raises(CeilingError, match="found none; look at data"):
        Validator([void], samples.labels, CONFIG).ceiling()
    with pytest.raises(ValueError, match="expected at least one"):
        Validator([], samples.labels, CONFIG)


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(samples: DrawnSamples, tmp_path: Path) -> None:
    model = Seer(samples, blurred)
    alone = Validator(samples, samples.labels, CONFIG).validate(model, heads=True)
    handed: list[Any] = []

    def keep(value: Any) -> list[Any]:
        handed.append(value)
        return [value]

    other = Validator(samples, samples.labels, CONFIG, rank=1, world=2)
    other.validate(model, heads=True, gather=keep)
    waiting = iter(handed)
    first = Validator(samples, samples.labels, CONFIG, rank=0, world=2)
    both = first.validate(model, heads=True, gather=lambda value: [value, next(waiting)])
    assert (both.result, both.ceiling, both.heads) == (alone.result, alone.ceiling, alone.heads)
    assert next(waiting, None) is None


def test_the_images_are_spread_evenly_and_always_the_same() -> None:
    assert spread(10, 0) == spread(10, 20) == tuple(range(10))
    assert spread(5000, 5) == (500, 1500, 2500, 3500, 4500)
    for wanted in range(1, 37):
        chosen = spread(37, wanted)
        assert len(set(chosen)) == wanted
        assert max(np.diff(chosen), default=1) - min(np.diff(chosen), default=1) <= 1


def test_the_first_process_has_all_images_that_are_drawn(samples: DrawnSamples) -> None:
    config = Config(validate=ValidateConfig(pictures=2))
    shares = [Validator(samples, samples.labels, config, rank=rank, world=3) for rank in range(3)]
    assert sorted(number for one in shares for number in one._share) == list(range(5))
    assert set(shares[0].pictured) <= set(shares[0]._share)


def test_the_network_stays_as_it_is(samples: DrawnSamples, validator: Validator) -> None:
    model = Seer(samples).train()
    model.dropout.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validator.validate(model)
    assert model.training
    assert not model.dropout.training
    assert model.weight.is_contiguous()  # not channels last, as it is parsed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model._forward_hooks


def test_a_network_that_has_diverged_is_named_with_its_head(samples: DrawnSamples, validator: Validator) -> None:
    def broken(heads: Heads) -> Heads:
        return replace(heads, long_range=np.full_like(heads.long_range, np.nan))

    with pytest.raises(FloatingPointError, match=r"^validation: long_range of image 0: expected finite numbers"):
        validator.validate(Seer(samples, broken))


def test_what_nobody_says_of_stuff_counts_neither_way(samples: DrawnSamples) -> None:
    """Only things are annotated, as in COCO's instances: stuff has no figures, things have the same."""
    labels = samples.labels
    stuff = ~np.array(labels.isthing)

    def things_only(sample: Sample) -> Sample:
        some_stuff = stuff[sample.category]
        return replace(sample, category=np.where(some_stuff, -1, sample.category), some_stuff=some_stuff)

    found = Validator([things_only(sample) for sample in samples], labels, CONFIG).validate(Seer(samples, blurred))
    told = found.to_dict()
    assert told["pq_stuff"] is told["sq_stuff"] is None
    assert 0 < told["pq"] == told["pq_things"]
    assert all(values["pq"] is None for values in told["per_class"].values() if not values["thing"])
    fractions = [values[name] for values in told["per_class"].values() for name in values.keys() - {"tp", "fp", "fn"}]
    assert all(value is None or 0 <= value <= 1 for value in fractions)
    assert 0 < told["ceiling_share"] <= 1


def test_crowd_counts_as_in_eval_and_is_left_out_of_the_ceiling(samples: DrawnSamples) -> None:
    def crowded(sample: Sample) -> Sample:
        """Instance 1 becomes a crowd."""
        crowd = sample.instance == 1
        instance = np.where(crowd, 0, sample.instance - (sample.instance > 1)).astype(np.int32)
        return replace(sample, instance=instance, crowd=crowd, categories=sample.categories[1:])

    crowds = [crowded(sample) for sample in samples]
    validator = Validator(crowds, samples.labels, CONFIG)
    found = validator.validate(Seer(samples))
    expected = Evaluation({c.id: c.isthing for c in samples.labels.categories})
    for sample, crowd in zip(samples, crowds, strict=True):
        heads = encode_heads(sample.category, sample.instance, len(samples.labels))
        map_ = fuse(heads, samples.labels.things, size=SIZE).to_coco(dict(enumerate(samples.labels.ids)))
        expected.update(map_, crowd.to_coco(samples.labels))
    assert found.pq == pytest.approx(expected.compute().pq.all.pq, abs=1e-12)
    assert validator.ceiling().share > 0.98


def test_it_tells_what_json_can_hold_and_what_it_cost(samples: DrawnSamples, validator: Validator) -> None:
    done: list[tuple[int, int]] = []
    told = validator.validate(Seer(samples), progress=lambda *counts: done.append(counts)).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert done == [(i, 5) for i in range(1, 6)]
    assert {"sq_things", "rq_stuff", "pc", "miou", "ceiling", "ceiling_share"} <= told.keys()
    assert 0 < told["network_share"] + told["fusion_share"] < 1
    assert "heads" not in told


def test_statistics_that_are_too_young_are_told_once(samples: DrawnSamples) -> None:
    network = models.create(
        "mobilenet_v2", len(samples.labels), decoder_channels=8, semantic_channels=8, instance_channels=8
    )
    network.mark_untrained(False)
    validator = Validator(samples, samples.labels, replace(CONFIG, validate=ValidateConfig(images=1, ceiling=0.9)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            validator.validate(network)
    assert len([each for each in told if "batch norms" in str(each.message)]) == 1


def test_pictures_are_those_of_the_same_images(samples: DrawnSamples, tmp_path: Path) -> None:
    config = replace(CONFIG, validate=ValidateConfig(pictures=2, ceiling=0.9))
    validator = Validator(samples, samples.labels, config)
    validator.validate(Seer(samples, blurred), pictures=tmp_path / "500")
    files = sorted((tmp_path / "500").iterdir())
    assert [file.name for file in files] == ["0.jpg", "1.jpg"]
    with Image.open(files[1]) as picture:
        width = (picture.width - 2 * 8) // 3
        shown = np.asarray(picture)
    height = round(SIZE[0] * width / SIZE[1])
    top = shown.shape[0] - 2 * height - 34
    true = Image.fromarray(samples[validator.pictured[1]].image()).resize((width, height), Image.Resampling.LANCZOS)
    apart = np.abs(shown[top : top + height, :width].astype(int) - np.asarray(true))
    assert apart.mean() < 6  # JPEG


def test_a_caption_leaves_out_what_does_not_count(samples: DrawnSamples) -> None:
    metric = Evaluation({1: True, 2: False})
    assert caption(metric.compute()) == "nothing that counts"
    maps = np.ones((4, 4), np.int32), np.ones((4, 4), np.int32)
    metric.update(maps, maps)
    assert caption(metric.compute()) == "PQ 100.0 (things 100.0), mIoU 100.0"


def test_the_pictures_of_a_check_show_some_stuff_as_such_and_void_as_nothing() -> None:
    """And not the classes of the nearest pixels that have one, as heads of a perfect network would."""
    labels = label_sets.from_categories("two", [coco.Category(1, "ball", True), coco.Category(2, "floor", False)])
    category, instance = torch.full((1, 65, 65), SOME_STUFF), torch.zeros((1, 65, 65), dtype=torch.int32)
    category[0, 16:33, 16:33], instance[0, 16:33, 16:33] = 0, 1
    category[0, 48:], category[0, :, 48:] = 1, VOID
    black = torch.zeros((1, 3, 65, 65), dtype=torch.uint8)
    batch = Batch(black, category.int(), instance, category == VOID, None, None, ("one",))
    loop: Any = SimpleNamespace(labels=labels, config=CONFIG, network=SimpleNamespace(stride=4, graph=STAR))
    sheet = _sheet(loop, batch, 0)
    line, width, gap = 34, 300, 8
    semantic, offsets = (
        sheet[row + line : row + line + width, column : column + width]
        for row, column in ((0, width + gap), (line + width, 2 * (width + gap)))
    )
    ball, floor = (np.array(color) * 171 / 256 for color in labels.colors)
    for at, color in (((80, 80), ball), ((290, 5), floor), ((5, 5), 3 * [86]), ((5, 290), 3 * [0])):
        np.testing.assert_allclose(semantic[at], color, atol=1)
    assert offsets[80, 80].any()
    assert not offsets[:60].any()
    assert not offsets[170:240].any()


def test_the_wheel_has_a_color_for_each_direction() -> None:
    colors, disk = wheel(33)
    assert disk[16, 16]
    assert not disk[0, 0]
    right, down, left = colors[16, 30], colors[30, 16], colors[16, 2]
    assert right.argmax() == 0  # red leads to the right
    assert len({tuple(color) for color in (right, down, left)}) == 3
    assert colors[16, 30].sum() > 2 * colors[16, 17].sum()
