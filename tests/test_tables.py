# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper beside the runs that are found."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from test_cli import fault, run

from deeperlab.training import config_file, tables
from deeperlab.training.config_file import assignment, load, of_recipe, to_toml


def write_run(folder: Path, recipe: str, *options: str, pq: float | None = 0.25, step: int = 200_000) -> Path:
    folder.mkdir(parents=True)
    config = load(recipe, overrides=map(assignment, options))
    (folder / "config.toml").write_text(to_toml(config))
    lines: list[dict[str, Any]] = [{"step": 50, "loss": 3.0, "pq": 0.01}, {"step": 100, "loss": 2.0}]
    if pq is not None:
        lines.append({"step": step, "pq": pq, "pq_things": None, "pc": 2 * pq})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 200')
    return folder


def rows(runs: list[tables.FoundRun]) -> dict[str, tables.Filled]:
    return {each.row.recipe: each for _, filled in tables.fill(runs) for each in filled}


def test_every_row_has_a_recipe_and_every_recipe_of_rows_is_in_a_table() -> None:
    """But the bases, and those with other steps for which no row stands."""
    known = set(config_file.recipes())
    used = {row.recipe for table in tables.TABLES for row in table.rows}
    assert used <= known
    bases = {"paper", "mapillary", "cityscapes", "voc", "coco"}
    bases |= {"quick", "quick-cityscapes", "fine-tune", "photo16", "scenes", "tiny"}
    bases |= {"unet", "deconvnet-stage1", "deconvnet-stage2"}
    assert known - used - bases == {"mapillary-xception71-200k", "mapillary-light-200k"}


@pytest.mark.parametrize("table", tables.TABLES[1:5], ids=lambda table: table.title[:8])
def test_the_rows_of_an_ablation_differ_in_what_they_name(table: tables.Table) -> None:
    configs = [of_recipe(row.recipe) for row in table.rows]
    assert all((config.train.steps, config.train.batch) == (200_000, 28) for config in configs)
    for one, other in itertools.pairwise(configs):
        assert any(tables.differences(one, other)) or {"star", "rectangle"} == {row.name for row in table.rows}


def test_a_run_stands_in_the_row_of_its_recipe_with_its_last_figures(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "first", "mapillary-xception71", step=500_000)
    (found,) = tables.find_runs(tmp_path)
    assert (found.step, found.figures) == (500_000, {"pq": 25.0, "pc": 50.0})
    row = rows([found])["mapillary-xception71"]
    assert (row.runs, row.differences) == ((found,), ())
    assert row.figure("pq") == pytest.approx((25.0, float("nan")), nan_ok=True)
    assert row.figure("pq_things") is None
    assert rows([])["mapillary-xception71"].runs == ()


def test_what_a_run_changes_is_named_but_for_what_does_not_matter(tmp_path: Path) -> None:
    options = ("train.steps=600", "train.seed=3", "data.source=/data", "data.workers=9", "model.options.head_kernel=5")
    write_run(tmp_path / "run", "coco-light", *options, step=600)
    row = rows(tables.find_runs(tmp_path))["coco-light"]
    assert row.differences == ("train.steps 200000 → 600", "model.options.head_kernel – → 5")


def test_a_run_counts_for_every_row_with_the_same_options(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "mapillary-wider-200k")
    found = {recipe for recipe, each in rows(tables.find_runs(tmp_path)).items() if each.runs}
    assert found == {"mapillary-wider-200k", "mapillary-mobilenet-5x5", "mapillary-star"}


def test_runs_of_several_seeds_give_mean_and_deviation_and_the_nearest_group_counts(tmp_path: Path) -> None:
    for seed, pq in enumerate((0.2, 0.22, 0.24)):
        write_run(tmp_path / "seeds" / f"seed{seed}", "voc-light", f"train.seed={seed}", pq=pq)
    write_run(tmp_path / "short", "voc-light", "train.steps=10", pq=0.9)
    row = rows(tables.find_runs(tmp_path))["voc-light"]
    assert row.figure("pq") == pytest.approx((22.0, 2.0))
    assert row.differences == ()


def test_folders_within_a_run_are_no_runs(tmp_path: Path) -> None:
    inner = write_run(write_run(tmp_path / "run", "tiny") / "best", "tiny")
    assert [found.folder for found in tables.find_runs(tmp_path)] == [inner.parent]
    assert [found.folder for found in tables.find_runs(inner.parent)] == [inner.parent]


def test_the_command_prints_the_tables_and_writes_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"seed{seed}", "coco-xception71", f"train.seed={seed}", "train.batch=4", pq=0.3)
    write_run(tmp_path / "runs" / "young", "mapillary-rectangle", pq=None)
    write_run(tmp_path / "runs" / "other", "tiny")
    result = run("tables", "--runs", tmp_path / "runs", "--json", tmp_path / "tables.json")
    assert result.exit_code == 0, result.output
    for words in (
        "Table 1: Mapillary Vistas",
        "30.00 ± 0.00",
        "coco-xception71: train.batch 16 → 4",
        f"{tmp_path / 'runs' / 'young'}: validated after 50 of 200000 steps",
        f"{tmp_path / 'runs' / 'other'}: of tiny, which is no row; PQ ",
        "A figure of the paper stands here only where its abstract or works that cite it confirm it",
    ):
        assert words in result.stdout
    for number in ("3", "4", "5 and 7", "6", "8 to 11"):
        assert f"Table {number}: " in result.stdout or f"Tables {number}: " in result.stdout
    report = json.loads((tmp_path / "tables.json").read_text())
    (row,) = (r for table in report.values() for r in table if r["recipe"] == "coco-xception71")
    assert (row["paper"]["pq"], row["mean"]["pq"], len(row["runs"])) == (33.8, 30.0, 2)


def test_folders_without_runs_say_so_and_faults_are_one_line(tmp_path: Path) -> None:
    assert f"no runs in {tmp_path}" in run("tables", "--runs", tmp_path).stdout
    assert fault("tables", "--runs", tmp_path / "none") == f"{tmp_path / 'none'}: no such file or directory"
    folder = write_run(tmp_path / "run", "tiny")
    (folder / "config.toml").write_text("[train]\nbach = 3\n")
    assert "config.toml: no option train.bach" in fault("tables", "--runs", tmp_path)
