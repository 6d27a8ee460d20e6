"""Entries in one block of memory: the same entries, and no worker grows by reading them."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import pickle
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import LABELS, Scenes, write

from deeperlab.data.sample import Entry, Regions, Samples
from deeperlab.training.chosen import Chosen
from deeperlab.training.index import Packed, id_of, pack, packed
from deeperlab.training.sources import Source, Sources

COUNT = 100_000


def load(shared: dict[str, Any], path: Path) -> Regions:
    raise AssertionError


def entries(count: int, shared: dict[str, Any]) -> tuple[Entry, ...]:
    paths = (Path(f"/data/set/{n}.png") for n in range(count))
    return tuple(Entry(n, path, path, functools.partial(load, shared, path)) for n, path in enumerate(paths))


def private() -> int:
    """Bytes that this process alone has."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def measure(held: Sequence[Entry], count: int, told: Connection) -> None:
    """Read so many entries, and tell by how many bytes the process grew with the later half of them."""
    gc.freeze()
    held[0].path.as_posix()
    sizes = []
    for half in (range(count // 2), range(count // 2, count)):
        for n in half:
            held[n].path.as_posix()
        sizes.append(private())
    told.send(sizes[1] - sizes[0])


def slope(held: Sequence[Entry], method: str, count: int = COUNT) -> float:
    """Bytes that a worker grows by with an entry."""
    context = multiprocessing.get_context(method)
    told, tells = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(held, count, tells))
    child.start()
    grown = told.recv()
    child.join()
    return grown / (count // 2)


def tell_slope(held: Sequence[Entry], told: Connection) -> None:
    told.send(slope(held, "fork"))


def slope_of_a_fork(held: Sequence[Entry]) -> float:
    """As `slope`, forked from a fresh process: a table of this one's names may grow only once, but by megabytes."""
    context = multiprocessing.get_context("spawn")
    told, tells = context.Pipe(duplex=False)
    parent = context.Process(target=tell_slope, args=(held, tells))
    parent.start()
    grown: float = told.recv()
    parent.join()
    return grown


@pytest.mark.slow
def test_a_worker_does_not_grow_with_a_hundred_thousand_samples() -> None:
    held = Packed.of(entries(COUNT, {str(n): n for n in range(1000)}))
    assert len(held._memory.map[:]) > COUNT * 100  # as another worker would have read it, which shares it
    assert slope(held, "spawn") < 2
    assert slope_of_a_fork(held) < 64


@pytest.mark.slow
def test_a_worker_that_reads_entries_as_objects_grows_with_each() -> None:
    assert slope(entries(COUNT // 5, {}), "fork", COUNT // 5) > 200  # so the test before this one can fail


def attached(held: Packed, told: Connection) -> None:
    rollup = Path("/proc/self/smaps").read_text().split("deeperlab index")[1]
    fields = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:6]}
    told.send((fields["Size"], [held[n] for n in (0, -1)], held[1].load.args[0] is held[2].load.args[0]))  # type: ignore


def test_a_process_that_is_spawned_maps_the_memory_that_is_there() -> None:
    held = Packed.of(entries(1000, {"a": 1}))
    context = multiprocessing.get_context("spawn")
    told, tells = context.Pipe(duplex=False)
    child = context.Process(target=attached, args=(held, tells))
    child.start()
    size, ends, is_shared = told.recv()
    child.join()
    assert size * 1024 >= len(held._memory.map)
    assert [entry.image_id for entry in ends] == [0, 999]
    assert is_shared


def test_what_entries_share_is_kept_once_and_nothing_else_is() -> None:
    shared = {"a": 1}
    held = Packed.of((*entries(3, shared), *entries(1, {"b": 2})))
    assert held._shared == (shared,)
    first, second, other = held[0].load, held[1].load, held[3].load
    assert first.args[0] is second.args[0]  # type: ignore[attr-defined]
    assert other.args[0] == {"b": 2}  # type: ignore[attr-defined]


def test_packed_entries_are_the_entries(tmp_path: Path) -> None:
    samples = write(tmp_path, 5)
    found = pack(samples)
    assert isinstance(found, Samples)
    assert isinstance(found.entries, Packed)
    assert len(found) == 5
    for again in (found, pickle.loads(pickle.dumps(found))):
        for a, b in zip(samples, again, strict=True):
            assert (a.image_id, a.image_path) == (b.image_id, b.image_path)
            np.testing.assert_array_equal(a.instance, b.instance)
            np.testing.assert_array_equal(a.image(), b.image())
    assert [sample.image_id for sample in found[1:3]] == [2, 3]
    assert found[-1].image_id == 5
    with pytest.raises(IndexError):
        found[5]
    assert pack(found) is found


def test_an_entry_of_real_data_takes_a_kilobyte_at_most(realdata: Path) -> None:
    from deeperlab.data import segments

    folder = realdata / "coco_panoptic"
    samples = segments.samples(folder / "panoptic_train.json", folder / "panoptic_train", images=folder / "train")
    held = Packed.of(samples.entries)
    assert len(held._memory.map) / len(held) < 1024
    assert len(held._shared) == 2  # the file, and its classes
    assert all(
        a == b for a, b in zip((e.image_path for e in held), (e.image_path for e in samples.entries), strict=True)
    )


def test_sources_are_packed_and_drawn_scenes_stay(tmp_path: Path) -> None:
    sources = Sources(LABELS, (Source("drawn", Scenes(3)), Source("files", write(tmp_path, 2))), Source("v", Scenes(1)))
    found = packed(sources)
    assert found.train[0].samples is sources.train[0].samples
    assert isinstance(found.train[1].samples, Samples)
    assert isinstance(found.train[1].samples.entries, Packed)
    assert found.val == sources.val


def test_chosen_samples_are_those_of_several_sequences(tmp_path: Path) -> None:
    files, drawn = write(tmp_path, 3), Scenes(5)
    chosen = Chosen([files, drawn], np.array([[0, 2], [1, 4], [0, 0]], np.int32))
    for found in (chosen, pack(chosen), pickle.loads(pickle.dumps(pack(chosen)))):
        assert [sample.image_id for sample in found] == [3, 4, 1]
        assert [id_of(found, n) for n in range(len(found))] == [3, 4, 1]
        assert [sample.image_id for sample in found[1:]] == [4, 1]
    assert isinstance(pack(chosen).parts[0].entries, Packed)  # type: ignore[attr-defined]
