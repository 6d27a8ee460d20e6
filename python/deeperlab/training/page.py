# SPDX-License-Identifier: Apache-2.0
"""One page about a run, finished or not: all in one HTML file, without scripts and without anything from elsewhere."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..data.files import FormatError, replace
from ..heads import NAMES
from . import config_file, curves
from .config import Config
from .head_costs import LABELS
from .merit import merit_of_line
from .report import Report
from .run_folder import RunFolder

STYLE = Path(__file__).with_name("page.css")
FIGURES = (
    ("pq", "PQ"),
    ("pq_things", "PQ of things"),
    ("pq_stuff", "PQ of stuff"),
    ("pc", "PC"),
    ("miou", "mIoU"),
    ("ceiling_share", "of the ceiling"),
)
"""Of a validation, as metrics.jsonl calls them, and as readers do."""
COLUMNS = (("pq", "PQ"), ("sq", "SQ"), ("rq", "RQ"), ("pc", "PC"), ("miou", "IoU"))
"""Of the table of classes, fractions there."""
_HEADS = {LABELS: "semantic, as labels"} | {name: name.replace("_range", " range") for name in NAMES}
NONE = "–"
READING = {
    "PQ": "Panoptic quality, in per cent: 100 where every segment is found with its exact pixels. A segment counts as "
    "found where it shares more than half of its union with one of its class. PQ = SQ × RQ: SQ is how well the found "
    "ones fit, RQ how many are found and how few are made up. It is the mean over classes, so rare ones count as much.",
    "PC": "Parsing covering: large segments count for more, and there is no threshold.",
    "Ceiling": "What perfect heads reach along the same path, from the same annotations: heads have a node every 4 px, "
    "so that no network of this kind goes beyond it, but by chance. The share of it is what training is about.",
    "Loss": "Each term times its weight, so that they add up to the loss; the axis is logarithmic. Where the losses "
    "fall and PQ does not rise, look at the costs of the heads, and at the pictures.",
    "Costs": "The validation is repeated with the truth in the place of one head, the others being the network's. What "
    "is gained is what this head costs; gains do not add up. “As labels” has the class of every pixel in the place of "
    "the semantic head: beyond that head's gain it gains what nodes every 4 px lose.",
    "Pictures": "Above, one color on both sides is one object. Below, each head: the best class; the likeliest "
    "keypoint; offsets where they are used, whose hue is their direction (the wheel) and whose light is their length.",
    "–": "Nothing counts: the class is neither annotated nor predicted in these images.",
}


def write_page(run: str | os.PathLike[str]) -> None:
    """Write `page.html` and `curves.png` of a run into its folder, from what lies there; each whole or not at all.

    Args:
        run: the folder of a run; it may still go on.

    Raises:
        FileNotFoundError: it holds no run.
        FormatError: its config.toml, data.json or metrics.jsonl is damaged.
        OSError: a file cannot be read or written.
        ImportError: without matplotlib.
    """
    folder = RunFolder(run)
    folder.require_run()
    config, lines = config_file.read(folder.config), folder.lines()
    drawing = curves.png(lines, config.loss.weights)
    text = _page(folder, config, lines)
    replace(folder.curves, lambda file: file.write(drawing))
    replace(folder.page, lambda file: file.write(text.encode()))


def _page(folder: RunFolder, config: Config, lines: Sequence[Mapping[str, Any]]) -> str:
    validations = [line for line in lines if "pq" in line]
    last = validations[-1] if validations else None
    name = folder.path.resolve().name
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<div class="sub">{escape(_about(config, lines))}</div>',
        _figures(last, validations) if last else "<p>Not validated yet.</p>",
        _curves(config, lines, bool(validations)),
    ]
    if last:
        with_heads = [line for line in validations if line.get("heads")]
        parts += [_heads(with_heads[-1]) if with_heads else "", _pictures(folder, validations), _classes(last)]
    parts += [_data(folder), _reading(), _options(folder)]
    style = STYLE.read_text(encoding="utf-8")
    for word, look in (("LIGHT", curves.LIGHT), ("DARK", curves.DARK)):
        style = style.replace(word, " ".join(f"{key}: {color};" for key, color in curves.variables(look).items()))
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _about(config: Config, lines: Sequence[Mapping[str, Any]]) -> str:
    """What is trained, on what, and how far it is."""
    step, steps = (lines[-1]["step"] if lines else 0), config.train.steps
    done = f"{_count(steps)} steps" if step >= steps else f"step {_count(step)} of {_count(steps)}"
    parts = [config.model.name, config.data.source, f"batches of {config.train.batch}", done]
    speed = [line["images_per_second"] for line in lines if line.get("images_per_second") is not None]
    if speed:
        parts.append(f"{sorted(speed)[len(speed) // 2]:.3g} images a second")
    return " · ".join(([f"recipe {config.recipe}"] if config.recipe else []) + [part for part in parts if part])


def _figures(last: Mapping[str, Any], validations: Sequence[Mapping[str, Any]]) -> str:
    merit = merit_of_line(last)
    best = max(validations, key=lambda line: -1.0 if line[merit.key] is None else line[merit.key])
    shown = [(_percent(last.get(key)) + (" %" if key == "ceiling_share" else ""), name) for key, name in FIGURES]
    if best is not last and best[merit.key] is not None:
        shown.append((_percent(best[merit.key]), f"best {merit.name}, at step {_count(best['step'])}"))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for value, name in shown)
    took = ""
    if last.get("seconds") is not None:
        shares = f"{_percent(last['network_share'], 0)} % in the network, {_percent(last['fusion_share'], 0)} % in the"
        took = f" It took {last['seconds']:.3g} s: {shares} fusion."
    return (
        f'<dl class="figures">{items}</dl>\n<p style="margin-top:.8rem">The validation after '
        f"{_count(last['step'])} steps, in per cent.{took}</p>"
    )


def _curves(config: Config, lines: Sequence[Mapping[str, Any]], validated: bool) -> str:
    if not lines:
        return "<p>No step is logged yet.</p>"
    parts = []
    if validated:
        drawn = curves.svg(curves.quality, lines, (11, 3.4), "quality over the steps")
        parts.append(f"<h2>Quality</h2>\n{drawn}")
    loss = curves.svg(curves.losses(config.loss.weights), lines, (6.6, 3.4), "loss and its terms over the steps")
    rate = curves.svg(curves.rate, lines, (6.6, 3.4), "learning rate over the steps")
    parts.append(f'<h2>Training</h2>\n<div class="two"><div>{loss}</div><div>{rate}</div></div>')
    return "\n".join(parts)


def _heads(line: Mapping[str, Any]) -> str:
    gains = {name: gained for name, gained in line["heads"].items() if gained is not None}
    longest = max([abs(gained) for gained in gains.values()], default=0) or 1
    rows = "".join(
        f"<tr><td>{escape(_HEADS.get(name, name))}</td><td>{round(100 * gained, 1) or 0.0:+.1f}</td>"
        f'<td class="wide">{_bar(max(gained, 0) / longest, "bar loss")}</td></tr>'
        for name, gained in gains.items()
    )
    return (
        f"<h2>What each head costs</h2>\n<p>{merit_of_line(line).name} gained with the truth in the place of one head, "
        f'after {_count(line["step"])} steps.</p>\n<div class="scroll"><table>{rows}</table></div>'
    )


def _pictures(folder: RunFolder, validations: Sequence[Mapping[str, Any]]) -> str:
    """Those of the last validation that has any."""
    for line in reversed(validations):
        files = sorted(
            (folder.pictures / str(line["step"])).glob("*.jpg"), key=lambda file: (len(file.name), file.name)
        )
        if files:
            images = "".join(
                f'<figure><img alt="image {i} of the validation: truth, fused map, errors, input and heads" '
                f'src="data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"></figure>\n'
                for i, file in enumerate(files)
            )
            return f"<h2>Images</h2>\n<p>After {_count(line['step'])} steps.</p>\n{images}"
    return ""


def _classes(line: Mapping[str, Any]) -> str:
    """The table of classes, things and stuff apart, those without anything that counts last."""
    classes, merit = line.get("per_class") or {}, merit_of_line(line)
    heads = "".join(f"<th>{name}</th>" for _, name in COLUMNS)
    rows = [f"<tr><th>class</th>{heads}<th>TP</th><th>FP</th><th>FN</th><th></th></tr>"]
    for group, thing in (("things", True), ("stuff", False)):
        members = [(name, values) for name, values in classes.items() if values["thing"] is thing]
        if not members:
            continue
        rows.append(f'<tr class="group"><td colspan="{len(COLUMNS) + 5}">{group}</td></tr>')
        for name, values in sorted(members, key=lambda item: _descending(item[1][merit.key])):
            cells = "".join(f"<td>{_percent(values[key])}</td>" for key, _ in COLUMNS)
            counts = "".join(f"<td>{values[key]:.0f}</td>" for key in ("tp", "fp", "fn"))
            bar = "" if values[merit.key] is None else _bar(values[merit.key], "bar")
            rows.append(f'<tr><td>{escape(name)}</td>{cells}{counts}<td class="wide">{bar}</td></tr>')
    table = f'<div class="scroll"><table class="classes">{"".join(rows)}</table></div>'
    return f"<h2>Classes</h2>\n<p>In per cent, best {dict(COLUMNS)[merit.key]} first.</p>\n{table}"


def _reading() -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in READING.items())
    return f'<h2>How to read it</h2>\n<dl class="reading">{items}</dl>'


def _options(folder: RunFolder) -> str:
    text = escape(folder.config.read_text(encoding="utf-8").strip())
    return f"<h2>Options</h2>\n<details><summary>config.toml, all of them</summary><pre>{text}</pre></details>"


def _data(folder: RunFolder) -> str:
    """What was found of the data before the first step."""
    if not folder.data.exists():
        return ""
    try:
        found = str(Report.from_dict(json.loads(folder.data.read_bytes())))
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        raise FormatError(folder.data, f"damaged: {fault}") from fault
    summary = "what was found before the first step; data.json names all files that something is wrong with"
    text = escape(found.encode("utf-8", "replace").decode())  # names of files need not be Unicode
    return f"<h2>Data</h2>\n<details><summary>{summary}</summary><pre>{text}</pre></details>"


def _bar(share: float, kind: str) -> str:
    return f'<span class="{kind}" style="width:{100 * share:.1f}%"></span>'


def _percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f}"


def _descending(value: float | None) -> float:
    return math.inf if value is None else -value


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
