# SPDX-License-Identifier: Apache-2.0
"""Time over pixels and over things, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cases import PAPER_MS
from .runs import Points, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Plots: legible on a light page and on a dark one. The ground is transparent, and every color keeps a contrast of at
# least 3 to white and to the near-black of dark pages.

INK = "#7d8590"


@dataclass(frozen=True)
class Style:
    """How a contender looks; its label stands at the end of its line."""

    label: str
    color: str
    marker: str
    line: str = "-"
    width: float = 1.3


STYLES = {
    ("upsample_first", 1): Style("plain C++, upsampling first", "#b07d12", "s"),
    ("expert", 1): Style("an expert's PyTorch", "#a371c8", "D"),
    ("numpy", 1): Style("NumPy twin", "#7d8590", "v"),
    ("same_answer", 1): Style("plain C++, same answer", "#d1603d", "^"),
    ("tensors", 1): Style("deeperlab, 1 thread", "#2f81f7", "o", width=2.2),
    ("tensors", 2): Style("deeperlab, 2 threads", "#2f81f7", "o", "--", 2.2),
}
PAPER = Style("the paper's merge", "#2e9e4f", "*", "none")


def _axes(title: str, across: str, ticks: Sequence[tuple[int, str]]) -> Axes:
    from matplotlib.figure import Figure

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


def plots(run: Run, folder: Path) -> list[Path]:
    """Draw time over pixels, with the paper's figures beside, and time over things, each as SVG and PNG.

    Raises:
        ValueError: the run has too few scenes.
    """
    from matplotlib import rc_context

    over_pixels = [(style, run.curve(*key, over_things=False)) for key, style in STYLES.items()]
    over_things = [(style, run.curve(*key, over_things=True)) for key, style in STYLES.items()]
    for style, points in (*over_pixels, *over_things):
        if style in (STYLES["tensors", 1], STYLES["same_answer", 1]) and len(points) < 2:
            raise ValueError(
                f"run: expected {style.label} at two sizes and with two numbers of things, got fewer; "
                "plots need a full run, as of `make bench`"
            )
    counts = sorted({count for _, points in over_things for count, _ in points})
    over_pixels.append((PAPER, sorted((height * width, float(ms)) for (height, width), ms in PAPER_MS.items())))
    sides = [(side * side, f"{side}²") for side in (257, 513, 721, 1441, 2881)]
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "deeperlab", "font.family": "sans-serif"}):
        pixels = _axes("The fusion of one image with 50 things", "pixels", sides)
        _lines(pixels, [curve for curve in over_pixels if curve[1]])
        things = _axes("The fusion of one image of 1441 × 1441 px", "things", [(n, str(n)) for n in counts])
        _lines(things, [curve for curve in over_things if curve[1]])
        return [*_save(pixels, folder / "time-over-pixels"), *_save(things, folder / "time-over-things")]
