# SPDX-License-Identifier: Apache-2.0
"""From images to maps: what the network is given, what the fusion is given, and the way back to the image's size."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import deeperlab
from deeperlab import STAR, FuseParams, Heads, Panoptic, scenes
from deeperlab.data import labels
from deeperlab.predictor.parser import Parser
from deeperlab.predictor.resize import resized
from deeperlab.targets import encode_heads

LABELS = labels.preset("cityscapes")
SIZES = [(33, 49), (50, 20), (1, 1), (64, 97)]


class Net(torch.nn.Module):
    """A network of one layer: heads are mixtures of the colors at the nodes. It keeps what it was given."""

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    num_classes = len(LABELS)
    config: dict[str, Any] = {"name": "net", "num_classes": num_classes}  # noqa: RUF012 - never changed
    has_trained_weights = True

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(
            torch.randn((self.num_classes + 5 + 10 + 16 + 10, 3, 1, 1), generator=generator)
        )
        self.given: list[torch.Tensor] = []
        self.autocast: list[Any] = []

    def forward(self, images: torch.Tensor) -> Heads:
        self.given.append(images)
        self.autocast.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        mixed = torch.nn.functional.conv2d(images[:, :, ::4, ::4], self.weight)
        return Heads(*mixed.split((self.num_classes, 5, 10, 16, 10), dim=1))


class Known(Net):
    """Answers every image with the same heads."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
        self.answer = Heads(*(torch.from_numpy(getattr(heads, name))[None] for name in names))

    def forward(self, images: torch.Tensor) -> Heads:
        h, w = self.answer.heatmap.shape[-2:]
        assert images.shape[-2:] == (4 * h - 3, 4 * w - 3)
        n = len(images)
        names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
        return Heads(*(getattr(self.answer, name).to(images.device).expand(n, -1, -1, -1) for name in names))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8)
    return coarse.repeat(9, 0).repeat(9, 1)[:height, :width].copy()


@pytest.fixture(scope="module")
def scene() -> tuple[Heads, Panoptic]:
    """Perfect heads of a drawn scene of 97 x 129 px, and their map."""
    drawn = scenes.draw(4, (97, 129), instances=4)
    category = np.where(drawn.instance > 0, 11, 0)
    heads = encode_heads(category, drawn.instance, len(LABELS), stride=4)
    return heads, deeperlab.fuse(heads, LABELS.things, size=(97, 129))


def check_counts(panoptic: Panoptic) -> None:
    """Areas are those of the maps."""
    image = panoptic.numpy()
    numbers = np.bincount(image.instance.ravel(), minlength=len(image.area) + 1)
    np.testing.assert_array_equal(image.area, numbers[1:])
    loose = image.semantic[image.instance == 0]
    np.testing.assert_array_equal(image.class_area, np.bincount(loose[loose >= 0], minlength=len(image.class_area)))
    ids, infos = image.to_coco()
    assert set(np.unique(ids)) - {0} == {segment.id for segment in image.segments}
    assert {info["area"] for info in infos} == {segment.area for segment in image.segments}


def test_the_map_is_that_of_the_heads(scene: Any, assert_same: Any) -> None:
    heads, want = scene
    assert int(want.count) >= 2
    found = Parser(Known(heads), LABELS)(photo(97, 129))
    assert isinstance(found, Panoptic)
    assert_same(found, want)


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_images_of_one_padded_size_share_a_batch(batch: int, assert_same: Any) -> None:
    """Unequal ones too; others do not, for a network sees the padding."""
    sizes = [(33, 49), (30, 40), (20, 46), (50, 20), (1, 1), (50, 30)]
    padded = {1: [(33, 49)] * 3 + [(65, 33), (1, 1), (65, 33)], 3: [(33, 49), (65, 33), (1, 1), (65, 33)]}
    images = [photo(*size, seed=i) for i, size in enumerate(sizes)]
    parser = Parser(Net(), LABELS, batch=batch)
    together = parser(images)
    assert [panoptic.size for panoptic in together] == sizes
    alone = Parser(Net(), LABELS)
    for panoptic, image in zip(together, images, strict=True):
        check_counts(panoptic)
        assert_same(panoptic, alone(image))
    assert [tuple(given.shape[2:]) for given in parser.model.given] == padded[min(batch, 3)]


def test_a_map_does_not_depend_on_its_neighbors(assert_same: Any) -> None:
    """Not even of a network that looks at the whole of its input."""

    class Mean(Net):
        def forward(self, images: torch.Tensor) -> Heads:
            return super().forward(images + images.mean((1, 2, 3), keepdim=True))

    images = [photo(*size, seed=i) for i, size in enumerate([(33, 49), (64, 97), (33, 49), (20, 20)])]
    for panoptic, image in zip(Parser(Mean(), LABELS, batch=4)(images), images, strict=True):
        assert_same(panoptic, Parser(Mean(), LABELS)(image))


def test_a_batch_of_one_size_is_fused_at_once(assert_same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    from deeperlab.predictor import heads_parser as module

    fuse = module.fuse
    monkeypatch.setattr(module, "fuse", lambda heads, *a, **k: calls.append(heads.batched) or fuse(heads, *a, **k))
    images = np.stack([photo(40, 50, seed=i) for i in range(3)])
    found = Parser(Net(), LABELS, batch=3)(images)
    assert calls == [True]
    for panoptic, image in zip(found, images, strict=True):
        assert_same(panoptic, Parser(Net(), LABELS)(image))


def test_the_network_is_given_scaled_and_padded_images() -> None:
    net = Net()
    images = [photo(20, 50, seed=1), photo(33, 60, seed=2)]
    Parser(net, LABELS, batch=2)(images)
    (given,) = net.given
    assert given.shape == (2, 3, 33, 65)  # 16 m + 1
    assert given.dtype == torch.float32
    assert given.is_contiguous(memory_format=torch.channels_last)
    for canvas, image in zip(given, images, strict=True):
        h, w, _ = image.shape
        want = (image / 255 - np.array(Net.mean)) / np.array(Net.std)
        np.testing.assert_allclose(canvas[:, :h, :w].numpy().transpose(1, 2, 0), want, atol=1e-5)
        assert not canvas[:, h:].any()
        assert not canvas[:, :, w:].any()
    assert not net.training


def test_maps_return_to_the_size_of_the_image(scene: Any) -> None:
    heads, small = scene
    found = Parser(Known(heads), LABELS, size=129)(photo(194, 258))
    assert found.size == (194, 258)
    for name in ("semantic", "instance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(small, name).repeat(2, 0).repeat(2, 1))
    count = int(small.count)
    np.testing.assert_allclose(found.keypoints[:count], 2 * small.keypoints[:count] + 0.5, rtol=1e-6)
    assert not found.keypoints[count:].any()
    np.testing.assert_array_equal(found.area, 4 * small.area)
    np.testing.assert_array_equal(found.class_area, 4 * small.class_area)
    np.testing.assert_array_equal(found.score, small.score)
    check_counts(found)


@pytest.mark.parametrize("size", [(31, 43), (96, 200), (1, 300), (97, 1)])
def test_areas_are_counted_anew_at_any_size(scene: Any, size: tuple[int, int]) -> None:
    _, small = scene
    found = resized(small.to("cpu"), size)
    assert found.size == size
    assert int(found.area.sum() + found.class_area.sum()) == size[0] * size[1]
    check_counts(found)
    (y, x), (h, w) = np.indices(size), small.size
    nearest = small.semantic[(2 * y + 1) * h // (2 * size[0]), (2 * x + 1) * w // (2 * size[1])]
    np.testing.assert_array_equal(found.semantic, nearest)


def test_an_instance_may_lose_its_last_pixel(scene: Any) -> None:
    _, small = scene
    lost = resized(replace(small, instance=np.where(small.instance == 1, 0, small.instance)).to("cpu"), (194, 258))
    assert lost.area[0] == 0
    assert lost.category[0] == -1
    assert 1 not in {segment.id for segment in lost.segments}
    check_counts(lost)


def test_the_longer_side_gets_the_size() -> None:
    net = Net()
    parser = Parser(net, LABELS, size=40)
    assert [parser.input_size(*size) for size in [(80, 20), (20, 60), (1, 1000), (40, 40)]] == [
        (40, 10),
        (13, 40),
        (1, 40),
        (40, 40),
    ]
    assert parser(photo(81, 23)).size == (81, 23)
    assert net.given[0].shape == (1, 3, 49, 17)
    net.image_size = 24
    assert Parser(net, LABELS).size == 24
    assert Parser(net, LABELS, size=np.int64(7)).size == 7
    assert Parser(net, LABELS, size=0).size is None
    assert Parser(Net(), LABELS).size is None


def test_the_labels_are_those_of_the_model_unless_others_are_given() -> None:
    net = Net()
    net.labels = LABELS
    assert Parser(net).labels is LABELS
    assert Parser(net, "cityscapes").labels == labels.preset("cityscapes")


def test_the_fusion_knows_the_disks_that_the_network_was_trained_on() -> None:
    net = Net()
    assert Parser(net, LABELS).params is None
    net.radius = 12.0
    assert Parser(net, LABELS).params == FuseParams(radius=12.0)
    assert Parser(net, LABELS, params=FuseParams(vote_cell=8)).params == FuseParams(vote_cell=8)
    net.fusion = {"box_iou": 0.5}
    assert Parser(net, LABELS).params == FuseParams(radius=12.0, box_iou=0.5)


def test_the_heads_of_an_image_are_its_own(assert_same: Any) -> None:
    images = [photo(*size, seed=i) for i, size in enumerate(SIZES)]
    for parsed, (height, width) in zip(Parser(Net(), LABELS, batch=4).stream(images), SIZES, strict=True):
        assert parsed.size == (height, width)
        assert parsed.heads.heatmap.shape == (5, -(-(height - 1) // 4) + 1, -(-(width - 1) // 4) + 1)
        assert parsed.heads.graph == STAR
        assert_same(deeperlab.fuse(parsed.heads, LABELS.things, size=parsed.size), parsed.panoptic)


def test_a_stream_holds_one_batch() -> None:
    taken = []

    def images() -> Iterator[np.ndarray]:
        for i in range(5):
            taken.append(i)
            yield photo(20, 20, seed=i)

    stream = Parser(Net(), LABELS, batch=2).stream(images())
    for n in range(5):
        next(stream)
        assert len(taken) == min(5, 2 * (n // 2 + 1))


def test_all_kinds_of_images_are_the_same(assert_same: Any) -> None:
    image = photo(30, 45)
    parser = Parser(Net(), LABELS)
    want = parser(image)
    frozen = image.copy()
    frozen.setflags(write=False)
    mirrored = image[:, ::-1].copy()[:, ::-1]
    for other in (
        torch.from_numpy(image),
        Image.fromarray(image),
        Image.fromarray(image).convert("RGBA"),
        frozen,
        mirrored,
    ):
        assert_same(parser(other), want)
        (one,) = parser([other])
        assert_same(one, want)
    assert parser([]) == []


def test_half_is_autocast(assert_same: Any) -> None:
    image = photo(30, 45)
    for half, dtype in ((False, None), (True, torch.bfloat16), (torch.float16, torch.float16)):
        net = Net()
        (parsed,) = Parser(net, LABELS, half=half).stream([image])
        assert net.autocast == [dtype]
        assert parsed.heads.heatmap.dtype == (dtype or torch.float32)
        assert net.weight.dtype == torch.float32
        assert_same(deeperlab.fuse(parsed.heads, LABELS.things, size=(30, 45)), parsed.panoptic)


def test_a_photograph_is_turned_upright(assert_same: Any, tmp_path: Path) -> None:
    upright = photo(30, 45)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as turned:
        assert turned.size == (30, 45)
        assert_same(Parser(Net(), LABELS)(turned), Parser(Net(), LABELS)(upright))


def test_exif_that_is_damaged_elsewhere_still_tells_how_a_camera_was_held(tmp_path: Path) -> None:
    offset, held = struct.pack("<HHI4s", 0x0111, 2, 4, b"abc"), struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + offset + held + bytes(4)  # an offset that is a text
    Image.fromarray(photo(20, 30)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert Parser(Net(), LABELS)(image).size == (30, 20)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pillow_images_of_more_than_8_bits_are_refused(mode: str) -> None:
    with pytest.raises(TypeError, match=rf"images\[0\]: expected a Pillow image of 8 bits a channel, got mode {mode}"):
        Parser(Net(), LABELS)(Image.new(mode, (20, 20)))


def test_a_broken_pillow_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(photo(60, 60)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(ValueError, match=r"images\[1\]: expected a Pillow"):
        Parser(Net(), LABELS, batch=2)([photo(60, 60), image])


def test_a_model_in_training_is_not_parsed_with() -> None:
    """Its norms would learn from what it is shown."""
    net = Net()
    parser = Parser(net, LABELS)
    net.train()
    with pytest.raises(RuntimeError, match=r"model: expected eval mode, got training mode; call model\.eval\(\)"):
        parser(photo(20, 20))
    net.eval()
    assert parser(photo(20, 20)).size == (20, 20)


def test_a_network_of_float64_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model: expected weights of float32, .*, got float64; use model\.float\(\)"):
        Parser(Net().double(), LABELS)


@pytest.mark.parametrize("made", ["network", "parser"])
def test_what_was_made_in_inference_mode_parses_outside_of_it(made: str) -> None:
    image, expected = photo(40, 50), Parser(Net(), LABELS)(photo(40, 50))
    with torch.inference_mode():
        net = Net()
        parser = Parser(net, LABELS) if made == "parser" else None
    parser = parser or Parser(net, LABELS)
    assert not any(weight.is_inference() for weight in net.parameters())
    for _ in range(2):
        with torch.inference_mode(made == "parser"):
            found = parser(image)
        assert torch.equal(found.semantic, expected.semantic)
        made = "network"


def test_results_are_ordinary_tensors() -> None:
    (parsed,) = Parser(Net(), LABELS).stream([photo(20, 20)])
    assert not parsed.heads.heatmap.requires_grad
    parsed.panoptic.semantic.add_(1)
    weight = torch.ones(1, requires_grad=True)
    (parsed.heads.heatmap * weight).sum().backward()
    assert weight.grad is not None


def test_a_model_of_half_precision_is_given_its_own() -> None:
    net = Net().bfloat16()
    (parsed,) = Parser(net, LABELS).stream([photo(20, 20)])
    assert net.given[0].dtype == parsed.heads.heatmap.dtype == torch.bfloat16


def test_a_parser_tells_what_it_is() -> None:
    assert repr(Parser(Net(), LABELS, size=40)) == (
        "Parser(Net, cityscapes, size=40, batch=1, device=cpu, autocast=None)"
    )


def test_compile_is_torchs(monkeypatch: pytest.MonkeyPatch, assert_same: Any) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model.forward)
    net = Net()
    found = Parser(net, LABELS, compile=True)(photo(20, 30))
    assert compiled == [net]
    assert_same(found, Parser(Net(), LABELS)(photo(20, 30)))


def test_parameters_reach_the_fusion(scene: Any) -> None:
    heads, want = scene
    params = deeperlab.FuseParams(max_instances=1)
    found = Parser(Known(heads), "cityscapes", params=params)(photo(97, 129))
    assert int(found.count) == 1 < int(want.count)


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (
            np.zeros((4, 4, 3)),
            r"images\[0\]: expected a uint8 array or tensor, or a Pillow image, got ndarray of float64",
        ),
        (np.zeros((4, 4), np.uint8), r"images: expected one image \[H, W, 3\], .* got shape \[4, 4\]"),
        (np.zeros((3, 4, 4), np.uint8), r"images\[0\]: expected RGB \[H, W, 3\], got shape \[3, 4, 4\]; use \.permute"),
        (np.zeros((0, 4, 3), np.uint8), r"images\[0\]: expected RGB .* got shape \[0, 4, 3\]"),
        ([np.zeros((4, 4, 3), np.uint8), "a.png"], r"images\[1\]: .* got str"),
        ("a.png", r"images: expected images, or one image \[H, W, 3\], got str"),
        (7, "images: .* got int"),
        ({"a": np.zeros((4, 4, 3), np.uint8)}, "images: expected images, .* got dict"),
    ],
)
def test_what_is_no_image_is_named(image: Any, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        Parser(Net(), LABELS, batch=2)(image)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"labels": "coco"}, "labels: expected 19 classes as the model has, got 133 of coco"),
        ({"labels": "cars"}, "cars"),
        (
            {"labels": None},
            "labels: expected a LabelSet, a name or a file, got NoneType, as the model has none",
        ),
        ({"size": -1}, "size: expected at least 0, got -1"),
        ({"size": True}, "size: expected an int, got True"),
        ({"device": "foo"}, "device: expected one of torch's, got 'foo'"),
        ({"device": "meta"}, "device: expected one with memory, got meta"),
        ({"size": 7.5}, r"size: expected an int, got 7\.5"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"half": torch.float64}, r"half: expected True, False, torch\.float16 or torch\.bfloat16"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], fault: str) -> None:
    with pytest.raises((TypeError, ValueError, OSError), match=fault):
        Parser(Net(), **({"labels": LABELS} | options))


@pytest.mark.parametrize("model", [torch.nn.Conv2d(3, 3, 1), 3], ids=["layer", "number"])
def test_what_is_no_network_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match="model: expected a network with num_classes, mean and std"):
        Parser(model, LABELS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="device: expected one that is there, got cuda"):
        Parser(Net(), LABELS, device="cuda")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_device_that_torch_was_built_without_is_one_short_line() -> None:
    with pytest.raises(ValueError, match="device: expected one that is there, got mps") as caught:
        Parser(Net(), LABELS, device="mps")
    assert len(str(caught.value)) < 200


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_parses_as_the_cpu_does(scene: Any, half: bool, assert_same: Any) -> None:
    heads, want = scene
    assert_same(Parser(Known(heads), LABELS, device="cuda")(photo(97, 129)), want)
    (parsed,) = Parser(Net(), LABELS, device="cuda", half=half, size=60).stream([photo(50, 70)])
    assert parsed.heads.heatmap.dtype == (torch.float16 if half else torch.float32)
    assert parsed.panoptic.size == (50, 70)
    check_counts(parsed.panoptic)


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from deeperlab import models

    monkeypatch.chdir(tmp_path)
    for name in ("street.jpg", "square.jpg"):
        Image.fromarray(photo(40, 60)).save(name)
    monkeypatch.setattr(models, "from_pretrained", lambda folder: Net())
    page = Path(__file__).resolve().parents[1] / "docs" / "predict.md"
    tiles, parser = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(tiles, {})
    exec(parser, {})
    assert "px" in capsys.readouterr().out
