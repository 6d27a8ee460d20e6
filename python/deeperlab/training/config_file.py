# SPDX-License-Identifier: Apache-2.0
"""`Config` ⇄ TOML: recipes that inherit, files, and single values; each fault names the option and who asked for it.

A file has the tables of `Config`. It may begin with `inherits = "NAME"`, the name of a recipe. The package's recipes
are in `recipes/`, several in a file, each a table with its name.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from ..data.fields import Field, parse_toml
from ..data.files import FormatError
from .config import Config
from .config_check import OptionError, check, nearest
from .option_values import convert, plain

INHERITS = "inherits"
_NONE = "–"
NAME, OPTIONS, OF_ALL = "model.name", "model.options.", ("bn_momentum", "image_size")
"""The name of a network, and its options; those that any has, and that stay when a later layer names another."""
RECIPES = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class Layer:
    """Options from one place; later layers go before earlier ones.

    Attributes:
        origin: Who asks for them, for messages: a file, or an option of the command line.
        options: Values by their full name, such as `train.steps`.
    """

    origin: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        for option, value in self.options.items():
            if option in _tables():
                raise ValueError(f"{self.origin}: {option}: expected a table of options, got {value!r}")
            if option not in options() and not _is_within_mapping(option):
                raise ValueError(f"{self.origin}: {_unknown(option)}")


def load(recipe: str = "", file: str | os.PathLike[str] | None = None, overrides: Iterable[Layer] = ()) -> Config:
    """Resolve the options of a run: those of the recipe, then of the file, then the overrides; else the defaults.

    Args:
        recipe: one of `recipes()`; empty: none.
        file: a TOML file; one that inherits needs no recipe beside it.
        overrides: as `assignment` makes them.

    Raises:
        ValueError, FormatError: an unknown recipe or option, with the nearest known one; a value of another type or out
            of range; each with the place that it comes from.
        OSError: the file cannot be read.
    """
    layers = list(_recipe_layers(recipe)) if recipe else []
    name = recipe
    if file is not None:
        inherited, layer = _read(file)
        if inherited and recipe:
            raise FormatError(file, f"inherits {inherited}; expected none beside --recipe {recipe}: leave one out")
        if inherited:
            layers, name = list(_recipe_layers(inherited)), inherited
        layers.append(layer)
    layers = [Layer(f"recipe {name}", {"recipe": name}), *layers, *overrides]
    return _checked(layers)


def override(config: Config, overrides: Iterable[Layer]) -> Config:
    """Change options of a run; the rest stays.

    Raises:
        ValueError: as `load`.
    """
    return _checked([Layer("config.toml", flatten(config)), *overrides])


def _checked(layers: list[Layer]) -> Config:
    config, origins = _resolve(layers)
    try:
        check(config)
    except OptionError as fault:
        origin = origins.get(fault.option)
        raise ValueError(f"{origin}: {fault}" if origin else str(fault)) from fault
    return config


def of_recipe(name: str) -> Config:
    """Return what a recipe says, without a look at the network; needs no torch.

    Raises:
        ValueError: an unknown recipe, with the nearest known one.
    """
    return _resolve([*_recipe_layers(name), Layer(f"recipe {name}", {"recipe": name})])[0]


def read(file: str | os.PathLike[str]) -> Config:
    """Read the config.toml of a run: a file that says all. Types are checked, ranges are not.

    Raises:
        FormatError, ValueError: not TOML, an unknown option, or a value of another type.
        OSError: the file cannot be read.
    """
    return _resolve([_read(file)[1]])[0]


def to_toml(config: Config) -> str:
    """Write all options.

    Raises:
        ImportError: tomli-w is not installed.
        ValueError: a value that TOML has no word for, such as None.
    """
    tomli_w = require("tomli_w", "to write config.toml")
    values = {name: plain(name, value) for name, value in flatten(config).items()}
    root: dict[str, Any] = {}
    for name, value in values.items():
        *tables, key = name.split(".")
        functools.reduce(lambda table, part: table.setdefault(part, {}), tables, root)[key] = value
    text: str = tomli_w.dumps(root)
    return text


def flatten(config: Config) -> dict[str, Any]:
    """Return all options by their full name, such as `train.steps`; those of mappings one by one."""
    found: dict[str, Any] = {}

    def visit(instance: Any, prefix: str) -> None:
        for field in fields(instance):
            value, name = getattr(instance, field.name), prefix + field.name
            if is_dataclass(value):
                visit(value, f"{name}.")
            elif isinstance(value, Mapping):
                found.update({f"{name}.{key}": entry for key, entry in value.items()})
            else:
                found[name] = value

    visit(config, "")
    return found


def changes(before: Config, after: Config) -> dict[str, str]:
    """Return the options that differ, by their full name: `train.steps 200000 → 600`."""
    one, other = flatten(before), flatten(after)
    names = [name for name in dict.fromkeys((*one, *other)) if one.get(name, _NONE) != other.get(name, _NONE)]
    return {name: f"{name} {_word(one.get(name, _NONE))} → {_word(other.get(name, _NONE))}" for name in names}


def recipes() -> list[str]:
    """Return the names of all recipes, in the order of their files."""
    return list(_recipe_tables())


def assignment(text: str) -> Layer:
    """Read `table.key=value` as `--set` has it: the value is TOML, or a string without quotes.

    Raises:
        ValueError: no such option, or a value that is neither.
    """
    option, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not option:
        raise ValueError(f"--set: expected table.key=value, such as train.batch=4, got {text!r}")
    try:
        parsed = parse_toml(f"value = {value}\n")["value"]
    except ValueError:
        if not value or value[0] in "\"'[{":
            raise ValueError(f"--set {option}: expected a value of TOML, got {value!r}") from None
        parsed = value
    if isinstance(parsed, Mapping):
        return Layer("--set", dict(_flat(parsed, option)))
    return Layer("--set", {option: parsed})


def require(module: str, purpose: str, package: str = "deeperlab[train]") -> Any:
    """Import a module of the extra `train`, or of another package.

    Raises:
        ImportError: it is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as fault:
        if fault.name != module:
            raise
        name = module.replace("_", "-")
        raise ImportError(f"deeperlab train needs {name} {purpose}: pip install '{package}'") from fault


# --- options and their types ------------------------------------------------------------------------------------------


@functools.cache
def options() -> dict[str, Any]:
    """Return the type of every option by its full name, such as `train.steps`, in the order of `Config`."""

    def visit(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in get_type_hints(cls).items():
            if is_dataclass(hint):
                yield from visit(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
            else:
                yield prefix + name, hint

    return dict(visit(Config, ""))


@functools.cache
def _tables() -> set[str]:
    """What holds options: `loss`, `loss.weights`, and the options of the type Mapping."""
    parts = [name.split(".") for name in options()]
    tables = {".".join(each[:depth]) for each in parts for depth in range(1, len(each))}
    return tables | {name for name, hint in options().items() if get_origin(hint) is Mapping}


def _is_within_mapping(option: str) -> bool:
    return any(get_origin(hint) is Mapping and option.startswith(f"{name}.") for name, hint in options().items())


def _unknown(option: str) -> str:
    return f"no option {option}; the nearest is {nearest(option, options())}"


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The values of tables by their full name; an entry of a Mapping is a value, whatever it holds."""
    for key, value in table.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping) and not _is_within_mapping(name):
            yield from _flat(value, name)
        else:
            yield name, value


def _resolve(layers: Iterable[Layer]) -> tuple[Config, dict[str, str]]:
    """Make the options of the layers, and say who asked for each."""
    values, origins = dict[str, Any](), dict[str, str]()
    for layer in layers:
        if layer.options.get(NAME, values.get(NAME)) != values.get(NAME):  # another network has options of its own
            of_another = [o for o in values if o.startswith(OPTIONS) and o.removeprefix(OPTIONS) not in OF_ALL]
            values = {option: value for option, value in values.items() if option not in of_another}
        for option, value in layer.options.items():
            hint = Any if _is_within_mapping(option) else options()[option]
            try:
                values[option] = convert(hint, value)
            except ValueError as fault:
                raise ValueError(f"{layer.origin}: {option}: {fault}") from None
            origins[option] = layer.origin

    def build(cls: type, prefix: str) -> Any:
        given = dict[str, Any]()
        for name, hint in get_type_hints(cls).items():
            option = prefix + name
            if is_dataclass(hint):
                given[name] = build(hint, f"{option}.")  # type: ignore[arg-type]
            elif get_origin(hint) is Mapping:
                start = f"{option}."
                given[name] = {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}
            elif option in values:
                given[name] = values[option]
        return cls(**given)

    config: Config = build(Config, "")
    return config, origins


def _word(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


# --- files and recipes ------------------------------------------------------------------------------------------------


def _read(file: str | os.PathLike[str]) -> tuple[str, Layer]:
    """What a file inherits, and its options."""
    if not re.search(r"\.toml$", os.fspath(file), re.IGNORECASE):
        raise FormatError(file, "expected the options in a file whose name ends in .toml")
    root = Field.load(file)
    inherited = root.get(INHERITS, str, default="")
    table = {key: value for key, value in root.value.items() if key != INHERITS}
    return inherited, Layer(os.fspath(file), dict(_flat(table, "")))


@functools.cache
def _recipe_tables() -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(RECIPES.glob("*.toml")):
        for name, table in Field.load(path).value.items():
            if name in found:
                raise FormatError(path, f"recipe {name} is there twice")
            found[name] = table
    return found


def _recipe_layers(name: str) -> Iterator[Layer]:
    """The options of what the recipe inherits, then its own."""
    chain = list[str]()
    while name:
        tables = _recipe_tables()
        if name not in tables:
            raise ValueError(f"recipe: no {name}; the nearest is {nearest(name, tables)} (all: {', '.join(tables)})")
        if name in chain:
            raise ValueError(f"recipe {name}: inherits itself")
        chain.append(name)
        name = tables[name].get(INHERITS, "")
    for each in reversed(chain):
        own = {key: value for key, value in _recipe_tables()[each].items() if key != INHERITS}
        yield Layer(f"recipe {each}", dict(_flat(own, "")))
