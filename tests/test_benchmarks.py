# SPDX-License-Identifier: Apache-2.0
"""What is said about speed: how runs are read, kept, compared, tabulated and drawn. Nothing here is timed."""

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
from benchmarks import conftest, report

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
def full(write: Callable[..., Path]) -> report.Run:
    """Three sizes, four numbers of things, and one scene of other heads, which no curve may show."""
    scenes = [(s, 50, 1.0) for s in (257, 1441, 2881, (1025, 2049))] + [(1441, n, 1 / (1 + n / 1000)) for n in (5, 500)]
    entries = [entry for scene in scenes for entry in scene_of(*scene)]
    return report.read(write("full.json", raw(entries + scene_of(1441, 50, 9.0, "float16"))))


def test_a_run_of_pytest_benchmark_is_read(write: Callable[..., Path]) -> None:
    run = report.read(write("run.json", raw(scene_of(1000, 50, 1.0))))
    assert (run.commit, run.machine_key) == ("0123456", "A Processor, 2 cores, avx2")
    assert [(f.contender, f.threads) for f in run.figures] == [
        ("tensors", 1),
        ("tensors", 2),
        ("arrays", 1),
        ("arrays", 2),
        ("same_answer", 1),
        ("upsample_first", 1),
    ]
    assert [round(f.ms, 9) for f in run.figures] == [10, 5, 10, 5, 500, 2000]
    (ratios,) = run.ratios().values()
    expected = {"tensors, 1 thread": 50, "tensors, 2 threads": 100, "arrays, 1 thread": 50, "arrays, 2 threads": 100}
    assert ratios == pytest.approx(expected)


def test_other_benchmarks_are_reported_by_what_they_measured(write: Callable[..., Path]) -> None:
    silent = benchmark("draw: 721 px, 50 things", 3.0, {"size": 721})
    memory = benchmark("process: memory", 900.0, {"measured": {"scratch": 4199659, "ratio": 1.9}})
    path = write("run.json", raw([*scene_of(721, 50, 1.0), silent, memory]))
    assert len(report.read(path).figures) == 6
    assert report.report(report.read(path)).endswith("| x[1] | scratch 4.2e+06; ratio 1.9 |")


def test_files_that_are_no_runs_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"expected a run of these benchmarks, got the keys \['a'\]"):
        report.read(write("other.json", {"a": 1}))
    with pytest.raises(ValueError, match=r"expected a run of these benchmarks, got the keys"):
        report.read(write("others.json", raw([]) | {"machine_info": {"node": "host"}}))


def test_of_several_runs_the_quickest_figures_count(write: Callable[..., Path]) -> None:
    slow = report.read(write("slow.json", raw(scene_of(1000, 50, 0.5))))
    busy = replace(report.read(write("busy.json", raw(scene_of(1000, 50, 1.0), slowdown=1.2))), other_work=0.7)
    merged = report.merged([slow, busy])
    assert [round(f.ms, 9) for f in merged.figures] == [12, 6, 12, 6, 500, 2000]
    assert merged.other_work == 0.7
    with pytest.raises(ValueError, match=r"expected one machine and commit, got A Processor, .* and Another, "):
        report.merged([slow, report.read(write("else.json", raw(scene_of(1000, 50, 1.0), cpu="Another")))])


@pytest.mark.parametrize(
    ("speed", "slowdown", "status"),
    [(1.0, 1.0, 0), (1.0, 2.0, 0), (0.92, 1.0, 0), (0.88, 1.0, 1), (0.88, 0.5, 1), (2.0, 1.0, 0)],
    ids=["the same", "a slower machine", "8 % of time", "13 % of time", "on a faster machine", "twice as fast"],
)
def test_comparison_is_of_ratios(
    write: Callable[..., Path], tmp_path: Path, capsys: Any, speed: float, slowdown: float, status: int
) -> None:
    report.store(report.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    now = write("now.json", raw(scene_of(721, 50, 1.0) + scene_of(1441, 50, speed), slowdown))
    assert report.compare([now], tmp_path / "ratios.json") == status
    lines = [line for line in capsys.readouterr().out.splitlines() if "tensors, 1 thread" in line]
    assert f"| 50.0 | {50 * speed:.1f} | {100 / speed - 100:+.1f} % | {'FAILS' if status else 'ok'} |" in lines[0]
    assert "| not stored |" in lines[1]


def test_a_stored_scene_that_did_not_run_fails(write: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    report.store(report.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    now = write("now.json", raw(scene_of(721, 50, 1.0)))
    assert report.compare([now], tmp_path / "ratios.json") == 1
    assert "| not measured | FAILS |" in capsys.readouterr().out


def test_ratios_are_kept_by_machine(write: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    ratios = tmp_path / "ratios.json"
    one = write("one.json", raw(scene_of(1441, 50, 1.0)))
    other = write("other.json", raw(scene_of(1441, 50, 3.0), cpu="Another"))
    with pytest.raises(LookupError, match=r"expected ratios of this machine \(A Processor, 2 cores, avx2\), got none"):
        report.compare([one], ratios)
    report.store(report.read(one), ratios)
    with pytest.raises(LookupError, match=r"\(Another, 2 cores, avx2\), got A Processor, 2 cores, avx2"):
        report.compare([other], ratios)
    report.store(report.read(other), ratios)
    assert report.main(["compare", str(one)]) == 2, "the ratios in the repository are of another machine"
    assert "expected ratios of this machine (A Processor" in capsys.readouterr().err
    assert report.compare([one], ratios) == report.compare([other], ratios) == 0


def test_a_run_without_yardstick_cannot_be_compared(write: Callable[..., Path], tmp_path: Path) -> None:
    entries = [entry for entry in scene_of(1441, 50, 1.0) if entry["extra_info"]["contender"] != "same_answer"]
    run = report.read(write("now.json", raw(entries)))
    with pytest.raises(LookupError, match="expected the library and its yardstick in one scene, got none"):
        report.store(run, tmp_path / "ratios.json")
    assert not (tmp_path / "ratios.json").exists()


@pytest.mark.parametrize(("speeds", "attempts", "status"), [((0.7, 1.0), 2, 0), ((0.7, 0.7, 0.8), 3, 1)])
def test_slow_runs_are_repeated(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: Any, capsys: Any, speeds: Any, attempts: int, status: int
) -> None:
    report.store(report.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    made = []

    def run_quick(attempt: int) -> report.Run:
        made.append(attempt)
        run = report.read(write("now.json", raw(scene_of(1441, 50, speeds[attempt - 1]))))
        return replace(run, other_work=1.5)

    monkeypatch.setattr(report, "run_quick", run_quick)
    assert report.compare([], tmp_path / "ratios.json") == status
    assert made == list(range(1, attempts + 1))
    assert ("Other work had 1.5 of the processors" in capsys.readouterr().out) == bool(status)


def test_the_table_has_ratios_and_the_figures_of_the_paper(full: report.Run) -> None:
    head, _, *lines = report.table(full).splitlines()
    assert "| tensors, 1 / 2 threads | arrays, 1 / 2 threads |" in head
    assert "PyTorch" not in head, "a column of a contender that did not run"
    line = next(line for line in lines if line.startswith("| 1441 px, 50 things, float32"))
    assert line.endswith("| 49 | 7.9 % | 20.8 / 10.4 | 20.8 / 10.4 | 1,038 (× 50) | 4,153 (× 200), PQ 0.47 | 145 |")
    assert report.scaling(full).splitlines() == [
        "2,076,481 → 8,300,161 pixels (× 4) take × 4 the time  ",
        "5 → 500 things (× 100) take × 1.49 the time",
    ]


def test_the_table_has_the_time_over_the_floor(write: Callable[..., Path]) -> None:
    """A floor of two threads that is slower than that of one is none."""
    scene = scene_of(1000, 50, 1.0)
    facts = scene[0]["extra_info"] | {"contender": "floor"}
    floors = [benchmark(scene[0]["group"], ms, facts | {"threads": n}) for n, ms in ((1, 4.0), (2, 5.0))]
    head, _, line = report.table(report.read(write("run.json", raw(scene + floors)))).splitlines()
    at = head.split(" | ").index("tensors over the floor")
    assert line.split(" | ")[at] == "2.5 / 1.2"


def test_curves_are_of_like_scenes(full: report.Run) -> None:
    pixels, things = (full.curve("tensors", 1, over_things=over) for over in (False, True))
    assert [pixel_count for pixel_count, _ in pixels] == [257**2, 1441**2, 1025 * 2049, 2881**2]
    assert [count for count, _ in things] == [5, 50, 500]
    assert dict(things)[50] == pytest.approx(10 * 1441**2 / 1e6)


@pytest.mark.slow
def test_plots_are_small_and_equal_for_equal_figures(full: report.Run, tmp_path: Path) -> None:
    first, again = report.plots(full, tmp_path / "a"), report.plots(full, tmp_path / "b")
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
    run = report.read(write("quick.json", raw(scene_of(721, 50, 1.0) + scene_of(1441, 50, 1.0))))
    with pytest.raises(ValueError, match=r"expected .* at two sizes and with two numbers of things, got fewer"):
        report.plots(run, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_the_newest_run_is_that_of_the_last_date(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a kept run, got none; `make bench` makes one"):
        report.newest(tmp_path)
    (tmp_path / "Linux").mkdir()
    write("0001_a.json", raw([]) | {"datetime": "2026-11-22T00:00:00+00:00"})
    last = write("Linux/0001_b.json", raw([]) | {"datetime": "2026-11-23T00:00:00+00:00"})
    write("latest.json", {"unlike": "a run"})
    assert report.newest(tmp_path) == last


@pytest.mark.slow
def test_the_run_in_the_repository_is_the_one_that_the_plots_show(tmp_path: Path) -> None:
    """Only their texts are compared: another version of matplotlib may round coordinates otherwise."""
    for path in report.plots(report.read(report.newest()), tmp_path)[::2]:
        texts, shown = (re.findall(r">([^<>]*\w[^<>]*)<", p.read_text()) for p in (path, ROOT / "docs" / path.name))
        assert texts == shown


def test_the_machine_is_described_without_the_name_of_its_host(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor\n")
    facts = conftest.pytest_benchmark_generate_machine_info(tmp_path / "cpuinfo")
    assert facts["cpu"] == "A Processor"
    assert facts["simd"] in ("plain", "baseline", "avx2", "avx512")
    assert facts.keys() == MACHINE.keys()
    assert facts["compiler"].startswith(("GCC: ", "clang version "))
    commit = {"id": "0123", "project": "folder", "branch": "name"}
    conftest.pytest_benchmark_update_commit_info(commit)
    assert commit == {"id": "0123"}


def test_other_work_is_what_this_process_did_not_do() -> None:
    start = conftest.ProcessorTime(machine=100.0, process=2.0, clock=50.0)
    assert conftest.ProcessorTime(machine=118.0, process=12.0, clock=60.0).others_since(start) == pytest.approx(0.8)
    assert conftest.ProcessorTime(machine=109.9, process=12.0, clock=60.0).others_since(start) == 0, "rounded apart"
    now = conftest.ProcessorTime.now()
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
