# SPDX-License-Identifier: Apache-2.0
"""Every network by its name, from training to a figure, and to the files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import run

from deeperlab import models, scenes
from deeperlab.data import coco
from deeperlab.predictor import OnnxNetwork
from deeperlab.training import config_file

FAMILIES = "light_wider_mobilenet_v2", "fcn8s", "deeplab_v1_largefov", "pspnet_resnet50", "unet"
KINDS = "fcn8s", "deconvnet", "deeplab_v2_vgg16", "pspnet_resnet50", "unet", "fusionnet"
"""Which `make test` trains and exports; `make systems-check` does it with all."""


def names(some: tuple[str, ...]) -> list[Any]:
    """All networks, but for some left to `make systems-check`."""
    slow, left = pytest.mark.slow, pytest.mark.systems
    return [pytest.param(name, marks=slow if name in some else (slow, left)) for name in models.list_models()]


SMALL = {
    "units": 32, "width": 8, "decoder_channels": 16, "semantic_channels": 16, "instance_channels": 16,
}  # fmt: skip
"""Options that make a network small, where it has them."""
SCENES = {"size": [65, 65], "instances": 3, "num_classes": 4, "num_things": 3, "least_area": 150}
OF_DATA = ",".join(f"{option}={value}" for option, value in (SCENES | {"count": 8, "count_val": 2}).items())
SETTINGS = (
    "data.crop=65", "data.workers=0", "train.batch=2", "train.warmup=0", "train.optimizer=sgd", "train.ema=0",
    "train.lr=1e-3", "train.device=cpu", "validate.images=2", "validate.ceiling=0", "validate.heads=never",
    "validate.pictures=0", "model.options.image_size=65", f"data.scenes={{{OF_DATA}}}",
)  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),  # torch's
]


def options_of(name: str) -> dict[str, int]:
    known = models.list_options(name)
    return {option: value for option, value in SMALL.items() if option in known}


def write_truth(folder: Path) -> None:
    """Write a scene of those that are trained on as a photograph, and in COCO's panoptic format."""
    scene = scenes.draw(1 << 40, **SCENES)
    (folder / "photos").mkdir()
    Image.fromarray(scene.image).save(folder / "photos" / "one.png")
    ids = np.where(scene.instance > 0, scene.instance, 1000 + scene.category)
    classes = {int(i): int(scene.category[ids == i][0]) + 1 for i in np.unique(ids)}
    kinds = [coco.Category(c + 1, name, c in scene.things) for c, name in enumerate(scene.names)]
    annotation = coco.Annotation("one", "one.png", coco.describe(ids, classes))
    coco.write(folder / "truth.json", folder / "truth", [(annotation, ids)], kinds)


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output + result.stderr
    return str(result.stdout)


@pytest.mark.parametrize("name", names(FAMILIES))
def test_it_trains_predicts_with_the_crf_and_is_evaluated(name: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs deeperlab[train]")
    sets = [*SETTINGS, *(f"model.options.{option}={value}" for option, value in options_of(name).items())]
    words = [word for each in sets for word in ("--set", each)]
    trained = done("train", "--recipe", "quick", "--model", name, "--data", "scenes", "--steps", 2, "--out",
                   tmp_path / "run", *words)  # fmt: skip
    assert "done: 2 steps" in trained
    write_truth(tmp_path)
    model, found = tmp_path / "run" / "last", tmp_path / "found"
    done("predict", tmp_path / "photos", "--model", model, "--out", found, "--crf", "deeplab_v1", "--device", "cpu")
    told = done("eval", tmp_path / "truth.json", found / "panoptic.json", "--gt-dir", tmp_path / "truth", "--pred-dir",
                found / "panoptic")  # fmt: skip
    assert "mIoU" in told
    network = models.from_pretrained(model)
    assert network.has_trained_weights
    again: dict[str, Any] = {"graph": network.graph, "image_size": 65, "bn_momentum": network.config["bn_momentum"]}
    with torch.device("meta"):
        same = models.create(name, 4, **options_of(name), **again, radius=network.radius)
    assert same.config == network.config


@pytest.mark.slow
def test_the_second_stage_of_deconvnet_begins_with_the_weights_of_the_first(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs deeperlab[train]")
    words = [word for each in SETTINGS for word in ("--set", each)]
    done("train", "--recipe", "deconvnet-stage1", "--data", "scenes", "--steps", 1, "--out", tmp_path / "one", *words,
         "--set", "model.options.units=16")  # fmt: skip
    first = tmp_path / "one" / "last"
    told = done("train", "--recipe", "deconvnet-stage2", "--from", first, "--data", "scenes", "--steps", 1, "--out",
                tmp_path / "two", *words)  # fmt: skip
    assert f"weights of {first}; random: none" in told.replace("\n", " ")
    config = config_file.read(tmp_path / "two" / "config.toml")
    assert (config.model.name, config.data.sampling) == ("deconvnet", "proposals")
    assert models.from_pretrained(tmp_path / "two" / "last").config["options"] == {"units": 16}


@pytest.mark.parametrize("name", names(KINDS))
def test_it_is_exported_to_onnx_and_by_torch(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs deeperlab[dev]")
    torch.manual_seed(0)
    model = models.create(name, 3, **options_of(name)).eval()
    model.save_pretrained(tmp_path)
    models.export_onnx(tmp_path)
    least = 257 if name == "deconvnet" else 49  # below 224 px it extends images, by how much is another graph
    exportable, session = model.exportable(), OnnxNetwork(tmp_path)
    dimensions = {2: torch.export.Dim("height", min=least, max=513), 3: torch.export.Dim("width", min=least, max=513)}
    example = torch.randn(1, 3, least, least + 16)
    module = torch.export.export(exportable, (example,), dynamic_shapes=(dimensions,)).module()
    for size in ((least, least + 16), (least + 13, least + 2)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            want, got, answer = exportable(image), module(image), session(image.numpy())
        others = [torch.from_numpy(getattr(answer, head)) for head in model.heads]
        for expected, exported, other in zip(want, got, others, strict=True):
            close = {"rtol": 1e-3, "atol": 1e-3 * float(expected.std())}
            torch.testing.assert_close(exported, expected, **close)
            torch.testing.assert_close(other, expected, **close)
