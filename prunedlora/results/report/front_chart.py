"""The front with its error bars, everything it beats, and the references, on one pair of axes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.attainment import Attainment
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.original import origins
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import chosen, in_order, method
from prunedlora.results.report.chart_style import (
    COLOURS,
    GREY,
    GRID,
    ORIGINAL_COLOURS,
    ORIGINAL_SYMBOL,
    RED,
    SIZE_TITLES,
    SYMBOLS,
    axis_position,
    layout,
    short_number,
    size_ticks,
    text,
)
from prunedlora.results.report.ladder_lines import LadderLine, ladder_lines
from prunedlora.results.rung_text import cut_text, rung_text

MOST_WITH_BARS = 500
"""Dominated candidates that have error bars; those of more would hide each other. Their hover texts have the figure."""
MOST_AS_SHAPES = 2000
"""Dominated candidates drawn as shapes of the page; more are drawn by WebGL."""
MOST_CHARACTERS = 80
"""Of a setting's value in a hover text."""


def front_chart(summary: Summary, paths: Sequence[str], bands: Attainment | None = None) -> go.Figure:
    """Front and dominated candidates of every method, those that were cut as hollow marks, the rungs of a training
    joined, the recommended one ringed, adapters that trainings began with as stars with a line, base model and full
    fine-tuning as lines, and what shares of the seeds attain.
    `paths`: settings that the hover texts show.
    """
    position = axis_position([point.size for point in summary.points])
    records = {point.key: point.record for point in summary.points}
    settings = {key: chosen(record, paths) for key, record in records.items()}
    methods = {key: method(record) for key, record in records.items()}
    on_front = {point.name for point in summary.front}
    began = {point.name for point in summary.originals.values()}
    few = len(summary.points) - len(on_front) <= MOST_WITH_BARS
    many = len(summary.points) - len(on_front) > MOST_AS_SHAPES
    figure = go.Figure()
    for i, name in enumerate(in_order(methods.values())):
        mine = [point for point in summary.points if methods[point.key] == name and point.name not in began]
        trained, cut = ([one for one in mine if (one.candidate.cut is not None) == is_cut] for is_cut in (False, True))
        symbol, colour = SYMBOLS[i % len(SYMBOLS)], COLOURS[i % len(COLOURS)]
        for some, title, shape in ((trained, text(name), symbol), (cut, f"{text(name)}, cut", f"{symbol}-open")):
            marker = {"symbol": shape, "color": colour}
            if beaten := [point for point in some if point.name not in on_front]:
                kind = go.Scattergl if many else go.Scatter
                marks = _marks(summary, beaten, settings, position, bars=few)
                look = {"marker": {**marker, "size": 5 if many else 8}, "opacity": 0.2 if many else 0.4}
                # One entry in the legend for both, where there are both.
                entry = {"legendgroup": title, "showlegend": len(beaten) == len(some), "name": f"{title}, dominated"}
                figure.add_trace(kind(**marks, **look, **entry))
            if front := [point for point in some if point.name in on_front]:
                marks = _marks(summary, front, settings, position, bars=True)
                full = {"marker": {**marker, "size": 11}, "name": title, "legendgroup": title}
                figure.add_trace(go.Scatter(**marks, **full))
    _add_ladders(figure, summary, position)
    _add_front_line(figure, summary, position)
    _add_originals(figure, summary, settings, position)
    _add_bands(figure, bands, position)
    base = None if summary.base is None else summary.base.figures.get(summary.objectives.quality)
    _add_level(figure, summary, position, base, "base model, untrained", "dash")
    _add_level(figure, summary, position, summary.full, "full fine-tuning", "dot")
    _lay_out(figure, summary, position)
    return figure


def _add_ladders(figure: go.Figure, summary: Summary, position: Callable[[float], float]) -> None:
    """One trace of lines for those that reach the front and one for the others; under the marks, and silent."""
    names = in_order(method(point.record) for point in summary.points)
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    groups: dict[tuple[str, float], list[LadderLine]] = {}
    for line in ladder_lines(summary).lines:
        groups.setdefault((method(line.points[0].record), line.opacity), []).append(line)
    for number, ((name, opacity), lines) in enumerate(groups.items()):
        # A gap (None) after each line, so that a page with many trainings has few traces.
        x = [place for line in lines for place in (*(position(point.size) for point in line.points), None)]
        y = [value for line in lines for value in (*(point.quality.value for point in line.points), None)]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                line={"width": 1, "color": colours[name]},
                opacity=opacity,
                name="rungs of one training",
                legendgroup="rungs",
                showlegend=number == 0,
                hoverinfo="skip",
            )
        )


def _add_bands(figure: go.Figure, bands: Attainment | None, position: Callable[[float], float]) -> None:
    for level in () if bands is None else bands.levels:
        figure.add_trace(
            go.Scatter(
                x=[position(size) for size in level.sizes],
                y=list(level.qualities),
                mode="lines",
                line={"shape": "hv", "color": RED, "width": 2 if level.percent == 50 else 1, "dash": "dot"},
                name=f"{level.percent}% of {len(bands.seeds) if bands else 0} seeds attain",
                hoverinfo="name",
            )
        )


def _marks(
    summary: Summary,
    points: Sequence[Point],
    settings: dict[str, dict[str, str]],
    position: Callable[[float], float],
    *,
    bars: bool,
) -> dict[str, Any]:
    """Positions, bars, hover texts: the names of settings once, in the template; with each point only their values."""
    paths = sorted({path for point in points for path in settings[point.key]})
    values = {
        key: [text(settings[key][path][:MOST_CHARACTERS]) if path in settings[key] else "–" for path in paths]
        for key in {point.key for point in points}
    }
    template = "<br>".join(
        [
            f"<b>{text(summary.objectives.quality)} %{{customdata[0]}}</b> ({split_text(summary.objectives.quality)})",
            "%{customdata[1]} parameters, largest rank %{customdata[2]}",
            "%{customdata[3]}%{customdata[4]}",
            *(f"{text(path)}: %{{customdata[{i}]}}" for i, path in enumerate(paths, start=5)),
        ]
    )
    marks: dict[str, Any] = {
        "x": np.array([position(point.size) for point in points]),
        "y": np.array([point.quality.value for point in points]),
        "mode": "markers",
        "customdata": np.array([[*_facts(point), *values[point.key]] for point in points], dtype=object),
        "hovertemplate": f"{template}<extra></extra>",
    }
    if bars:
        stderrs = np.array([point.quality.stderr or 0.0 for point in points])
        marks["error_y"] = {"array": stderrs, "thickness": 1, "width": 3}
    return marks


def _facts(point: Point) -> list[str]:
    label = "" if point.record.label is None else f"{text(point.record.label)}, "
    stderr = "" if point.quality.stderr is None else f" ± {point.quality.stderr:.4f}"
    candidate = point.candidate
    return [
        f"{point.quality.value:.4f}{stderr}",
        f"{candidate.adapter_params:,}",
        str(candidate.max_rank),
        label + point.name,
        _made(point),
    ]


def _made(point: Point) -> str:
    """On which rung it was made and how it was cut, on lines of their own."""
    rung, cut = rung_text(point.record, point.candidate), point.candidate.cut
    where = [f"<br>rung: {text(rung)}"] if point.candidate.rung is not None else []
    return "".join([*where, *([] if cut is None else [f"<br>cut {text(cut_text(cut))}"])])


def _add_front_line(figure: go.Figure, summary: Summary, position: Callable[[float], float]) -> None:
    """The front as a staircase: what is below and to the right of it is beaten. A ring around the recommended."""
    figure.add_trace(
        go.Scatter(
            x=[position(point.size) for point in summary.front],
            y=[point.quality.value for point in summary.front],
            mode="lines",
            line={"shape": "hv", "width": 1, "color": GREY},
            name="front",
            hoverinfo="skip",
        )
    )
    if summary.recommended is not None:
        figure.add_trace(
            go.Scatter(
                x=[position(summary.recommended.size)],
                y=[summary.recommended.quality.value],
                mode="markers",
                marker={"symbol": "circle-open", "size": 22, "line": {"width": 3}, "color": RED},
                name="recommended",
                hoverinfo="skip",
            )
        )


def _add_level(
    figure: go.Figure, summary: Summary, position: Callable[[float], float], level: Figure | None, name: str, dash: str
) -> None:
    """A reference without a size of its own on this axis, as a line across."""
    if level is None:
        return
    ends = [position(point.size) for point in summary.points] or [1.0]
    figure.add_trace(
        go.Scatter(
            x=[min(ends), max(ends)],
            y=[level.value, level.value],
            mode="lines",
            line={"dash": dash, "color": GREY, "width": 2},
            name=text(name),
            hovertext=f"{text(name)}: {level.value:.4f} ({level.num_examples:,} examples)",
            hoverinfo="text",
        )
    )


def _add_originals(
    figure: go.Figure, summary: Summary, settings: dict[str, dict[str, str]], position: Callable[[float], float]
) -> None:
    """Each adapter that trainings began with: a mark of its own, and a line across at what it measured."""
    for i, origin in enumerate(origins(summary.originals)):
        marks, label = _marks(summary, origin.points, settings, position, bars=True), text(origin.label)
        look = {"symbol": ORIGINAL_SYMBOL, "size": 14, "color": ORIGINAL_COLOURS[i % len(ORIGINAL_COLOURS)]}
        group = {"legendgroup": f"original {i}"}
        figure.add_trace(go.Scatter(**marks, **group, marker=look, name=label))
        _add_level(figure, summary, position, origin.points[0].quality, origin.label, "dashdot")
        figure.data[-1].update(**group, showlegend=False, line={"color": look["color"], "width": 1})


def _lay_out(figure: go.Figure, summary: Summary, position: Callable[[float], float]) -> None:
    ticks = size_ticks([point.size for point in summary.points])
    figure.update_layout(
        layout(
            xaxis={
                **GRID,
                "type": "log",
                "title": SIZE_TITLES[summary.objectives.size],
                "tickvals": [position(size) for size in ticks],
                "ticktext": [short_number(size) for size in ticks],
            },
            yaxis={**GRID, "title": f"{text(summary.objectives.quality)} ({split_text(summary.objectives.quality)})"},
            legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            hovermode="closest",
        )
    )
