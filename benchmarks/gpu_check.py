# SPDX-License-Identifier: Apache-2.0
"""A few small fusions on a GPU, compared with the CPU: what a sanitizer looks at, for which each takes a second."""

from __future__ import annotations

import argparse

import torch

import deeperlab
from deeperlab import FuseParams

from .cases import THINGS, Spec, noisy_heads
from .gpu import assert_same, batch_of

SPECS = (Spec(97, 4), Spec((65, 161), 12), Spec(33, 2, stride=1), Spec(97, 4, dtype="float16"))
PARAMS = (FuseParams(), FuseParams(peak_threshold=0.0, instance_threshold=0.0, majority="all", max_distance=30.0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal (default: cuda)")
    device = torch.device(parser.parse_args().device)
    for spec in SPECS:
        heads = batch_of(noisy_heads(spec), 2)
        there = heads.map(lambda head: head.to(device))
        for params in PARAMS:
            assert_same(deeperlab.fuse(there, THINGS, params=params), deeperlab.fuse(heads, THINGS, params=params))
    print(f"{len(SPECS) * len(PARAMS)} fusions on {device} equal those on the CPU")


if __name__ == "__main__":
    main()
