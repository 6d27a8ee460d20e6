# SPDX-License-Identifier: Apache-2.0
"""The loop of the training: what interrupts, cuts or spreads a run changes no bit of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import SCENES, STAGES, TIMES, differences, environment, metrics, small, start, state

import deeperlab
from deeperlab.data.files import FormatError
from deeperlab.models import DeeperLab
from deeperlab.models.backbones import mobilenet_v2
from deeperlab.models.norms import batch_norms
from deeperlab.training import loop as loop_module
from deeperlab.training import replay, signals, train
from deeperlab.training.checkpoint import load_state, save_state
from deeperlab.training.config import Config
from deeperlab.training.config_file import Layer, override
from deeperlab.training.events import Event
from deeperlab.training.faults import DivergedError
from deeperlab.training.loop import Loop
from deeperlab.training.memory import OutOfMemoryError
from deeperlab.training.overfit import settings
from deeperlab.training.processes import settled
from deeperlab.training.report import Report
from deeperlab.training.run_folder import RunFolder
from deeperlab.training.signals import Interruption


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, as the processes of `start` have, and a small network."""
    monkeypatch.setattr(mobilenet_v2, "STAGES", STAGES)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps_of(run: Path) -> list[int]:
    return [line["step"] for line in metrics(run)]


# --- exact resume -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "workers", "precision"),
    [("adamw", 0, "fp32"), ("adamw", 2, "bf16"), ("sgd", 0, "bf16"), ("sgd", 2, "fp32")],
)
def test_two_halves_are_the_whole_to_the_bit(tmp_path: Path, optimizer: str, workers: int, precision: str) -> None:
    whole = train(small(optimizer=optimizer, precision=precision), tmp_path / "whole")
    assert (whole.step, whole.ended) == (6, "done")
    config = small(optimizer=optimizer, precision=precision, workers=workers)
    half = train(config, tmp_path / "halves", until=3)
    assert (half.step, half.ended) == (3, "interrupted")
    train(config, tmp_path / "halves", resume=True)
    assert not differences(state(tmp_path / "whole"), state(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    for name in ("best", "last"):
        one, other = (DeeperLab.from_pretrained(tmp_path / run / name).state_dict() for run in ("whole", "halves"))
        assert not differences(dict(one), dict(other))


def test_steps_are_different_and_the_seed_decides_them(tmp_path: Path) -> None:
    runs = {seed: train(small(2, seed=seed, every=0, log_every=1), tmp_path / str(seed)) for seed in (0, 1)}
    losses = [line["loss"] for run in runs.values() for line in metrics(run.folder)]
    assert len(set(losses)) == 4


def test_a_run_that_is_done_stays_as_it_is(tmp_path: Path) -> None:
    train(small(2), tmp_path / "run")
    assert "2 steps" in (tmp_path / "run" / "page.html").read_text()
    before = (state(tmp_path / "run"), metrics(tmp_path / "run"))
    assert train(small(2), tmp_path / "run", resume=True).ended == "done"
    assert not differences(before, (state(tmp_path / "run"), metrics(tmp_path / "run")))


def test_a_run_is_refused_where_one_lies_and_resumed_where_none_does(tmp_path: Path) -> None:
    train(small(1), tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(small(1), tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        train(small(1), tmp_path / "other", resume=True)


# --- signals and kills ------------------------------------------------------------------------------------------------

RUN = """if True:
    import sys
    from pathlib import Path
    from training_runs import lighten, small
    from deeperlab.training import train
    lighten()
    out, steps, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
    tell = lambda event: print(event.kind, event.step, flush=True)
    print(train(small(steps, workers=int(sys.argv[4])), out, resume=resume, progress=tell).ended)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_the_step_with_its_state_saved(tmp_path: Path, number: int) -> None:
    process = start(RUN, tmp_path / "run", 100_000, False, 1)
    assert process.stdout is not None
    while process.stdout.readline() != "step 2\n":
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "interrupted"
    done = state(tmp_path / "run")["step"]
    assert out.splitlines()[-2] == f"saved {done}"
    assert train(small(100_000), tmp_path / "run", resume=True, until=done + 1).step == done + 1


@pytest.mark.slow
def test_kills_lose_only_the_steps_since_the_last_state(tmp_path: Path) -> None:
    """At random moments; `DEEPERLAB_KILLS=30` makes more of them."""
    kills, moments = int(os.environ.get("DEEPERLAB_KILLS", "3")), random.Random(0)
    steps, run, saved = 12 * kills, tmp_path / "run", 0
    train(small(steps), tmp_path / "whole")
    for kill in range(kills):
        process = start(RUN, run, steps, (run / "config.toml").exists(), 0)
        assert process.stdout is not None
        for _ in range(moments.randrange(20)):  # events
            process.stdout.readline()
        if kill == kills - 1 and not saved:
            assert any(line.startswith("saved ") for line in iter(process.stdout.readline, ""))
        time.sleep(moments.random() * 0.3)
        process.kill()
        out, err = process.communicate()
        assert (process.returncode, "Error" in err) == (-signal.SIGKILL, False), err
        told = [int(line.split()[1]) for line in out.splitlines() if line.startswith("saved ")]
        if (run / "state" / "state.pt").exists():
            step = state(run)["step"]
            assert step >= max([saved, *told])
            saved = step
        for name in ("last", "best"):
            if (run / name).exists():
                DeeperLab.from_pretrained(run / name)
    assert 0 < saved < steps
    train(small(steps), run, resume=True)
    assert not list(run.rglob("*.tmp"))
    assert not differences(state(tmp_path / "whole"), state(run))
    assert metrics(tmp_path / "whole") == metrics(run)


# --- accumulation, processes, precision -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:model. .* batch norms")
def test_accumulated_parts_are_the_whole_batch_but_for_rounding(tmp_path: Path) -> None:
    for parts in (1, 2):
        train(
            small(3, batch=4, accumulate=parts, freeze_bn="all", model={"aspp": False}, every=0), tmp_path / str(parts)
        )
    one, two = metrics(tmp_path / "1"), metrics(tmp_path / "2")
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in two], rel=1e-5)
    assert [line["grad_norm"] for line in one] == pytest.approx([line["grad_norm"] for line in two], rel=1e-4)


TWO = """
import sys
from pathlib import Path
from training_runs import lighten, small
from deeperlab.training import train
lighten()
config, out = small(3, batch=4, sync_bn=False), Path(sys.argv[1])
train(config, out / "two")
train(config, out / "halves", until=1)
train(config, out / "halves", resume=True)
"""


def test_what_other_processes_skipped_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is made up."""

    def gathered(value: Any) -> list[Any]:
        return [value, {"set/9": "torn"}] if isinstance(value, dict) and "a/1" in value else [value]

    monkeypatch.setattr(loop_module, "gather", gathered)
    events: list[Event] = []
    with torch.random.fork_rng(), closing(RunFolder(tmp_path / "run")) as folder:
        loop = Loop(small(), folder, Interruption(), events.append, resume=False)
        loop.skips.faults["a/1"] = "cut short"
        loop.save()
        loop.save()
    (note,) = [event.text for event in events if event.kind == "note"]
    assert note.splitlines() == [
        "images skipped so far, over all processes: 2 of at most 10", "  a/1: cut short", "  set/9: torn",
    ]  # fmt: skip
    assert state(tmp_path / "run")["skips"] == {"a/1": "cut short", "set/9": "torn"}


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates_to_the_bit(tmp_path: Path) -> None:
    """But for the running statistics of the batch norms, which are those of the first process."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    import subprocess

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run([*command, str(tmp_path)], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    train(small(3, batch=4, accumulate=2), tmp_path / "one")
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert not differences(two, state(tmp_path / "halves"))
    assert all("running" in name or "tracked" in name for name in differences(one["network"], two["network"]))
    assert not differences(one["optimizer"], two["optimizer"])
    assert [line["loss"] for line in metrics(tmp_path / "one")] == pytest.approx(
        [line["loss"] for line in metrics(tmp_path / "two")]
    )


@pytest.mark.slow
def test_processes_without_a_gpu_find_each_other_on_the_device_auto(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "ranks.py"
    script.write_text(
        "import pathlib, sys\nfrom dataclasses import replace\nfrom deeperlab.training import Config\n"
        "from deeperlab.training.processes import create_accelerator\n"
        "from deeperlab.training.run_folder import RunFolder\nconfig = Config()\n"
        "config = replace(config, train=replace(config.train, device='auto', sync_bn=False, precision='fp32'))\n"
        "made = create_accelerator(config, RunFolder('none'))\n"
        "pathlib.Path(sys.argv[1], f'{made.process_index} of {made.num_processes}').touch()\n"
    )
    (tmp_path / "ranks").mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    hidden = environment() | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, str(tmp_path / "ranks")], env=hidden, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "ranks").iterdir()) == ["0 of 2", "1 of 2"]


def test_a_tracker_that_is_missing_is_told_with_the_package_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tracker, package in (("tensorboard", "deeperlab[train]"), ("wandb", "wandb"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, tracker, None)
        with pytest.raises(
            ImportError, match=re.escape(f"needs {tracker} as it is in train.trackers: ") + ".*"
        ) as told:
            train(small(2, trackers=(tracker,)), tmp_path / tracker)
        assert str(told.value).endswith(f"pip install '{package}'")


def test_processes_that_would_train_each_for_itself_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)  # so that the CPU is not asked for
    with pytest.raises(ValueError, match=r"train\.device: expected one on which 2 processes can train together"):
        train(small(2, device="auto"), tmp_path / "run")


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"recompute": True}, {"channels_last": False}])
def test_every_mode_trains_nearly_alike(tmp_path: Path, options: dict[str, Any]) -> None:
    train(small(3, every=0, log_every=1), tmp_path / "plain")
    train(small(3, every=0, log_every=1, **options), tmp_path / "mode")
    losses = [[line["loss"] for line in metrics(tmp_path / run)] for run in ("plain", "mode")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    if options.get("recompute"):
        assert not differences(state(tmp_path / "plain"), state(tmp_path / "mode"))


@pytest.mark.slow
def test_a_compiled_network_trains_nearly_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated ahead, but not translated: that takes minutes on a processor."""
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled(module, backend="aot_eager"))
    for mode in (False, True):
        train(small(3, every=0, log_every=1, compile=mode), tmp_path / str(mode))
    losses = [[line["loss"] for line in metrics(tmp_path / str(mode))] for mode in (False, True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.filterwarnings("ignore:model. .* batch norms")
def test_frozen_norms_stay_and_others_move(tmp_path: Path) -> None:
    train(small(2, freeze_bn="backbone", every=0), tmp_path / "run")
    model = DeeperLab.from_pretrained(tmp_path / "run" / "last")
    moved = {name.startswith("backbone.") for name, norm in batch_norms(model).items() if norm.running_mean.any()}
    assert moved == {False}


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_the_best_network_goes_into_the_parser_with_its_labels(tmp_path: Path) -> None:
    events: list[Event] = []
    run = train(small(), tmp_path / "run", progress=events.append)
    best = DeeperLab.from_pretrained(run.folder / "best")
    assert best.has_trained_weights
    assert best.image_size == 65
    assert best.radius == 6.0
    parser = deeperlab.Parser(best, run.folder / "best" / "labels.json")
    from deeperlab.scenes import draw

    assert parser(draw(0, 65).image).size == (65, 65)
    assert steps_of(run.folder) == [2, 3, 4, 6]
    assert max(line["pq"] for line in metrics(run.folder) if "pq" in line) == run.best
    assert {event.kind for event in events} == {"note", "step", "validation", "saved", "progress"}
    first = metrics(run.folder)[0]
    assert {
        "loss",
        "semantic",
        "heatmap",
        "short_range",
        "middle_range",
        "long_range",
        "lr",
        "grad_norm",
    } <= first.keys()


def test_every_step_and_image_of_what_takes_long_is_told(tmp_path: Path) -> None:
    events: list[Event] = []
    run = train(small(), tmp_path / "run", progress=events.append)
    told = [event for event in events if event.kind == "progress"]
    steps = [event for event in told if not event.text]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    first = metrics(run.folder)[0]
    assert {name: value for name, value in steps[1].values.items() if name not in TIMES} == first
    counts = [(event.step, event.text, event.done, event.of) for event in told if event.of]
    assert counts[:16] == [(0, "looks at the data", done, 16) for done in range(1, 17)]
    assert counts[16:18] == [(0, "ceiling", 1, 2), (0, "ceiling", 2, 2)]
    assert counts[18:] == [(step, "validation", done, 2) for step in (3, 6) for done in (1, 2)]
    assert told[0].text == "reads what the data are"
    report = Report.from_dict(json.loads((run.folder / "data.json").read_text()))
    assert str(report) in [event.text for event in events]


def test_a_run_begins_with_the_best_of_another(tmp_path: Path) -> None:
    train(small(), tmp_path / "one")
    config = small(1, lr=1e-12)
    config = replace(config, model=replace(config.model, weights=str(tmp_path / "one" / "best")))
    notes: list[str] = []
    train(config, tmp_path / "two", progress=lambda event: notes.append(event.text))
    assert any(note.endswith("random: none") for note in notes)
    one, two = (DeeperLab.from_pretrained(tmp_path / run / "last") for run in ("one", "two"))
    assert torch.allclose(one.backbone.conv_stem.weight, two.backbone.conv_stem.weight, atol=1e-2)


def test_patience_and_hours_end_a_run(tmp_path: Path) -> None:
    assert train(small(20, lr=1e-12, every=1, patience=2), tmp_path / "patience").ended == "patience"
    run = train(small(20, max_hours=1e-9), tmp_path / "hours")
    assert (run.ended, run.step) == ("max_hours", 0)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"model": {"semantic_channels": 8}}, r"state.pt: expected .*: model.options.semantic_channels \d+ → 8$"),
        ({"optimizer": "sgd"}, "state.pt: expected .* as in the options, got .*: train.optimizer adamw → sgd$"),
    ],
)
def test_a_state_of_other_options_is_refused(tmp_path: Path, options: dict[str, Any], fault: str) -> None:
    train(small(2), tmp_path / "run", until=1)
    with pytest.raises(FormatError, match=fault):
        train(small(2, **options), tmp_path / "run", resume=True)


def test_a_run_goes_on_with_the_weights_it_began_with(tmp_path: Path) -> None:
    config = small(2)
    train(config, tmp_path / "run", until=1)
    other = replace(config, model=replace(config.model, weights="other.safetensors"))
    with pytest.raises(ValueError, match=r"model\.weights: expected '', as at the start, got 'other\."):
        train(other, tmp_path / "run", resume=True)


def test_a_run_says_that_its_data_have_changed_or_that_it_begins_anew(tmp_path: Path) -> None:
    notes: list[str] = []

    def resume(config: Config, until: int) -> None:
        notes.clear()
        progress = lambda event: notes.append(event.text)  # noqa: E731
        train(config, tmp_path / "run", resume=True, until=until, progress=progress)

    config = small(9)
    train(config, tmp_path / "run", until=1)
    resume(config, 2)
    assert not any("images" in note or "options" in note for note in notes)
    fewer = replace(config, data=replace(config.data, scenes={**SCENES, "count": 12, "count_val": 0}))
    resume(fewer, 3)
    assert "saved with 16 images, now there are 12: samples differ from here on" in notes
    assert "goes on with other options: data.scenes.count 16 → 12, data.scenes.count_val 2 → 0" in notes
    (tmp_path / "run" / "state" / "state.pt").unlink()
    resume(config, 3)
    assert "the run was stopped before its first state: it begins anew" in notes
    assert state(tmp_path / "run")["outstanding"]
    resume(fewer, 5)  # without images to validate on
    assert steps_of(tmp_path / "run") == [2, 4]


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, "bf16"),
        ({"avx512_f": True, "amx_bf16": False}, "fp32"),
        (None, "fp32"),
    ],
)
def test_bf16_is_chosen_where_the_processor_has_it(
    tmp_path: Path, monkeypatch: Any, capabilities: dict[str, bool] | None, expected: str
) -> None:
    """And what was chosen stands in the folder, so that the run goes on alike on another machine."""
    if capabilities is None:  # a torch that does not tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    chosen = "fp32" if expected == "bf16" else "bf16"
    assert settled(small(precision=chosen)).train.precision == chosen
    run = train(small(1, every=0, precision="auto"), tmp_path / "run")
    assert f'precision = "{expected}"' in (run.folder / "config.toml").read_text()


def test_half_precision_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.precision: expected fp32 or bf16 on a CPU, got 'fp16'"):
        train(small(precision="fp16"), tmp_path / "run")


def test_what_accelerate_finds_in_the_environment_divides_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small(1), tmp_path / "plain")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    train(small(1), tmp_path / "set")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "set")


def test_a_run_is_not_resumed_where_the_classes_are_others(tmp_path: Path) -> None:
    config = small(2)
    train(config, tmp_path / "run", until=1)
    file = tmp_path / "run" / "last" / "labels.json"
    file.write_text(file.read_text().replace("person", "robot"))
    with pytest.raises(
        FormatError, match=r"labels.json: the run began with the classes robot, .*; the data have person"
    ):
        train(config, tmp_path / "run", resume=True)
    file.write_text(file.read_text().replace("robot", "person").replace("true", "false", 1))
    with pytest.raises(FormatError, match=r"labels.json: the run began with the things .*; the data have person"):
        train(config, tmp_path / "run", resume=True)


def test_a_disk_that_fills_up_leaves_the_old_state(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = tmp_path / "state.pt"
    save_state(file, {"step": 1})
    request.addfinalizer(partial(resource.setrlimit, resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large") as fault:
        save_state(file, {"step": 2, "weights": torch.zeros(1 << 16)})
    assert fault.value.filename == str(file)
    assert load_state(file)["step"] == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_second_ctrl_c_ends_a_run_unsaved_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored by what a shell starts in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def signal_twice(*_: object) -> None:
        monkeypatch.setattr(signals, "SAME", 0.0)
        for _ in range(2):
            time.sleep(0.01)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "optimize", signal_twice)
    with pytest.raises(KeyboardInterrupt):
        train(small(2), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").state.exists()


def test_a_signal_that_comes_early_ends_what_may_be_aborted() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interruption.abort():
            pytest.fail("is not reached")


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_gets_what_the_metrics_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs deeperlab[train]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small(5, trackers=("tensorboard",))
    save, faults = Loop.save, [OSError("no room")]

    def fail_once_after_the_validation(loop: Loop) -> None:
        if loop.step == 4 and faults:
            raise faults.pop()
        save(loop)

    monkeypatch.setattr(Loop, "save", fail_once_after_the_validation)
    with pytest.raises(OSError, match="no room"):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "deeperlab"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == steps_of(tmp_path / "run")


@pytest.mark.slow
def test_four_scenes_are_learned_by_heart(tmp_path: Path) -> None:
    config = small(model={"decoder_channels": 64, "semantic_channels": 32, "instance_channels": 32})
    quick = {
        "data.longest_side": 97,
        "data.crop": 97,
        "validate.size": 97,
        "data.radius": 8.0,
        "data.scenes.size": (97, 97),
        "train.steps": 150,
        "train.lr": 0.02,
    }
    run = train(override(config, [Layer("test", settings(4) | quick)]), tmp_path / "run")
    last = metrics(run.folder)[-1]
    assert last["step"] == 150
    assert last["ceiling_share"] > 0.9


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_layer(tmp_path: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"step 1: loss or gradient is not finite, first at backbone\.\S+ \(output\)"
    ) as error:
        train(small(6, optimizer="sgd", lr=1e30, warmup=0, clip_grad=0.0), tmp_path / "run")
    fault = error.value.fault
    assert fault is not None
    assert str(error.value).endswith("Try a smaller train.lr, a train.clip_grad, a longer train.warmup")  # fp32 it is
    again = replay(tmp_path / "run")
    assert again is not None
    assert (again.step, again.part, again.images, again.layer) == (1, 0, fault.images, fault.layer)
    kept = json.loads((tmp_path / "run" / "fault" / "fault.json").read_text())
    assert (kept["step"], kept["layer"]) == (1, fault.layer)
    assert all(name.startswith("scenes/") for name in fault.images)


def test_what_is_finite_with_other_options_is_told(tmp_path: Path) -> None:
    config = small(6, every=0, precision="bf16")
    train(config, tmp_path / "run", until=1)
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "run")


@pytest.mark.parametrize(
    "fault",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), RuntimeError("std::bad_alloc")],
)
def test_too_little_memory_is_told_with_the_peak_and_three_remedies(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(Loop, "optimize", fail)
    expected = (
        r"step 0: out of memory: peak \d+\.\d GiB, for 2 images of 65 × 65 px at once; try train\.accumulate = 2 "
        r"\(the same step in smaller parts\), or train\.recompute = true \(the same step, slower\), or "
        r"train\.precision = 'bf16'"
    )
    with pytest.raises(OutOfMemoryError, match=expected):
        train(small(1), tmp_path / "run")


def test_a_worker_that_the_system_kills_is_told_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()
        time.sleep(10)

    monkeypatch.setattr(Loop, "optimize", kill)
    expected = r"DataLoader worker \(pid \d+\) is killed by signal: Killed; .* try data\.workers = 1"
    with pytest.raises(OutOfMemoryError, match=expected):
        train(small(2, workers=2, every=0), tmp_path / "run")
