# SPDX-License-Identifier: Apache-2.0
"""Folders, here or on the Hugging Face hub, that hold a network: model.safetensors, config.json, and beside them
labels.json, model.onnx and a model card."""

from __future__ import annotations

import errno
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from deeperlab import shipped
from deeperlab.data import labels as label_files
from deeperlab.data.files import FormatError, replace
from deeperlab.data.labels import LABELS, LabelSet
from deeperlab.data.network_folder import CONFIG, GRAPH, WEIGHTS, read_config

from .weights import TrainedHeads, is_marked_trained, list_first, match_tensors, read_tensors, safetensors_torch

try:
    from huggingface_hub import ModelHubMixin
except ImportError:  # the extra `hub` is not installed: networks work, but cannot be saved to folders

    class ModelHubMixin:  # type: ignore[no-redef]
        """A stand-in that says how to get the real one."""

        def __init_subclass__(cls, **_: Any) -> None:
            super().__init_subclass__()

        def push_to_hub(self, *_: Any, **__: Any) -> Any:
            """Raise an ImportError that says what to install."""
            raise ImportError("models are saved by huggingface_hub: pip install 'deeperlab[hub]'")

        generate_model_card = push_to_hub


if TYPE_CHECKING:
    from typing_extensions import Self

CARD = "README.md"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
CONSTRUCTION_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Raised by modules for sizes and types that they cannot have."""
CARD_TEXT = """---
{{ card_data }}
---

# A network of deeperlab

It gives the heads of [DeeperLab]({{ paper_url }}), or the semantic one alone, of which `deeperlab.fuse` makes a
panoptic map.

```python
from PIL import Image

from deeperlab.models import from_pretrained
from deeperlab.predictor.parser import Parser

model = from_pretrained("FOLDER, OR OWNER/NAME")
panoptic = Parser(model, labels="LABEL SET")(Image.open("street.jpg"))
```

Please say here what it was trained on, which label set its classes are of, and its PQ.
"""


class Pretrained(
    TrainedHeads,
    ModelHubMixin,
    library_name="deeperlab",
    pipeline_tag="image-segmentation",
    tags=["panoptic-segmentation", "deeperlab"],
    paper_url="https://arxiv.org/abs/1902.05093",
    model_card_template=CARD_TEXT,
):
    """A network that can be saved to a folder or pushed to the hub, and made again from there.

    `push_to_hub` is that of huggingface_hub's `ModelHubMixin`. Its methods for folders are replaced, for they lose the
    old config when saving fails, ignore what they do not know in a config, load weights that do not fit, and pickles.
    """

    config: dict[str, Any]
    """The arguments that make this network; a subclass with arguments of its own adds them."""
    labels: LabelSet | None = None
    """What its classes are, if that is known: saved beside it."""

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        dtype: torch.dtype | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write model.safetensors and config.json to a folder, made if absent.

        Beside them labels.json, if the network has `labels`, and a model card, unless there is one. The old files stay
        if that fails.

        Args:
            save_directory: the folder.
            config: only the network's own.
            repo_id: OWNER/NAME on the hub; None: the name of the folder.
            dtype: of the floats in the file, such as torch.float16 for half its size; None: their own.
            push_to_hub: whether to put the network there too, see `push_to_hub`, which takes the other arguments.
            model_card_kwargs: for the template of the card.

        Returns:
            The URL on the hub, if pushed.

        Raises:
            ValueError: `dtype` is no type of floats, or cannot hold a weight; `config` does not make this network
                again, as after `fold_batch_norm()`; nothing is written.
            OSError: the files cannot be written.
            ImportError: safetensors or huggingface_hub is not installed.
        """
        if config not in (None, self.config):
            raise ValueError("config: expected None, or that of the network")
        if lost := inspect.signature(type(self)).parameters.keys() - self.config.keys():
            raise ValueError(
                f"config: expected all arguments of {type(self).__name__}, got none for {list_first(sorted(lost))}"
            )
        save = safetensors_torch().save
        card = str(self.generate_model_card(**model_card_kwargs or {}))
        # Copies: safetensors refuses two names of one tensor, as tied layers have.
        own = {"memory_format": torch.contiguous_format}
        tensors = {name: tensor.detach().cpu().clone(**own) for name, tensor in self.state_dict().items()}
        plain = {name: tensor.shape for name, tensor in self._blueprint(self.config).state_dict().items()}
        if {name: tensor.shape for name, tensor in tensors.items()} != plain:
            raise ValueError(
                "model: expected the network that its config makes, got another; save it before fold_batch_norm()"
            )
        if dtype is not None:
            if not dtype.is_floating_point:
                raise ValueError(f"dtype: expected a type of floats, got {dtype}")
            tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
            if beyond := [n for n, t in tensors.items() if not torch.isfinite(t).all()]:
                raise ValueError(f"dtype: expected one that can hold {list_first(beyond)}, got {dtype}")
        trained = self.has_trained_weights
        text = json.dumps(self.config, indent=2, allow_nan=False) + "\n"
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)

        def write(file: IO[bytes]) -> None:
            file.write(save(tensors, {"format": "pt", "trained": str(trained).lower()}))
            file.flush()
            # Only now: a full disk has shown itself, and the two files change within one moment.
            replace(folder / CONFIG, lambda config: config.write(text.encode()))

        replace(folder / WEIGHTS, write)
        if self.labels is not None:
            names = label_files.to_json(self.labels)
            replace(folder / LABELS, lambda file: file.write(names.encode()))
        if not (folder / CARD).exists():
            replace(folder / CARD, lambda file: file.write(f"{card}\n".encode()))
        if not push_to_hub:
            return None
        return str(self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Load the network of a folder that `save_pretrained` wrote, in eval mode, float32, on the CPU.

        A labels.json in the folder gives its `labels`.

        Args:
            pretrained_model_name_or_path: a folder, for which no network is used; or, where there is no such folder,
                the name of a network of the package (`photo16`), or OWNER/NAME on the Hugging Face hub (needs
                huggingface_hub), to which the other arguments apply.
            force_download: fetch files anew that are in the cache.
            token: of the hub; True: the one kept on this machine.
            cache_dir: where the hub's files are kept.
            local_files_only: take the hub's files from there, or not at all.
            revision: branch, tag or commit.
            model_kwargs: in the place of the config's, such as `eps=1e-3`; the weights must still fit.

        Raises:
            FormatError: config.json has an unknown key or a wrong value, or the weights are damaged or do not fit, or
                labels.json is damaged or has another number of classes.
            TypeError: an argument that the network does not have.
            FileNotFoundError: neither a folder nor of the package nor on the hub, or a file is missing in it.
            OSError: a file cannot be read.
            ImportError: safetensors or huggingface_hub is needed and not installed.
        """
        safetensors_torch()
        options = {"force_download": force_download, "token": token, "cache_dir": cache_dir}
        options |= {"revision": revision, "local_files_only": local_files_only}
        folder = find_folder(pretrained_model_name_or_path, **options)
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pth", ".pt", ".ckpt"))
                hint = f"; {list_first(pickles)}: pickles, which are not loaded from here" if pickles else ""
                raise FileNotFoundError(
                    errno.ENOENT, f"no such file in the folder of a model{hint}", str(folder / name)
                )
        config = read_config(folder / CONFIG)
        known = inspect.signature(cls).parameters.keys()
        if unknown := model_kwargs.keys() - known:
            raise TypeError(f"from_pretrained: expected arguments of {cls.__name__}, got {list_first(sorted(unknown))}")
        if strange := config.keys() - known:
            text = f"expected arguments of {cls.__name__}, got {list_first(sorted(map(repr, strange)))}"
            raise FormatError(
                folder / CONFIG,
                f"{text}; of another class (see models.from_pretrained) or a newer deeperlab?",
            )
        config |= model_kwargs
        found = read_tensors(folder / WEIGHTS)
        try:
            model = cls._blueprint(config)
        except CONSTRUCTION_ERRORS as fault:
            raise FormatError(folder / CONFIG, str(fault).removeprefix(f"{cls.__name__}.__init__() ")) from fault
        # No weight is made before the file has it: it bounds what a config may ask for.
        model.load_state_dict(match_tensors(folder / WEIGHTS, found, model.state_dict()), assign=True)
        model.mark_untrained(not is_marked_trained(folder / WEIGHTS))
        if (folder / LABELS).is_file():
            model.labels = label_files.read(folder / LABELS)
            if len(model.labels) != config["num_classes"]:
                text = f"expected {config['num_classes']} classes as {CONFIG} says, got {len(model.labels)}"
                raise FormatError(folder / LABELS, text)
        return model.eval()

    def of_classes(self) -> list[str]:
        """Name the parameters that depend on the number of classes: those that are larger for one class more."""
        more = self._blueprint(self.config | {"num_classes": self.config["num_classes"] + 1}).state_dict()
        return [name for name, tensor in self.state_dict().items() if tensor.shape != more[name].shape]

    @classmethod
    def _blueprint(cls, config: Mapping[str, Any]) -> Self:
        """Make the network of a config without memory for its weights."""
        with torch.device("meta"):
            return cls(**config)


def find_folder(source: str | Path, **options: Any) -> Path:
    """Return the folder of a network: one that is here, of the package, or of the hub; its download takes `options`.

    Raises:
        FileNotFoundError, ImportError: as `Pretrained.from_pretrained`.
    """
    name = str(source)
    if (folder := shipped.path_of(source)).is_dir():
        return folder
    if isinstance(source, Path) or not HUB_ID.fullmatch(name):
        known = ", ".join(shipped.NAMES)
        text = f"expected a folder, a network of the package ({known}), or OWNER/NAME on the Hugging Face hub"
        raise FileNotFoundError(errno.ENOENT, text, name)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as fault:
        text = f"{name}: no such folder; for the Hugging Face hub: pip install 'deeperlab[hub]'"
        raise ImportError(text) from fault
    try:  # one call for all files, that they be of one commit
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, GRAPH, LABELS], **options))
    except (OSError, ValueError) as fault:
        text = (
            "no such folder, and not to be had from the Hugging Face hub: check the name and the connection, or fetch "
            f"it elsewhere and give its folder ({' '.join(str(fault).split())})"
        )
        raise FileNotFoundError(errno.ENOENT, text, name) from fault
