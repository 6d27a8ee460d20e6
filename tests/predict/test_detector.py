# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict --detector`: torchvision's Mask R-CNN from a file, beside a network, and `eval` of the results."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicting import LABELS, Net, contents, fault, picture, run
from test_mask_rcnn import StandIn
from typer.testing import CliRunner

from deeperlab import models
from deeperlab.cli import app
from deeperlab.data.formats import coco
from deeperlab.predictor import MaskRCNNParser, Parser

NAMES = "__background__\nperson\ncar\nunicorn\n"
CLASSES = {1: LABELS.names.index("person"), 2: LABELS.names.index("car")}


class Heads:
    """Calls the stand-in's, and tells the number of classes where torchvision does."""

    box_predictor = SimpleNamespace(cls_score=SimpleNamespace(out_features=4))

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def stand_in(labels: tuple[int, ...] = (1, 2, 3)) -> Any:
    model = StandIn(labels)
    model.roi_heads = Heads(model.roi_heads)  # type: ignore[method-assign,assignment]
    return model


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Options of a stand-in for a detector, and of the names of its classes."""
    (tmp_path / "detector.pth").write_bytes(b"weights")
    (tmp_path / "names.txt").write_text(NAMES)
    monkeypatch.setattr(models, "load_mask_rcnn", lambda file: stand_in())
    return ["--detector", tmp_path / "detector.pth", "--detector-classes", tmp_path / "names.txt"]


def test_instances_are_the_detectors_and_what_is_around_them_the_networks(
    photos: Path, model: Path, tmp_path: Path, files: list[Any], assert_same: Any
) -> None:
    out = tmp_path / "out"
    result = run(photos, "--model", model, "--out", out, *files, "--max-instances", 1)
    assert result.exit_code == 0, result.output
    assert "detector of 3 classes, 2 of which are 2 things of cityscapes" in result.stdout
    data = coco.read(out / "panoptic.json", out / "panoptic")
    network = Parser(Net("trained"), LABELS)
    parser = MaskRCNNParser(stand_in(), network, LABELS, classes=CLASSES, max_instances=1)
    for annotation in data.annotations:
        (file,) = photos.rglob(f"{Path(annotation.file_name).stem}.png")
        want, _ = parser(Image.open(file)).to_coco()
        np.testing.assert_array_equal(data.ids(annotation), want)
    told = json.loads((out / "panoptic.json").read_text())["info"]
    assert told["detector"]["classes"] == {"1": CLASSES[1], "2": CLASSES[2]}
    assert told["size"] is None


def test_a_finished_folder_stays_and_another_detector_is_refused(
    photos: Path, model: Path, tmp_path: Path, files: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    asked = photos, "--model", model, "--out", out, *files
    assert run(*asked).exit_code == 0
    before = contents(out)
    again = run(*asked)
    assert again.exit_code == 0, again.output
    assert "4 finished already" in again.stdout
    assert contents(out) == before
    monkeypatch.setattr(models, "load_mask_rcnn", lambda file: stand_in((2, 1, 3)).double())
    files[1].write_bytes(b"other weights")
    assert "has results of detector's weights" in fault(*asked)
    assert "has results of detector" in fault(photos, "--model", model, "--out", out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--detector-classes", "names.txt"], "--detector-classes: expected none without --detector, got names.txt"),
        (["--detector", "a.pth", "--runtime", "onnx"], "--detector: expected none with --runtime onnx"),
        (["--detector", "a.pth", "--heads"], "--heads: expected none with --detector"),
        (["--detector", "absent.pth"], "absent.pth: no such file"),
    ],
)
def test_options_that_do_not_go_with_it(photos: Path, model: Path, tmp_path: Path, options: Any, words: str) -> None:
    assert words in fault(photos, "--model", model, "--out", tmp_path / "out", *options)


def test_names_that_do_not_fit(photos: Path, model: Path, tmp_path: Path, files: list[Any]) -> None:
    asked = photos, "--model", model, "--out", tmp_path / "out", *files
    files[-1].write_text("person\ncar\n")
    assert "names.txt: expected 3 names, as the detector has classes, got 2" in fault(*asked)
    files[-1].write_text("a\nb\nc\n")
    assert "names.txt: expected names of things of cityscapes, such as person, got none" in fault(*asked)
    assert "give --detector-classes" in fault(*asked[:-2])  # ids of Cityscapes' things begin at 24


def test_a_file_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: expected the state_dict of torchvision's maskrcnn_resnet50_fpn or"):
        models.load_mask_rcnn(tmp_path / "a.pth")


MISSING = "torchvision is not there, or does not load beside this torch"


def random_detector(**options: Any) -> Any:
    """torchvision's own, of weights that detect something."""
    detection = pytest.importorskip("torchvision.models.detection", reason=MISSING, exc_type=Exception)
    torch.manual_seed(0)
    make = getattr(detection, options.pop("name", "maskrcnn_resnet50_fpn"))
    network = make(weights=None, weights_backbone=None, num_classes=4, **options).eval()
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(60)
        for weight in network.roi_heads.mask_predictor.parameters():
            weight.mul_(40 if weight.dim() > 1 else 1)
    return network


@pytest.mark.slow
def test_random_weights_of_torchvision_go_from_predict_to_eval(model: Path, tmp_path: Path) -> None:
    detector = random_detector()
    torch.save({"model": detector.state_dict()}, tmp_path / "random.pth")
    (tmp_path / "names.txt").write_text(NAMES)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture((90, 120), 3)).save(tmp_path / "photos" / "1.png")
    asked = tmp_path / "photos", "--model", model
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    names = "--detector-classes", tmp_path / "names.txt"
    result = run(*asked, "--out", ours, "--detector", tmp_path / "random.pth", *names)
    assert result.exit_code == 0, result.output
    assert run(*asked, "--out", theirs).exit_code == 0
    parser = MaskRCNNParser(detector, Parser(Net("trained"), LABELS), LABELS, classes=CLASSES)
    want = parser(Image.open(tmp_path / "photos" / "1.png"))
    assert want.count > 2
    data = coco.read(ours / "panoptic.json", ours / "panoptic")
    np.testing.assert_array_equal(data.ids(data.annotations[0]), want.to_coco()[0])
    for truth, least in ((ours, 1.0), (theirs, 0.0)):
        json_file = tmp_path / "pq.json"
        files = truth / "panoptic.json", ours / "panoptic.json", "--gt-dir", truth / "panoptic"
        done = CliRunner().invoke(
            app, ["eval", *map(str, files), "--pred-dir", str(ours / "panoptic"), "--json", str(json_file)]
        )
        assert done.exit_code == 0, done.output
        assert json.loads(json_file.read_text())["pq"]["All"]["pq"] >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_a_file_tells_which_network_it_is_of(name: str, tmp_path: Path) -> None:
    detector = random_detector(name=name)
    torch.save(detector.state_dict(), tmp_path / "a.pth")
    made = models.load_mask_rcnn(tmp_path / "a.pth")
    assert made.state_dict().keys() == detector.state_dict().keys()
    assert all(torch.equal(t, made.state_dict()[n]) for n, t in detector.state_dict().items())
    assert repr(made) == repr(detector)
    torch.save({n: t for n, t in detector.state_dict().items() if "rpn.head.cls" not in n}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"b\.pth: does not fit torchvision's Mask R-CNN: .*rpn.head.cls_logits"):
        models.load_mask_rcnn(tmp_path / "b.pth")


@pytest.mark.slow
def test_norms_that_count_no_batches_are_frozen_as_the_published_ones(tmp_path: Path) -> None:
    tensors = {n: t for n, t in random_detector().state_dict().items() if not n.endswith("num_batches_tracked")}
    renamed = {n.replace("rpn.head.conv.0.0.", "rpn.head.conv."): t for n, t in tensors.items()}  # as in files of old
    torch.save(renamed, tmp_path / "old.pth")
    made: Any = models.load_mask_rcnn(tmp_path / "old.pth")
    assert made.state_dict().keys() == tensors.keys()
    norm = made.backbone.body.bn1
    assert (type(norm).__name__, norm.eps) == ("FrozenBatchNorm2d", 0.0)
