# SPDX-License-Identifier: Apache-2.0
"""docs/training.md: its examples run, its tables have every option, recipe and figure of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_docs import ROOT, run_examples
from training_runs import lighten

from deeperlab.models.backbones import mobilenet_v2
from deeperlab.training.config import Config
from deeperlab.training.config_file import flatten, of_recipe, options, recipes

PAGE = ROOT / "docs" / "training.md"


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mobilenet_v2, "STAGES", mobilenet_v2.STAGES)
    lighten()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*batch norms", "ignore:train.warmup")
@pytest.mark.usefixtures("light")
def test_the_examples_of_training_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two steps instead of 600."""
    pytest.importorskip("accelerate", reason="needs deeperlab[train]")
    monkeypatch.chdir(tmp_path)
    fewer = 'assignment("train.steps=2"), assignment("data.workers=0"), assignment("validate.ceiling=0.5")'
    scope = run_examples(PAGE, {}, ('assignment("train.steps=600")', fewer))
    assert (scope["run"].ended, scope["run"].step, scope["step"]) == ("done", 2, 1)
    assert len(scope["found"].heads) == 6
    assert (tmp_path / "runs" / "mine" / "model.safetensors").exists()
    said = capsys.readouterr().out
    assert "done 0." in said
    assert "of the ceiling" in said


def test_the_loop_of_ones_own_has_about_thirty_lines() -> None:
    (loop,) = re.findall(r"^## A loop of your own\n\n```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sum(1 for line in loop.splitlines() if line.strip()) <= 35


def test_every_option_stands_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| .+? \|( .+? \|){5}$", PAGE.read_text(), re.MULTILINE)
    table = {name: default for name, default, _ in rows if "." in name or name == "recipe"}
    assert list(table) == list(options())
    for name, default in flatten(Config()).items():
        words = {"": "–", "True": "true", "False": "false", "()": "[]"}
        expected = (
            f"[{', '.join(map(str, default))}]" if isinstance(default, tuple) else words.get(str(default), str(default))
        )
        assert table[name] == expected, name


def test_the_recipes_of_the_page_exist_and_its_bases_are_told() -> None:
    section = PAGE.read_text().partition("## The recipes")[2].partition("\n## ")[0]
    known = recipes()
    for name in re.findall(r"`((?:mapillary|cityscapes|coco|voc|quick|tiny)[\w-]*)`", section):
        assert name in known or name in ("coco", "voc"), name
    config = of_recipe("mapillary-xception71")
    for said in (f"lr {config.train.lr:g}", f"crop {config.data.crop}", f"longer side {config.data.longest_side}"):
        assert said in section
    assert (of_recipe("voc").data.crop, of_recipe("coco").data.crop) == (513, 641)
    assert of_recipe("quick").train.steps == 90_000


@pytest.mark.slow
def test_the_memory_of_the_page_is_what_is_counted() -> None:
    """Of the smallest network; the others take longer."""
    from benchmarks.training_memory import NETWORKS, rows

    assert "\n".join(rows(NETWORKS[-1])) in PAGE.read_text()


@pytest.mark.slow
def test_what_autograd_keeps_is_counted_alike_with_and_without_memory() -> None:
    from benchmarks.training_memory import kept_bytes, make

    counted = kept_bytes(make("light_wider_mobilenet_v2"), (65, 65))
    assert counted == kept_bytes(make("light_wider_mobilenet_v2", "cpu"), (65, 65), "cpu")
    assert counted > 10 << 20
