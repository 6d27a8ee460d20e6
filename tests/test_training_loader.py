"""Batches are a pure function of seed, step and slot, whoever makes them; files that are broken are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from annotated import LABELS, Scenes, write

from deeperlab.data.files import FaultyFilesError
from deeperlab.graph import STAR
from deeperlab.training.batches import Batch
from deeperlab.training.config import Config, DataConfig, TrainConfig
from deeperlab.training.loader import batches
from deeperlab.training.sampling import Plan
from deeperlab.training.slots import BrokenFileWarning, SampleError, Skips, sample
from deeperlab.training.sources import Source, Sources

MIXED = Sources(LABELS, (Source("one", Scenes(7), 2.0), Source("other", Scenes(5))), None)


def config(steps: int = 6, batch: int = 4, accumulate: int = 1, seed: int = 0, **data: Any) -> Config:
    options = {"crop": (33, 41), "workers": 0, "keypoints": "whole"} | data
    return Config(
        data=DataConfig(**options), train=TrainConfig(steps=steps, batch=batch, accumulate=accumulate, seed=seed)
    )


def made(sources: Sources = MIXED, settings: Config | None = None, **options: Any) -> dict[int, list[Batch]]:
    return dict(batches(sources, settings or config(), graph=STAR, **options))


def assert_equal(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def assert_steps_equal(one: dict[int, list[Batch]], other: dict[int, list[Batch]]) -> None:
    assert list(one) == list(other)
    for step, parts in one.items():
        for a, b in zip(parts, other[step], strict=True):
            assert_equal(a, b)


def names(steps: dict[int, list[Batch]]) -> list[str]:
    return [name for parts in steps.values() for part in parts for name in part.names]


def test_a_batch_has_the_types_and_shapes_that_it_states() -> None:
    batch = made()[0][0]
    assert [(t.dtype, tuple(t.shape)) for t in (batch.images, batch.category, batch.instance, batch.ignore)] == [
        (torch.uint8, (4, 3, 33, 41)),
        (torch.int32, (4, 33, 41)),
        (torch.int32, (4, 33, 41)),
        (torch.bool, (4, 33, 41)),
    ]
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.point_ids is not None
    assert batch.points is not None
    assert batch.points.shape == (*batch.point_ids.shape, 5, 2)
    assert batch.points.dtype == batch.point_ids.dtype == torch.int64
    for ids, instance in zip(batch.point_ids, batch.instance, strict=True):
        assert set(ids[ids > 0].tolist()) == set(instance.unique().tolist()) - {0}
    visible = made(settings=config(keypoints="visible"))[0][0]
    assert visible.point_ids is visible.points is None


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_however_started_make_the_bits_that_the_process_itself_makes(context: str, tmp_path: Path) -> None:
    files = Sources(LABELS, (*MIXED.train, Source("files", write(tmp_path, 3))), None)
    assert_steps_equal(made(files, config(workers=2), context=context), made(files))


def test_a_run_that_begins_later_sees_what_one_that_began_at_0_saw() -> None:
    whole = made(settings=config(accumulate=2))
    for start in (0, 1, 5, 6):
        rest = made(settings=config(accumulate=2), start=start)
        assert_steps_equal(rest, {step: parts for step, parts in whole.items() if step >= start})


def test_processes_and_accumulated_parts_share_the_samples_of_a_step() -> None:
    whole = made(settings=config(batch=4))
    accumulated = made(settings=config(batch=4, accumulate=4))
    ranks = [made(settings=config(batch=4, accumulate=2), rank=r, world=2) for r in range(2)]
    for step, (batch,) in whole.items():
        in_turn = [ranks[i % 2][step][i // 2] for i in range(4)]
        for i, (one, other) in enumerate(zip(accumulated[step], in_turn, strict=True)):
            assert_equal(one, other)
            assert one.names == batch.names[i : i + 1]
            for name in ("images", "category", "instance", "ignore"):
                assert torch.equal(getattr(one, name), getattr(batch, name)[i : i + 1])


def test_a_sample_alone_is_that_of_its_batch_in_any_order() -> None:
    steps = made()
    for step in (5, 0, 3):
        for slot in (3, 0):
            example = sample(MIXED, config(), 0, step, slot, graph=STAR)
            assert example.name == steps[step][0].names[slot]
            assert torch.equal(torch.from_numpy(example.image), steps[step][0].images[slot].permute(1, 2, 0))
            assert torch.equal(torch.from_numpy(example.instance), steps[step][0].instance[slot])


def test_another_seed_gives_other_samples_of_other_images() -> None:
    one, other = made(), made(settings=config(seed=1))
    assert names(one) != names(other)
    assert not torch.equal(one[0][0].images, other[0][0].images)


def test_random_state_of_others_neither_decides_nor_changes() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = made()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert_steps_equal(made(), one)


def test_sources_are_mixed_by_their_weights() -> None:
    drawn = names(made(settings=config(steps=9)))
    assert sum(name.startswith("one/") for name in drawn) == 24
    assert sum(name.startswith("other/") for name in drawn) == 12


def test_padding_is_of_the_mean_color_of_the_network() -> None:
    batch = made(settings=config(crop=200, jitter=0), mean=(0.485, 0.456, 0.406))[0][0]
    assert set(map(tuple, batch.images[:, :, -1, 0].tolist())) | {(124, 116, 104)} <= {
        (124, 116, 104),
        (40, 90, 140),
        (230, 200, 60),
    }
    assert (batch.images.permute(0, 2, 3, 1)[batch.ignore] == torch.tensor([124, 116, 104])).all()
    assert batch.ignore.any()


def broken(*numbers: int, length: int = 9, fault: type[Exception] = OSError) -> Sources:
    return Sources(LABELS, (Source("set", Scenes(length, frozenset(numbers), fault)),), None)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_broken_image_is_named_once_and_replaced_by_the_next_of_the_epoch(workers: int) -> None:
    expected = names(made(broken()))
    skip = Skips(3)
    with pytest.warns(BrokenFileWarning) as told:
        found = names(made(broken(2, 5), config(workers=workers), skip=skip))
    assert sorted(str(w.message) for w in told) == [f"set/{n} is skipped: scene {n} is torn" for n in (2, 5)]
    assert skip.faults == {f"set/{n}": f"scene {n} is torn" for n in (2, 5)}
    plan = Plan([9], [1], seed=0, batch=4)
    replaced = 0
    for i, (name, wanted) in enumerate(zip(found, expected, strict=True)):
        order = [plan.image(plan.place(*divmod(i, 4)), after) for after in range(3)]
        assert wanted == f"set/{order[0]}"
        assert name == f"set/{next(n for n in order if n not in (2, 5))}"
        replaced += name != wanted
    assert replaced >= 4


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_more_broken_images_than_allowed_stop_the_run_with_all_of_them_named(workers: int) -> None:
    settings = config(steps=20, workers=workers, max_broken=2)
    with pytest.warns(BrokenFileWarning), pytest.raises(FaultyFilesError, match="faults: set/") as stopped:
        made(broken(1, 3, 5, 7), settings)
    assert len(stopped.value.faults) >= 3
    for fault in stopped.value.faults:
        number = str(fault)[4]
        assert str(fault) == f"set/{number}: scene {number} is torn"


def test_images_that_a_run_skipped_before_it_was_interrupted_count_on() -> None:
    skip = Skips(2, {"set/0": "torn", "set/8": "torn"})
    with pytest.warns(BrokenFileWarning), pytest.raises(FaultyFilesError, match="3 faults: set/0: torn; set/8: torn"):
        made(broken(4), skip=skip)


def test_images_that_any_process_skipped_count_in_all_of_them() -> None:
    processes = [Skips(3, {"set/0": "torn", "set/8": "torn"}), Skips(3, {"set/4": "cut", "set/8": "torn"})]
    faults = [dict(skip.faults) for skip in processes]
    assert [skip.share(faults) for skip in processes] == [True, True]
    assert all(skip.faults == {"set/0": "torn", "set/4": "cut", "set/8": "torn"} for skip in processes)
    assert not processes[0].share(faults)
    for skip in processes:
        with pytest.raises(FaultyFilesError, match="4 faults: "):
            skip.share([{"set/5": "torn"}])


def test_a_source_of_which_no_image_can_be_read_ends_the_run() -> None:
    with pytest.warns(BrokenFileWarning), pytest.raises(SampleError, match="set: none of 3 images can be read"):
        made(broken(0, 1, 2, length=3))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fault_that_is_not_of_a_file_names_the_image_and_ends_the_run(workers: int) -> None:
    text = r"^set/4 \(step \d, slot \d\): KeyError: 'scene 4 is torn'$"
    with pytest.raises(SampleError, match=text) as told:
        made(broken(4, fault=KeyError), config(workers=workers))
    assert "in __getitem__" in str(told.value.__cause__)


def test_a_missing_and_a_damaged_photograph_and_a_damaged_map_are_skipped(tmp_path: Path) -> None:
    samples = write(tmp_path, 6)
    (tmp_path / "photos" / "1.png").unlink()
    (tmp_path / "photos" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "maps" / "3.png").write_bytes(b"no map")
    skip = Skips(3)
    with pytest.warns(BrokenFileWarning):
        found = made(Sources(LABELS, (Source("files", samples),), None), skip=skip)
    assert set(names(found)) == {f"files/{n}" for n in (4, 5, 6)}
    for number, path in ((1, "photos/1.png"), (2, "photos/2.png"), (3, "maps/3.png")):
        assert str(tmp_path / path) in skip.faults[f"files/{number}"]


def test_a_step_that_cannot_be_cut_into_equal_parts_is_refused() -> None:
    text = "train.batch: expected a multiple of 6, which is accumulate × processes, got 4"
    with pytest.raises(ValueError, match=text):
        batches(MIXED, config(accumulate=2), graph=STAR, world=3)


def test_too_little_shared_memory_is_told_before_the_first_step() -> None:
    settings = config(workers=4, batch=4096, crop=4097)
    with pytest.raises(OSError, match=r"data.workers: 4 need \d+ MiB for samples, \d+ are free; .* data.workers to 0"):
        batches(MIXED, settings, graph=STAR)


GROUP = """
import signal, sys
sys.path.insert(0, {tests!r})
from test_training_loader import MIXED, config
from deeperlab.graph import STAR
from deeperlab.training.loader import batches

if __name__ == "__main__":
    heard = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: heard.append(n))
    for step, _ in batches(MIXED, config(steps=40, workers=2), graph=STAR):
        if step == 2:
            print("running", flush=True)
            while len(heard) < 2:
                signal.pause()
    print(step, len(heard))
"""


@pytest.mark.slow
def test_ctrl_c_and_sigterm_reach_the_training_and_leave_its_workers_alone(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(GROUP.format(tests=str(Path(__file__).parent)))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(process.pid, number)
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("39 2\n", "", 0)
    with pytest.raises(ProcessLookupError):  # nobody is left of the group
        os.killpg(process.pid, 0)


HELD = """
import sys
sys.path.insert(0, {tests!r})
from test_training_loader import MIXED, config
from deeperlab.graph import STAR
from deeperlab.training.loader import batches

if __name__ == "__main__":
    held = batches(MIXED, config(steps=1000, workers=2), graph=STAR)
    sys.held = held, next(held)
    print("ends")
"""


@pytest.mark.slow
def test_a_process_ends_though_something_still_holds_its_batches(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(HELD.format(tests=str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("ends\n", "", 0)
