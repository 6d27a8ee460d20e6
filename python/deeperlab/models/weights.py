# SPDX-License-Identifier: Apache-2.0
"""Weights of a backbone and of a whole model, and folders that hold a model."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from deeperlab.data.fields import Field
from deeperlab.data.files import FormatError, replace

from .checkpoint import read, safetensors_torch, said_to_be_trained

if TYPE_CHECKING:
    from typing_extensions import Self

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASSIFIER = ("head.fc.", "conv_head.", "bn2.", "classifier.")
"""Of ImageNet's classes, after the last features: timm's Xception; timm's and torchvision's MobileNetV2."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
MOST_NAMED = 10
MAX_CONFIG_BYTES = 1 << 20
BUILDING = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What modules raise for sizes and types that they cannot have."""


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
        faults = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names)
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
    backbone.load_state_dict(_fit(file, found, wanted, ignored=CLASSIFIER, widen=True))
    if isinstance(model, Pretrained):
        model.has_trained_weights = False


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
    model.load_state_dict(_fit(file, read(file), model.state_dict()))
    model.has_trained_weights = said_to_be_trained(Path(file))


class Pretrained(nn.Module):
    """A network that can be saved to a folder and made again from it."""

    config: dict[str, Any]
    """The arguments of `deeperlab.models.create`."""
    has_trained_weights: bool = False
    """Whether somebody has trained them all: true of what a file gives, unless `save_pretrained` noted otherwise."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write model.safetensors and config.json to a folder, made if absent; the old files stay if that fails.

        Raises:
            ValueError: `config` does not make this network again, as after `fuse_bn()`; nothing is written.
            OSError: the files cannot be written.
            ImportError: safetensors is not installed.
        """
        save_file = safetensors_torch().save_file
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        try:
            plain = {name: tensor.shape for name, tensor in _blueprint(self.config).state_dict().items()}
        except BUILDING as fault:
            raise ValueError(f"config: expected what deeperlab.models.create takes, got {self.config}") from fault
        if {name: tensor.shape for name, tensor in tensors.items()} != plain:
            wanted = f"the {self.config['name']} that its config makes"
            raise ValueError(f"model: expected {wanted}, got another; save it before fuse_bn()")
        # The norms after the backbone have seen images only if somebody has trained them.
        seen = (t for name, t in tensors.items() if name.endswith("num_batches_tracked") and "backbone" not in name)
        trained = self.has_trained_weights or any(int(count) > 0 for count in seen)
        text = json.dumps(self.config, indent=2, allow_nan=False) + "\n"
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)

        def write(file: IO[bytes]) -> None:
            save_file(tensors, file.name, {"format": "pt", "trained": str(trained).lower()})
            Path(file.name).chmod(os.fstat(file.fileno()).st_mode & 0o777)  # safetensors makes it private
            # Only now: a full disk has shown itself, and the two files change within one moment.
            replace(folder / CONFIG, lambda config: config.write(text.encode()))

        replace(folder / WEIGHTS, write)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """The network of a folder that `save_pretrained` wrote, in eval mode, float32, on the CPU.

        Args:
            source: a folder, which needs no network; or, where there is no such folder, OWNER/NAME on the Hugging Face
                hub (needs huggingface_hub).
            revision: branch, tag or commit on the hub.
            cache_dir: where the hub's files are kept.
            local_files_only: take the hub's files from there, or not at all.

        Raises:
            FormatError: config.json has an unknown key or a wrong value, or the weights are damaged or do not fit.
            FileNotFoundError: neither a folder nor on the hub, or a file is missing in it.
            OSError: a file cannot be read.
            ImportError: safetensors or huggingface_hub is needed and not installed.
            TypeError: the network is not of this class.
        """
        from . import create

        safetensors_torch()
        folder = Path(source)
        if not folder.is_dir():
            folder = _from_hub(source, revision, cache_dir, local_files_only)
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pth", ".pt", ".ckpt"))
                hint = f"; {_some(pickles)}: pickles, which are not loaded from here" if pickles else ""
                raise FileNotFoundError(
                    errno.ENOENT, f"no such file in the folder of a model{hint}", str(folder / name)
                )
        config = _read_config(folder / CONFIG)
        found = read(folder / WEIGHTS)
        try:
            wanted = _blueprint(config).state_dict()
        except BUILDING as fault:
            raise FormatError(folder / CONFIG, str(fault)) from fault
        _fit(folder / WEIGHTS, found, wanted)  # before memory is taken: the file bounds what a config may ask for
        model = create(**config)
        if not isinstance(model, cls):
            raise TypeError(f"{cls.__name__}.from_pretrained: the folder holds a {type(model).__name__}")
        model.load_state_dict(found)
        model.has_trained_weights = said_to_be_trained(folder / WEIGHTS)
        return model.eval()


def _blueprint(config: Mapping[str, Any]) -> nn.Module:
    """The network of a config without memory for its weights."""
    from . import create

    with torch.device("meta"):
        return create(**config)


def _read_config(path: Path) -> dict[str, Any]:
    root = Field.load(path, max_bytes=MAX_CONFIG_BYTES)
    root.get("name", str)
    root.get("num_classes", int)
    return dict(root.value)


def _from_hub(source: str | os.PathLike[str], revision: str | None, cache_dir: str | Path | None, local: bool) -> Path:
    name = os.fspath(source)
    if isinstance(source, os.PathLike) or not HUB_ID.fullmatch(name):
        raise FileNotFoundError(errno.ENOENT, "expected a folder, or OWNER/NAME on the Hugging Face hub", name)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as fault:
        text = f"{name}: no such folder; for the Hugging Face hub: pip install 'deeperlab[hub]'"
        raise ImportError(text) from fault
    try:  # one call for both files, that they be of one commit
        return Path(
            snapshot_download(
                name, revision=revision, cache_dir=cache_dir, local_files_only=local, allow_patterns=[CONFIG, WEIGHTS]
            )
        )
    except (OSError, ValueError) as fault:
        text = f"no such folder, and not to be had from the Hugging Face hub ({' '.join(str(fault).split())})"
        raise FileNotFoundError(errno.ENOENT, text, name) from fault


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


def _fit(
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


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
