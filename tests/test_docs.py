# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: their examples run, their links, files and commands exist.

Every fenced block of every page is read. Python runs, in the order of the page and in one scope, as a reader would type
it; the tests make the arrays and files that a page's reader is supposed to have. Commands are not run, since they take
long or need files, but each is checked: the program, the script or target, the options. A block that no test knows
fails.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeperlab
from deeperlab import shipped
from deeperlab.heads import NAMES
from deeperlab.stages import pipeline

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

# Who runs the Python of a page: this module, or another.
RUN_BY = {
    **dict.fromkeys(
        ("README.md", "crf.md", "cuda.md", "data.md", "definition.md", "models.md", "onnx.md", "usage.md"),
        "test_docs.py",
    ),
    "metrics.md": "test_covering.py",
    "predict.md": "test_parser.py",
    "top_down.md": "test_mask_rcnn.py",
    "training.md": "test_training_docs.py",
}
SHELL = ("sh", "")
NOT_RUN = {
    "mermaid": "a drawing; test_the_drawing_has_the_stages_and_values_of_the_pipeline reads that of the pipeline",
    "text": "a drawing",
    "toml": "no program; test_the_label_set_of_the_page_is_one reads it",
}


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text())
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, name, text in found if name in languages]


def run_examples(page: Path, scope: dict[str, Any], replaced: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """Run all Python of a page; its variables are returned."""
    codes = blocks(page, "python")
    assert codes, page
    for number, code in enumerate(codes):
        exec(compile(code.replace(*replaced) if replaced[0] else code, f"{page.name}[{number}]", "exec"), scope)
    return scope


# --- Python ---------------------------------------------------------------------------------------------------------


def test_the_readme_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    photo16 = shipped.find("photo16")
    assert photo16 is not None
    shutil.copy(photo16.example, "photo.jpg")
    scope = run_examples(ROOT / "README.md", {})
    assert capsys.readouterr().out.count("px") > 3
    assert len(scope["panoptic"].segments) > 20  # of the drawn scene
    for name, size in (("overlay.png", scope["photo"].size), ("scene.png", (641, 481))):
        with Image.open(name) as picture:
            assert picture.size == size


def test_the_examples_of_usage_run(make_heads: Any, as_tensors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    heads = as_tensors(make_heads(seed=1, n=2, classes=19, h=33, w=33))
    scope = {name: getattr(heads, name) for name in NAMES} | {"height": 130, "width": 131}
    run_examples(ROOT / "docs" / "usage.md", scope)
    assert capsys.readouterr().out.count("\n") == len(scope["panoptic"][0].segments) > 0
    assert (scope["values"]["keypoints"] == scope["panoptic"].keypoints).all()


def test_the_examples_of_the_crf_run() -> None:
    scope = run_examples(ROOT / "docs" / "crf.md", {})
    assert scope["scores"].shape == (1, *scope["q"].shape)


def test_the_cuda_example_runs_on_what_device_there_is(make_heads: Any, as_tensors: Any) -> None:
    scope = {"deeperlab": deeperlab, "heads": as_tensors(make_heads(seed=1, classes=66))}
    run_examples(ROOT / "docs" / "cuda.md", scope)
    assert scope["panoptic"].semantic.device == scope["heads"].semantic.device


def test_the_example_of_the_networks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file of random weights, and the classifier that ImageNet files have."""
    import torch
    from safetensors.torch import save_file

    from deeperlab.models import DeeperLab
    from deeperlab.models.backbones.mobilenet_v2 import MobileNetV2
    from deeperlab.targets import KEYPOINTS

    monkeypatch.setitem(KEYPOINTS, "foot", None)  # the page adds it; taken back afterwards
    backbone = MobileNetV2()
    classifier = {"classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1000)}
    save_file(backbone.state_dict() | classifier, tmp_path / "mobilenetv2_100.safetensors")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"images": torch.randint(0, 256, (2, 3, 50, 71), dtype=torch.uint8)}
    paper, _, systems, ensemble = blocks(ROOT / "docs" / "models.md", "python")  # the second is run by test_graphs.py
    with torch.no_grad():
        exec(paper, scope)
        exec(systems, {"models": scope["models"]})
        exec(ensemble, together := {"models": scope["models"], "images": scope["images"]})
    assert isinstance(scope["model"], DeeperLab)
    loaded = scope["model"].backbone.conv_stem.weight[:, :, 1:-1, 1:-1]  # 3 x 3 kernels within 5 x 5
    assert torch.equal(loaded, backbone.conv_stem.weight)
    assert scope["heads"].semantic.shape == (2, 19, 13, 18)
    assert scope["panoptic"].size == (50, 71)
    assert together["scores"].semantic.shape == (1, 21, 50, 71)
    assert (tmp_path / "both" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of torch
@pytest.mark.parametrize("network", [{}, {"backbone": "xception41", "kernel_size": 3}], ids=["mobilenet", "xception"])
def test_the_onnx_examples_give_what_the_parser_gives(
    network: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scaling is another one for each backbone."""
    import torch
    from PIL import Image
    from test_models import ROUNDED, assert_same, lively, tiny

    from deeperlab.models.backbones import xception
    from deeperlab.predictor.parser import Parser

    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs deeperlab[dev]")
    monkeypatch.setitem(xception.MIDDLE_BLOCKS, 41, 1)  # one of eight blocks that are alike
    monkeypatch.chdir(tmp_path)
    model = lively(tiny(num_classes=19, **network))
    model.save_pretrained("trained")
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((150, 100)).save("street.jpg")
    export, parse, fuse = blocks(ROOT / "docs" / "onnx.md", "python")
    scope: dict[str, Any] = {}
    for block in (export, parse):
        exec(block, scope)
    assert " segments of (100, 150)\n" in capsys.readouterr().out
    exec(fuse, scope)
    np.testing.assert_array_equal(scope["parsed"].semantic, scope["panoptic"].semantic)
    with Image.open("street.jpg") as image:
        (parsed,) = Parser(model, "cityscapes", size=0).stream([image])
    heads = {name: torch.from_numpy(head.copy()) for name, head in zip(NAMES, scope["heads"], strict=True)}
    assert_same(heads, {name: getattr(parsed.heads, name)[None] for name in NAMES}, ROUNDED)
    (panoptic,) = deeperlab.fuse(list(heads.values()), range(11, 19), size=(100, 150))
    assert len(panoptic.segments) > 5
    np.testing.assert_array_equal(np.load("street.npy"), panoptic.to_ids(divisor=10_000).numpy())
    assert capsys.readouterr().out.count("\n") == len(panoptic.segments)


def test_the_examples_of_data_run(make_heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Cityscapes of one image."""
    from PIL import Image

    from deeperlab.data.formats import coco, predictions

    monkeypatch.chdir(tmp_path)
    stem = "aachen_000000_000019"
    for folder, name in (("gtFine", "gtFine_instanceIds"), ("leftImg8bit", "leftImg8bit")):
        (tmp_path / folder / "val" / "aachen").mkdir(parents=True)
        picture = np.uint16([[7, 24000]]) if folder == "gtFine" else np.zeros((1, 2, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / folder / "val" / "aachen" / f"{stem}_{name}.png")
    heads = make_heads(seed=1, n=2, classes=19)
    scope = {"deeperlab": deeperlab, "heads": heads, "height": 60, "width": 70, "names": ["a", "b"]}
    run_examples(ROOT / "docs" / "data.md", scope, ("/data/cityscapes", str(tmp_path)))
    assert scope["sample"].category.tolist() == [[0, 11]]
    data = coco.read("predictions.json", "predictions")
    assert [data.ids(annotation).shape for annotation in data.annotations] == [(60, 70), (60, 70)]
    batch = deeperlab.fuse(heads, [1])
    with pytest.raises(TypeError, match="panoptic: expected a single image, got a batch of 2"):
        predictions.entry(batch, 1, "a.png")


def test_the_label_set_of_the_page_is_one(tmp_path: Path) -> None:
    from deeperlab.data import labels

    pytest.importorskip("tomllib", reason="TOML needs Python 3.11")
    (text,) = (block for block in blocks(ROOT / "docs" / "data.md", "toml") if "[[classes]]" in block)
    (tmp_path / "farm.toml").write_text(text)
    farm = labels.find(str(tmp_path / "farm.toml"))
    assert (farm.names, farm.things) == (("cow", "meadow"), (0,))


def test_the_call_for_half_pixel_heads_runs(make_heads: Any) -> None:
    heads = make_heads(classes=19)
    given = {name: getattr(heads, name) for name in NAMES} | dict(zip("hw", heads.heatmap.shape[2:], strict=True))
    scope = run_examples(ROOT / "docs" / "definition.md", dict(given))
    assert scope["heads"].heatmap.shape[2:] == (given["h"] + 1, given["w"] + 1)
    assert scope["panoptic"].size == (4 * given["h"], 4 * given["w"])


# --- every block, and commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    found = FENCE.findall(page.read_text())
    assert page.read_text().count("```") == 2 * len(found)
    for _, language, _ in found:
        if language == "python":
            assert page.name in (ROOT / "tests" / RUN_BY[page.name]).read_text()
        else:
            assert language in SHELL or NOT_RUN[language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of all commands of a page: of shell blocks, and of its text where `code` begins with a program."""
    lines = [line for text in blocks(page, *SHELL) for line in text.replace("\\\n", " ").splitlines()]
    prose = FENCE.sub("", page.read_text())
    spans = (re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose))
    lines += [
        span for span in spans if re.match(r"(DEEPERLAB_\w+=\S+ )?(\.venv/bin/)?(deeperlab|make|pip|python) \S", span)
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words


def check_deeperlab(name: str, *arguments: str) -> None:
    import typer

    from deeperlab.cli import app

    group: Any = typer.main.get_command(app)
    assert name in group.commands, name
    command = group.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in arguments:
        assert not word.startswith("--") or word.split("=")[0] in {*known, "--help"}, word


def check_make(*words: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for word in words:
        variable, is_set, _ = word.partition("=")
        assert f"$({variable})" in makefile if is_set else word in targets, word


def check_pip(action: str, *arguments: str) -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert action in ("check", "install")
    for extra in re.findall(r"\w+", "".join(re.findall(r"(?:\.|deeperlab)\[([\w,]+)\]", " ".join(arguments)))):
        assert re.search(rf"^{extra} = ", extras, re.MULTILINE), extra


def check_python(*arguments: str) -> None:
    if arguments[0] == "-m":
        module = arguments[1]
        assert importlib.util.find_spec(module), module
        arguments = arguments[2:] if module == "pytest" else ()
    for path in arguments:
        assert not path.endswith(".py") or (ROOT / path).is_file(), path


def check_git(action: str, *arguments: str) -> None:
    assert action in {"push", "tag"}, action


CHECKS: dict[str, Callable[..., None]] = {
    "deeperlab": check_deeperlab, "git": check_git, "make": check_make, "pip": check_pip, "python": check_python
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_take_their_options(page: Path) -> None:
    for program, *arguments in commands(page):
        CHECKS[program.removeprefix(".venv/bin/")](*arguments)


def test_commands_that_do_not_exist_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for line in (
        "deeperlab fuze",
        "deeperlab fuse --nothing",
        "make tee",
        "make test FASTER=1",
        "pip install '.[none]'",
        "python no.py",
        "ls x",
    ):
        page.write_text(f"```sh\nmake test\n{line}\n```\n")
        with pytest.raises((AssertionError, KeyError)):
            test_commands_exist_and_take_their_options(page)


# --- links, files, names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]+))?\)", page.read_text()):
        if target.startswith("https://"):
            continue
        assert (page.parent / target).exists(), target
        if anchor:
            text = (page.parent / target if target else page).read_text()
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], anchor


# Pages about the repository; the others name files of their readers.
ABOUT_THE_CODE = {
    *("CONTRIBUTING.md", "SECURITY.md", "README.md"),
    *("architecture.md", "cuda.md", "definition.md", "figures.md", "performance.md", "tuning.md"),
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in ABOUT_THE_CODE], ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    folders = ("csrc", "src", "python", "tests", "benchmarks", "docs")
    files = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")}
    made = {"demo/", "dist/"}  # by make
    for name in set(re.findall(r"`([\w./-]+\.(?:py|pyi|h|cpp|cu|cuh|md|sh)|(?:\w+/)+)`", page.read_text())) - made:
        known = name.rstrip("/")
        assert "NAME" in name or (ROOT / name).exists() or any(file.endswith(f"/{known}") for file in files), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_variables_exist(page: Path) -> None:
    sources = [
        *(ROOT / "csrc").rglob("*.h"),
        *(ROOT / "src").rglob("*.h"),
        ROOT / "CMakeLists.txt",
        *(ROOT / "tests").glob("*.py"),
    ]
    text = "".join(path.read_text() for path in sources)
    for name in re.findall(r"\bDEEPERLAB_[A-Z]+\b", page.read_text()):
        assert name in text, name


@pytest.mark.parametrize("stage", pipeline.NAMES)
def test_a_stage_is_found_by_its_name(stage: str) -> None:
    """As the README says of grep."""
    found = subprocess.run(
        ["grep", "-rlw", stage, "csrc", "src", "python/deeperlab", "tests"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    assert {
        f"csrc/include/deeperlab/{stage}.h",
        f"csrc/cpu/{stage}.cpp",
        f"csrc/cuda/{stage}.cu",
        "src/common/operators.h",
        "python/deeperlab/stages/reference.py",
        "python/deeperlab/stages/pipeline.py",
        "tests/test_reference.py",
    } <= set(found)
    assert stage in (ROOT / "docs" / "definition.md").read_text()


def test_the_drawing_has_the_stages_and_values_of_the_pipeline() -> None:
    """An arrow is a value that a stage reads; where one is left out, others lead the same way."""
    (text,) = blocks(ROOT / "docs" / "architecture.md", "mermaid")
    drawn = set(re.findall(r"^ *(\w+) -->(?:\|[^|]*\|)? (\w+)", text, re.MULTILINE)) - {("merge", "panoptic")}
    made, read = dict.fromkeys(NAMES, "heads"), set()
    before: dict[str, set[str]] = {"heads": set()}
    for stage, (reads, makes) in pipeline.STAGES.items():
        read |= {(made[value], stage) for value in reads}
        sources = {source for source, target in drawn if target == stage}
        before[stage] = sources.union(*(before[source] for source in sources))
        assert {made[value] for value in reads} <= before[stage]
        made |= dict.fromkeys(makes, stage)
    assert drawn <= read


def test_the_documented_defaults_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "definition.md").read_text()
    params = deeperlab.FuseParams()
    for said in (
        f"`long_steps` ({params.long_steps})",
        f"`long_short_steps` ({params.long_short_steps})",
        f"`middle_steps` ({params.middle_steps})",
        f"c = max(s, {params.vote_cell})",
        f"{params.peak_threshold}, R = {params.radius:g} px",
        f"`max_candidates` ({params.max_candidates})",
        f"κ = {params.kappa}",
        f"`instance_threshold` ({params.instance_threshold})",
        f"{params.nms_relative}²·a",
        f"> {params.box_iou} · union",
        f"({params.max_instances})",
    ):
        assert said in text, said
