# SPDX-License-Identifier: Apache-2.0
"""What is said about speed: how runs are read, kept, compared, tabulated and drawn. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import compare, machine, networks, plots, process, report, runs

MACHINE = {
    "cpu": "A Processor",
    "cores": 2,
    "simd": "avx2",
    "compiler": "GCC: (Some 12) 12.2.0",
    "python": "3.11.7",
    "torch": "2.13.0",
    "numpy": "2.4.6",
    "deeperlab": "0.1.0",
}


def benchmark(function: str, scene: str, ms: float, info: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """One entry, as pytest-benchmark writes it."""
    return {
        "group": f"fuse: {scene}",
        "name": f"{function}[{scene}-{params}]",
        "fullname": f"benchmarks/bench_fuse.py::{function}[{scene}-{params}]",
        "params": params,
        "extra_info": info,
        "stats": {"min": ms / 1e3, "median": 1.1 * ms / 1e3, "rounds": 3, "data": [ms / 1e3, 1.1 * ms / 1e3]},
    }


def scene_of(size: Any, instances: int, speed: float, dtype: str = "float32") -> list[dict[str, Any]]:
    """A scene in which the library takes 10 / speed ms a megapixel on one thread, the yardstick 500."""
    height, width = (size, size) if isinstance(size, int) else size
    mega, scene = height * width / 1e6, f"{size} px, {instances} things, {dtype}"
    paper = 145 if size == 1441 else None
    info = {"size": size, "instances": instances, "stride": 4, "dtype": dtype, "found": instances - 1}
    info |= {"mixed cells": 0.079, "paper ms": paper}
    entries = [
        benchmark(f"bench_fuse_{name}", scene, 10 * mega / n / speed, info | {"threads": n}, {"threads": n})
        for name in ("tensors", "arrays")
        for n in (1, 2)
    ]
    slow = {"same_answer": (500, {}), "upsample_first": (2000, {"pq": 0.7, "things pq": 0.47})}
    return entries + [
        benchmark(f"bench_fuse_yardstick_{name}", scene, ms * mega, info | facts | {"threads": 1}, {})
        for name, (ms, facts) in slow.items()
    ]


def raw(entries: list[dict[str, Any]], slowdown: float = 1.0, cpu: str = "A Processor") -> dict[str, Any]:
    """A whole JSON; on a machine that is slower by `slowdown` in everything."""
    entries = [e | {"stats": e["stats"] | {k: slowdown * e["stats"][k] for k in ("min", "median")}} for e in entries]
    return {
        "machine_info": {"release": "6.1-secret", "deeperlab": MACHINE | {"cpu": cpu}},
        "commit_info": {"id": "0123456789abcdef", "dirty": False, "project": "secret"},
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
def full(write: Callable[..., Path]) -> runs.Run:
    """Three sizes, four numbers of things, and one scene of other heads, which no curve may show."""
    scenes = [(s, 50, 1.0) for s in (257, 1441, 2881, (1025, 2049))] + [(1441, n, 1 / (1 + n / 1000)) for n in (5, 500)]
    entries = [entry for scene in scenes for entry in scene_of(*scene)]
    return runs.read(write("full.json", raw(entries + scene_of(1441, 50, 9.0, "float16"))))


def test_a_run_of_pytest_benchmark_is_read(write: Callable[..., Path]) -> None:
    run = runs.read(write("run.json", raw(scene_of(1000, 50, 1.0))))
    assert (run.commit, run.machine_key) == ("0123456", "A Processor, 2 cores, avx2")
    assert [(f.bench, f.contender, f.threads) for f in run.figures] == [
        ("fuse", "tensors", 1),
        ("fuse", "tensors", 2),
        ("fuse", "arrays", 1),
        ("fuse", "arrays", 2),
        ("fuse", "same_answer", 1),
        ("fuse", "upsample_first", 1),
    ]
    assert [round(f.min, 9) for f in run.figures] == [10, 5, 10, 5, 500, 2000]
    (ratios,) = run.ratios().values()
    expected = {"tensors, 1 thread": 50, "tensors, 2 threads": 100, "arrays, 1 thread": 50, "arrays, 2 threads": 100}
    assert ratios == pytest.approx(expected)


def test_benchmarks_that_say_less_are_kept_too(write: Callable[..., Path], tmp_path: Path) -> None:
    said = raw(scene_of(721, 50, 1.0))
    overlay = benchmark("bench_overlay", "721 px, 50 things", 3.0, {"size": 721}, {"text": True})
    silent = benchmark("bench_draw", "721 px, 50 things", 2.0, {"size": 721}, {"threads": 2})
    drawn = [e | {"fullname": e["fullname"].replace("fuse.py", "draw.py")} for e in (overlay, silent)]
    run = runs.read(write("run.json", said | {"benchmarks": [*said["benchmarks"], *drawn]}))
    assert [(f.bench, f.contender, f.threads) for f in run.figures[-2:]] == [
        ("draw", "overlay", 0),
        ("draw", "draw", 2),
    ]
    assert runs.read(run.save(tmp_path)) == run
    assert len(report.table(run).splitlines()) == 3


def test_a_kept_run_is_the_run_without_its_host(full: runs.Run, tmp_path: Path) -> None:
    full = replace(full, process={"imports": {"torch": 900.0}})
    path = full.save(tmp_path)
    assert path.name == "2026-11-21-0123456.json"
    assert "secret" not in path.read_text()
    kept = runs.read(path)
    assert kept.process == full.process
    assert kept.ratios() == full.ratios()
    assert report.table(kept) == report.table(full)


def test_files_that_are_no_runs_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"expected a run, with benchmarks or figures, got the keys \['a'\]"):
        runs.read(write("other.json", {"a": 1}))
    bare = raw([])
    del bare["machine_info"]["deeperlab"]
    with pytest.raises(ValueError, match="expected machine_info with deeperlab, got none"):
        runs.read(write("bare.json", bare))


def test_of_several_runs_the_quickest_figures_count(write: Callable[..., Path]) -> None:
    slow = runs.read(write("slow.json", raw(scene_of(1000, 50, 0.5))))
    busy = replace(runs.read(write("busy.json", raw(scene_of(1000, 50, 1.0), slowdown=1.2))), other_work=0.7)
    merged = runs.merged([slow, busy])
    assert [round(f.min, 9) for f in merged.figures] == [12, 6, 12, 6, 500, 2000]
    assert merged.other_work == 0.7
    with pytest.raises(ValueError, match=r"expected one machine and commit, got A Processor, .* and Another, "):
        runs.merged([slow, runs.read(write("else.json", raw(scene_of(1000, 50, 1.0), cpu="Another")))])


@pytest.mark.parametrize(
    ("speed", "slowdown", "status"),
    [(1.0, 1.0, 0), (1.0, 2.0, 0), (0.92, 1.0, 0), (0.88, 1.0, 1), (0.88, 0.5, 1), (2.0, 1.0, 0)],
    ids=["the same", "a slower machine", "8 % of time", "13 % of time", "on a faster machine", "twice as fast"],
)
def test_comparison_is_of_ratios(
    write: Callable[..., Path], tmp_path: Path, capsys: Any, speed: float, slowdown: float, status: int
) -> None:
    store = ["--ratios", str(tmp_path / "ratios.json")]
    compare.store(runs.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    now = write("now.json", raw(scene_of(721, 50, 1.0) + scene_of(1441, 50, speed), slowdown))
    assert compare.main([str(now), *store]) == status
    lines = [line for line in capsys.readouterr().out.splitlines() if "tensors, 1 thread" in line]
    assert f"| 50.0 | {50 * speed:.1f} | {100 / speed - 100:+.1f} % | {'FAILS' if status else ''}" in lines[0]
    assert "| not stored |" in lines[1]


def test_a_stored_scene_that_did_not_run_fails(write: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    compare.store(runs.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    now = write("now.json", raw(scene_of(721, 50, 1.0)))
    assert compare.main([str(now), "--ratios", str(tmp_path / "ratios.json")]) == 1
    assert "| not measured |  | FAILS |" in capsys.readouterr().out


def test_ratios_are_kept_by_machine(write: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    store = ["--ratios", str(tmp_path / "ratios.json")]
    one = write("one.json", raw(scene_of(1441, 50, 1.0)))
    other = write("other.json", raw(scene_of(1441, 50, 3.0), cpu="Another"))
    assert compare.main([str(one), *store]) == 2
    assert compare.main([str(one), *store, "--store"]) == 0
    assert compare.main([str(other), *store]) == 2
    errors = capsys.readouterr().err
    assert "expected ratios of this machine (A Processor, 2 cores, avx2), got none" in errors
    assert "expected ratios of this machine (Another, 2 cores, avx2), got A Processor, 2 cores, avx2" in errors
    assert compare.main([str(other), *store, "--store"]) == 0
    assert compare.main([str(one), *store]) == compare.main([str(other), *store]) == 0
    assert "secret" not in (tmp_path / "ratios.json").read_text()


def test_a_run_without_yardstick_cannot_be_compared(write: Callable[..., Path], capsys: Any) -> None:
    entries = [entry for entry in scene_of(1441, 50, 1.0) if "same_answer" not in entry["name"]]
    assert compare.main([str(write("now.json", raw(entries)))]) == 2
    assert "expected the library and its yardstick in one scene, got none" in capsys.readouterr().err


@pytest.mark.parametrize(("speeds", "attempts", "status"), [((0.7, 1.0), 2, 0), ((0.7, 0.7, 0.8), 3, 1)])
def test_slow_runs_are_repeated(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: Any, capsys: Any, speeds: Any, attempts: int, status: int
) -> None:
    compare.store(runs.read(write("old.json", raw(scene_of(1441, 50, 1.0)))), tmp_path / "ratios.json")
    made = []

    def run_quick(attempt: int) -> runs.Run:
        made.append(attempt)
        run = runs.read(write("now.json", raw(scene_of(1441, 50, speeds[attempt - 1]))))
        return replace(run, other_work=1.5)

    monkeypatch.setattr(compare, "run_quick", run_quick)
    assert compare.main(["--ratios", str(tmp_path / "ratios.json")]) == status
    assert made == list(range(1, attempts + 1))
    assert ("Other work had 1.5 of the processors" in capsys.readouterr().out) == bool(status)


def test_the_table_has_ratios_and_the_figures_of_the_paper(full: runs.Run) -> None:
    head, _, *lines = report.table(full).splitlines()
    assert "| tensors, 1 / 2 threads | arrays, 1 / 2 threads |" in head
    assert "PyTorch" not in head, "a column of a contender that did not run"
    line = next(line for line in lines if line.startswith("| 1441 px, 50 things, float32"))
    assert line.endswith("| 49 | 7.9 % | 20.8 / 10.4 | 20.8 / 10.4 | 1,038 (× 50) | 4,153 (× 200), PQ 0.47 | 145 |")
    assert report.scaling(full).splitlines() == [
        "2,076,481 → 8,300,161 pixels (× 4) take × 4 the time  ",
        "5 → 500 things (× 100) take × 1.49 the time",
    ]


def test_curves_are_of_like_scenes(full: runs.Run) -> None:
    assert [pixels for pixels, _ in full.by_pixels("tensors")] == [257**2, 1441**2, 1025 * 2049, 2881**2]
    assert [things for things, _ in full.by_things("tensors", 2)] == [5, 50, 500]
    assert dict(full.by_things("tensors"))[50] == pytest.approx(10 * 1441**2 / 1e6)


def test_plots_are_small_and_equal_for_equal_figures(full: runs.Run, tmp_path: Path) -> None:
    first, again = plots.draw(full, tmp_path / "a"), plots.draw(full, tmp_path / "b")
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
    with pytest.raises(ValueError, match="expected tensors at two sizes and with two numbers of things, got fewer"):
        plots.draw(run, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_a_report_keeps_the_run_and_finds_it_again(
    full: runs.Run, write: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    folder = ["--folder", str(tmp_path / "results")]
    with pytest.raises(FileNotFoundError, match="expected a kept run, got none; `make bench` makes one"):
        report.main(folder)
    (tmp_path / "results").mkdir()
    whole = write("process.json", PROCESS)
    report.main([str(tmp_path / "full.json"), "--process", str(whole), "--save", *folder])
    first = capsys.readouterr().out
    report.main(folder)
    assert first.startswith(capsys.readouterr().out.rstrip())
    assert "| first call, arrays, 161 px | 3.5 ms, later 1.2 |" in first


def test_the_machine_is_described(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor\n")
    facts = machine.describe(tmp_path / "cpuinfo")
    assert facts["cpu"] == "A Processor"
    assert facts["simd"] in ("plain", "baseline", "avx2", "avx512")
    assert facts.keys() == MACHINE.keys()
    assert facts["compiler"].startswith(("GCC: ", "clang version "))


def test_the_name_of_the_host_does_not_reach_the_json() -> None:
    info = {"node": "secret", "system": "Linux"}
    machine.pytest_benchmark_update_machine_info(info)
    assert info.keys() == {"system", "deeperlab"}


def test_other_work_is_what_this_process_did_not_do() -> None:
    start = machine.Work(machine=100.0, own=2.0, time=50.0)
    assert machine.Work(machine=118.0, own=12.0, time=60.0).of_others(start) == pytest.approx(0.8)
    assert machine.Work(machine=109.9, own=12.0, time=60.0).of_others(start) == 0, "counters are rounded apart"
    now = machine.Work.so_far()
    assert now.machine > now.own > 0


PROCESS = {
    "imports": {"numpy": 80.0, "torch": 900.0, "deeperlab": 11.0, "deeperlab.ops": 5.0},
    "imports without torch": {"numpy": 80.0, "deeperlab": 11.5, "deeperlab._numpy": 0.7},
    "first call": [{"input": "arrays", "size": 161, "first ms": 3.5, "later ms": 1.2}],
    "memory": [
        {"input": "arrays", "size": 1441, "instances": 50, "pixels": 2 << 20, "outputs": 9, "scratch": 16 << 20}
    ],
    "two threads": [{"input": "arrays", "size": 1441, "one, calls/s": 10.0, "two, calls/s": 19.0, "ratio": 1.9}],
    "other work": 0.3,
}


def test_the_whole_process_is_tabulated() -> None:
    table = process.table(PROCESS)
    assert "| import deeperlab after torch | 11.0 ms |" in table
    assert "| peak memory beyond input and output, arrays, 1441 px, 50 things | 16.0 MiB, 8.0 B/px |" in table
    assert "| two Python threads, arrays, 1441 px | 1.90 × one (10.0 → 19.0 calls/s) |" in table
    assert "| processors that other work had meanwhile | 0.3 |" in table


def test_the_whole_process_is_measured(tmp_path: Path) -> None:
    """Arrays at a small size; that the figures exist and mean what they say, not how large they are."""
    path = process.draw(tmp_path, 321, 5)
    first = process.measure("first_call", "arrays", path, children=1)
    assert first["first ms"] > 0 < first["later ms"]
    memory = process.measure("memory", "arrays", path, path, children=1)
    assert memory["pixels"] == 321 * 321
    assert 2 * 4 * 321 * 321 < memory["outputs"] < 2 * 4 * 321 * 321 + 2**20
    assert -(2**20) < memory["scratch"] < 64 * 2**20
    rates = process.measure("two_threads", "arrays", path, children=1)
    assert rates["ratio"] == pytest.approx(rates["two, calls/s"] / rates["one, calls/s"])
    assert process.measure("imports_without_torch", children=1).keys() == {"numpy", "deeperlab", "deeperlab._numpy"}


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
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=process.ROOT)
    (result, one), (both, two) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (result, both) == (16 << 20, 48 << 20)
    assert 47 << 20 < one < 53 << 20
    assert 95 << 20 < two < 103 << 20


def test_a_network_is_timed_with_the_answer_it_gives() -> None:
    row = networks.row("light_wider_mobilenet_v2", (129, 97), torch.device("cpu"), things=3)
    assert row["size"] == (129, 97)
    assert row["fps"] == pytest.approx(1e3 / row["end to end ms"])
    assert row["peak MiB"] > 0
    run = {"device": "A Processor", "date": "2026-01-02", "command": "c", "machine": MACHINE, "threads": 2}
    other = row | {"network": "light_wider_mobilenet_v2", "size": (721, 721), "network ms": 1234.5, "fps": 0.5}
    lines = networks.table(run | {"rows": [row, other]}).splitlines()
    assert lines[-1].startswith("| light_wider_mobilenet_v2 | 721 × 721 | 1,234 ms |")
    assert lines[-1].endswith("| 22.6 fps | 45 ms |")
    assert lines[-2].endswith("|  |  |")
