# SPDX-License-Identifier: Apache-2.0
"""Networks that are asked together: an ensemble, and one network that is shown proposals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import run
from torch import Tensor
from torch.nn.functional import interpolate

from deeperlab import Heads, Parser, models
from deeperlab.data import coco, labels
from deeperlab.data.files import FormatError
from deeperlab.models.norms import batch_norms
from deeperlab.predictor import OnnxNetwork
from deeperlab.training.trained import of_network

CATEGORIES = coco.Category(1, "cat", True), coco.Category(2, "dog", True), coco.Category(3, "ground", False)
LABELS = labels.from_categories("few", CATEGORIES)
OF_IMAGENET, OF_HALVES = "fcn8s", "deeplab_v3plus_xception65"


def small(name: str, classes: int = 3, **options: Any) -> models.Network:
    """A network that somebody has trained, by its looks."""
    torch.manual_seed(len(name))
    own = {"units": 32, "width": 8, "decoder_channels": 16, "semantic_channels": 16}
    known = models.list_options(name)
    model = models.create(name, classes, **{o: v for o, v in own.items() if o in known} | options).eval()
    with torch.no_grad():
        for norm in batch_norms(model).values():
            norm.running_mean.normal_(std=0.1)
        for layer in list(model.heads["semantic"].parameters())[-2:]:
            layer.normal_(std=0.5)
    model.labels = LABELS if classes == 3 else None
    return model


@pytest.fixture(scope="module")
def pair() -> models.Ensemble:
    return models.Ensemble([small(OF_IMAGENET), small("fusionnet")], [1.0, 3.0]).eval()


def probabilities(model: models.Network, images: Tensor, stride: int = 1) -> Tensor:
    """Of raw images [N, 3, 65, …], whose sizes are 16 m + 1 px."""
    logits = model(model.normalized(images)).semantic
    nodes = [(side - 1) // stride + 1 for side in images.shape[2:]]
    return interpolate(logits, nodes, mode="bilinear", align_corners=True).softmax(1)


def pictures(*size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_its_softmax_is_the_weighted_mean_of_the_probabilities(pair: models.Ensemble) -> None:
    images = pictures(65, 97)
    found = pair(pair.normalized(images))
    assert (found.stride, pair.stride, found.semantic.shape) == (1, 1, (2, 3, 65, 97))
    first, second = (probabilities(model, images) for model in pair.networks)
    torch.testing.assert_close(found.semantic.exp(), 0.25 * first + 0.75 * second, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.semantic.exp().sum(1), torch.ones(2, 65, 97))


@torch.no_grad()
def test_each_network_sees_images_of_its_own_mean_and_deviation() -> None:
    members = [small(OF_HALVES), small(OF_IMAGENET)]
    assert members[0].mean != members[1].mean
    images = pictures(65, 65)
    for networks in (members, members[::-1]):
        model = models.Ensemble(networks).eval()
        found = model(model.normalized(images)).semantic
        expected = sum(probabilities(member, images, stride=4) for member in networks) / 2
        torch.testing.assert_close(found.exp(), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_it_is_saved_parsed_and_exported_as_one_network(pair: models.Ensemble, tmp_path: Path) -> None:
    assert pair.has_trained_weights
    pair.save_pretrained(tmp_path / "both")
    loaded = models.from_pretrained(tmp_path / "both")
    assert isinstance(loaded, models.Ensemble)
    assert loaded.config == pair.config
    assert loaded.has_trained_weights
    assert loaded.labels is not None
    images = pair.normalized(pictures(65, 97))
    want = pair(images).semantic
    assert torch.equal(loaded(images).semantic, want)
    torch.testing.assert_close(pair.fold_batch_norm()(images).semantic.exp(), want.exp(), rtol=1e-3, atol=1e-3)
    models.export_onnx(tmp_path / "both")
    answer = torch.from_numpy(OnnxNetwork(tmp_path / "both")(images.numpy()).semantic)
    torch.testing.assert_close(answer.exp(), want.exp(), rtol=1e-3, atol=1e-3)

    photo = np.random.default_rng(0).integers(0, 256, (65, 97, 3)).astype(np.uint8)
    alone, parsed = (Parser(model, labels=LABELS, crf="deeplab_v1")(photo) for model in (pair, loaded))
    np.testing.assert_array_equal(np.asarray(alone.category), np.asarray(parsed.category))
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "one.png")
    said = run("predict", tmp_path / "photos", "--model", tmp_path / "both", "--out", tmp_path / "found", "--crf",
               "deeplab_v1", "--device", "cpu")  # fmt: skip
    assert said.exit_code == 0, said.stderr
    assert (tmp_path / "found" / "panoptic" / "one.png").exists()
    with pytest.raises(FormatError, match=r"expected one network, got an ensemble of several; train its parts"):
        of_network(tmp_path / "both")


def test_what_is_not_trained_says_so(pair: models.Ensemble) -> None:
    with torch.device("meta"):
        config = models.Ensemble(pair.config["networks"], image_size=65, fusion={"instance_threshold": 0.3})
    assert (config.image_size, config.fusion) == (65, {"instance_threshold": 0.3})
    assert config.config["weights"] == [1.0, 1.0]
    fresh = models.create("fusionnet", 3, width=8)
    both = models.Ensemble([small("fusionnet"), fresh])
    assert not both.has_trained_weights
    both.mark_untrained(False)
    assert fresh.has_trained_weights
    assert [name.partition(".heads")[0] for name in both.of_classes()] == 2 * ["networks.0"] + 2 * ["networks.1"]


@pytest.mark.parametrize(
    ("networks", "options", "fault"),
    [
        (("fusionnet",), {}, r"networks: expected at least two networks, got \["),
        (("fusionnet", 3), {}, r"networks: expected networks, or their configs, got 3"),
        (("fusionnet", {"classes": 4}), {}, r"networks: expected num_classes of 3 in each, got 4 in number 1"),
        (("fusionnet", {"in_channels": 1}), {}, r"networks: expected in_channels of 3 in each, got 1 in number 1"),
        (("fusionnet", {"graph": "star"}), {}, r"networks: expected semantic heads alone .*, got others in number 1"),
        (("fusionnet", "fusionnet"), {"weights": [1.0]}, r"weights: expected None or 2 numbers, got \[1.0\]"),
        (("fusionnet", "fusionnet"), {"weights": [1, 0]}, r"weights: expected numbers above 0, got \[1, 0\]"),
        (("fusionnet", "fusionnet"), {"num_classes": 5}, r"networks: expected num_classes of 5 in each, got 3"),
    ],
)
def test_networks_that_do_not_fit_together_are_named(networks: Any, options: dict[str, Any], fault: str) -> None:
    made = []
    for each in networks:
        given = each if isinstance(each, dict) else {}
        made.append(each if isinstance(each, int) else small("fusionnet", given.get("classes", 3),
                    **{k: v for k, v in given.items() if k != "classes"}))  # fmt: skip
    with pytest.raises((ValueError, TypeError), match=fault):
        models.Ensemble(made, **options)


# --- proposals


class Square(torch.nn.Module):
    """Stands for a network: its scores are the colors that it sees, times a number a call."""

    stride, in_channels, num_classes = 1, 3, 3

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.seen = Heads.of_semantic(torch.zeros(1, 3, 1, 1)).graph, list[Tensor]()

    def raw(self, images: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(images)
        return (images,)


def ramp(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, -x - 1]).float()


def test_a_proposal_s_scores_lie_where_it_was_seen_and_elsewhere_is_0() -> None:
    """A ramp, of which bilinear interpolation forth and back changes nothing inside the squares."""
    image, network = ramp(40, 60), Square()
    boxes = torch.tensor([[10.0, 8.0, 30.0, 28.0], [40.0, 5.0, 50.0, 25.0]])
    found = models.of_proposals(network, image, boxes, size=80, enlarged=1.0)  # type: ignore[arg-type]
    assert (found.stride, found.semantic.shape) == (1, (1, 3, 40, 60))
    expected = torch.zeros(3, 40, 60)
    for left, top, side in ((10, 8, 20), (35, 5, 20)):  # the second is higher than wide: the square around it
        inside = (slice(None), slice(top, top + side), slice(left, left + side))
        expected[inside] = torch.maximum(expected[inside], image[inside])
    torch.testing.assert_close(found.semantic[0], expected, atol=1e-3, rtol=0)
    assert (found.semantic[0, 2] == 0).all()  # scores below 0 are beneath those of squares that do not show a pixel
    assert [tuple(seen.shape) for seen in network.seen] == [(2, 3, 80, 80)]


def test_the_greatest_score_counts_whatever_the_order_and_the_batch() -> None:
    model = small("fusionnet")
    image = torch.randn(3, 50, 70, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor(
        [[5.0, 5, 30, 40], [20, 10, 65, 45], [-10, -10, 12, 12], [60, 40, 90, 80], [100, 100, 120, 120]]
    )
    each = torch.stack([models.of_proposals(model, image, box[None], size=33).semantic for box in boxes]).amax(0)
    together = models.of_proposals(model, image, boxes.flip(0), size=33, batch=3).semantic
    torch.testing.assert_close(together, each, rtol=1e-3, atol=1e-3 * float(each.std()))
    assert together.max() > 0
    assert not models.of_proposals(model, image, boxes[:0]).semantic.any()
    assert not models.of_proposals(model, image, boxes[-1:]).semantic.any()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image": torch.zeros(1, 20, 20)}, r"image: expected \[3, H, W\], got \[1, 20, 20\]"),
        ({"boxes": torch.zeros(2, 5)}, r"boxes: expected \[K, 4\], got \[2, 5\]"),
        ({"boxes": torch.tensor([[3.0, 0, 3, 9]])}, r"boxes: expected finite x0 < x1 and y0 < y1"),
        ({"boxes": torch.tensor([[3.0, 0, torch.nan, 9]])}, r"boxes: expected finite x0 < x1 and y0 < y1"),
        ({"size": 0}, r"size, batch, enlarged: expected numbers above 0, got 0, 8, 1.2"),
        ({"network": small("fusionnet", graph="star")}, r"network: expected one with a semantic head alone"),
    ],
)
def test_proposals_that_do_not_fit_are_named(change: dict[str, Any], fault: str) -> None:
    given = {"network": Square(), "image": torch.zeros(3, 20, 20), "boxes": torch.tensor([[1.0, 1, 9, 9]])}
    with pytest.raises(ValueError, match=fault):
        models.of_proposals(**given | change)
