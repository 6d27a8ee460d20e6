# SPDX-License-Identifier: Apache-2.0
"""Files that are broken or made to harm: one line with the name of the file, never another error, never a wait."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import socket
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, PngImagePlugin
from safetensors.torch import save_file
from scipy.io import savemat

from deeperlab.data import archive, labels
from deeperlab.data.files import FormatError, inside, list_files, replace
from deeperlab.data.formats import (
    ade20k,
    cityscapes,
    coco,
    instances,
    label_map,
    pairs,
    photo,
    png,
    sbd,
    segments,
    two_channel,
    vistas,
    voc,
)
from deeperlab.data.labels import LabelSet
from deeperlab.models import DeeperLab
from deeperlab.models.weights import is_marked_trained, match_tensors, read_tensors
from deeperlab.predictor import find_sources, video
from deeperlab.predictor.results import Results

pytestmark = pytest.mark.slow

SMALL = LabelSet("small", ("road", "car"), (False, True), ((0, 0, 0),) * 2, (7, 26), (0,))
CLASSES = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


def _save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values, mode)
    if mode == "P":
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)
    return path


def instance_ids(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = root / "gtFine" / "val" / "a" / "a_0_0_gtFine_instanceIds.png"
    _save(path, np.array([[7, 24001], [26, 26000]], np.uint16))
    return [path], lambda **how: cityscapes.samples(root, "val", **how)


def train_ids(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = _save(root / "gtFine" / "val" / "a" / "a_0_0_gtFine_labelTrainIds.png", CLASSES)
    return [path], lambda **how: cityscapes.samples(root, "val", source="labelTrainIds", **how)


def vistas_instances(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = _save(root / "training" / "v1.2" / "instances" / "a.png", CLASSES.astype(np.uint16) * 256)
    config = root / "config_v1.2.json"
    entry = '{"name": "a", "readable": "a%d", "color": [1, 2, 3], "instances": true, "evaluate": true}'
    config.write_text('{"labels": [' + ",".join(entry % i for i in range(2)) + "]}")
    return [path, config], lambda **how: vistas.samples(root, "training", **how)


def vistas_labels(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = _save(root / "training" / "v1.2" / "labels" / "a.png", CLASSES, "P")
    return [path], lambda **how: vistas.samples(root, "training", source="labels", **how)


def voc_objects(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    names = root / "ImageSets" / "Segmentation" / "val.txt"
    names.parent.mkdir(parents=True)
    names.write_text("a\n")
    paths = [_save(root / f"Segmentation{kind}" / "a.png", CLASSES, "P") for kind in ("Class", "Object")]
    return [*paths, names], lambda **how: voc.samples(root, "val", **how)


def two_channels(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = _save(root / "two" / "a.png", np.stack([CLASSES * 26, CLASSES, CLASSES * 0], axis=-1))
    return [path], lambda **how: two_channel.samples(root / "two", SMALL, **how)


def label_maps(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    (root / "maps").mkdir(parents=True)
    np.save(root / "maps" / "a.npy", CLASSES.astype(np.int32) * 256)
    return [root / "maps" / "a.npy"], lambda **how: label_map.samples(root / "maps", SMALL, divisor=256, **how)


def panoptic(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    annotation = coco.Annotation(1, "a.png", (coco.SegmentInfo(1, 26),))
    coco.write(root / "x.json", root / "x", [(annotation, CLASSES)], SMALL.categories)
    return [root / "x.json", root / "x" / "a.png"], lambda **how: segments.samples(
        root / "x.json", root / "x", labels=SMALL, **how
    )


def instances_file(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = root / "x.json"
    image = {"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}
    masks = [[[1, 1, 7, 1, 7.5, 7]], {"size": [9, 9], "counts": [9, 5, 67]}, {"size": [9, 9], "counts": "m027000i0"}]
    listed = [{"id": i, "image_id": 1, "category_id": 1, "segmentation": m} for i, m in enumerate(masks)]
    path.write_text(json.dumps({"images": [image], "annotations": listed, "categories": [{"id": 1, "name": "a"}]}))
    return [path], lambda **how: instances.samples(path, **how)


def ade20k_challenge(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    paths = [_save(root / "annotations_instance" / "a.png", np.stack([CLASSES] * 3, axis=-1))]
    paths.append(_save(root / "annotations" / "a.png", CLASSES))
    return paths, lambda **how: ade20k.samples(root, "", **how)


def ade20k_full(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    paths = [_save(root / "full" / "a_seg.png", np.stack([CLASSES * 10] * 3, axis=-1)), root / "full" / "a.json"]
    paths[1].write_text('{"annotation": {"object": [{"name": "wall", "name_ndx": 257}]}}')
    return paths, lambda **how: ade20k.full(root / "full", **how)


def sbd_objects(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = root / "x.mat"
    savemat(path, {"GTinst": {"Segmentation": CLASSES, "Categories": np.array([[15]], np.uint8)}})
    return [path], lambda: [sbd.load(path, labels.preset("voc"))]


def pairs_of_files(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    (root / "pairs").mkdir(parents=True)
    coco.write_ids(root / "pairs" / "a.png", CLASSES)
    (root / "pairs" / "a.json").write_text('{"segments_info": [{"id": 1, "category_id": 26, "iscrowd": 0}]}')
    paths = [root / "pairs" / "a.png", root / "pairs" / "a.json"]
    return paths, lambda **how: pairs.samples(root / "pairs", SMALL, **how)


def label_file(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    path = root / "x.json"
    path.write_text(
        '{"name": "x", "void": [0], "classes": [{"id": 1, "name": "a", "thing": true, "color": [1, 2, 3]}]}'
    )
    return [path], lambda: [labels.read(path)]


def photographs(root: Path) -> tuple[list[Path], Callable[..., Iterable[object]]]:
    rng = np.random.default_rng(0)
    paths = [
        _save(root / f"a.{kind}", rng.integers(0, 256, (9, 8, 3), np.uint8))
        for kind in ("jpg", "png", "webp", "tif", "gif", "bmp")
    ]

    def read() -> list[object]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", photo.PicturesWarning)  # a byte may make a file one of several pictures
            return [photo.read_image(path) for path in paths]

    return paths, read


def npz_of_heads(root: Path) -> tuple[list[Path], Callable[[], Iterable[object]]]:
    shapes = {"semantic": 2, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}
    np.savez(
        root / "x.npz", **{name: np.ones((c, 2, 2), np.float16) for name, c in shapes.items()}, size=np.array([5, 5])
    )
    return [root / "x.npz"], lambda: [archive.load(root / "x.npz"), archive.sizes(root / "x.npz")]


def weights(root: Path) -> tuple[list[Path], Callable[[], Iterable[object]]]:
    tensors = {"a": torch.ones(3, 2), "b": torch.ones(4)}
    paths = [root / "x.pth", root / "x.safetensors"]
    torch.save(tensors, paths[0])
    save_file(tensors, paths[1], {"trained": "true"})
    return paths, lambda: [match_tensors(path, read_tensors(path), tensors) for path in paths]


READERS = (
    instance_ids, train_ids, vistas_instances, vistas_labels, voc_objects, two_channels, label_maps, panoptic,
    ade20k_challenge, ade20k_full, pairs_of_files, instances_file, sbd_objects,
    label_file, photographs, npz_of_heads, weights,
)  # fmt: skip
every_reader = pytest.mark.parametrize("make", READERS, ids=lambda make: make.__name__)


@every_reader
def test_no_damage_of_bytes_raises_anything_else(make: Callable[..., object], tmp_path: Path) -> None:
    paths, read = make(tmp_path)  # type: ignore[misc]
    assert list(read())
    rng = np.random.default_rng(0)
    faults = 0
    for path in paths:
        whole = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(rng.integers(1, 4)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                list(read())
            except FormatError as fault:
                faults += 1
                assert str(tmp_path) in str(fault)  # noqa: PT017
                assert "\n" not in str(fault)  # noqa: PT017
            except FileNotFoundError:  # a name in a list has changed
                assert path.suffix in (".txt", ".json")
        path.write_bytes(whole)
    assert faults > 50


@every_reader
def test_a_file_cut_short_anywhere_is_named(make: Callable[..., object], tmp_path: Path) -> None:
    paths, read = make(tmp_path)  # type: ignore[misc]
    for path in paths:
        if path.suffix in (".txt", ".jpg"):  # a JPEG may lack its last bytes
            continue
        whole = path.read_bytes()
        end = 24 if path.suffix == ".png" else 2  # the checksums and IEND: without them all pixels are there
        for length in range(0, len(whole) - end, 7):
            path.write_bytes(whole[:length])
            with pytest.raises(FormatError, match=str(path)):
                list(read())
        path.write_bytes(whole)


@pytest.mark.parametrize("make", READERS[:-6], ids=lambda make: make.__name__)  # of the rest the caller names the file
def test_a_symbolic_link_out_of_the_folder_is_followed_if_asked(make: Callable[..., object], tmp_path: Path) -> None:
    """As in the cache of the Hugging Face hub, where all files are links to ../../blobs."""
    (tmp_path / "in").mkdir()
    paths, read = make(tmp_path / "in")  # type: ignore[misc]
    path = paths[-1] if make is panoptic else paths[0]
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(
        FormatError,
        match=r"a symbolic link that leaves the folder .*; to read it, follow_links=True or",
    ):
        list(read())
    assert list(read(follow_links=True))
    path.unlink()
    path.symlink_to(path.name)
    for follow_links in (False, True):
        with pytest.raises((FormatError, OSError)):
            list(read(follow_links=follow_links))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a pointer of Git LFS: fetch the file"),
        ("/annex/objects/SHA256E-s9--ab.png\n", "a pointer of git-annex: fetch the file with git annex get"),
        ("../blobs/cafe", "a link that was copied as text: copy ../blobs/cafe to its place"),
        ("../blobs/none", ""),
    ],
)
def test_a_file_that_stands_for_another_is_told(content: str, words: str, tmp_path: Path) -> None:
    for folder in ("blobs", "set"):
        (tmp_path / folder).mkdir()
    (tmp_path / "blobs" / "cafe").write_text("{}")
    path = tmp_path / "set" / "x"
    path.write_text(content)
    for read, fault in (
        (png.read_ids, "not a PNG"),
        (photo.read_image, "not an image of a known format"),
        (labels.read, "not JSON"),
    ):
        with pytest.raises(FormatError, match=fault) as caught:
            read(path)
        assert (f"; it is {words}" in str(caught.value)) if words else "; it is" not in str(caught.value)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    instance_ids(tmp_path / "real")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "gtFine").symlink_to(tmp_path / "real" / "gtFine")
    assert len(cityscapes.samples(tmp_path / "root", "val")[0].categories) == 2


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../x", "/etc/passwd", "", "a/../../x", "a\0b"):
        with pytest.raises(FormatError, match="expected a name inside the folder"):
            inside(tmp_path, name)
    (tmp_path / "out").symlink_to("/")
    with pytest.raises(FormatError, match="leaves the folder"):
        inside(tmp_path, "out/etc/hostname")
    (tmp_path / "here").symlink_to(".")
    assert inside(tmp_path, "here/x").name == "x"
    annotation = coco.Annotation(1, "out/x.png", ())
    with pytest.raises(FormatError, match="leaves the folder"):  # nor are files written there
        coco.write(tmp_path / "x.json", tmp_path, [(annotation, CLASSES * 0)], SMALL.categories)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int, color: int = 2, depth: int = 8, *extra: bytes) -> bytes:
    """A PNG that claims a size, with hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(extra) + _chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(("width", "height"), [(1 << 31 - 1, 1 << 31 - 1), (100_000, 100_000), (9460, 9460)])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bomb(width, height))
    for read in (png.read_ids, photo.read_image):
        with pytest.raises(FormatError, match=f"too many pixels: {width} × {height}, the most is 89478485"):
            read(path)


def test_max_pixels_goes_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    coco.write_ids(path, np.ones((4, 5), int))
    with pytest.raises(FormatError, match="too many pixels: 5 × 4, the most is 19"):
        png.read_ids(path, max_pixels=19)
    with pytest.raises(FormatError, match="too many pixels"):
        photo.read_image(path, max_pixels=19)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)  # Pillow itself would refuse
    assert png.read_ids(path, max_pixels=20).shape == (4, 5)
    assert photo.read_image(path, max_pixels=20).shape == (4, 5, 3)
    Image.new("RGB", (5, 4)).save(tmp_path / "x.jpg")
    with pytest.raises(FormatError, match="too many pixels: 5 × 4, the most is 3"):
        photo.read_image(tmp_path / "x.jpg")


def test_every_reader_has_max_pixels(tmp_path: Path) -> None:
    for make in (instance_ids, vistas_instances, voc_objects, two_channels, label_maps, panoptic):
        make(tmp_path / make.__name__)
    root = tmp_path
    for samples in (
        cityscapes.samples(root / "instance_ids", "val", max_pixels=1),
        vistas.samples(root / "vistas_instances", "training", max_pixels=1),
        voc.samples(root / "voc_objects", "val", max_pixels=1),
        two_channel.samples(root / "two_channels" / "two", SMALL, max_pixels=1),
        label_map.samples(root / "label_maps" / "maps", SMALL, divisor=256, max_pixels=1),
        segments.samples(root / "panoptic" / "x.json", root / "panoptic" / "x", max_pixels=1),
    ):
        with pytest.raises(FormatError, match="too many pixels"):
            samples[0]


@pytest.mark.parametrize("read", [png.read_ids, photo.read_image])
def test_text_that_unpacks_to_a_bomb_is_not_unpacked(tmp_path: Path, read: Callable[[Path], np.ndarray]) -> None:
    text = b"a\0\0" + zlib.compress(b"\0" * (1 << 27))
    path = tmp_path / "x.png"
    path.write_bytes(bomb(3, 3, 2, 8, _chunk(b"zTXt", text)))
    tracemalloc.start()
    try:
        assert not read(path).any()
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("color", "depth"), [(0, 8), (0, 1), (2, 16), (3, 8), (4, 8), (6, 8), (5, 8), (0, 16)])
def test_another_mode_is_refused_before_it_is_decoded(tmp_path: Path, color: int, depth: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bomb(3, 3, color, depth))
    with pytest.raises(FormatError, match=f"expected a PNG of 24-bit RGB, got mode .*, {depth} bits"):
        png.read_ids(path)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "EPS", "PDF", "TGA", "JPEG2000"])
def test_formats_that_are_not_on_the_list_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (16, 16)).save(path, format=kind)
    with pytest.raises(FormatError, match="not an image of a known format"):
        photo.read_image(path)
    with pytest.raises(FormatError, match="not a PNG"):
        png.read_ids(path)


def test_photographs_of_any_mode_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "1", "LA", "RGBA", "RGB"):
        Image.new(mode, (3, 2)).save(tmp_path / "x.png")
        assert photo.read_image(tmp_path / "x.png").shape == (2, 3, 3)
    for mode in ("L", "CMYK", "RGB"):
        Image.new(mode, (3, 2)).save(tmp_path / "x.jpg")
        assert photo.read_image(tmp_path / "x.jpg").shape == (2, 3, 3)
    for color in (0, 2, 6):
        (tmp_path / "x.png").write_bytes(bomb(3, 2, color, 16))
        with pytest.raises(FormatError, match="8 bits, got 16"):
            photo.read_image(tmp_path / "x.png")


def test_a_picture_without_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bomb(0, 3))
    with pytest.raises(FormatError, match="no pixels: 0 × 3"):
        png.read_ids(path)
    with pytest.raises(ValueError, match="expected at least one pixel"):
        png.write_ids(path, np.zeros((0, 3), int))


SETTINGS = {"overlay": "none"}
DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "labels": ("x", lambda root: labels.find(root / "x")),
    "labels in TOML": ("x.toml", lambda root: labels.read(root / "x.toml")),
    "categories": ("x", lambda root: coco.read_categories(root / "x")),
    "panoptic": ("x", lambda root: coco.read(root / "x", root)),
    "labels of Vistas": ("config_v1.2.json", lambda root: vistas.samples(root, "training")),
    "list of VOC": ("ImageSets/Segmentation/val.txt", lambda root: voc.samples(root, "val")),
    "ids": ("x", lambda root: png.read_ids(root / "x")),
    "photograph": ("x", lambda root: photo.read_image(root / "x")),
    "label map": ("x.npy", lambda root: label_map.samples(root, SMALL, divisor=256)[0]),
    "two channels": ("x.png", lambda root: two_channel.samples(root, SMALL)[0]),
    "heads": ("x", lambda root: archive.load(root / "x")),
    "image ids": ("x", lambda root: archive.image_ids(root / "x", 1)),
    "sizes": ("x", lambda root: archive.sizes(root / "x")),
    "list of paths": ("x.txt", lambda root: _skipped(root / "x.txt")),
    "paths in a list": ("x.png", lambda root: _skipped(_list_of(root / "x.png"))),
    "video": ("x.mp4", lambda root: list(video.frames(root / "x.mp4"))),
    "frames of a video": ("x.mp4", lambda root: video.count(root / "x.mp4")),
    "safetensors": ("x.safetensors", lambda root: read_tensors(root / "x.safetensors")),
    "checkpoint": ("x.pth", lambda root: read_tensors(root / "x.pth")),
    "mark of weights": ("x.safetensors", lambda root: is_marked_trained(root / "x.safetensors")),
    "network": ("config.json", lambda root: DeeperLab.from_pretrained(_beside(root / "config.json"))),
    "record": (".deeperlab/x.jsonl", lambda root: Results(root, SETTINGS, (), overwrite=False)),
    "settings": (".deeperlab/settings.json", lambda root: Results(root, SETTINGS, (), overwrite=False)),
    "announced": (".deeperlab/announced.json", lambda root: Results(root, SETTINGS, (), overwrite=False)),
}
"""Everything that reads files, with the name of the file below a folder."""
every_door = pytest.mark.parametrize("door", DOORS)


def _skipped(path: Path) -> None:
    """What `deeperlab predict` does with a source: it names what it cannot read."""
    found = find_sources([path], path.parent / "out").sources
    for source in found:
        photo.read_image(source.path)


def _list_of(path: Path) -> Path:
    (path.parent / "x.txt").write_text(path.name)
    return path.parent / "x.txt"


def _beside(config: Path) -> Path:
    """The folder of a network that has weights."""
    save_file({"x": torch.zeros(1)}, config.with_name("model.safetensors"))
    return config.parent


@contextlib.contextmanager
def one_line_naming(root: Path) -> Iterator[None]:
    with pytest.raises((FormatError, OSError)) as fault:
        yield
    assert str(root) in str(fault.value)
    assert "\n" not in str(fault.value)


@every_door
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "circle", "nothing"])
def test_what_is_no_regular_file_is_named_and_not_waited_for(door: str, kind: str, tmp_path: Path) -> None:
    name, read = DOORS[door]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path.name)
    if kind == "nothing" and door in ("settings", "announced", "record", "labels of Vistas"):
        return  # it need not be there
    with one_line_naming(tmp_path):
        read(tmp_path)


CONTENTS = {
    "nothing": b"",
    "zeros": bytes(5000),
    "no text": b"\xff\xfe\xff",
    "text": b"x" * (1 << 20),
    "lists in lists": b"[" * (1 << 20),
    "objects in objects": b'{"classes":' * 100_000,
    "whole lists in lists": b"[" * 900 + b"]" * 900,
    "digits": b"9" * 5000,
    "no number": b'[NaN, Infinity, {"id": -Infinity}]',
    "too large a number": b'{"classes": [{"id": 1e999, "name": "a", "thing": 1e999}], "kinds": 1e999}',
    "null": b"null",
    "a list": b"[[], {}, null, 3]",
    "an object": b'{"classes": 3, "images": {}, "annotations": null, "kinds": [[]], "image": [], "num_classes": {}}',
    "a zero in a name": b"a\0b\n",
    "keys in keys": b"a." * 500_000 + b"a = 1",
    "tables in tables": b"[" + b"a." * 500_000 + b"a]\n" + b"b = 1\n" * 1000,
    "a pickle": pickle.dumps([print]),
}


@every_door
@pytest.mark.parametrize("content", CONTENTS)
def test_whatever_is_in_a_file_a_fault_is_one_line(door: str, content: str, tmp_path: Path) -> None:
    name, read = DOORS[door]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENTS[content])
    if door in ("list of paths", "list of VOC", "settings", "announced"):  # some of these are such a file
        with contextlib.suppress(FormatError, OSError):
            read(tmp_path)
        return
    with one_line_naming(tmp_path):
        read(tmp_path)


RECORD: dict[str, Any] = {
    "kinds": ["overlay", "panoptic"],
    "image": {"file_name": "a.png", "source": {"path": "a.png", "bytes": 1, "modified": 2}},
}
VIDEO: dict[str, Any] = {
    "kinds": ["overlay"],
    "video": {"file_name": "a.mp4", "source": {"path": "a.mp4", "bytes": 1, "modified": 2}, "frames": 3},
}


@pytest.mark.parametrize(
    "record",
    [
        RECORD | {"kinds": "overlay"},
        RECORD | {"kinds": ["../../etc"]},
        RECORD | {"kinds": [{}]},
        RECORD | {"image": {}},
        RECORD | {"image": RECORD["image"] | {"file_name": "../a.png"}},
        RECORD | {"image": RECORD["image"] | {"file_name": 3}},
        RECORD | {"image": RECORD["image"] | {"source": {"path": 3}}},
        RECORD | {"image": RECORD["image"] | {"source": {"path": "a.png", "bytes": "1", "modified": 2}}},
        VIDEO | {"video": VIDEO["video"] | {"frames": 10**15}},
        VIDEO | {"video": VIDEO["video"] | {"frames": -1}},
        VIDEO | {"video": VIDEO["video"] | {"frames": "3"}},
        VIDEO | {"video": None},
    ],
)
def test_a_record_that_says_anything_else_is_damaged(record: dict[str, Any], tmp_path: Path) -> None:
    key = ("video" in record, "a")
    path = tmp_path / ".deeperlab" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.jsonl"
    path.parent.mkdir()
    path.with_name("settings.json").write_text(json.dumps(SETTINGS))
    path.write_text(json.dumps(VIDEO if "video" in record else RECORD))
    Results(tmp_path, SETTINGS, ("panoptic",), overwrite=False)
    path.write_text(json.dumps(record))
    with one_line_naming(tmp_path):
        Results(tmp_path, SETTINGS, (), overwrite=False)


def test_a_regular_file_may_come_through_a_link_of_the_system(tmp_path: Path) -> None:
    label_file(tmp_path)
    with (tmp_path / "x.json").open("rb") as file:  # as of `deeperlab … /dev/stdin < x.json`
        assert labels.read(f"/dev/fd/{file.fileno()}").names == ("a",)


def test_json_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 1)  # sparse
    with pytest.raises(FormatError, match="too large: 2,147,483,649 bytes of JSON, the most is 2,147,483,648"):
        coco.read(path, tmp_path)
    path.write_text('{"images": [], "annotations": [], "categories": [{"id": ' + "9" * 5000)
    with pytest.raises(FormatError, match="not JSON"):
        coco.read(path, tmp_path)
    path.write_text('{"images": [], "annotations": [], "categories": [{"id": 4294967296, "name": "a", "isthing": 0}]}')
    with pytest.raises(FormatError, match=r"categories\[0\]: id: expected 32 bits"):
        coco.read(path, tmp_path)


def test_a_folder_that_cannot_be_written_is_named_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    annotation = coco.Annotation(1, "a.png", (coco.SegmentInfo(1, 26),))
    with pytest.raises(OSError, match="file"):
        coco.write(tmp_path / "x.json", tmp_path / "file" / "x", [(annotation, CLASSES)], SMALL.categories)
    with pytest.raises(NotADirectoryError) as fault:
        replace(tmp_path / "file" / "x.json", lambda file: file.write(b"x"))
    assert fault.value.filename == str(tmp_path / "file" / "x.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError) as fault:
        png.write_ids(tmp_path / "x.png", CLASSES)
    assert fault.value.filename == str(tmp_path / "x.png")


def test_a_write_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def save(file: io.IOBase) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as fault:
        replace(path, save)  # type: ignore[arg-type]
    assert fault.value.filename == str(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "x").symlink_to(tmp_path / "target")
    replace(tmp_path / "x", lambda file: file.write(b"new"))
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_listings_are_sorted_and_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no file \*\.png; expected pictures"):
        list_files(tmp_path, "*.png", "pictures")
    for name in ("b.png", "a.png", ".a.png.12.tmp", ".hidden.png", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_files(tmp_path, "*.png", "pictures")] == ["a.png", "b.png"]
    with pytest.raises(FileNotFoundError, match="none"):
        list_files(tmp_path / "none", "*.png", "pictures")
    with pytest.raises(NotADirectoryError, match=r"a\.png"):
        list_files(tmp_path / "a.png", "*.png", "pictures")


@pytest.mark.parametrize("damage", ["cut", "wrong bytes"])
def test_a_damaged_map_is_refused_though_pillow_is_told_to_fill_it_up(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    png.write_ids(path, np.random.default_rng(0).integers(1, 1 << 24, (40, 30)))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(path) as image:
        image.convert("RGB").save(tmp_path / "whole.png", dpi=(2, 2), pnginfo=_private())
    assert (png.read_ids(tmp_path / "whole.png") == png.read_ids(path)).all()  # by Pillow, as it has another chunk
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data[:500] + b"no" + data[502:])
    with pytest.raises(FormatError, match="damaged PNG: cut short, or with wrong bytes"):
        png.read_ids(path)


def _private() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add(b"prIv", b"x")
    return info
