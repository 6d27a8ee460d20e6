# SPDX-License-Identifier: Apache-2.0
"""AdamW and the paper's SGD: which parameters fall into which group, and learning rates as functions of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Compute the learning rate of a step, 0 … `config.steps` − 1.

    The schedule begins with the first step; the warm-up multiplies it by (step + 1) / `warmup` until that is 1.
    """
    progress = step / config.steps
    factor: float = {
        "poly": (1 - progress) ** config.power,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "constant": 1.0,
    }[config.schedule]
    warmup = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * factor * warmup


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Split the parameters that learn: those of the backbone and others; those that decay and others.

    Biases, and weights and biases of norms, do not decay: all that has fewer than two dimensions. Each group has the
    factor of its learning rate as `factor`; no group is empty.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "factor": config.backbone_lr if in_backbone else 1.0,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]


def create_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer; its learning rates are those of the first step."""
    groups = parameter_groups(model, config)
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, config.lr, momentum=config.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, config.lr)
    set_learning_rate(optimizer, learning_rate(0, config))
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state but for the options of the groups: those the optimizer was made with go before those it had.

    Raises:
        ValueError: the state is that of another optimizer, or of other parameters.
    """
    if state["param_groups"][0].keys() != optimizer.param_groups[0].keys():
        raise ValueError("another optimizer")
    made = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, options in zip(optimizer.param_groups, made, strict=True):
        group.update(options)
