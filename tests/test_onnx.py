# SPDX-License-Identifier: Apache-2.0
"""A network's graph beside its weights, and what ONNX Runtime makes of it: the maps of torch, without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_models import ROUNDED, assert_same, lively, outputs, photos, tiny
from test_without_torch import command
from typer.testing import CliRunner

from deeperlab import models
from deeperlab.cli import app
from deeperlab.data import labels
from deeperlab.data.faults import FormatError
from deeperlab.data.formats.png import read_ids
from deeperlab.data.network_folder import graph_key, read_config
from deeperlab.data.tensor_file import read_arrays, read_header
from deeperlab.heads import NAMES, names_of
from deeperlab.predictor import OnnxNetwork, OnnxParser, Parser
from deeperlab.predictor.settings import digest

onnx = pytest.importorskip("onnx", reason="needs deeperlab[dev]")
pytest.importorskip("onnxscript", reason="needs deeperlab[dev]")
pytest.importorskip("onnxruntime", reason="needs deeperlab[onnx]")

pytestmark = pytest.mark.slow  # half a minute for each export
LABELS = labels.preset("cityscapes")
SIZES = [(1, 65, 97), (2, 33, 49), (1, 5, 9), (3, 50, 71), (1, 17, 129)]
FUSION = {"peak_threshold": 0.001, "instance_threshold": 0.001}
"""Low thresholds let instances be found in heads that nobody trained."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of half precision, with its graph."""
    folder = tmp_path_factory.mktemp("onnx") / "network"
    model = lively(tiny(num_classes=len(LABELS), image_size=97, fusion=FUSION, stuff_area=0.01))
    model.labels = LABELS
    model.save_pretrained(folder, dtype=torch.float16)
    assert models.export_onnx(folder) == folder / "model.onnx"
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One to be changed."""
    return Path(shutil.copytree(made, tmp_path / "network"))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height)))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """The share of pixels that are of one segment in both maps; numbers may differ, as of instances of one score."""
    _, a = np.unique(a, return_inverse=True)
    pairs = np.zeros((int(a.max()) + 1, int(b.max()) + 1), np.int64)
    np.add.at(pairs, (a.ravel(), b.ravel()), 1)
    return float(pairs.max(1).sum() / a.size)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages seem not to be installed, as far as that is asked."""
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in packages else find(name, *a))


# --- the graph --------------------------------------------------------------------------------------------------------


def check_heads(folder: Path) -> None:
    network, model = OnnxNetwork(folder), models.DeeperLab.from_pretrained(folder)
    for size in SIZES:
        images = photos(*size)
        heads = network(images.numpy())
        assert heads.stride == 4
        assert heads.graph == model.graph
        got = {name: torch.from_numpy(getattr(heads, name)) for name in names_of(model.graph)}
        assert_same(got, outputs(model, images), ROUNDED)


def test_heads_of_any_size_are_those_of_torch(made: Path) -> None:
    check_heads(made)


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "bilinear", "output_stride": 8, "graph": "rectangle"},
        {"backbone": "efficientnet_lite0", "kernel_size": 3},
        {"graph": "none"},
    ],
    ids=["bilinear", "efficientnet", "semantic"],
)
def test_so_are_those_of_other_networks(options: dict[str, Any], tmp_path: Path) -> None:
    lively(tiny(**options)).save_pretrained(tmp_path)
    models.export_onnx(tmp_path)
    check_heads(tmp_path)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_the_graph_is_small_for_the_weights_stay_where_they_are(made: Path) -> None:
    path = made / "model.onnx"
    assert path.stat().st_size < 100_000
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path), load_external_data=False).graph
    places = read_header(made / "model.safetensors").places
    weights = {t.name: t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    assert weights.keys() == {name for name in places if not name.endswith("num_batches_tracked")}
    assert {t.data_type for t in weights.values()} == {onnx.TensorProto.FLOAT16}
    assert [value.name for value in graph.output] == list(NAMES)
    assert not [text for node in graph.node for text in (node.name, node.doc_string, *node.metadata_props) if text]


def test_releases_that_take_no_weights_from_memory_read_the_file(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before 1.24, which are the last for Python 3.10."""
    import onnxruntime

    class Options(onnxruntime.SessionOptions):
        @property
        def add_external_initializers_from_files_in_memory(self) -> None:
            raise AttributeError

    images = photos(2, 33, 49).numpy()
    wanted = OnnxNetwork(made)(images)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    found = OnnxNetwork(made)(images)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / "model.onnx").read_bytes()
    models.export_onnx(folder)
    assert (folder / "model.onnx").read_bytes() == before


def test_a_graph_is_made_anew_where_it_is_of_another_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(models, "export_onnx", lambda path: made.append(path) or path / "model.onnx")
    config = json.loads((folder / "config.json").read_text())

    def change(**options: Any) -> None:
        (folder / "config.json").write_text(json.dumps(config | options))
        OnnxNetwork(folder)

    change(fusion={"box_iou": 0.5}, stuff_area=0.02, image_size=65)  # as `deeperlab tune` does
    assert made == []
    change(eps=1e-4)
    assert made == [folder]
    change()
    model = models.DeeperLab.from_pretrained(folder)
    model.save_pretrained(folder)  # as long names, but twice as long numbers
    monkeypatch.undo()
    without(monkeypatch, "onnxscript")
    with pytest.raises(
        ImportError, match=r"model\.onnx is of other weights or another config, and onnxscript, by which"
    ):
        OnnxNetwork(folder)
    (folder / "model.onnx").unlink()
    without(monkeypatch, "torch", "onnxscript")
    with pytest.raises(ImportError, match=r"model\.onnx is not there, and torch and onnxscript, .*export_onnx\('/"):
        OnnxNetwork(folder)


def test_new_weights_of_the_same_form_need_no_new_graph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "export_onnx", None)
    model = models.DeeperLab.from_pretrained(folder)
    with torch.no_grad():
        model.heads["semantic"][-1].bias.add_(1)
    model.save_pretrained(folder, dtype=torch.float16)
    check_heads(folder)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_folder_of_links_is_read_as_in_the_caches_of_hubs(made: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for file in made.iterdir():
        shutil.copy(file, tmp_path / "blobs" / file.name.upper())
        (tmp_path / "snapshot" / file.name).symlink_to(tmp_path / "blobs" / file.name.upper())
    heads = OnnxNetwork(tmp_path / "snapshot")(np.zeros((1, 3, 17, 17), np.float32))
    np.testing.assert_array_equal(heads.heatmap, OnnxNetwork(made)(np.zeros((1, 3, 17, 17), np.float32)).heatmap)


def test_arrays_are_the_tensors_of_the_file(made: Path, tmp_path: Path) -> None:
    model = models.DeeperLab.from_pretrained(made)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        model.save_pretrained(tmp_path, dtype=dtype)
        saved = models.DeeperLab.from_pretrained(tmp_path)
        header = read_header(tmp_path / "model.safetensors")
        for name, array in read_arrays(header):
            torch.testing.assert_close(torch.from_numpy(array.copy()), saved.state_dict()[name], rtol=0, atol=0)
        assert header.is_trained
    assert digest(OnnxNetwork(made)) == digest(model)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (3).to_bytes(8, "little") + b"{x}",
        *(
            len(text).to_bytes(8, "little") + text + bytes(8)
            for text in (
                b'{"a": 3}',
                b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
                b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}',
                b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}',
            )
        ),
    ],
)
def test_a_damaged_file_of_tensors_is_named(data: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match=r"model\.safetensors: damaged, or not safetensors: "):
        OnnxNetwork(folder)


def test_a_damaged_graph_is_named(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[1000:])  # what it is made of stands at the end
    with pytest.raises(FormatError, match=r"model\.onnx: not what deeperlab\.models\.export_onnx makes: "):
        OnnxNetwork(folder)


# --- images to maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_maps_are_those_of_torch(batch: int, made: Path) -> None:
    images = [picture(*size, seed=i) for i, size in enumerate([(60, 90), (64, 97), (60, 90), (150, 100), (33, 20)])]
    images[1] = images[1][:, ::-1]
    ours = OnnxParser(made, batch=batch)
    theirs = Parser(models.DeeperLab.from_pretrained(made).fold_batch_norm(), batch=batch)
    for name in ("labels", "size", "batch", "params", "stuff_area"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.input_size(150, 100) == theirs.input_size(150, 100)
    for image, a, b in zip(images, ours.stream(images), theirs.stream(images), strict=True):
        assert isinstance(a.heads.heatmap, np.ndarray)
        assert a.size == b.size
        heads = {name: torch.from_numpy(getattr(a.heads, name).copy())[None] for name in NAMES}
        assert_same(heads, {name: getattr(b.heads, name)[None] for name in NAMES}, ROUNDED)
        assert a.panoptic.size == image.shape[:2]
        assert int(a.panoptic.count) == int(b.panoptic.count)
        assert agreement(a.panoptic.instance, b.panoptic.instance.numpy()) > 0.99
        assert (a.panoptic.semantic == b.panoptic.semantic.numpy()).mean() > 0.99
        assert len(a.panoptic.segments) > 1
    assert repr(ours) == f"OnnxParser(cityscapes, size=97, batch={batch})"
    one = ours(Image.fromarray(images[0]))
    np.testing.assert_array_equal(one.semantic, ours([torch.from_numpy(images[0].copy())])[0].semantic)


@pytest.mark.parametrize("size", [None, 150])
def test_maps_in_tiles_are_those_of_torch(size: int | None, made: Path) -> None:
    image = picture(100, 180)
    (a,) = OnnxParser(made, tile=81, halo=16, batch=2, size=size).stream([image])
    network = models.DeeperLab.from_pretrained(made).fold_batch_norm()
    (b,) = Parser(network, tile=81, halo=16, size=size).stream([image])
    assert a.size == b.size == ((100, 180) if size is None else (83, 150))
    assert a.heads.semantic.dtype == np.uint8
    assert (a.heads.semantic == b.heads.semantic.numpy()).mean() > 0.99
    for name in NAMES[1:]:
        ours, theirs = getattr(a.heads, name), getattr(b.heads, name).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01 * np.abs(theirs).max())
    assert (a.panoptic.semantic == b.panoptic.semantic.numpy()).mean() > 0.99
    assert OnnxParser(made, tile=513).halo == 64


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"labels": "coco"}, "labels: expected 19 classes as the model has, got 133 of coco"),
        ({"size": 7.5}, r"size: expected an int, got 7\.5"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"stuff_area": 1.0}, "stuff_area: expected a share from 0 to below 1"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], fault: str, made: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        OnnxParser(made, **options)


# --- the command ------------------------------------------------------------------------------------------------------


def predict(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", *map(str, arguments)])


def test_predict_needs_no_torch_and_gives_the_maps_of_torch(made: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, size in enumerate([(60, 90), (97, 71), (120, 120)]):
        Image.fromarray(picture(*size, seed=i)).save(tmp_path / "photos" / f"{i}.png")
    arguments = (tmp_path / "photos", "--model", made, "--heads", "--out")
    result = command(tmp_path, "predict", *arguments, tmp_path / "ours", "--runtime", "onnx")
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 images written" in result.stdout
    assert "by ONNX Runtime" in result.stdout
    assert predict(*arguments, tmp_path / "theirs").exit_code == 0
    for i in range(3):
        ours, theirs = (read_ids(tmp_path / out / f"panoptic/{i}.png") for out in ("ours", "theirs"))
        assert agreement(ours, theirs) > 0.99
        assert len(np.unique(ours)) > 20
        assert (tmp_path / "ours" / f"heads/{i}.npz").is_file()
    infos = [json.loads((tmp_path / out / "panoptic.json").read_text())["info"] for out in ("ours", "theirs")]
    assert {key for key in infos[0] if infos[0][key] != infos[1][key]} == {"runtime"}
    again = command(tmp_path, "predict", *arguments, tmp_path / "ours", "--runtime", "onnx")
    assert "3 finished already" in again.stdout
    mixed = predict(*arguments, tmp_path / "theirs", "--runtime", "onnx")
    assert mixed.exit_code == 2
    assert "has results of runtime 'torch', not 'onnx'" in mixed.stderr


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--half"], "--half: expected none with --runtime onnx, which computes in float32 what a folder holds"),
        (["--compile"], "--compile: expected none with --runtime onnx"),
        (["--weights", "a.pth"], "--weights: expected none with --runtime onnx"),
        (["--device", "cuda:1"], "--device: expected auto or cpu with --runtime onnx, got cuda:1"),
        (
            ["--model", "xception71"],
            "--model: expected a folder of save_pretrained with --runtime onnx, got 'xception71'",
        ),
    ],
)
def test_what_onnx_has_no_part_in_is_refused_before_the_work(options: list[str], fault: str, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    given = ("--model", tmp_path / "none", "--labels", "coco", "--out", tmp_path / "out", "--runtime", "onnx")
    result = predict(tmp_path / "a.png", *given, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert fault in result.stderr
    assert not (tmp_path / "out").exists()


def test_untrained_weights_are_refused_as_everywhere(made: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "network").mkdir()
    data = (made / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'"trained":"true"', b'"trained":"false"')
    (tmp_path / "network/model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + data[8 + length :]
    )
    shutil.copy(made / "config.json", tmp_path / "network")
    key = graph_key(read_config(made / "config.json"), read_header(tmp_path / "network/model.safetensors"))
    graph = onnx.load(str(made / "model.onnx"), load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + len(header) - length)
    next(entry for entry in graph.metadata_props if entry.key == "made_of").value = key
    (tmp_path / "network/model.onnx").write_bytes(graph.SerializeToString())
    given = (tmp_path / "a.png", "--model", tmp_path / "network", "--labels", "cityscapes", "--runtime", "onnx")
    result = predict(*given, "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "are not trained" in result.stderr
    result = predict(*given, "--out", tmp_path / "out", "--random-weights")
    assert (result.exit_code, result.stderr) == (0, "deeperlab: warning: random weights: the results mean nothing\n")


def test_a_missing_runtime_is_told_with_its_extra(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    result = predict(tmp_path / "a.png", "--model", made, "--out", tmp_path / "out", "--runtime", "onnx")
    told = "deeperlab: networks run without torch by ONNX Runtime: pip install 'deeperlab[onnx]'\n"
    assert (result.exit_code, result.stderr) == (2, told)
    assert not os.path.lexists(tmp_path / "out")
