# SPDX-License-Identifier: Apache-2.0
"""The options of the training: recipes, files and single values; what is mistaken is told in one line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeperlab import RECTANGLE, Graph
from deeperlab.models import create
from deeperlab.training import Config, config_check, config_file
from deeperlab.training.config import ModelConfig
from deeperlab.training.config_file import Layer, assignment, load, read, recipes, to_toml
from deeperlab.training.trained import of_network


def change(*texts: str, recipe: str = "quick") -> Config:
    return load(recipe, overrides=map(assignment, texts))


def refusal(*texts: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller compares the text
        change(*texts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- round trip -------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 63) - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: TEXTS,
}
ENTRIES = st.recursive(
    st.one_of(*VALUES.values()), lambda deeper: st.lists(deeper, max_size=3).map(tuple) | st.dictionaries(TEXTS, deeper)
)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Everything that a type of `Config` allows."""
    if hint in VALUES:
        return VALUES[hint]
    if hasattr(hint, "__dataclass_fields__"):
        return st.builds(hint, **{name: values_of(kind) for name, kind in get_type_hints(hint).items()})
    kinds = get_args(hint)
    if get_origin(hint) is tuple:
        entries = values_of(kinds[0])
        return st.lists(entries, max_size=3).map(tuple) if kinds[-1] is ... else st.tuples(*[entries] * len(kinds))
    if isinstance(kinds[0], str):
        return st.sampled_from(kinds)
    if kinds == (str, Any):
        keys = st.text(st.sampled_from("abc_"), min_size=1, max_size=3)
        return st.dictionaries(keys, ENTRIES, max_size=3)
    return st.one_of(*map(values_of, kinds))


@settings(max_examples=40, deadline=None)
@given(values_of(Config))
def test_a_config_is_what_its_toml_says(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = write(tmp_path_factory.getbasetemp() / "config.toml", to_toml(config))
    assert read(path) == config


def test_a_graph_of_ones_own_is_written_as_its_keypoints_and_edges(tmp_path: Path) -> None:
    graph = Graph(("center", "top"), ((0, 1), (1, 0)))
    config = Config(model=ModelConfig("mobilenet_v2", options={"graph": graph}))
    again = read(write(tmp_path / "config.toml", to_toml(config)))
    assert Graph.from_config(again.model.options["graph"]) == graph
    assert 'graph = "rectangle"' in to_toml(Config(model=ModelConfig(options={"graph": RECTANGLE})))
    with pytest.raises(ValueError, match=r"model\.options\.eps: expected what TOML has a word for, got None"):
        to_toml(Config(model=ModelConfig(options={"eps": None})))


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_is_a_config_of_a_network_that_can_be_made(recipe: str) -> None:
    import torch

    config = load(recipe)
    assert config.recipe == recipe
    with torch.device("meta"):
        create(config.model.name, 19, **config.model.options)


def test_a_recipe_has_what_it_inherits_and_what_it_says() -> None:
    wide, shallow = load("mapillary-wider-200k"), load("mapillary-shallow-heads")
    assert shallow.model.options == {"shallow_heads": True}
    assert asdict(shallow) == asdict(wide) | {"recipe": shallow.recipe, "model": asdict(shallow.model)}
    assert (wide.train.steps, wide.train.batch, wide.train.optimizer, wide.train.lr) == (200_000, 28, "sgd", 0.01)
    assert (wide.data.longest_side, wide.data.crop, wide.data.labels) == (1441, 721, "vistas")
    assert (load("mapillary-xception71").train.steps, load("mapillary-xception71").train.batch) == (500_000, 16)
    assert load("coco-light").loss.top_k == 1.0  # supplement C: no bootstrapping on COCO
    assert load("quick").train.optimizer == "adamw"


def test_without_a_recipe_the_defaults_hold() -> None:
    assert load() == Config()


def test_an_unknown_recipe_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"recipe: no mapilary-wider; the nearest is mapillary-wider \(all: paper, "):
        load("mapilary-wider")


def test_recipes_that_inherit_in_a_circle_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 'one = { inherits = "two" }\ntwo = { inherits = "one" }\n')
    monkeypatch.setattr(config_file, "RECIPES", tmp_path)
    config_file._recipe_tables.cache_clear()
    try:
        with pytest.raises(ValueError, match="recipe two: inherits itself"):
            load("two")
        write(tmp_path / "b.toml", "two = {}\n")
        config_file._recipe_tables.cache_clear()
        with pytest.raises(ValueError, match=r"b\.toml: recipe two is there twice"):
            load("two")
    finally:
        config_file._recipe_tables.cache_clear()


# --- files and single values ------------------------------------------------------------------------------------------


def test_what_is_set_goes_before_the_file_and_the_file_before_the_recipe(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", "[train]\nbatch = 4\nsteps = 7\nwarmup = 5\n[model.options]\naspp = false\n")
    config = load("quick", file, [Layer("--steps", {"train.steps": 9}), assignment("model.options.bn_momentum=0.1")])
    assert (config.train.batch, config.train.steps, config.train.warmup) == (4, 9, 5)
    assert config.model.options == {"aspp": False, "bn_momentum": 0.1}
    assert config.recipe == "quick"


def test_a_file_may_inherit_a_recipe(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", 'inherits = "coco-light"\ntrain.batch = 4\n')
    config = load(file=file)
    assert (config.recipe, config.data.labels, config.train.batch) == ("coco-light", "coco", 4)
    with pytest.raises(ValueError, match=r"mine\.toml: inherits coco-light; expected none beside --recipe quick"):
        load("quick", file)


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("train.precision=fp16", "train.precision", "fp16"),
        ('train.precision = "fp16"', "train.precision", "fp16"),
        ("data.crop=[129, 257]", "data.crop", (129, 257)),
        ("data.crop=129", "data.crop", 129),
        ("train.lr=1", "train.lr", 1.0),
        ("train.lr=1e-4", "train.lr", 1e-4),
        ("data.source=/data/my scenes", "data.source", "/data/my scenes"),
        ("data.fold=2/5", "data.fold", "2/5"),
        ("train.compile=true", "train.compile", True),
        ("train.trackers=['tensorboard']", "train.trackers", ("tensorboard",)),
        ("loss.weights.heatmap=2", "loss.weights.heatmap", 2.0),
        ("data.scenes.size=[65,65]", "data.scenes.size", (65, 65)),
        ("model.options={aspp=false}", "model.options.aspp", False),
    ],
)
def test_a_value_is_toml_or_a_word(text: str, option: str, value: Any) -> None:
    assert config_file.flatten(change(text))[option] == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.bach=4", "--set: no option train.bach; the nearest is train.batch"),
        ("data.batch=4", "--set: no option data.batch; the nearest is train.batch"),
        ("steps=4", "--set: no option steps; the nearest is train.steps"),
        ("train=4", "--set: train: expected a table of options, got 4"),
        ("model.options=4", "--set: model.options: expected a table of options, got 4"),
        ("train.batch", "--set: expected table.key=value, such as train.batch=4, got 'train.batch'"),
        ("train.batch=[4", "--set train.batch: expected a value of TOML, got '[4'"),
        ("train.batch=", "--set train.batch: expected a value of TOML, got ''"),
        ("train.batch=4.0", "--set: train.batch: expected an integer, got 4.0"),
        ("train.batch=true", "--set: train.batch: expected an integer, got True"),
        ("train.lr=fast", "--set: train.lr: expected a number, got 'fast'"),
        ("train.precision=fp8", "--set: train.precision: expected 'auto' or 'fp32' or 'bf16' or 'fp16', got 'fp8'"),
        ("data.crop=[1,2,3]", "--set: data.crop: expected an integer or a list of 2 integers, got [1, 2, 3]"),
        ("data.scale=[1,'a']", "--set: data.scale: expected a list of 2 numbers, got [1, 'a']"),
        ("train.trackers=wandb", "--set: train.trackers: expected a list of strings, got 'wandb'"),
        ("train.trackers=['x']", "--set: train.trackers: expected some of tensorboard, wandb, mlflow, got 'x'"),
        ("train.compile=1", "--set: train.compile: expected true or false, got 1"),
        ("data.source=4", "--set: data.source: expected a string, got 4"),
        ("model.name=xception", "--set: model.name: no xception; the nearest is xception71 of xception71, "),
        ("model.options.asp=true", "--set: model.options.asp: no such option; the nearest is aspp"),
        ("model.options.head_kernel=4", "--set: model.options.head_kernel: expected an odd number, got 4"),
        ("model.options.aspp=1", "--set: model.options.aspp: expected True or False, got 1"),
        ("data.fold=6/5", "--set: data.fold: expected i/k, such as 1/5, with i from 1 to k, got '6/5'"),
        ("data.scale=[2,0.5]", "--set: data.scale: expected two numbers above 0, the smaller first, got (2.0, 0.5)"),
        ("data.crop=[15,99]", "--set: data.crop: expected at least 16 px, got (15, 99)"),
        ("train.accumulate=3", "--set: train.accumulate: expected a divisor of train.batch, which is 8, got 3"),
        ("train.lr=0", "--set: train.lr: expected a number above 0, got 0.0"),
        ("train.lr=nan", "--set: train.lr: expected a number above 0, got nan"),
        ("loss.top_k=0", "--set: loss.top_k: expected above 0 to 1, got 0.0"),
        ("train.ema=1", "--set: train.ema: expected 0 to below 1, got 1.0"),
        ("train.steps=0", "--set: train.steps: expected at least 1, got 0"),
        ("train.weight_decay=inf", "--set: train.weight_decay: expected at least 0, got inf"),
    ],
)  # fmt: skip
def test_what_is_mistaken_is_told_in_one_line(text: str, said: str) -> None:
    assert refusal(text).startswith(said)


def test_a_loss_of_nothing_is_refused() -> None:
    names = ("semantic", "heatmap", "short_range", "middle_range", "long_range")
    assert "loss.weights: expected one that is above 0" in refusal(*(f"loss.weights.{name}=0" for name in names))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nbach = 4\n", "no option train.bach; the nearest is train.batch"),
        ("[train]\nbatch = 'x'\n", "train.batch: expected an integer, got 'x'"),
        ("[train]\nbatch = 0\n", "train.batch: expected at least 1, got 0"),
        ("[trian]\nbatch = 4\n", "no option trian.batch; the nearest is train.batch"),
        ("train = 4\n", "train: expected a table of options, got 4"),
        ("inherits = 4\n", "inherits: expected a string, got an integer"),
        ("batch == 4\n", "not TOML"),
    ],
)
def test_faults_of_a_file_begin_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "mine.toml", text)
    with pytest.raises(ValueError, match=r"mine\.toml: ") as caught:
        load(file=file)
    assert str(caught.value).startswith(f"{file}: {said}")
    with pytest.raises(ValueError, match=r"mine\.yaml: expected the options in a file whose name ends in \.toml"):
        load(file=write(tmp_path / "mine.yaml", text))


def test_a_warm_up_that_the_run_does_not_outlast_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"train\.warmup: 1000 steps of 20: the learning rate does not come to"):
        change("train.steps=20")


def test_every_option_that_is_a_number_has_a_range() -> None:
    """Those of pairs, mappings and words are checked by functions of their own."""
    numbers = {
        name
        for name, value in config_file.flatten(Config()).items()
        if type(value) in (int, float) and name not in ("data.crop", "recipe")
    }
    assert numbers == {*config_check.AT_LEAST, *config_check.ABOVE_ZERO, *config_check.SHARES}


@pytest.mark.parametrize("name", ["light_wider_mobilenet_v2", "efficientnet_lite0", "deeplab_v3plus_resnet101"])
def test_a_network_to_go_on_from_goes_before_the_system_of_a_file(tmp_path: Path, name: str) -> None:
    """The options of the paper's networks say all of them; a name of another system would make another network."""
    with torch.device("meta"):
        made = create(name, 3, bn_momentum=0.1, image_size=65)
    write(tmp_path / "config.json", json.dumps(made.config))
    file = write(tmp_path / "mine.toml", "model.name = 'fcn8s'\nmodel.options.units = 64\n")
    config = load(file=file, overrides=[of_network(tmp_path)])
    assert config.model.name == name
    with torch.device("meta"):
        again = create(name, 3, **{**config.model.options, "radius": config.data.radius})
    assert again.config == made.config


@pytest.mark.parametrize("module", ["tomli_w"])
def test_a_missing_extra_is_told_with_how_to_get_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"deeperlab train needs tomli-w .*: pip install 'deeperlab\[train\]'"):
        to_toml(Config())
