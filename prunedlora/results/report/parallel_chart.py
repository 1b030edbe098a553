"""Parallel coordinates: each trial of the search a line through what it was given and what came of it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.ask import Ask
from prunedlora.results.recorded_settings import shown
from prunedlora.results.report.chart_style import SIZE_TITLES, layout, short_names, short_number, size_ticks, text

NOT_SET = "not set"
"""Position on a field's axis of the trials in which it had no meaning (a conditional field)."""
MOST_CHARACTERS = 20


def parallel_chart(summary: Summary) -> go.Figure | None:
    """A line per trial of the search, by its last trained candidate, coloured by quality; None without a search."""
    last = {
        point.key: point
        for point in summary.points
        if point.candidate is point.record.last_measured([summary.objectives.quality])
    }
    asks = {ask.key: ask for ask in summary.asks if ask.kind == "search" and ask.key in last}
    if not asks:
        return None
    chosen = [(ask, last[key]) for key, ask in sorted(asks.items())]
    paths = sorted({path for ask, _ in chosen for path in ask.params})
    names = short_names(paths)
    quality = np.array([point.quality.value for _, point in chosen], dtype=np.float32)
    dimensions = [_field(path, names[path], [ask for ask, _ in chosen]) for path in paths]
    dimensions += [_sizes(summary, [point for _, point in chosen])]
    dimensions += [{"label": text(summary.objectives.quality), "values": quality}]
    lines = go.Parcoords(
        dimensions=dimensions,
        line={
            "color": quality,
            "colorscale": [[0.0, "#9ca3af"], [0.5, "#3b82f6"], [1.0, "#ef4444"]],  # visible on white and on black
            "reversescale": not summary.objectives.maximize,
            "showscale": True,
            "colorbar": {"title": text(summary.objectives.quality), "thickness": 12},
        },
        labelangle=-20,
        labelside="top",
        unselected={"line": {"color": "#8a8f98", "opacity": 0.08}},
    )
    return go.Figure(lines, layout(margin={"l": 70, "r": 30, "t": 90, "b": 25}))


def _field(path: str, name: str, asks: Sequence[Ask]) -> dict[str, Any]:
    """One field's axis: choices at equal distances, numbers on the scale they were searched on."""
    distribution = json.loads(next(ask.distributions[path] for ask in asks if path in ask.distributions))
    attributes: Mapping[str, Any] = distribution["attributes"]
    if "choices" in attributes:
        return _choices(path, name, attributes["choices"], asks)
    low, high = float(attributes["low"]), float(attributes["high"])
    if attributes.get("log"):
        ticks = [tick for tick in size_ticks([low, high]) if low <= tick <= high] or [low, high]
        return _numbers(path, name, asks, math.log10, low, high, ticks)
    return _numbers(path, name, asks, float, low, high, np.linspace(low, high, 5).tolist())


def _numbers(
    path: str, name: str, asks: Sequence[Ask], scale: Any, low: float, high: float, ticks: Sequence[float]
) -> dict[str, Any]:
    bottom, top = scale(low), scale(high)
    missing = bottom - 0.15 * ((top - bottom) or 1.0)
    values = [scale(ask.params[path]) if path in ask.params else missing for ask in asks]
    positions, texts = [scale(tick) for tick in ticks], [f"{tick:.3g}" for tick in ticks]
    if missing in values:
        bottom, positions, texts = missing, [missing, *positions], [NOT_SET, *texts]
    return {
        "label": text(name),
        "values": np.array(values, dtype=np.float32),
        "range": [bottom, top if top > bottom else bottom + 1.0],
        "tickvals": positions,
        "ticktext": texts,
    }


def _choices(path: str, name: str, choices: Sequence[Any], asks: Sequence[Ask]) -> dict[str, Any]:
    texts = [shown(choice) for choice in choices]
    indices = {json.dumps(choice): i for i, choice in enumerate(choices)}
    values = [indices[json.dumps(ask.params[path])] if path in ask.params else -1 for ask in asks]
    numbers = [*range(len(choices))]
    if -1 in values:
        numbers, texts = [-1, *numbers], [NOT_SET, *texts]
    return {
        "label": text(name),
        "values": np.array(values, dtype=np.float32),
        "range": [numbers[0], max(numbers[-1], numbers[0] + 1)],
        "tickvals": numbers,
        "ticktext": [text(one[:MOST_CHARACTERS]) for one in texts],
    }


def _sizes(summary: Summary, points: Sequence[Point]) -> dict[str, Any]:
    """The size's axis, logarithmic; empty adapters stand below all others."""
    sizes = [point.size for point in points]
    smallest = min((size for size in sizes if size > 0), default=1.0)
    positions = [math.log10(size if size > 0 else smallest / 3) for size in sizes]
    ticks = {math.log10(size if size > 0 else smallest / 3): short_number(size) for size in size_ticks(sizes)}
    shown = {position: tick for position, tick in ticks.items() if min(positions) <= position <= max(positions)}
    return {
        "label": text(SIZE_TITLES[summary.objectives.size].split(" (")[0]),
        "values": np.array(positions, dtype=np.float32),
        "range": [min(positions), max(max(positions), min(positions) + 0.1)],
        "tickvals": [*shown],
        "ticktext": [*shown.values()],
    }
