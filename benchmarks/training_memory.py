# SPDX-License-Identifier: Apache-2.0
"""Memory that a training needs, for each network, crop and batch: the table of docs/training.md.

Counted, not measured: the bytes of all tensors that autograd keeps for the backward pass of the network, each storage
once, on torch's meta device, where nothing is computed; and weights, gradients, AdamW's two moments and the average.
What operators take for the moment, the losses, targets and images come on top.

    .venv/bin/python -m benchmarks.training_memory
"""

from __future__ import annotations

from typing import Any

import torch

from deeperlab.models import Network, create
from deeperlab.training.recompute import recompute

CLASSES = 66
NETWORKS = ("xception71", "wider_mobilenet_v2", "light_wider_mobilenet_v2")
CROPS = ((513, 513), (513, 1025), (721, 721), (1025, 2049))
BATCHES = (8, 16, 28)
COPIES = 5
"""Of the weights: themselves, their gradients, AdamW's two moments, the moving average."""


def kept_bytes(network: Network, crop: tuple[int, int], device: str = "meta", dtype: Any = None) -> int:
    """Count what autograd keeps of an image; float32, or `dtype` by autocast (not on the meta device)."""
    storages: dict[int, Any] = {}
    own = {tensor.untyped_storage()._cdata for tensor in network.state_dict(keep_vars=True).values()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage  # a storage that is kept here is not used again
        return tensor

    images = torch.zeros(2, 3, *crop, device=device)  # a batch norm needs more than one value
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype, enabled=dtype is not None):
        heads = network.raw(images)
    assert heads[0].requires_grad
    total: int = sum(storage.nbytes() for key, storage in storages.items() if key not in own)
    return total // 2


def make(name: str, device: str = "meta") -> Network:
    """Make a network for training that takes no memory."""
    with torch.device(device):
        return create(name, CLASSES).train()


def rows(name: str) -> list[str]:
    """Write the rows of a network."""
    network = make(name)
    fixed = COPIES * 4 * sum(parameter.numel() for parameter in network.parameters())
    kept = {crop: kept_bytes(network, crop) for crop in CROPS}
    recompute(network.backbone)
    lines = []
    for crop in CROPS:
        less = kept_bytes(network, crop)
        totals, fewer = (", ".join(_gib(fixed + n * each) for n in BATCHES) for each in (kept[crop], less))
        size = " × ".join(map(str, crop))
        lines.append(f"| `{name}` | {size} | {_gib(fixed)} | {_gib(kept[crop])} | {totals} | {fewer} |")
    return lines


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f}" if count >= 2**30 else f"{count / 2**30:.2f}"


if __name__ == "__main__":
    print(
        f"| network | crop | weights × {COPIES} | an image | batch {', '.join(map(str, BATCHES))} | with `recompute` |"
    )
    print("|---|---|---|---|---|---|")
    print("\n".join(line for name in NETWORKS for line in rows(name)))
    small = create("light_wider_mobilenet_v2", CLASSES).train()
    full, half = (kept_bytes(small, (257, 257), "cpu", dtype) for dtype in (None, torch.bfloat16))
    print(f"\nbf16 keeps {half / full:.2f} of it (light_wider_mobilenet_v2 at 257 px)")
