# SPDX-License-Identifier: Apache-2.0
"""Weights of a backbone and of a whole model, from files. No pickle is ever executed.

`.safetensors` files hold nothing but tensors. `.pth`, `.pt` and `.ckpt` files are pickles, of which torch's restricted
reader (`weights_only=True`) builds tensors and plain containers; one that asks for more is refused.
"""

from __future__ import annotations

import mmap
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 the name the field knows it by
from torch import Tensor, nn

from deeperlab._memory import is_out_of_memory
from deeperlab.data.files import FormatError, open_file
from deeperlab.data.pointers import describe_pointer
from deeperlab.data.tensor_file import read_header

from . import torchvision_names
from .backbones.imagenet import FIRSTS, NORM, classifier_of_vgg, in_our_names
from .contexts import FullyConnected

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
NESTED = ("state_dict", "model_state_dict", "model")
"""Keys below which training scripts put the weights."""
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch's wrappers put into names: those for many GPUs and for averages, for compilation, for less memory."""
MOST_NAMED = 10
TOO_LARGE = "too large for the memory"


class TrainedHeads(nn.Module):
    """A network that knows whether its heads have been trained."""

    heads: nn.ModuleDict
    """Each ends in a layer with weight and bias, by which an untrained head is known."""
    _untrained: list[Tensor] | None
    """The weights and biases of those layers before any training; None: they come from a file of trained weights."""

    @property
    def has_trained_weights(self) -> bool:
        """Whether the heads have been trained, here or before a file was made of them.

        They have if any is not what it was when the network was made, or when `load_backbone` changed what they see.
        """
        if self._untrained is None:
            return True
        pairs = zip(self._untrained, self._last_layers(), strict=True)
        return any(was.is_meta or not torch.equal(was.to(now), now) for was, now in pairs)

    def mark_untrained(self, untrained: bool = True) -> None:
        """Declare the present weights of the heads untrained, or trained."""
        self._untrained = [tensor.clone() for tensor in self._last_layers()] if untrained else None

    def of_classes(self) -> list[str]:
        """Name the parameters that depend on the number of classes: the last layer of the semantic head."""
        return [f"heads.semantic.{name}" for name, _ in self.heads["semantic"].named_parameters()][-2:]

    def _last_layers(self) -> list[Tensor]:
        return [tensor.detach() for head in self.heads.values() for tensor in list(head.parameters())[-2:]]


class WeightsError(FormatError):
    """A file whose tensors do not fit. The message names the first few of each kind, the attributes all.

    Attributes:
        missing: names in the model but not in the file, each with the shape wanted.
        unexpected: names in the file but not in the model, each with its shape.
        misfits: names in both, each with the shapes or kinds of number, in the file and wanted.
    """

    def __init__(
        self, path: str | os.PathLike[str], missing: list[str], unexpected: list[str], misfits: list[str], hint: str
    ) -> None:
        self.missing, self.unexpected, self.misfits = tuple(missing), tuple(unexpected), tuple(misfits)
        kinds = {"missing": missing, "unexpected": unexpected, "of another form": misfits}
        faults = "; ".join(f"{len(names)} {kind}: {list_first(names)}" for kind, names in kinds.items() if names)
        super().__init__(path, f"does not fit the model, which stays as it was: {faults}{hint}")


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Load weights trained on ImageNet into a backbone.

    Names are those of timm, or of torchvision (MobileNetV2, ResNet, VGG), or of efficientnet-pytorch
    (EfficientNet-Lite0).

    The classifier is left out, but for the first two layers of VGG's where they are the model's context: FCN's, and
    those of the dilated front end and of DeepLab v1 with 7 × 7 kernels. Kernels of MobileNetV2 that are narrower than
    the model's get zeros all around, which keeps the function, but for rounding where a backend sums wider kernels in
    another order. A model is not `has_trained_weights` afterwards: its heads are not of this backbone.

    Args:
        model: a network, or its backbone; as it was if anything is raised.
        file: as of `load_weights`.

    Returns:
        The parts of the model that stay as they were, of which the file has nothing.

    Raises:
        WeightsError: a tensor but the classifier's is left over, is missing, or has another shape.
        FormatError: damaged, or a pickle of more than tensors.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    backbone = getattr(model, "backbone", model)
    wanted = backbone.state_dict()
    found = _below_prefix(file, read_tensors(file), next(iter(wanted)), *FIRSTS)
    context = getattr(model, "context", None)
    layers = classifier_of_vgg(found) if isinstance(context, FullyConnected) else {}
    beside = context.state_dict() if isinstance(context, FullyConnected) else {}
    if _shapes(layers) != _shapes(beside):
        layers = {}
    found = in_our_names(found, backbone)
    whole = any(name.startswith("backbone.") for name in found)
    hint = "; it looks like a whole network's: see load_weights" if whole else ""
    fitted = match_tensors(file, found, wanted, widen=True, hint=hint)
    if layers and isinstance(context, FullyConnected):
        context.load_state_dict(match_tensors(file, layers, beside))
    backbone.load_state_dict(fitted)
    if isinstance(model, TrainedHeads):
        model.mark_untrained()
    loaded = ("backbone", "context") if layers else ("backbone",)
    return tuple(name for name, _ in model.named_children() if backbone is not model and name not in loaded)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def load_weights(model: TrainedHeads, file: str | os.PathLike[str], *, new_classes: bool = False) -> None:
    """Load all weights of a model, after which it `has_trained_weights`, unless random ones were saved.

    Those of torchvision's `deeplabv3_resnet50` and `_resnet101` fit `deeplab_v3_resnet50` and `_resnet101`, those of
    its `fcn_resnet50` and `_resnet101` the networks of that name.

    Args:
        model: as it was if anything is raised.
        file: `.safetensors`, `.pth`, `.pt` or `.ckpt`. The weights may be under "state_dict", "model_state_dict" or
            "model"; the names may have one prefix, as of the attribute of a Lightning module, beside which other
            tensors are of no account. Numbers are rounded to the dtype of the model.
        new_classes: all but what depends on the number of classes, the last layer of the semantic head in most
            networks, to train on other classes, be they more, fewer or as many. That stays as it is, and the model is
            not `has_trained_weights` before it is trained.

    Raises:
        WeightsError: a tensor is missing, left over, or has another shape.
        FormatError: damaged, or a pickle of more than tensors.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    wanted = model.state_dict()
    found = _below_prefix(file, read_tensors(file), next(iter(wanted)), torchvision_names.FIRST)
    found = torchvision_names.in_our_names(found, auxiliary=hasattr(model, "auxiliary"))
    of_classes = model.of_classes()
    if new_classes:
        found |= {name: wanted[name] for name in of_classes}
    model.load_state_dict(match_tensors(file, found, wanted, hint=_hint(found, wanted, of_classes)))
    model.mark_untrained(new_classes or not is_marked_trained(Path(file)))


def _hint(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], of_classes: list[str]) -> str:
    """Say what a file that does not fit may be."""
    if any(f"backbone.{name}" in wanted for name in found):
        return "; it looks like a backbone's: see load_backbone"
    theirs, ours = (len(tensors[of_classes[-1]]) if of_classes[-1] in tensors else 0 for tensors in (found, wanted))
    if theirs in (0, ours):
        return ""
    remedy = "give the labels it was trained on, or, to train it on others, load_weights(…, new_classes=True)"
    return f"; it has {theirs} classes, not {ours}: {remedy}"


def _below_prefix(path: str | os.PathLike[str], found: Mapping[str, Tensor], *firsts: str) -> dict[str, Tensor]:
    """Take the network that lies below a prefix, known by the name of its first tensor, if none lies at the top.

    A backbone below `backbone.` is part of a whole model, and stays there.
    """
    places = {name.removesuffix(first) for first in firsts for name in found if name.endswith(f".{first}")}
    prefixes = sorted(place for place in places if not place.endswith("backbone."))
    if not prefixes or not found.keys().isdisjoint(firsts):
        return dict(found)
    if len(prefixes) > 1:
        raise FormatError(path, f"expected one network, got several, below {list_first(prefixes)}; save that of one")
    below = prefixes[0]
    return {name.removeprefix(below): tensor for name, tensor in found.items() if name.startswith(below)}


def match_tensors(
    path: str | os.PathLike[str],
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    widen: bool = False,
    hint: str = "",
) -> dict[str, Tensor]:
    """Return the tensors for all the names wanted, of their dtypes, and no others.

    How many batches a norm has seen is of no account to a network that only looks, and may be missing: old files have
    no such count. It is 0 then.

    Raises:
        WeightsError: anything else is missing, left over, of another shape, or not finite.
    """
    adapt: Callable[[Tensor, Tensor], Tensor] = _pad_kernels if widen else lambda tensor, _: tensor
    counts = {n: torch.zeros((), dtype=torch.int64) for n in wanted if n.endswith(NORM[-1]) and n not in found}
    fitted = {name: adapt(found[name], like) for name, like in wanted.items() if name in found}
    misfits = [
        f"{name} {_describe(found[name])} instead of {_describe(wanted[name])}"
        for name, tensor in fitted.items()
        if _describe(tensor) != _describe(wanted[name])
    ]
    misfits += [  # of those alone that fit: a view of one number may claim any shape
        f"{name} with NaN or infinity"
        for name, tensor in fitted.items()
        if tensor.shape == wanted[name].shape and not torch.isfinite(_as_float(tensor)).all()
    ]
    missing = [f"{name} {_describe(like)}" for name, like in wanted.items() if name not in found and name not in counts]
    unexpected = [f"{name} {_describe(tensor)}" for name, tensor in found.items() if name not in wanted]
    if missing or unexpected or misfits:
        raise WeightsError(path, missing, unexpected, misfits, hint)
    return {name: tensor.to(wanted[name].dtype) for name, tensor in (fitted | counts).items()}


def _pad_kernels(kernels: Tensor, like: Tensor) -> Tensor:
    """Kernels [C, c, k, k], k > 1, with zeros around them as wide as those of `like`, where that makes them fit."""
    if kernels.ndim != 4 or kernels.shape[:2] != like.shape[:2] or like.ndim != 4 or min(kernels.shape[2:]) < 2:
        return kernels
    up, left = ((b - a) // 2 for a, b in zip(kernels.shape[2:], like.shape[2:], strict=True))
    return kernels if min(up, left) < 0 else F.pad(kernels, (left, left, up, up))


def _as_float(tensor: Tensor) -> Tensor:
    """Convert floats of 8 bits, which few functions know, to float32."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def _describe(tensor: Tensor) -> str:
    """The shape, and the kind of number unless it is a float."""
    kind = "" if tensor.is_floating_point() else " complex" if tensor.is_complex() else " integers"
    return f"{list(tensor.shape)}{kind}"


def list_first(names: list[str]) -> str:
    """List the first few names, and say how many more there are."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file by their names, on the CPU, without wrappers around them or before their names.

    Raises:
        FormatError: of another kind, damaged, not of tensors alone, a pickle that asks for more than tensors, or more
            than fits into memory.
        OSError: the file cannot be read.
        ImportError: safetensors is needed and not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        fault = f"expected a file {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}; other pickles are never loaded"
        raise FormatError(path, fault)
    open_file(path).close()  # what cannot be read is an OSError, whichever reader follows
    values = _read_safetensors(path) if suffix == ".safetensors" else _read_checkpoint(path)
    for _ in NESTED:  # a pickle may hold itself
        inner = [values[key] for key in NESTED if isinstance(values, Mapping) and isinstance(values.get(key), Mapping)]
        values = inner[0] if inner else values
    if not isinstance(values, Mapping) or not values:
        raise FormatError(path, f"expected named tensors, got {'none' if values == {} else type(values).__name__}")
    for name, tensor in values.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            places = f"weights stand at the top, or under {', '.join(NESTED)}"
            raise FormatError(path, f"{name}: expected a tensor, got {type(tensor).__name__}; {places}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise FormatError(path, f"{name}: expected a dense tensor, got {tensor.layout} on {tensor.device}")
    # Beside a network that is wrapped as a whole stands what the wrapper counts.
    wrapped = {name: tensor for name, tensor in values.items() if name.partition(".")[0] in WRAPPERS} or values
    tensors = {".".join(p for p in name.split(".") if p not in WRAPPERS): tensor for name, tensor in wrapped.items()}
    if len(tensors) < len(wrapped):
        raise FormatError(path, f"two tensors of one name but for {', '.join(sorted(WRAPPERS))}")
    return tensors


def _read_safetensors(path: Path) -> Any:
    load_file = safetensors_torch().load_file
    try:
        return load_file(path)
    except Exception as fault:  # SafetensorError, and whatever torch says to a header that lies
        if is_out_of_memory(fault):
            raise FormatError(path, TOO_LARGE) from fault
        if isinstance(fault, OSError):
            raise
        pickled = "; it is a file of torch.save: call it .pth" if zipfile.is_zipfile(path) else ""
        hint = pickled or describe_pointer(path) or "; if it was cut short, copy or download it again"
        raise FormatError(path, f"damaged, or not safetensors: {fault}{hint}") from fault


def _read_checkpoint(path: Path) -> Any:
    try:
        _require_plain(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except Exception as fault:  # of any kind where a file is damaged; torch's advice to trust it is not passed on
        if is_out_of_memory(fault):
            raise FormatError(path, TOO_LARGE) from fault
        asked = re.search(r"GLOBAL ([\w.]+)", str(fault))
        what = f"a pickle that asks for {asked[1]}" if asked else f"damaged, or not of tensors ({type(fault).__name__})"
        remedy = describe_pointer(path) or "; refused: save model.state_dict(), or a .safetensors file"
        raise FormatError(path, f"{what}{remedy}") from fault


def _require_plain(path: Path) -> None:
    """Refuse a checkpoint that torch would let ask for more memory than it has bytes."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise FormatError(path, "a program of TorchScript; refused: save model.state_dict()")
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise FormatError(path, "packed, which torch does not do; refused: it may unpack to any size")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"bytearray") >= 0:  # the one thing of any size that the restricted reader makes of a number
            raise FormatError(path, "a pickle that asks for a bytearray; refused: save model.state_dict()")


def is_marked_trained(path: Path) -> bool:
    """Read what `save_pretrained` noted beside the tensors of a .safetensors file; other files hold trained weights."""
    return path.suffix.lower() != ".safetensors" or read_header(path).is_trained


def safetensors_torch() -> Any:
    """Import safetensors.torch, or raise an ImportError that says how to get it."""
    try:
        import safetensors.torch
    except ImportError as fault:
        raise ImportError("weights need safetensors: pip install 'deeperlab[hub]'") from fault
    return safetensors.torch
