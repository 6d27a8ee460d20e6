# SPDX-License-Identifier: Apache-2.0
"""Files that would cost far more than their size: refused in one line, within bounds of memory and time."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from deeperlab.data import archive, fields, labels, network_folder
from deeperlab.data.formats import instances, matlab, scans, voc
from deeperlab.models import MAX_IMAGE_SIZE
from deeperlab.predictor import heads_file, onnx_network, sources, video

pytestmark = pytest.mark.slow

MEGABYTES, SECONDS = 256, 60
"""What a reader may take beside the code itself; the seconds leave room for a slow machine."""


SERVER = """
import os, resource, sys
from pathlib import Path
from deeperlab.data import archive, coco, labels, label_map
from deeperlab.data.formats.photo import read_image
from deeperlab.models import DeeperLab
from deeperlab.models.weights import is_marked_trained, match_tensors, read_tensors
from deeperlab.params import FuseParams
from deeperlab.predictor import find_sources, video
from deeperlab.predictor.heads_file import fuse_file
import safetensors.torch, torch
video.pyav()
for line in sys.stdin:
    folder, memory, code = eval(line)
    root = Path(folder)
    if child := os.fork():
        print("status", os.waitpid(child, 0)[1], flush=True)
        continue
    used = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + (memory << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        exec(code)
    except (ValueError, OSError) as fault:
        print(fault, flush=True)
    except BaseException as fault:
        print("not caught:", repr(fault), flush=True)
    os._exit(0)
"""
"""Runs lines of code, each in a process of its own that gets so much memory and time."""


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-W", "ignore", "-c", SERVER.replace("SECONDS", str(SECONDS))]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **options) as process:  # type: ignore[call-overload]
        yield process
        process.stdin.close()


Say = Callable[..., str]


@pytest.fixture
def fault(server: subprocess.Popen[str], tmp_path: Path) -> Say:
    """What a reader says that gets no more memory than so many megabytes beside its code."""

    def say(code: str, memory: int = MEGABYTES) -> str:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(repr((str(tmp_path), memory, code)) + "\n")
        server.stdin.flush()
        line = server.stdout.readline()
        assert line.startswith(str(tmp_path)), line
        assert server.stdout.readline() == "status 0\n"
        return line

    return say


def heads(images: int, nodes: int = 1) -> dict[str, np.ndarray]:
    channels = {"semantic": 19, "heatmap": 5, "short_range": 10, "middle_range": 16, "long_range": 10}
    return {name: np.zeros((images, c, nodes, nodes), np.float16) for name, c in channels.items()}


FUSE = "fuse_file(root / 'x.npz', (1,), root / 'out', size=None, params=FuseParams())"


@pytest.mark.parametrize(
    ("more", "images", "words"),
    [
        ({}, 5_000, "too many images: 5000, the most is 4096; split it"),
        ({"original": np.array([9000, 9000])}, 50, "too many pixels: 50 maps of 9000 × 9000, the most is 268435456"),
        (
            {"edges": np.zeros((1 << 22, 2), np.int8), "keypoints": np.array(["a"])},
            1,
            "edges: too large: 8,388,736 bytes",
        ),
        ({"keypoints": np.zeros(1 << 20, "V0")}, 1, "keypoints: expected numbers or text, got items of no bytes"),
    ],
)
def test_an_npz_asks_for_no_more_than_it_may(
    more: dict[str, np.ndarray], images: int, words: str, tmp_path: Path, fault: Say
) -> None:
    np.savez_compressed(tmp_path / "x.npz", **heads(images), **more)
    assert (tmp_path / "x.npz").stat().st_size < 50_000
    assert words in fault(FUSE)
    assert not (tmp_path / "out").exists()


def test_an_npz_is_packed_as_numpy_packs_it(tmp_path: Path, fault: Say) -> None:
    """In other ways, a kilobyte may hold a gigabyte."""
    plain = io.BytesIO()
    np.savez(plain, **heads(1))
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert "packed in a way that NumPy does not use" in fault(FUSE)


def test_what_an_npz_unpacks_to_is_known_before(tmp_path: Path, fault: Say) -> None:
    np.savez_compressed(tmp_path / "x.npz", **heads(1))
    data = (tmp_path / "x.npz").read_bytes()
    place = data.index(b"PK\x01\x02") + 24  # what the directory says of the first array
    (tmp_path / "x.npz").write_bytes(data[:place] + struct.pack("<I", 0xFFFFFFF0) + data[place + 4 :])
    assert "too large: unpacks to" in fault("archive.load(root / 'x.npz')")


@pytest.mark.parametrize("header", [(1 << 20, 19, 64, 64), (1 << 40, 1, 1, 1)])
def test_an_array_is_no_larger_than_its_bytes(header: tuple[int, ...], tmp_path: Path, fault: Say) -> None:
    arrays = heads(1)
    np.savez(tmp_path / "x.npz", **arrays)
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<f2", "fortran_order": False, "shape": header})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as target:
        for name in arrays:
            target.writestr(f"{name}.npy", claim.getvalue() + bytes(100))
    assert re.search("too large for the memory|damaged", fault("archive.load(root / 'x.npz')"))
    (tmp_path / "x.npz").rename(tmp_path / "x")
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<i4", "fortran_order": False, "shape": (9000, 9000)})
    (tmp_path / "x.npy").write_bytes(claim.getvalue() + bytes(100))
    code = "label_map.load(root / 'x.npy', labels.preset('voc'), 256)"
    assert "not a whole NumPy array" in fault(code)


MATCH = "match_tensors(root / 'x.pth', read_tensors(root / 'x.pth'), {'a': torch.zeros(3, 3, 7, 7)}, widen=True)"


@pytest.mark.parametrize("shape", [(1 << 20, 1 << 20), (1 << 20, 1 << 20, 3, 3), (3, 1 << 30, 3, 3)])
def test_a_view_of_one_number_claims_no_memory(shape: tuple[int, ...], tmp_path: Path, fault: Say) -> None:
    torch.save({"a": torch.zeros(1).expand(shape)}, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size < 5000
    assert f"a {list(shape)} instead of [3, 3, 7, 7]" in fault(MATCH)


def test_a_checkpoint_is_not_unpacked(tmp_path: Path, fault: Say) -> None:
    torch.save({"a": torch.zeros(1 << 24)}, tmp_path / "plain.pth")
    packed = zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as source, packed as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert "packed, which torch does not do" in fault("read_tensors(root / 'x.pth')", memory=32)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_whole_weights_for_which_there_is_no_memory_are_not_called_damaged(
    suffix: str, tmp_path: Path, fault: Say
) -> None:
    write = torch.save if suffix == ".pth" else save_file
    write({"a": torch.zeros(1 << 25)}, tmp_path / f"x{suffix}")
    assert fault(f"read_tensors(root / 'x{suffix}')", memory=32).endswith("too large for the memory\n")


def test_a_checkpoint_without_an_archive_that_claims_more_than_memory_is_told_so(tmp_path: Path, fault: Say) -> None:
    torch.save({"a": torch.zeros(77)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data.replace(b"KM", b"J\xff\xff\xff\x7f"))
    assert fault("read_tensors(root / 'x.pth')").endswith("too large for the memory\n")


@pytest.mark.parametrize("module", ["builtins", "__builtin__"])
def test_a_pickle_makes_no_memory_of_a_number(module: str, tmp_path: Path, fault: Say) -> None:
    """Of all that torch's restricted reader calls, a bytearray is filled with as many zeros as a number says."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pth")
    code = b"\x80\2c%b\nbytearray\nJ\xff\xff\xff\x7f\x85R." % module.encode()
    with zipfile.ZipFile(tmp_path / "plain.pth") as source, zipfile.ZipFile(tmp_path / "x.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, code if name.endswith("data.pkl") else source.read(name))
    assert "a pickle that asks for a bytearray" in fault("read_tensors(root / 'x.pth')", 32)
    (tmp_path / "x.pth").write_bytes(code)
    assert "a pickle that asks for a bytearray" in fault("read_tensors(root / 'x.pth')", 32)


def test_a_header_of_safetensors_claims_no_memory(tmp_path: Path, fault: Say) -> None:
    path = tmp_path / "x.safetensors"
    claim = {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    for data in (struct.pack("<Q", 1 << 60), struct.pack("<Q", len(json.dumps(claim))) + json.dumps(claim).encode()):
        path.write_bytes(data)
        for read in ("read_tensors", "is_marked_trained"):
            assert "damaged, or not safetensors" in fault(f"{read}(root / 'x.safetensors')")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"image_size": 1_000_000}, "image_size: expected at most 4096, got 1000000"),
        ({"decoder_channels": 1 << 40}, "model.safetensors: does not fit|config.json: "),
        ({"num_classes": 1 << 40}, "model.safetensors: does not fit|config.json: "),
        ({"semantic_channels": 10**18}, "model.safetensors: does not fit|config.json: "),
        ({"kernel_size": (1 << 40) + 1, "backbone": "mobilenet_v2"}, "model.safetensors: does not fit|config.json: "),
        ({"graph": {"keypoints": ["a"] * 100_000, "edges": []}}, "config.json: "),
    ],
)
def test_a_config_asks_for_no_more_memory_than_the_weights_have(
    option: dict[str, object], words: str, tmp_path: Path, fault: Say
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_classes": 3} | option))
    assert re.search(words, fault("DeeperLab.from_pretrained(root)"))


def jpeg(more_scans: int, **options: object) -> bytes:
    """A gray picture whose last scan comes again and again: a decoder goes over all pixels for each."""
    file = io.BytesIO()
    Image.new("RGB", (1000, 1000), (90, 120, 60)).save(file, "JPEG", **options)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more_scans + data[-2:]


def test_a_jpeg_of_many_scans_is_refused(tmp_path: Path, fault: Say) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(50_000, progressive=True))
    assert f"a JPEG of more than {scans.MAX_SCANS} scans" in fault("read_image(root / 'x.jpg')")


def test_scans_are_counted_where_they_are(tmp_path: Path, fault: Say) -> None:
    from deeperlab.data.formats.photo import read_image

    thumbnails = b"Exif\0\0" + b"\xff\xda" * 5000
    trailer = b"\xff\xda\0\2" * 5000  # a film behind the picture, as phones add it
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        data = jpeg(30 if options.get("progressive") else 0, exif=thumbnails, **options)
        (tmp_path / "x.jpg").write_bytes(data + trailer)
        assert read_image(tmp_path / "x.jpg").shape == (1000, 1000, 3)


@pytest.mark.parametrize("block", [4, 5, 7, 64, 1 << 20])
def test_scans_are_counted_whatever_is_read_at_a_time(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "_BLOCK", block)
    data = (
        b"\xff\xd8\xff\xe1\0\5\xff\xda\xff\xff\xff\xff\xda\0\3\1\xff\0\xff\xd0\x33\xff\xda\0\2\x11\xff\xd9\xff\xda\0\2"
    )
    assert list(scans._kinds(io.BytesIO(data))) == [0xE1, 0xDA, 0xDA]
    for length in range(len(data)):
        assert len(list(scans._kinds(io.BytesIO(data[:length])))) <= 3


def test_numbers_that_python_takes_for_alike_are_refused(tmp_path: Path, fault: Say) -> None:
    """A table of numbers that differ by multiples of 2^61 − 1 takes the square of their count."""
    images = [{"id": i * ((1 << 61) - 1)} for i in range(300_000)]
    (tmp_path / "x.json").write_text(
        json.dumps({"images": images, "annotations": [], "categories": [{"id": 1, "name": "a", "isthing": 1}]})
    )
    assert "images[5]: id: expected 64 bits" in fault("coco.read(root / 'x.json', root)")
    classes = [{"id": i * ((1 << 61) - 1), "name": str(i), "thing": True} for i in range(100_000)]
    (tmp_path / "x.json").write_text(json.dumps({"classes": classes}))
    assert "classes[5]: id: expected 64 bits" in fault("labels.read(root / 'x.json')")
    (tmp_path / "x.json").write_text(json.dumps({"classes": classes[:1], "void": [c["id"] for c in classes]}))
    assert "ids: expected 32 bits" in fault("labels.read(root / 'x.json')")


def test_a_list_may_name_a_folder_any_number_of_times(tmp_path: Path, fault: Say) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(200):
        (tmp_path / "photos" / f"{i}.png").touch()
    (tmp_path / "x.txt").write_text("photos\n" * 20_000 + "x.txt\n" * 1000 + "none\n")
    code = "found = find_sources([root / 'x.txt'], root / 'out'); print(root, len(found.sources))"
    assert fault(code).endswith(" 201\n")


def test_the_bounds_that_the_documents_tell() -> None:
    text = (Path(__file__).parents[1] / "SECURITY.md").read_text()
    for told in (
        f"{Image.MAX_IMAGE_PIXELS:,} px",
        f"a JPEG {scans.MAX_SCANS} scans",
        f"{fields.MAX_BYTES >> 30} GiB of annotations, {labels.MAX_BYTES >> 20} MiB of labels",
        f"{network_folder.MAX_CONFIG_BYTES >> 20} MiB of a network's config",
        f"model.onnx, of at most {onnx_network.MAX_GRAPH_BYTES >> 20} MiB",
        f"{fields.MAX_TOML_BYTES >> 20} MiB, {fields.MAX_DOTS} dots in a line",
        f"{sources.MAX_LIST_BYTES >> 20} MiB of sources, {voc.MAX_BYTES >> 20} MiB of names",
        f"at most {sources.MOST_FOLDERS} folders below",
        f"{archive.MAX_BYTES >> 30} GiB unpacked, {heads_file.MAX_IMAGES:,} images, {heads_file.MAX_PIXELS:,} px",
        f"images of up to {MAX_IMAGE_SIZE} px",
        f"{fields.MAX_LINE_BYTES >> 20} MiB a line",
        f"{matlab.MAX_BYTES >> 20} MiB; a variable unpacks to {matlab.MAX_UNPACKED >> 20} MiB",
        f"within {instances.MAX_COORDINATE:,} px, {instances.MAX_CONTOUR:,} px around",
    ):
        assert told in text, told
    assert video.LONGEST == 3600
