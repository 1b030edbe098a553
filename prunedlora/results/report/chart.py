"""The report's smaller charts: learning curves, the hypervolume's history, an adapter's ranks, importances of the
searched fields."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.history import Stage
from prunedlora.results.analysis.learning_curves import LearningCurves
from prunedlora.results.analysis.rank_map import OUTSIDE, rank_map
from prunedlora.results.recorded_settings import in_order, method
from prunedlora.results.report.chart_style import COLOURS, FADED, GREY, GRID, LEGEND, layout, looks, text

DASHES = ("solid", "dash", "dot", "dashdot")
"""Of trainings of one method, which has one colour."""
LOG_FROM = 20.0
"""How many times the smallest loss the largest must be for an axis of losses to be logarithmic."""
MOST_FOR_HALVES = 1000.0
"""The same, up to which 2 and 5 have ticks beside 1; above, the powers of ten alone."""


def curve_chart(found: LearningCurves) -> go.Figure:
    """Training loss by step, a line each, and the candidates' validation loss as rings on it, in the colour of the
    method; the recommended one's is thick, those in the background are grey."""
    figure, seen = go.Figure(), Counter[str]()
    methods = in_order(method(curve.record) for curve in found.curves)
    colours = {name: look.colour for name, look in zip(methods, looks(methods), strict=True)}
    for number, curve in enumerate(sorted(found.curves, key=lambda one: one.is_bright)):
        of = method(curve.record)
        dash, colour, width = DASHES[seen[of] % len(DASHES)], colours[of], 3.0 if curve.is_recommended else 1.5
        if curve.is_bright:
            seen[of] += 1
        else:
            dash, colour, width = "solid", GREY, 0.8
        name = text(curve.title if curve.is_bright else "other trainings")
        group = {"legendgroup": name, "name": name}
        figure.add_scatter(
            x=[step for step, _ in curve.train],
            y=[loss for _, loss in curve.train],
            mode="lines",
            line={"color": colour, "width": width, "dash": dash},
            opacity=1.0 if curve.is_bright else FADED,
            showlegend=curve.is_bright or number == 0,
            hovertemplate=f"{text(curve.title)}: %{{y:.4g}} in training, step %{{x:.0f}}<extra></extra>",
            **group,
        )
        if curve.is_bright:
            figure.add_scatter(
                x=[step for step, _ in curve.validation],
                y=[loss for _, loss in curve.validation],
                mode="markers",
                marker={"symbol": "circle-open", "color": colour, "size": 9, "line": {"width": 2}},
                showlegend=False,
                hovertemplate=f"{text(curve.title)}: %{{y:.4g}} on validation, step %{{x}}<extra></extra>",
                **group,
            )
    losses = [loss for curve in found.curves for _, loss in (*curve.train, *curve.validation) if loss > 0]
    is_log = bool(losses) and max(losses) > LOG_FROM * min(losses)
    # Plotly's own choice, all of 2 to 9 in every power of ten, has no room where the axis holds more than one.
    dtick = "D2" if is_log and max(losses) < MOST_FOR_HALVES * min(losses) else 1
    yaxis = {
        **GRID,
        "title": "loss (nats per target)",
        **({"type": "log", "tickformat": "~g", "dtick": dtick} if is_log else {}),
    }
    return figure.update_layout(layout(xaxis={**GRID, "title": "step"}, yaxis=yaxis, legend=LEGEND))


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
