# SPDX-License-Identifier: Apache-2.0
"""What an installation must compute: digests of fused maps, compared with the stored ones of tests/digests.json.

Run by an interpreter of any environment that has the package, by itself, in the form of the engine that DEEPERLAB_SIMD
names; `python tests/digests.py numpy torch compile export` checks these faces. The first needs nothing but NumPy. The
noise is no random number: NumPy's generators and transcendental functions do not promise the same bits in every
release.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

if "export" in sys.argv:
    import torch  # first, as who exports does: torch.export looks at what is registered before it traces

import deeperlab
from deeperlab import Heads, Panoptic, scenes, targets

STORED = Path(__file__).with_suffix(".json")
SCENES = ((4, (361, 481), 4), (7, (721, 721), 8), (11, (257, 129), 3))  # seed, size, stride
NOISE = {"semantic": 4, "heatmap": 4, "short_range": 2, "middle_range": 4, "long_range": 8}  # at most this, up or down


def shaken(name: str, head: np.ndarray, seed: int) -> np.ndarray:
    """Add noise in steps of 1/16, which float16 keeps too: a hash of each value's place, by integers alone."""
    place = np.arange(head.size, dtype=np.uint64) + np.uint64((seed << 40) + (len(name) << 32))
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # the mixing function of SplitMix64
        place = (place ^ (place >> np.uint64(30))) * np.uint64(factor)
    steps = (place >> np.uint64(40)) % np.uint64(32 * NOISE[name] + 1)
    return head + ((steps.astype(np.float32) - 16 * NOISE[name]) / 16).reshape(head.shape)


def cases() -> Iterator[tuple[str, Heads, list[int], tuple[int, int]]]:
    """Yield name, batched heads, thing classes and size: perfect ones and noisy ones, of both precisions."""
    for seed, size, stride in SCENES:
        scene = scenes.draw(seed, size)
        heads = targets.encode_heads(scene.category, scene.instance, scene.num_classes, stride=stride)
        values = {name: np.asarray(getattr(heads, name), np.float32)[None] for name in NOISE}
        if values["semantic"].ndim == 3:  # labels: as logits of 0 and 4
            one_hot = np.eye(scene.num_classes, dtype=np.float32)[heads.semantic]
            values["semantic"] = 4 * np.moveaxis(one_hot, -1, 0)[None]
        noisy = {name: shaken(name, head, seed) for name, head in values.items()}
        for kind, made in (("perfect", values), ("noisy", noisy)):
            for dtype in (np.float32, np.float16):
                with np.errstate(over="ignore"):
                    parts = {name: head.astype(dtype) for name, head in made.items()}
                yield f"{kind} {seed} {dtype.__name__}", Heads(**parts, stride=stride), list(scene.things), size


def digest(panoptic: Panoptic) -> str:
    """Of every field: type, shape and bits."""
    state = hashlib.sha256()
    for field in fields(panoptic):
        value = getattr(panoptic, field.name)
        value = value.numpy() if hasattr(value, "numpy") else value
        if isinstance(value, np.ndarray):
            state.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
            state.update(np.ascontiguousarray(value).tobytes())
        else:
            state.update(f"{field.name} {value}".encode())
    return state.hexdigest()[:16]


def by_numpy(heads: Heads, things: list[int], size: tuple[int, int]) -> Panoptic:
    return deeperlab.fuse(heads, things, size=size)


def by_torch(heads: Heads, things: list[int], size: tuple[int, int]) -> Panoptic:
    import torch

    return deeperlab.fuse(heads.map(torch.from_numpy), things, size=size)


def compiled(heads: Heads, things: list[int], size: tuple[int, int]) -> Panoptic:
    import torch

    # The whole call, its default parameters too, is in the graph.
    fuse = torch.compile(lambda given: deeperlab.fuse(given, things, size=size), fullgraph=True)
    return fuse(heads.map(torch.from_numpy))


def exported(heads: Heads, things: list[int], size: tuple[int, int]) -> Panoptic:
    import torch

    class Fuse(torch.nn.Module):
        def forward(self, *given: torch.Tensor) -> Panoptic:
            return deeperlab.fuse(Heads(*given, stride=heads.stride), things, size=size)

    given = tuple(torch.from_numpy(getattr(heads, name)) for name in NOISE)
    return torch.export.export(Fuse(), given, strict=True).module()(*given)


FACES: dict[str, Callable[[Heads, list[int], tuple[int, int]], Panoptic]] = {
    "numpy": by_numpy,
    "torch": by_torch,
    "compile": compiled,
    "export": exported,
}


def computed(face: str) -> dict[str, Any]:
    """Return the digests of all cases, and how many instances each has: a fusion that finds none proves little."""
    found: dict[str, Any] = {}
    for name, heads, things, size in cases():
        panoptic = FACES[face](heads, things, size)
        found[name] = [digest(panoptic), int(np.asarray(panoptic.count).sum())]
    return found


def main() -> None:
    if sys.argv[1:] == ["--store"]:
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in computed("numpy").items()]
        STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    stored, wrong = json.loads(STORED.read_text()), 0
    for face in sys.argv[1:] or ["numpy"]:
        found = computed(face)
        differ = [name for name in stored if found.get(name) != stored[name]]
        wrong += len(differ)
        print(f"{face}: {len(stored) - len(differ)} of {len(stored)} as stored", *differ, sep="\n  ")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
