# SPDX-License-Identifier: Apache-2.0
"""What is said about speed: how runs are read, tabulated and drawn, how speed is tracked. Nothing here is timed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import conftest, machine, plots, report, runs, tables, tracking
from benchmarks.cases import Spec

from deeperlab.stages import pipeline

ROOT = Path(__file__).resolve().parents[1]
MACHINE = {
    "cpu": "A Processor",
    "cores": 2,
    "gpu": None,
    "simd": "avx2",
    "compiler": "GCC: (Some 12) 12.2.0",
    "python": "3.11.7",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "deeperlab": "0.1.0",
}


def benchmark(group: str, ms: float, info: dict[str, Any]) -> dict[str, Any]:
    """One entry, as pytest-benchmark writes it."""
    return {"group": group, "name": "bench_x[1]", "extra_info": info, "stats": {"min": ms / 1e3, "median": ms / 900}}


def scene_of(size: Any, instances: int, speed: float, dtype: str = "float32") -> list[dict[str, Any]]:
    """A scene in which the library takes 10 / speed ms a megapixel on one thread, the yardstick 500."""
    height, width = (size, size) if isinstance(size, int) else size
    mega, group = height * width / 1e6, f"fuse: {size} px, {instances} things, {dtype}"
    info = {"size": size, "instances": instances, "stride": 4, "dtype": dtype, "found": instances - 1}
    info |= {"mixed cells": 0.079}
    entries = [
        benchmark(group, 10 * mega / n / speed, info | {"contender": name, "threads": n})
        for name in ("tensors", "arrays")
        for n in (1, 2)
    ]
    slow = {"same_answer": (500, {}), "upsample_first": (2000, {"pq": 0.7, "things pq": 0.47})}
    return entries + [
        benchmark(group, ms * mega, info | facts | {"contender": name, "threads": 1})
        for name, (ms, facts) in slow.items()
    ]


def raw(entries: list[dict[str, Any]], slowdown: float = 1.0, cpu: str = "A Processor") -> dict[str, Any]:
    """A whole JSON; on a machine that is slower by `slowdown` in everything."""
    entries = [e | {"stats": e["stats"] | {k: slowdown * e["stats"][k] for k in ("min", "median")}} for e in entries]
    return {
        "machine_info": MACHINE | {"cpu": cpu},
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2026-11-21T08:44:10.123456+00:00",
        "command": "make bench",
        "other_work": 0.04,
        "benchmarks": entries,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def file(name: str, data: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(data))
        return path

    return file


@pytest.fixture
def full(write: Callable[..., Path]) -> runs.Run:
    """Three sizes, four numbers of things, and one scene of other heads, which no curve may show."""
    scenes = [(s, 50, 1.0) for s in (257, 1441, 2881, (1025, 2049))] + [(1441, n, 1 / (1 + n / 1000)) for n in (5, 500)]
    entries = [entry for scene in scenes for entry in scene_of(*scene)]
    return runs.read(write("full.json", raw(entries + scene_of(1441, 50, 9.0, "float16"))))


def test_a_run_of_pytest_benchmark_is_read(write: Callable[..., Path]) -> None:
    run = runs.read(write("run.json", raw(scene_of(1000, 50, 1.0))))
    assert (run.commit, run.command) == ("0123456", "make bench")
    assert [(f.contender, f.threads) for f in run.fusion] == [
        ("tensors", 1),
        ("tensors", 2),
        ("arrays", 1),
        ("arrays", 2),
        ("same_answer", 1),
        ("upsample_first", 1),
    ]
    assert [round(f.ms, 9) for f in run.fusion] == [10, 5, 10, 5, 500, 2000]
    assert str(run) == (
        "2026-11-21, commit 0123456, `make bench`: A Processor, 2 cores, avx2; GCC: (Some 12) 12.2.0, torch 2.13.0, "
        "numpy 2.4.6, python 3.11.7; other work had 0.0 processors meanwhile."
    )


def test_other_benchmarks_are_reported_by_what_they_measured(write: Callable[..., Path]) -> None:
    silent = benchmark("draw: 721 px, 50 things", 3.0, {"size": 721})
    memory = benchmark("process: memory", 900.0, {"measured": {"scratch": 4199659, "ratio": 1.9}})
    run = runs.read(write("run.json", raw([*scene_of(721, 50, 1.0), silent, memory])))
    assert (len(run.fusion), run.kernels) == (6, ())
    assert tables.report(run).endswith("| x[1] | scratch 4.2e+06; ratio 1.9 |")


def test_files_that_are_no_runs_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"expected a run of these benchmarks, got the keys \['a'\]"):
        runs.read(write("other.json", {"a": 1}))
    with pytest.raises(ValueError, match=r"expected a run of these benchmarks, got the keys"):
        runs.read(write("others.json", raw([]) | {"machine_info": {"node": "host"}}))
    assert report.main(["table", str(write("other.json", {"a": 1}))]) == 2


# Tracking

SCENE, ROW = "fuse: 1441 px, 50 things", "argmax"


def processes(*ratios: float, name: str = ROW) -> list[tracking.Ratios]:
    return [{SCENE: {name: ratio}} for ratio in ratios]


def judged(before: list[tracking.Ratios], now: list[tracking.Ratios], **options: Any) -> tracking.Row:
    (row,) = tracking.compared(tracking.gathered(before), tracking.gathered(now), **options)
    return row


@pytest.mark.parametrize(
    ("now", "fails"),
    [((10, 10.2, 9.9), False), ((8.5, 8.6, 9.9), True), ((9.3, 9.2, 9.2), False), ((8.5, 9.9, 9.9), False)],
    ids=["the same", "16 % of time, but for one", "8 % of time", "within the noise"],
)
def test_a_row_fails_beyond_a_tenth_and_beyond_all_noise(now: tuple[float, ...], fails: bool) -> None:
    row = judged(processes(10.0, 10.1, 9.8), processes(*now))
    assert row.fails == fails
    text = tracking.comparison([row])
    assert ("| SLOWER |" in text) == fails
    assert text.endswith("Nothing is slower." if not fails else f"Slower: argmax +16 % ({SCENE}, noise ±8 %)")


def test_the_noise_is_half_of_what_processes_differ_by() -> None:
    assert judged(processes(10.0, 11.0, 9.0), processes(10.0)).noise == pytest.approx(0.1)


def test_a_row_that_is_no_longer_measured_fails_and_a_new_one_does_not() -> None:
    rows = tracking.compared(tracking.gathered(processes(1.0)), tracking.gathered(processes(1.0, name="vote")))
    assert [(row.name, row.fails) for row in rows] == [("argmax", True), ("vote", False)]
    assert "not measured" in tracking.comparison(rows)


def test_two_threads_are_judged_where_nothing_else_works() -> None:
    before, now = (processes(of, name=tracking.TWO_THREADS) for of in (10.0, 5.0))
    assert judged(before, now).fails
    assert not judged(before, now, quiet=False).fails
    assert "not judged" in tracking.comparison([judged(before, now, quiet=False)])


@pytest.mark.parametrize(("speeds", "looks", "status"), [((1.0, 1.0), 1, 0), ((0.7, 1.0), 2, 0), ((0.7, 0.7), 2, 1)])
def test_what_looks_slower_is_measured_once_more(
    tmp_path: Path, monkeypatch: Any, capsys: Any, speeds: Any, looks: int, status: int
) -> None:
    kept, made = tmp_path / "ratios.json", list[str]()
    speed = [1.0] * tracking.PROCESSES + [of for of in speeds for _ in range(tracking.PROCESSES)]

    def run_process(python: str = sys.executable) -> tracking.Ratios:
        made.append(python)
        return {SCENE: {ROW: 10 * speed[len(made) - 1]}}

    monkeypatch.setattr(tracking, "run_process", run_process)
    arguments = ["--ratios", str(kept)]
    assert tracking.main(["compare", *arguments]) == 2
    assert "expected ratios of this machine" in capsys.readouterr().err
    assert tracking.main(["store", *arguments]) == 0
    assert tracking.main(["compare", *arguments]) == status
    assert len(made) == (1 + looks) * tracking.PROCESSES
    out, err = capsys.readouterr()
    assert ("Slower: argmax +43 %" in out) == bool(status)
    assert ("first look: argmax +43 %" in err) == (looks == 2)


def test_two_builds_are_measured_in_turns(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    made = list[str]()

    def run_process(python: str = sys.executable) -> tracking.Ratios:
        made.append(python)
        return {SCENE: {ROW: 8.0 if python == sys.executable else 10.0}}

    monkeypatch.setattr(tracking, "run_process", run_process)
    assert tracking.main(["compare", "--base", str(tmp_path)]) == 1
    assert made == [str(tmp_path / ".venv/bin/python"), sys.executable] * 2 * tracking.PROCESSES
    assert "Slower: argmax +25 %" in capsys.readouterr().out


def test_a_build_that_cannot_be_measured_is_no_faster_one(capfd: Any) -> None:
    with pytest.raises(LookupError, match="false: its library could not be measured"):
        tracking.run_process("false")


@pytest.mark.slow
def test_a_process_measures_the_fusion_its_stages_and_the_other_kernels(monkeypatch: Any) -> None:
    monkeypatch.setattr(tracking, "SCENES", (Spec(97, 5),))
    monkeypatch.setattr(tracking, "TURNS", 1)
    monkeypatch.setattr(tracking, "KERNELS", {"overlap": tracking.KERNELS["overlap"]})
    before = torch.get_num_threads()
    try:
        found = tracking.measure()
    finally:
        torch.set_num_threads(before)
    assert found.keys() == {"fuse: 97 px, 5 things", "beside the fusion"}
    assert found["fuse: 97 px, 5 things"].keys() >= {"fuse, 1 thread", *pipeline.NAMES}
    assert all(ratio > 0 for rows in found.values() for ratio in rows.values())


# Tables


def test_the_table_has_ratios_and_the_figures_of_the_paper(full: runs.Run) -> None:
    head, _, *lines = tables.table(full.fusion).splitlines()
    assert "| tensors, 1 / 2 threads | arrays, 1 / 2 threads |" in head
    assert "PyTorch" not in head, "a column of a contender that did not run"
    line = next(line for line in lines if line.startswith("| 1441 px, 50 things, float32"))
    assert line.endswith("| 49 | 7.9 % | 20.8 / 10.4 | 20.8 / 10.4 | 1,038 (× 50) | 4,153 (× 200), PQ 0.47 | 145 |")
    assert tables.scaling(full).splitlines() == [
        "2,076,481 → 8,300,161 pixels (× 4) take × 4 the time  ",
        "5 → 500 things (× 100) take × 1.49 the time",
    ]


def test_the_table_has_the_time_over_the_floor(write: Callable[..., Path]) -> None:
    """A floor of two threads that is slower than that of one is none."""
    scene = scene_of(1000, 50, 1.0)
    facts = scene[0]["extra_info"] | {"contender": "floor"}
    floors = [benchmark(scene[0]["group"], ms, facts | {"threads": n}) for n, ms in ((1, 4.0), (2, 5.0))]
    head, _, line = tables.table(runs.read(write("run.json", raw(scene + floors))).fusion).splitlines()
    at = head.split(" | ").index("over the floor")
    assert line.split(" | ")[at] == "2.5 / 1.2"


def test_kernels_stand_beside_their_floors_and_others_on_as_many_threads(write: Callable[..., Path]) -> None:
    contenders = [("arrays", 1, 3.0), ("arrays", 2, 2.0), ("floor", 1, 0.5), ("numpy", 1, 30.0), ("hotcoco", 2, 3.0)]
    entries = [benchmark("draw: 9 px", ms, {"contender": name, "threads": n}) for name, n, ms in contenders]
    run = runs.read(write("run.json", raw([*scene_of(721, 50, 1.0), *entries])))
    head, _, line = tables.report(run).split("\n\n")[-1].splitlines()
    assert head == "| scene | arrays, 1 / 2 threads | floor | over the floor | NumPy | hotcoco |"
    assert line == "| draw: 9 px | 3.00 / 2.00 | 0.50 | 6.0 / 4.0 | 30.0 (× 10) | 3.00 (× 1.5) |"


def test_documents_leave_out_threads_that_other_work_has_held_up(full: runs.Run, tmp_path: Path) -> None:
    for path, name in tables.DOCUMENTS:
        page = tmp_path / path
        page.parent.mkdir(exist_ok=True)
        before = page.read_text() if page.exists() else ""
        page.write_text(f"{before}<!-- {name}: made by `make bench-docs` -->\n\n<!-- end of {name} -->\n")
    fusion = [replace(f, scene=f.scene.removesuffix(", float32")) for f in full.fusion]
    full = replace(full, fusion=(*fusion, *(replace(f, contender="expert") for f in fusion)))
    quiet, busy = (
        tables.documents(replace(full, other_work=of), tmp_path)[tmp_path / "README.md"] for of in (0.1, 0.2)
    )
    assert "| this package, 1 / 2 threads |" in quiet
    assert "| 50 things | **20.8 / 10.4 ms** | 1,038 ms |" in quiet
    assert "| this package, 1 thread |" in busy
    assert "| 50 things | **20.8 ms** | 1,038 ms |" in busy


def test_documents_have_the_tables_of_the_run_that_is_kept() -> None:
    for path, text in tables.documents(runs.read(runs.newest())).items():
        assert path.read_text() == text, f"{path.name}: `make bench-docs` makes it anew"


def test_a_page_without_a_place_for_its_table_is_an_error(full: runs.Run, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("none")
    with pytest.raises(ValueError, match=r"README.md: expected one place of the table, between <!-- the f"):
        tables.documents(full, tmp_path)


# Plots


def test_curves_are_of_like_scenes(full: runs.Run) -> None:
    pixels, things = (full.curve("tensors", 1, over_things=over) for over in (False, True))
    assert [pixel_count for pixel_count, _ in pixels] == [257**2, 1441**2, 1025 * 2049, 2881**2]
    assert [count for count, _ in things] == [5, 50, 500]
    assert dict(things)[50] == pytest.approx(10 * 1441**2 / 1e6)


@pytest.mark.slow
def test_plots_are_small_and_equal_for_equal_figures(full: runs.Run, tmp_path: Path) -> None:
    first, again = plots.plots(full, tmp_path / "a"), plots.plots(full, tmp_path / "b")
    assert [path.name for path in first] == [
        "time-over-pixels.svg",
        "time-over-pixels.png",
        "time-over-things.svg",
        "time-over-things.png",
    ]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for path in first[::2]:
        assert path.stat().st_size < 60_000
        for text in ("deeperlab, 1 thread", "plain C++, same answer", "1,000 ms"):
            assert text in path.read_text()
    assert "the paper's merge" in first[0].read_text()


def test_a_quick_run_is_not_drawn(write: Callable[..., Path], tmp_path: Path) -> None:
    run = runs.read(write("quick.json", raw(scene_of(721, 50, 1.0) + scene_of(1441, 50, 1.0))))
    with pytest.raises(ValueError, match=r"expected .* at two sizes and with two numbers of things, got fewer"):
        plots.plots(run, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_the_newest_run_is_that_of_the_last_date(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a kept run, got none; `make bench` makes one"):
        runs.newest(tmp_path)
    (tmp_path / "Linux").mkdir()
    write("0001_a.json", raw([]) | {"datetime": "2026-11-22T00:00:00+00:00"})
    last = write("Linux/0001_b.json", raw([]) | {"datetime": "2026-11-23T00:00:00+00:00"})
    write("latest.json", {"unlike": "a run"})
    assert runs.newest(tmp_path) == last


@pytest.mark.slow
def test_the_run_in_the_repository_is_the_one_that_the_plots_show(tmp_path: Path) -> None:
    """Only their texts are compared: another version of matplotlib may round coordinates otherwise."""
    for path in plots.plots(tables.evident(runs.read(runs.newest())), tmp_path)[::2]:
        texts, shown = (re.findall(r">([^<>]*\w[^<>]*)<", p.read_text()) for p in (path, ROOT / "docs" / path.name))
        assert texts == shown


def test_the_machine_is_described_without_the_name_of_its_host(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor\n")
    facts = machine.describe(tmp_path / "cpuinfo")
    assert facts["cpu"] == "A Processor"
    assert facts["simd"] in ("plain", "baseline", "avx2", "avx512")
    assert facts.keys() == MACHINE.keys()
    assert facts["compiler"].startswith(("GCC: ", "clang version "))
    commit = {"id": "0123", "project": "folder", "branch": "name"}
    conftest.pytest_benchmark_update_commit_info(commit)
    assert commit == {"id": "0123"}


def test_other_work_is_what_this_process_did_not_do() -> None:
    start = machine.ProcessorTime(machine=100.0, process=2.0, clock=50.0)
    assert machine.ProcessorTime(machine=118.0, process=12.0, clock=60.0).others_since(start) == pytest.approx(0.8)
    assert machine.ProcessorTime(machine=109.9, process=12.0, clock=60.0).others_since(start) == 0, "rounded apart"
    now = machine.ProcessorTime.now()
    assert now.machine > now.process > 0


@pytest.mark.slow
def test_peak_memory_is_seen() -> None:
    """48 MiB that are given back, 16 MiB that stay; huge pages may round either. In a process without a past."""
    code = """
import numpy as np
from benchmarks.process import with_peak

def call():
    np.ones(48 << 20, np.uint8)
    return np.ones(16 << 20, np.uint8)

result, peak = with_peak(call)
print(result.nbytes, peak)
(both, _), peak = with_peak(lambda: (np.ones(48 << 20, np.uint8), call()))
print(both.nbytes, peak)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    (result, one), (both, two) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (result, both) == (16 << 20, 48 << 20)
    assert 47 << 20 < one < 53 << 20
    assert 95 << 20 < two < 103 << 20
