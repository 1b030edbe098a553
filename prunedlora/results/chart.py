"""The report's pictures: the front with error bars and references, the hypervolume's history, an adapter's ranks."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from prunedlora.results.history import Stage
from prunedlora.results.pareto import Point
from prunedlora.results.rank_map import OUTSIDE, rank_map
from prunedlora.results.record import Figure
from prunedlora.results.settings import chosen, method, varying
from prunedlora.results.summary import Summary

COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ec4899", "#eab308")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "pentagon")
GREY = "#8a8f98"  # legible on white and on black
GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "linecolor": GREY}
LAYOUT: dict[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": GREY, "size": 13},
    "margin": {"l": 60, "r": 15, "t": 40, "b": 55},
    "hoverlabel": {"align": "left", "bgcolor": "#1f2937"},
}
SIZE_TITLES = {
    "adapter_params": "adapter parameters (A and B)",
    "adapter_bytes": "adapter bytes (A and B, float32)",
    "file_bytes": "bytes on disk (head included)",
    "max_rank": "largest rank",
    "served_slot": "served slot (rank)",
    "served_slot_bytes": "served slot bytes (half precision)",
}


def front_chart(summary: Summary) -> go.Figure:
    """Front and dominated candidates of every method, the recommended one ringed, base model and full fine-tuning as
    lines."""
    place = placement([point.size for point in summary.points])
    paths = varying(point.record for point in summary.points)
    on_front = {point.name for point in summary.front}
    figure = go.Figure()
    for i, name in enumerate(sorted({method(point.record) for point in summary.points}, key=_prunedlora_first)):
        for faded in (True, False):
            group = [
                point
                for point in summary.points
                if method(point.record) == name and (point.name not in on_front) == faded
            ]
            if group:
                figure.add_trace(_markers(summary, group, name, i, faded, place, paths))
    figure.add_trace(
        go.Scatter(
            x=[place(point.size) for point in summary.front],
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
                x=[place(summary.recommended.size)],
                y=[summary.recommended.quality.value],
                mode="markers",
                marker={"symbol": "circle-open", "size": 22, "line": {"width": 3}, "color": "#ef4444"},
                name="recommended",
                hoverinfo="skip",
            )
        )
    base = None if summary.base is None else summary.base.figures.get(summary.objectives.quality)
    _add_level(figure, summary, place, base, "base model, untrained", "dash")
    _add_level(figure, summary, place, summary.full, "full fine-tuning", "dot")
    _lay_out(figure, summary)
    return figure


def history_chart(stages: Sequence[Stage]) -> go.Figure:
    """Hypervolume over trials; the time of all devices is in the hover texts."""
    figure = go.Figure(
        go.Scatter(
            x=[stage.num_trials for stage in stages],
            y=[stage.hypervolume for stage in stages],
            mode="lines+markers",
            line={"shape": "hv", "color": COLOURS[0]},
            hovertext=[
                f"after trial {stage.num_trials}: {stage.hypervolume:.6g}<br>{stage.device_seconds:,.0f} device-seconds"
                for stage in stages
            ],
            hoverinfo="text",
        )
    )
    figure.update_layout(**LAYOUT, xaxis={**GRID, "title": "trials"}, yaxis={**GRID, "title": "hypervolume"})
    return figure


def rank_chart(ranks: Mapping[str, int]) -> go.Figure:
    """Ranks of an adapter by block and kind of module."""
    blocks, kinds, table = rank_map(ranks)
    figure = go.Figure(
        go.Heatmap(
            x=[html.escape(kind) for kind in kinds],
            y=[block if block == OUTSIDE else f"block {block}" for block in blocks],
            z=table,
            text=[["" if rank is None else str(rank) for rank in row] for row in table],
            texttemplate="%{text}",
            colorscale=[[0.0, "rgba(59,130,246,0.05)"], [1.0, "rgba(59,130,246,0.6)"]],  # ink is legible on all of it
            zmin=0,
            colorbar={"title": "rank"},
            hovertemplate="%{y}, %{x}: rank %{z}<extra></extra>",
        )
    )
    figure.update_layout(**LAYOUT, xaxis={**GRID}, yaxis={**GRID, "autorange": "reversed", "type": "category"})
    return figure


def _markers(
    summary: Summary,
    group: Sequence[Point],
    name: str,
    index: int,
    faded: bool,
    place: Callable[[float], float],
    paths: Sequence[str],
) -> go.Scatter:
    return go.Scatter(
        x=[place(point.size) for point in group],
        y=[point.quality.value for point in group],
        error_y={"array": [point.quality.stderr or 0.0 for point in group], "thickness": 1, "width": 3},
        mode="markers",
        marker={
            "symbol": SYMBOLS[index % len(SYMBOLS)],
            "color": COLOURS[index % len(COLOURS)],
            "size": 8 if faded else 11,
        },
        opacity=0.35 if faded else 1.0,
        name=f"{html.escape(name)}, dominated" if faded else html.escape(name),
        hovertext=[_hover(summary, point, paths) for point in group],
        hoverinfo="text",
    )


def _hover(summary: Summary, point: Point, paths: Sequence[str]) -> str:
    """Text of a hover label, in Plotly's subset of HTML: everything from outside is escaped."""
    stderr = "" if point.quality.stderr is None else f" ± {point.quality.stderr:.4f}"
    lines = [
        f"<b>{html.escape(summary.objectives.quality)} {point.quality.value:.4f}{stderr}</b> "
        f"(validation, {point.quality.num_examples:,} examples)",
        f"{point.candidate.adapter_params:,} parameters, largest rank {point.candidate.max_rank}",
        f"{html.escape(point.record.label or method(point.record))}, {point.name}",
        *(f"{html.escape(path)}: {html.escape(value[:80])}" for path, value in chosen(point.record, paths).items()),
    ]
    return "<br>".join(lines)


def placement(sizes: Sequence[float]) -> Callable[[float], float]:
    """Size → where it stands on the logarithmic axis, which has no 0: empty adapters stand left of all others."""
    smallest = min((size for size in sizes if size > 0), default=1.0)
    return lambda size: size if size > 0 else smallest / 3


def _ticks(sizes: Sequence[float]) -> list[float]:
    """0 where there is such a size, then 1, 2 and 5 times the powers of ten around the others."""
    positive = [size for size in sizes if size > 0]
    ticks = [0.0] if len(positive) < len(sizes) else []
    if positive:
        first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        decades = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        ticks += [tick for tick in decades if min(positive) / 1.7 < tick < max(positive) * 2]
    return ticks


def _short(size: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:g}{unit}"
    return f"{size:g}"


def _add_level(
    figure: go.Figure, summary: Summary, place: Callable[[float], float], level: Figure | None, name: str, dash: str
) -> None:
    """A reference without a size of its own on this axis, as a line across."""
    if level is None:
        return
    ends = [place(point.size) for point in summary.points] or [1.0]
    figure.add_trace(
        go.Scatter(
            x=[min(ends), max(ends)],
            y=[level.value, level.value],
            mode="lines",
            line={"dash": dash, "color": GREY, "width": 2},
            name=name,
            hovertext=f"{name}: {level.value:.4f} ({level.num_examples:,} examples)",
            hoverinfo="text",
        )
    )


def size_axis(sizes: Sequence[float], name: str) -> dict[str, Any]:
    """The logarithmic axis of these sizes (Plotly's layout.xaxis); `name`: the size that is the objective."""
    place, ticks = placement(sizes), _ticks(sizes)
    return {
        **GRID,
        "type": "log",
        "title": SIZE_TITLES[name],
        "tickvals": [place(size) for size in ticks],
        "ticktext": [_short(size) for size in ticks],
    }


def _lay_out(figure: go.Figure, summary: Summary) -> None:
    figure.update_layout(
        **LAYOUT,
        xaxis=size_axis([point.size for point in summary.points], summary.objectives.size),
        yaxis={**GRID, "title": f"{html.escape(summary.objectives.quality)} (validation)"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hovermode="closest",
    )


def _prunedlora_first(name: str) -> tuple[bool, str]:
    return name != "prunedlora", name
