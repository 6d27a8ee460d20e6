# SPDX-License-Identifier: Apache-2.0
"""Zip and tar files are read as folders, without being unpacked; a fault names file and member."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeperlab.data import coco, containers, label_map, segments
from deeperlab.data.fields import Field
from deeperlab.data.files import FormatError, inside, list_files, open_file, read_bytes
from deeperlab.data.labels import LabelSet
from deeperlab.data.sample import Samples, from_maps

FARM = LabelSet("farm", ("cow", "meadow"), (True, False), ((0, 0, 0),) * 2, (1, 2), (0,))
IDS = np.array([[1, 1, 2], [0, 2, 2]])


def pack_zip(folder: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def pack_stored(folder: Path, path: Path) -> Path:
    return pack_zip(folder, path, zipfile.ZIP_STORED)


def pack_tar(folder: Path, path: Path, prefix: str = ".") -> Path:
    path = path.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, prefix)
    return path


every_packer = pytest.mark.parametrize("pack", [pack_zip, pack_stored, pack_tar])
Pack = Callable[[Path, Path], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of one image, and a file with 5 MB of text."""
    root = tmp_path / "folder"
    annotation = coco.Annotation(7, "7.png", coco.describe(IDS, {1: 1, 2: 2}), "7.jpg")
    coco.write(root / "panoptic_train.json", root / "panoptic_train", [(annotation, IDS)], FARM.categories)
    (root / "train").mkdir()
    Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3)).save(root / "train" / "7.jpg", quality=100)
    (root / "text.json").write_text(json.dumps(["word"] * 600_000))
    (root / ".hidden.png").touch()
    return root


def read(root: Path) -> Samples:
    return segments.samples(root / "panoptic_train.json", root / "panoptic_train", images=root / "train")


@every_packer
def test_a_member_is_read_like_a_file(pack: Pack, folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, tmp_path / "x.zip")
    (one,), (other,) = read(folder), pickle.loads(pickle.dumps(read(archive)))
    np.testing.assert_array_equal(one.category, other.category)
    np.testing.assert_array_equal(one.image(), other.image())
    assert other.image_path == archive / "train" / "7.jpg"
    assert len(Field.load(archive / "text.json").value) == 600_000
    with open_file(archive / "text.json") as file, (folder / "text.json").open("rb") as plain:
        for place, whence in ((100, 0), (50_000, 1), (3, 0), (-20, 2)):
            assert file.seek(place, whence) == plain.seek(place, whence)
            assert file.read(17) == plain.read(17)
        assert file.read() == plain.read()
        assert file.read() == b""


@every_packer
def test_a_file_is_a_folder_of_its_members(pack: Pack, folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, tmp_path / "x.zip")
    assert [containers.is_dir(archive / name) for name in ("", "train", "train/7.jpg", "trai", "none")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert [containers.exists(archive / name) for name in ("", "train", "train/7.jpg", "none")] == [
        True, True, True, False,
    ]  # fmt: skip
    for pattern in ("*.json", "*/*.png", "train/*", "*", "*.gif"):
        assert [path.relative_to(archive) for path in containers.matching(archive, pattern)] == [
            path.relative_to(folder) for path in containers.matching(folder, pattern)
        ]
    assert list_files(archive / "train", "*.jpg", "photographs") == [archive / "train" / "7.jpg"]
    with pytest.raises(FormatError, match=r"no file \*\.gif; expected"):
        list_files(archive, "*.gif", "pictures")
    assert inside(archive, "train/7.jpg", follow_links=False) == archive / "train" / "7.jpg"
    for name in ("../x", "/etc/passwd"):
        with pytest.raises(FormatError, match="inside the folder"):
            inside(archive, name)


@every_packer
def test_what_is_not_there_is_an_error_of_the_system_with_both_names(pack: Pack, folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, tmp_path / "x.zip")
    for name, code in (("none.png", errno.ENOENT), ("train", errno.EISDIR), ("train/7.jpg/x", errno.ENOENT)):
        with pytest.raises(OSError, match=str(archive / name)) as fault:
            open_file(archive / name)
        assert fault.value.errno == code
    with pytest.raises(NotADirectoryError):
        open_file(folder / "text.json" / "x")


def _first_row(samples: Samples) -> list[int]:
    return [int(value) for value in samples[0].image()[0, 0]]


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_read_without_disturbing_each_other(start: str, folder: Path, tmp_path: Path) -> None:
    samples = read(pack_zip(folder, tmp_path / "x.zip"))
    expected = _first_row(samples)
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.map(_first_row, [samples] * 8) == [expected] * 8


def test_a_file_that_was_replaced_is_indexed_again(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for text in ("a", "longer"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(text, text)
        assert read_bytes(path / text, 100, "text") == text.encode()


def test_label_maps_need_no_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    for name, values in (("a", IDS), ("b", np.asfortranarray(IDS)), ("c", IDS.astype(">i2"))):
        np.save(tmp_path / "maps" / f"{name}.npy", values)
    archive = pack_tar(tmp_path / "maps", tmp_path / "x")
    labels = LabelSet("x", ("a", "b", "c"), (False,) * 3, ((0, 0, 0),) * 3, (1, 2, 3), (0,))
    for sample in label_map.samples(archive, labels, divisor=1):
        np.testing.assert_array_equal(sample.category, IDS)


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("../x",), r"member '\.\./x': expected a name inside the folder"),
        (("a/../../x",), "expected a name inside the folder"),
        (("/etc/passwd",), "expected a name inside the folder"),
        (("a", "a"), "member 'a' is there twice"),
        (("a/b", "a//b"), "is there twice"),
    ],
)
def test_names_that_would_harm_whoever_unpacks_are_refused(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    for path in (zip_of(tmp_path / "x.zip", *names), tar):
        with pytest.raises(FormatError, match=words):
            open_file(path / "a")


def test_links_and_devices_in_a_tar_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"a{int(kind)}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert containers.matching(path, "*") == []
    with pytest.raises(FileNotFoundError):
        open_file(path / "a2")


def test_encrypted_and_unusual_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", "x")
    with pytest.raises(FormatError, match=rf"{path}/a: packed by method 12 of zip; expected members"):
        open_file(path / "a")
    data = bytearray(zip_of(path, "b").read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match=rf"{path}/b: encrypted; expected members"):
        open_file(path / "b")


def test_a_bomb_is_unpacked_no_further_than_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.json", b"[" + b" " * (1 << 26))
    with pytest.raises(FormatError, match=r"x\.zip/x\.json: too large: 67,108,865 bytes of text, the most is 1,000"):
        read_bytes(path / "x.json", 1000, "text")
    with open_file(path / "x.json") as file:
        assert file.read(1) == b"["


@every_packer
def test_damage_is_told_in_one_line_that_names_the_file(pack: Pack, folder: Path, tmp_path: Path) -> None:
    (folder / "text.json").unlink()
    archive = pack(folder, tmp_path / "x.zip")
    whole = archive.read_bytes()
    rng = np.random.default_rng(0)
    faults = 0
    for i in range(100):
        data = bytearray(whole)
        for _ in range(3):
            data[rng.integers(len(data))] = rng.integers(256)
        archive.write_bytes(data if i % 2 else whole[: rng.integers(len(whole))])
        containers._read_index.cache_clear()  # files change faster than the clock of the file system
        try:
            read(archive)[0].image()
        except (FormatError, OSError) as fault:
            faults += 1
            no_folder = "image 7 has no file"  # where the damage is in a name
            assert str(archive) in str(fault) or str(fault) == no_folder  # noqa: PT017
            assert "\n" not in str(fault)  # noqa: PT017
    assert faults > 45


def test_a_file_that_is_no_zip_is_told(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar"):
        (tmp_path / name).write_text("no")
        with pytest.raises(FormatError, match=rf"{name}: damaged, or no {name[2:]}"):
            open_file(tmp_path / name / "a")


def test_a_member_is_written_nowhere(folder: Path, tmp_path: Path) -> None:
    archive = pack_zip(folder, tmp_path / "x.zip")
    before = sorted(tmp_path.rglob("*"))
    assert from_maps(IDS - 1, IDS * 0, FARM, image_path=archive / "train" / "7.jpg").image().shape == (2, 3, 3)
    assert sorted(tmp_path.rglob("*")) == before
