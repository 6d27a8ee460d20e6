# SPDX-License-Identifier: Apache-2.0
"""The curves of a run, drawn by matplotlib: a PNG to look at, and SVGs that take their colors from a page's style."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .losses import TERMS, LossWeights
from .merit import MIOU, merit_of_line

Lines = Sequence[Mapping[str, Any]]
"""Of metrics.jsonl."""
SERIES = {
    "pq": ("PQ", 0),
    "pq_things": ("things", 1),
    "pq_stuff": ("stuff", 2),
    "miou": ("mIoU", 3),
    "loss": ("loss", 0),
    **{term: (term.replace("_", "-").replace("-range", " range"), i) for i, term in enumerate(TERMS, start=1)},
    "lr": ("learning rate", 0),
}
"""Name in metrics.jsonl → what it is called, and the place of its color."""


@dataclass(frozen=True)
class Look:
    """Colors of a drawing: text, lines of the grid, ground, and one for each series."""

    ink: str
    grid: str
    ground: str
    series: tuple[str, ...]


LIGHT = Look("#24262c", "#dcdee4", "#ffffff", ("#2456b8", "#c2571a", "#2c8a57", "#8a4fc0", "#b8336a", "#8a7418"))
DARK = Look("#e6e7ea", "#3a3d46", "#16181d", ("#7aa5ff", "#f09a5e", "#62c48f", "#bd93ee", "#ef7fa8", "#cdb758"))
_NAMED = Look("#010101", "#020202", "none", tuple(f"#0303{i:02d}" for i in range(6)))
"""Stand for the variables of a style sheet, see `variables`."""


def variables(look: Look) -> dict[str, str]:
    """Return the variables that the SVGs need, such as `--ink`."""
    return {"--ink": look.ink, "--grid": look.grid} | {f"--series-{i}": c for i, c in enumerate(look.series)}


def quality(axes: Any, lines: Lines, look: Look) -> None:
    """Draw PQ over the steps, of all classes, of things and of stuff, and its ceiling as a line.

    Of a network that is judged by mIoU that figure and its ceiling, and PQ beside it.
    """
    merit = merit_of_line(lines[-1] if lines else {})
    for name in ("pq_stuff", "pq_things", "pq") if merit is not MIOU else ("pq_stuff", "pq", "miou"):
        steps, values = _series(lines, name)
        if steps:
            label, place = SERIES[name]
            width, size = (2.2, 4) if name == merit.key else (1.3, 2.5)
            points = [100 * value for value in values]
            axes.plot(
                steps, points, label=label, color=look.series[place], lw=width, marker="o", ms=size, clip_on=False
            )
    ceilings = _series(lines, "ceiling")[1]
    if ceilings:
        top = 100 * ceilings[-1]
        axes.axhline(top, color=look.ink, lw=1, ls=(0, (5, 3)), label=f"ceiling of {merit.name}, {top:.1f}")
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"{merit.name}, %")


def losses(weights: LossWeights) -> Callable[[Any, Lines, Look], None]:
    """Return what draws the loss and its five terms, with their weights, on a logarithmic axis."""

    def draw(axes: Any, lines: Lines, look: Look) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        drawn = False
        for name in ("loss", *TERMS):
            steps, values = _series(lines, name)
            scaled = [value * getattr(weights, name, 1.0) for value in values]
            if any(value > 0 for value in scaled):
                label, place = SERIES[name]
                axes.plot(steps, scaled, label=label, color=look.series[place], lw=2 if name == "loss" else 1.2)
                drawn = True
        if drawn:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylabel("loss, weighted")

    return draw


def rate(axes: Any, lines: Lines, look: Look) -> None:
    """Draw the learning rate."""
    steps, values = _series(lines, "lr")
    axes.plot(steps, values, color=look.series[0], lw=1.6)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.set_ylabel("learning rate")


def png(lines: Lines, weights: LossWeights) -> bytes:
    """Draw all curves below each other: a PNG of 1400 px width."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure((10, 10.5), facecolor=LIGHT.ground, layout="constrained")
        rows = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
        for axes, draw in zip(rows, (quality, losses(weights), rate), strict=True):
            _draw(axes, draw, lines, LIGHT)
        for axes in rows[:-1]:
            axes.set_xlabel("")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=140)
    return file.getvalue()


def svg(draw: Callable[[Any, Lines, Look], None], lines: Lines, size: tuple[float, float], title: str) -> str:
    """Draw one set of curves as an SVG element for a page that has `variables`.

    Args:
        draw: `quality`, `rate`, or what `losses` returns.
        lines: of metrics.jsonl.
        size: width and height, in units of 72 px.
        title: for those who do not see it.
    """
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(size, facecolor="none", layout="constrained")
        _draw(figure.subplots(), draw, lines, _NAMED)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{title}"', text, count=1)
    names = (_NAMED.ink, "--ink"), (_NAMED.grid, "--grid")
    for color, name in (*names, *((color, f"--series-{i}") for i, color in enumerate(_NAMED.series))):
        text = text.replace(color, f"var({name})")
    return text.replace("'DejaVu Sans'", "system-ui, sans-serif").strip()


def _draw(axes: Any, draw: Callable[[Any, Lines, Look], None], lines: Lines, look: Look) -> None:
    """The curves, and around them as little as possible."""
    draw(axes, lines, look)
    axes.set_xlabel("step")
    axes.set_facecolor("none")
    axes.set_xlim(left=0)
    axes.grid(axis="y", color=look.grid, lw=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(look.grid)
    axes.tick_params(colors=look.ink, length=0, which="both")
    for label in (axes.xaxis.label, axes.yaxis.label, axes.yaxis.get_offset_text()):
        label.set_color(look.ink)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", " "))
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 6 if axes.figure.get_figwidth() > 8 else 3
        order = sorted(range(len(labels)), key=lambda i: _order(labels[i]))
        axes.legend(
            [handles[i] for i in order], [labels[i] for i in order], ncols=columns, frameon=False, labelcolor=look.ink,
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0, handlelength=1.4, columnspacing=1.6,
        )  # fmt: skip


def _order(label: str) -> int:
    names = [name for name, _ in SERIES.values()]
    return names.index(label) if label in names else len(names)


def _series(lines: Lines, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the lines that have one."""
    found = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _style() -> Any:
    """The settings that matplotlib comes with, whatever the user's file says, and ours."""
    try:
        from matplotlib import style
    except ImportError as fault:
        raise ImportError("curves are drawn by matplotlib: pip install 'deeperlab[train]'") from fault
    ours = {"svg.fonttype": "none", "svg.hashsalt": "deeperlab", "font.sans-serif": ["DejaVu Sans"], "font.size": 10}
    return style.context(["default", ours])
