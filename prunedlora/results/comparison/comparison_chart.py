"""The comparison's pictures: all fronts on the same axes, and how far the groups are apart at every size."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from prunedlora.results.analysis.harness_quality import counted_text, split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.comparison.fronts import Comparison, Contrast
from prunedlora.results.comparison.groups import Group
from prunedlora.results.comparison.words import interval, said
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import Figure
from prunedlora.results.report.chart_style import (
    COLOURS,
    GREY,
    GRID,
    RED,
    SIZE_TITLES,
    SYMBOLS,
    axis_position,
    layout,
    short_number,
    size_ticks,
    text,
)
from prunedlora.results.report.front_chart import MOST_AS_SHAPES


def fronts_chart(comparison: Comparison) -> go.Figure:
    """Every group's front with error bars, its other candidates faded, the recommended adapters ringed."""
    sizes = [point.size for group in comparison.groups for point in group.points]
    position = axis_position(sizes)
    figure = go.Figure()
    for i, group in enumerate(comparison.groups):
        for trace in _front_traces(comparison, group, i, position):
            figure.add_trace(trace)
    ringed = [group.recommended for group in comparison.groups if group.recommended is not None]
    figure.add_trace(
        go.Scatter(
            x=[position(point.size) for point in ringed],
            y=[point.quality.value for point in ringed],
            mode="markers",
            marker={"symbol": "circle-open", "size": 22, "line": {"width": 3}, "color": RED},
            name="recommended",
            hoverinfo="skip",
        )
    )
    for name, base in _bases(comparison).items():
        figure.add_trace(
            go.Scatter(
                x=[position(min(sizes)), position(max(sizes))],
                y=[base.value, base.value],
                mode="lines",
                line={"dash": "dash", "color": GREY, "width": 2},
                name=text(name),
                hovertext=f"{text(name)}: {figure_text(base)} ({base.num_examples:,} examples)",
                hoverinfo="text",
            )
        )
    return _laid_out(
        figure,
        comparison,
        sizes,
        f"{text(comparison.objectives.quality)} ({split_text(comparison.objectives.quality)})",
    )


def differences_chart(comparison: Comparison) -> go.Figure:
    """How much better than the control each group is at every size, with the intervals; the margin as dotted lines."""
    sizes = [one.size for contrast in comparison.contrasts for one in contrast.matched]
    position = axis_position(sizes)
    figure = go.Figure()
    for i, contrast in enumerate(comparison.contrasts, start=1):
        figure.add_trace(_differences(comparison, contrast, i, position))
    for level, dash in ((0.0, "solid"), (comparison.within, "dot"), (-comparison.within, "dot")):
        figure.add_hline(y=level, line={"dash": dash, "color": GREY, "width": 1})
    return _laid_out(figure, comparison, sizes, f"{text(comparison.objectives.quality)}, better by")


def _front_traces(comparison: Comparison, group: Group, index: int, position: Callable[[float], float]) -> list[Any]:
    colour, symbol = _look(index)
    on_front = {point.name for point in group.front}
    dominated = [point for point in group.points if point.name not in on_front]
    name = text(group.name)

    def markers(points: list[Point], kind: Any = go.Scatter, **look: Any) -> Any:
        return kind(
            x=[position(point.size) for point in points],
            y=[point.quality.value for point in points],
            hovertext=[_hover(comparison, group, point) for point in points],
            hoverinfo="text",
            legendgroup=str(index),
            **look,
        )

    traces = [
        markers(
            group.front,
            error_y={"array": [point.quality.stderr or 0.0 for point in group.front], "thickness": 1, "width": 3},
            mode="lines+markers",
            line={"shape": "hv", "width": 1.5, "color": colour},
            marker={"symbol": symbol, "color": colour, "size": 11},
            name=name,
        )
    ]
    if dominated:
        look = {"symbol": symbol, "color": colour, "size": 7}
        kind = go.Scattergl if len(group.points) > MOST_AS_SHAPES else go.Scatter
        traces.append(markers(dominated, kind, mode="markers", opacity=0.35, marker=look, name=f"{name}, dominated"))
    return traces


def _differences(
    comparison: Comparison, contrast: Contrast, index: int, position: Callable[[float], float]
) -> go.Scatter:
    matched, (colour, symbol) = contrast.changes, _look(index)
    return go.Scatter(
        x=[position(one.size) for one in matched],
        y=[one.difference for one in matched],
        error_y={
            "array": [one.high - one.difference for one in matched],
            "arrayminus": [one.difference - one.low for one in matched],
            "thickness": 1.5,
            "width": 4,
        },
        mode="lines+markers",
        line={"shape": "hv", "width": 1.5, "color": colour},
        marker={"symbol": symbol, "color": colour, "size": 10},
        name=text(contrast.group.name),
        showlegend=True,
        hovertext=[
            f"<b>up to {one.size:,.10g}: {interval(one)}</b><br>{text(said(comparison, contrast, one))}"
            for one in matched
        ],
        hoverinfo="text",
    )


def _look(index: int) -> tuple[str, str]:
    """Colour and symbol of a group; after each round of colours the symbols shift, so that no two are alike."""
    turn, colour = divmod(index, len(COLOURS))
    return COLOURS[colour], SYMBOLS[(colour + turn) % len(SYMBOLS)]


def _hover(comparison: Comparison, group: Group, point: Point) -> str:
    """Text of a hover label, in Plotly's subset of HTML: everything from outside is escaped."""
    lines = [
        f"<b>{text(comparison.objectives.quality)} {figure_text(point.quality)}</b> "
        f"({text(counted_text(comparison.objectives.quality, point.quality.num_examples))})",
        f"{point.candidate.adapter_params:,} parameters, largest rank {point.candidate.max_rank}",
        f"{text(group.name)}, {point.name}",
        *([] if point.record.label is None else [text(point.record.label)]),
    ]
    return "<br>".join(lines)


def _bases(comparison: Comparison) -> dict[str, Figure]:
    """Name in the legend → the untrained base model's figure; one where all groups have the same."""
    quality = comparison.objectives.quality
    found = {
        group.name: group.base.figures[quality]
        for group in comparison.groups
        if group.base is not None and quality in group.base.figures
    }
    figures = list(found.values())
    if len(figures) == len(comparison.groups) and all(figure == figures[0] for figure in figures):
        return {"base model, untrained": figures[0]}
    return {f"base model of {name}": figure for name, figure in found.items()}


def _laid_out(figure: go.Figure, comparison: Comparison, sizes: list[float], title: str) -> go.Figure:
    position, ticks = axis_position(sizes), size_ticks(sizes)
    xaxis = {
        **GRID,
        "type": "log",
        "title": SIZE_TITLES[comparison.objectives.size],
        "tickvals": [position(size) for size in ticks],
        "ticktext": [short_number(size) for size in ticks],
    }
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
    figure.update_layout(layout(xaxis=xaxis, yaxis={**GRID, "title": title}, legend=legend, hovermode="closest"))
    return figure
