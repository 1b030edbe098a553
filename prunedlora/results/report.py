"""The report folder of a sweep: one HTML page that opens with the answer, and its figures as JSON and CSV."""

import functools
import json
from collections import Counter
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from prunedlora.results.chart import SIZE_TITLES, front_chart, history_chart, rank_chart
from prunedlora.results.front_files import candidates_csv, front_csv, front_json
from prunedlora.results.history import hypervolume_history
from prunedlora.results.pareto import Point
from prunedlora.results.recommendation import Constraints, recommend_with_confidence
from prunedlora.results.record import Environment, Figure, to_json
from prunedlora.results.settings import chosen, varying
from prunedlora.results.store import Store
from prunedlora.results.summary import Summary, summarize

CONFIDENCE = 0.95
"""With which the report says how much worse than the best the recommended adapter may be."""


def write_report(store: Store, command: str | None = None, within: float | None = None) -> Summary:
    """Writes report.html, front.json, front.csv and candidates.csv into the store's report folder.

    `command` is shown as the way to get the sweep again; `within` is as for `summarize`, whose errors it raises.
    """
    summary = summarize(store, within)
    for name, text in (
        ("front.json", front_json(summary)),
        ("front.csv", front_csv(summary)),
        ("candidates.csv", candidates_csv(summary)),
        ("report.html", report_html(summary, command)),
    ):
        store.storage.write_text(f"report/{name}", text)
    return summary


def report_html(summary: Summary, command: str | None = None) -> str:
    """A self-contained page: no request leaves it, and every text from outside is escaped."""
    test = None if summary.exported is None else summary.exported.test.get(summary.objectives.quality)
    environments = Counter(to_json(record.environment) for record in summary.records)
    return _template().render(
        summary=summary,
        command=command,
        quality=summary.objectives.quality,
        size_title=SIZE_TITLES[summary.objectives.size],
        recommended=summary.recommended,
        test=test,
        comparisons=comparisons(summary),
        finished=len(summary.records) - len(summary.failed),
        empty_adapters=any(point.size == 0 for point in summary.points),
        paths=varying(point.record for point in summary.points),
        sure=_sure(summary),
        chart=_chart_html(front_chart(summary), "front", first=True) if summary.points else "",
        history=_chart_html(history_chart(hypervolume_history(summary)), "history") if summary.points else "",
        ranks=_chart_html(rank_chart(summary.recommended.candidate.ranks), "ranks") if summary.recommended else "",
        sweep_yaml=yaml.safe_dump(summary.sweep, sort_keys=False, allow_unicode=True),
        environments=[(Environment.model_validate_json(text), count) for text, count in environments.most_common()],
    )


def comparisons(summary: Summary) -> list[str]:
    """Sentences on how much smaller the recommended adapter is than the best and than the largest."""
    recommended = summary.recommended
    if recommended is None:
        return []
    lines = []
    for name, other in (("best", summary.best), ("largest tried", summary.largest)):
        if other is None:
            continue
        if other.name == recommended.name:
            lines.append(f"It is itself the {name}.")
        elif other.size > recommended.size > 0:
            lines.append(
                f"{_times(other, recommended)}× smaller than the {name} "
                f"({summary.objectives.quality} {figure_text(other.quality)})."
            )
    return lines


def figure_text(figure: Figure) -> str:
    """Value and standard error as text."""
    return f"{figure.value:.3f}" + ("" if figure.stderr is None else f" ± {figure.stderr:.3f}")


def bytes_text(count: int) -> str:
    """A size in the largest unit (powers of 1024) that leaves at least 1."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def _times(larger: Point, smaller: Point) -> str:
    return f"{larger.size / smaller.size:.3g}"


def _sure(summary: Summary) -> str:
    """What can be said of the recommended adapter with confidence."""
    found = recommend_with_confidence(summary, within=summary.within, confidence=CONFIDENCE, constraints=Constraints())
    if found is None or summary.recommended is None or summary.recommended.name == found.best.name:
        return ""
    bound, sure = found.bound_of(summary.recommended), f"{100 * CONFIDENCE:g}% confidence"
    if bound is None:
        return ""
    how = "example by example" if found.paired else "by their standard errors"
    what = (
        f"Compared {how} over {found.num_examples:,} validation examples, it is at most {max(bound, 0.0):.3f} worse "
        f"than the best with {sure}"
    )
    if bound <= summary.within:
        return f"{what}."
    proven = "the best itself" if found.point.name == found.best.name else found.point.name
    return f"{what}: that it is within {summary.within:g} is not proven. The smallest for which it is: {proven}."


def _chart_html(figure: Any, name: str, *, first: bool = False) -> Markup:
    # Safe to mark so: Plotly escapes the data in its script (<, > and / as \u codes) and chart.py escapes hover texts.
    return Markup(
        figure.to_html(
            full_html=False,
            include_plotlyjs=first,
            div_id=name,
            default_height="100%",
            config={"responsive": True, "displayModeBar": False},
        )
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        figure=figure_text,
        bytes=bytes_text,
        chosen=chosen,
        json=functools.partial(json.dumps, sort_keys=True, ensure_ascii=False),
    )
    return environment.from_string(files("prunedlora.results").joinpath("report.html.jinja").read_text("utf-8"))
