# SPDX-License-Identifier: Apache-2.0
"""Training without keypoints: a semantic head alone, judged by mIoU from the ceiling to the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import run
from training_runs import SCENES, differences, environment, lighten, metrics, small, state

import deeperlab
from deeperlab import NO_KEYPOINTS, STAR, Heads
from deeperlab.models import DeeperLab
from deeperlab.models.backbones import mobilenet_v2
from deeperlab.scenes import draw
from deeperlab.targets import encode
from deeperlab.training import config_file, losses, train
from deeperlab.training.config import Config
from deeperlab.training.drawn import drawn_scenes
from deeperlab.training.events import Event
from deeperlab.training.find_lr import find_lr
from deeperlab.training.merit import MIOU, PQ, merit_of, merit_of_line
from deeperlab.training.validation import Validator

pytest.importorskip("accelerate", reason="needs deeperlab[train]")
pytestmark = pytest.mark.filterwarnings("ignore:model. the statistics of the batch norms")


def semantic(*arguments: Any, heads: str = "never", **options: Any) -> Config:
    config = small(*arguments, model={"graph": "none"}, **options)
    return replace(config, validate=replace(config.validate, heads=heads, pictures=1))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small MobileNetV2, on one thread."""
    monkeypatch.setattr(mobilenet_v2, "STAGES", mobilenet_v2.STAGES)
    lighten()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_no_term_but_the_semantic_one_counts() -> None:
    instance = torch.zeros(2, 33, 41, dtype=torch.int32)
    instance[:, 5:20, 5:30] = 1
    labels = (instance > 0).long()
    targets = encode(instance, stride=4, graph=NO_KEYPOINTS)
    assert targets.ids.tolist() == [[1], [1]]
    logits = torch.randn(2, 3, 9, 11, requires_grad=True)
    counts = losses.counts(targets, labels)
    assert counts.tolist() == [2, 0, 0, 0, 0]
    loss, terms = losses.total(Heads.of_semantic(logits), targets, labels, None, counts)
    assert {name: float(term) for name, term in terms.items() if name != "semantic"} == dict.fromkeys(
        losses.TERMS[1:], 0
    )
    assert float(loss.detach()) == pytest.approx(float(terms["semantic"]))
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad.abs().max()) > 0


# --- what it is judged by ---------------------------------------------------------------------------------------------


def test_keypoints_decide_what_a_network_is_judged_by() -> None:
    assert (merit_of(STAR), merit_of(NO_KEYPOINTS)) == (PQ, MIOU)
    assert (merit_of_line({"pq": 0.5}), merit_of_line({"pq": 0.5, "judged_by": "miou"})) == (PQ, MIOU)


class Seer(torch.nn.Module):
    """Sees the classes of the first sample in every image, as sure as perfect heads are."""

    num_classes, mean, std = 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, category: Any) -> None:
        super().__init__()
        perfect = deeperlab.targets.encode_heads(category, np.zeros_like(category), 4, graph=NO_KEYPOINTS)
        self.semantic = torch.from_numpy(perfect.semantic)[None]

    def forward(self, images: torch.Tensor) -> Heads:
        return Heads.of_semantic(self.semantic)


def test_a_validation_is_by_miou_and_a_perfect_network_reaches_the_ceiling() -> None:
    samples = drawn_scenes(SCENES | {"count": 1})[0]
    validator = Validator(samples, samples.labels, semantic(), NO_KEYPOINTS)
    ceiling = validator.ceiling()
    assert ceiling.share == 1  # nothing is voted for
    assert ceiling.figure == ceiling.result.iou.miou > 0.8
    found = validator.validate(Seer(samples[0].category), heads=True)
    told = found.to_dict()
    assert (found.merit, told["judged_by"]) == (MIOU, "miou")
    assert told["ceiling_share"] == 1
    assert told["miou"] == told["ceiling"] == ceiling.figure
    assert set(told["heads"]) == {"semantic", "labels"}
    assert told["heads"]["semantic"] == 0 < told["heads"]["labels"]
    assert told["pq_stuff"] > 0.8


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_network_of_the_best_miou(tmp_path: Path) -> None:
    events: list[Event] = []
    done = train(semantic(heads="always"), tmp_path / "run", progress=events.append)
    lines = metrics(done.folder)
    validations = [line for line in lines if "miou" in line]
    assert done.merit is MIOU
    assert done.best == max(line["miou"] for line in validations)
    assert all(set(line["heads"]) == {"semantic", "labels"} and line["judged_by"] == "miou" for line in validations)
    assert not {"heatmap", "short_range", "middle_range", "long_range"} & set().union(*lines)
    assert lines[0]["loss"] == pytest.approx(lines[0]["semantic"])
    assert any(re.fullmatch(r"ceiling: mIoU \d+\.\d", event.text) for event in events)
    page = (done.folder / "page.html").read_text()
    assert "ceiling of mIoU" in page
    assert "<p>mIoU gained with the truth in the place of one head" in page
    assert "best IoU first" in page
    assert "heatmap<" not in page
    assert "judged_by" not in (done.folder / "metrics.csv").read_text()
    assert list((done.folder / "pictures" / "3").iterdir())

    best = DeeperLab.from_pretrained(done.folder / "best")
    assert list(best.heads) == ["semantic"]
    parsed = next(deeperlab.Parser(best).stream([draw(0, 65).image]))
    assert int(parsed.panoptic.count) == 0
    assert parsed.heads.graph == NO_KEYPOINTS


@pytest.mark.slow
def test_two_halves_are_the_whole_to_the_bit(tmp_path: Path) -> None:
    train(semantic(), tmp_path / "whole")
    train(semantic(), tmp_path / "halves", until=4)
    train(semantic(), tmp_path / "halves", resume=True)
    assert not differences(state(tmp_path / "whole"), state(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")


TWO = """
import sys
from pathlib import Path
from training_runs import lighten, small
from deeperlab.training import train
import torch
torch.set_num_threads(1)
lighten()
train(small(3, batch=4, sync_bn=False, model={"graph": "none"}), Path(sys.argv[1]) / "two")
"""


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "two.py"), str(tmp_path)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    train(small(3, batch=4, accumulate=2, model={"graph": "none"}), tmp_path / "one")
    one, two = ([line["loss"] for line in metrics(tmp_path / run)] for run in ("one", "two"))
    assert one == pytest.approx(two)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def options(tmp_path: Path) -> Path:
    config = small(6)
    (tmp_path / "small.toml").write_text(config_file.to_toml(config))
    return tmp_path / "small.toml"


def said(options: Path, *more: object) -> str:
    result = run("train", "--config", options, "--data", "scenes", "--set", "model.options.graph=none", *more)
    assert result.exit_code == 0, result.output + result.stderr
    return str(result.stdout)


@pytest.mark.slow
def test_the_command_says_miou(options: Path, tmp_path: Path) -> None:
    told = said(options, "--out", tmp_path / "run", "--set", "validate.heads=end")
    assert re.search(
        r"^step 3/6  mIoU \S+ % \(\d+ % of the ceiling\)  PQ \S+  things \S+  stuff \S+  PC \S+$", told, re.M
    )
    assert re.search(r"^mIoU gained with the truth in place of a head: (semantic|labels) ", told, re.MULTILINE)
    assert re.search(r"^done: 6 steps; best mIoU \S+ %$", told, re.MULTILINE)


@pytest.mark.slow
def test_what_goes_before_a_run_works_too(options: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"^ceiling: mIoU \S+", said(options, "--check", "--out", tmp_path / "run"), re.MULTILINE)
    assert len(list((tmp_path / "run" / "check").glob("*.png"))) == 4
    assert "network" in said(options, "--profile")
    monkeypatch.setitem(find_lr.__kwdefaults__, "steps", 25)
    assert "1.0e-06" in said(options, "--find-lr", "--out", tmp_path / "lr")
    told = said(options, "--overfit", 4, "--steps", 2, "--out", tmp_path / "four")
    assert json.loads((tmp_path / "four" / "metrics.jsonl").read_text().splitlines()[-1])["judged_by"] == "miou"
    assert "best mIoU" in told
