# SPDX-License-Identifier: Apache-2.0
"""What `deeperlab fuse` leaves in a folder: all of a run, or nothing that is taken for it; what it refuses before."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deeperlab
from deeperlab import targets
from deeperlab.cli import app
from deeperlab.data import archive, files
from deeperlab.data.formats import coco
from deeperlab.data.formats.photo import ORIENTATION
from deeperlab.visualize import overlay

Content = dict[str, bytes]


def run(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def save(path: Path, seed: int, make_heads: Any, **told: Any) -> Path:
    archive.save(path, make_heads(seed=seed, n=2), **told)
    return path


def content(out: Path) -> Content:
    paths = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def killed(after: int, *args: Any) -> bool:
    """Run a command in a process that dies before the file of this number takes its place; whether it did."""
    process = os.fork()
    if not process:
        try:
            left, move = [after], Path.replace

            def replace(self: Path, target: Any) -> Path:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return move(self, target)

            Path.replace = replace  # type: ignore[method-assign, assignment]
            os._exit(run(*args).exit_code)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_a_kill_at_any_moment_leaves_the_old_the_new_or_what_eval_refuses(tmp_path: Path, make_heads: Any) -> None:
    """A file takes its place in one step, so between two files are all moments that there are. Names are the same."""
    out, wholes = tmp_path / "out", []
    commands = []
    for seed in (1, 2):
        heads = save(tmp_path / f"{seed}.npz", seed, make_heads)
        commands.append(("fuse", heads, "--things", "1,3", "--out", out))
        shutil.rmtree(out, ignore_errors=True)
        assert run(*commands[-1]).exit_code == 0
        wholes.append(content(out))
    assert wholes[0].keys() == wholes[1].keys()
    kills = refused = 0
    for first in (None, 0):
        for after in range(10):
            shutil.rmtree(out, ignore_errors=True)
            if first is not None:
                assert run(*commands[first]).exit_code == 0
            if not killed(after, *commands[1]):
                break
            kills += 1
            found = {
                name: data for name, data in content(out).items() if not files.TEMPORARY.fullmatch(Path(name).name)
            }
            try:
                data = coco.read(out / "panoptic.json", out)
            except (coco.FormatError, FileNotFoundError):
                refused += 1
                told = run("eval", out / "panoptic.json", out / "panoptic.json", "--gt-dir", out, "--pred-dir", out)
                assert told.exit_code == 2
                assert "unfinished: the run that writes it has been stopped" in told.stderr or not found
            else:
                assert found in wholes
                assert len(data.annotations) == 2
            assert run(*commands[1]).exit_code == 0  # it may go on where it was
            assert content(out) == wholes[1]
        else:
            pytest.fail("the command has more files than expected")
    assert kills == 12  # of each: the mark, twice, the arrays, two PNGs, the JSON
    assert refused == 11  # all but that before the mark, where there was an earlier run


@pytest.mark.parametrize("head", ["semantic", "heatmap", "short_range", "middle_range", "long_range"])
@pytest.mark.parametrize(("value", "share"), [(np.nan, 1), (np.nan, 0), (np.inf, 0), (-np.inf, 0)])
def test_heads_that_overflowed_are_refused_as_predict_does(
    head: str, value: float, share: int, tmp_path: Path, make_heads: Any
) -> None:
    heads = make_heads(n=2)
    array = getattr(heads, head)
    if share:
        array[...] = value
    else:
        array[1, 0, 3, 4] = value
    archive.save(tmp_path / "heads.npz", heads)
    told = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert (
        f"heads.npz: expected finite numbers in {head}, got NaN or infinity: the network has overflowed" in told.stderr
    )
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (["a//b", "a/b"], "distinct names of files, got 'a/b.png' twice"),
        (["x", "x.png/y"], "got 'x.png' twice, or as a folder of another"),
        (["a", "b" * 250], "names of files of at most 240 bytes"),
        (["a", "/".join(["b" * 200] * 25)], "names of files of at most 240 bytes"),
        (["a", "\ud800"], "names of files inside the folder"),
    ],
)
def test_names_that_cannot_be_written_are_refused_before_anything_is(
    ids: list[str], fault: str, tmp_path: Path, make_heads: Any
) -> None:
    np.savez(tmp_path / "heads.npz", **{n: getattr(make_heads(n=2), n) for n in archive.NAMES},
             image_ids=np.array(ids))  # fmt: skip
    told = run("fuse", tmp_path / "heads.npz", "--things", "1", "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert "heads.npz: image_ids: expected" in told.stderr
    assert fault in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_or_a_link_in_the_way_is_named_before_the_work(tmp_path: Path, make_heads: Any) -> None:
    heads, out = save(tmp_path / "heads.npz", 1, make_heads, image_ids=["a", "below/b"]), tmp_path / "out"
    for make, text in (
        (lambda: (out / "below").write_text("x"), "below: is no folder"),
        (lambda: (out / "below/b.png").mkdir(parents=True), "b.png: is a directory"),
        (lambda: (out / "below").symlink_to(tmp_path), "names of files inside the folder, got 'below/b.png'"),
    ):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        make()
        before = sorted(out.rglob("*"))
        told = run("fuse", heads, "--things", "1", "--out", out)
        assert told.exit_code == 2
        assert text in told.stderr
        assert sorted(out.rglob("*")) == before


def test_no_text_of_a_file_commands_the_terminal(tmp_path: Path, make_heads: Any) -> None:
    """Names of images, of labels, of arrays, of keypoints: in tables, warnings and errors."""
    evil, out = "\x1b[31mred\x07", tmp_path / "out"
    heads = save(tmp_path / "heads.npz", 1, make_heads, image_ids=[evil, "b"])
    told = run("fuse", heads, "--things", "1", "--out", out)
    assert told.exit_code == 0
    assert "�[31mred�.png" in told.output
    outputs = [told, run("check", heads)]
    arrays = {n: getattr(make_heads(), n) for n in archive.NAMES}
    for spoiled in ({evil: np.zeros(1)}, {"keypoints": np.array([evil] * 5), "edges": np.zeros((8, 2), np.int64)},
                    {"keypoints": np.array([evil, *"bcde"]), "edges": np.array(deeperlab.STAR.edges)},
                    {"image_ids": np.array([f"../{evil}"])}):  # fmt: skip
        np.savez(tmp_path / "spoiled.npz", **arrays, **spoiled)
        outputs += [run(name, tmp_path / "spoiled.npz", "--things", "1", *more)
                    for name, more in (("fuse", ("--out", tmp_path / "other")), ("check", ()))]  # fmt: skip
    for each in outputs:
        assert not set("\x1b\x07") & set(each.output + each.stderr)


def drawn(tmp_path: Path, size: tuple[int, int], **told: Any) -> tuple[Path, deeperlab.Heads, Any, Path]:
    scene = deeperlab.scenes.draw(5, size, instances=4)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes)
    archive.save(tmp_path / "heads.npz", heads, **told)
    Image.fromarray(scene.image).save(tmp_path / "photo.png")
    return tmp_path / "heads.npz", heads, scene, tmp_path / "photo.png"


@pytest.mark.parametrize("size", [(97, 129), (98, 130)])  # where the last nodes lie, and beyond
def test_a_photo_gets_the_map_over_it(size: tuple[int, int], tmp_path: Path) -> None:
    path, heads, scene, photo = drawn(tmp_path, size)
    out = tmp_path / "out"
    told = run("fuse", path, "--things", "0-15", "--out", out, "--image", photo)
    assert told.exit_code == 0, told.output
    assert "overlay.png" in told.output
    want = overlay(scene.image, deeperlab.fuse(heads, scene.things, size=size))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "overlay.png")), want)
    assert coco.read(out / "panoptic.json", out).annotations[0].height == size[0]


def test_a_photo_is_turned_as_the_map_is(tmp_path: Path) -> None:
    size = (97, 129)
    path, heads, scene, photo = drawn(tmp_path, size)
    archive.save(path, heads, size=size)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    overlays = []
    for picture in (scene.image, np.ascontiguousarray(np.rot90(scene.image))):  # as stored, and as shown
        Image.fromarray(picture).save(photo, exif=exif)
        told = run("fuse", path, "--things", "0-15", "--out", tmp_path / "out", "--image", photo)
        assert told.exit_code == 0, told.output
        overlays.append((tmp_path / "out" / "overlay.png").read_bytes())
    assert overlays[0] == overlays[1]


def test_a_photo_of_another_size_is_named_with_both(tmp_path: Path, make_heads: Any) -> None:
    path, heads, _, photo = drawn(tmp_path, (97, 129))
    for name, told in (("small.npz", {"size": (90, 120)}), ("original.npz", {"original": (60, 60)})):
        archive.save(tmp_path / name, heads, **told)
        result = run("fuse", tmp_path / name, "--things", "1", "--out", tmp_path / "out", "--image", photo)
        assert result.exit_code == 2
        assert "photo.png: is 129 × 97 px, but the map" in result.stderr
    archive.save(tmp_path / "shown.npz", heads, size=(97, 129), original=(97, 129))
    given = ("--things", "1", "--out", tmp_path / "out", "--image")
    assert run("fuse", tmp_path / "shown.npz", *given, photo).exit_code == 0
    two = run("fuse", save(tmp_path / "two.npz", 1, make_heads), *given, photo)
    assert two.exit_code == 2
    assert "--image: expected heads of one image, got 2" in two.stderr
    assert run("fuse", path, *given, tmp_path / "absent.png").exit_code == 2
    (tmp_path / "out" / "overlay.png").replace(tmp_path / "out" / "photo.png")
    own = tmp_path / "out" / "overlay.png"
    photo.rename(own)
    over = run("fuse", path, *given, own)
    assert over.exit_code == 2
    assert "overlay.png: is the photo itself" in over.stderr


def test_an_overlay_does_not_overwrite_an_image_of_that_name(tmp_path: Path) -> None:
    path, _, _, photo = drawn(tmp_path, (97, 129), image_ids=["overlay"])
    told = run("fuse", path, "--things", "1", "--out", tmp_path / "out", "--image", photo)
    assert told.exit_code == 2
    assert "image_ids: expected distinct names of files, got 'overlay.png'" in told.stderr
