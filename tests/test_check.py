# SPDX-License-Identifier: Apache-2.0
"""Heads by other conventions: `deeperlab check` names them, and the fusion does not take them without a word."""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import deeperlab
from deeperlab import Heads, HeadsWarning, scenes, targets
from deeperlab.cli import app
from deeperlab.conventions import floats, view_of
from deeperlab.data import archive
from deeperlab.heads import NAMES
from deeperlab.scenes import noise
from deeperlab.stages import reference

OFFSETS = ("short_range", "middle_range", "long_range")
Change = Callable[[Heads], Heads]


def run(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


@cache
def drawn(seed: int = 3, stride: int = 4, level: int = 2, size: tuple[int, int] = (321, 417)) -> tuple[Any, Heads]:
    scene = scenes.draw(seed, size, instances=10)
    heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=stride)
    return scene, noise.perturb(heads, seed, instance=scene.instance, level=level)


def of_offsets(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda heads: replace(heads, **{name: function(getattr(heads, name)) for name in OFFSETS})


def channels(offsets: int, order: list[int] | None = None) -> list[int]:
    return [c for k in (range(offsets) if order is None else order) for c in (2 * k, 2 * k + 1)]


def y_first(head: np.ndarray) -> np.ndarray:
    return head.reshape(-1, 2, *head.shape[1:])[:, ::-1].reshape(head.shape)


def other_points(heads: Heads) -> Heads:
    order = [4, 1, 0, 3, 2]
    moved = {name: getattr(heads, name)[channels(5, order)] for name in ("short_range", "long_range")}
    return replace(heads, heatmap=heads.heatmap[order], **moved)


def other_edges(heads: Heads) -> Heads:
    return replace(heads, middle_range=heads.middle_range[channels(8, [4, 5, 6, 7, 0, 1, 3, 2])])


CASES: dict[str, tuple[Change, dict[str, Any]]] = {
    "ours": (lambda heads: heads, {}),
    "y first": (of_offsets(y_first), {"components": "yx"}),
    "all y, then all x": (of_offsets(lambda a: np.concatenate((a[1::2], a[::2]))), {"components": "planar_yx"}),
    "all x, then all y": (of_offsets(lambda a: np.concatenate((a[::2], a[1::2]))), {"components": "planar_xy"}),
    "nodes": (of_offsets(lambda a: a / np.float32(4)), {"units": "nodes"}),
    "y first, nodes": (of_offsets(lambda a: y_first(a) / np.float32(4)), {"components": "yx", "units": "nodes"}),
    "probabilities": (lambda h: replace(h, heatmap=reference.sigmoid(h.heatmap)), {"heatmaps": "probabilities"}),
    "other keypoints": (
        other_points,
        {"keypoints": "center,top_right,top_left,bottom_left,bottom_right"},
    ),
    "other edges": (other_edges, {"edges": "0-4,1-4,2-4,3-4,4-0,4-1,4-3,4-2"}),
}


def options(wanted: dict[str, Any]) -> list[str]:
    return [word for name, value in wanted.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("case", CASES)
def test_check_names_the_options_that_fuse_needs(case: str, tmp_path: Path) -> None:
    change, wanted = CASES[case]
    scene, heads = drawn()
    archive.save(tmp_path / "heads.npz", change(heads))
    told = run("check", tmp_path / "heads.npz", "--things", "0-15")
    assert told.exit_code == (1 if wanted else 0), told.output
    if not wanted:
        assert "The heads fit: deeperlab fuse as they are." in told.output
    else:
        assert f"Give deeperlab fuse {' '.join(options(wanted))};" in told.output
    again = run("check", tmp_path / "heads.npz", "--things", "0-15", *options(wanted))
    assert again.exit_code == 0, again.output
    out = tmp_path / "out"
    fused = run("fuse", tmp_path / "heads.npz", "--things", "0-15", "--out", out, *options(wanted))
    assert fused.exit_code == 0, fused.output
    assert fused.stderr == ""
    want = deeperlab.fuse(heads, scene.things)
    with np.load(out / "panoptic.npz") as file:  # of probabilities and nodes up to rounding
        assert int(file["count"]) == int(want.count)
        assert (file["semantic"] == want.semantic).mean() > 0.999
        if "heatmaps" not in wanted:
            np.testing.assert_array_equal(file["instance"], want.instance)


def half_pixel(seed: int) -> tuple[Any, Heads]:
    """A scene of 3 px a node, and its heads at the middle of each 3 x 3 px."""
    scene = scenes.draw(seed, (240, 300), instances=12)
    every = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=1)
    return scene, replace(every.map(lambda head: head[..., 1::3, 1::3].copy()), stride=3)


def test_check_tells_the_grid_by_objects_that_the_border_cuts(tmp_path: Path) -> None:
    scene, heads = half_pixel(1)
    archive.save(tmp_path / "half.npz", heads, size=scene.category.shape)
    told = run("check", tmp_path / "half.npz", "--things", "0-15")
    assert told.exit_code == 1
    assert "Give deeperlab fuse --grid half_pixel;" in told.output
    assert run("check", tmp_path / "half.npz", "--things", "0-15", "--grid", "half_pixel").exit_code == 0
    ours = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=3)
    archive.save(tmp_path / "ours.npz", ours, size=scene.category.shape)
    told = run("check", tmp_path / "ours.npz", "--things", "0-15")
    assert told.exit_code == 0
    assert re.search(r"grid +aligned;", told.output)
    wrong = run("check", tmp_path / "ours.npz", "--things", "0-15", "--grid", "half_pixel")
    assert wrong.exit_code == 1
    assert "Give deeperlab fuse none of these options" in wrong.output


def test_half_pixel_heads_have_the_size_of_their_grid_by_default(tmp_path: Path) -> None:
    scene, heads = half_pixel(1)
    archive.save(tmp_path / "half.npz", heads)
    assert run("fuse", tmp_path / "half.npz", "--things", "0-15", "--out", tmp_path, "--grid",
               "half_pixel").exit_code == 0  # fmt: skip
    with np.load(tmp_path / "panoptic.npz") as file:
        assert file["semantic"].shape == scene.category.shape


def test_offsets_from_the_keypoint_are_named(tmp_path: Path) -> None:
    archive.save(tmp_path / "heads.npz", of_offsets(lambda a: -a)(drawn()[1]))
    told = run("check", tmp_path / "heads.npz", "--things", "0-15")
    assert told.exit_code == 1
    assert "offsets are node - keypoint: negate the three heads of offsets" in told.output


def test_a_head_that_differs_from_the_others_is_named(tmp_path: Path) -> None:
    heads = drawn()[1]
    archive.save(tmp_path / "heads.npz", replace(heads, short_range=y_first(heads.short_range)))
    told = run("check", tmp_path / "heads.npz", "--things", "0-15")
    assert told.exit_code == 1
    assert "short_range follows another convention than the rest (components='yx'): convert it" in told.output


def test_of_random_heads_nothing_is_told(tmp_path: Path, make_heads: Any) -> None:
    for name, heads in (("random", make_heads(h=60, w=60)), ("none", make_heads(n=0)), ("one", make_heads(h=1, w=1))):
        archive.save(tmp_path / f"{name}.npz", heads)
        told = run("check", tmp_path / f"{name}.npz")
        assert told.exit_code == 1, told.output
        assert "Nothing can be told of these heads." in told.output


def test_ids_instead_of_classes_are_named(tmp_path: Path) -> None:
    scene, heads = drawn()
    ids = replace(heads, semantic=(7 * scene.category + 3).astype(np.int32), num_classes=scene.num_classes)
    archive.save(tmp_path / "heads.npz", ids)
    told = run("check", tmp_path / "heads.npz", "--things", "0-15")
    assert told.exit_code == 1
    assert re.search(r"semantic: labels 24, 31, 45, .* name none of the 24 classes", told.output)
    fused = run("fuse", tmp_path / "heads.npz", "--things", "0-15", "--out", tmp_path / "out")
    assert fused.exit_code == 0
    assert fused.stderr.count("\n") == 1
    assert "semantic: expected labels in [0, 24), or one for void, got 24, 31, 45, …" in fused.stderr
    void = scene.category.copy()
    void[:50], void[50:60] = 255, -1
    deeperlab.fuse(replace(heads, semantic=void, num_classes=scene.num_classes), scene.things)  # without a warning


@pytest.fixture
def first_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next fusion is as the first of a process."""
    monkeypatch.setattr(sys.modules["deeperlab.fuse"], "_fusions", itertools.count())


@pytest.mark.usefixtures("first_fusion")
def test_the_first_fusions_of_a_process_are_looked_at_then_every_sixteenth() -> None:
    scene, heads = drawn()
    heads = CASES["y first"][0](heads)
    looked = []
    for number in range(40):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            deeperlab.fuse(heads, scene.things)
        looked += [number] * len(caught)
    assert looked == [*range(8), 16, 32]


@pytest.mark.usefixtures("first_fusion")
@pytest.mark.parametrize("kind", ["arrays", "tensors", "bfloat16", "batch"])
@pytest.mark.parametrize("case", ["y first", "all y, then all x", "nodes", "probabilities"])
def test_fuse_warns_of_heads_that_contradict_themselves(case: str, kind: str) -> None:
    scene, heads = drawn()
    change, wanted = CASES[case]
    heads = change(heads)
    if kind == "batch":
        heads = heads.map(lambda head: head[None])
    elif kind != "arrays":
        dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
        heads = heads.map(lambda head: torch.from_numpy(head.copy()).to(dtype))
    ((name, value),) = wanted.items()
    with pytest.warns(HeadsWarning, match=re.escape(f"{name}='{value}'")) as caught:
        deeperlab.fuse(heads, scene.things)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_glance_converts_no_more_than_it_looks_at(dtype: torch.dtype) -> None:
    head = torch.randn(3, 9, 7, requires_grad=True).to(dtype)[:, ::2].mT
    view = view_of(head)
    assert view.ctypes.data == head.data_ptr()
    np.testing.assert_array_equal(floats(view[1:, 2:]), head.detach().float()[1:, 2:])


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    change, _ = CASES["y first"]
    heads = change(drawn()[1]).map(lambda head: np.stack((head, head)))
    archive.save(tmp_path / "heads.npz", heads)
    fused = run("fuse", tmp_path / "heads.npz", "--things", "0-15", "--out", tmp_path / "out")
    assert fused.exit_code == 0
    assert fused.stderr.startswith(f"deeperlab: warning: {tmp_path}/heads.npz: long_range: expected the offsets of")
    assert fused.stderr.count("\n") == 1


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_no_word_of_heads_that_are_right(stride: int, level: int) -> None:
    for seed in range(2):
        scene, heads = drawn(seed, stride, level, (129, 161))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            deeperlab.fuse(heads, scene.things)
            deeperlab.fuse(heads, scene.things[:3])


def test_no_word_of_networks_that_nobody_trained() -> None:
    network = deeperlab.models.create("light_wider_mobilenet_v2", num_classes=19).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        deeperlab.fuse(network(torch.randn(1, 3, 129, 129)), range(8))


def test_tensors_that_stand_for_others_are_fused_without_a_look() -> None:
    """Those of torch.vmap and torch.func have no values of their own."""

    def semantic(*heads: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, deeperlab.fuse(Heads(*heads), scene.things).semantic.float())

    scene, heads = drawn()
    tensors = tuple(torch.from_numpy(getattr(heads, name).copy()) for name in NAMES)
    fused = semantic(*tensors)
    mapped = torch.vmap(semantic)(*(head[None].expand(2, -1, -1, -1) for head in tensors))
    assert torch.equal(mapped, torch.stack((fused, fused)))
    assert torch.equal(torch.func.vjp(semantic, *tensors)[0], fused)


@pytest.mark.slow
def test_nothing_is_looked_at_inside_a_graph() -> None:
    """A look at values would break it."""
    scene, heads = drawn()
    tensors = CASES["y first"][0](heads).map(lambda head: torch.from_numpy(head.copy()))
    parts = tuple(getattr(tensors, name) for name in ("semantic", "heatmap", *OFFSETS))
    compiled = torch.compile(lambda *heads: deeperlab.fuse(heads, scene.things), fullgraph=True, backend="eager")
    assert int(compiled(*parts).count) >= 0


def test_what_is_no_heads_is_refused_by_check_too(tmp_path: Path, make_heads: Any) -> None:
    heads = make_heads()
    heads.heatmap[0, 0, 3, 3] = np.nan
    archive.save(tmp_path / "heads.npz", heads)
    told = run("check", tmp_path / "heads.npz")
    assert told.exit_code == 2
    assert "heads.npz: expected finite numbers in heatmap" in told.stderr
    for wrong in (["--components", "zz"], ["--keypoints", "a,b"], ["--edges", "1,2"], ["--things", "x"]):
        assert run("check", tmp_path / "heads.npz", *wrong).exit_code == 2
