"""The front with its error bars, everything it beats, and the references, on one pair of axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from prunedlora.results.analysis.attainment import Attainment
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.recorded_settings import chosen
from prunedlora.results.report.chart_style import text
from prunedlora.results.report.plotly_scene import plotly_figure
from prunedlora.results.report.scene import front_scene
from prunedlora.results.rung_text import cut_text, rung_text

MOST_CHARACTERS = 80
"""Of a setting's value in a hover text."""


def front_chart(summary: Summary, paths: Sequence[str], bands: Attainment | None = None) -> go.Figure:
    """`front_scene` for the page. `paths`: settings that the hover texts show."""
    settings = {point.key: chosen(point.record, paths) for point in summary.points}
    quality = summary.objectives.quality

    def hover(points: Sequence[Point]) -> dict[str, Any]:
        """The names of settings once, in the template; with each point only their values."""
        shown = sorted({path for point in points for path in settings[point.key]})
        values = {
            key: [text(settings[key][path][:MOST_CHARACTERS]) if path in settings[key] else "–" for path in shown]
            for key in {point.key for point in points}
        }
        lines = [
            f"<b>{text(quality)} %{{customdata[0]}}</b> ({text(split_text(quality))})",
            "%{customdata[1]} parameters, largest rank %{customdata[2]}",
            "%{customdata[3]}%{customdata[4]}",
            *(f"{text(path)}: %{{customdata[{i}]}}" for i, path in enumerate(shown, start=5)),
        ]
        rows = [[*_facts(point), *values[point.key]] for point in points]
        return {
            "customdata": np.array(rows, dtype=object),
            "hovertemplate": f"{'<br>'.join(lines)}<extra></extra>",
        }

    return plotly_figure(front_scene(summary, bands), hover)


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
    """On which rung it was made, how it was cut, or how far its training was, on lines of their own."""
    rung, candidate = rung_text(point.record, point.candidate), point.candidate
    where = [f"<br>rung: {text(rung)}"] if candidate.rung is not None else []
    half = [f"<br>half-trained: {candidate.progress:.0%} of its steps"] if candidate.is_half_trained else []
    return "".join([*where, *half, *([] if candidate.cut is None else [f"<br>cut {text(cut_text(candidate.cut))}"])])
