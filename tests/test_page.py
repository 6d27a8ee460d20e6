# SPDX-License-Identifier: Apache-2.0
"""The page about a run: all in one file, whatever the run has come to."""

from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from annotated import LABELS, Scenes
from PIL import Image

from deeperlab.data.files import FormatError
from deeperlab.training.config import Config, DataConfig, TrainConfig
from deeperlab.training.config_file import to_toml
from deeperlab.training.losses import TERMS
from deeperlab.training.page import write_page
from deeperlab.training.report import report
from deeperlab.training.run_folder import RunFolder
from deeperlab.training.sources import Source, Sources

CLASS = {
    "thing": True,
    "pq": 0.5,
    "sq": 0.8,
    "rq": 0.625,
    "pc": 0.7,
    "miou": 0.6,
    "iou": 4.0,
    "tp": 5,
    "fp": 3,
    "fn": 3,
}
NOTHING = dict.fromkeys(("pq", "sq", "rq", "pc", "miou"))
VALIDATION = {
    "pq": 0.6125, "pq_things": 0.58, "pq_stuff": None, "pc": 0.71, "miou": 0.66,
    "ceiling": 0.93, "ceiling_share": 0.6586, "seconds": 12.5, "network_share": 0.61, "fusion_share": 0.22,
    "heads": {"semantic": 0.123, "heatmap": 0.01, "short_range": -0.0002},
    "per_class": {
        "<i>cow</i>": CLASS, "horse": CLASS | {"pq": 0.75}, "dodo": CLASS | NOTHING | {"tp": 0, "fp": 0, "fn": 0},
        "meadow": CLASS | {"thing": False},
    },
}  # fmt: skip


def step(number: int, **more: Any) -> dict[str, Any]:
    return {"step": number, "loss": 3.0, **dict.fromkeys(TERMS, 0.6), "lr": 1e-4, "images_per_second": 20.0, **more}


def page(folder: Path, *lines: dict[str, Any], config: Config | None = None) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(to_toml(config or Config(train=TrainConfig(steps=200))))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_page(folder)
    return (folder / "page.html").read_text()


def test_a_page_has_the_report_of_the_data_and_damage_of_it_is_named(tmp_path: Path) -> None:
    found = report(Sources(LABELS, (Source("<b>", Scenes(3)),), None), Config(data=DataConfig(crop=8)))
    folder = RunFolder(tmp_path)
    folder.write_data(replace(found, broken={"<b>/\udcff": "torn"}).to_dict())
    text = page(tmp_path)
    assert "&lt;b&gt;: 3 images, of which all were looked at" in text
    assert "files that cannot be read: 1: &lt;b&gt;/?: torn" in text
    Elements(text)
    for damage in ("", "[]", "{}", '{"sources": 3}'):
        folder.data.write_text(damage)
        with pytest.raises(FormatError, match=r"data\.json: damaged"):
            write_page(tmp_path)


class Elements(HTMLParser):
    """Every element with its attributes, and that all are closed."""

    EMPTY = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_it_needs_nothing_from_elsewhere_and_no_script(tmp_path: Path) -> None:
    (tmp_path / "run" / "pictures" / "200").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "run" / "pictures" / "200" / "0.jpg")
    text = page(tmp_path / "run", step(100), step(200, **VALIDATION))
    for tag, attributes in Elements(text).found:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or attributes.get("xlink:href") or "#").startswith("#")
    assert "url(http" not in text
    assert "@import" not in text


def test_it_has_the_last_validation_and_its_pictures(tmp_path: Path) -> None:
    for number in ("100", "200"):
        (tmp_path / "run" / "pictures" / number).mkdir(parents=True)
        Image.new("RGB", (8, 8), int(number)).save(tmp_path / "run" / "pictures" / number / "0.jpg")
    text = page(tmp_path / "run", step(100, **VALIDATION | {"pq": 0.7}), step(200, **VALIDATION))
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)[:7])
    assert figures["PQ"] == "61.3"
    assert figures["PQ of stuff"] == "–"
    assert figures["of the ceiling"] == "65.9 %"
    assert figures["best PQ, at step 100"] == "70.0"
    assert "61 % in the network, 22 % in the fusion" in text
    picture = (tmp_path / "run" / "pictures" / "200" / "0.jpg").read_bytes()
    assert re.findall(r"base64,([^\"]*)", text) == [base64.b64encode(picture).decode()]


def test_its_tables_have_heads_and_classes_in_order(tmp_path: Path) -> None:
    rows = cells(page(tmp_path / "run", step(200, **VALIDATION)))
    assert rows[:3] == [["semantic", "+12.3", ""], ["heatmap", "+1.0", ""], ["short range", "+0.0", ""]]
    assert [row[0] for row in rows if len(row) == 10] == ["horse", "&lt;i&gt;cow&lt;/i&gt;", "dodo", "meadow"]
    assert ["horse", "75.0", "80.0", "62.5", "70.0", "60.0", "5", "3", "3", ""] in rows
    assert ["dodo", *["–"] * 5, "0", "0", "0", ""] in rows


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    config = Config(data=DataConfig(source="<script>alert(1)</script>"), train=TrainConfig(steps=200))
    text = page(tmp_path / "<b>run & co", step(200, **VALIDATION), config=config)
    assert "<script" not in text
    assert "<i>" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;run &amp; co" in text


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), "No step is logged yet"),
        ((step(50),), "Not validated yet"),
        ((step(50), step(100, **VALIDATION | {"pq": None, "ceiling": None, "ceiling_share": None})), "step 100 of 200"),
        ((step(100, loss=None), {"step": 100, "pq": 0.0, "pq_things": 0.0}), "<dd>0.0</dd>"),
    ],
)
def test_runs_that_are_not_finished_have_one(tmp_path: Path, lines: tuple[dict[str, Any], ...], told: str) -> None:
    text = page(tmp_path / "run", *lines)
    assert told in text
    assert "config.toml" in text
    Elements(text)


def test_curves_take_their_colors_from_the_page_in_light_and_dark(tmp_path: Path) -> None:
    text = page(tmp_path / "run", step(100, **VALIDATION), step(200, **VALIDATION))
    quality, loss, rate = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert not re.search(r"#0[0-9a-f]{5}", quality + loss + rate)
    assert "ceiling of PQ, 93.0" in quality
    assert "var(--ink)" in rate
    for i in range(6):
        assert f"stroke: var(--series-{i})" in loss
        assert text.count(f"--series-{i}: #") == 2
    assert "prefers-color-scheme: dark" in text
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 1400)


def test_the_terms_of_the_loss_are_drawn_with_their_weights() -> None:
    from matplotlib.figure import Figure

    from deeperlab.training import curves
    from deeperlab.training.losses import LossWeights

    axes = Figure().subplots()
    curves.losses(LossWeights(semantic=2.0))(axes, [step(1), step(2)], curves.LIGHT)
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn["loss"] == [3.0, 3.0]
    assert drawn["semantic"] == [1.2, 1.2]
    assert drawn["short range"] == pytest.approx([0.6 / 25] * 2)


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_page(tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'deeperlab\[train\]'"):
        page(tmp_path / "run", step(1))
