"""front.png: the front as a picture for slides and READMEs, by matplotlib: Plotly needs a browser to make one."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from prunedlora.results.analysis.summary import Summary
from prunedlora.results.report.chart_style import FADED, GREY, RED
from prunedlora.results.report.scene import Marks, axis_position, front_scene

MARKERS: dict[str, Any] = {
    "circle": "o", "diamond": "D", "square": "s", "triangle-up": "^", "cross": "P", "pentagon": "p", "star": "*",
    "hexagon": "h", "star-diamond": (4, 1, 0),
}  # fmt: skip
"""Plotly's symbols of chart_style.py → matplotlib's."""
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
FILLS = {"full": "full", "hollow": "none", "thin": "full"}
LEGEND_WIDTH, MARK_WIDTH = 100, 8
"""Characters that a row of the legend has room for, and what the mark before a label takes of it."""


def front_png(summary: Summary) -> bytes:
    """The same as the page's first chart, on white, 1600 × 1000 pixels."""
    figure, axes = new_picture()
    scene = front_scene(summary)
    position = axis_position(scene.sizes)
    entries = scene.entries
    for marks in sorted(scene.marks, key=lambda one: not one.is_faded):
        x, y = [position(point.size) for point in marks.points], [point.quality.value for point in marks.points]
        label = _literal(marks.title) if entries[marks.group] is marks else None
        if marks.is_faded:
            axes.plot(x, y, **_look(marks), markersize=4, alpha=FADED, rasterized=True, label=label)
        else:
            stderrs = [point.quality.stderr or 0.0 for point in marks.points]
            size = 10 if marks.look.symbol == "star-diamond" else 6
            axes.errorbar(x, y, stderrs, **_look(marks), markersize=size, capsize=2, elinewidth=1, label=label)
    for line in scene.lines:
        label = _literal(line.title) if line.in_legend and line.title != "front" else None
        style: dict[str, Any] = {"color": line.colour, "linestyle": DASHES[line.dash], "linewidth": 0.7 * line.width}
        x = [math.nan if size is None else position(size) for size in line.x]
        y = [math.nan if value is None else value for value in line.y]
        shape: dict[str, Any] = {"drawstyle": "steps-post"} if line.is_staircase else {}
        axes.plot(x, y, **style, **shape, alpha=line.opacity, label=label, zorder=1)
    if scene.ringed:
        x, y = [position(point.size) for point in scene.ringed], [point.quality.value for point in scene.ringed]
        axes.plot(x, y, "o", markersize=14, fillstyle="none", color=RED, markeredgewidth=2, label="recommended")
    if min(scene.sizes) <= 0:
        axes.annotate("empty", (position(0.0), 0), xycoords=("data", "axes fraction"), ha="center", va="bottom")
    seen, told = scene.view
    if seen is not None:
        axes.set_ylim(*seen)
        axes.annotate(
            "\n".join(map(_literal, told)), (1, 0), xycoords="axes fraction", ha="right", va="bottom", color=GREY
        )
    size_axis(axes, scene.x_title)
    axes.set_ylabel(_literal(scene.y_title))
    if labels := axes.get_legend_handles_labels()[1]:
        figure.legend(frameon=False, loc="outside upper center", ncols=legend_columns(labels))
    return png(figure)


def new_picture() -> tuple[Figure, Axes]:
    """An empty one on white, 1600 × 1000 pixels."""
    figure = Figure(figsize=(8, 5), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def size_axis(axes: Axes, title: str) -> None:
    """A logarithmic axis of sizes: 20k, 1.5M."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=100))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(title)


def png(figure: Figure) -> bytes:
    """The picture's file, without matplotlib's version in it, so that the same records give the same file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def legend_columns(labels: Sequence[str]) -> int:
    """As many columns as there is room for, four at most; a column is filled before the next one, and as wide as its
    longest label."""
    for num in (4, 3, 2):
        columns = [part for part in np.array_split(labels, num) if len(part)]
        if sum(max(map(len, column)) + MARK_WIDTH for column in columns) <= LEGEND_WIDTH:
            return num
    return 1


def _look(marks: Marks) -> dict[str, Any]:
    marker = "x" if marks.form == "thin" else MARKERS[marks.look.symbol]
    edge = {"markeredgewidth": 0.9} if marks.form != "full" else {"markeredgewidth": 0} if marks.is_faded else {}
    return {"marker": marker, "color": marks.look.colour, "linestyle": "none", "fillstyle": FILLS[marks.form], **edge}


def _literal(text: str) -> str:
    """Text that matplotlib takes neither for mathematics ($) nor for a hidden label (_)."""
    text = text.replace("$", r"\$").replace("\n", " ")
    return f" {text}" if text.startswith("_") else text
