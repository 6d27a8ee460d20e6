# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: their examples run, their links lead somewhere, their commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab.heads import NAMES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_readme_example_runs(make_heads: Any, as_tensors: Any, capsys: Any) -> None:
    heads = as_tensors(make_heads(seed=1, n=2, classes=19, h=33, w=33))
    (code,) = examples(ROOT / "README.md")
    scope: dict[str, Any] = {name: getattr(heads, name) for name in NAMES}
    scope.update(height=130, width=131)
    exec(code, scope)
    assert capsys.readouterr().out.count("\n") == len(scope["panoptic"][0].segments)


def test_the_example_of_the_networks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file of random weights, and the classifier that ImageNet files have."""
    import torch
    from safetensors.torch import save_file

    from deeperlab.models import DeeperLab
    from deeperlab.models.backbones.mobilenet_v2 import MobileNetV2

    backbone = MobileNetV2()
    classifier = {"classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1000)}
    save_file(backbone.state_dict() | classifier, tmp_path / "mobilenetv2_100.safetensors")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"images": torch.randint(0, 256, (2, 3, 50, 71), dtype=torch.uint8)}
    with torch.no_grad():
        exec(examples(ROOT / "docs" / "models.md")[0], scope)
    assert isinstance(scope["model"], DeeperLab)
    loaded = scope["model"].backbone.conv_stem.weight[:, :, 1:-1, 1:-1]  # 3 x 3 kernels within 5 x 5
    assert torch.equal(loaded, backbone.conv_stem.weight)
    assert scope["heads"].semantic.shape == (2, 19, 13, 18)
    assert scope["panoptic"].size == (50, 71)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of torch
@pytest.mark.parametrize("network", [{}, {"backbone": "xception41", "kernel_size": 3}], ids=["mobilenet", "xception"])
def test_the_onnx_examples_give_what_the_parser_gives(
    network: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scaling is another one for each backbone."""
    import torch
    from PIL import Image
    from test_models import ROUNDED, assert_same, lively, tiny

    from deeperlab.predictor.parser import Parser

    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    model = lively(tiny(num_classes=19, **network))
    model.save_pretrained("trained")
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((150, 100)).save("street.jpg")
    export, fuse = examples(ROOT / "docs" / "onnx.md")
    exec(export, {})
    scope: dict[str, Any] = {}
    capsys.readouterr()  # what the exporter says
    exec(fuse, scope)
    with Image.open("street.jpg") as image:
        (parsed,) = Parser(model, "cityscapes", size=0).stream([image])
    heads = {name: torch.from_numpy(head.copy()) for name, head in zip(NAMES, scope["heads"], strict=True)}
    assert_same(heads, {name: getattr(parsed.heads, name)[None] for name in NAMES}, ROUNDED)
    (panoptic,) = deeperlab.fuse(list(heads.values()), range(11, 19), size=(100, 150))
    assert len(panoptic.segments) > 5
    np.testing.assert_array_equal(np.load("street.npy"), panoptic.to_ids(divisor=10_000).numpy())
    assert capsys.readouterr().out.count("\n") == len(panoptic.segments)


def test_the_example_of_predictions_runs(make_heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deeperlab.data.formats import coco, predictions

    monkeypatch.chdir(tmp_path)
    heads = make_heads(seed=1, n=2, classes=19)
    code = examples(ROOT / "docs" / "data.md")[-1]
    exec(code, {"deeperlab": deeperlab, "heads": heads, "height": 60, "width": 70, "names": ["a", "b"]})
    data = coco.read("predictions.json", "predictions")
    assert [data.ids(annotation).shape for annotation in data.annotations] == [(60, 70), (60, 70)]
    batch = deeperlab.fuse(heads, [1])
    with pytest.raises(TypeError, match="panoptic: expected a single image, got a batch of 2"):
        predictions.entry(batch, 1, "a.png")


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_the_recipe_for_half_pixel_heads_is_right(stride: int) -> None:
    """On offsets to one keypoint, which are linear in the pixel, it is exact but for the extrapolated border."""
    import torch

    scope: dict[str, Any] = {}
    (code,) = examples(ROOT / "docs" / "definition.md")
    exec(code, scope)
    h, w, keypoint = 9, 12, torch.tensor([31.0, 17.0])

    def offsets(first: float) -> torch.Tensor:
        y, x = torch.meshgrid(stride * torch.arange(h) + first, stride * torch.arange(w) + first, indexing="ij")
        return torch.stack((keypoint[0] - x, keypoint[1] - y))[None]

    moved = scope["to_nodes"](offsets((stride - 1) / 2), stride)
    torch.testing.assert_close(moved[..., 1:, 1:], offsets(0.0)[..., 1:, 1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_commands_exist(page: Path) -> None:
    from deeperlab.cli import app

    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    for name in re.findall(r"`deeperlab (\w+)", page.read_text()):
        assert name in commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"`make ([\w-]+)", page.read_text()):
        assert name in targets


def test_the_documented_defaults_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "definition.md").read_text()
    params = deeperlab.FuseParams()
    for said in (
        f"`long_steps` ({params.long_steps})",
        f"`long_short_steps` ({params.long_short_steps})",
        f"`middle_steps` ({params.middle_steps})",
        f"c = max(s, {params.vote_cell})",
        f"{params.peak_threshold}, R = {params.radius:g} px",
        f"`max_candidates` ({params.max_candidates})",
        f"κ = {params.kappa}",
        f"`instance_threshold` ({params.instance_threshold})",
        f"{params.nms_relative}²·a",
        f"> {params.box_iou} · union",
        f"({params.max_instances})",
    ):
        assert said in text, said
