# SPDX-License-Identifier: Apache-2.0
"""The network that `deeperlab predict` is asked for."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from .. import shipped
from .._layout import require_torch
from ..data import labels as label_files
from ..data.labels import LABELS, LabelSet


class Runtime(str, Enum):
    """What computes the heads."""

    torch = "torch"
    onnx = "onnx"

    @property
    def package(self) -> str:
        """The name of its package."""
        return "onnxruntime" if self is Runtime.onnx else "torch"


def _local_folder(name: str) -> Path | None:
    """The folder of a network that is here or comes with the package; None: neither."""
    folder = shipped.path_of(name)
    return folder if folder.is_dir() else None


def network_files(name: str, weights: Path | None, random_weights: bool) -> list[Path] | None:
    """The files that a network is made of, without making it; None where they are not here, as on a hub."""
    from ..predictor import MODEL_FILES

    if folder := _local_folder(name):
        return [folder / file for file in MODEL_FILES]
    if weights is not None:
        return [weights]
    return [] if random_weights and "/" not in name else None


def labels_of(model: str, labels: str | None) -> LabelSet:
    """The label set that is asked for, or that of the folder of a model, here or on the hub.

    Raises:
        ValueError: the model has none.
        OSError, FormatError, ImportError: as `find` and `find_folder`.
    """
    if labels is not None:
        return label_files.find(labels)
    folder = folder_of(model)
    if (folder / LABELS).is_file():
        return label_files.read(folder / LABELS)
    presets = ", ".join(label_files.PRESETS)
    raise ValueError(f"--labels: expected {presets}, or a file, as {model} has no {LABELS}")


def folder_of(model: str) -> Path:
    """Return the folder of a network, where it has one: here, in the package or on the hub.

    Raises:
        OSError, ImportError: as `find_folder`.
    """
    if folder := _local_folder(model):
        return folder
    if "/" not in model:
        return Path(model)
    require_torch("deeperlab predict")
    from ..models import find_folder

    return find_folder(model)


def check_onnx(*, device: str, half: bool, compiled: bool, weights: Path | None) -> None:
    """Raise before the work what ONNX Runtime has no part in.

    Raises:
        ValueError: an option of torch.
    """
    if device not in ("auto", "cpu"):
        raise ValueError(f"--device: expected auto or cpu with --runtime onnx, got {device}")
    given = {"--half": half, "--compile": compiled, "--weights": weights is not None}
    for option in (option for option, is_given in given.items() if is_given):
        raise ValueError(f"{option}: expected none with --runtime onnx, which computes in float32 what a folder holds")


def load_onnx_network(name: str, random_weights: bool) -> tuple[Any, bool]:
    """The network of a folder in ONNX Runtime, and whether its weights are trained.

    Raises:
        ValueError: no folder, or untrained weights that nobody asked for.
        FormatError, OSError, ImportError: as `OnnxNetwork`.
    """
    from ..predictor import OnnxNetwork

    folder = folder_of(name)
    if not folder.is_dir():
        raise ValueError(f"--model: expected a folder of save_pretrained with --runtime onnx, got {name!r}")
    network = OnnxNetwork(folder)
    _require_trained(network.has_trained_weights, name, random_weights)
    return network, network.has_trained_weights


def _require_trained(trained: bool, name: str, random_weights: bool) -> None:
    if not trained and not random_weights:
        raise ValueError(
            f"--model: the weights of {name} are not trained; give --weights FILE, or --random-weights to try the "
            "machinery"
        )


def load_network(name: str, weights: Path | None, classes: int, random_weights: bool) -> tuple[Any, bool]:
    """The model, and whether its weights are trained.

    Raises:
        ValueError: an unknown model, or untrained weights that nobody asked for.
    """
    require_torch("deeperlab predict", "; or --runtime onnx: pip install 'deeperlab[onnx]'")
    import torch

    from .. import models

    if random_weights and weights is not None:
        raise ValueError("--random-weights: expected no --weights beside it")
    torch.manual_seed(0)  # random weights are the same in every run, so that it can be resumed
    if _local_folder(name):
        if weights is not None:
            raise ValueError(f"--weights: expected none with {name}, which has its own, got {weights}")
        model: Any = models.from_pretrained(name)
    elif name in models.list_models():
        model = models.create(name, num_classes=classes)
        if weights is not None:
            models.load_weights(model, weights)
    elif "/" in name:
        if weights is not None:
            raise ValueError(f"--weights: expected none with a network of the hub, got {weights}")
        model = models.from_pretrained(name)
    else:
        names = ", ".join((*shipped.NAMES, *models.list_models()))
        raise ValueError(
            f"--model: expected a folder, OWNER/NAME of the Hugging Face hub or one of {names}, got {name!r}"
        )
    trained = bool(getattr(model, "has_trained_weights", False))
    _require_trained(trained, name, random_weights)
    return model, trained
