# SPDX-License-Identifier: Apache-2.0
"""Parameters of the fusion that suit a network: found on images, kept beside it, and fused with afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_validation import SCENES, Seer
from typer.testing import CliRunner

from deeperlab import FuseParams, Heads, Parser, models
from deeperlab.cli import app
from deeperlab.training.config_file import load
from deeperlab.training.drawn import DrawnSamples, drawn_scenes
from deeperlab.training.tally import Tally, maps_of
from deeperlab.training.trained import of_network
from deeperlab.training.tune import GRID, keep, tune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples() -> DrawnSamples:
    return drawn_scenes(SCENES)[0]


def torn(heads: Heads) -> Heads:
    """Offsets that agree within blocks of nodes but not over an object, as of a network that has seen little."""
    rng = np.random.default_rng(0)

    def off(field: np.ndarray, sigma: float) -> np.ndarray:
        channels, height, width = field.shape
        coarse = sigma * rng.standard_normal((channels, -(-height // 6), -(-width // 6)), np.float32)
        return field + np.kron(coarse, np.ones((1, 6, 6), np.float32))[:, :height, :width]

    return replace(heads, long_range=off(heads.long_range, 12), middle_range=off(heads.middle_range, 12))


def test_less_overlap_leaves_one_instance_of_an_object(samples: DrawnSamples) -> None:
    parser = Parser(Seer(samples, torn), samples.labels)
    calls: list[None] = []
    tried, areas = tune(parser, samples, progress=lambda: calls.append(None))
    assert len(calls) == len(samples)
    assert len(tried) == np.prod([len(values) for values in GRID.values()])
    quality = [each.result.pq.all.pq for each in tried]
    assert quality == sorted(quality, reverse=True)
    (default,) = [each for each in tried if each.options == {"instance_threshold": 0.05, "box_iou": 0.7}]
    assert quality[0] > default.result.pq.all.pq + 0.02

    for fusion in (default.options, tried[0].options):  # each is what a Parser of these parameters gives
        own = Parser(Seer(samples, torn), samples.labels, params=FuseParams(radius=25.0, **fusion))  # type: ignore[arg-type]
        tally = Tally(samples.labels)
        for number, sample in enumerate(samples):
            tally.add(number, maps_of(own(sample.image())), sample)
        (found,) = [each for each in tried if each.options == fusion]
        assert found.result.to_dict() == tally.compute().to_dict()
    (whole,) = [each for each in areas if each.options == {"stuff_area": 0.0}]
    assert whole.result.to_dict() == default.result.to_dict()


def test_stuff_below_its_least_share_becomes_void_and_things_stay(samples: DrawnSamples) -> None:
    image = samples[0].image()
    whole = Parser(Seer(samples), samples.labels)(image)
    area = {c: int((whole.semantic == c).sum()) for c in range(8, 12)}
    least, more = sorted(pixels for pixels in area.values() if pixels)[:2]
    assert least < more
    share = (least + 0.5) / whole.semantic.numel()
    small = [c for c, pixels in area.items() if pixels <= least]
    found = Parser(Seer(samples), samples.labels, stuff_area=share)(image)
    expected = whole.semantic.clone()
    expected[torch.isin(expected, torch.tensor(small))] = -1
    assert torch.equal(found.semantic, expected)
    assert torch.equal(found.instance, whole.instance)
    assert [s.category for s in found.segments if not s.isthing] == [c for c in area if area[c] and c not in small]


def test_among_equals_the_default_stays(samples: DrawnSamples) -> None:
    parser = Parser(Seer(samples), samples.labels)
    tried, areas = tune(parser, samples[:1], {"box_iou": (0.7, 0.69)}, (0.0, 1e-9))
    assert [each.options["stuff_area"] for each in areas] == [0.0, 1e-9]
    assert [each.options["box_iou"] for each in tried] == [0.7, 0.69]


def test_without_images_or_with_unknown_parameters_it_says_so(samples: DrawnSamples) -> None:
    parser = Parser(Seer(samples), samples.labels)
    with pytest.raises(ValueError, match=r"^samples: expected images, got none$"):
        tune(parser, [])
    with pytest.raises(TypeError, match="box_iuo"):
        tune(parser, samples, {"box_iuo": (0.5,)})


def network(folder: Path) -> Path:
    options: dict[str, Any] = {"decoder_channels": 8, "semantic_channels": 8, "instance_channels": 8, "image_size": 81}
    model = models.create("mobilenet_v2", 12, **options)
    model.labels = drawn_scenes(SCENES)[0].labels
    with torch.no_grad():
        for head in model.heads.values():
            head[-1].weight.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:model. .* batch norms")
def test_what_is_kept_goes_into_the_parser(tmp_path: Path) -> None:
    folder = network(tmp_path / "network")
    before = (folder / "model.safetensors").read_bytes()
    keep(folder, {"box_iou": 0.5}, 0.0)
    keep(folder, {"instance_threshold": 0.2}, 0.01)
    assert (folder / "model.safetensors").read_bytes() == before
    loaded = models.DeeperLab.from_pretrained(folder)
    assert loaded.fusion == {"box_iou": 0.5, "instance_threshold": 0.2}
    assert Parser(loaded).stuff_area == 0.01
    assert Parser(loaded).params == FuseParams(radius=25.0, box_iou=0.5, instance_threshold=0.2)


def test_a_run_goes_on_from_a_network_with_its_options(tmp_path: Path) -> None:
    folder = network(tmp_path / "network")
    keep(folder, {"box_iou": 0.5}, 0.0)
    model = models.DeeperLab.from_pretrained(folder)
    config = load("fine-tune", overrides=[of_network(folder)])
    assert (config.model.weights, config.data.radius, config.data.longest_side) == (str(folder), 25.0, 81)
    options = dict(config.model.options)
    again = models.create(config.model.name, 12, **options, radius=config.data.radius)
    assert again.config == model.config
    with pytest.raises(
        FileNotFoundError, match=r"^--from: expected a folder with config\.json, or photo16, got 'nowhere'$"
    ):
        of_network("nowhere")


@pytest.mark.filterwarnings("ignore:model. .* batch norms")
def test_the_command_keeps_the_best_unless_it_runs_dry(tmp_path: Path) -> None:
    folder = network(tmp_path / "network")
    (tmp_path / "scenes.toml").write_text(
        '[[train]]\npath = "scenes"\noptions = {size = [113, 161], num_classes = 12, num_things = 8, count = 3}\n'
    )
    command = ["tune", str(folder), "--data", str(tmp_path / "scenes.toml"), "--images", "2"]
    run = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*command, "--dry"])
    assert run.exit_code == 0, run.output
    assert "best: instance_threshold" in run.stdout
    assert json.loads((folder / "config.json").read_text())["fusion"] == {}
    run = CliRunner(env={"COLUMNS": "120"}).invoke(app, command)
    assert run.exit_code == 0, run.output
    assert set(json.loads((folder / "config.json").read_text())["fusion"]) == set(GRID)
    run = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*command, "--split", "val"])
    assert run.exit_code == 2
    assert "--split: expected one that" in run.stderr
