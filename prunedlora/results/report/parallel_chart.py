"""Parallel coordinates: each trial of the search a line through what it was given and what came of it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.ticker import EngFormatter, LogLocator

from prunedlora.results.analysis.directions import searched
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.ask import Ask
from prunedlora.results.recorded_settings import shown
from prunedlora.results.report.chart_style import SIZE_TITLES, layout, short_names, text
from prunedlora.results.report.scene import axis_position

NOT_SET = "not set"
"""Position on a field's axis of the trials in which it had no meaning (a conditional field)."""
MOST_CHARACTERS = 20


def parallel_chart(summary: Summary) -> go.Figure | None:
    """A line per trial of the search, by its last trained candidate, coloured by quality; None without a search."""
    chosen = searched(summary)
    if not chosen:
        return None
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
        return _numbers(path, name, asks, math.log10, low, high, log_ticks(low, high))
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
    position, name = axis_position([point.size for point in points]), EngFormatter(sep="")
    places = [position(point.size) for point in points]
    ticks = {tick: name(tick) for tick in log_ticks(min(places), max(places))}
    if any(point.size == 0 for point in points):
        ticks[min(places)] = "empty"
    low, high = math.log10(min(places)), math.log10(max(places))
    return {
        "label": text(SIZE_TITLES[summary.objectives.size].split(" (")[0]),
        "values": np.array([math.log10(place) for place in places], dtype=np.float32),
        "range": [low, max(high, low + 0.1)],
        "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [*ticks.values()],
    }


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten within; the ends where there is none."""
    ticks = LogLocator(subs=(1.0, 2.0, 5.0), numticks=100).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high] or [low, high]
