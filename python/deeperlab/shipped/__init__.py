# SPDX-License-Identifier: Apache-2.0
"""Networks that come with the package, each a folder of `save_pretrained` with its model card and its figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..data import labels as label_files
from ..data.labels import LABELS, LabelSet
from ..data.network_folder import WEIGHTS

__all__ = ["DEFAULT", "NAMES", "Shipped", "find", "path_of"]

NAMES = ("photo16",)
"""All of them: folders here."""
DEFAULT = "photo16"
"""The network of who names none."""
FIGURES = "figures.json"
_ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Shipped:
    """A network that comes with the package.

    Attributes:
        name: by which `Parser`, `models.from_pretrained` and the command line know it.
        folder: with its files.
    """

    name: str
    folder: Path

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return (self.folder / WEIGHTS).stat().st_size

    @property
    def example(self) -> Path:
        """A photograph of its kind; whose it is says the card."""
        return self.folder / "example.jpg"

    @cached_property
    def labels(self) -> LabelSet:
        """Its classes."""
        return label_files.read(self.folder / LABELS)

    @cached_property
    def figures(self) -> Mapping[str, float]:
        """Of its validation: `pq`, `pq_things`, `pq_stuff`, `pc` and `miou`, 0 … 1, and `images`, how many."""
        found: dict[str, float] = json.loads((self.folder / FIGURES).read_text())
        return found

    def describe(self) -> str:
        """Say in a few lines what it knows, and how well."""
        labels, figures = self.labels, self.figures
        kinds = [
            ", ".join(name for name, is_thing in zip(labels.names, labels.isthing, strict=True) if is_thing == kind)
            for kind in (True, False)
        ]
        return (
            f"{self.name}, {len(labels)} coarse classes of COCO: things {kinds[0]}; stuff {kinds[1]}. "
            f"PQ {100 * figures['pq']:.1f} on {figures['images']:.0f} photographs that it was not trained on: "
            "a start to fine-tune from, no parser to rely on."
        )


def find(name: object) -> Shipped | None:
    """Return the network of a name; None: none has it, or a folder here has that name and goes before it."""
    if not isinstance(name, str) or name not in NAMES or Path(name).is_dir():
        return None
    return Shipped(name, _ROOT / name)


def path_of(source: str | os.PathLike[str]) -> Path:
    """Return the folder of a network of the package where `source` is its name, or the path that it is."""
    found = find(source)
    return found.folder if found else Path(source)
