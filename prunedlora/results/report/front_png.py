"""front.png: the front as a picture for slides and READMEs, by matplotlib: Plotly needs a browser to make one."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.original import origins
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.recorded_settings import in_order, method
from prunedlora.results.report.chart_style import (
    COLOURS,
    GREY,
    ORIGINAL_COLOURS,
    RED,
    SIZE_TITLES,
    axis_position,
    short_number,
    size_ticks,
)
from prunedlora.results.report.ladder_lines import ladder_lines

MARKERS = ("o", "D", "s", "^", "X", "p", "*", "h")
"""The shapes of chart_style.SYMBOLS."""
ORIGINAL_MARKER = (4, 1, 0)
"""That of chart_style.ORIGINAL_SYMBOL: a star of four points."""


LEGEND_WIDTH, MARK_WIDTH = 100, 8
"""Characters that a row of the legend has room for, and what the mark before a label takes of it."""


def front_png(summary: Summary) -> bytes:
    """The same as the page's first chart, on white, 1600 × 1000 pixels."""
    figure = Figure(figsize=(8, 5), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    position = axis_position([point.size for point in summary.points])
    on_front = {point.name for point in summary.front}
    began = {point.name for point in summary.originals.values()}
    names = in_order(method(point.record) for point in summary.points)
    colours: dict[str, str] = {}
    for i, name in enumerate(names):
        style: dict[str, Any] = {
            "marker": MARKERS[i % len(MARKERS)],
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": "none",
        }
        mine = [point for point in summary.points if method(point.record) == name and point.name not in began]
        trained, cut = ([one for one in mine if (one.candidate.cut is not None) == is_cut] for is_cut in (False, True))
        for some, title in ((trained, _literal(name)), (cut, _literal(f"{name}, cut"))):
            hollow: dict[str, Any] = {"fillstyle": "none"} if some is cut else {}
            beaten = [point for point in some if point.name not in on_front]
            front = [point for point in some if point.name in on_front]
            if beaten:
                x, y = [position(point.size) for point in beaten], [point.quality.value for point in beaten]
                label = title if not front else None
                faded: dict[str, Any] = {"markersize": 4, "markeredgewidth": 0.7 if some is cut else 0, "alpha": 0.25}
                axes.plot(x, y, **style, **hollow, **faded, rasterized=True, label=label)
            if front:
                x, y = [position(point.size) for point in front], [point.quality.value for point in front]
                stderrs = [point.quality.stderr or 0.0 for point in front]
                axes.errorbar(x, y, stderrs, **style, **hollow, markersize=6, capsize=2, elinewidth=1, label=title)
        colours[name] = style["color"]
    for number, line in enumerate(ladder_lines(summary).lines):
        x, y = [position(point.size) for point in line.points], [point.quality.value for point in line.points]
        label = "rungs of one training" if number == 0 else None
        axes.plot(
            x, y, color=colours[method(line.points[0].record)], linewidth=0.8, alpha=line.opacity, label=label, zorder=1
        )
    if summary.front:
        steps = [position(point.size) for point in summary.front], [point.quality.value for point in summary.front]
        axes.step(*steps, where="post", color=GREY, linewidth=1, zorder=0)
    for i, origin in enumerate(origins(summary.originals)):
        colour = ORIGINAL_COLOURS[i % len(ORIGINAL_COLOURS)]
        x, y = [position(point.size) for point in origin.points], [point.quality.value for point in origin.points]
        stderrs = [point.quality.stderr or 0.0 for point in origin.points]
        look: dict[str, Any] = {"color": colour, "linestyle": "none", "markersize": 10, "capsize": 2, "elinewidth": 1}
        axes.errorbar(x, y, stderrs, marker=ORIGINAL_MARKER, label=_literal(origin.label), **look)
        axes.axhline(y[0], linestyle="-.", linewidth=0.8, color=colour, zorder=0)
    if summary.recommended is not None:
        x, y = [position(summary.recommended.size)], [summary.recommended.quality.value]
        axes.plot(x, y, "o", markersize=14, fillstyle="none", color=RED, markeredgewidth=2, label="recommended")
    base = None if summary.base is None else summary.base.figures.get(summary.objectives.quality)
    for level, label, dash in ((base, "base model, untrained", "--"), (summary.full, "full fine-tuning", ":")):
        if level is not None:
            axes.axhline(level.value, linestyle=dash, color=GREY, label=label)
    ticks = size_ticks([point.size for point in summary.points])
    axes.set_xscale("log")
    axes.set_xticks([position(tick) for tick in ticks], [short_number(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(SIZE_TITLES[summary.objectives.size])
    axes.set_ylabel(_literal(f"{summary.objectives.quality} ({split_text(summary.objectives.quality)})"))
    axes.grid(alpha=0.25)
    if labels := axes.get_legend_handles_labels()[1]:
        figure.legend(frameon=False, loc="outside upper center", ncols=legend_columns(labels))
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    # Without matplotlib's version in it, so that the same records give the same file.
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


def _literal(text: str) -> str:
    """Text that matplotlib takes neither for mathematics ($) nor for a hidden label (_)."""
    text = text.replace("$", r"\$").replace("\n", " ")
    return f" {text}" if text.startswith("_") else text
