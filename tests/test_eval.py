# SPDX-License-Identifier: Apache-2.0
"""`deeperlab eval`, as a user meets it: the figures, the JSON, and one line for every fault of a file."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deeperlab.cli import app
from deeperlab.data.files import FaultyFilesError
from deeperlab.data.formats import coco
from deeperlab.data.formats.photo import ORIENTATION
from deeperlab.metrics import Evaluation, FolderEvaluation

CATEGORIES = (coco.Category(1, "person", True), coco.Category(5, "car", True), coco.Category(92, "grass", False))


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["eval", *(str(a) for a in arguments)])


class Case:
    """Annotations and predictions of three images in a folder, and how to call the command with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gt, self.pred = folder / "gt.json", folder / "pred.json"
        self.gt_dir, self.pred_dir = folder / "gt", folder / "pred"
        self.out = folder / "out.json"
        for path, directory, shift in ((self.gt, self.gt_dir, 0), (self.pred, self.pred_dir, 2)):
            coco.write(path, directory, [self.image(i, shift) for i in (3, 4, 5)], CATEGORIES)

    @staticmethod
    def image(number: int, shift: int) -> tuple[coco.Annotation, np.ndarray]:
        ids = np.full((40 + number, 60), 7, np.int32)
        ids[5:25, 10 + shift : 30 + shift] = 1
        ids[20:39, 35 + shift : 55 + shift] = 10 + number
        ids[:2] = 0
        segments = coco.describe(ids, {7: 92, 1: 1, 10 + number: 1})
        return coco.Annotation(number, f"{number}.png", segments), ids

    def arguments(self) -> tuple[object, ...]:
        return self.gt, self.pred, "--gt-dir", self.gt_dir, "--pred-dir", self.pred_dir, "--json", self.out

    def report(self, *more: object) -> dict[str, Any]:
        result = run(*self.arguments(), *more)
        assert result.exit_code == 0, result.output
        report: dict[str, Any] = json.loads(self.out.read_text())
        return report

    def fault(self, *more: object) -> str:
        """The one line on stderr of a call that must end with code 2 and write nothing."""
        before = {path for path in self.folder.rglob("*") if "pytest" not in path.name}
        result = run(*self.arguments(), *more)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert result.stderr.startswith("deeperlab: ")
        assert result.stderr.count("\n") == 1
        assert {path for path in self.folder.rglob("*") if "pytest" not in path.name} == before
        line: str = result.stderr[len("deeperlab: ") : -1]
        return line


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    root = json.loads(path.read_text())
    change(root)
    path.write_text(json.dumps(root))


def test_a_data_set_of_links_out_of_its_folder_is_read_if_asked(case: Case) -> None:
    """As the cache of the Hugging Face hub, DVC and git-annex keep it."""
    expected = case.report()
    case.out.unlink()
    (case.folder / "blobs").mkdir()
    path = case.gt_dir / "4.png"
    path.symlink_to(path.rename(case.folder / "blobs" / "cafe"))
    assert "a symbolic link that leaves" in case.fault()
    assert "--follow-links" in case.fault()
    assert case.report("--follow-links") == expected
    oracle = CliRunner().invoke(app, ["oracle", str(case.gt), "--gt-dir", str(case.gt_dir), "--follow-links"])
    assert oracle.exit_code == 0, oracle.output


def test_help_teaches() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Example: deeperlab eval" in result.stdout


def test_it_prints_tables_and_writes_all_figures(case: Case) -> None:
    result = run(*case.arguments())
    assert result.exit_code == 0, result.output
    for words in ("3 images", "Things", "PQ", "PC", "mIoU", "person", "grass", "1 class is neither annotated nor"):
        assert words in result.stdout
    assert "\ncar" not in result.stdout
    assert result.stderr == ""
    report = json.loads(case.out.read_text())
    assert list(report) == ["pq", "pc", "miou", "iou", "annotations", "predictions", "categories", "images"]
    assert set(report["pq"]) == {"All", "Things", "Stuff", "per_class"}
    assert set(report["pq"]["All"]) == {"pq", "sq", "rq", "n"}
    assert set(report["pq"]["per_class"]) == {"1", "5", "92"}
    assert set(report["pq"]["per_class"]["1"]) == {"iou", "tp", "fp", "fn", "pq", "sq", "rq"}
    assert report["pq"]["per_class"]["5"]["pq"] is None
    for name in ("normalized", "pixel"):
        assert set(report["pc"][name]) == {"All", "Things", "Stuff", "per_class"}
        assert set(report["pc"][name]["All"]) == {"pc", "n"}
        assert report["pc"][name]["per_class"]["5"] is None
    metric = Evaluation({c.id: c.isthing for c in CATEGORIES})
    for number in (3, 4, 5):
        (a, truth), (b, predicted) = case.image(number, 0), case.image(number, 2)
        metric.update((predicted, b.segments), (truth, a.segments))
    assert {name: report[name] for name in ("pq", "pc", "miou")} == metric.compute().to_dict()
    assert report["iou"] == metric.compute().iou.to_dict()
    assert report["pq"]["per_class"]["1"]["tp"] == 6
    assert (report["annotations"], report["predictions"]) == (str(case.gt), str(case.pred))
    assert f"annotations: {case.gt}\npredictions: {case.pred}\n" in result.stdout
    assert report["categories"][0] == {"id": 1, "name": "person", "isthing": 1}
    assert 0 < report["miou"] < 1


def test_in_80_columns_no_heading_and_no_figure_is_folded(case: Case) -> None:
    path, long = case.folder / "gt.json", "construction of a flat crosswalk with zebra stripes"
    edit(path, lambda data: data["categories"][0].update(name=long))
    arguments = map(str, ("eval", path, path, "--gt-dir", case.gt_dir, "--pred-dir", case.gt_dir))
    lines = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*arguments]).stdout.splitlines()[3:]
    assert max(map(len, lines)) <= 80
    words = [" ".join(line.split()) for line in lines]
    assert "% PQ SQ RQ classes PC PC px classes mIoU" in words
    assert "All 100.00 100.00 100.00 2 100.00 100.00 2 100.00" in words
    assert "class PQ % SQ RQ TP FP FN PC IoU" in words
    assert "construction of a 100.00 100.00 100.00 6 0 0 100.00 100.00" in words


def test_the_published_example_gives_its_figures(realdata: Path, tmp_path: Path) -> None:
    folder, out = realdata / "tf_models_deeplab_eval", tmp_path / "out.json"
    arguments = folder / "coco_gt.json", folder / "coco_pred.json", "--gt-dir", folder / "coco_gt"
    result = run(*arguments, "--pred-dir", folder / "coco_pred", "--json", out)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["pc"]["pixel"]["All"] == {"pc": pytest.approx(0.68210561, abs=1e-8), "n": 6}
    assert report["pc"]["normalized"]["All"] == {"pc": pytest.approx(0.68214908840, abs=5e-11), "n": 6}
    assert report["pq"]["All"]["pq"] == pytest.approx(0.6740486629, abs=5e-11)


def test_any_number_of_workers_gives_the_same_file(case: Case) -> None:
    case.report("--workers", 1)
    one = case.out.read_bytes()
    for workers in (2, 3, 16):
        case.report("--workers", workers)
        assert case.out.read_bytes() == one
    assert run(*case.arguments(), "--workers", 0).exit_code == 2
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        FolderEvaluation(coco.read(case.gt, case.gt_dir), coco.read(case.pred, case.pred_dir), workers=0)


def test_predictions_need_neither_categories_nor_images_and_may_be_too_many(case: Case) -> None:
    expected = case.report()
    edit(case.pred, lambda root: [root.pop(key) for key in ("categories", "images", "info")])
    for annotation in (bare := json.loads(case.pred.read_text()))["annotations"]:
        annotation["segments_info"] = [{k: s[k] for k in ("id", "category_id")} for s in annotation["segments_info"]]
    bare["annotations"].append({"image_id": 99, "file_name": "99.png", "segments_info": []})
    case.pred.write_text(json.dumps(bare))
    assert case.report() == expected
    assert "3 images; 1 prediction for another image left out" in run(*case.arguments()).stdout


def test_categories_may_come_from_a_file(case: Case) -> None:
    expected = case.report()
    listing = case.folder / "categories.json"
    listing.write_text(json.dumps(json.loads(case.gt.read_text())["categories"]))
    edit(case.gt, lambda root: [root.pop(key) for key in ("categories", "images")])
    case.out.unlink()
    assert case.fault() == f"{case.gt}: no key 'categories'"
    assert case.report("--categories", listing) == expected


def test_no_images_are_undefined_not_zero(case: Case) -> None:
    edit(case.gt, lambda root: root.update(annotations=[]))
    report = case.report()
    assert report["pq"]["All"] == {"pq": None, "sq": None, "rq": None, "n": 0}
    assert report["pc"]["pixel"]["All"] == {"pc": None, "n": 0}
    assert report["miou"] is None


def test_files_that_are_packed_or_cut_or_something_else_are_told(case: Case) -> None:
    text = case.gt.read_bytes()
    for data, words in (
        (gzip.compress(text), "; it is packed by gzip: unpack it with gunzip first"),
        (bz2.compress(text), "; it is packed by bzip2: unpack it with bunzip2 first"),
        (lzma.compress(text), "; it is packed by xz: unpack it with unxz first"),
        (b" \n", "; the file is empty"),
        (text[: len(text) // 2], "; it ends too early: if it was cut short, copy or download it again"),
        (text[:-2], "; it ends too early: if it was cut short, copy or download it again"),
        (
            b"<!DOCTYPE html><title>404</title>",
            "; it is HTML or XML, perhaps what a server said instead: download it again",
        ),
        (b'{"id": 1}\n{"id": 2}\n', "; a value a line, as JSON Lines have it? one object is needed"),
    ):
        case.gt.write_bytes(data)
        assert case.fault().endswith(words)
    case.gt.write_bytes(text)


def test_the_maps_may_be_in_a_zip(case: Case) -> None:
    unpacked = run(*case.arguments())
    shutil.make_archive(str(case.folder / "gt"), "zip", case.gt_dir)
    case.gt_dir = case.folder / "gt.zip"
    zipped = run(*case.arguments())
    assert (zipped.exit_code, zipped.stdout) == (0, unpacked.stdout)
    case.gt_dir = case.gt
    assert case.fault() == f"{case.gt}: is no folder, zip or tar file"


def test_the_home_folder_is_known_where_no_shell_has_put_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(case.folder))
    monkeypatch.chdir(case.folder)
    result = run("~/gt.json", "~/pred.json", "--gt-dir", "~/gt", "--pred-dir=~/pred", "--json=~/out.json")
    assert result.exit_code == 0, result.output
    assert case.out.exists()
    assert not (case.folder / "~").exists()


def test_one_of_a_kind_is_no_plural(case: Case) -> None:
    edit(case.gt, lambda root: root["annotations"].pop(0))
    assert "\n2 images; 1 prediction for another image left out\n" in run(*case.arguments()).stdout
    edit(case.gt, lambda root: root["annotations"].pop(0))
    assert "\n1 image; 2 predictions for other images left out\n" in run(*case.arguments()).stdout
    oracle = CliRunner().invoke(app, ["oracle", str(case.gt), "--gt-dir", str(case.gt_dir)]).stdout
    assert oracle.startswith("1 image; heads of stride 4, disks of radius 25 px\n")


def test_stale_areas_are_warned_of_and_do_not_count(case: Case) -> None:
    expected = case.report()
    edit(case.gt, lambda root: root["annotations"][1]["segments_info"][0].update(area=1))
    edit(case.pred, lambda root: [s.update(area=0.5) for s in root["annotations"][2]["segments_info"]])
    result = run(*case.arguments())
    assert result.exit_code == 0
    assert json.loads(case.out.read_text()) == expected
    assert result.stderr.splitlines() == [
        f"deeperlab: warning: {case.gt_dir / '4.png'}: the area of id 1 is 400 px, not 1 as listed in gt.json",
        f"deeperlab: warning: {case.pred_dir / '5.png'}: the area of id 1 is 400 px, not 0.5 as listed "
        "(and of 2 more segments) in pred.json",
    ]


def test_names_from_a_file_are_no_markup(case: Case) -> None:
    edit(case.gt, lambda root: root["categories"][0].update(name="[/red]:car:\x1b[31m"))
    result = run(*case.arguments())
    assert "[/red]:car:" in result.stdout
    assert "\x1b" not in result.stdout


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path) -> None:
    """60000 × 60000 pixels in some bytes."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


PNG_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:80]), "damaged PNG"),
    "no PNG": (lambda p: p.write_bytes(b"GIF89a"), "not a PNG"),
    "empty": (lambda p: p.write_bytes(b""), "not a PNG"),
    "a bomb": (bomb, "too many pixels: 60000 × 60000"),
    "gray": (lambda p: Image.new("L", (60, 44)).save(p), "expected a PNG of 24-bit RGB, got mode L"),
    "absent": (lambda p: p.unlink(), "no such file or directory"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is a directory"),
    "a pipe": (lambda p: (p.unlink(), os.mkfifo(p)), "not a regular file"),
    "a link to itself": (lambda p: (p.unlink(), p.symlink_to(p)), "a symbolic link that leads to itself"),
    "a link to nothing": (lambda p: (p.unlink(), p.symlink_to(p.parent / "none")), "no such file or directory"),
    "a link out of the folder": (lambda p: (p.unlink(), p.symlink_to("/etc/passwd")), "a symbolic link that leaves"),
    "of another size": (lambda p: coco.write_ids(p, np.ones((9, 9), int)), "height is 9 px, but"),
    "an id too many": (lambda p: coco.write_ids(p, np.full((44, 60), 8)), "id 8 not in segments_info of"),
    "an id too few": (lambda p: coco.write_ids(p, np.full((44, 60), 7)), "no pixel of ids 1, 14, listed in"),
}


@pytest.mark.parametrize("kind", PNG_FAULTS)
@pytest.mark.parametrize("side", ["gt", "pred"])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_bad_png_is_one_line_that_names_it(case: Case, kind: str, side: str, workers: int) -> None:
    spoil, words = PNG_FAULTS[kind]
    path = case.folder / side / "4.png"
    spoil(path)
    line = case.fault("--workers", workers)
    assert line.startswith(f"{path}: "), line
    assert words in line


@pytest.mark.parametrize("workers", [1, 4])
def test_several_bad_pngs_are_named_before_any_is_counted(
    case: Case, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeperlab.metrics.folders.intersect", None)
    (case.gt_dir / "3.png").unlink()
    coco.write_ids(case.gt_dir / "4.png", np.ones((9, 60), int))
    Image.new("P", (60, 45)).save(case.pred_dir / "5.png")
    result = run(*case.arguments(), "--workers", workers)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == f"deeperlab: {case.gt_dir / '3.png'}: no such file or directory"
    assert lines[1] == f"deeperlab: {case.gt_dir / '4.png'}: height is 9 px, but gt.json says 44"
    assert lines[2].startswith(f"deeperlab: {case.pred_dir / '5.png'}: expected a PNG of 24-bit RGB, got mode P")
    assert len(lines) == 3
    evaluation = FolderEvaluation(coco.read(case.gt, case.gt_dir), coco.read(case.pred, case.pred_dir))
    with pytest.raises(FaultyFilesError, match=r"3 faults: .*3\.png.*; .*4\.png: height is 9 px.*; .*5\.png"):
        list(evaluation)


def test_of_very_many_bad_pngs_some_are_named(tmp_path: Path) -> None:
    case = Case(tmp_path)
    many = [Case.image(number, 0) for number in range(60)]
    for path, directory in ((case.gt, case.gt_dir), (case.pred, case.pred_dir)):
        coco.write(path, directory, many, CATEGORIES)
    for path in case.pred_dir.glob("*.png"):
        path.unlink()
    lines = run(*case.arguments()).stderr.splitlines()
    assert len(lines) == 41
    assert lines[-1] == "deeperlab: 60 faults in all"
    case.pred_dir.rmdir()
    assert case.fault() == f"{case.pred_dir}: no such file or directory"


def test_maps_of_different_size_name_both(case: Case) -> None:
    edit(case.pred, lambda root: root.pop("images"))
    coco.write_ids(case.pred_dir / "4.png", case.image(5, 2)[1])
    edit(case.pred, lambda root: root["annotations"][1].update(segments_info=root["annotations"][2]["segments_info"]))
    expected = f"{case.pred_dir / '4.png'}: is 60 × 45 px, but its ground truth 4.png 60 × 44 px"
    assert case.fault() == expected


JSON_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no annotations": (lambda r: r.pop("annotations"), "no key 'annotations'"),
    "annotations of a wrong type": (lambda r: r.update(annotations={}), "annotations: expected a list, got an object"),
    "unknown category": (
        lambda r: r["annotations"][1]["segments_info"][0].update(category_id=77),
        "annotations[1].segments_info[0]: category_id 77 is not in categories: 1, 5, 92; ids of the data set are "
        "needed, which trainIds and numbers of classes are not",
    ),
    "an id as text": (
        lambda r: r["annotations"][1]["segments_info"][0].update(id="1"),
        "annotations[1].segments_info[0]: id: expected an integer, got a string",
    ),
    "an id twice": (
        lambda r: r["annotations"][1]["segments_info"][0].update(id=7),
        "annotations[1].segments_info[1]: id 7 is there twice",
    ),
    "an image twice": (lambda r: r["annotations"].append(r["annotations"][0]), "annotations[3]: id 3 is there twice"),
    "a file outside": (
        lambda r: r["annotations"][0].update(file_name="../gt/3.png"),
        "annotations[0]: file_name: expected a name inside the folder, got '../gt/3.png'",
    ),
    "an area as text": (
        lambda r: r["annotations"][0]["segments_info"][0].update(area="big"),
        "annotations[0].segments_info[0]: area: expected an integer or a number, got a string",
    ),
}


@pytest.mark.parametrize("kind", JSON_FAULTS)
@pytest.mark.parametrize("side", ["gt", "pred"])
def test_a_bad_json_is_one_line_that_names_it_and_the_spot(case: Case, kind: str, side: str) -> None:
    change, words = JSON_FAULTS[kind]
    path = case.folder / f"{side}.json"
    edit(path, change)
    if side == "pred":  # whose categories do not count
        words = words.replace("in categories", "in the categories of the ground truth, or those given")
    assert case.fault() == f"{path}: {words}"


@pytest.mark.parametrize("side", ["gt", "pred"])
@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not JSON: "), ("[" * 100_000, "not JSON: "), ("[]", "expected an object"), ("\x80", "not JSON: ")],
    ids=["cut", "deep", "a list", "not UTF-8"],
)
def test_what_is_no_json_is_one_line(case: Case, side: str, text: str, words: str) -> None:
    path = case.folder / f"{side}.json"
    path.write_bytes(text.encode("latin-1"))
    assert case.fault().startswith(f"{path}: {words}")
    path.unlink()
    assert case.fault() == f"{path}: no such file or directory"
    os.mkfifo(path)
    assert case.fault() == f"{path}: not a regular file; write what a pipe or device gives to a file first"


def test_an_image_without_prediction_is_a_fault_before_any_png_is_read(case: Case) -> None:
    (case.gt_dir / "3.png").unlink()
    edit(case.pred, lambda root: root["annotations"].pop())
    assert case.fault() == f"{case.pred}: no prediction for image 5"
    edit(case.pred, lambda root: root.update(annotations=[]))
    assert case.fault() == f"{case.pred}: no prediction for image 3 and 2 more images"


def test_id_0_is_a_segment_in_a_prediction_only(case: Case) -> None:
    _, ids = case.image(4, 2)
    ids[ids == 0] = 9
    ids[ids == 1] = 0
    coco.write_ids(case.pred_dir / "4.png", ids)
    segments = [{"id": i, "category_id": c} for i, c in ((0, 1), (14, 1), (7, 92), (9, 5))]
    edit(case.pred, lambda root: root["annotations"][1].update(segments_info=segments))
    assert case.report()["pq"]["per_class"]["1"]["tp"] == 6
    case.out.unlink()
    edit(case.gt, lambda root: root["annotations"][1]["segments_info"][0].update(id=0))
    assert case.fault() == f"{case.gt}: id 0, which is void, is a segment of image 4"


def test_a_place_that_cannot_be_written_is_a_fault_before_the_work(case: Case) -> None:
    (case.gt_dir / "3.png").unlink()  # would be the next fault
    for out, words in (
        (case.folder / "none" / "out.json", f"{case.folder / 'none'}: no such folder"),
        (case.gt / "out.json", f"{case.gt}: no such folder"),
        (case.gt_dir, f"{case.gt_dir}: is a directory"),
    ):
        case.out = out
        assert case.fault() == words
    if os.geteuid() != 0:
        locked = case.folder / "locked"
        locked.mkdir(mode=0o500)
        case.out = locked / "out.json"
        assert case.fault() == f"{case.out}: permission denied"


def test_a_file_that_is_there_stays_when_there_is_a_fault_and_a_link_is_not_followed(case: Case) -> None:
    case.out.write_text("before")
    (case.pred_dir / "5.png").write_bytes(b"")
    case.fault()
    assert case.out.read_text() == "before"
    coco.write_ids(case.pred_dir / "5.png", case.image(5, 2)[1])
    elsewhere = case.folder / "elsewhere"
    elsewhere.write_text("mine")
    case.out.unlink()
    case.out.symlink_to(elsewhere)
    case.report()
    assert elsewhere.read_text() == "mine"
    assert not case.out.is_symlink()


def test_a_memory_error_names_the_file(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("deeperlab.metrics.folders.intersect", exhausted)
    assert case.fault() == f"{case.pred_dir / '3.png'}: too large for the memory, it or its ground truth"


METRIC = '''
import numpy as np
from deeperlab.metrics import Metric

class Result:
    def __init__(self, recall, per_class):
        self.recall, self.per_class = recall, per_class

    def to_dict(self):
        return {"recall": self.recall, "note": "pixels", "per_class": self.per_class}

class PixelRecall(Metric):
    """The share of the pixels of each class that is predicted as the class."""

    name, columns = "pixel_recall", 2

    def add(self, pairs):
        target = pairs.target.category[pairs.target_row]
        labeled = target >= 0
        target, overlap = target[labeled], pairs.overlap[labeled]
        hit = pairs.prediction.category[pairs.prediction_row[labeled]] == target
        for column, weight in enumerate((overlap * hit, overlap)):
            self.sums[:, column] += np.bincount(target, weight, len(self.categories))

    def compute(self):
        per_class = {str(c): h / n if n else None for c, (h, n) in zip(self.categories, self.sums.tolist())}
        return Result(float(self.sums[:, 0].sum() / self.sums[:, 1].sum()), per_class)

class Nan(PixelRecall):
    name = "nan"

    def compute(self):
        return Result(float("nan"), {})

def function(categories):
    return PixelRecall(categories)
'''


@pytest.fixture
def own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory, which no installed package knows."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "metric_of_a_user.py").write_text(METRIC)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "metric_of_a_user"
    sys.modules.pop("metric_of_a_user", None)


def test_a_metric_of_ones_own_is_printed_and_written(own_metric: str, case: Case) -> None:
    result = run(*case.arguments(), "--metric", f"{own_metric}:PixelRecall", "--workers", 2)
    assert result.exit_code == 0, result.output
    report = json.loads(case.out.read_text())
    assert list(report)[:4] == ["pq", "pc", "miou", "pixel_recall"]
    mine = report["pixel_recall"]
    assert 0.9 < mine["recall"] < 1
    assert mine["per_class"]["5"] is None
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["pixel_recall", "recall", f"{mine['recall']:.4g}"] in rows
    assert next(row for row in rows if row[:1] == ["person"])[-1] == f"{mine['per_class']['1']:.4g}"
    assert "pixels" not in result.stdout  # words stay in the file
    alone = case.report("--metric", f"{own_metric}:PixelRecall", "--workers", 1)
    assert alone == report
    del report["pixel_recall"]
    assert case.report() == report


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("PixelRecall", "metric: expected package.module:Class, got 'PixelRecall'"),
        ("no_such_module:A", "metric: expected a module that can be imported, got no_such_module:A: No module named"),
        ("metric_of_a_user:Absent", "metric: expected a subclass of deeperlab.metrics.Metric, got metric_of_a_user:A"),
        ("metric_of_a_user:Result", "metric: expected a subclass of deeperlab.metrics.Metric, got metric_of_a_user:R"),
        (
            "metric_of_a_user:function",
            "metric: expected a subclass of deeperlab.metrics.Metric, got metric_of_a_user:f",
        ),
        ("metric_of_a_user:Nan", "nan: expected to_dict() to return what JSON can hold, got: Out of range"),
        ("deeperlab.metrics:MeanIoU", "metrics: expected distinct names, got 'miou' twice"),
        ("deeperlab.metrics:Metric", "Can't instantiate abstract class Metric"),
    ],
)
def test_what_is_no_metric_is_named(name: str, fault: str, own_metric: str, case: Case) -> None:
    assert case.fault("--metric", name).startswith(fault)


# --- what suggests that the files are others --------------------------------------------------------------------------


def warnings_of(case: Case) -> list[str]:
    result = run(*case.arguments())
    assert result.exit_code == 0, result.output
    assert all(line.startswith("deeperlab: warning: ") for line in result.stderr.splitlines())
    return [line[len("deeperlab: warning: ") :] for line in result.stderr.splitlines()]


def test_categories_that_contradict_are_told_or_refused(case: Case) -> None:
    edit(case.pred, lambda root: root["categories"][0].update(name="pedestrian", isthing=0))
    assert warnings_of(case) == [
        f"{case.pred}: category 1 is 'pedestrian', but 'person' in gt.json; the id counts",
        f"{case.pred}: category 1 is stuff, but a thing in gt.json, which counts",
    ]
    case.out.unlink()
    edit(case.pred, lambda root: root["categories"][0].update(name="car", isthing=1))
    said = "category 1 is 'car', but 'person' in gt.json, where 'car' is 5; map the ids, or the names"
    assert case.fault() == f"{case.pred}: {said}"


def test_files_in_the_wrong_order_are_told(case: Case) -> None:
    edit(case.gt, lambda root: [s.update(score=0.5) for a in root["annotations"] for s in a["segments_info"][:1]])
    assert warnings_of(case) == [
        f"{case.gt}: segments have scores, those of pred.json none; the annotations come first, then the predictions"
    ]
    case.out.unlink()
    edit(case.gt, lambda root: root.pop("categories"))
    assert "no key 'categories', but scores of segments: are these predictions, not annotations?" in case.fault()
    other = Case(case.folder / "crowd")
    edit(other.pred, lambda root: root["annotations"][0]["segments_info"][0].update(iscrowd=1))
    assert warnings_of(other) == [
        f"{other.pred}: segments are crowd, those of gt.json never; the annotations come first, then the predictions"
    ]
    edit(other.gt, lambda root: root["annotations"][0]["segments_info"][0].update(iscrowd=1))
    assert warnings_of(other) == []


def test_where_nothing_matches_it_is_said_what_to_check(case: Case) -> None:
    edit(case.pred, lambda root: [s.update(category_id=5) for a in root["annotations"] for s in a["segments_info"]])
    (line,) = warnings_of(case)
    assert line.startswith("no category is both annotated and predicted: annotated are 1, 92, predicted 5; do ids mean")
    change = {1: 92, 92: 1}
    other = Case(case.folder / "exchanged")
    edit(
        other.pred,
        lambda root: [
            s.update(category_id=change[s["category_id"]]) for a in root["annotations"] for s in a["segments_info"]
        ],
    )
    (line,) = warnings_of(other)
    assert line.startswith("no segment matches: PQ is 0; same images? same category ids? PNGs at their place and size?")
    for number in (3, 4, 5):
        coco.write_ids(other.pred_dir / f"{number}.png", np.zeros((40 + number, 60), int))
    edit(other.pred, lambda root: [a.update(segments_info=[]) for a in root["annotations"]])
    (line,) = warnings_of(other)
    assert line == f"{other.pred}: no segment is predicted where something is annotated: PQ is 0"
    edit(other.pred, lambda root: [a.update(image_id=a["image_id"] + 10) for a in root["annotations"]])
    edit(other.pred, lambda root: [a.update(id=a["id"] + 10) for a in root["images"]])
    other.out.unlink()
    said = "no prediction for image 3 and 2 more images: no image is in both files; those here are such as 13"
    assert other.fault() == f"{other.pred}: {said}"


# --- images, pictures and confusions ----------------------------------------------------------------------------------


def confused(case: Case) -> None:
    """In image 4 a car is predicted for a person, another person is not predicted, and one nearby is."""
    _, ids = case.image(4, 2)
    ids[ids == 14] = 7
    ids[39:43, 2:8] = 30
    coco.write_ids(case.pred_dir / "4.png", ids)
    segments = [{"id": i, "category_id": c} for i, c in ((1, 5), (7, 92), (30, 1))]
    edit(case.pred, lambda root: root["annotations"][1].update(segments_info=segments))


def test_every_image_has_figures_and_the_ids_of_what_errs(case: Case) -> None:
    confused(case)
    images = {image["image_id"]: image for image in case.report()["images"]}
    assert list(images) == [3, 4, 5]
    assert images[3]["missed"] == images[3]["spurious"] == images[3]["wrong_class"] == []
    assert images[3]["pq"] > 0.8
    image = images[4]
    assert (image["tp"], image["fp"], image["fn"]) == (1, 2, 2)
    assert (image["missed"], image["spurious"]) == ([1, 14], [1, 30])
    ((wrong),) = image["wrong_class"]
    assert (wrong["target"], wrong["prediction"]) == (1, 1)
    assert wrong["iou"] > 0.7
    alone = Evaluation({c.id: c.isthing for c in CATEGORIES})
    (a, truth), data = case.image(4, 0), coco.read(case.pred, case.pred_dir)
    alone.update((data.ids(data.annotations[1]), data.annotations[1].segments), (truth, a.segments))
    result = alone.compute()
    assert image["pq"] == result.pq.all.pq
    assert image["pc"] == result.pc.pc
    assert image["miou"] == result.iou.miou


def test_pictures_show_what_errs_in_its_color(case: Case) -> None:
    confused(case)
    out, photos = case.folder / "out", case.folder / "photos"
    photos.mkdir()
    for number in (3, 4, 5):
        noise = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    result = run(*case.arguments(), "--pictures", out, "--images", photos, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["3.png", "4.png", "5.png", "pictures.json"]
    listing = json.loads((out / "pictures.json").read_text())
    assert listing["images"][0]["picture"] == "4.png"  # the worst
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(*case.arguments(), "--pictures", out, "--images", photos, "--workers", 1).exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    without = case.folder / "without"
    assert run(*case.arguments(), "--pictures", without).exit_code == 0
    assert (without / "4.png").read_bytes() != first["4.png"]


@pytest.mark.parametrize("kind", ["turned by EXIF", "with another suffix", "a link out of the folder"])
def test_photographs_of_pictures_are_found_and_turned_as_the_map_is(case: Case, kind: str) -> None:
    photos, elsewhere = case.folder / "photos", case.folder / "elsewhere"
    photos.mkdir()
    for number in (3, 4, 5):
        noise = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    path = photos / "4.png"

    def picture(out: Path) -> bytes:
        result = run(*case.arguments(), "--follow-links", "--pictures", out, "--images", photos)
        assert result.exit_code == 0, result.output
        return (out / "4.png").read_bytes()

    first = picture(case.folder / "first")
    with Image.open(path) as photo:
        photo.load()
    path.unlink()
    if kind == "turned by EXIF":
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        photo.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    elif kind == "with another suffix":
        photo.save(photos / "4.TIFF")
    else:
        photo.save(elsewhere, format="PNG")
        path.symlink_to(elsewhere)
    assert picture(case.folder / "second") == first


def test_larger_pictures_are_counted_and_drawn_if_asked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    result = run(*case.arguments())
    assert result.exit_code == 2
    assert (
        "4.png: too many pixels: 60 × 44, the most is 1000; --max-pixels 2640 or max_pixels takes it" in result.stderr
    )
    out = case.folder / "out"
    result = run(*case.arguments(), "--max-pixels", 2700, "--pictures", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"\n3 pictures, and pictures.json with the worst first, in {out}\n")
    assert Image.MAX_IMAGE_PIXELS == 1000
    oracle = ["oracle", str(case.gt), "--gt-dir", str(case.gt_dir)]
    assert CliRunner().invoke(app, oracle).exit_code == 2
    assert CliRunner().invoke(app, [*oracle, "--max-pixels", "2700"]).exit_code == 0


PICTURE_FAULTS: dict[str, tuple[Callable[[Case], object], str]] = {
    "no photograph": (
        lambda c: (c.folder / "photos" / "4.png").unlink(),
        "no photograph of image 4 of gt.json",
    ),
    "no folder": (
        lambda c: (c.folder / "photos").rename(c.folder / "moved"),
        "photos: no such file or directory",
    ),
    "another size": (
        lambda c: Image.new("RGB", (9, 9)).save(c.folder / "photos" / "4.png"),
        "is 9 × 9 px, but 4.png 60 × 44 px",
    ),
    "files of others": (
        lambda c: ((c.folder / "out").mkdir(), (c.folder / "out" / "4.png").write_text("")),
        "is there already and not of deeperlab eval --pictures; choose another --pictures",
    ),
    "two of one name": (
        lambda c: edit(c.gt, lambda root: root["annotations"][0].update(file_name="4.png")),
        "pictures: expected distinct names of files, got '4.png' twice",
    ),
}


@pytest.mark.parametrize("kind", PICTURE_FAULTS)
def test_faults_of_pictures_are_one_line(case: Case, kind: str) -> None:
    spoil, words = PICTURE_FAULTS[kind]
    (case.folder / "photos").mkdir()
    for number in (3, 4, 5):
        Image.new("RGB", (60, 40 + number)).save(case.folder / "photos" / f"{number}.png")
    spoil(case)
    result = run(*case.arguments(), "--pictures", case.folder / "out", "--images", case.folder / "photos")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not case.out.exists()
    assert "--pictures" in run(*case.arguments(), "--images", case.folder / "photos").stderr


def test_confusions_are_printed_and_written_in_three_forms(case: Case) -> None:
    confused(case)
    files = [case.folder / f"confusion.{kind}" for kind in ("csv", "json", "png")]
    result = run(*case.arguments(), *(word for file in files for word in ("--confusion", file)))
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["person", "grass"] in [row[:2] for row in rows]
    assert ["person", "car"] in [row[:2] for row in rows]
    table = [line.split(",") for line in files[0].read_text().splitlines()]
    assert table[0][-4:] == ["person", "car", "grass", "void"]
    counted = json.loads(files[1].read_text())
    assert (counted["unit"], counted["rows"], counted["columns"]) == ("pixels", [1, 5, 92], [1, 5, 92, None])
    assert counted["categories"][1]["name"] == "car"
    assert [[int(cell) for cell in row[-4:]] for row in table[1:]] == counted["pixels"]
    pixels = np.array(counted["pixels"])
    labeled = sum(int((case.image(n, 0)[1] > 0).sum()) for n in (3, 4, 5))
    assert pixels.sum() == labeled
    report = json.loads(case.out.read_text())
    assert report["confusion"]["pixels"] == counted["pixels"]
    for i, c in enumerate(("1", "5", "92")):  # mean IoU is computed from it
        union = pixels[i].sum() + pixels[:, i].sum() - pixels[i, i]
        assert report["iou"]["per_class"][c] == pytest.approx(pixels[i, i] / union if union else None)
    with Image.open(files[2]) as picture:
        assert min(picture.size) > 100
    wrong = run(*case.arguments(), "--confusion", "table.xlsx")
    assert wrong.exit_code == 2
    assert ".csv, .json or .png" in wrong.stderr


def test_confusions_add_up_in_any_order_of_the_categories() -> None:
    from deeperlab.metrics import ConfusionMatrix

    rng = np.random.default_rng(0)
    whole = ConfusionMatrix({1: True, 5: True, 92: False})
    parts = [ConfusionMatrix({1: True, 5: True, 92: False}), ConfusionMatrix({92: False, 1: True, 5: True})]
    for i in range(6):
        target, prediction = (rng.choice([-1, 1, 5, 92], (9, 9)) for _ in range(2))
        ones = np.ones((9, 9), int)
        for metric in (whole, parts[i % 2]):
            metric.update((prediction, ones), (target, ones))
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].compute().pixels, whole.compute().pixels)
    true, predicted, pixels, share = whole.compute().largest()[0]
    row = whole.compute().pixels[[1, 5, 92].index(true)]
    assert pixels == max(whole.compute().pixels[i, j] for i in range(3) for j in range(4) if i != j)
    assert share == pytest.approx(pixels / row.sum())
    assert predicted is None or predicted != true
