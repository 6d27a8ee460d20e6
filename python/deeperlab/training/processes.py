# SPDX-License-Identifier: Apache-2.0
"""Devices, processes, precision and trackers of a run, through accelerate.

What accelerate is not asked for, because a run could not be resumed to the bit or an accumulated step would not be the
whole one: its data loaders, its `save_state` (pickles, and not in one step), and its accumulation, which divides the
loss by the number of parts; ours are sums over the whole step.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from .._layout import find_device
from .._memory import keep_freed_memory
from ..data.files import replace
from .config import Config, TrainConfig
from .config_file import flatten, require
from .run_folder import RunFolder

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def settled(config: Config) -> Config:
    """The options with what "auto" stands for in `train.precision`, as the folder of the run keeps them."""
    train = config.train
    if train.precision != "auto":
        return config
    return dataclasses.replace(config, train=dataclasses.replace(train, precision=_precision(train)))


def _precision(train: TrainConfig) -> Literal["fp32", "bf16"]:
    """The faster one: a processor without instructions for bf16 takes some five times as long for it."""
    if train.device == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    else:
        device = find_device("train.device", train.device)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        found = any(has and name.endswith("bf16") for name, has in capabilities.items())
    else:
        found = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if found else "fp32"


def create_accelerator(config: Config, folder: RunFolder) -> Any:
    """Join the processes that torchrun has started, or be the only one; choose the device and the precision.

    Raises:
        ValueError: options that do not fit the number of processes or the device.
        ImportError: accelerate or a tracker is not installed.
    """
    accelerate = require("accelerate", "for devices and processes")
    train = settled(config).train
    for tracker in train.trackers:
        package = "deeperlab[train]" if tracker == "tensorboard" else tracker  # the extra has none of the others
        require(tracker, "as it is in train.trackers", package)
    # The state is one for the interpreter, and refuses a second run of another precision or device.
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    chosen = train.device not in ("auto", "cpu")
    if chosen:
        find_device("train.device", train.device)
        os.environ["ACCELERATE_TORCH_DEVICE"] = train.device
    count = int(os.environ.get("WORLD_SIZE", 1))
    # Of several processes without a GPU accelerate makes strangers, each the first, unless it is told of the CPU.
    strangers = count > 1 and train.device == "auto" and not torch.accelerator.is_available()
    try:
        accelerator = accelerate.Accelerator(
            mixed_precision=PRECISIONS[train.precision],
            cpu=train.device == "cpu" or strangers,
            log_with=list(train.trackers) or None,
            # Or it would take a number of the environment, and divide the loss by it.
            gradient_accumulation_plugin=accelerate.utils.GradientAccumulationPlugin(num_steps=1),
            project_dir=str(folder.path),
        )
    finally:
        if chosen:
            del os.environ["ACCELERATE_TORCH_DEVICE"]
    if accelerator.num_processes != count:
        raise ValueError(
            f"train.device: expected one on which {count} processes can train together, got {train.device}: "
            f"{accelerator.device} has {accelerator.num_processes}"
        )
    parts = accelerator.num_processes * train.accumulate
    if train.batch % parts:
        raise ValueError(
            f"train.batch: expected a multiple of {accelerator.num_processes} processes × train.accumulate "
            f"{train.accumulate}, got {train.batch}"
        )
    if train.precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("train.precision: expected fp32 or bf16 on a CPU, got 'fp16'")
    if train.sync_bn and accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        raise ValueError("train.sync_bn: expected false on CPUs, for which torch has no SyncBatchNorm, got true")
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def start_trackers(accelerator: Any, config: Config, folder: RunFolder, first: int) -> None:
    """Begin to track; on a resumed run go on with the same curves, whose next line may be that of the step `first`."""
    if not config.train.trackers:
        return
    name, file = folder.path.resolve().name, folder.path / "trackers.json"
    known = json.loads(file.read_text()) if file.exists() else {"wandb": secrets.token_hex(4)}
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": first},
        "wandb": {"id": known["wandb"], "name": name, "resume": "allow", "dir": str(folder.path)},
        "mlflow": {"run_name": name, "run_id": known.get("mlflow")},
    }
    accelerator.init_trackers("deeperlab", {n: _plain(v) for n, v in flatten(config).items()}, options)
    if accelerator.is_main_process:
        if "mlflow" in config.train.trackers:
            known["mlflow"] = accelerator.get_tracker("mlflow").active_run.info.run_id
        replace(file, lambda opened: opened.write(json.dumps(known).encode()))


def end_trackers(accelerator: Any) -> None:
    """End what is tracked. The processes part when the interpreter ends, so that another run may follow here.

    If they parted now, one that begins to join again while another still ends would find its old address, and wait.
    """
    for tracker in accelerator.trackers:
        tracker.finish()
    if torch.distributed.is_initialized():
        atexit.unregister(torch.distributed.destroy_process_group)
        atexit.register(torch.distributed.destroy_process_group)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def gather(value: Any) -> list[Any]:
    """Collect an object of every process, in the order of their ranks, on each of them."""
    if not torch.distributed.is_initialized():
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def share_buffers(network: nn.Module) -> None:
    """Give all processes the running statistics of the first, which are those that are saved."""
    if torch.distributed.is_initialized():
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)


@contextmanager
def determinism(is_wanted: bool) -> Iterator[None]:
    """Let torch refuse operators that may give other bits the next time, by their names; or let it try fast ones."""
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if is_wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(is_wanted or before)
    torch.backends.cudnn.benchmark = not is_wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
