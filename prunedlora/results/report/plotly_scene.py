"""A Scene by Plotly, for pages."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.report.chart_style import FADED, GREY, GRID, LEGEND, RED, layout, text
from prunedlora.results.report.scene import Line, Marks, Scene, axis_position

MOST_AS_SHAPES = 2000
"""Faded marks drawn as shapes of the page; more are drawn by WebGL."""
Hover = Callable[[Sequence[Point]], dict[str, Any]]
"""Points → `customdata` and `hovertemplate` of their trace, escaped."""


def plotly_figure(scene: Scene, hover: Hover) -> go.Figure:
    """The scene on a logarithmic axis of sizes, without a background of its own."""
    position, figure = axis_position(scene.sizes), go.Figure()
    many = sum(len(marks.points) for marks in scene.marks if marks.is_faded) > MOST_AS_SHAPES
    entries = scene.entries
    for marks in scene.marks:
        title = text(f"{marks.title}, dominated" if marks.is_faded else marks.title)
        kind = go.Scattergl if many and marks.is_faded else go.Scatter
        look = _marker(marks, many=many) | ({"cliponaxis": False} if kind is go.Scatter else {})
        entry = {"name": title, "legendgroup": text(marks.group), "showlegend": entries[marks.group] is marks}
        figure.add_trace(kind(**_places(marks, position), **look, **entry, **hover(marks.points)))
    for line in scene.lines:
        figure.add_trace(_line(line, position))
    if scene.ringed:
        x, y = [position(p.size) for p in scene.ringed], [p.quality.value for p in scene.ringed]
        ring = {"symbol": "circle-open", "size": 22, "line": {"width": 3}, "color": RED}
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="markers", marker=ring, name="recommended", hoverinfo="skip", cliponaxis=False)
        )
    _, told = scene.view
    corner = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "y": 0, "yanchor": "bottom"}
    notes = [{**corner, "text": "<br>".join(map(text, told)), "showarrow": False, "font": {"color": GREY}}]
    figure.update_layout(
        layout(
            xaxis=size_axis(scene.x_title, scene.sizes),
            yaxis={**GRID, "title": text(scene.y_title), **_ends(scene)},
            legend=LEGEND,
            hovermode="closest",
            annotations=[*_empty(scene.sizes), *(notes if told else [])],
        )
    )
    return figure


def _ends(scene: Scene) -> dict[str, Any]:
    """Where the axis of qualities ends; marks there are drawn whole (`cliponaxis`)."""
    seen, _ = scene.view
    if seen is not None:
        return {"range": list(seen)}
    return {} if scene.highest is None else {"autorangeoptions": {"clipmax": scene.highest}}


def size_axis(title: str, sizes: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis of sizes with Plotly's ticks: 20k, 50k, 1.5M; powers of ten alone where there are many."""
    position = axis_position(sizes)
    places = [position(size) for size in sizes] or [1.0]
    decades = float(np.log10(max(places) / min(places)))
    dtick = "D1" if decades < 0.7 else "D2" if decades < 3 else 1
    return {**GRID, "type": "log", "title": text(title), "tickformat": "~s", "dtick": dtick}


def _marker(marks: Marks, *, many: bool) -> dict[str, Any]:
    symbol = {"full": marks.look.symbol, "hollow": f"{marks.look.symbol}-open", "thin": "x-thin-open"}[marks.form]
    size = (5 if many else 7) if marks.is_faded else 14 if marks.look.symbol == "star-diamond" else 11
    marker: dict[str, Any] = {"symbol": symbol, "color": marks.look.colour, "size": size}
    if marks.form != "full":
        marker["line"] = {"width": 1.5}
    return {"marker": marker, "opacity": FADED if marks.is_faded else 1.0}


def _places(marks: Marks, position: Callable[[float], float]) -> dict[str, Any]:
    places: dict[str, Any] = {
        "x": np.array([position(point.size) for point in marks.points]),
        "y": np.array([point.quality.value for point in marks.points]),
        "mode": "markers",
    }
    if marks.has_bars:
        stderrs = np.array([point.quality.stderr or 0.0 for point in marks.points])
        places["error_y"] = {"array": stderrs, "thickness": 1, "width": 3}
    return places


def _line(line: Line, position: Callable[[float], float]) -> go.Scatter:
    hover = {"hoverinfo": "text", "hovertext": text(line.hover)} if line.hover else {"hoverinfo": "skip"}
    group = {"legendgroup": text(line.group)} if line.group else {}
    style: dict[str, Any] = {"dash": line.dash, "color": line.colour, "width": line.width}
    return go.Scatter(
        x=[None if x is None else position(x) for x in line.x],
        y=line.y,
        mode="lines",
        line=style | ({"shape": "hv"} if line.is_staircase else {}),
        opacity=line.opacity,
        name=text(line.title),
        showlegend=line.in_legend,
        **hover,
        **group,
    )


def _empty(sizes: Sequence[float]) -> Iterator[dict[str, Any]]:
    """A word at the place of empty adapters, which a logarithmic axis has no number for."""
    if min(sizes) <= 0:
        at = float(np.log10(axis_position(sizes)(0.0)))
        place = {"x": at, "y": 0, "yref": "paper", "yanchor": "bottom"}
        yield {**place, "text": "empty", "showarrow": False, "font": {"color": GREY}}
