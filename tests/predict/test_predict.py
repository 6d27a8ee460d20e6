# SPDX-License-Identifier: Apache-2.0
"""`deeperlab predict`: what it writes of an image, what it tells, and what it refuses."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicting import LABELS, Net, Perfect, fault, picture, result_files, run, write_video
from typer.testing import CliRunner

import deeperlab
from deeperlab import Heads, models
from deeperlab.cli import app
from deeperlab.data import archive, sample
from deeperlab.data.formats import coco, photo, png
from deeperlab.predictor import settings, video
from deeperlab.predictor.parser import Parser
from deeperlab.visualize import overlay


def test_the_results_are_those_of_the_parser(photos: Path, model: Path, tmp_path: Path, assert_same: Any) -> None:
    out = tmp_path / "new" / "out"
    result = run(photos, "--model", model, "--out", out, "--batch", 3, "--heads", "--size", 40)
    assert result.exit_code == 0, result.output
    assert "4 images written" in result.stdout
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert {a.image_id for a in data.annotations} == {"a", "b", 139, "aachen_1_2"}
    parser = Parser(Net("trained"), LABELS, size=40)
    for annotation in data.annotations:
        path = photos / (annotation.image_file_name or "")
        (parsed,) = parser.stream([Image.open(path)])
        assert_same(data.ids(annotation), parsed.panoptic.to_coco()[0])
        assert [s.category_id for s in annotation.segments] == [
            LABELS.ids[s.category] for s in parsed.panoptic.segments
        ]
        name = annotation.file_name.removesuffix(".png")
        overlay = np.asarray(Image.open(out / "overlay" / f"{name}.jpg"))
        assert overlay.shape == (*parsed.panoptic.size, 3)
        assert (overlay != np.asarray(Image.open(path))).any()
        heads = archive.load(out / "heads" / f"{name}.npz")
        assert_same(deeperlab.fuse(heads, LABELS.things, size=parsed.size).semantic, deeperlab.fuse(
            parsed.heads, LABELS.things, size=parsed.size).semantic)  # fmt: skip
    assert data.categories == LABELS.categories
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert info["description"] == "deeperlab predict"
    assert info["model"] == {"name": "trained", "num_classes": 19}
    assert info["weights"] == settings.digest(Net("trained"))
    assert (info["trained"], info["size"], info["dtype"], info["labels"]) == (True, 40, "float32", "cityscapes")
    assert "warning" not in info
    folders = [
        f"{folder}/{name}{suffix}"
        for folder, suffix in (("overlay", ".jpg"), ("panoptic", ".png"))
        for name in ("a", "below/aachen_1_2_leftImg8bit")
    ]
    assert set(folders) < result_files(out)
    assert not [name for name in result_files(out) if Path(name).name.startswith(".")]


def test_compile_compiles_the_network(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    assert run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--compile").exit_code == 0
    assert [type(network) for network in compiled] == [Net]


def test_heads_that_are_not_finite_make_no_map(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, out = Net.forward, tmp_path / "out"

    def overflows(self: Net, images: torch.Tensor) -> Heads:
        heads = forward(self, images)
        if images.shape[2] == 65:
            heads.semantic[0, 3, 0, 0] = float("inf")
        return heads

    monkeypatch.setattr(Net, "forward", overflows)
    result = run(photos, "--model", model, "--out", out)
    assert result.exit_code == 1
    assert "b.png: the network gave NaN or infinity; with --half, try without" in result.stderr
    assert not (out / "panoptic" / "b.png").exists()
    assert (out / "panoptic" / "a.png").exists()


def test_half_heads_are_written_as_numpy_has_them(photos: Path, model: Path, tmp_path: Path) -> None:
    result = run(photos / "a.png", "--model", model, "--out", tmp_path / "out", "--heads", "--half")
    assert result.exit_code == 0, result.output
    assert archive.load(tmp_path / "out" / "heads" / "a.npz").heatmap.dtype == np.float32
    assert json.loads((tmp_path / "out" / "panoptic.json").read_text())["info"]["dtype"] == "bfloat16"


def evaluate(truth: Path, truth_folder: Path, listing: Path, folder: Path) -> Any:
    """Figures of `deeperlab eval`."""
    figures = listing.parent / "figures.json"
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app,
        [*("eval", str(truth), str(listing), "--gt-dir", str(truth_folder), "--pred-dir", str(folder)),
         *("--json", str(figures))],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    figures.unlink()
    return report


def test_eval_finds_the_images_of_coco_cityscapes_and_ones_own_folders(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    (photos / "mine" / "day").mkdir(parents=True)
    (photos / "a.png").rename(photos / "mine" / "day" / "a.png")
    out = tmp_path / "out"
    assert run(photos, "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    by_id = {a.image_id: a for a in data.annotations}
    assert set(by_id) == {"b", 139, "aachen_1_2", "mine/day/a"}
    assert by_id["mine/day/a"].file_name == by_id["mine/day/a"].image_file_name == "mine/day/a.png"
    assert (out / "overlay" / "mine" / "day" / "a.jpg").is_file()
    truth = [(coco.Annotation(a.image_id, f"{i}.png", a.segments), data.ids(a)) for i, a in enumerate(data.annotations)]
    coco.write(tmp_path / "gt.json", tmp_path / "gt", truth, LABELS.categories)
    report = evaluate(tmp_path / "gt.json", tmp_path / "gt", out / "panoptic.json", out / "panoptic")
    assert report["pq"]["All"]["pq"] == 1


def test_what_predict_writes_fuse_and_eval_read(photos: Path, model: Path, tmp_path: Path, assert_same: Any) -> None:
    """Raw heads know the size of the image, the size that the network saw, and the image's id."""
    out = tmp_path / "out"
    film = write_video(tmp_path / "film.mp4", frames=2)
    options = ("--model", model, "--out", out, "--heads", "--size", 40, "--batch", 2)
    assert run(photos, film, *options).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert len(data.annotations) == 6
    for annotation in data.annotations:
        heads = out / "heads" / Path(annotation.file_name).with_suffix(".npz")
        again = tmp_path / f"again {annotation.image_id}".replace("/", " ")
        result = CliRunner().invoke(app, ["fuse", str(heads), "--labels", "cityscapes", "--out", str(again)])
        assert result.exit_code == 0, result.output
        fused = coco.read(again / "panoptic.json", again)
        assert [a.image_id for a in fused.annotations] == [annotation.image_id]
        assert_same(fused.ids(fused.annotations[0]), data.ids(annotation))
        root = json.loads((out / "panoptic.json").read_text())
        (entry,) = (a for a in root["annotations"] if a["image_id"] == annotation.image_id)
        (twin,) = json.loads((again / "panoptic.json").read_text())["annotations"]
        assert twin["segments_info"] == entry["segments_info"]
    root |= {"images": root["images"][:1], "annotations": root["annotations"][:1]}
    (tmp_path / "gt.json").write_text(json.dumps(root))
    first = tmp_path / "again 139"
    assert evaluate(tmp_path / "gt.json", out / "panoptic", first / "panoptic.json", first)["pq"]["All"]["pq"] == 1


@pytest.mark.parametrize(
    ("own", "options"),
    [
        ({"radius": 9.0, "fusion": {"max_instances": 3}}, ()),
        ({"stuff_area": 0.2}, ()),
        ({"radius": 9.0}, ("--paper", "--max-instances", 4)),
    ],
)
def test_heads_hold_what_their_network_is_fused_with(
    own: dict[str, Any],
    options: tuple[Any, ...],
    model: Path,
    tmp_path: Path,
    assert_same: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "from_pretrained", lambda _: Perfect("perfect"))
    for name, value in own.items():
        monkeypatch.setattr(Perfect, name, value, raising=False)
    Image.fromarray(picture(Perfect.scene.instance.shape, 1)).save(tmp_path / "a.png")
    out, again, older = tmp_path / "out", tmp_path / "again", tmp_path / "older"
    assert run(tmp_path / "a.png", "--model", model, "--out", out, "--heads", *options).exit_code == 0
    with np.load(out / "heads" / "a.npz") as file:
        arrays = {name: file[name] for name in file.files if name not in ("params", "stuff_area")}
    np.savez(tmp_path / "older.npz", **arrays)
    found = {}
    for folder, heads in ((again, out / "heads" / "a.npz"), (older, tmp_path / "older.npz")):
        fuse = ("fuse", heads, "--labels", "cityscapes", "--out", folder)
        assert CliRunner().invoke(app, [str(each) for each in fuse]).exit_code == 0
        data = coco.read(folder / "panoptic.json", folder)
        found[folder] = data.ids(data.annotations[0])
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert_same(found[again], data.ids(data.annotations[0]))
    assert (found[older] != found[again]).any()


def test_instances_have_scores_and_stuff_has_none(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And `deeperlab eval` does not mind."""
    monkeypatch.setattr(models, "from_pretrained", lambda _: Perfect("perfect"))
    scene = Perfect.scene
    Image.fromarray(picture(scene.instance.shape, 1)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert run(tmp_path / "a.png", "--model", model, "--out", out).exit_code == 0
    segments = Parser(Perfect("perfect"), LABELS)(picture(scene.instance.shape, 1)).segments
    (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
    told = [segment.get("score") for segment in annotation["segments_info"]]
    assert told == [None if s.score is None else round(s.score, 6) for s in segments]
    assert None in told
    assert len(set(told)) > 2
    truth = sample.from_maps(scene.category, scene.instance, LABELS)
    ids, listed = truth.to_coco(LABELS)
    coco.write(tmp_path / "gt.json", tmp_path / "gt", [(coco.Annotation("a", "a.png", listed), ids)], LABELS.categories)
    report = evaluate(tmp_path / "gt.json", tmp_path / "gt", out / "panoptic.json", out / "panoptic")
    assert report["pq"]["All"]["pq"] > 0.7


def test_a_photo_is_turned_upright_as_its_exif_says(model: Path, tmp_path: Path, assert_same: Any) -> None:
    upright = picture((33, 49), 5)
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2)}
    turned |= {6: np.rot90(upright), 7: np.rot90(upright[::-1]), 8: np.rot90(upright, -1)}
    (tmp_path / "photos").mkdir()
    for orientation, pixels in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "photos" / f"{orientation}o.png", exif=exif)
    Image.fromarray(upright).save(tmp_path / "photos" / "damaged.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    out = tmp_path / "out"
    assert run(tmp_path / "photos", "--model", model, "--out", out).exit_code == 0
    data = coco.read(out / "panoptic.json", out / "panoptic")
    assert len(data.annotations) == 9
    ids = Parser(Net("trained"), LABELS)(upright).to_coco()[0]
    for annotation in data.annotations:
        assert (annotation.height, annotation.width) == (33, 49)
        assert_same(data.ids(annotation), ids)
        assert photo.read_image((out / "overlay" / annotation.file_name).with_suffix(".jpg")).shape == (33, 49, 3)
        path = tmp_path / "photos" / annotation.file_name
        if annotation.file_name[0].isdigit():  # data sets label the pixels as they are stored
            assert_same(photo.read_image(path), np.ascontiguousarray(turned[int(annotation.file_name[0])]))


def test_a_photo_is_left_as_it_is_stored_if_asked(model: Path, tmp_path: Path, assert_same: Any) -> None:
    stored, exif = picture((33, 49), 5), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    out = tmp_path / "out"
    for options, size in (((), (49, 33)), (("--no-exif", "--overwrite"), (33, 49))):
        result = run(tmp_path / "a.png", "--model", model, "--out", out, *options)
        assert result.exit_code == 0, result.output
        data = coco.read(out / "panoptic.json", out / "panoptic")
        assert data.ids(data.annotations[0]).shape == size
    assert_same(data.ids(data.annotations[0]), Parser(Net("trained"), LABELS)(stored).to_coco()[0])
    assert "exif False, not True" in fault(tmp_path / "a.png", "--model", model, "--out", out)


def test_fusion_has_the_options_of_fuse(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "from_pretrained", lambda _: Perfect("perfect"))
    Image.fromarray(picture(Perfect.scene.instance.shape, 1)).save(tmp_path / "a.png")
    for options, instances in (((), 5), (("--max-instances", 1), 1), (("--max-candidates", 2), 2)):
        out = tmp_path / f"out{instances}"
        assert run(tmp_path / "a.png", "--model", model, "--out", out, *options).exit_code == 0
        (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
        found = sum("score" in segment for segment in annotation["segments_info"])
        assert found == instances
    monkeypatch.setattr(Perfect, "radius", 12.0)  # what a network was trained on is no option
    assert run(tmp_path / "a.png", "--model", model, "--out", tmp_path / "trained", "--paper").exit_code == 0
    assert json.loads((tmp_path / "trained/panoptic.json").read_text())["info"]["fusion"]["radius"] == 12


def test_broken_images_are_told_and_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:90])
    (photos / "c.jpg").write_bytes(b"no picture")
    (photos / "all.txt").write_text("a.png\nb.png\nc.jpg\nabsent.png\n000000000139.png\n")
    out = tmp_path / "out"
    for written in (2, 0):  # and they are no reason to do the others again
        result = run(photos / "all.txt", "--model", model, "--out", out, "--batch", 2)
        assert result.exit_code == 1, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 3
        assert lines[0] == f"deeperlab: {photos / 'absent.png'}: no such file or directory"
        assert lines[1].startswith(f"deeperlab: {photos / 'b.png'}: damaged PNG")
        assert (
            lines[2]
            == f"deeperlab: {photos / 'c.jpg'}: not an image of a known format (PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF)"
        )
        assert f"{written} images written" in result.stdout
        assert "3 skipped" in result.stdout
        assert {a.image_id for a in coco.read(out / "panoptic.json", out).annotations} == {"a", 139}


def test_large_photos_and_videos_are_refused_but_for_an_option_that_the_message_names(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    film, limit = write_video(tmp_path / "film.mp4", (34, 50)), Image.MAX_IMAGE_PIXELS
    arguments = (photos / "a.png", film, "--model", model, "--out", tmp_path / "out")
    result = run(*arguments, "--max-pixels", 33 * 49 - 1)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"deeperlab: {path}: too many pixels: {sides}, the most is 1616; --max-pixels {pixels} or max_pixels takes it"
        for path, sides, pixels in ((photos / "a.png", "49 × 33", 1617), (film, "50 × 34", 1700))
    ]
    assert run(*arguments, "--max-pixels", 1700).exit_code == 0
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_full_disk_ends_it(photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(png, "encode", full)
        assert fault(photos, "--model", model, "--out", tmp_path / "out").endswith(".png: no space left on device")
    assert result_files(tmp_path / "out") == set()


def test_what_all_heads_contradict_is_told_once(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = sys.modules["deeperlab.fuse"]
    monkeypatch.setattr(fuse, "contradiction", lambda *_, **__: "offsets: another order")
    monkeypatch.setattr(fuse, "_fusions", itertools.count())
    result = run(photos, "--model", model, "--out", tmp_path / "out")
    assert "4 images written" in result.stdout
    assert result.stderr == "deeperlab: warning: offsets: another order\n"


def test_untrained_weights_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, weights = tmp_path / "out", tmp_path / "best.safetensors"
    message = fault(photos, "--model", "net", "--out", out)
    assert message.startswith("--model: the weights of net are not trained; give --weights FILE, or --random-weights")
    assert not out.exists()
    result = run(photos, "--model", "net", "--out", out, "--random-weights")
    assert result.exit_code == 0, result.output
    assert result.stderr == "deeperlab: warning: random weights: the results mean nothing\n"
    info = json.loads((out / "panoptic.json").read_text())["info"]
    assert info["trained"] is False
    assert info["warning"] == "random weights: the results mean nothing"
    assert str(weights) in fault(photos, "--model", "net", "--out", tmp_path / "two", "--weights", weights)
    weights.write_bytes(b"")
    assert run(photos, "--model", "net", "--out", tmp_path / "two", "--weights", weights).exit_code == 0
    assert json.loads((tmp_path / "two" / "panoptic.json").read_text())["info"]["trained"] is True
    folder = tmp_path / "net"
    folder.mkdir()
    monkeypatch.setattr(models, "from_pretrained", lambda folder: Net(trained=False))
    assert "are not trained" in fault(photos, "--model", folder, "--out", tmp_path / "three")


def test_pictures_of_random_weights_say_so(photos: Path, model: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", (66, 130), frames=1)
    pictures = []
    for name, arguments in (("net", ("--model", "net", "--random-weights")), ("trained", ("--model", model))):
        out = tmp_path / name
        result = run(photos / "a.png", film, "--out", out, *arguments, "--overlay", "png")
        assert result.exit_code == 0, result.output
        (frame,) = video.frames(out / "overlay" / "film.mp4")
        pictures.append((np.asarray(Image.open(out / "overlay" / "a.png")), frame.pixels))
    plain = overlay(np.asarray(Image.open(photos / "a.png")), Parser(Net("trained"), LABELS)(
        Image.open(photos / "a.png")), LABELS)  # fmt: skip
    assert (pictures[1][0] == plain).all()
    for stamped, unstamped in zip(*pictures, strict=True):
        white = [(picture.min(axis=-1) > 200).mean() for picture in (stamped, unstamped)]
        assert white[0] > white[1] + 0.005


def test_faults_are_one_line(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "expected a folder, OWNER/NAME of the Hugging Face hub or one of photo16, net, other, got 'nets'" in fault(
        photos, "--model", "nets", "--out", out
    )
    assert "none.png: no such file" in fault(photos / "none.png", "--model", model, "--out", out)
    assert "labels: expected 19 classes" in fault(photos, "--model", model, "--out", out, labels="voc")
    assert "which has its own, got" in fault(photos, "--model", model, "--out", out, "--weights", photos / "a.png")
    both = ("--weights", photos / "a.png", "--random-weights")
    assert "expected no --weights" in fault(photos, "--model", "net", "--out", out, *both)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        reason = "is a file" if out.name == "file" else "not a directory"
        message = fault(photos, "--model", model, "--out", out)
        assert message == f"{out}: cannot be the folder of --out: {reason}"
    message = fault(photos, "--model", model, "--out", tmp_path / "out", labels="citiscapes")
    assert (
        message
        == "citiscapes: no such file of labels, and none of the presets coco, cityscapes, vistas, voc, ade20k, photo16"
    )


def test_all_that_is_missing_is_told_at_once(photos: Path) -> None:
    def told(*arguments: object) -> str:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", *map(str, arguments)])
        assert result.exit_code == 2
        return str(result.stderr)

    assert "Missing SOURCE...." in told("--half")
    assert "--labels: expected coco, " in told(photos, "--model", "net")


def test_a_network_may_come_from_the_hub(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(photos / "a.png", "--model", "owner/name", "--out", out).exit_code == 0
    assert json.loads((out / "panoptic.json").read_text())["info"]["model"]["name"] == "name"
    message = fault(photos, "--model", "owner/name", "--out", out, "--weights", photos / "a.png")
    assert message.startswith("--weights: expected none with a network of the hub, got ")


def test_devices_that_are_not_there_are_one_line(photos: Path, model: Path, tmp_path: Path) -> None:
    """All of torch's have names."""
    for device in ("mps", "xpu", "cuda:7", "hpu", "meta", "gpu"):
        arguments = (photos / "a.png", "--model", model, "--labels", "cityscapes", "--out", tmp_path / "out")
        result = CliRunner().invoke(app, ["predict", *map(str, arguments), "--device", device])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("deeperlab: device: expected one")
        assert result.stderr.count("\n") == 1


def test_help_teaches() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["predict", "--help"])
    assert result.exit_code == 0
    for words in (
        "deeperlab predict street.jpg --model runs/mine/best",
        "deeperlab eval",
        "--random-weights",
        "--max-instances",
        "--paper",
        "exit code is 1",
        "by default the model's own (image_size), 0: the image's",
    ):
        assert words in " ".join(result.stdout.replace("│", " ").split())


def test_a_name_that_is_too_long_for_results_is_a_fault_of_its_source(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    for length in (237, 238):
        (tmp_path / f"{'x' * length}.png").write_bytes((photos / "a.png").read_bytes())
        write_video(tmp_path / f"{'y' * length}.mp4")
    out = tmp_path / "out"
    names = [tmp_path / f"{letter * length}{suffix}" for letter, suffix in (("x", ".png"), ("y", ".mp4"))
             for length in (237, 238)]  # fmt: skip
    for _ in range(2):
        result = run(*names, "--model", model, "--out", out, "--heads")
        assert result.exit_code == 1
        told = "expected a name of at most 237 bytes before its suffix"
        assert result.stderr.splitlines() == [f"deeperlab: {names[i]}: {told}" for i in (1, 3)]
        assert {f"overlay/{names[0].stem}.jpg", f"overlay/{names[2].name}"} < result_files(out)
        assert not [name for name in result_files(out) if "x" * 238 in name or "y" * 238 in name]


def test_the_console_tells_images_from_frames(photos: Path, model: Path, tmp_path: Path) -> None:
    films = [write_video(tmp_path / "one.mp4"), write_video(tmp_path / "two.mp4", frames=3)]
    result = run(photos, *films, "--model", model, "--out", tmp_path / "out")
    assert result.stdout.startswith("4 images, 10 frames of 2 videos written, ")
    assert "6 finished already" in run(photos, *films, "--model", model, "--out", tmp_path / "out").stdout


def test_the_digest_tells_weights_apart() -> None:
    first = settings.digest(Net())
    assert first == settings.digest(Net())
    assert first == settings.digest(Net().to(memory_format=torch.channels_last))
    changed = Net()
    with torch.no_grad():
        changed.weight[0, 0] += 1e-6
    assert first != settings.digest(changed)
    assert first != settings.digest(Net().half())
