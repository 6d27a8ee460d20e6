# SPDX-License-Identifier: Apache-2.0
"""A loss or a gradient that is not finite: which layer gave the first such value, and how to see it again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._layout import find_device
from ..data import labels as label_files
from ..data.files import replace
from ..data.labels import LABELS, LabelSet
from ..models import Network, create
from .batches import Batch
from .checkpoint import load_state, save_state
from .config import Config, TrainConfig
from .config_file import read
from .network import set_training_mode
from .run_folder import RunFolder, plain
from .step import Step, seed_part

SUMMARY = "fault.json"


@dataclass(frozen=True)
class Fault:
    """A step whose loss or gradient is not finite.

    Attributes:
        step: Its number, 0 ….
        seed: Of the run.
        part: Number of the part of the step, over all processes.
        layer: The first layer, in the order in which values are computed, with one that is not finite; and of what.
        images: Names of the part's images.
        terms: The five losses of the part.
    """

    step: int
    seed: int
    part: int
    layer: str
    images: tuple[str, ...]
    terms: dict[str, float]


class DivergedError(ArithmeticError):
    """The loss or the gradient of a step is not finite; `fault` says more.

    Attributes:
        fault: What `replay` found; None: every part by itself is finite.
        step: Number of the step.
        train: The options, of which some are remedies.
    """

    def __init__(self, fault: Fault | None, step: int, folder: Path | None, train: TrainConfig) -> None:
        self.fault, self.step, self.train = fault, step, train
        where = f"first at {fault.layer}, images {', '.join(fault.images)}" if fault else "only in the sum of its parts"
        kept = f"; {folder} holds batch, seeds and weights, and --replay runs the step again" if folder else ""
        super().__init__(
            f"step {step}: loss or gradient is not finite, {where}{kept}. Try a smaller train.lr, "
            f"{'a smaller' if train.clip_grad else 'a'} train.clip_grad, a longer train.warmup"
            + ("" if train.precision == "fp32" else ", or train.precision = 'fp32'")
        )


def keep_fault(
    folder: RunFolder, network: Network, labels: LabelSet, parts: list[tuple[int, Batch]], counts: Tensor, step: int
) -> None:
    """Write what `replay` needs.

    Args:
        folder: of the run.
        network: with the weights that the step began with.
        labels: its classes.
        parts: of the step, with their numbers.
        counts: of the whole step.
        step: its number.
    """
    kept = [
        {"part": number, **{f.name: getattr(batch, f.name) for f in fields(batch)}}
        for number, batch in ((number, batch.map(lambda tensor: tensor.cpu())) for number, batch in parts)
    ]
    folder.fault.mkdir(exist_ok=True)
    replace(folder.fault / LABELS, lambda file: file.write(label_files.to_json(labels).encode()))
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    save_state(folder.fault / "step.pt", {"step": step, "parts": kept, "counts": counts.cpu(), "weights": weights})


def replay(run: str | os.PathLike[str], *, config: Config | None = None) -> Fault | None:
    """Run the step again at which a run has stopped, and find the first layer with a value that is not finite.

    Args:
        run: the folder of the run.
        config: other options than those of the run, to see whether they help.

    Returns:
        What is wrong with the first bad part of the step, also written to RUN/fault/fault.json; None: with these
        options every value is finite.

    Raises:
        FileNotFoundError: it holds no run, or no step of it has failed.
        FormatError: what was kept of it is damaged.
    """
    folder = RunFolder(run)
    folder.require_run()
    if not (folder.fault / "step.pt").exists():
        raise FileNotFoundError(errno.ENOENT, "no step of this run has failed", str(folder.path))
    state, labels = load_state(folder.fault / "step.pt"), label_files.read(folder.fault / LABELS)
    config = config or read(folder.config)
    found = (_look(kept, state, config, labels) for kept in state["parts"])
    fault = next((fault for fault in found if fault is not None), None)
    text = json.dumps(plain(fault and asdict(fault)), indent=2) + "\n"
    replace(folder.fault / SUMMARY, lambda file: file.write(text.encode()))
    return fault


def _look(kept: dict[str, Any], state: dict[str, Any], config: Config, labels: LabelSet) -> Fault | None:
    """Run a part of the step."""
    train, step = config.train, state["step"]
    best = "cuda" if torch.cuda.is_available() else "cpu"
    device = find_device("train.device", best if train.device == "auto" else train.device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(train.precision)
    network = create(config.model.name, len(labels), **config.model.options)
    network.load_state_dict(state["weights"])
    network.to(device)
    set_training_mode(network, train.freeze_bn, train.frozen_stages)
    recipe = Step(config, labels, device)
    batch = Batch(**{f.name: kept[f.name] for f in fields(Batch)})
    part, counts = recipe.prepare(batch, network), state["counts"].to(device)
    terms: dict[str, Tensor] = {}

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss, found = recipe.loss(network, network, part, counts, step)
        terms.update(found)
        return loss

    seed_part(train.seed, step, kept["part"])
    layer = first_bad_layer(network, forward)
    if layer is None:
        return None
    values = {name: float(term) for name, term in terms.items()}
    return Fault(step, train.seed, kept["part"], layer, batch.names, values)


def first_bad_layer(network: nn.Module, forward: Callable[[], Tensor]) -> str | None:
    """Find the first layer with a value that is not finite: in its weights, its output, or its gradient.

    Args:
        network: its gradients are those of the loss afterwards.
        forward: runs it and returns the loss.

    Returns:
        The name of the layer and what is not finite, or None.
    """
    for name, tensor in network.named_parameters():
        if not torch.isfinite(tensor).all():
            return f"{name} (weights)"
    found: list[str] = []
    with _hooks(network, found):
        loss = forward()
        if found:
            return found[0]
        if not torch.isfinite(loss):
            return "the loss, of finite outputs"
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
    if found:
        return found[0]
    for name, parameter in reversed(list(network.named_parameters())):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"{name} (gradient of the weights)"
    return None


@contextmanager
def _hooks(network: nn.Module, found: list[str]) -> Iterator[None]:
    """Note, in the order of computation, layers whose output, or gradient of it or of the input, is not finite."""

    def watch(name: str, what: str) -> Callable[..., None]:
        def look(_module: nn.Module, *values: Any) -> None:
            if not _is_finite(values[-1]) or (what == "gradient" and not _is_finite(values[0])):
                found.append(f"{name} ({what})")

        return look

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_hook(watch(name or "network", "output")))
        if not any(module.children()):
            handles.append(module.register_full_backward_hook(watch(name, "gradient")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: Any) -> bool:
    """Whether all floats are, in whatever a module returns."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if hasattr(value, "semantic"):  # Heads
        value = vars(value)
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return all(_is_finite(entry) for entry in entries)
