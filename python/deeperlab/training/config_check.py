# SPDX-License-Identifier: Apache-2.0
"""Which values the options of the training take."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .config import Config


class OptionError(ValueError):
    """A value that an option does not take: `table.key: expected …, got …`."""

    def __init__(self, option: str, fault: str) -> None:
        self.option = option
        super().__init__(f"{option}: {fault}")


AT_LEAST = {
    "data.longest_side": 0, "data.workers": 0, "data.max_broken": 0, "data.overfit": 0, "data.elastic": 0,
    "train.steps": 1, "train.batch": 1, "train.accumulate": 1, "train.power": 0, "train.warmup": 0,
    "train.weight_decay": 0, "train.backbone_lr": 0, "train.clip_grad": 0, "train.seed": 0, "train.save_every": 1,
    "train.frozen_stages": 0,
    "train.log_every": 1, "train.patience": 0, "train.max_hours": 0,
    "loss.weights.semantic": 0, "loss.weights.heatmap": 0, "loss.weights.short_range": 0,
    "loss.weights.middle_range": 0, "loss.weights.long_range": 0,
    "loss.top_k_steps": 0, "loss.small_area": 0, "loss.small_weight": 0, "loss.border_weight": 0,
    "loss.auxiliary": 0,
    "validate.every": 0, "validate.images": 0, "validate.pictures": 0, "validate.size": 0,
}  # fmt: skip
ABOVE_ZERO = ("data.radius", "train.lr", "loss.border_sigma")
SHARES = {
    "data.flip": "0 to 1", "data.jitter": "0 to 1", "validate.ceiling": "0 to 1",
    "train.momentum": "0 to below 1", "train.ema": "0 to below 1",
    "loss.top_k": "above 0 to 1", "loss.class_balance": "0 to 1",
}  # fmt: skip
MAX_INTEGER = (1 << 63) - 1
LEAST_CROP = 16
TRACKERS = ("tensorboard", "wandb", "mlflow")


def check(config: Config) -> None:
    """Refuse values out of range, and options that contradict each other; warn of what is hardly meant.

    Raises:
        OptionError: the first fault.
        ImportError: torch, which knows the networks, is not installed.
    """
    for option, least in AT_LEAST.items():
        value = _value(config, option)
        _require(option, f"at least {least}", value, least <= value <= MAX_INTEGER)
    for option in ABOVE_ZERO:
        value = _value(config, option)
        _require(option, "a number above 0", value, 0 < value < math.inf)
    for option, expected in SHARES.items():
        value = _value(config, option)
        inside = (value > 0 if expected.startswith("above") else value >= 0) and (
            value < 1 if expected.endswith("below 1") else value <= 1
        )
        _require(option, expected, value, inside)
    _check_data(config)
    _check_train(config)
    weights = config.loss.weights
    _require("loss.weights", "one that is above 0", weights, any(vars(weights).values()))
    _check_model(config)


def _require(option: str, expected: str, value: Any, is_met: bool) -> None:
    if not is_met:
        raise OptionError(option, f"expected {expected}, got {value!r}")


def _value(config: Config, option: str) -> Any:
    value: Any = config
    for name in option.split("."):
        value = getattr(value, name)
    return value


def _check_data(config: Config) -> None:
    data = config.data
    sides = (data.crop,) if isinstance(data.crop, int) else data.crop
    _require("data.crop", f"at least {LEAST_CROP} px", data.crop, LEAST_CROP <= min(sides) <= max(sides) < 1 << 16)
    low, high = data.scale
    _require("data.scale", "two numbers above 0, the smaller first", data.scale, 0 < low <= high < math.inf)
    if data.elastic and data.keypoints == "whole":
        raise OptionError(
            "data.elastic", f"expected 0 beside data.keypoints = 'whole', which it cannot move, got {data.elastic:g}"
        )
    fold = re.fullmatch(r"(\d+)/(\d+)", data.fold)
    is_fold = fold is not None and 1 <= int(fold[1]) <= int(fold[2]) >= 2
    _require("data.fold", "i/k, such as 1/5, with i from 1 to k", data.fold, is_fold or not data.fold)


def _check_train(config: Config) -> None:
    train = config.train
    if train.batch % train.accumulate:
        raise OptionError(
            "train.accumulate", f"expected a divisor of train.batch, which is {train.batch}, got {train.accumulate}"
        )
    if train.compile and train.recompute:
        raise OptionError(
            "train.recompute", "expected false beside train.compile, which cannot see through it, got True"
        )
    for name in train.trackers:
        _require("train.trackers", f"some of {', '.join(TRACKERS)}", name, name in TRACKERS)
    _require("train.device", "auto, or one of torch's, such as cuda:1", train.device, bool(train.device))
    if train.warmup >= train.steps and train.warmup > 0:
        warnings.warn(
            f"train.warmup: {train.warmup} steps of {train.steps}: the learning rate does not come to train.lr; set a "
            "smaller one",
            stacklevel=3,
        )


def _check_model(config: Config) -> None:
    """Make the network of the options where it takes no memory."""
    from .._layout import require_torch

    require_torch("deeperlab.training")
    import torch

    from ..models import create, list_models, list_options

    name, options = config.model.name, config.model.options
    if name not in list_models():
        raise OptionError(
            "model.name", f"no {name}; the nearest is {nearest(name, list_models())} of {', '.join(list_models())}"
        )
    _check_names("model.options", options, list_options(name))
    if "radius" in options:
        raise OptionError("model.options.radius", f"expected none, got {options['radius']!r}: it is data.radius")
    if options:
        try:
            with torch.device("meta"):
                create(name, 1, **options)
        except (ValueError, TypeError) as fault:
            option = f"model.options.{str(fault).partition(':')[0]}"
            if option.rpartition(".")[2] not in options:
                raise OptionError("model.options", str(fault)) from fault
            raise OptionError(option, str(fault).partition(": ")[2]) from fault


def _check_names(option: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise OptionError(f"{option}.{name}", f"no such option; the nearest is {nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like one; those of dotted names also by their last part."""

    def likeness(other: str) -> float:
        ratios = [difflib.SequenceMatcher(None, name, other).ratio()]
        ratios.append(difflib.SequenceMatcher(None, name.split(".")[-1], other.split(".")[-1]).ratio())
        return sum(ratios) + max(ratios)

    return max(known, key=likeness)
