# SPDX-License-Identifier: Apache-2.0
"""Time over pixels and over things, as SVG and PNG that can be read on a light page and on a dark one.

The ground is transparent; every color keeps a contrast of at least 3 to white and to the near-black of dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .conftest import PAPER_MS
from .runs import SIZE, THINGS, YARDSTICK, Points, Run

INK = "#7d8590"


@dataclass(frozen=True)
class Style:
    """How a contender looks; its label stands at the end of its line."""

    label: str
    color: str
    marker: str
    line: str = "-"
    width: float = 1.3


CONTENDERS = {
    ("upsample_first", 1): Style("plain C++, upsampling first", "#b07d12", "s"),
    ("expert", 1): Style("an expert's PyTorch", "#a371c8", "D"),
    ("numpy", 1): Style("NumPy twin", "#7d8590", "v"),
    (YARDSTICK, 1): Style("plain C++, same answer", "#d1603d", "^"),
    ("tensors", 1): Style("deeperlab, 1 thread", "#2f81f7", "o", width=2.2),
    ("tensors", 2): Style("deeperlab, 2 threads", "#2f81f7", "o", "--", 2.2),
}
PAPER = Style("the paper's merge", "#2e9e4f", "*", "none")


def _axes(title: str, across: str, ticks: Sequence[tuple[int, str]]) -> Axes:
    axes = Figure(figsize=(7.2, 4.4), layout="constrained").add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.set_xlabel(across, color=INK)
    axes.set_xticks([value for value, _ in ticks], [label for _, label in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(lambda ms, _: f"{ms:,.0f} ms" if ms >= 1 else f"{ms:g} ms")
    axes.grid(True, which="major", color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(which="both", colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    return axes


def _lines(axes: Axes, curves: Sequence[tuple[Style, Points]]) -> None:
    """Labels stand to the right of all lines, level with their ends, pushed apart where they would touch."""
    for style, points in curves:
        axes.plot(
            *zip(*points, strict=True),
            linestyle=style.line,
            linewidth=style.width,
            marker=style.marker,
            markersize=8 if style.marker == "*" else 4,
            color=style.color,
        )
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(left, right * (right / left) ** 0.42)
    below = 0.0
    for ms, style in sorted(((points[-1][1], style) for style, points in curves), key=lambda end: end[0]):
        below = max(ms, below * (high / low) ** 0.052)
        axes.text(right, below, style.label, color=style.color, fontsize=9, va="center")


def _save(axes: Axes, path: Path) -> list[Path]:
    """SVG with text as text, and without a date, so that equal figures are equal files; PNG at twice the size."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    figure.savefig(written[0], transparent=True, metadata={"Date": None})
    figure.savefig(written[1], transparent=True, dpi=144, metadata={"Software": None})
    return written


def over_pixels(run: Run, folder: Path) -> list[Path]:
    """At one number of things, with the paper's figures beside ours."""
    curves = [(style, run.by_pixels(*contender)) for contender, style in CONTENDERS.items()]
    paper = sorted((height * width, float(ms)) for (height, width), ms in PAPER_MS.items())
    ticks = [(side * side, f"{side}²") for side in (257, 513, 721, 1441, 2881)]
    title = f"The fusion of one image with {THINGS} things"
    axes = _axes(title, "pixels", ticks)
    _lines(axes, [*(curve for curve in curves if curve[1]), (PAPER, paper)])
    return _save(axes, folder / "time-over-pixels")


def over_things(run: Run, folder: Path) -> list[Path]:
    """At one size."""
    curves = [(style, run.by_things(*contender)) for contender, style in CONTENDERS.items()]
    counts = sorted({count for _, points in curves for count, _ in points})
    axes = _axes(f"The fusion of one image of {SIZE} × {SIZE} px", "things", [(n, str(n)) for n in counts])
    _lines(axes, [curve for curve in curves if curve[1]])
    return _save(axes, folder / "time-over-things")


def draw(run: Run, folder: Path) -> list[Path]:
    """Both plots of a run, each as SVG and PNG."""
    for contender in ("tensors", YARDSTICK):
        if min(len(run.by_pixels(contender)), len(run.by_things(contender))) < 2:
            raise ValueError(
                f"run: expected {contender} at two sizes and with two numbers of things, got fewer; "
                "plots need a full run, as of `make bench`"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "deeperlab", "font.family": "sans-serif"}):
        return [*over_pixels(run, folder), *over_things(run, folder)]
