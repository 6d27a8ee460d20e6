# SPDX-License-Identifier: Apache-2.0
"""Weights of a backbone and of a whole model, from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from deeperlab.data.files import FormatError

from .checkpoint import read, said_to_be_trained

if TYPE_CHECKING:
    from .pretrained import Pretrained

CLASSIFIER = ("head.fc.", "conv_head.", "bn2.", "classifier.")
"""Of ImageNet's classes, after the last features: timm's Xception; timm's and torchvision's MobileNetV2."""
MOST_NAMED = 10


class WeightsError(FormatError):
    """A file whose tensors do not fit. The message names the first few of each kind, the attributes all.

    Attributes:
        missing: names in the model but not in the file, each with the shape wanted.
        unexpected: names in the file but not in the model, each with its shape.
        misfits: names in both, each with the shapes or kinds of number, in the file and wanted.
    """

    def __init__(
        self, path: str | os.PathLike[str], missing: list[str], unexpected: list[str], misfits: list[str]
    ) -> None:
        self.missing, self.unexpected, self.misfits = tuple(missing), tuple(unexpected), tuple(misfits)
        kinds = {"missing": missing, "unexpected": unexpected, "of another form": misfits}
        faults = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in kinds.items() if names)
        super().__init__(path, f"does not fit the model, which stays as it was: {faults}")


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> None:
    """Load weights trained on ImageNet, in timm's naming (or torchvision's MobileNetV2), into a backbone.

    The classifier is left out. Kernels of MobileNetV2 that are narrower than the model's get zeros all around, which
    keeps the function, but for rounding where a backend sums wider kernels in another order. A model is not
    `has_trained_weights` afterwards: its heads are not of this backbone.

    Args:
        model: a network, or its backbone; as it was if anything is raised.
        file: `.safetensors`, `.pth` or `.pt`; the weights may be under "state_dict" or "model".

    Raises:
        WeightsError: a tensor but the classifier's is left over, is missing, or has another shape.
        FormatError: damaged, or a pickle of more than tensors.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    backbone = getattr(model, "backbone", model)
    wanted, found = backbone.state_dict(), read(file)
    if "conv_stem.weight" in wanted and "features.0.0.weight" in found:
        found = _from_torchvision(found, list(wanted))
    backbone.load_state_dict(fit(file, found, wanted, ignored=CLASSIFIER, widen=True))
    if backbone is not model:
        model.has_trained_weights = False  # type: ignore[assignment]


def load_weights(model: Pretrained, file: str | os.PathLike[str]) -> None:
    """Load all weights of a model, after which it `has_trained_weights`, unless random ones were saved.

    Args:
        model: as it was if anything is raised.
        file: `.safetensors`, `.pth` or `.pt`; the weights may be under "state_dict" or "model". Numbers are rounded
            to the dtype of the model.

    Raises:
        WeightsError: a tensor is missing, left over, or has another shape.
        FormatError: damaged, or a pickle of more than tensors.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    model.load_state_dict(fit(file, read(file), model.state_dict()))
    model.has_trained_weights = said_to_be_trained(Path(file))


def _from_torchvision(found: Mapping[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """The MobileNetV2 of torchvision under timm's names: the modules are the same in the same order.

    The order is taken from the numbers in their names: safetensors sorts what it writes.
    """

    def order(module: str) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in module.split(".")]

    theirs = sorted({name.rpartition(".")[0] for name in found if name.startswith("features.")}, key=order)
    ours = [*dict.fromkeys(name.rpartition(".")[0] for name in wanted), "conv_head", "bn2"]
    if len(theirs) != len(ours):
        return dict(found)
    names = dict(zip(theirs, ours, strict=True))
    split = ((*name.rpartition("."), tensor) for name, tensor in found.items())
    return {f"{names.get(module, module)}.{leaf}": tensor for module, _, leaf, tensor in split}


def fit(
    path: str | os.PathLike[str],
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    ignored: tuple[str, ...] = (),
    widen: bool = False,
) -> dict[str, Tensor]:
    """The tensors for all the names wanted, and no others."""
    adapt: Callable[[Tensor, Tensor], Tensor] = _widened if widen else lambda tensor, _: tensor
    fitted = {name: adapt(found[name], like) for name, like in wanted.items() if name in found}
    misfits = [
        f"{name} {_form(found[name])} instead of {_form(wanted[name])}"
        for name, tensor in fitted.items()
        if _form(tensor) != _form(wanted[name])
    ]
    missing = [f"{name} {_form(like)}" for name, like in wanted.items() if name not in found]
    unexpected = [
        f"{name} {_form(tensor)}"
        for name, tensor in found.items()
        if name not in wanted and not name.startswith(ignored or "\0")
    ]
    if missing or unexpected or misfits:
        raise WeightsError(path, missing, unexpected, misfits)
    return fitted


def _widened(kernels: Tensor, like: Tensor) -> Tensor:
    """Kernels [C, c, k, k], k > 1, with zeros around them as wide as those of `like`, where that makes them fit."""
    if kernels.ndim != 4 or like.ndim != 4 or min(kernels.shape[2:]) < 2:
        return kernels
    up, left = ((b - a) // 2 for a, b in zip(kernels.shape[2:], like.shape[2:], strict=True))
    return kernels if min(up, left) < 0 else F.pad(kernels, (left, left, up, up))


def _form(tensor: Tensor) -> str:
    """The shape, and the kind of number unless it is a float."""
    kind = "" if tensor.is_floating_point() else " complex" if tensor.is_complex() else " integers"
    return f"{list(tensor.shape)}{kind}"


def some(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
