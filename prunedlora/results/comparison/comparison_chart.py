"""The comparison's pictures: all fronts on the same axes, and how far the groups are apart at every size."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from prunedlora.results.analysis.harness_quality import counted_text, split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.comparison.fronts import Comparison
from prunedlora.results.comparison.groups import Group
from prunedlora.results.comparison.verdicts import interval
from prunedlora.results.comparison.words import terms_of
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import method
from prunedlora.results.report.chart_style import GREY, GRID, LEGEND, Look, layout, looks, size_title, text
from prunedlora.results.report.plotly_scene import plotly_figure, size_axis
from prunedlora.results.report.scene import Line, Marks, Scene, axis_position, level, marks_of


def fronts_chart(comparison: Comparison) -> go.Figure:
    """Every group's front with error bars, its other candidates faded, the recommended adapters ringed."""
    quality, names = comparison.objectives.quality, dict[int, str]()
    marks: list[Marks] = []
    lines: list[Line] = []
    for group, look in zip(comparison.groups, group_looks(comparison.groups), strict=True):
        marks += marks_of(group.name, group.points, look, {point.name for point in group.front}, bars=False)
        x, y = tuple(point.size for point in group.front), tuple(point.quality.value for point in group.front)
        lines.append(
            Line(group.name, x, y, look.colour, width=1.5, is_staircase=True, group=group.name, in_legend=False)
        )
        names |= {id(point): group.name for point in group.points}
    sizes = [point.size for group in comparison.groups for point in group.points]
    lines += [line for name, base in _bases(comparison).items() for line in level(name, base, sizes, "dash")]
    ringed = tuple(group.recommended for group in comparison.groups if group.recommended is not None)
    title = f"{quality} ({split_text(quality)})"

    def hover(points: Sequence[Point]) -> dict[str, Any]:
        texts = [_hover(quality, names[id(point)], point) for point in points]
        return {"hovertext": texts, "hoverinfo": "text"}

    scene = Scene(tuple(marks), tuple(lines), ringed, size_title(comparison.objectives), title)
    return plotly_figure(scene, hover)


def differences_chart(comparison: Comparison) -> go.Figure:
    """How much better than the control each group is at every size, with the intervals; the margin as dotted lines."""
    sizes = [one.size for contrast in comparison.contrasts for one in contrast.matched]
    position = axis_position(sizes)
    by_name = dict(zip((g.name for g in comparison.groups), group_looks(comparison.groups), strict=True))
    figure = go.Figure()
    for contrast in comparison.contrasts:
        look, matched = by_name[contrast.group.name], contrast.changes
        up, down = [one.high - one.difference for one in matched], [one.difference - one.low for one in matched]
        hover = [
            f"<b>up to {one.size:,.10g}: {interval(one)}</b><br>{text(terms_of(comparison, contrast).said(one))}"
            for one in matched
        ]
        figure.add_scatter(
            x=[position(one.size) for one in matched],
            y=[one.difference for one in matched],
            error_y={"array": up, "arrayminus": down, "thickness": 1.5, "width": 4},
            mode="lines+markers",
            line={"shape": "hv", "width": 1.5, "color": look.colour},
            marker={"symbol": look.symbol, "color": look.colour, "size": 10},
            name=text(contrast.group.name),
            showlegend=True,
            hovertext=hover,
            hoverinfo="text",
        )
    for at, dash in ((0.0, "solid"), (comparison.within, "dot"), (-comparison.within, "dot")):
        figure.add_hline(y=at, line={"dash": dash, "color": GREY, "width": 1})
    axes = {
        "xaxis": size_axis(size_title(comparison.objectives), sizes),
        "yaxis": {**GRID, "title": f"{text(comparison.objectives.quality)}, better by"},
    }
    return figure.update_layout(layout(**axes, legend=LEGEND, hovermode="closest"))


def group_looks(groups: Sequence[Group]) -> list[Look]:
    """That of its method, where a group is all of one and no other group is of it too; else one by its name's place."""
    methods = [{method(point.record) for point in group.points} for group in groups]
    return looks(
        [
            next(iter(mine)) if len(mine) == 1 and methods.count(mine) == 1 else f"group {group.name}"
            for group, mine in zip(groups, methods, strict=True)
        ]
    )


def _hover(quality: str, group: str, point: Point) -> str:
    """Text of a hover label, in Plotly's subset of HTML: everything from outside is escaped."""
    lines = [
        f"<b>{text(quality)} {figure_text(point.quality)}</b> "
        f"({text(counted_text(quality, point.quality.num_examples))})",
        f"{point.candidate.adapter_params:,} parameters, largest rank {point.candidate.max_rank}",
        f"{text(group)}, {point.name}",
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
