# SPDX-License-Identifier: Apache-2.0
"""The parts of the training's loop: optimizers, the average, less memory, and what lies in the folder of a run."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from deeperlab.data import labels as label_files
from deeperlab.data.files import FormatError
from deeperlab.data.formats.coco import Category
from deeperlab.data.labels import from_categories
from deeperlab.models import DeeperLab, create, load_weights
from deeperlab.models.norms import batch_norms
from deeperlab.targets import Targets, encode
from deeperlab.training import ema
from deeperlab.training import step as step_module
from deeperlab.training.batches import Batch
from deeperlab.training.checkpoint import load_state, save_model, save_state
from deeperlab.training.config import Config, DataConfig, ModelConfig, TrainConfig, ValidateConfig
from deeperlab.training.config_file import Layer, override
from deeperlab.training.network import image_size, load_initial_weights, set_training_mode
from deeperlab.training.optimizers import create_optimizer, learning_rate, restore_optimizer, set_learning_rate
from deeperlab.training.overfit import first_samples
from deeperlab.training.recompute import recompute
from deeperlab.training.run_folder import RunFolder
from deeperlab.training.signals import Interruption
from deeperlab.training.sources import open_sources

LIGHT = {
    "decoder_channels": 16, "decoder_kernel": 3, "semantic_channels": 16, "instance_channels": 16, "head_kernel": 3,
}  # fmt: skip


def network(classes: int = 3, **options: object) -> DeeperLab:
    return create("mobilenet_v2", classes, **LIGHT | options)


# --- what a step computes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3])
def test_targets_do_not_wait_for_the_number_of_instances(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = torch.zeros(2, 33, 33, dtype=torch.int32)
    for i in range(count):
        instance[1, 8 * i : 8 * i + 6, 4:20] = i + 1
    maps = torch.zeros(2, 33, 33, dtype=torch.int32), instance, torch.zeros(2, 33, 33, dtype=torch.bool)
    batch = Batch(torch.zeros(2, 3, 33, 33, dtype=torch.uint8), *maps, None, None, ("a", "b"))
    given: list[dict[str, Any]] = []

    def spy(*args: Any, **kwargs: Any) -> Targets:
        given.append(kwargs)
        return encode(*args, **kwargs)

    monkeypatch.setattr(step_module, "encode", spy)
    config, labels, net = Config(), from_categories("few", [Category(1, "thing", True)]), network(1)
    found = step_module.Step(config, labels, torch.device("cpu")).prepare(batch, net).targets
    (options,) = given
    assert options.pop("max_instances") == max(1, count)
    expected = encode(instance, **options)
    for name in ("heatmap", "heatmap_valid", "short_range", "short_valid", "long_range", "long_valid"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


# --- learning rates and groups ----------------------------------------------------------------------------------------


def test_poly_falls_from_the_learning_rate_to_nothing_by_its_power() -> None:
    config = TrainConfig(steps=100, lr=0.01, schedule="poly", power=0.9, warmup=0)
    assert learning_rate(0, config) == 0.01
    assert learning_rate(50, config) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(99, config) == pytest.approx(0.01 * 0.01**0.9)


def test_cosine_is_half_way_in_the_middle_and_constant_stays() -> None:
    config = TrainConfig(steps=100, lr=0.01, schedule="cosine", warmup=0)
    assert learning_rate(50, config) == pytest.approx(0.005)
    assert learning_rate(99, replace(config, schedule="constant")) == 0.01


def test_the_warm_up_rises_linearly_and_then_no_longer_counts() -> None:
    config = TrainConfig(steps=100, lr=1.0, schedule="constant", warmup=4)
    assert [learning_rate(step, config) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_norms_and_biases_do_not_decay_and_the_backbone_has_its_factor() -> None:
    model = network()
    optimizer = create_optimizer(model, TrainConfig(lr=1.0, warmup=0, weight_decay=0.1, backbone_lr=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.add(name)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0)
            assert group["lr"] == (0.5 if name.startswith("backbone.") else 1.0)
    assert seen == set(names.values())
    set_learning_rate(optimizer, 0.1)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1, 0.05}


def test_the_papers_optimizer_has_momentum() -> None:
    optimizer = create_optimizer(network(), TrainConfig(optimizer="sgd", momentum=0.8))
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}


def test_a_resumed_optimizer_keeps_its_moments_and_takes_the_options_that_are_typed_now() -> None:
    model = network()
    before = create_optimizer(model, TrainConfig(weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before.step()
    after = create_optimizer(model, TrainConfig(weight_decay=0.2))
    restore_optimizer(after, before.state_dict())
    first = next(iter(model.parameters()))
    assert torch.equal(after.state[first]["exp_avg"], before.state[first]["exp_avg"])
    assert {group["weight_decay"] for group in after.param_groups} == {0.2, 0.0}


# --- the average ------------------------------------------------------------------------------------------------------


def test_the_average_has_a_short_memory_at_first() -> None:
    assert ema.decay_at(0, 0.9998) == 0.1
    assert ema.decay_at(90, 0.9998) == 0.91
    assert ema.decay_at(10**6, 0.9998) == 0.9998


def test_an_update_moves_weights_and_statistics_and_copies_counts() -> None:
    average, model = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(2)
        model.running_mean.fill_(4)
        model.num_batches_tracked.fill_(7)
    ema.update(average, model, 0.75)
    assert average.weight.item() == 1.25
    assert average.running_mean.item() == 1
    assert average.num_batches_tracked.item() == 7


def test_without_an_average_the_weights_are_those_of_the_step_to_the_bit() -> None:
    average, model = network(), network()
    ema.update(average, model, 0.0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(average.state_dict()[name], tensor), name


# --- batch norms and memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", ["none", "backbone", "all"])
def test_frozen_batch_norms_keep_the_statistics_they_came_with(frozen: str) -> None:
    model = network()
    before = {name: norm.running_mean.clone() for name, norm in batch_norms(model).items()}
    set_training_mode(model, frozen)
    model(torch.randn(2, 3, 33, 33))
    for name, norm in batch_norms(model).items():
        kept = frozen == "all" or (frozen == "backbone" and name.startswith("backbone."))
        assert torch.equal(norm.running_mean, before[name]) == kept, name


def test_a_backbone_without_a_stem_is_frozen_from_its_first_block() -> None:
    model = create("deeplab_v1_largefov", 2, units=8)
    set_training_mode(model, "none", 1)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [f"backbone.blocks.0.{i}.conv.{leaf}" for i in range(2) for leaf in ("weight", "bias")]


def test_frozen_stages_neither_learn_nor_count() -> None:
    """The stem and the first block of three parts."""
    model = network()
    set_training_mode(model, "none", 2)
    optimizer = create_optimizer(model, TrainConfig(lr=0.1, warmup=0, weight_decay=0.1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(torch.randn(2, 3, 33, 33)).semantic.square().sum().backward()
    optimizer.step()
    first = ("backbone.conv_stem.", "backbone.bn1.", "backbone.blocks.0.")
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert {name for name in before if name.startswith(first)} <= same
    assert "backbone.blocks.1.0.conv_pw.weight" not in same
    assert "backbone.blocks.1.0.bn1.running_mean" not in same

    with pytest.raises(ValueError, match=r"^train\.frozen_stages: expected at most 8 of this backbone, got 9$"):
        set_training_mode(model, "none", 9)


def test_recomputed_activations_change_no_gradient_and_no_statistic() -> None:
    torch.manual_seed(0)
    model = network()
    images = torch.randn(2, 3, 33, 33)
    results = []
    for again in (False, True):
        copy = network()
        copy.load_state_dict(model.state_dict())
        set_training_mode(copy, "none")
        if again:
            recompute(copy.backbone)
        torch.manual_seed(1)  # dropout
        copy(images).semantic.square().sum().backward()
        gradients = {name: p.grad for name, p in copy.named_parameters() if p.grad is not None}
        results.append({**copy.state_dict(), **gradients})
    assert all(torch.equal(results[1][name], tensor) for name, tensor in results[0].items())


def test_recomputing_is_refused_where_the_network_is_compiled() -> None:
    both = Layer("--set", {"train.compile": True, "train.recompute": True})
    with pytest.raises(ValueError, match=r"--set: train\.recompute: expected false beside train\.compile"):
        override(Config(), [both])


# --- weights to begin with --------------------------------------------------------------------------------------------


def scenes(**options: object) -> DataConfig:
    drawn = {"size": (65, 65), "instances": 3, "num_classes": 3, "num_things": 2, "count": 8, "count_val": 2}
    return DataConfig(source="scenes", scenes=drawn | options)


def test_a_run_begins_with_a_folder_of_this_package_and_names_the_head_of_other_classes(tmp_path: Path) -> None:
    labels = open_sources(scenes()).labels
    trained = network(3)
    save_model(tmp_path / "best", trained, labels)
    same = network(3)
    assert load_initial_weights(same, tmp_path / "best", labels) == []
    assert torch.equal(same.heads["semantic"][-1].weight, trained.heads["semantic"][-1].weight)

    more = open_sources(scenes(num_classes=5)).labels
    other = network(5)
    assert load_initial_weights(other, tmp_path / "best", more) == ["the last layer of heads.semantic"]
    assert torch.equal(other.heads["heatmap"][-1].weight, trained.heads["heatmap"][-1].weight)


def test_other_classes_of_the_same_number_are_known_by_the_labels_beside_the_weights(tmp_path: Path) -> None:
    labels = open_sources(scenes()).labels
    save_model(tmp_path / "best", network(3), labels)
    renamed = replace(labels, names=("a", "b", "c"))
    assert load_initial_weights(network(3), tmp_path / "best", renamed) == ["the last layer of heads.semantic"]


def test_a_run_begins_with_a_backbone_and_names_what_is_random(tmp_path: Path) -> None:
    labels = open_sources(scenes()).labels
    trained, model = network(), network()
    torch.save(trained.backbone.state_dict(), tmp_path / "backbone.pth")
    assert load_initial_weights(model, tmp_path / "backbone.pth", labels) == ["context", "decoder", "heads"]
    assert torch.equal(model.backbone.conv_stem.weight, trained.backbone.conv_stem.weight)


def test_images_are_parsed_at_the_size_that_is_validated() -> None:
    samples = open_sources(scenes(size=(65, 97))).train[0].samples
    assert image_size(Config(), samples) == 97
    assert image_size(Config(data=DataConfig(longest_side=513)), samples) == 513
    validated = Config(data=DataConfig(longest_side=513), validate=ValidateConfig(size=641))
    assert image_size(validated, samples) == 641
    assert image_size(replace(validated, model=ModelConfig(options={"image_size": 721})), samples) == 721


def test_overfitting_takes_the_first_images_to_train_and_to_validate_on() -> None:
    sources = open_sources(scenes())
    few = first_samples(sources, 4)
    assert few.val is few.train[0]
    assert [sample.image_id for sample in few.val.samples] == [0, 1, 2, 3]
    assert first_samples(sources, 0) is sources
    with pytest.raises(ValueError, match=r"data\.overfit: expected at most 8 images of scenes, got 9"):
        first_samples(sources, 9)


# --- the folder of a run ----------------------------------------------------------------------------------------------


def test_a_state_comes_back_and_holds_no_code(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.pt"
    save_state(path, {"step": 3, "tensor": torch.arange(3), "line": {"loss": 0.5}})
    state = load_state(path)
    assert state["step"] == 3
    assert state["tensor"].tolist() == [0, 1, 2]
    save_state(path, {"step": Path("x")})
    with pytest.raises(FormatError, match="damaged, or no state of a run"):
        load_state(path)


def test_a_state_for_which_there_is_no_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")

    save_state(tmp_path / "state.pt", {"step": 3})
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_state(tmp_path / "state.pt")


def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.pt"
    save_state(path, {"step": 3})
    with pytest.raises(TypeError):
        save_state(path, {"step": (i for i in range(3))})  # no pickle
    assert load_state(path)["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


def test_a_folder_of_a_network_is_what_the_command_line_takes(tmp_path: Path) -> None:
    labels = open_sources(scenes()).labels
    model = network()
    for _ in range(2):  # a second time into the same folder
        save_model(tmp_path / "last", model, labels)
    assert label_files.read(tmp_path / "last" / "labels.json") == labels
    assert DeeperLab.from_pretrained(tmp_path / "last").has_trained_weights
    load_weights(network(), tmp_path / "last" / "model.safetensors")
    assert [folder.name for folder in tmp_path.iterdir()] == ["last"]


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.require_new()
    with pytest.raises(FileNotFoundError, match=r"holds no run: there is no config\.toml"):
        folder.require_run()
    with closing(folder):
        folder.claim(resume=False)
        folder.create("")
    folder.require_run()
    with pytest.raises(FileExistsError, match="holds a run already; go on with it"):
        folder.require_new()


def test_a_folder_in_which_a_process_trains_is_refused_to_others_until_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom deeperlab.training.run_folder import RunFolder\nfolder = RunFolder(sys.argv[1])\n"
        "folder.claim(resume=False)\nfolder.create('')\nprint(flush=True)\ninput()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"\n"
        with closing(RunFolder(tmp_path / "run")) as folder:
            with pytest.raises(BlockingIOError, match="another process trains in this folder"):
                folder.claim(resume=True)
            other.kill()
            other.wait()
            with pytest.raises(FileExistsError):
                folder.claim(resume=False)
        with closing(RunFolder(tmp_path / "run")) as folder:
            folder.claim(resume=True)


def test_what_a_killed_process_left_unfinished_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    kept = [folder.config, folder.state, folder.last / "model.safetensors", tmp_path / ".mine.tmp"]
    left = [tmp_path / ".metrics.jsonl.0123abcd.tmp", folder.state.with_name(".state.pt.0123abcd.tmp")]
    left.append(folder.last / ".model.safetensors.0123abcd.tmp")
    for file in (*kept, *left):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    with closing(folder):
        folder.claim(resume=True)
    assert all(file.exists() for file in kept)
    assert not any(file.exists() for file in left)


def test_lines_after_the_resumed_step_are_dropped_with_a_line_that_a_kill_has_cut(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append({"step": step, "loss": step / 2})
    with folder.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in folder.lines()] == [1, 2, 3]
    folder.forget_from(3)
    assert [line["step"] for line in folder.lines()] == [1, 2]
    folder.forget_from(2)
    assert folder.metrics.read_text() == '{"step": 1, "loss": 0.5}\n'


@pytest.mark.parametrize(("line", "fault"), [('{"loss": 1}', "with its step"), ("[]", "with its"), ("{", "of JSON")])
def test_a_damaged_line_is_told_with_its_number(line: str, fault: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(FormatError, match=rf"metrics\.jsonl: line 2: expected an object .*{fault}"):
        folder.lines()


def test_the_table_has_a_column_for_every_name_and_json_no_nan(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append({"step": 1, "loss": math.nan})
    folder.append({"step": 2, "loss": 0.5, "pq": 0.25})
    folder.write_table()
    assert folder.table.read_text() == "step,loss,pq\n1,,\n2,0.5,0.25\n"
    assert json.loads(folder.metrics.read_text().splitlines()[0]) == {"step": 1, "loss": None}


def test_a_line_for_which_there_is_no_room_is_a_fault_and_leaves_the_others(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = RunFolder(tmp_path)
    folder.append({"step": 1, "loss": 0.5})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    request.addfinalizer(partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits))
    resource.setrlimit(resource.RLIMIT_FSIZE, (folder.metrics.stat().st_size + 5, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        folder.append({"step": 2, "loss": 0.25})
    assert folder.lines() == [{"step": 1, "loss": 0.5}]


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert interruption.requested
        os.kill(os.getpid(), number)  # at once: the same one, by another way
        time.sleep(0.01)
    assert signal.getsignal(number) is before


def test_a_signal_ends_what_nothing_would_be_lost_of() -> None:
    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with Interruption() as interruption, pytest.raises(KeyboardInterrupt), interruption.abort():
        wait()
    assert interruption.requested


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """if True:
        import os, signal, time
        from deeperlab.training import signals
        signals.SAME = 0
        with signals.Interruption():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -signal.SIGTERM


class Harm:
    """Runs when it is unpickled by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    torch.save({"version": 1, "step": Harm(tmp_path / "harm")}, tmp_path / "state.pt")
    with pytest.raises(FormatError, match="damaged, or no state of a run"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "harm").exists()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_memory_that_is_kept_has_its_pages() -> None:
    """In a process of its own, for which the C library stays as it was set.

    64 MiB each: up to 32 MiB glibc may learn to keep by itself, where something above them is still in use.
    """
    code = """
import resource
import torch
from deeperlab._memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        tensors = [torch.ones(1 << 24) for _ in range(3)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    given_back, kept = map(int, run.stdout.split())
    assert kept < given_back / 10
