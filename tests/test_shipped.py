# SPDX-License-Identifier: Apache-2.0
"""The network that comes with the package: its files, its card, and everything that takes it by its name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_without_torch import command
from typer.testing import CliRunner

import deeperlab
from deeperlab import shipped
from deeperlab.cli.commands import app
from deeperlab.data.labels import LabelSet
from deeperlab.data.network_folder import CONFIG, GRAPH, WEIGHTS, graph_key, read_config
from deeperlab.data.tensor_file import read_header
from deeperlab.models import DeeperLab, find_folder
from deeperlab.predictor import OnnxParser
from deeperlab.training.network import load_initial_weights
from deeperlab.training.trained import of_network

PHOTO16 = shipped.find("photo16")
assert PHOTO16 is not None
FOLDER = PHOTO16.folder
CARD = (FOLDER / "README.md").read_text()


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_its_files_are_small_and_the_card_tells_them() -> None:
    weights = FOLDER / WEIGHTS
    assert PHOTO16.bytes == weights.stat().st_size
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8e6
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in CARD
    assert CARD.startswith("---\n")  # the hub's form
    assert "license: apache-2.0" in CARD
    for name in PHOTO16.labels.names:
        assert re.search(rf"^\| {name} \|", CARD, re.MULTILINE), name


def test_the_card_has_the_figures() -> None:
    figures = PHOTO16.figures
    values = (figures[name] for name in ("pq", "pq_things", "pq_stuff", "pc", "miou"))
    assert f"| photo16 | {' | '.join(f'{100 * value:.1f}' for value in values)} |" in CARD
    assert all(0 < value < 1 for name, value in figures.items() if name != "images")


def test_its_weights_are_half_precision_trained_and_finite() -> None:
    network = DeeperLab.from_pretrained("photo16")
    assert network.has_trained_weights
    assert network.labels == PHOTO16.labels
    assert sum(p.numel() for p in network.parameters()) < 4e6
    for name, tensor in network.state_dict().items():
        assert not tensor.is_floating_point() or (tensor == tensor.half()).all(), name
        assert tensor.isfinite().all(), name
    assert network.fusion  # tuned
    assert network.stuff_area > 0


def test_a_parser_without_a_model_has_it() -> None:
    parser = deeperlab.Parser()
    assert (parser.labels, parser.size) == (PHOTO16.labels, parser.model.image_size)
    assert repr(parser).startswith("Parser(DeeperLab, photo16, size=")
    assert parser(np.zeros((97, 65, 3), np.uint8)).size == (97, 65)


def test_it_sees_what_is_on_a_photograph() -> None:
    image = np.asarray(Image.open(PHOTO16.example))
    panoptic = deeperlab.Parser()(image)
    names = PHOTO16.labels.names
    found = {names[segment.category]: segment.area / panoptic.semantic.numel() for segment in panoptic.segments}
    assert {"person", "animal", "water"} <= found.keys()
    assert 0.4 < found["sky"] < 0.5
    assert 0.2 < found["ground"] < 0.4


def test_its_graph_is_there_and_gives_the_same_map() -> None:
    key = graph_key(read_config(FOLDER / CONFIG), read_header(FOLDER / WEIGHTS))
    assert key.encode() in (FOLDER / GRAPH).read_bytes()  # or it would be made anew, which needs torch
    image = np.asarray(Image.open(PHOTO16.example))
    one, other = OnnxParser()(image), deeperlab.Parser()(image).numpy()
    assert (one.semantic == other.semantic).mean() > 0.99
    assert one.count == other.count


def test_predict_without_a_model_says_who_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.open(PHOTO16.example).resize((193, 129)).save("a.jpg")
    said = run("predict", "a.jpg", "--out", "out")
    assert said.startswith("photo16, 16 coarse classes of COCO: things person, vehicle, animal, ")
    assert f"PQ {100 * PHOTO16.figures['pq']:.1f} on 50 photographs" in said
    assert (tmp_path / "out" / "overlay" / "a.jpg").exists()
    assert "1 finished already" in run("predict", "a.jpg", "--model", "photo16", "--out", "out")
    assert "expected none with photo16, which has its own" in run(
        "predict", "a.jpg", "--weights", "w.pth", "--out", "other", code=2
    )


def test_predict_needs_neither_torch_nor_a_model(tmp_path: Path) -> None:
    shutil.copy(PHOTO16.example, tmp_path / "a.jpg")
    result = command(tmp_path, "predict", "a.jpg", "--runtime", "onnx", "--out", "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out" / "overlay" / "a.jpg").exists()


def test_models_lists_it() -> None:
    said = run("models")
    figures = PHOTO16.figures
    assert f"photo16 {PHOTO16.bytes / 1e6:.1f} 16 7 {100 * figures['pq']:.1f}" in said.replace("│", " ")
    assert "a start to fine-tune from" in said


def test_a_folder_of_that_name_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_folder("photo16") == FOLDER
    assert find_folder(Path("photo16").name) == FOLDER
    Path("photo16").mkdir()
    assert shipped.find("photo16") is None
    assert find_folder("photo16") == Path("photo16")


@pytest.mark.parametrize("name", ["photo17", "", ".", "..", "photo16/", "../shipped/photo16", os.sep])
def test_other_names_are_none_of_the_package(name: str) -> None:
    assert shipped.find(name) is None


def test_training_goes_on_from_it() -> None:
    options = of_network("photo16").options
    assert options["model.weights"] == "photo16"
    assert options["model.options.backbone"] == "efficientnet_lite0"
    network = DeeperLab.from_pretrained("photo16")
    again = DeeperLab(**network.config)
    assert load_initial_weights(again, "photo16", PHOTO16.labels) == []
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))
    fewer = DeeperLab(**network.config | {"num_classes": 1})
    cows = LabelSet("cows", ("cow",), (True,), ((0, 0, 0),), (1,))
    assert load_initial_weights(fewer, "photo16", cows) == ["the last layer of heads.semantic"]
