# SPDX-License-Identifier: Apache-2.0
"""Label sets: what the classes of a data set are called, which are things, and how its ids become 0, 1, 2, ….

Presets: `coco` (133 classes), `cityscapes` (19), `vistas` (65, v1.2), `voc` (21), `ade20k` (150), and `photo16`, coarse
classes of COCO's. One's own are a file of the same form, JSON or TOML:

    name = "farm"
    [[classes]]
    name = "cow"
    thing = true
    color = [120, 166, 157]
    [[classes]]
    name = "meadow"
    thing = false

A class may have an `id`, that of the data set; without, the first class has 1, because 0 is void in most formats. A
`color` is by default PASCAL VOC's for the id. A class may take in several: `of = ["cow", "sheep"]` lists categories of
files that name theirs, all of them things or all stuff. `void` is a list of ids that are no class (`[0]`), `ignore` the
value of void in maps of class numbers (255).
"""

from __future__ import annotations

import errno
import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._lookup import UnknownValueError, look_up
from .fields import Field
from .files import FormatError
from .formats.coco import Category, read_categories

RGB = tuple[int, int, int]

PRESETS = ("coco", "cityscapes", "vistas", "voc", "ade20k", "photo16")
_NEEDED = (
    'a list of names does not tell which are things: {"classes": [{"name": "cow", "thing": true}, …]}, or COCO\'s '
    "categories with isthing"
)
LABELS = "labels.json"
"""Beside a network or a data set: the file of its labels."""
MAX_BYTES = 1 << 24
"""Of a file of labels; the largest preset has 10 kB."""


@dataclass(frozen=True)
class LabelSet:
    """Classes 0 … C − 1 and the ids that a data set gives them.

    Raises:
        ValueError: lists of different length, no class, a name or an id that is there twice, a name that would mean two
            classes, an id beyond 32 bits, a color that is not three bytes, an `ignore` that is a class.
    """

    name: str
    names: tuple[str, ...]
    isthing: tuple[bool, ...]
    colors: tuple[RGB, ...]
    """RGB, 0 to 255."""
    ids: tuple[int, ...]
    """The data set's category id of every class: those of its panoptic JSON."""
    void_ids: tuple[int, ...] = (0,)
    """Ids that are no class; the first is written for void."""
    ignore: int = 255
    """Void in maps of class numbers, e.g. Cityscapes' labelTrainIds."""
    merged: tuple[tuple[str, ...], ...] = ()
    """For every class the names of finer ones that it takes in; empty: none of them does."""

    def __post_init__(self) -> None:
        count = len(self.names)
        for field in ("isthing", "colors", "ids"):
            if len(getattr(self, field)) != count:
                raise ValueError(f"{field}: expected {count}, one per name, got {len(getattr(self, field))}")
        if not count:
            raise ValueError("names: expected at least one class")
        if self.merged and len(self.merged) != count:
            raise ValueError(f"merged: expected {count}, one list per name, got {len(self.merged)}")
        finer = [name for names in self.merged for name in names]
        if out_of_range := [i for i in (*self.ids, *self.void_ids, self.ignore) if not -(1 << 31) <= i < 1 << 31]:
            raise ValueError(f"ids: expected 32 bits, got {out_of_range[0]}")
        for name in finer:
            if name in self.names and name not in self.merged[self.names.index(name)]:
                raise ValueError(f"merged: {name} is a class of its own")
        for field, values in (("names", self.names), ("ids", (*self.ids, *self.void_ids)), ("merged", finer)):
            if not values:
                continue
            value, times = Counter[Any](values).most_common(1)[0]
            if times > 1:
                raise ValueError(f"{field}: expected each once, got {value!r} {times} times")
        for color in self.colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ValueError(f"colors: expected three integers of 0 to 255, got {color}")
        if 0 <= self.ignore < count:
            raise ValueError(f"ignore: expected a number that is no class (0 to {count - 1}), got {self.ignore}")

    def __len__(self) -> int:
        """C, the number of classes."""
        return len(self.names)

    @cached_property
    def things(self) -> tuple[int, ...]:
        """The thing classes, ascending: what `deeperlab.fuse` takes."""
        return tuple(c for c, thing in enumerate(self.isthing) if thing)

    @cached_property
    def class_of(self) -> dict[int, int]:
        """The data set's id → class; void ids → −1."""
        return dict.fromkeys(self.void_ids, -1) | {i: c for c, i in enumerate(self.ids)}

    @cached_property
    def class_of_name(self) -> dict[str, int]:
        """The name of a class, or of one that it takes in → class."""
        finer = {name: c for c, names in enumerate(self.merged) for name in names}
        return finer | {name: c for c, name in enumerate(self.names)}

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes as `coco.write` takes them, with the data set's ids."""
        return tuple(map(Category, self.ids, self.names, self.isthing, self.colors))

    def to_classes(self, ids: NDArray[Any]) -> NDArray[np.int32]:
        """Translate a map of the data set's ids to classes; void is −1.

        Raises:
            ValueError: an id that is neither a class nor void.
        """
        try:
            return look_up(ids, self.class_of)
        except UnknownValueError as fault:
            raise ValueError(f"expected category ids of {self.name}, got {fault}") from fault

    def to_ids(self, classes: NDArray[Any]) -> NDArray[np.int32]:
        """Translate a map of classes to the data set's ids; −1 becomes the first of `void_ids`.

        Raises:
            ValueError: a class that is not 0 … C − 1, or void where there is no id for it.
        """
        void = {-1: self.void_ids[0]} if self.void_ids else {}
        table = np.array([void.get(-1, 0), *self.ids], np.int32)
        if classes.size and not (0 if not void else -1) <= int(classes.min()) <= int(classes.max()) < len(self):
            raise ValueError(f"expected classes 0 to {len(self) - 1}{' or −1' if void else ''} of {self.name}")
        return table[classes.astype(np.int64) + 1]

    def from_numbers(self, numbers: NDArray[Any]) -> NDArray[np.int32]:
        """Translate a map of class numbers such as labelTrainIds to classes: `ignore` becomes −1.

        Raises:
            ValueError: a number that is neither.
        """
        try:
            return look_up(numbers, {self.ignore: -1} | {c: c for c in range(len(self))})
        except UnknownValueError as fault:
            raise ValueError(f"expected 0 to {len(self) - 1} or {self.ignore} of {self.name}, got {fault}") from fault


def preset(name: str) -> LabelSet:
    """Read a preset, one of `PRESETS`.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in PRESETS:
        raise ValueError(f"name: expected one of {', '.join(PRESETS)}, got {name!r}")
    return read(Path(__file__).with_name("presets") / f"{name}.json")


def find(name: str | os.PathLike[str]) -> LabelSet:
    """Read a preset by its name, else a file, as the command line names label sets.

    Raises:
        FileNotFoundError: neither a preset nor a file.
        FormatError, OSError: as `read`.
    """
    if os.fspath(name) in PRESETS:
        return preset(os.fspath(name))
    try:
        return read(name)
    except FileNotFoundError as fault:
        text = f"no such file of labels, and none of the presets {', '.join(PRESETS)}"
        raise FileNotFoundError(errno.ENOENT, text, os.fspath(name)) from fault


def read(path: str | os.PathLike[str]) -> LabelSet:
    """Read a file of labels; its form is that of this module's text.

    Raises:
        FormatError: not JSON or TOML, a key is missing or of the wrong type, or as `LabelSet`.
        OSError: the file cannot be read.
    """
    if Path(path).suffix.lower() in (".txt", ".names", ".yaml", ".yml"):
        raise FormatError(path, f"expected JSON or TOML; {_NEEDED}")
    root = Field.load(path, max_bytes=MAX_BYTES)
    if isinstance(root.value, list) or (isinstance(root.value, Mapping) and "classes" not in root.value):
        return _of_other(root)
    names, isthing, colors, ids, merged = [], [], [], [], []
    for i, entry in enumerate(root.each("classes")):
        names.append(entry.get("name", str))
        isthing.append(entry.flag("thing"))
        ids.append(entry.get("id", int, default=i + 1))
        colors.append(entry.color("color") or bit_color(ids[-1]))
        merged.append(tuple(entry.get("of", list, default=[])))
        if not all(type(name) is str for name in merged[-1]):
            raise entry.fault(f"of: expected a list of names, got {reprlib.repr(entry.value['of'])}")
    void = root.get("void", list, default=[0] if 0 not in ids else [])
    if not all(type(i) is int for i in void):
        raise root.fault(f"void: expected a list of integers, got {reprlib.repr(void)}")
    try:
        return LabelSet(
            root.get("name", str, default=Path(path).stem),
            tuple(names),
            tuple(isthing),
            tuple(colors),
            tuple(ids),
            tuple(void),
            root.get("ignore", int, default=255 if len(names) < 256 else -1),
            tuple(merged) if any(merged) else (),
        )
    except ValueError as fault:
        raise root.fault(str(fault)) from fault


def to_json(labels: LabelSet) -> str:
    """Write a label set in the form that `read` takes."""
    described = zip(labels.names, labels.isthing, labels.ids, labels.colors, strict=True)
    classes = [dict[str, Any](zip(("name", "thing", "id", "color"), values, strict=True)) for values in described]
    for entry, finer in zip(classes, labels.merged):  # noqa: B905 of most label sets there are none
        entry |= {"of": finer} if finer else {}
    form = {"name": labels.name, "classes": classes, "void": labels.void_ids, "ignore": labels.ignore}
    return json.dumps(form, indent=2) + "\n"


def _of_other(root: Field) -> LabelSet:
    """Categories as COCO's panoptic files have them, in an object or by themselves."""
    listed = root.value if isinstance(root.value, list) else root.value.get("categories")
    if isinstance(listed, list) and all(isinstance(entry, Mapping) and "isthing" in entry for entry in listed):
        try:
            return from_categories(root.path.stem, read_categories(root.path))
        except ValueError as fault:
            raise fault if isinstance(fault, FormatError) else root.fault(str(fault)) from fault
    raise root.fault(f"no key 'classes'; {_NEEDED}")


def from_categories(name: str, categories: Iterable[Category]) -> LabelSet:
    """Make the label set of a COCO panoptic file, in the order of its categories; id 0 is void unless it is one."""
    listed = tuple(categories)
    ids = tuple(category.id for category in listed)
    return LabelSet(
        name,
        tuple(category.name for category in listed),
        tuple(category.isthing for category in listed),
        tuple(category.color or bit_color(category.id) for category in listed),
        ids,
        () if 0 in ids else (0,),
        255 if len(listed) < 256 else -1,
    )


def bit_color(value: int) -> RGB:
    """Compute PASCAL VOC's color of a label: its bits, three by three, are the high bits of red, green and blue.

    0 is black, 1 is (128, 0, 0), 255 is (224, 224, 192); bits beyond the 24th are lost.
    """
    channels = [sum((value >> (3 * i + c) & 1) << (7 - i) for i in range(8)) for c in range(3)]
    return channels[0], channels[1], channels[2]
