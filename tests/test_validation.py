# SPDX-License-Identifier: Apache-2.0
"""The validation while training: that of `deeperlab predict` and `deeperlab eval`, with the truth sent ahead."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from deeperlab import Heads, models
from deeperlab.cli import app
from deeperlab.data.formats import coco
from deeperlab.targets import encode_heads
from deeperlab.training.ceiling import CeilingError
from deeperlab.training.config import Config, DataConfig, ValidateConfig
from deeperlab.training.drawn import DrawnSamples, drawn_scenes
from deeperlab.training.validation import Validator

SIZE = (113, 161)
SCENES = {"size": SIZE, "instances": 5, "num_classes": 12, "num_things": 8, "least_area": 300, "count": 5}
Edit = Callable[[Heads], Heads]
CONFIG = Config(validate=ValidateConfig(ceiling=0.9))


class Seer(torch.nn.Module):
    """Knows the truth of every image that it is shown, at its own size, and answers with it as edited."""

    mean, std = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)

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
    files = folder / "truth.json", folder / "out" / "panoptic.json"
    folders = "--gt-dir", folder / "truth", "--pred-dir", folder / "out" / "panoptic"
    command("eval", *files, *folders, "--json", folder / "eval.json")
    return dict(json.loads((folder / "eval.json").read_text()))


def test_it_gives_what_predict_and_eval_give_to_the_last_bit(
    samples: DrawnSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Seer(samples, blurred)
    monkeypatch.setattr(models, "list_models", lambda: ["seer"])
    monkeypatch.setattr(models, "create", lambda name, num_classes: model)
    monkeypatch.setattr(models, "load_weights", lambda model, file: None)
    folder = write_files(samples, tmp_path)
    expected = predicted(folder, folder / "labels.json", 0)
    found = Validator(samples, samples.labels, CONFIG).validate(model)
    assert 0.1 < found.pq < 0.9
    assert found.result.to_dict() == {name: expected[name] for name in ("pq", "pc", "miou")}


def test_a_perfect_network_reaches_the_ceiling_and_no_head_costs_anything(samples: DrawnSamples) -> None:
    validator = Validator(samples, samples.labels, CONFIG)
    found = validator.validate(Seer(samples), heads=True)
    assert found.pq == validator.ceiling().pq
    assert found.to_dict()["ceiling_share"] == 1
    assert found.heads is not None
    assert {name: cost for name, cost in found.heads.items() if name != "labels"} == dict.fromkeys(
        ("semantic", "heatmap", "short_range", "middle_range", "long_range"), 0.0
    )


@pytest.mark.parametrize("head", ["semantic", "heatmap", "short_range", "middle_range", "long_range"])
def test_the_head_that_is_wrong_costs_most(samples: DrawnSamples, head: str) -> None:
    def spoiled(heads: Heads) -> Heads:
        true = getattr(heads, head)
        wrong = {"semantic": np.roll(true, 3, axis=0), "heatmap": -true}.get(head, true + 40)
        return replace(heads, **{head: wrong})

    found = Validator(samples, samples.labels, CONFIG).validate(Seer(samples, spoiled), heads=True)
    assert found.heads is not None
    gained = dict(found.heads)
    gained.pop("labels")
    assert next(iter(gained)) == head
    assert gained[head] == pytest.approx(found.ceiling - found.pq, abs=1e-12)
    assert gained[head] > 0.01


def test_the_truth_must_reach_the_ceiling_or_the_worst_images_are_named(samples: DrawnSamples) -> None:
    config = Config(data=DataConfig(radius=1.0), validate=ValidateConfig(size=81))
    with pytest.raises(CeilingError, match=r"^validation: the truth itself.*Worst: \d, .*validate.size = 81") as fault:
        Validator(samples, samples.labels, config).ceiling()
    assert "\n" not in str(fault.value)
    reached = Validator(samples, samples.labels, replace(config, validate=ValidateConfig(size=81, ceiling=0))).ceiling()
    assert reached.share < 0.98


def test_the_network_stays_as_it_is(samples: DrawnSamples) -> None:
    model = Seer(samples).train()
    model.dropout.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Validator(samples, samples.labels, CONFIG).validate(model)
    assert model.training
    assert not model.dropout.training
    assert model.weight.is_contiguous()  # not channels last, as it is parsed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model._forward_hooks
