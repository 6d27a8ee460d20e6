# SPDX-License-Identifier: Apache-2.0
"""Top-down from photographs: a detector of torchvision's form beside a semantic network, and docs/top_down.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_docs import ROOT, blocks

from deeperlab import Panoptic, merge_top_down
from deeperlab.data.labels import LabelSet, find
from deeperlab.predictor import BatchJob, MaskRCNNParser, Parser, find_sources

COCO = find("coco")
PERSON, SKY = COCO.names.index("person"), COCO.names.index("sky-other-merged")


class StandIn(torch.nn.Module):
    """The parts of torchvision's GeneralizedRCNN, with its calls and results: the image is seen at half its size, and
    every detection is a square around its brightest pixel."""

    def __init__(self, labels: tuple[int, ...] = (1, 3, 92), scores: tuple[float, ...] = (0.9, 0.7, 0.8)) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.labels, self.scores = labels, scores
        self.seen: list[int] = []

    def transform(self, images: list[torch.Tensor], targets: None) -> tuple[Any, None]:
        self.seen.append(len(images))
        sizes = [(image.shape[1] // 2, image.shape[2] // 2) for image in images]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        batch = torch.zeros(len(images), 3, height, width)
        for canvas, image, (h, w) in zip(batch, images, sizes, strict=True):
            canvas[:, :h, :w] = image[:, ::2, ::2][:, :h, :w]
        return type("ImageList", (), {"tensors": batch, "image_sizes": sizes})(), None

    def backbone(self, tensors: torch.Tensor) -> torch.Tensor:
        return tensors.mean(1) * self.weight

    def rpn(self, images: Any, features: dict[str, torch.Tensor], targets: None) -> tuple[list[int], dict[str, Any]]:
        return [int(one.argmax()) for one in features["0"]], {}

    def roi_heads(
        self, features: Any, proposals: list[int], sizes: Any, targets: None
    ) -> tuple[list[Any], dict[str, Any]]:
        found = []
        for brightest in proposals:
            y, x = divmod(brightest, features["0"].shape[-1])
            boxes = torch.tensor([[x - 5.0, y - 5, x + 5, y + 5]]) + torch.tensor([[0.0], [8.0], [0.0]])
            masks = torch.ones(3, 1, 28, 28)
            found.append({"boxes": boxes, "labels": torch.tensor(self.labels), "scores": torch.tensor(self.scores),
                          "masks": masks})  # fmt: skip
        return found, {}


def photo(size: tuple[int, int] = (80, 120), brightest: tuple[int, int] = (40, 60)) -> np.ndarray:
    image = np.full((*size, 3), 50, np.uint8)
    image[brightest] = 255
    return image


def sky(image: torch.Tensor) -> torch.Tensor:
    assert image.dtype == torch.uint8
    return torch.full(image.shape[:2], SKY)


def parser(**options: Any) -> MaskRCNNParser:
    return MaskRCNNParser(StandIn(), sky, "coco", **{"stuff_area": 100, **options})


def test_detections_of_an_image_are_merged_with_its_semantic_map() -> None:
    panoptic = parser()(photo())
    assert [(s.category, s.isthing, s.score, s.box) for s in panoptic.segments] == [
        (PERSON, True, pytest.approx(0.9), (50, 30, 70, 50)),
        (COCO.names.index("car"), True, pytest.approx(0.7), (66, 46, 86, 66)),
        (SKY, False, None, (0, 0, 120, 80)),
    ]  # twice what the detector saw; 92 is stuff, of which a detector has none
    assert panoptic.keypoints.shape[-2:] == (0, 2)


def test_a_batch_of_several_sizes_gives_each_image_its_map(assert_same: Any) -> None:
    images = [photo(), photo((90, 70), (20, 30)), torch.from_numpy(photo((100, 100), (50, 50)))]
    for batch in (1, 3):
        found = parser(batch=batch)
        for image, panoptic in zip(images, found(images), strict=True):
            assert panoptic.size == image.shape[:2]
            assert_same(parser()(image), panoptic)
        assert max(found.model.seen) <= batch


def test_logits_on_nodes_and_arguments_of_the_merge_go_through(assert_same: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(len(COCO), 21, 31, generator=rng)
    found = MaskRCNNParser(StandIn(), lambda image: logits, COCO, stride=4, score_threshold=0.8, stuff_area=0)
    (parsed,) = found.stream([photo()])
    assert parsed.panoptic.count == 1
    assert parsed.heads.semantic is logits
    boxes, masks = torch.tensor([[50.0, 30, 70, 50]]), torch.ones(1, 28, 28)
    want = merge_top_down(
        *(boxes, torch.tensor([0.9]), torch.tensor([PERSON]), masks, logits, COCO.things),
        size=(80, 120), stuff_area=0, paste="torchvision", max_instances=2,
    )  # fmt: skip
    assert_same(parsed.panoptic, want)


def test_classes_of_the_users_own(assert_same: Any) -> None:
    animals = LabelSet("animals", ("cow", "grass"), (True, False), ((0, 0, 0), (9, 9, 9)), (1, 2))
    found = MaskRCNNParser(StandIn(), lambda image: torch.ones(image.shape[:2], dtype=torch.uint8), animals,
                           classes={3: 0}, stuff_area=0)  # fmt: skip
    assert [(s.category, s.isthing) for s in found(photo()).segments] == [(0, True), (1, False)]
    with pytest.raises(ValueError, match=r"classes: expected things of animals, \[0\], got 1"):
        MaskRCNNParser(StandIn(), sky, animals, classes={3: 1})


def test_a_parser_is_a_semantic_network_too() -> None:
    photo16 = Parser()
    found = MaskRCNNParser(StandIn(), photo16, photo16.labels, classes={1: photo16.labels.things[0]}, stuff_area=0)
    image = photo((160, 160), (80, 80))
    panoptic, semantic = found(image), photo16(image).semantic
    free = (panoptic.instance == 0) & ~torch.isin(semantic, torch.tensor(photo16.labels.things))
    assert (panoptic.semantic[free] == semantic[free]).all()
    assert panoptic.count == 1


def test_a_folder_of_photographs_becomes_coco_panoptic(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(photo((80, 120 + 16 * i))).save(tmp_path / "photos" / f"{i}.png")
    sources = find_sources([tmp_path / "photos"], tmp_path / "out").sources
    settings = {"overlay": "png", "trained": True, "exif": True, "size": None, "detector": "a stand-in"}
    job = BatchJob(parser(), sources, tmp_path / "out", settings, labels=COCO)
    job.run()
    assert (job.images, job.faults) == (2, [])
    written = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [len(entry["segments_info"]) for entry in written["annotations"]] == [3, 3]


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
def test_an_image_too_thin_for_the_detector_has_no_instances(size: tuple[int, int]) -> None:
    found = parser()
    found.model.transform = Transform(found.model.transform)
    panoptic = found(photo(size, (0, 0)))
    assert (panoptic.count, found.model.seen) == (0, [])
    assert (panoptic.semantic == SKY).all()
    assert found(photo((20, 40), (10, 20))).count > 0


class Transform:
    """Calls another one, and has the sizes of torchvision's."""

    min_size, max_size = (800,), 1333

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(
        TypeError, match="model: expected torchvision's with transform, backbone, rpn, roi_heads, got Conv2d"
    ):
        MaskRCNNParser(torch.nn.Conv2d(1, 1, 1), sky, "coco")
    with pytest.raises(TypeError, match="semantic: expected a function or a parser, got int"):
        MaskRCNNParser(StandIn(), 5, "coco")  # type: ignore[arg-type]
    found = MaskRCNNParser(StandIn(), lambda image: torch.zeros(7, 80, 120), "coco")
    with pytest.raises(ValueError, match="semantic: expected 133 classes as labels has, got 7"):
        found(photo())
    found.model.train()
    with pytest.raises(RuntimeError, match="model: expected eval mode, got training mode"):
        found(photo())
    boxes_only = StandIn()
    boxes_only.roi_heads = lambda *_: ([{"boxes": torch.zeros(0, 4)}], {})  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="model: expected detections with masks"):
        MaskRCNNParser(boxes_only, sky, "coco")(photo())


def test_masks_are_those_that_torchvision_pastes() -> None:
    """With random weights, which give masks of every form."""
    missing = "torchvision is not there, or does not load beside this torch"
    detection = pytest.importorskip("torchvision.models.detection", reason=missing, exc_type=Exception)
    torch.manual_seed(0)
    model = detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91, min_size=128, max_size=160, box_score_thresh=0.0,
        box_detections_per_img=30,
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(60)
        for weight in model.roi_heads.mask_predictor.parameters():
            weight.mul_(40 if weight.dim() > 1 else 1)
        image = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8)
        (pasted,) = model([image.permute(2, 0, 1).float() / 255])
    found = MaskRCNNParser(model, sky, "coco", score_threshold=0.0, stuff_area=0)(image)
    things = [k for k, label in enumerate(pasted["labels"].tolist()) if COCO.class_of.get(label) in COCO.things]
    want = merge_top_down(
        *(None, pasted["scores"][things], torch.tensor([COCO.class_of[int(pasted["labels"][k])] for k in things])),
        *(pasted["masks"][things] > 0.5, sky(image), COCO.things),
        num_classes=len(COCO), score_threshold=0.0, stuff_area=0,
    )  # fmt: skip
    assert want.count > 5
    assert torch.equal(found.instance, want.instance)
    assert torch.equal(found.semantic, want.semantic)


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/top_down.md"""
    merge, parse, measure = blocks(ROOT / "docs" / "top_down.md", "python")
    rng = np.random.default_rng(0)
    scope: dict[str, Any] = {
        "boxes": np.float32([[5, 5, 60, 60], [30, 20, 90, 70]]),
        "scores": np.float32([0.9, 0.8]),
        "labels": np.array([11, 13]),
        "masks": np.ones((2, 28, 28), np.float32),
        "semantic": np.repeat(np.eye(19, dtype=np.float32)[3][:, None], 20 * 30, 1).reshape(19, 20, 30),
        "height": 77,
        "width": 117,
    }
    exec(merge, scope)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        *(["11", "True"], ["13", "True"], ["3", "False"])
    ]
    scope |= {"detector": StandIn(), "photo": photo(), "network": lambda images: torch.zeros(1, len(COCO), 80, 120)}
    exec(parse, scope)
    assert isinstance(scope["panoptic"], Panoptic)
    maps = scope["panoptic"].semantic.numpy(), scope["panoptic"].instance.numpy()
    scope["annotated"] = [(photo(), *maps), (photo(brightest=(30, 80)), rng.integers(0, 3, (80, 120)), maps[1])]
    exec(measure, scope)
    assert 0 < float(capsys.readouterr().out) < 100
