"""The report's smaller charts: the hypervolume's history, an adapter's ranks, importances of the searched fields."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.history import Stage
from prunedlora.results.analysis.rank_map import OUTSIDE, rank_map
from prunedlora.results.report.chart_style import COLOURS, GRID, layout, text


def history_charts(stages: Sequence[Stage]) -> tuple[go.Figure, go.Figure]:
    """Hypervolume over trials, and over the seconds that devices spent training."""
    trials = np.array([stage.num_trials for stage in stages])
    seconds = np.array([stage.device_seconds for stage in stages])
    volumes = np.array([stage.hypervolume for stage in stages])
    hover = "after trial %{customdata[0]}, %{customdata[1]:,.0f} device-seconds: %{y:.6g}<extra></extra>"

    def chart(x: np.ndarray, title: str) -> go.Figure:
        line = go.Scatter(
            x=x,
            y=volumes,
            mode="lines+markers" if len(stages) <= 100 else "lines",
            line={"shape": "hv", "color": COLOURS[0]},
            customdata=np.stack([trials, seconds], axis=-1),
            hovertemplate=hover,
        )
        axes = {"xaxis": {**GRID, "title": title, "rangemode": "tozero"}, "yaxis": {**GRID, "title": "hypervolume"}}
        return go.Figure(line, layout(**axes))

    return chart(trials, "trials"), chart(seconds, "device-seconds of training")


def rank_chart(ranks: Mapping[str, int]) -> go.Figure:
    """Ranks of an adapter by block and kind of module."""
    blocks, kinds, table = rank_map(ranks)
    heatmap = go.Heatmap(
        x=[text(kind) for kind in kinds],
        y=[block if block == OUTSIDE else f"block {block}" for block in blocks],
        z=table,
        text=[["" if rank is None else str(rank) for rank in row] for row in table],
        texttemplate="%{text}",
        colorscale=[[0.0, "rgba(59,130,246,0.05)"], [1.0, "rgba(59,130,246,0.6)"]],  # ink is legible on all of it
        zmin=0,
        zmax=max([1, *ranks.values()]),
        showscale=False,  # the cells say it
        xgap=2,
        ygap=2,
        hovertemplate="%{y}, %{x}: rank %{z}<extra></extra>",
    )
    axes: dict[str, Any] = {"xaxis": {**GRID}, "yaxis": {**GRID, "autorange": "reversed", "type": "category"}}
    return go.Figure(heatmap, layout(**axes))


def importance_chart(shares: Mapping[str, float], names: Mapping[str, str]) -> go.Figure:
    """Bars of the fields' shares, the largest on top. `names`: path → what the axis calls it."""
    order = sorted(shares, key=lambda path: (shares[path], path))
    bars = go.Bar(
        x=[shares[path] for path in order],
        y=[text(names[path]) for path in order],
        orientation="h",
        marker={"color": COLOURS[0]},
        customdata=[text(path) for path in order],
        hovertemplate="%{customdata}: %{x:.1%}<extra></extra>",
        texttemplate="%{x:.0%}",
        textposition="outside",
        cliponaxis=False,
    )
    xaxis = {**GRID, "tickformat": ".0%", "range": [0, max(shares.values()) * 1.15]}
    margin = {"l": 10, "r": 15, "t": 10, "b": 40}
    return go.Figure(bars, layout(xaxis=xaxis, yaxis={**GRID, "type": "category"}, margin=margin))
