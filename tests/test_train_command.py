# SPDX-License-Identifier: Apache-2.0
"""`deeperlab train` as a user meets it: a run, what is tried before it, and one line for each fault."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from test_cli import python, run
from training_runs import environment, lighten, small, start

from deeperlab.cli import following, interruption
from deeperlab.models.backbones import mobilenet_v2
from deeperlab.training import config_file
from deeperlab.training.events import Event
from deeperlab.training.find_lr import Sweep, find_lr

pytest.importorskip("accelerate", reason="needs deeperlab[train]")
pytestmark = pytest.mark.filterwarnings("ignore:model. the statistics of the batch norms")


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small MobileNetV2, on one thread."""
    monkeypatch.setattr(mobilenet_v2, "STAGES", mobilenet_v2.STAGES)
    lighten()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """A file of options of a run that takes a second; the data are to be given."""
    config = small(6)
    config = replace(config, data=replace(config.data, source=""))
    (tmp_path / "small.toml").write_text(config_file.to_toml(config))
    return tmp_path / "small.toml"


def fault(*arguments: object) -> str:
    """The one line on stderr of a call that must end with code 1."""
    result = run("train", *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("deeperlab: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr[len("deeperlab: ") : -1])


def done(*arguments: object) -> str:
    result = run("train", *arguments)
    assert result.exit_code == 0, result.output + result.stderr
    return str(result.stdout)


def test_a_run_says_what_it_does_and_what_to_do_next(options: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = done("--config", options, "--data", "scenes", "--out", out, "--set", "validate.heads=end")
    assert re.search(r"^train +steps 6, batch 2, ", said, re.MULTILINE)
    head = said[: said.index("scenes: 16 images")].splitlines()
    assert head[0] == "recipe    none; below is what differs from the defaults, RUN/config.toml has all"
    assert max(map(len, head)) <= 120
    assert "log_every 2" in "".join(head)
    assert "momentum" not in "".join(head).replace("bn_momentum", "")
    assert re.search(
        r"^step 2/6  loss \S+  lr \S+  \S+ images/s  waits for data \d+ %  ETA 0:00:0\d$", said, re.MULTILINE
    )
    assert re.search(r"^step 3/6  PQ \S+ % \(\d+ % of the ceiling\)  things \S+  stuff \S+  PC \S+  mIoU", said, re.M)
    assert re.search(r"^step 6/6  PQ \S+ % \(\d+ % of the ceiling, [+-]\S+ since step 3\)", said, re.MULTILINE)
    assert re.search(r"^PQ gained with the truth in place of a head: .*semantic [+-]", said, re.MULTILINE)
    assert re.search(r"^done: 6 steps; best PQ \S+ %$", said, re.MULTILINE)
    (model,) = re.findall(r"deeperlab predict IMAGE --model (\S+) --out results", said)
    assert (Path(model) / "labels.json").exists()
    assert config_file.read(out / "config.toml").data.source == "scenes"


@pytest.mark.slow
def test_a_run_that_is_there_is_not_overwritten_but_resumed(options: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done("--config", options, "--data", "scenes", "--out", out)
    before = (out / "metrics.jsonl").read_bytes()
    said = fault("--config", options, "--data", "scenes", "--out", out)
    assert said.startswith(f"{out}: holds a run already")
    assert "--resume" in said
    assert (out / "metrics.jsonl").read_bytes() == before
    assert fault("--resume", out, "--steps", 5) == "train.steps: expected at least 6, which are done, got 5"
    said = done("--resume", out, "--steps", 8, "--set", "train.lr=1e-4")
    changed = "goes on with other options: train.steps 6 → 8, train.lr 0.001 → 0.0001"
    assert said.startswith(f"{changed}\ngoes on after step 6 of 8\n")
    assert "done: 8 steps" in said
    assert [line["step"] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())][-1] == 8
    config = config_file.read(out / "config.toml")
    assert (config.train.steps, config.train.lr) == (8, 1e-4)
    assert fault("--replay", out) == f"{out}: no step of this run has failed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "scenes"), "expected --out (a folder for a run); deeperlab train --help has examples"),
        ((), "expected --data (scenes, a folder, or a TOML file) and --out (a folder for a run); "),
        (("--check", "--data", "scenes"), "expected --out (a folder for --check); "),
        (("--find-lr",), "expected --data (scenes, a folder, or a TOML file); "),
        (("--recipe", "quik"), "recipe: no quik; the nearest is quick (all: "),
        (("--set", "train.bach=3"), "--set: no option train.bach; the nearest is train.batch"),
        (("--steps", "0"), "--steps: train.steps: expected at least 1, got 0"),
        (("--seed", "-1"), "--seed: train.seed: expected at least 0, got -1"),
        (("--config", "none.toml"), "none.toml: no such file or directory"),
        (("--check", "--profile"), "--profile: expected none beside --check"),
        (("--resume", "none"), "none: holds no run: there is no config.toml"),
        (("--resume", "."), ".: holds no run: there is no config.toml"),
        (("--resume", "none", "--seed", "0"), "--seed: expected none beside --resume, which takes the"),
        (("--resume", "none", "--seeds", "2"), "--seeds: expected none beside --resume, which takes the"),
        (("--data", "scenes", "--out", "run", "--set", "train.device=cude"), "train.device: expected one of torch's"),
        (("--resume", "none", "--seed", "3"), "--seed: expected none beside --resume, which takes the"),
        (("--resume", "none", "--check"), "--check: expected none beside --resume"),
        (("--replay", "none"), "none: holds no run: there is no config.toml"),
        (("--data", "none", "--out", "run"), "none: "),
        (("--data", "scenes", "--out", "run", "--seeds", "0"), "--seeds: expected at least 1, got 0"),
        (("--data", "scenes", "--out", "run", "--overfit", "99", "--set", "data.scenes.count=3"), "data.overfit: "),
    ],
)  # fmt: skip
def test_faults_are_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault(*arguments).startswith(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_tells_a_fault_and_the_others_wait(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(interruption, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setenv("RANK", str(rank))
    assert fault("--resume", "none") == "none: holds no run: there is no config.toml"
    assert slept == [interruption.GRACE] * rank


@pytest.mark.slow
def test_torchrun_s_processes_tell_a_fault_once(tmp_path: Path) -> None:
    torchrun = "torch.distributed.run", "--standalone", "--nproc-per-node=2"
    command = [sys.executable, "-m", *torchrun, "-m", "deeperlab", "train", "--resume", "none"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert done.stderr.count("deeperlab: none: holds no run") == 1


@pytest.mark.slow
def test_a_check_draws_samples_and_leaves_no_run(options: Path, tmp_path: Path) -> None:
    from PIL import Image

    out = tmp_path / "run"
    said = done("--config", options, "--data", "scenes", "--check", "--out", out)
    assert re.search(r"^ceiling: PQ \S+", said, re.MULTILINE)
    assert re.search(r"^3 steps: loss \S+, \S+, \S+$", said, re.MULTILINE)
    assert re.search(r"s a step, \S+ images a second; memory at most \S+ GiB$", said, re.MULTILINE)
    assert re.search(r"^6 steps with their validations would take about \d+:\d\d:\d\d$", said, re.MULTILINE)
    pictures = sorted((out / "check").iterdir())
    assert [path.name for path in pictures] == [f"sample{i}.png" for i in range(4)]
    with Image.open(pictures[0]) as picture:
        width, height = picture.size
        assert width > 3 * 65 * 4  # large enough to see the nodes, each panel with its title
        assert height > 2 * 65 * 4
    assert [path.name for path in out.iterdir()] == ["check"]
    assert "done: 6 steps" in done("--config", options, "--data", "scenes", "--out", out)


def test_a_check_does_not_warn_that_it_trains_for_few_steps(options: Path, tmp_path: Path) -> None:
    slow = ("--set", "model.options.bn_momentum=0.001")
    result = run("train", "--config", options, "--data", "scenes", "--check", "--out", tmp_path / "run", *slow)
    assert result.exit_code == 0
    assert "batch norms" not in result.stderr


def test_options_that_do_nothing_are_not_shown(options: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deeperlab.cli import train as command

    monkeypatch.setattr(command, "_train", lambda *_: None)
    given = ("--config", options, "--set", "data.scenes.count=7")
    assert "scenes.count 7" in done(*given, "--data", "scenes", "--out", tmp_path / "a")
    assert "scenes.count" not in done(*given, "--data", tmp_path, "--out", tmp_path / "b")


def test_a_check_refuses_a_truth_that_does_not_come_back(options: Path, tmp_path: Path) -> None:
    given = ("--config", options, "--data", "scenes", "--out", tmp_path / "run", "--set", "validate.ceiling=1.0")
    given = (*given, "--set", "data.scenes.instances=40", "--set", "data.scenes.least_area=1")
    said = fault(*given, "--check")
    assert "the truth itself" in said
    assert "validate.ceiling" in said
    assert fault(*given) == said
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("here before")
    assert fault(*given) == said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_find_lr_prints_rates_and_draws_the_curve(
    options: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs deeperlab[train]")
    monkeypatch.setitem(find_lr.__kwdefaults__, "steps", 25)
    said = done("--config", options, "--data", "scenes", "--find-lr", "--out", tmp_path / "lr")
    assert "1.0e-06" in said
    assert "--set train.lr=" in said or "nothing to suggest" in said
    assert (tmp_path / "lr" / "find-lr.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "lr").iterdir()] == ["find-lr.png"]


def test_a_sweep_suggests_where_the_loss_falls_fastest_well_below_where_it_is_least() -> None:
    rates = tuple(float(f"1e{x}") for x in range(-10, 2))
    losses = (5, 5, 5, 5, 5, 4.9, 3.0, 2.2, 2.0, 1.9, 1.9, 4.0)
    sweep = Sweep(rates, losses, "")
    assert sweep.least == rates[9]
    assert sweep.steepest == rates[6]
    assert sweep.suggestion == rates[6] < sweep.least / 10
    assert Sweep(rates, (5.0,) * 12, "").suggestion is None
    assert sweep.table(3) == [(rates[0], 5), (rates[6], 3.0), (rates[11], 4.0)]


def test_a_profile_tells_shares_that_add_up(options: Path) -> None:
    said = done("--config", options, "--data", "scenes", "--profile")
    rows = re.findall(r"^ *(data|targets|forward|loss|backward|optimizer|other) +(\S+) +(\S+) *$", said, re.MULTILINE)
    assert len(rows) == 7
    shares = {name: float(share) for name, _, share in rows}
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
    assert shares["forward"] > 0
    assert shares["backward"] > 0
    assert "validation: " in said
    assert "fusion" in said


@pytest.mark.slow
def test_seeds_give_mean_and_deviation_and_go_on_where_they_were(options: Path, tmp_path: Path) -> None:
    given = (
        "--config",
        options,
        "--data",
        "scenes",
        "--out",
        tmp_path / "runs",
        "--seeds",
        2,
        "--set",
        "train.steps=3",
    )
    said = done(*given)
    assert re.search(r"^seed 1: step 3/3  PQ", said, re.MULTILINE)
    assert re.search(r"^pq \S+ ± \S+ % over 2 seeds$", said, re.MULTILINE)
    assert [config_file.read(tmp_path / "runs" / f"seed{i}" / "config.toml").train.seed for i in (0, 1)] == [0, 1]
    again = done(*given)
    assert "step 3/3" not in again
    assert re.findall("^pq .*", again, re.MULTILINE) == re.findall("^pq .*", said, re.MULTILINE)
    said = fault(*given, "--set", "train.lr=0.5")
    assert re.search(r"expected a run with these options, got one with others: train.lr 0.5 → [\d.]+; use", said)


def test_seeds_end_with_the_time_of_the_process(options: Path, tmp_path: Path) -> None:
    given = ("--config", options, "--data", "scenes", "--seeds", 2, "--set", "train.max_hours=1e-9")
    said = done(*given, "--out", tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["seed0"]
    assert said.endswith(f"stopped; the same command goes on with {tmp_path / 'runs'}\n")
    assert "over" not in said


def test_a_few_images_are_learned_by_heart_with_what_is_set_for_it(options: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done("--config", options, "--data", "scenes", "--out", out, "--overfit", 1, "--set", "train.batch=2", "--steps", 2)
    config = config_file.read(out / "config.toml")
    assert (config.data.overfit, config.data.flip, config.train.batch, config.train.steps) == (1, 0.0, 2, 2)


def test_a_step_that_failed_is_run_again(options: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = fault(
        "--config", options, "--data", "scenes", "--out", out, "--set", "train.lr=1e30", "--set", "train.warmup=0"
    )
    assert "--replay" in said
    assert "replay" not in fault(
        "--config", options, "--data", "scenes", "--out", out, "--check", "--set", "train.lr=1e30"
    )
    result = run("train", "--replay", out)
    assert result.exit_code == 1
    assert re.match(r"step \d+, part 0, seed 0: first at \S+", result.stdout)


@pytest.mark.slow
def test_without_the_extra_its_name_is_told() -> None:
    code = (
        "import sys\nsys.modules['accelerate'] = None\n"
        "sys.argv[1:] = ['train', '--recipe', 'tiny', '--data', 'scenes', '--out', '/nonexistent/run']\n"
        "from deeperlab.cli import main\nmain()"
    )
    missing = python(code)
    assert missing.returncode == 1
    assert missing.stderr == (
        "deeperlab: deeperlab train needs accelerate for devices and processes: pip install 'deeperlab[train]'\n"
    )


@pytest.mark.slow
def test_a_signal_ends_a_run_that_is_saved_with_exit_code_0(options: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import sys\nfrom training_runs import lighten\nlighten()\n"
        "sys.argv[1:] = ['train', '--config', sys.argv[1], '--data', 'scenes', '--out', sys.argv[2], '--steps', '9999',"
        "'--set', 'validate.every=0']\n"
        "from deeperlab.cli import main\nmain()"
    )
    process = start(code, options, out)
    assert process.stdout is not None
    timer = threading.Timer(60, process.kill)
    timer.start()
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(signal.SIGTERM)
            break
    said, faults = process.communicate()
    timer.cancel()
    assert process.returncode == 0, faults
    assert re.search(r"^stopped after step \d+, and saved", said, re.MULTILINE)
    assert f"deeperlab train --resume {out}" in said
    assert (out / "state" / "state.pt").exists()


def test_other_processes_than_the_first_are_silent(
    options: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeperlab.cli import train as command

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(command, "_train", lambda console, config, out: console.print("spoken"))
    given = ("--config", options, "--data", "scenes", "--out", tmp_path / "run", "--set", "train.warmup=99")
    assert run("train", *given).output == ""
    assert "torch" in sys.modules


def follow(*events: Event, terminal: bool = True, wait: float = 0.0, width: int = 160) -> str:
    """What a terminal, or a file, shows of events."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None, markup=False)
    with following.Follower(console, small(100)) as follower:
        for event in events:
            follower(event)
            follower._bar.refresh()
        time.sleep(wait)
    return file.getvalue()


def events(*values: dict[str, Any]) -> str:
    return follow(*(Event("validation" if "pq" in value else "step", value["step"], values=value) for value in values))


def test_a_terminal_shows_a_bar_with_the_last_pq() -> None:
    line = {"loss": 2.0, "lr": 1e-3, "images_per_second": 4.0, "data_share": 0.25}
    shown = events({"step": 50, "pq": 0.5, "ceiling_share": 0.6, **line}, {"step": 60, **line})
    assert "step 50/100  PQ 50.00 % (60 % of the ceiling)" in shown
    assert (
        "60/100 loss 2  lr 1.00e-03  4 images/s  waits for data 25 %  ETA 0:00:20  PQ 50.00 % (60 % of the ceiling)"
        in shown
    )
    assert "step 60/100" not in shown


LINE = {"loss": 2.0, "lr": 1e-3, "images_per_second": 4.0, "data_share": 0.25}


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    validation = {"step": 50, "pq": 0.5, "ceiling_share": 0.6, **LINE}
    shown = follow(
        Event("validation", 50, values=validation), Event("step", 60, values={"step": 60, **LINE}), width=width
    )
    last = shown[shown.rindex("steps ") :]
    assert "60/100" in last
    for word in ("loss", "images/s", "ETA", "0:00:20", "PQ", "50.00", "ceiling)"):
        assert word in last


def test_a_terminal_shows_every_step_and_what_goes_on_between_them() -> None:
    shown = follow(
        Event("progress", 0, "ceiling", done=3, of=20),
        Event("progress", 1, values={"step": 1, **LINE}),
        Event("progress", 1, "validation"),
        Event("progress", 1, "validation", done=7, of=20),
        Event("progress", 2, values={"step": 2, **LINE}),
    )
    parts = [re.search(words, shown) for words in (r"ceiling .* 3/20", r" 1/100 loss 2 ", r"validation .* 7/20")]
    assert [part.start() for part in parts if part] == sorted(part.start() for part in parts if part)
    assert all(parts)
    assert "validation" not in shown[shown.rindex(" 2/100") :]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event("progress", 2, values={"step": 2, **LINE}), "at step 2/100  loss 2  lr 1.00e-03  4 images/s"),
        (Event("progress", 2, "validation", done=7, of=20), "validation: 7 of 20\n"),
        (Event("progress", 2, "reads what the data are"), "reads what the data are\n"),
        (Event("saved", 2), "begins\n"),
    ],
)
def test_without_a_terminal_silence_is_broken(event: Event, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow(event, terminal=False) == ""
    monkeypatch.setattr(following, "PATIENCE", 0.01)
    assert said in follow(event, terminal=False, wait=0.2)


@pytest.mark.slow
def test_another_network_takes_the_place_of_the_recipes(tmp_path: Path) -> None:
    """Its options and its second head with it; what has no keypoints is judged by mIoU, and predicts maps."""
    out = tmp_path / "run"
    sizes = "data.crop=65", "data.workers=0", "train.batch=2", "train.warmup=0", "validate.images=2"
    sets = [word for size in (*sizes, "validate.ceiling=0", "train.log_every=1") for word in ("--set", size)]
    network = "--model", "pspnet_resnet50", "--set", "model.options.auxiliary=true"
    done("--recipe", "tiny", "--data", "scenes", "--out", out, "--steps", 2, *network, *sets)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "auxiliary" in line]
    assert [line["loss"] for line in steps] == pytest.approx(
        [line["semantic"] + 0.4 * line["auxiliary"] for line in steps]
    )
    assert len(steps) == 2
    assert json.loads((out / "last" / "config.json").read_text())["system"] == "pspnet_resnet50"
    more = tmp_path / "more"
    done("--recipe", "tiny", "--from", out / "last", "--data", "scenes", "--out", more, "--steps", 1, *sets)
    assert json.loads((more / "last" / "config.json").read_text())["options"] == {"auxiliary": True}
    message = fault("--from", out / "last", "--model", "fcn8s", "--data", "scenes", "--out", tmp_path / "none")
    assert message == "--model: expected none beside --from, which brings its network, got fcn8s"
